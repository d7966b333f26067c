"""The original's `.cfg` profiles become ours; what cannot be carried over is said."""

from __future__ import annotations

import tomllib

import pytest

from cassiopeia.core.legacy_profile import import_profile
from cassiopeia.core.profile import Presence, parse_profile
from cassiopeia.errors import ConfigurationError

SERVER = """\
# a server
ca=unassured
ku=digitalSignature, keyEncipherment, keyAgreement
eku=serverAuth
days=732
include=domain+
name=ssl-server (unassured)
"""
ORGANISATION = """\
ca=orga
ku=critical, digitalSignature, keyEncipherment, keyAgreement
eku=clientAuth, emailProtection

days=732
include=orga,orgaEmail+,orgName?
requires=points>=100
name=ssl-client + mail(orga)
"""
CODE = """\
ca=codesign
ku=digitalSignature
eku=codeSigning, msCodeInd, msCodeCom
days=732
include=email+,name
requires=points>=100,codesign
"""
RESPONDER = """\
ku=digitalSignature
eku=OCSPSigning
days=184
include=orga,domain,noOCSP
requires=no-gigi
name=ocsp (internal)
"""


def test_a_server() -> None:
    text = import_profile(SERVER, name="0004-server", source="0004-server.cfg")
    profile = parse_profile(text, name="0004-server", source="0004-server.toml")
    assert profile.title == "ssl-server (unassured)"
    assert profile.family == "unassured"
    assert profile.key_usage == ("digitalSignature", "keyEncipherment", "keyAgreement")
    assert profile.extended_key_usage == ("1.3.6.1.5.5.7.3.1",)
    assert profile.maximum_validity_days == 732
    assert profile.alt_name_presence("DNS") is Presence.REQUIRED
    assert profile.alt_name_presence("email") is Presence.FORBIDDEN
    assert profile.subject_presence("CN") is Presence.OPTIONAL
    assert profile.subject_presence("O") is Presence.FORBIDDEN
    assert profile.maximum_alt_names == 50
    assert profile.evidence == ("attestation", "dns-control", "caa-permits")


def test_an_organisation() -> None:
    text = import_profile(ORGANISATION, name="0012-client-mail-orga", source="x.cfg")
    profile = parse_profile(text, name="0012-client-mail-orga", source="x.toml")
    assert profile.title == "ssl-client + mail(orga)"
    assert profile.extended_key_usage == ("1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.4")
    assert {each: profile.subject_presence(each) for each in ("C", "O", "ST", "L", "OU", "CN", "EMAIL")} == {
        "C": Presence.REQUIRED,
        "O": Presence.REQUIRED,
        "ST": Presence.OPTIONAL,
        "L": Presence.OPTIONAL,
        "OU": Presence.OPTIONAL,
        "CN": Presence.OPTIONAL,
        "EMAIL": Presence.OPTIONAL,
    }
    assert profile.alt_name_presence("email") is Presence.REQUIRED
    assert profile.evidence == ("attestation", "organisation", "mailbox-control", "name-verified")
    assert "points>=100" in text
    assert "points" not in tomllib.loads(text)


def test_code_signing() -> None:
    text = import_profile(CODE, name="0009-code-a", source="x.cfg")
    profile = parse_profile(text, name="0009-code-a", source="x.toml")
    assert profile.title == "0009-code-a"  # where the original has none
    assert profile.extended_key_usage == ("1.3.6.1.5.5.7.3.3", "1.3.6.1.4.1.311.2.1.21", "1.3.6.1.4.1.311.2.1.22")
    assert profile.subject_presence("CN") is Presence.REQUIRED
    assert profile.evidence == ("attestation", "mailbox-control", "name-verified")


def test_a_responder_lives_for_days_only() -> None:
    text = import_profile(RESPONDER, name="0100-ocsp", source="0100-ocsp.cfg")
    profile = parse_profile(text, name="0100-ocsp", source="0100-ocsp.toml")
    assert profile.family == ""
    assert profile.maximum_validity_days == 30
    assert "# It was 184;" in text
    assert profile.ocsp_no_check
    assert profile.not_before_ahead_days == 0
    assert profile.maximum_alt_names == 1
    assert profile.evidence == ("attestation",)


