from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.support.ceremonies import Ceremony, hold_ceremony

from cassiopeia.ceremony import inspection
from cassiopeia.ceremony.hierarchy import KEY_ALGORITHMS, KeyAlgorithm, load_hierarchy, with_key_algorithm, with_periods
from cassiopeia.ceremony.inspection import (
    check_chain,
    check_crl,
    check_key,
    lint,
    read_certificate,
    refuse_grave,
    require_linter,
    unlock_key,
)
from cassiopeia.ceremony.key_ceremony import CertificationAuthority, encrypt_key
from cassiopeia.errors import OperatorError

BEGIN = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
NOW = BEGIN + dt.timedelta(minutes=34)
END = BEGIN + dt.timedelta(days=3650)
SERVER, MAIL = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION
A_CA = x509.BasicConstraints(ca=True, path_length=None)
Made = tuple[dict[str, bytes], dict[str, str], dict[str, bytes]]


def octets_of(ceremony: Ceremony) -> Made:
    certificates = {each.name: each.certificate.public_bytes(Encoding.DER) for each in ceremony.authorities}
    issuers = {each.name: each.issuer for each in ceremony.authorities}
    return certificates, issuers, {name: crl.public_bytes(Encoding.DER) for name, crl in ceremony.crls.items()}


@pytest.fixture(scope="module")
def made(ceremony: Ceremony) -> Made:
    return octets_of(ceremony)


def usage(*, sign_certificates: bool = True, sign_crls: bool = True) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_crls,
        encipher_only=False,
        decipher_only=False,
    )


SIGNS = usage()


class Ca:
    """A CA of a test's own making, with everything right but for what it is told."""

    def __init__(
        self,
        name: str,
        *,
        above: Ca | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        serial_number: int | None = None,
        begin: dt.datetime = BEGIN,
        end: dt.datetime = END,
        constraints: x509.BasicConstraints | None = A_CA,
        constraints_critical: bool = True,
        key_usage: x509.KeyUsage | None = SIGNS,
        with_ski: bool = True,
        aki: bytes | None = None,
        with_aki: bool = True,
        eku: tuple[x509.ObjectIdentifier, ...] = (),
        signed_by: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        self.name = name
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = above or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.subject)
            .public_key(self.key.public_key())
            .serial_number(serial_number or x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=constraints_critical)
        if key_usage is not None:
            builder = builder.add_extension(key_usage, critical=True)
        if with_ski:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        if above is not None and with_aki:
            identifier = x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key()).digest
            builder = builder.add_extension(x509.AuthorityKeyIdentifier(aki or identifier, None, None), False)
        if eku:
            builder = builder.add_extension(x509.ExtendedKeyUsage(eku), False)
        self.certificate = builder.sign(signed_by or issuer.key, hashes.SHA256())

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def crl(self, *, number: int | None = 1, revoked: tuple[int, ...] = (), aki: bytes | None = None) -> bytes:
        identifier = aki or x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()).digest
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.subject)
            .last_update(BEGIN)
            .next_update(BEGIN + dt.timedelta(days=90))
            .add_extension(x509.AuthorityKeyIdentifier(identifier, None, None), False)
        )
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), False)
        for serial_number in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(BEGIN).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


ROOT = Ca("root")


def chain_error(*below: Ca, root: Ca = ROOT) -> str:
    certificates = {each.name: each.der for each in (root, *below)}
    with pytest.raises(OperatorError) as caught:
        check_chain(certificates, dict.fromkeys(certificates, root.name))
    return str(caught.value)


@pytest.mark.parametrize("algorithm", [each for each in KEY_ALGORITHMS if not each.startswith("RSA")])
def test_what_a_ceremony_makes_is_right(algorithm: KeyAlgorithm) -> None:
    ceremony = hold_ceremony(with_periods(with_key_algorithm(load_hierarchy(), algorithm), 1), now=BEGIN)
    certificates, issuers, crls = octets_of(ceremony)
    check_chain(certificates, issuers)
    for name, octets in crls.items():
        assert check_crl(octets, name=name, issuer=certificates[name], number=1, now=NOW, revoked=()).number == 1
    for each in ceremony.authorities[:3]:
        check_key(encrypt_key(each.key, b"secret"), b"secret", name=each.name, certificate=certificates[each.name])


@pytest.mark.parametrize("algorithm", ["P-256", "Ed25519", "ML-DSA-65"])
def test_the_linter_finds_nothing_grave_in_it(algorithm: KeyAlgorithm) -> None:
    ceremony = hold_ceremony(with_periods(with_key_algorithm(load_hierarchy(), algorithm), 1), now=BEGIN)
    certificates, _, crls = octets_of(ceremony)
    findings = lint(certificates=certificates, crls=crls)
    refuse_grave(findings)
    assert {each.artefact for each in findings} >= set(certificates), "it speaks of each, if only to inform"
    assert {each.remark.severity for each in findings} <= {"INFO", "NOTICE"}


