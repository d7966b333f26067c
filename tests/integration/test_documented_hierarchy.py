"""What docs/root-structure.md shows is what the code does: the picture, the example file, the list of objections."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.ceremonies import hold_ceremony

from cassiopeia import ceremony
from cassiopeia.ceremony import hierarchy as declared
from cassiopeia.ceremony.declaration import Declaration, load_declaration
from cassiopeia.ceremony.hierarchy import load_hierarchy, with_key_algorithm, with_periods
from cassiopeia.ceremony.planning import make_plan
from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.ceremony.review import review
from cassiopeia.sealing import make_sealing_key

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "root-structure.md").read_text(encoding="utf-8")
BEGIN_OF_2027 = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
# The tables of the file, and the shapes that read them.
SHAPES: dict[str, type[msgspec.Struct]] = {
    "": declared.Hierarchy,
    "root": declared.RootLevel,
    "structure": declared.StructureLevel,
    "time": declared.TimeLevel,
    "signer": declared.SignerMachine,
    "orders": declared.Orders,
    "validator": declared.PinnedValidator,
    "ocsp": declared.Ocsp,
    "family": declared.Family,
    "name_constraints": declared.NameConstraints,
}
# Both kinds are shown once, for domains; and what a family may say otherwise than [time] stands in a comment.
SAID_IN_WORDS = {
    "permitted_mail_domains",
    "excluded_mail_domains",
    "key_algorithm",
    "spares",
    "outlives_years",
    "maximum_certificates",
    "structure_years",
}


# The document has the names of RFC 5280.
RFC_NAMES = {"extKeyUsage": "extendedKeyUsage"}


def example() -> str:
    (text,) = re.findall(r"^```toml\n# hierarchy\.toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def example_declaration(directory: Path) -> Declaration:
    for name in re.findall(r'"((?:signers|operators|validators|responders)/[a-z0-9]+\.pem)"', example()):
        (directory / name).parent.mkdir(exist_ok=True)
        if name.startswith("signers/"):
            _, pem = make_sealing_key(b"a signer's own")
        else:
            public = Ed25519PrivateKey.generate().public_key()
            pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (directory / name).write_bytes(pem)
    (directory / "profiles").mkdir()
    web = 'policy_identifiers = ["2.23.140.1.2.1"]\n' + default_profile_texts()["0004-server"]
    (directory / "profiles" / "0021-web.toml").write_text(web, encoding="utf-8")
    (directory / "hierarchy.toml").write_text(example(), encoding="utf-8")
    return load_declaration(directory / "hierarchy.toml")


def test_the_example_is_a_hierarchy_without_errors_or_warnings(tmp_path: Path) -> None:
    plan = make_plan(example_declaration(tmp_path), now=BEGIN_OF_2027)

    grave = [str(each) for each in review(plan) if each.severity.value != "note"]
    assert grave == []
    assert {each.signer_id for each in plan.authorities if each.family.name == "servers"} == {1}
    assert {each.signer_id for each in plan.authorities if each.family.name == "members"} == {1, 2}


def test_every_key_of_the_file_is_shown() -> None:
    document = tomllib.loads(example())

    shown: dict[str, set[str]] = {"": set(document)}
    for name in SHAPES.keys() - {"", "name_constraints"}:
        tables = document[name] if isinstance(document[name], list) else [document[name]]
        shown[name] = {key for table in tables for key in table}
    shown["name_constraints"] = {key for table in document["family"] for key in table.get("name_constraints", {})}
    for name, shape in SHAPES.items():
        missing = {field.name for field in msgspec.structs.fields(shape)} - shown[name] - SAID_IN_WORDS
        assert missing == set(), name
    for word in SAID_IN_WORDS - {"permitted_mail_domains", "excluded_mail_domains"}:
        assert word in example()


def test_the_picture_shows_the_default_hierarchy() -> None:
    picture = PAGE.partition("```text\n")[2].partition("```")[0]
    plan = make_plan(load_declaration(), now=BEGIN_OF_2027)

    drawn = set(re.findall(r"[a-zA-Z]+_20[0-9]{2}_[0-9]+", picture))
    names = [each.name for each in plan.authorities]
    assert drawn < set(names)
    families = [family.name for family in plan.declaration.hierarchy.family]
    assert {
        f"{family}_{last}" for family in families for last in ("2027_1", "2027_2", "2027_3", "2027_4", "2028_1")
    } == drawn
    for line in picture.splitlines():
        spare = next((each.spare for each in plan.authorities if each.name in line.split()), None)
        assert spare is None or ("spare" in line) == (spare == 1)
    years = plan.declaration.hierarchy.root.years, plan.declaration.hierarchy.structure.years
    assert (f"{years[0]} years, offline" in picture, f"{years[1]} years, offline" in picture) == (True, True)
    assert re.findall(r"^ +(.*?) +structure CAs$", picture, re.MULTILINE)[0].split() == families


def test_the_table_of_extensions_is_that_of_the_certificates() -> None:
    family = msgspec.structs.replace(
        load_hierarchy().family[0],
        policy_identifiers=("1.2.3",),
        name_constraints=declared.NameConstraints(permitted_domains=("example.org",)),
    )
    quick = with_periods(with_key_algorithm(load_hierarchy(), "P-256"), 1, spares=0)
    made = hold_ceremony(msgspec.structs.replace(quick, family=(family,)), now=BEGIN_OF_2027)
    table = PAGE.partition("## What stands")[2].partition("Path lengths")[0]
    rows = re.findall(r"^\| ([a-zA-Z, ]+)[^|]*\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    said = {name.split(",")[0].split(" ")[0]: cells for name, *cells in rows}

    for column, authority in enumerate(made.authorities):
        present = {each.oid._name for each in authority.certificate.extensions}
        for name, cells in said.items():
            assert (RFC_NAMES.get(name, name) in present) == (not cells[column].startswith(("none", "no:"))), (
                name,
                authority.name,
            )
        constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert f"pathLen {constraints.path_length}" in said["basicConstraints"][column]
    assert len(said) == 8


def test_every_objection_is_listed_with_its_severity() -> None:
    sources = Path(ceremony.__file__).parent
    raised: dict[str, set[tuple[str, str]]] = {"review": set(), "adopted": set()}
    for path in sources.glob("review*.py"):
        found = re.findall(r"\b(error|warning|note)\(\s*\"([a-z-]+)\"", path.read_text(encoding="utf-8"))
        raised["adopted" if path.stem == "review_adopted" else "review"] |= {(code, kind) for kind, code in found}

    first, second = PAGE.partition("## What the plan objects to")[2].split("A CA that was made elsewhere")
    for text, name in ((first, "review"), (second, "adopted")):
        listed = re.findall(r"^\| `([a-z-]+)` \| ([a-z, ]+) \|", text, re.MULTILINE)
        assert {(code, kind) for code, kinds in listed for kind in kinds.split(", ")} == raised[name]
        assert len({code for code, _ in listed}) == len(listed)
