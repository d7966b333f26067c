from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.support.ceremonies import declare

from cassiopeia.ceremony import holding
from cassiopeia.ceremony.adopting import Adopted, adopt, read_adopted, request_certificates
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import load_hierarchy, with_key_algorithm, with_periods
from cassiopeia.ceremony.sub_ca_request import read_request
from cassiopeia.ceremony.unlocking import unlock
from cassiopeia.ceremony.writing import Split
from cassiopeia.errors import OperatorError

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
BEGIN = NOW - dt.timedelta(days=400)
ROOT_KEY, STRUCTURE_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


def declared(*families: str) -> Declaration:
    hierarchy = with_periods(with_key_algorithm(load_hierarchy(), "P-256"), 1, spares=0)
    chosen = tuple(each for each in hierarchy.family if each.name in families)
    return declare(msgspec.structs.replace(hierarchy, family=chosen, url_base="http://ca.house.test"))


BOTH = declared("assured", "codesign")


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def certified(
    key: ec.EllipticCurvePrivateKey,
    subject: str,
    *,
    by: ec.EllipticCurvePrivateKey = ROOT_KEY,
    issuer: str = "Old Root",
    path_length: int | None = 2,
    years: int = 25,
    begin: dt.datetime = BEGIN,
) -> x509.Certificate:
    """As somebody made it years ago."""
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(by.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(by, hashes.SHA256())


def listed(
    *serials: int,
    number: int | None = 4711,
    key: ec.EllipticCurvePrivateKey = ROOT_KEY,
    issuer: str = "Old Root",
    partial: bool = False,
) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(BEGIN)
        .next_update(NOW + dt.timedelta(days=30))
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if partial:
        builder = builder.add_extension(x509.DeltaCRLIndicator(7), critical=True)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(BEGIN)
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.superseded), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256())


ROOT = certified(ROOT_KEY, "Old Root")
OLD_STRUCTURE = certified(STRUCTURE_KEY, "Old Assured", path_length=None, years=20)


