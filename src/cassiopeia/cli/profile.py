"""`cassiopeia profile`: look after profiles before the signer reads them, and let go of one that the client holds.

The former needs no configuration and no database.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cassiopeia.cli.options import config_option, print_fields, show_time, visible
from cassiopeia.errors import ConfigurationError, OperatorError

if TYPE_CHECKING:
    from cassiopeia.core.profile import Profile
    from cassiopeia.store.lint_streaks import LintStreak

# Requests for OCSP responders name no profile; people need a word for it.
_NO_NAME = "ocsp"

_files = click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)


@click.group()
def profile() -> None:
    """Check profiles, import those of the original, and release one that is held."""


@profile.command(name="import", short_help="Turn the original's .cfg profiles into ours.")
@_files
@click.option(
    "--out",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIRECTORY",
    help="Write NAME.toml here for each NAME.cfg, instead of to standard output.",
)
def import_(files: tuple[Path, ...], directory: Path | None) -> None:
    """Turn profiles of the original (.cfg) into ours (TOML).

    Read the result before the signer does: what could not be carried over stands there as a comment, and the
    evidence that the names call for is demanded. No file is overwritten, and one bad profile stops them all.
    """
    from cassiopeia.config import read_text  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.core.legacy_profile import import_profile  # noqa: PLC0415 - as above

    texts = {path: import_profile(read_text(path), name=path.stem, source=str(path)) for path in files}
    if directory is None:
        click.echo("\n".join(texts.values()), nl=False)
        return
    targets = {directory / f"{path.stem}.toml": text for path, text in texts.items()}
    if len(targets) < len(texts):
        raise OperatorError("two of these files have the same name: import them into two directories")
    for target in targets:
        if target.exists():
            raise OperatorError(f"{target}: is there already, and nothing was written: choose another directory")
    for target, text in targets.items():
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
        click.echo(f"{target}: written")


@profile.command(short_help="Say of each profile whether it would issue, and what its certificates would be.")
@_files
def check(files: tuple[Path, ...]) -> None:
    """Read our profiles (TOML) as the signer does, make sample certificates, and lint them: no key is needed.

    The signer's own lint is always done; pkilint, with the profile's [lint], where it is installed. What some
    certificates would not pass is noted; what none would pass makes this command fail, and the profile issue nothing.
    """
    from cassiopeia.config import load_profile  # noqa: PLC0415 - as above
    from cassiopeia.core.sample import fault  # noqa: PLC0415 - as above

    profiles: dict[Path, Profile] = {}
    for path in files:
        try:
            profiles[path] = load_profile(path)
        except ConfigurationError as error:
            click.echo(str(error))
    faults = {path: fault(read, ()) for path, read in profiles.items()}
    _lint_by_pkilint(profiles, faults)
    for path, read in profiles.items():
        click.echo(visible(f"{path}: {'it would issue nothing: ' + faults[path] if faults[path] else _summary(read)}"))
    if wrong := len(files) - list(faults.values()).count(""):
        raise OperatorError(f"{wrong} of {len(files)} profiles would be refused at the start, or issue nothing")


def _lint_by_pkilint(profiles: dict[Path, Profile], faults: dict[Path, str]) -> None:
    """Add what no certificate would pass to the faults of those that have none; what only some would not is noted."""
    if importlib.util.find_spec("pkilint") is None:
        click.echo(
            "note: pkilint is not installed here, so that only the signer's own lint is done. The client lints with "
            "both: pip install 'cassiopeia-ca[client]'"
        )
        return
    from cassiopeia.client.lint_samples import lint_profiles  # noqa: PLC0415 - `--help` must be quick

    sound = [path for path in profiles if not faults[path]]
    verdicts = lint_profiles([profiles[path] for path in sound], now=dt.datetime.now(dt.UTC))
    for path, verdict in zip(sound, verdicts, strict=True):
        for code, kinds in verdict.sometimes.items():
            click.echo(f"{path}: note: pkilint would veto, for {code}: {', '.join(kinds)}")
        if verdict.always:
            found = "; ".join(map(str, verdict.always))
            faults[path] = f"pkilint vetoes its sample certificates: {found}"


@profile.command(short_help="Issue again under a profile that the client holds.")
@config_option
@click.argument("name")
def release(config_path: Path, name: str) -> None:
    """Issue again under a profile that is held because the linter vetoed one certificate after the other.

    NAME is the profile as `cassiopeia status` shows it. The next certificate decides: when it passes its lint, all is
    well; when the same finding vetoes it, the profile is held again, and no request is refused. To accept the finding
    for good, name it with a reason under [[lint.allow]] in the client's copy of the profile, and start the client
    again: that releases it, too.
    """
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    with open_store(load_client_config(config_path).store_url) as store:
        if not store.lint_streaks.release("" if name == _NO_NAME else name, now=dt.datetime.now(dt.UTC)):
            held = ", ".join(_shown(each) for each in store.lint_streaks.suspicious() if each.held_at is not None)
            raise OperatorError(f"no profile {name} is held; these are: {held}" if held else "no profile is held")
    click.echo(f"{name}: its requests are sent again; the next lint decides whether that lasts")


def print_holds(streaks: tuple[LintStreak, ...]) -> None:
    """What `cassiopeia status` says of profiles that are held, or were released a moment ago."""
    for each in streaks:
        name = _shown(each)
        if each.held_at is None:
            lines = [f"profile {name} was released; the next certificate decides whether that lasts"]
        else:
            lines = [
                (f"ALARM: profile {name} is held since {show_time(each.held_at)}, and its requests wait: {each.why}"),
                each.message if each.is_of_a_sample else f"the last veto: {each.message}",
                (
                    f"When the finding is wrong, put it under [[lint.allow]] of the client's profile {name} and start "
                    "the client again. When it is right, mend what makes such certificates, and then run"
                ),
                f"cassiopeia profile release {name}",
            ]
        for number, line in enumerate(lines):
            print_fields({" " * 7 if number else "lint   ": line})


def holds_document(streaks: tuple[LintStreak, ...]) -> list[dict[str, Any]]:
    """The same for scripts."""
    return [
        {
            "profile": _shown(each),
            "finding": each.finding,
            "vetoes": 0 if each.is_of_a_sample else each.length,
            "message": each.message,
            "held_since": each.held_at,
        }
        for each in streaks
    ]


def _shown(streak: LintStreak) -> str:
    return streak.profile or _NO_NAME


def _summary(read: Profile) -> str:
    signer = f"signed by {read.family}" if read.family else "signed by the sub-CA that the request names"
    evidence = f"demands {', '.join(read.evidence)}" if read.evidence else "demands NO evidence"
    return f"good: {read.title!a}, {signer}, up to {read.maximum_validity_days} days, {evidence}"
