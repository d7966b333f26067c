"""Options that several commands share, and how answers are printed."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

# As in `signer.keystore.ca_key` and `ceremony.hierarchy`, which no `--help` must load; tests hold them together.
CA_KEY_ALGORITHMS: Final = (
    "RSA-2048",
    "RSA-3072",
    "RSA-4096",
    "P-256",
    "P-384",
    "P-521",
    "Ed25519",
    "Ed448",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
)


def configuration(what: str, *, variable: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option that names a program's configuration file, for those who do not set the variable."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=variable,
        required=True,
        help=f"{what} (or set {variable}).",
    )


config_option = configuration("The configuration file", variable="CASSIOPEIA_CONFIG")
json_option = click.option("--json", "as_json", is_flag=True, help="Answer as one JSON document, for scripts.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Log every step of every request.")
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait so long at most.",
)
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the log is written to stderr.",
)


def set_up_logging(*, verbose: bool, log_format: str) -> None:
    """Log to stderr, times in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("cassiopeia")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


class _TextFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if record.levelno < logging.WARNING else f"{line} [{record.levelname}]"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(),
            "level": record.levelname.lower(),
            "module": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def print_json(document: Mapping[str, Any] | list[Any]) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=_json_value))


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as their contents; nothing but the header when there are no rows."""
    table = [header, *(tuple(visible(cell) for cell in row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_fields(fields: Mapping[str, str]) -> None:
    """One fact a line, names aligned; empty ones are left out."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        if value:
            click.echo(f"{name.ljust(width)}  {visible(value)}")


def show_time(moment: dt.datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}Z"


def write_out(content: bytes, out: Path | None) -> None:
    """To a file, or to stdout."""
    if out is None:
        sys.stdout.buffer.write(content)
    else:
        out.write_bytes(content)


def visible(text: str) -> str:
    """What a stranger wrote into a request must not steer the terminal of whoever looks at it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _json_value(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")