def test_a_responder_that_lived_for_days_keeps_them() -> None:
    text = import_profile(RESPONDER.replace("184", "7"), name="0100-ocsp", source="x.cfg")
    assert tomllib.loads(text)["maximum_validity_days"] == 7
    assert "nobody can revoke" not in text


@pytest.mark.parametrize(
    ("include", "presence", "maximum"),
    [
        ("email", Presence.REQUIRED, 1),
        ("email+", Presence.REQUIRED, 50),
        ("email?", Presence.OPTIONAL, 1),
        ("email*", Presence.OPTIONAL, 50),
        ("email,orga", Presence.REQUIRED, 1),
    ],
)
def test_the_suffixes_of_include(include: str, presence: Presence, maximum: int) -> None:
    text = import_profile(CODE.replace("email+,name", include), name="0009-code-a", source="x.cfg")
    profile = parse_profile(text, name="0009-code-a", source="x.toml")
    assert profile.alt_name_presence("email") is presence
    assert profile.maximum_alt_names == maximum


def test_a_name_with_quotes_and_letters_beyond_ascii() -> None:
    text = import_profile(SERVER.replace("ssl-server", 'Müllers "Server" \\o/'), name="0004-server", source="x.cfg")
    assert tomllib.loads(text)["title"] == 'Müllers "Server" \\o/ (unassured)'


def test_a_server_without_domain_needs_no_caa() -> None:
    text = import_profile(SERVER.replace("domain+", "email"), name="0004-server", source="x.cfg")
    assert tomllib.loads(text)["evidence"] == ["attestation", "mailbox-control"]


def test_a_common_name_that_nothing_proves_is_left_out() -> None:
    text = import_profile(SERVER.replace("serverAuth", "clientAuth"), name="0004-server", source="x.cfg")
    assert parse_profile(text, name="0004-server", source="x.toml").subject_presence("CN") is Presence.FORBIDDEN
    assert "# CN was optional" in text


def test_oids_pass_as_they_are() -> None:
    text = import_profile(CODE.replace("msCodeInd", "1.2.3.4"), name="0009-code-a", source="x.cfg")
    assert "1.2.3.4" in parse_profile(text, name="0009-code-a", source="x.toml").extended_key_usage


@pytest.mark.parametrize(
    ("line", "instead", "key", "says"),
    [
        ("ku=digitalSignature, keyEncipherment, keyAgreement\n", "", "ku", "missing"),
        ("eku=serverAuth\n", "", "eku", "missing"),
        ("days=732\n", "", "days", "missing"),
        ("include=domain+\n", "", "include", "missing"),
        ("ca=unassured\n", "", "family", "missing"),
        ("# a server", "a server", "line 1", "not key=value"),
        ("# a server", "server=yes", "line 1", "'server' is not known"),
        ("# a server", "days=1", "line 5", "twice"),
        ("# a server", "requires=\x1b[2J", "line 1", "control character"),
        ("keyAgreement", "keyCertSign", "ku", "'keyCertSign' is not known"),
        ("serverAuth", "serverauth", "eku", "'serverauth' is not known"),
        ("days=732", "days=-1", "days", "not a number of days"),
        ("days=732", "days=two years", "days", "not a number of days"),
        ("days=732", "days=7320", "maximum_validity_days", "between 1 and 1825"),
        ("domain+", "domain!", "include", "'domain!' is not known"),
        ("domain+", "points", "include", "'points' is not known"),
        ("domain+", "noOCSP", "subject", "has to name somebody"),
    ],
)
def test_a_mistake_is_named_with_its_key(line: str, instead: str, key: str, says: str) -> None:
    assert line in SERVER
    with pytest.raises(ConfigurationError, match=r"^0004-server\.cfg: ") as error:
        import_profile(SERVER.replace(line, instead, 1), name="0004-server", source="0004-server.cfg")
    assert error.value.key == key
    assert says in error.value.reason
