"""The self-test finds what it is there to find: each library here has one fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import odd_backends
from tests.support.authorities import default_authority, p256_key, rsa_key
from tests.support.crypto_backends import public_key_info
from tests.support.odd_backends import OddBackend
from tests.support.signer import PASSPHRASE, write_key

from cassiopeia.config import KeyUse
from cassiopeia.core.algorithms import ALGORITHMS
from cassiopeia.core.key_uri import FileUri, KeyUri, Pkcs11Uri
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore import ring, self_test
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.keystore.openssl import OpenSsl
from cassiopeia.signer.keystore.self_test import Finding, KeyChecks, check_backend
from cassiopeia.signer.keystore.trial_keys import TrialKeys, key_algorithm_for, trial_keys

ECDSA = next(each for each in ALGORITHMS if each.name == "ecdsa-with-SHA256")
ED448 = next(each for each in ALGORITHMS if each.name == "Ed448")
ML_DSA = next(each for each in ALGORITHMS if each.name == "ML-DSA-44")
ADVICE = "; let another library sign and verify where this one does: backend and verify_with in signer.toml"


@pytest.fixture(scope="module")
def trial() -> Iterator[TrialKeys]:
    with trial_keys() as keys:
        yield keys


@pytest.fixture
def settings(tmp_path: Path) -> StoreSettings:
    file = tmp_path / "passphrase"
    file.write_bytes(PASSPHRASE)
    file.chmod(0o600)
    write_key(tmp_path / "ca.key", p256_key())
    return StoreSettings(passphrase=SecretSource(what="the passphrase", file=file))


def findings(trial: TrialKeys, **odd: Any) -> list[Finding]:
    odd.setdefault("signs", (ECDSA,))
    odd.setdefault("verifies", (ECDSA,))
    return list(check_backend(OddBackend(**odd), [OpenSsl()], trial))


def test_a_good_library_is_found_good(trial: TrialKeys) -> None:
    backend = OddBackend()

    found = list(check_backend(backend, [OpenSsl()], trial))

    assert [each.subject for each in found] == [f"gnutls {each.name}" for each in ALGORITHMS]
    assert [each.fault for each in found] == [""] * len(ALGORITHMS)
    by_name = {each.subject.split()[1]: each.done for each in found}
    assert by_name["Ed25519"] == ("known signature verified; known signature made; signed, verified by gnutls, openssl")
    assert by_name["ML-DSA-44"] == "known public key given; signed, verified by gnutls, openssl"
    assert backend.opened == backend.closed == len(ALGORITHMS)


@pytest.mark.parametrize(
    ("odd", "fault"),
    [
        ({"sign": odd_backends.flips_a_bit}, "gnutls finds a signature by gnutls wrong: "),
        ({"sign": odd_backends.signs_other_octets}, "gnutls finds a signature by gnutls wrong: "),
        ({"sign": odd_backends.signs_other_octets, "verifies": ()}, "openssl finds a signature by gnutls wrong: "),
        ({"sign": odd_backends.raises_something}, "the library raised ZeroDivisionError: no inverse"),
        ({"sign": lambda *_: b""}, "gnutls finds a signature by gnutls wrong: "),
        (
            {"verify": odd_backends.takes_everything},
            "gnutls takes a known signature with a bit flipped in octet 0 for a good one",
        ),
        ({"verify": odd_backends.takes_nothing}, "gnutls finds a known signature wrong: no"),
        (
            {"verify": odd_backends.overlooks_the_last_octet, "signs": (ED448,), "verifies": (ED448,)},
            "gnutls takes a known signature with a bit flipped in octet 113 for a good one",
        ),
        ({"verify": odd_backends.raises_something}, "the library raised ZeroDivisionError: no inverse"),
        ({"public_key_info": public_key_info(rsa_key())}, "it gives a known key another public key"),
        (
            {"algorithms": ()},
            "it claims to sign with ecdsa-with-SHA256, and does not with a key for it",
        ),
    ],
    ids=[
        "flips", "other-octets", "verifies-nothing", "raises", "empty", "takes-all", "takes-none", "last-octet",
        "verify-raises", "other-key", "claims",
    ],
)  # fmt: skip
def test_a_fault_is_named(trial: TrialKeys, odd: dict[str, Any], fault: str) -> None:
    [found] = findings(trial, **odd)

    assert found.done == ""
    assert found.fault.startswith(fault)
    assert found.fault.endswith(ADVICE)


def test_a_known_signature_has_to_come_out_again(trial: TrialKeys) -> None:
    ed25519 = next(each for each in ALGORITHMS if each.name == "Ed25519")

    [found] = findings(trial, signs=(ed25519,), verifies=(), sign=odd_backends.flips_a_bit)

    assert found.fault == f"a known key gives another signature than it must{ADVICE}"


def test_what_nobody_can_verify_is_no_success(trial: TrialKeys) -> None:
    [found] = list(check_backend(OddBackend(signs=(ML_DSA,), verifies=()), [], trial))

    assert found.fault.startswith("there is no library here that can verify what it signs")


def test_a_library_that_verifies_alone_is_tried_too(trial: TrialKeys) -> None:
    [found] = findings(trial, signs=())

    assert found == Finding(subject="gnutls ecdsa-with-SHA256", backend="gnutls", done="known signature verified")


def test_a_token_is_not_asked_for_key_files(trial: TrialKeys) -> None:
    backend = OddBackend(name="pkcs11", verifies=())

    assert list(check_backend(backend, [OpenSsl()], trial)) == []
    assert backend.opened == 0


def test_every_algorithm_has_a_trial_key(trial: TrialKeys) -> None:
    for algorithm in ALGORITHMS:
        uri = trial.key(key_algorithm_for(algorithm))

        assert algorithm in OpenSsl().open_store(trial.settings).open(uri).algorithms
        assert Path(uri.path).stat().st_mode & 0o077 == 0
        assert trial.key(key_algorithm_for(algorithm)) == uri


def test_trial_keys_are_gone_afterwards() -> None:
    with trial_keys() as keys:
        path = Path(keys.key("P-256").path)
        assert path.is_file()

    assert not path.parent.exists()


def test_the_key_of_a_sub_ca_is_proved(settings: StoreSettings, tmp_path: Path) -> None:
    use = KeyUse(uri=FileUri(path=str(tmp_path / "ca.key"), backend="openssl"))

    found = KeyChecks(settings).check_authority(default_authority(), use)

    assert found.fault == ""
    assert found.done.endswith("/ca.key?backend=openssl: openssl signs, verified by openssl")


def test_a_second_opinion_is_asked(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = KeyUse(uri=FileUri(path=str(tmp_path / "ca.key"), backend="openssl"), verify_with="gnutls")
    backends = {"openssl": OpenSsl(), "gnutls": OddBackend()}
    monkeypatch.setattr(ring, "load_backend", backends.__getitem__)
    checks = KeyChecks(settings)

    good = checks.check_authority(default_authority(), use)
    backends["gnutls"] = OddBackend(verify=odd_backends.takes_nothing)
    bad = checks.check_authority(default_authority(), use)

    assert good.done.endswith(": openssl signs, verified by openssl, and by gnutls")
    assert "gnutls finds a signature wrong that openssl made" in bad.fault


def test_another_key_than_the_certificates_is_a_fault(settings: StoreSettings, tmp_path: Path) -> None:
    write_key(tmp_path / "other.key", rsa_key())
    use = KeyUse(uri=FileUri(path=str(tmp_path / "other.key"), backend="openssl"))

    found = KeyChecks(settings).check_authority(default_authority(), use)

    assert found.subject == default_authority().name
    assert found.fault.startswith("the key file:")
    assert "does not belong to this sub-CA's certificate" in found.fault


def test_a_key_by_its_uri_is_verified_by_everybody(settings: StoreSettings, tmp_path: Path) -> None:
    uri = FileUri(path=str(tmp_path / "ca.key"))

    found = KeyChecks(settings).check_key(uri, [OpenSsl(), OddBackend()])

    assert found == Finding(
        subject=str(uri), backend="openssl", done="ecdsa-with-SHA256 signed, verified by openssl, gnutls"
    )


def test_a_key_that_cannot_be_opened_is_a_fault(settings: StoreSettings, tmp_path: Path) -> None:
    found = KeyChecks(settings).check_key(FileUri(path=str(tmp_path / "nowhere.key")), [OpenSsl()])

    assert found.fault.startswith(f"{tmp_path}/nowhere.key: cannot read this CA key: No such file or directory: put it")


def refuses_the_pin(uri: KeyUri) -> None:
    if isinstance(uri, Pkcs11Uri):
        raise Unavailable("the token refuses its PIN", code="pin-refused")
    raise OperatorError("no such key")


def test_after_a_refused_pin_no_token_is_tried_again(
    settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = OddBackend(name="pkcs11", opening=refuses_the_pin)
    monkeypatch.setattr(ring, "load_backend", lambda _: token)
    monkeypatch.setattr(self_test, "load_backend", lambda name: {"pkcs11": token, "openssl": OpenSsl()}[name])
    uri = Pkcs11Uri(token="one", label="ca")
    checks = KeyChecks(settings)

    found = [
        checks.check_authority(default_authority(), KeyUse(uri=uri)),
        checks.check_authority(default_authority(), KeyUse(uri=uri)),
        checks.check_key(uri, [OpenSsl()]),
        checks.check_key(FileUri(path=str(tmp_path / "ca.key")), [OpenSsl()]),
    ]

    assert found[0].fault == "the token refuses its PIN"
    assert [each.fault for each in found[1:]] == [
        "not tried, for a token has refused its PIN: correct that first",
        "not tried, for a token has refused its PIN: correct that first",
        "",
    ]
    assert token.opened == token.closed == 2