def test_the_linter_objects_to_what_is_wrong(made: Made) -> None:
    odd = Ca("odd", above=ROOT, constraints_critical=False)
    certificates, _, crls = made
    findings = lint(
        certificates={"root": certificates["root"], "odd": odd.der, "broken": b"\x30\x03\x02\x01"},
        crls={"good": crls["root"], "broken": b"no CRL"},
    )
    grave = {each.artefact for each in findings if each.remark.grave}
    assert grave == {"odd", "broken"}
    assert [each.artefact for each in findings if each.remark.severity == "FATAL"] == ["broken", "broken"]
    with pytest.raises(OperatorError, match=r"^the linter objects to odd: .*basic_constraints.* \(and \d+ more\)"):
        refuse_grave(findings)
    with pytest.raises(OperatorError, match=r"^the linter objects to broken: [^(]*: mend the hierarchy file"):
        refuse_grave([findings[-1]])


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('out of memory')", "out of memory; nothing was linted"),
        ("import sys; sys.exit(3)", "it said nothing; nothing was linted"),
        ("print('hello')", "nothing was linted"),
        ("import sys; sys.stdout.buffer.write(bytes([0x90]))", "did not answer for each"),
        ("import time; time.sleep(60)", "it took longer than 0.5 seconds; nothing was linted"),
    ],
)
def test_a_linter_that_does_not_work_is_never_taken_for_a_good_one(
    program: str, reason: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_WORKER", (sys.executable, "-c", program))
    if "sleep" in program:
        monkeypatch.setattr(inspection, "_LINT_TIME_LIMIT_S", 0.5)
    with pytest.raises(OperatorError, match=reason):
        lint(certificates=made[0], crls={})


def test_a_program_that_is_not_there(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inspection, "_WORKER", (str(tmp_path / "missing"),))
    with pytest.raises(OperatorError, match=r"^the linter does not work: .*No such file"):
        lint(certificates=made[0], crls={})


def test_without_the_linter_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    require_linter()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OperatorError, match=r"pip install 'cassiopeia-ca\[ceremony\]'"):
        require_linter()


def test_the_linter_is_not_loaded_here() -> None:
    code = "import sys, cassiopeia.ceremony.inspection; sys.exit('pkilint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("below", "reason"),
    [
        (lambda: Ca("a", above=ROOT, constraints=None), r"a: its certificate has no 2\.5\.29\.19 extension"),
        (lambda: Ca("a", above=ROOT, constraints=x509.BasicConstraints(False, None)), "is not that of a CA"),
        (lambda: Ca("a", above=ROOT, constraints_critical=False), "is not that of a CA"),
        (lambda: Ca("a", above=ROOT, key_usage=None), r"has no 2\.5\.29\.15 extension"),
        (lambda: Ca("a", above=ROOT, key_usage=usage(sign_crls=False)), "lets its key sign no certificates and CRLs"),
        (lambda: Ca("a", above=ROOT, key_usage=usage(sign_certificates=False)), "lets its key sign no certificates"),
        (lambda: Ca("a", above=ROOT, with_ski=False), "no subject key identifier"),
        (lambda: Ca("a", above=ROOT, with_aki=False), "no authority key identifier"),
        (lambda: Ca("a", above=ROOT, aki=bytes(20)), "names another key than that of root"),
        (
            lambda: Ca("a", above=ROOT, signed_by=ec.generate_private_key(ec.SECP256R1())),
            "not one that root has signed",
        ),
        (lambda: Ca("a"), "not one that root has signed"),
        (lambda: Ca("a", above=ROOT, end=END + dt.timedelta(seconds=1)), "valid outside of the dates of root"),
        (lambda: Ca("a", above=ROOT, begin=BEGIN - dt.timedelta(seconds=1)), "valid outside of the dates of root"),
        (lambda: Ca("a", above=ROOT, key=ROOT.key), "has the same key as root"),
    ],
    ids=[
        "no-constraints",
        "no-ca",
        "uncritical",
        "no-usage",
        "no-crls",
        "no-certificates",
        "no-ski",
        "no-aki",
        "aki",
        "signature",
        "issuer",
        "after",
        "before",
        "key",
    ],
)
def test_a_wrong_certificate_is_named(below: Callable[[], Ca], reason: str) -> None:
    with pytest.raises(OperatorError, match=rf"^a: .*{reason}|^{reason}"):
        check_chain({"root": ROOT.der, "a": below().der}, {"root": "root", "a": "root"})


def test_what_two_cas_must_not_share() -> None:
    assert "b: has the same serial number as a" in chain_error(
        Ca("a", above=ROOT, serial_number=77), Ca("b", above=ROOT, serial_number=77)
    )


def test_path_lengths_fall() -> None:
    def limited(name: str, length: int | None, above: Ca | None = None) -> Ca:
        return Ca(name, above=above, constraints=x509.BasicConstraints(True, length))

    one = limited("root", 1)
    check_chain({"root": one.der, "a": limited("a", 0, one).der}, {"root": "root", "a": "root"})
    assert "a: its path length does not fit below root" in chain_error(limited("a", 1, one), root=one)
    assert "a: its path length does not fit below root" in chain_error(limited("a", None, one), root=one)