def number_of(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_root_with_its_key_goes_on() -> None:
    outcome = adopt(BOTH, [Adopted(name="root", certificate=ROOT, key=ROOT_KEY, crl=listed(5, 6))], now=NOW)

    record = outcome.safe.record
    assert [each.name for each in record.authorities if each.is_offline] == ["root", "assured", "codesign"]
    assert "root" not in outcome.certified
    assert (record.root.adopted, record.root.key) == (True, "safe")
    for each in outcome.certified:
        issuer = outcome.safe.certificates[record.authority(each).issuer]
        outcome.safe.certificates[each].verify_directly_issued_by(issuer)
    crl = outcome.safe.crls["root"]
    assert number_of(crl) == record.root.crl_number == 4712
    assert [entry.serial_number for entry in crl] == [5, 6]
    assert crl.is_signature_valid(ROOT_KEY.public_key())


def test_numbers_begin_where_there_were_none() -> None:
    outcome = adopt(BOTH, [Adopted(name="root", certificate=ROOT, key=ROOT_KEY, crl=listed(5, number=None))], now=NOW)

    assert number_of(outcome.safe.crls["root"]) == 1
    assert len(outcome.safe.crls["root"]) == 1


def test_a_crl_that_is_dated_ahead_means_a_wrong_clock() -> None:
    found = Adopted(name="root", certificate=ROOT, key=ROOT_KEY, crl=listed(5))
    with pytest.raises(OperatorError, match=r"root: its last CRL is of .*: set the clock, or look at that CRL"):
        adopt(BOTH, [found], now=BEGIN - dt.timedelta(hours=1))


@pytest.mark.parametrize("root_key", [None, ROOT_KEY], ids=["elsewhere", "here"])
def test_a_structure_ca_that_the_root_has_revoked_is_not_built_upon(
    root_key: ec.EllipticCurvePrivateKey | None,
) -> None:
    root = Adopted(name="root", certificate=ROOT, key=root_key, crl=listed(OLD_STRUCTURE.serial_number))
    old = Adopted(name="assured", certificate=OLD_STRUCTURE, key=STRUCTURE_KEY)
    with pytest.raises(OperatorError, match="assured: the root has revoked its certificate on") as told:
        adopt(BOTH, [root, old], now=NOW)
    assert f"{BEGIN:%Y-%m-%d}" in str(told.value)


def test_a_structure_ca_goes_on_below_a_root_that_stays_elsewhere(tmp_path: Path) -> None:
    declaration = declared("assured")
    old = listed(77, key=STRUCTURE_KEY, issuer="Old Assured", number=9)
    adopted = [
        Adopted(name="root", certificate=ROOT),
        Adopted(name="assured", certificate=OLD_STRUCTURE, key=STRUCTURE_KEY, crl=old),
    ]

    held = holding.adopt_authorities(declaration, adopted, tmp_path / "out", clock=lambda: NOW, say=lambda _: None)

    assert {each.name for each in held.outcome.safe.record.authorities if not each.adopted} == set(
        held.outcome.certified
    )
    assert held.outcome.crls == ("assured",)
    public = held.directory / "public"
    assert not (public / "root.crl").exists()
    assert number_of(x509.load_der_x509_crl((public / "assured.crl").read_bytes())) == 10
    [name_] = [each.name for each in held.outcome.safe.record.time]
    made = x509.load_der_x509_certificate((public / f"{name_}.crt").read_bytes())
    made.verify_directly_issued_by(OLD_STRUCTURE)
    # Who has the root's key revokes what it signed.
    opened = unlock(held.directory / "offline.bundle")
    with pytest.raises(OperatorError, match="assured: only root can revoke it, whose key is not in the safe"):
        holding.renew(opened, tmp_path / "next", revoke=["assured"], clock=lambda: NOW, say=lambda _: None)


def answered(requests: Path) -> dict[str, x509.Certificate]:
    """What the holder of the root's key makes of requests."""
    answers = {}
    for path in sorted(requests.iterdir()):
        request = x509.load_pem_x509_csr(path.read_bytes())
        assert request.is_signature_valid
        said = request.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (said.ca, said.path_length) == (True, 1)
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        common_name = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        identifier = x509.SubjectKeyIdentifier.from_public_key(ROOT_KEY.public_key())
        template = certified(OTHER_KEY, str(common_name), path_length=1, years=12)
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(ROOT.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW)
            .not_valid_after(template.not_valid_after_utc)
            .add_extension(said, critical=True)
            .add_extension(request.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        answers[path.stem] = builder.sign(ROOT_KEY, hashes.SHA256())
    return answers


def test_a_root_elsewhere_is_asked_and_answers(tmp_path: Path) -> None:
    asked = holding.ask_for_certificates(
        BOTH, [Adopted(name="root", certificate=ROOT)], tmp_path / "asked", clock=lambda: NOW, say=lambda _: None
    )
    assert {each.name for each in asked.directory.iterdir()} == {
        "offline.bundle",
        "offline.passphrase",
        "bundle-key.pem",
        "requests",
        "transcript.txt",
        "transcript.html",
    }
    answers = answered(asked.directory / "requests")
    opened = unlock(asked.directory / "offline.bundle")

    # 1. One comes back first: the other goes on being awaited.
    first = holding.adopt_authorities(
        BOTH,
        [Adopted(name="assured", certificate=answers["assured"])],
        tmp_path / "first",
        opened=opened,
        clock=lambda: NOW,
        say=lambda _: None,
    )
    record = first.outcome.safe.record
    assert record.number == 2
    assert [each.name for each in record.awaited] == ["codesign"]
    assert {each.family for each in record.time} == {"assured"}
    assert first.outcome.crls == ("assured",)
    # 2. Then the other.
    second = holding.adopt_authorities(
        BOTH,
        [Adopted(name="codesign", certificate=answers["codesign"])],
        tmp_path / "second",
        opened=unlock(first.directory / "offline.bundle"),
        clock=lambda: NOW,
        say=lambda _: None,
    )
    record = second.outcome.safe.record
    assert record.awaited == ()
    assert {each.family for each in record.time} == {"assured", "codesign"}
    assert second.outcome.safe.bundle_public_pem == asked.outcome.safe.bundle_public_pem


def test_the_answer_to_another_request_is_refused(tmp_path: Path) -> None:
    outcome, requests = request_certificates(BOTH, [Adopted(name="root", certificate=ROOT)], now=NOW)
    place = tmp_path / "requests"
    place.mkdir()
    for each, pem in requests.items():
        (place / f"{each}.csr").write_bytes(pem)
    answers = answered(place)

    with pytest.raises(
        OperatorError, match="assured: its certificate is for another key than the one that its request"
    ):
        adopt(BOTH, [Adopted(name="assured", certificate=answers["codesign"])], safe=outcome.safe, now=NOW)
    with pytest.raises(OperatorError, match="every family has its structure CA, or has asked for it"):
        request_certificates(BOTH, [], safe=outcome.safe, now=NOW)


STRANGER = certified(OTHER_KEY, "Stranger", by=OTHER_KEY, issuer="Stranger")


@pytest.mark.parametrize(
    ("adopted", "reason"),
    [
        ([], "give the root's certificate with --ca root=FILE"),
        ([Adopted(name="moon", certificate=ROOT)], "'moon' is neither the root nor a family"),
        ([Adopted(name="root", certificate=OLD_STRUCTURE)], "is not signed by itself"),
        (
            [Adopted(name="root", certificate=ROOT), Adopted(name="assured", certificate=STRANGER, key=OTHER_KEY)],
            "assured: its certificate is not one that the root has signed",
        ),
        (
            [Adopted(name="root", certificate=ROOT), Adopted(name="assured", certificate=OLD_STRUCTURE)],
            "assured: its key has to sign sub-CAs: give it with --key assured=FILE",
        ),
        (
            [Adopted(name="root", certificate=ROOT)],
            "the family assured needs a structure CA, which only the root can sign",
        ),
    ],
    ids=["none", "unknown", "no-root", "stranger", "no-key", "no-structure"],
)
def test_what_cannot_be_adopted(adopted: list[Adopted], reason: str) -> None:
    with pytest.raises(OperatorError, match=re.escape(reason)):
        adopt(BOTH, adopted, now=NOW)


def test_a_root_that_is_here_is_not_asked() -> None:
    with pytest.raises(OperatorError, match="the root's key is here"):
        request_certificates(BOTH, [Adopted(name="root", certificate=ROOT, key=ROOT_KEY)], now=NOW)


def test_a_hierarchy_has_one_root_and_adopts_once() -> None:
    first = adopt(BOTH, [Adopted(name="root", certificate=ROOT, key=ROOT_KEY)], now=NOW)

    with pytest.raises(OperatorError, match="the root is another than the one in the safe"):
        adopt(BOTH, [Adopted(name="root", certificate=STRANGER)], safe=first.safe, now=NOW)
    with pytest.raises(OperatorError, match="assured: is in the safe already"):
        adopt(BOTH, [Adopted(name="assured", certificate=OLD_STRUCTURE, key=STRUCTURE_KEY)], safe=first.safe, now=NOW)


def test_what_a_reviewer_objects_to_is_said_or_refused(tmp_path: Path) -> None:
    said: list[str] = []
    unlimited = certified(ROOT_KEY, "Old Root", path_length=None)
    held = holding.adopt_authorities(
        BOTH,
        [Adopted(name="root", certificate=unlimited, key=ROOT_KEY)],
        tmp_path / "out",
        clock=lambda: NOW,
        say=said.append,
    )
    assert any("has no pathLenConstraint" in each for each in said)
    assert "has no pathLenConstraint" in (held.directory / "transcript.txt").read_text()

    narrow = certified(ROOT_KEY, "Old Root", path_length=1)
    with pytest.raises(OperatorError, match="the root: allows 1 CAs below it, and this hierarchy has 2"):
        holding.adopt_authorities(
            BOTH,
            [Adopted(name="root", certificate=narrow, key=ROOT_KEY)],
            tmp_path / "narrow",
            clock=lambda: NOW,
            say=lambda _: None,
        )
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_the_safes_secret_stays_when_it_is_gone_on_from(tmp_path: Path) -> None:
    asked = holding.ask_for_certificates(
        BOTH, [Adopted(name="root", certificate=ROOT)], tmp_path / "asked", clock=lambda: NOW, say=lambda _: None
    )

    with pytest.raises(OperatorError, match="the safe keeps the secret that it has: leave out --shares"):
        holding.adopt_authorities(
            BOTH,
            [],
            tmp_path / "out",
            opened=unlock(asked.directory / "offline.bundle"),
            split_into=Split(shares=3, threshold=2),
            clock=lambda: NOW,
            say=lambda _: None,
        )


class Files:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, file: str, octets: bytes) -> Path:
        path = self.directory / file
        path.write_bytes(octets)
        return path

    def read(self, certificate: bytes, key: bytes | None = None, crl: bytes | None = None) -> Adopted:
        return read_adopted(
            "root",
            self.write("ca", certificate),
            key=None if key is None else self.write("key", key),
            crl=None if crl is None else self.write("crl", crl),
            ask_passphrase=lambda path: bytearray(f"passphrase of {path.name}".encode()),
        )


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER], ids=["pem", "der"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_files_are_read_in_either_form(tmp_path: Path, form: Encoding, encrypted: bool) -> None:  # noqa: FBT001 - a parameter of the test
    protection = BestAvailableEncryption(b"passphrase of key") if encrypted else NoEncryption()

    adopted = Files(tmp_path).read(
        ROOT.public_bytes(form),
        ROOT_KEY.private_bytes(form, PrivateFormat.PKCS8, protection),
        listed(1).public_bytes(form),
    )

    assert adopted.certificate == ROOT
    assert adopted.key is not None
    assert adopted.key.public_key() == ROOT_KEY.public_key()
    assert adopted.crl is not None
    assert number_of(adopted.crl) == 4711
    assert "PrivateKey" not in repr(adopted)


def pem_of(key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey, passphrase: bytes = b"") -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


CERTIFICATE = ROOT.public_bytes(Encoding.PEM)
LIST = listed(1).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("certificate", "key", "crl", "reason"),
    [
        (b"hello", None, None, "ca: is not a certificate (PEM or DER)"),
        (CERTIFICATE, b"hello", None, "key: is not a private key (PEM or DER)"),
        (CERTIFICATE, pem_of(ROOT_KEY, b"another"), None, "or its passphrase is another one"),
        (CERTIFICATE, pem_of(x25519.X25519PrivateKey.generate()), None, "is of a kind that signs no certificates"),
        (CERTIFICATE, pem_of(OTHER_KEY), None, "the key of root does not fit its certificate"),
        (CERTIFICATE, None, b"hello", "crl: is not a CRL (PEM or DER)"),
        (CERTIFICATE, None, listed(1, key=OTHER_KEY).public_bytes(Encoding.DER), "crl: is not a CRL that root has"),
        (CERTIFICATE, None, listed(1, issuer="X").public_bytes(Encoding.DER), "crl: is not a CRL that root has"),
        (CERTIFICATE, None, listed(1, partial=True).public_bytes(Encoding.DER), "crl: lists only a part"),
        (CERTIFICATE, None, LIST[:-1], "crl: is not a CRL (PEM or DER)"),
    ],
    ids=["certificate", "key", "passphrase", "kind", "other", "crl", "forged", "issuer", "delta", "cut"],
)
def test_files_that_do_not_belong_together_are_named(
    tmp_path: Path, certificate: bytes, key: bytes | None, crl: bytes | None, reason: str
) -> None:
    with pytest.raises(OperatorError, match=re.escape(reason)):
        Files(tmp_path).read(certificate, key, crl)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot read the certificate: No such file"):
        read_adopted("root", tmp_path / "none", key=None, crl=None, ask_passphrase=lambda _: bytearray())


def request(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = OTHER_KEY) -> bytes:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(name("x")).sign(key, digest).public_bytes(Encoding.DER)


def test_a_request_brings_a_key_that_somebody_holds(tmp_path: Path) -> None:
    path = tmp_path / "assured_2027_1.csr"
    path.write_bytes(request())
    assert read_request(path).public_key == OTHER_KEY.public_key()

    altered = bytearray(request())
    altered[-1] ^= 1
    path.write_bytes(altered)
    with pytest.raises(OperatorError, match="was changed after it was signed"):
        read_request(path)
    path.write_bytes(b"hello")
    with pytest.raises(OperatorError, match="is no certification request"):
        read_request(path)
    with pytest.raises(OperatorError, match="cannot read the request"):
        read_request(tmp_path / "none")
