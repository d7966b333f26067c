"""Keys that are born in the signer, in key files: what is made, what is asked for, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.support import known_keys
from tests.support.bundles import (
    BUNDLE_PASSPHRASE,
    FIRST,
    NOW,
    SECOND,
    SignerMachine,
    encrypted,
    make_signer_machine,
    signed,
    signer_bundle,
)

from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.signer import key_birth
from cassiopeia.signer.installing import activate, stage
from cassiopeia.signer.key_birth import KeyRequest, make_request, request_existing
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.interface import CaKey, KeyStore, StoreSettings

NAME = "assured_2027_1"


@pytest.fixture
def machine(tmp_path: Path) -> SignerMachine:
    return make_signer_machine(tmp_path / "signer")


def configure(machine: SignerMachine, text: str) -> None:
    path = machine.directory / "signer.toml"
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{text}\n", encoding="utf-8")


def asked(made: KeyRequest) -> x509.CertificateSigningRequest:
    request = x509.load_pem_x509_csr(made.request)
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == f"CN={NAME}"
    return request


def in_file(machine: SignerMachine, path: str) -> object:
    octets = (machine.directory / path).read_bytes()
    return load_pem_private_key(octets, machine.passphrase).public_key()


def test_a_key_lies_where_bundles_look_for_it(machine: SignerMachine) -> None:
    (machine.directory / "keys").rmdir()

    made = make_request(machine.config, NAME, key_algorithm="RSA-3072")

    request = asked(made)
    assert in_file(machine, f"keys/{NAME}.key") == request.public_key()
    assert (made.key, made.configuration) == (f"file:{machine.directory}/keys/{NAME}.key?backend=openssl", "")
    assert request.signature_hash_algorithm is not None
    assert request.signature_hash_algorithm.name == "sha384"


def test_a_key_may_lie_elsewhere_and_signer_toml_has_to_say_so(machine: SignerMachine) -> None:
    made = make_request(machine.config, NAME, key_algorithm="P-521", key_uri='file:state/"own".key')

    assert made.configuration == f'[authority.{NAME}]\nkey = "file:state/\\"own\\".key"\n'
    assert in_file(machine, 'state/"own".key') == asked(made).public_key()
    configure(machine, made.configuration)
    assert machine.config.keys.authorities[NAME].key == 'file:state/"own".key'
    again = request_existing(machine.config, NAME)
    assert asked(again).public_key() == asked(made).public_key()
    assert again.configuration == ""


@pytest.mark.parametrize("key_algorithm", ["P-384", "Ed448"])
@pytest.mark.parametrize("backend", ["gnutls", "wolfssl"])
def test_another_library_may_make_it_and_openssl_opens_it(
    machine: SignerMachine, backend: str, key_algorithm: str
) -> None:
    uri = f"file:state/own.key?backend={backend}"

    made = make_request(machine.config, NAME, key_algorithm=key_algorithm, key_uri=uri)

    assert in_file(machine, "state/own.key") == asked(made).public_key()
    assert made.configuration == f'[authority.{NAME}]\nkey = "{uri}"\n'
    again = request_existing(machine.config, NAME, key_uri="file:state/own.key?backend=openssl")
    assert asked(again).public_key() == asked(made).public_key()


@pytest.mark.parametrize("backend", ["gnutls", "wolfssl"])
def test_a_library_that_makes_no_such_key_says_so(machine: SignerMachine, backend: str) -> None:
    before = machine.everything()

    with pytest.raises(OperatorError, match="makes no ML-DSA-65 keys"):
        make_request(machine.config, NAME, key_algorithm="ML-DSA-65", key_uri=f"file:state/own.key?backend={backend}")

    assert machine.everything() == before


def test_the_line_of_signer_toml_counts(machine: SignerMachine) -> None:
    configure(machine, f'[authority.{NAME}]\nkey = "file:state/own.key"\nverify_with = "gnutls"')

    made = make_request(machine.config, NAME, key_algorithm="P-256", key_uri="file:state/own.key")

    assert in_file(machine, "state/own.key") == asked(made).public_key()
    assert made.configuration == ""
    before = machine.everything()
    with pytest.raises(OperatorError, match=f"says that the key of {NAME} is file:state/own.key: leave --key-uri out"):
        make_request(machine.config, NAME, key_algorithm="P-256", key_uri="file:state/another.key")
    assert machine.everything() == before


@pytest.mark.parametrize("key_uri", ["", "file:state/own.key"])
def test_no_key_is_ever_overwritten(machine: SignerMachine, key_uri: str) -> None:
    made = make_request(machine.config, NAME, key_algorithm="P-256", key_uri=key_uri)
    before = machine.everything()

    with pytest.raises(OperatorError, match="nothing is overwritten: --existing makes a request for this key"):
        make_request(machine.config, NAME, key_algorithm="P-256", key_uri=key_uri)

    assert machine.everything() == before
    assert asked(request_existing(machine.config, NAME, key_uri=key_uri)).public_key() == asked(made).public_key()
    assert machine.everything() == before


def test_a_key_that_is_not_there_cannot_be_asked_for(machine: SignerMachine) -> None:
    before = machine.everything()

    with pytest.raises(OperatorError, match=f"keys/{NAME}.key: cannot read this CA key: No such file"):
        request_existing(machine.config, NAME)

    assert machine.everything() == before


def test_a_sub_ca_that_has_its_certificate_gets_no_second_key(machine: SignerMachine) -> None:
    octets = signed(signer_bundle(machine.hierarchy, names=[FIRST]))
    activate(machine.config, stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=NOW))
    before = machine.everything()

    with pytest.raises(OperatorError, match=f"the sub-CA {FIRST} has its key and its certificate"):
        make_request(machine.config, FIRST, key_algorithm="P-256")

    assert machine.everything() == before
    make_request(machine.config, SECOND, key_algorithm="P-256")


@pytest.mark.parametrize(
    ("key_uri", "reason"),
    [
        ("keys/x.key", "a key is named by file:PATH"),
        ("pkcs11:object=x", "has to name its token"),
        ("pkcs11:token=x?pin-value=1234", "a PIN does not stand in a URI"),
        ("file:nowhere/x.key", "nowhere: cannot make a file here"),
        ("file:keys", "is there already"),
    ],
)
def test_a_place_that_is_none_is_refused(machine: SignerMachine, key_uri: str, reason: str) -> None:
    before = machine.everything()

    with pytest.raises(OperatorError, match=reason) as caught:
        make_request(machine.config, NAME, key_algorithm="P-256", key_uri=key_uri)

    assert "1234" not in str(caught.value)
    assert machine.everything() == before


def test_a_directory_that_cannot_be_made_is_said(machine: SignerMachine) -> None:
    (machine.directory / "keys").rmdir()
    (machine.directory / "keys").symlink_to("nowhere/else")

    with pytest.raises(OperatorError, match=f"{machine.directory}/keys: cannot keep the key here: File exists"):
        make_request(machine.config, NAME, key_algorithm="P-256")


def test_without_the_passphrase_there_is_nothing_to_do_yet(machine: SignerMachine) -> None:
    (machine.directory / "passphrase").rename(machine.directory / "away")
    before = machine.everything()

    with pytest.raises(Unavailable, match="plug its medium in"):
        make_request(machine.config, NAME, key_algorithm="P-256")

    assert machine.everything() == before


def test_a_token_that_goes_away_when_it_has_made_the_key_does_not_hide_that(
    machine: SignerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the token is not there", code="token-away", retry_after_s=7)

    with monkeypatch.context() as patch:
        patch.setattr(key_birth, "_choose", away)
        with pytest.raises(Unavailable, match=r"the token is not there; the key was made .* try --existing") as caught:
            make_request(machine.config, NAME, key_algorithm="P-256")
    assert (caught.value.code, caught.value.retry_after_s) == ("token-away", 7)
    assert in_file(machine, f"keys/{NAME}.key") == asked(request_existing(machine.config, NAME)).public_key()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ec.generate_private_key(ec.SECP256K1()), "cannot be used|secp256k1"),
        (known_keys.rsa_key(0, 1, exponent=257), "public exponent"),
    ],
    ids=["secp256k1", "small-exponent"],
)
def test_a_key_that_no_ca_may_have_is_not_asked_for(
    machine: SignerMachine, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, reason: str
) -> None:
    path = machine.directory / "keys" / f"{NAME}.key"
    path.write_bytes(encrypted(key, machine.passphrase))
    path.chmod(0o600)

    with pytest.raises(OperatorError, match=reason):
        request_existing(machine.config, NAME)


class FaultyKey:
    def __init__(self, real: CaKey, *, flips: bool, knows: Sequence[SignatureAlgorithm] | None) -> None:
        self._real = real
        self._flips = flips
        self.public_key_info = real.public_key_info
        self.algorithms = real.algorithms if knows is None else knows

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        signature = self._real.sign(algorithm, octets)
        return signature[:-1] + bytes([signature[-1] ^ self._flips])


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """OpenSSL and its keys, with one thing wrong; takes the place of `load_backend`."""

    flips: bool = False
    knows: Sequence[SignatureAlgorithm] | None = None

    def __call__(self, name: str) -> Faulty:
        assert name == "openssl"
        return self

    def open_store(self, settings: StoreSettings) -> Faulty:
        self.opened.append(load_backend("openssl").open_store(settings))
        return self

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        return FaultyKey(self.opened[-1].generate(uri, key_algorithm), flips=self.flips, knows=self.knows)

    def close(self) -> None:
        self.opened.pop().close()

    opened: list[KeyStore] = field(default_factory=list)


def test_a_library_that_signs_wrongly_gets_no_ca(machine: SignerMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_birth, "load_backend", Faulty(flips=True))

    with pytest.raises(OperatorError, match=r"makes wrong signatures .*; the key was made .*--existing"):
        make_request(machine.config, NAME, key_algorithm="RSA-2048")


def test_a_key_that_cannot_sign_is_said_to_be_there(machine: SignerMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_birth, "load_backend", Faulty(knows=()))

    with pytest.raises(OperatorError, match=r"cannot sign with this key.*; the key was made"):
        make_request(machine.config, NAME, key_algorithm="P-256")

    monkeypatch.undo()
    asked(request_existing(machine.config, NAME))


def test_a_key_with_pss_alone_asks_with_pss(machine: SignerMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    pss = [each for each in load_backend("openssl").signs if each.is_pss]
    monkeypatch.setattr(key_birth, "load_backend", Faulty(knows=pss))

    made = make_request(machine.config, NAME, key_algorithm="RSA-2048")

    assert asked(made).signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS


def test_a_second_opinion_is_asked_here_too(machine: SignerMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(machine, f'[authority.{NAME}]\nverify_with = "gnutls"')
    verified: list[bytes] = []
    other = load_backend("openssl")

    class Second:
        def verify(self, spki: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
            other.verify(spki, algorithm, signature, octets)
            verified.append(octets)

    real = load_backend
    monkeypatch.setattr(key_birth, "load_backend", lambda name: Second() if name == "gnutls" else real(name))

    made = make_request(machine.config, NAME, key_algorithm="P-256")

    assert verified == [asked(made).tbs_certrequest_bytes]