def test_usages_only_narrow() -> None:
    top = Ca("root", eku=(SERVER,))
    check_chain({"root": top.der, "a": Ca("a", above=top, eku=(SERVER,)).der}, {"root": "root", "a": "root"})
    check_chain({"root": ROOT.der, "a": Ca("a", above=ROOT, eku=(SERVER,)).der}, {"root": "root", "a": "root"})
    assert "for more than that of root is" in chain_error(Ca("a", above=top, eku=(SERVER, MAIL)), root=top)
    assert "for more than that of root is" in chain_error(Ca("a", above=top), root=top)


def test_the_root_of_somebody_else_is_not_looked_at() -> None:
    foreign = Ca("foreign")
    top = Ca("assured", above=foreign)
    check_chain({"assured": top.der}, {"assured": "foreign"})
    with pytest.raises(OperatorError, match="assured: its certificate is not one that root has signed"):
        check_chain({"root": ROOT.der, "assured": top.der}, {"root": "root", "assured": "root"})


def test_what_is_no_certificate_is_refused(made: Made) -> None:
    damaged = bytearray(made[0]["root"])
    damaged[10] ^= 0xFF
    for octets in (b"", b"nonsense", made[0]["root"] + b"\0", made[2]["root"], bytes(damaged)):
        with pytest.raises(OperatorError, match=r"^odd: its certificate cannot be read"):
            read_certificate(octets, source="odd")


def test_a_crl_must_be_the_one_that_was_meant() -> None:
    good = ROOT.crl(number=7, revoked=(5, 9))
    assert check_crl(good, name="root", issuer=ROOT.der, now=NOW, number=7, revoked=(9, 5)).number == 7
    assert check_crl(good, name="root", issuer=ROOT.der, now=NOW, number=7).entries
    wrong: tuple[tuple[bytes, int, tuple[int, ...] | None, str], ...] = (
        (b"nonsense", 7, None, "root: its CRL is wrong: this is not a CRL"),
        (good[:-1] + bytes([good[-1] ^ 1]), 7, None, "root: its CRL is wrong"),
        (ROOT.crl(number=None), 7, None, "root: its CRL is wrong"),
        (Ca("root").crl(number=7), 7, None, "root: its CRL is wrong"),
        (good, 8, None, "root: its CRL has the number 7, and 8 comes next"),
        (good, 6, None, "root: its CRL has the number 7, and 6 comes next"),
        (good, 7, (5,), "root: its CRL does not list exactly what was revoked"),
        (good, 7, (5, 9, 11), "root: its CRL does not list exactly what was revoked"),
        (ROOT.crl(number=7, aki=bytes(20)), 7, None, "root: its CRL names another key"),
        (Ca("else", key=ROOT.key).crl(number=7), 7, None, "root: its CRL names another issuer"),
    )
    for octets, number, revoked, reason in wrong:
        with pytest.raises(OperatorError, match=reason):
            check_crl(octets, name="root", issuer=ROOT.der, now=NOW, number=number, revoked=revoked)
    for moment in (BEGIN - dt.timedelta(seconds=1), BEGIN + dt.timedelta(days=90)):
        with pytest.raises(OperatorError, match=r"is good from 2026-11-23 to 2027-02-21, which is not now: look at"):
            check_crl(good, name="root", issuer=ROOT.der, number=7, now=moment)


def test_a_key_must_open_and_fit(ceremony: Ceremony, made: Made) -> None:
    root, other = ceremony.authorities[:2]
    pem = encrypt_key(root.key, b"right")
    check_key(pem, b"right", name="root", certificate=made[0]["root"])
    with pytest.raises(OperatorError, match=r"^the key of root does not fit its certificate"):
        check_key(encrypt_key(other.key, b"right"), b"right", name="root", certificate=made[0]["root"])
    wrong: list[tuple[bytes, bytes]] = [(pem, b"wrong"), (pem[:-60], b"right"), (b"", b"right")]
    for octets, passphrase in wrong:
        with pytest.raises(OperatorError, match=r"^the key of root does not open") as caught:
            unlock_key(octets, passphrase, name="root")
        assert "wrong" not in str(caught.value).replace("wrong passphrase", "")
        assert caught.value.__cause__ is None


def test_a_key_that_signs_no_certificates() -> None:
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    with pytest.raises(OperatorError, match="of a kind that signs no certificates"):
        unlock_key(x25519.X25519PrivateKey.generate().private_bytes(*form), b"x", name="odd")


def test_a_key_whose_signatures_are_wrong_is_noticed(
    ceremony: Ceremony, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a fault in memory or in a library: its public half alone does not show that."""
    root: CertificationAuthority = ceremony.authorities[0]
    genuine = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(root.key, hashes.SHA256())
    octets = genuine.public_bytes(Encoding.DER)
    damaged = x509.load_der_x509_csr(octets[:-1] + bytes([octets[-1] ^ 1]))
    monkeypatch.setattr(x509.CertificateSigningRequestBuilder, "sign", lambda *_: damaged)
    with pytest.raises(OperatorError, match="makes signatures that do not verify"):
        inspection.prove_key(root.key, name="root", certificate=made[0]["root"])
