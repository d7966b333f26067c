"""Link credentials on disk: what is made, and which files are refused with which words."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.support import links
from tests.support.links import certificate, key

from cassiopeia.errors import OperatorError
from cassiopeia.link.credentials import Version1Tls, certificate_pin, client_tls, make_link_key, signer_tls


@pytest.mark.parametrize(("version", "kind"), [(2, ed25519.Ed25519PublicKey), (1, rsa.RSAPublicKey)])
def test_a_made_link_key_is_its_owners_alone_and_its_pin_is_returned(
    tmp_path: Path, version: int, kind: type[object]
) -> None:
    pin = make_link_key(
        certificate=tmp_path / "link.pem", key=tmp_path / "link.key", common_name="cassiopeia link", version=version
    )
    assert pin == certificate_pin(tmp_path / "link.pem")
    assert stat.S_IMODE((tmp_path / "link.key").stat().st_mode) == 0o600
    made = x509.load_pem_x509_certificate((tmp_path / "link.pem").read_bytes())
    assert isinstance(made.public_key(), kind)
    made.verify_directly_issued_by(made)
    private_key = load_pem_private_key((tmp_path / "link.key").read_bytes(), None)
    assert private_key.public_key() == made.public_key()


def test_no_link_key_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "link.key").write_text("precious")
    with pytest.raises(OperatorError, match=r"link\.key: cannot be created: File exists"):
        make_link_key(certificate=tmp_path / "link.pem", key=tmp_path / "link.key", common_name="x")
    assert (tmp_path / "link.key").read_text() == "precious"
    assert not (tmp_path / "link.pem").exists()


def test_pins_of_a_signer_by_version() -> None:
    settings = links.signer(peers=("client", "next_client"), peers_1=("client_1",))
    pins = {name: certificate_pin(certificate(name)) for name in links.VERSION_1 + links.VERSION_2}
    assert settings.own_pins == {2: pins["signer"], 1: pins["signer_1"]}
    assert settings.peer_pins == {
        2: frozenset({pins["client"], pins["next_client"]}),
        1: frozenset({pins["client_1"]}),
    }


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    exposed = tmp_path / "link.key"
    shutil.copy(key("client"), exposed)
    exposed.chmod(mode)
    with pytest.raises(OperatorError) as refused:
        client_tls(certificate=certificate("client"), key=exposed, peers=[certificate("signer")])
    assert str(refused.value) == (
        f"{exposed}: a private key that others may read or write (mode {mode:04o}): chmod 600 {exposed}"
    )


def test_an_encrypted_key_is_refused_without_asking_for_a_passphrase(tmp_path: Path) -> None:
    private_key = load_pem_private_key(key("client").read_bytes(), None)
    encrypted = private(
        tmp_path / "link.key",
        private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
    )
    with pytest.raises(OperatorError, match="the link key is encrypted"):
        client_tls(certificate=certificate("client"), key=encrypted, peers=[certificate("signer")])


@pytest.mark.parametrize(
    ("octets", "said"), [(b"", "cannot be used with"), (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "cannot be used with")]
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, octets: bytes, said: str) -> None:
    broken = private(tmp_path / "link.key", octets)
    with pytest.raises(OperatorError, match=said):
        client_tls(certificate=certificate("client"), key=broken, peers=[certificate("signer")])


def test_the_key_must_be_the_certificates() -> None:
    with pytest.raises(OperatorError, match=r"stranger\.key: cannot be used with .*client\.pem: key values mismatch"):
        client_tls(certificate=certificate("client"), key=key("stranger"), peers=[certificate("signer")])


def test_missing_files_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(OperatorError, match=r"missing: cannot be read: No such file"):
        client_tls(certificate=certificate("client"), key=missing, peers=[certificate("signer")])
    with pytest.raises(OperatorError, match=r"missing: cannot be read: No such file"):
        client_tls(certificate=missing, key=key("client"), peers=[certificate("signer")])
    with pytest.raises(OperatorError, match=r"missing: cannot be read: No such file"):
        client_tls(certificate=certificate("client"), key=key("client"), peers=[missing])


def test_peers_are_files_with_one_certificate_each(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no peer certificate is configured"):
        client_tls(certificate=certificate("client"), key=key("client"), peers=[])
    with pytest.raises(OperatorError, match="holds 2 certificates: leave only the peer's own"):
        client_tls(certificate=certificate("client"), key=key("client"), peers=[certificate("original_chain")])
    (tmp_path / "peer.pem").write_text("nothing of the kind")
    with pytest.raises(OperatorError, match=r"peer\.pem: is not a PEM certificate"):
        client_tls(certificate=certificate("client"), key=key("client"), peers=[tmp_path / "peer.pem"])


def test_one_key_is_never_a_peer_of_both_versions() -> None:
    with pytest.raises(OperatorError, match="the same key is a peer of versions 1 and 2"):
        version_1_signer(peers_1="client")


def test_version_1_needs_an_rsa_certificate_and_version_2_another() -> None:
    with pytest.raises(OperatorError, match=r"next_client\.pem: the link certificate must have an RSA key"):
        version_1_signer(own_1="next_client")
    with pytest.raises(OperatorError, match=r"original\.pem: the link certificate must have a key other than RSA"):
        version_1_signer(own="original")


def test_an_rsa_certificate_will_do_for_version_2_alone() -> None:
    settings = signer_tls(certificate=certificate("original"), key=key("original"), peers=[certificate("client")])
    assert set(settings.own_pins) == {2}


def version_1_signer(*, own: str = "signer", own_1: str = "signer_1", peers_1: str = "client_1") -> None:
    signer_tls(
        certificate=certificate(own),
        key=key(own),
        peers=[certificate("client")],
        version_1=Version1Tls(certificate=certificate(own_1), key=key(own_1), peers=[certificate(peers_1)]),
    )


def private(path: Path, octets: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(octets)
    return path
