"""Keys in tokens of SoftHSM: found, made, listed and signed with."""

from __future__ import annotations

import ctypes
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from tests.support.authorities import make_ca, p256_key, rsa_key
from tests.support.ca_keys import ca_key
from tests.support.crypto_backends import public_key_info
from tests.support.signer import PASSPHRASE, write_key
from tests.support.softhsm import MODULE, PIN, PROXY, SoftHsm, softhsm_here

from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import ALGORITHMS
from cassiopeia.core.key_uri import Pkcs11Uri, parse_key_uri
from cassiopeia.errors import InternalError, OperatorError, SignatureInvalid, Unavailable
from cassiopeia.signer.keystore import pkcs11 as backend
from cassiopeia.signer.keystore import token_key, token_limits
from cassiopeia.signer.keystore.interface import CaKey
from cassiopeia.signer.keystore.pkcs11 import Pkcs11KeyStore

_KINDS = ("RSA-2048", "RSA-3072", "RSA-4096", "P-256", "P-384", "P-521", "Ed25519", "Ed448")


@pytest.fixture(scope="module")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """One token called `cas`, for tests that leave what others made in it alone."""
    with softhsm_here(tmp_path_factory.mktemp("softhsm") / "hsm") as found:
        found.make_token("cas")
        found.write_pin()
        yield found


@pytest.fixture
def store(softhsm: SoftHsm, tmp_path: Path) -> Iterator[Pkcs11KeyStore]:
    found = backend.load().open_store(softhsm.settings(state=tmp_path / "state"))
    yield found
    found.close()


def check(key: CaKey) -> None:
    """Every algorithm of the key makes a signature that verifies."""
    public = load_der_public_key(key.public_key_info)
    assert key.algorithms
    for algorithm in key.algorithms:
        for octets in (b"", b"to be signed", bytes(100_000)):
            algorithms.verify(public, algorithm, key.sign(algorithm, octets), octets)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_new_key_signs_with_all_that_such_keys_sign_with(store: Pkcs11KeyStore, kind: str) -> None:
    uri = parse_key_uri(f"pkcs11:token=cas;object=new%20{kind}")

    made = store.generate(uri, kind)

    check(made)
    assert set(made.algorithms) == set(algorithms.algorithms_for(load_der_public_key(made.public_key_info)))
    assert set(made.algorithms) <= set(backend.load().signs)
    assert store.open(uri).public_key_info == made.public_key_info


def test_a_new_key_cannot_be_taken_out(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    store.generate(parse_key_uri("pkcs11:token=cas;object=kept;id=%AB%CD"), "P-256")
    text = softhsm.tool("cas", "--list-objects", "--type", "privkey", "--label", "kept")
    assert "ID:         abcd" in text
    assert "Access:     sensitive, always sensitive, never extractable, local" in text
    assert "Usage:      sign" in text
    assert "decrypt" not in text


def test_nothing_is_overwritten(store: Pkcs11KeyStore) -> None:
    first = store.generate(parse_key_uri("pkcs11:token=cas;object=once;id=%01"), "P-256")
    for again in (
        "pkcs11:token=cas;object=once",
        "pkcs11:token=cas;object=once;id=%01",
        "pkcs11:token=cas;object=o2;id=%01",
    ):
        with pytest.raises(OperatorError, match="is there already, and nothing is overwritten"):
            store.generate(parse_key_uri(again), "P-256")
    assert store.open(parse_key_uri("pkcs11:token=cas;object=once")).public_key_info == first.public_key_info


@pytest.mark.parametrize(
    ("uri", "kind", "message"),
    [
        ("pkcs11:token=cas;id=%09", "P-256", "a key needs a name: write object=NAME"),
        ("pkcs11:token=cas;object=pq", "ML-DSA-65", "no ML-DSA-65 keys are made in tokens: take one of RSA-2048"),
        ("file:/ca.key", "P-256", "this is a key file, and no key in a token"),
    ],
    ids=["no name", "ML-DSA", "file"],
)
def test_what_is_not_made(store: Pkcs11KeyStore, uri: str, kind: str, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        store.generate(parse_key_uri(uri), kind)
    assert not [each for each in store.list_keys() if "pq" in str(each)]


def test_a_token_that_gives_extractable_keys_keeps_none(store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = token_key._generate_pair

    def careless(session: Any, kind: str, made: dict[str, Any]) -> tuple[Any, Any]:
        made["private_template"][pkcs11.Attribute.EXTRACTABLE] = True
        return real(session, kind, made)

    monkeypatch.setattr(token_key, "_generate_pair", careless)
    with pytest.raises(OperatorError, match="makes only keys that can be taken out of it: no key was made"):
        store.generate(parse_key_uri("pkcs11:token=cas;object=careless"), "P-256")
    with pytest.raises(OperatorError, match="there is no such private key in the token"):
        store.open(parse_key_uri("pkcs11:token=cas;object=careless"))


def test_a_token_that_lacks_the_mechanism_makes_no_such_key(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(*_: Any) -> tuple[Any, Any]:
        raise pkcs11.MechanismInvalid

    monkeypatch.setattr(token_key, "_generate_pair", lacks)
    with pytest.raises(OperatorError, match=r"this token makes no P-521 keys \(MechanismInvalid\)"):
        store.generate(parse_key_uri("pkcs11:token=cas;object=lacking"), "P-521")


def test_a_token_that_goes_away_when_it_has_made_a_key_has_it(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise Unavailable("it is not there", code="token-away", retry_after_s=7)

    uri = parse_key_uri("pkcs11:token=cas;object=made")
    with monkeypatch.context() as patch:
        patch.setattr(Pkcs11KeyStore, "open", away)
        with pytest.raises(Unavailable, match="it is not there; the key was made, and is in the token") as caught:
            store.generate(uri, "P-256")
    assert (caught.value.code, caught.value.retry_after_s) == ("token-away", 7)
    check(store.open(uri))


def test_listed_keys_can_be_opened(store: Pkcs11KeyStore) -> None:
    made = {store.generate(parse_key_uri(f"pkcs11:token=cas;object=listed-{n}"), "P-256").public_key_info for n in "ab"}
    listed = [each for each in store.list_keys() if "listed-" in str(each)]
    assert len(listed) == 2
    assert {store.open(parse_key_uri(str(each))).public_key_info for each in listed} == made


def test_keys_of_several_tokens_are_listed_without_giving_the_pin_to_any(tmp_path: Path) -> None:
    with softhsm_here(tmp_path / "hsm") as softhsm:
        for name in ("one", "two"):
            softhsm.make_token(name)
            softhsm.tool(name, "--keypairgen", "--key-type", "EC:prime256v1", "--label", f"of-{name}", "--id", "01")
        softhsm.write_pin("000000")
        store = backend.load().open_store(softhsm.settings(state=tmp_path / "state"))
        assert sorted(str(each).split("object=")[1] for each in store.list_keys()) == ["of-one;id=%01", "of-two;id=%01"]
        assert not softhsm.wrong_pin_given
        store.close()


def test_without_a_library_nothing_is_listed_and_nothing_opened(softhsm: SoftHsm) -> None:
    store = backend.load().open_store(softhsm.settings(module=""))
    assert store.list_keys() == ()
    with pytest.raises(OperatorError, match=r"which library reaches this token\? Write \[pkcs11\] module = PATH"):
        store.open(parse_key_uri("pkcs11:token=cas;object=x"))


def test_a_library_that_is_not_there_is_one_sentence(softhsm: SoftHsm) -> None:
    store = backend.load().open_store(softhsm.settings(module="/nowhere/libtoken.so"))
    with pytest.raises(
        Unavailable, match=r"/nowhere/libtoken\.so: there is no such PKCS#11 library: install"
    ) as caught:
        store.open(parse_key_uri("pkcs11:token=cas;object=x"))
    assert caught.value.code == "backend-missing"
    store.close()


def test_a_file_that_is_no_library_is_one_sentence(softhsm: SoftHsm, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    store = backend.load().open_store(softhsm.settings(module=str(tmp_path / "text.so")))
    with pytest.raises(Unavailable, match=r"text\.so: this PKCS#11 library does not start: .* \(PKCS11Error: OS"):
        store.open(parse_key_uri("pkcs11:token=cas;object=x"))
    store.close()


def test_a_key_is_found_by_every_attribute_of_its_token(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    made = store.generate(parse_key_uri("pkcs11:token=cas;object=named;id=%77"), "P-256")
    serial = str(next(iter(store.list_keys()))).split("serial=")[1].split(";")[0]
    for text in (
        f"pkcs11:serial={serial};id=%77",
        f"pkcs11:serial={serial};token=cas;object=named;type=private",
        "pkcs11:token=cas;manufacturer=SoftHSM%20project;model=SoftHSM%20v2;object=named",
        f"pkcs11:token=cas;object=named?module-path={MODULE}&pin-source=file:{softhsm.directory}/pin",
    ):
        assert store.open(parse_key_uri(text)).public_key_info == made.public_key_info


def test_a_key_that_is_not_there_names_those_that_are(store: Pkcs11KeyStore) -> None:
    store.generate(parse_key_uri("pkcs11:token=cas;object=this%20one"), "P-256")
    with pytest.raises(
        OperatorError, match=r"there is no such private key in the token: it has .*'this one'.*; mend object="
    ):
        store.open(parse_key_uri("pkcs11:token=cas;object=another"))


def test_two_keys_that_match_are_counted(store: Pkcs11KeyStore) -> None:
    for number in (1, 2):
        store.generate(parse_key_uri(f"pkcs11:token=cas;object=both-{number}"), "P-256")
    with pytest.raises(OperatorError, match=r"\d+ private keys in the token match: name it more closely, with id="):
        store.open(parse_key_uri("pkcs11:token=cas"))


def test_two_tokens_that_match_are_counted_and_named(tmp_path: Path) -> None:
    with softhsm_here(tmp_path / "hsm") as softhsm:
        softhsm.make_token("twin")
        softhsm.make_token("twin")
        softhsm.write_pin()
        store = backend.load().open_store(softhsm.settings(state=tmp_path / "state"))
        with pytest.raises(OperatorError, match="the token 'twin': 2 tokens match: name it more closely, with serial="):
            store.open(parse_key_uri("pkcs11:token=twin;object=x"))
        store.close()


def test_several_tokens_and_pins_at_once(tmp_path: Path) -> None:
    with softhsm_here(tmp_path / "hsm") as softhsm:
        pins = {"one": "1111", "two": "222222"}
        for name, pin in pins.items():
            softhsm.make_token(name, pin=pin)
            softhsm.write_pin(pin).rename(softhsm.directory / name)
        keys = []
        store = backend.load().open_store(softhsm.settings(state=tmp_path / "state"))
        for name in pins:
            uri = parse_key_uri(f"pkcs11:token={name};object=ca?pin-source=file:{softhsm.directory}/{name}")
            keys.append(store.generate(uri, "P-256"))
        for _ in range(3):
            for key in keys:
                check(key)
        assert keys[0].public_key_info != keys[1].public_key_info
        store.close()


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "P-384", "P-521", "Ed25519", "Ed448"])
def test_a_key_file_brought_into_a_token_is_the_same_key(
    softhsm: SoftHsm, store: Pkcs11KeyStore, tmp_path: Path, kind: Any
) -> None:
    private = ca_key(kind)[0]
    write_key(tmp_path / "ca.key", private)
    softhsm.import_key(
        "cas", f"moved {kind}", tmp_path / "ca.key", identifier=kind.encode().hex(), passphrase=PASSPHRASE.decode()
    )
    key = store.open(parse_key_uri(f"pkcs11:token=cas;object=moved%20{kind}"))
    assert key.public_key_info == public_key_info(private)
    check(key)


class TestPublicKey:
    """Where the public key of a private key comes from."""

    def bring(self, softhsm: SoftHsm, tmp_path: Path, private: Any, name: str) -> None:
        write_key(tmp_path / "ca.key", private)
        softhsm.import_key("cas", name, tmp_path / "ca.key", identifier="4a4b", passphrase=PASSPHRASE.decode())
        softhsm.tool("cas", "--delete-object", "--type", "pubkey", "--label", name)

    def remove(self, softhsm: SoftHsm, name: str) -> None:
        softhsm.tool("cas", "--delete-object", "--type", "privkey", "--label", name)

    def test_an_rsa_key_tells_its_own(self, softhsm: SoftHsm, store: Pkcs11KeyStore, tmp_path: Path) -> None:
        self.bring(softhsm, tmp_path, rsa_key(), "alone-rsa")
        key = store.open(parse_key_uri("pkcs11:token=cas;object=alone-rsa"))
        assert key.public_key_info == public_key_info(rsa_key())
        check(key)
        self.remove(softhsm, "alone-rsa")

    def test_a_certificate_in_the_token_tells_it(self, softhsm: SoftHsm, store: Pkcs11KeyStore, tmp_path: Path) -> None:
        self.bring(softhsm, tmp_path, p256_key(), "alone-ec")
        with pytest.raises(OperatorError, match="has no public key for this private key: write it, or a certificate"):
            store.open(parse_key_uri("pkcs11:token=cas;object=alone-ec"))
        certificate = make_ca("ca", key=p256_key()).certificate
        assert isinstance(certificate, x509.Certificate)
        (tmp_path / "ca.der").write_bytes(certificate.public_bytes(Encoding.DER))
        softhsm.tool(
            *("cas", "--write-object", tmp_path / "ca.der", "--type", "cert", "--id", "4a4b", "--label", "alone-ec")
        )  # fmt: skip
        key = store.open(parse_key_uri("pkcs11:token=cas;object=alone-ec"))
        assert key.public_key_info == public_key_info(p256_key())
        check(key)
        self.remove(softhsm, "alone-ec")


def test_a_curve_that_no_ca_uses_is_named_as_the_reason(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    softhsm.tool("cas", "--keypairgen", "--key-type", "EC:secp256k1", "--label", "bitcoin", "--id", "66")
    with pytest.raises(OperatorError, match="no CA signs with a key on this curve: take one of"):
        store.open(parse_key_uri("pkcs11:token=cas;object=bitcoin"))


def test_a_key_that_must_not_sign_is_refused(store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = token_key._generate_pair

    def derives(session: Any, kind: str, made: dict[str, Any]) -> tuple[Any, Any]:
        return real(session, kind, made | {"capabilities": pkcs11.MechanismFlag.DERIVE})

    monkeypatch.setattr(token_key, "_generate_pair", derives)
    with pytest.raises(OperatorError, match="this key must not sign, says its token"):
        store.generate(parse_key_uri("pkcs11:token=cas;object=derives"), "P-256")


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256"])
def test_a_token_that_signs_no_hashes_hashes_itself(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    raw = {pkcs11.Mechanism.RSA_PKCS, pkcs11.Mechanism.RSA_PKCS_PSS, pkcs11.Mechanism.ECDSA}
    ways = {name: list(token_key._ways(name)) for name in ALGORITHMS if name.key_kind in ("RSA", "EC")}
    monkeypatch.setattr(token_key, "_ways", lambda name: [each for each in ways[name] if each.mechanism not in raw])
    uri = parse_key_uri(f"pkcs11:token=cas;object=hashes-{kind}")
    if kind == "P-256":
        # SoftHSM has no ECDSA with a hash: there is no way left, and it is said.
        with pytest.raises(OperatorError, match=r"signs with no algorithm that a key .*; the key was made"):
            store.generate(uri, kind)
    else:
        check(store.generate(uri, kind))


def test_an_algorithm_of_another_kind_of_key_is_our_own_fault(store: Pkcs11KeyStore) -> None:
    key = store.generate(parse_key_uri("pkcs11:token=cas;object=p256"), "P-256")
    rsa_algorithm = next(each for each in ALGORITHMS if each.key_kind == "RSA")
    with pytest.raises(InternalError, match="this key does not sign with sha256WithRSAEncryption"):
        key.sign(rsa_algorithm, b"")


def test_a_token_gives_no_second_opinion() -> None:
    assert backend.load().verifies == ()
    with pytest.raises(OperatorError, match="a token does not verify Ed25519 here: name a library"):
        backend.load().verify(b"", next(each for each in ALGORITHMS if each.name == "Ed25519"), b"", b"")


def test_threads_share_one_session(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    key = store.generate(parse_key_uri("pkcs11:token=cas;object=threads"), "P-256")
    public = load_der_public_key(key.public_key_info)
    wrong: list[Exception] = []

    def sign() -> None:
        for number in range(60):
            octets = f"{threading.get_ident()} {number}".encode()
            try:
                algorithms.verify(public, key.algorithms[0], key.sign(key.algorithms[0], octets), octets)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shall see it
                wrong.append(error)

    threads = [threading.Thread(target=sign) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_stores_of_one_process_share_the_login(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    key = store.generate(parse_key_uri("pkcs11:token=cas;object=shared"), "P-256")
    other = backend.load().open_store(softhsm.settings())
    again = other.open(parse_key_uri("pkcs11:token=cas;object=shared"))
    check(again)
    other.close()
    check(key)


def test_the_proxy_of_p11_kit_is_a_library_as_any_other(tmp_path: Path) -> None:
    with softhsm_here(tmp_path / "hsm") as softhsm:
        softhsm.make_token("proxied")
        softhsm.write_pin()
        store = backend.load().open_store(softhsm.settings(module=PROXY, state=tmp_path / "state"))
        key = store.generate(parse_key_uri("pkcs11:token=proxied;object=ca"), "P-256")
        check(key)
        with softhsm.away(), pytest.raises(Unavailable, match="the token 'proxied' is not there"):
            key.sign(key.algorithms[0], b"")
        check(key)
        store.close()


def _sign_in_child(key: CaKey, answers: Any) -> None:
    try:
        key.sign(key.algorithms[0], b"")
    except InternalError as error:
        answers.put(str(error))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_touch_the_library_of_its_parent(store: Pkcs11KeyStore) -> None:
    key = store.generate(parse_key_uri("pkcs11:token=cas;object=forked"), "P-256")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_sign_in_child, args=(key, answers))
    child.start()
    assert "does not survive a fork" in answers.get(timeout=30)
    child.join()
    check(key)


def test_ecdsa_signatures_are_der_with_numbers_as_short_as_they_are() -> None:
    class Raw:
        def __init__(self, answer: bytes) -> None:
            self.answer = answer

        def sign(self, _octets: bytes, **_: Any) -> bytes:
            return self.answer

    def sign(answer: bytes) -> bytes:
        return token_key.sign(Raw(answer), algorithm, way, b"", None)  # type: ignore[arg-type] # what a token answers

    algorithm = algorithms.algorithms_for(p256_key().public_key())[0]
    way = next(iter(token_key._ways(algorithm)))
    signature = sign(bytes(31) + b"\x01" + b"\xff" * 32)
    assert utils.decode_dss_signature(signature) == (1, int.from_bytes(b"\xff" * 32, "big"))
    # What is none goes on to those who verify: a sub-CA whose token does this must not go on.
    for answer in (b"", b"\x01" * 63):
        assert sign(answer) == answer
        with pytest.raises(SignatureInvalid):
            algorithms.verify(p256_key().public_key(), algorithm, sign(answer), b"")


def _der(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content if len(content) < 128 else bytes((tag, 0x81, len(content))) + content


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519", "Ed448"])
def test_points_are_read_as_tokens_write_them(kind: Any) -> None:
    public = ca_key(kind)[0].public_key()
    is_edwards = kind.startswith("Ed")
    shapes = (
        [(Encoding.Raw, PublicFormat.Raw)]
        if is_edwards
        else [(Encoding.X962, PublicFormat.UncompressedPoint), (Encoding.X962, PublicFormat.CompressedPoint)]
    )
    for encoding, shape in shapes:
        point = public.public_bytes(encoding, shape)
        long = bytes((0x04, 0x81, len(point))) + point
        for written in (_der(0x04, point), _der(0x03, b"\0" + point), long, point):
            said = {pkcs11.Attribute.EC_PARAMS: token_key._PARAMETERS[kind], pkcs11.Attribute.EC_POINT: written}
            assert token_key._public_key(_Attributes(said)) == public
            for wrong in (written[:1], written[:2], written[:-1], written + b"\0"):
                assert token_key._public_key(_Attributes(said | {pkcs11.Attribute.EC_POINT: wrong})) is None


class _Attributes(dict[Any, Any]):
    """An object in a token that has these and no others."""

    def __missing__(self, key: Any) -> Any:
        raise pkcs11.AttributeTypeInvalid(key)


def test_keys_and_attributes_that_only_their_maker_knows_are_no_ca_keys() -> None:
    class Vendors(_Attributes):
        def __missing__(self, key: Any) -> Any:
            return pkcs11.KeyType(0x80000123)

    with pytest.raises(OperatorError, match="no CA signs with a key of this kind: take one of RSA-2048"):
        token_key.read_public_key(cast("Any", None), cast("Any", Vendors()), Pkcs11Uri(token="cas"))


def test_two_names_of_one_library_are_one(softhsm: SoftHsm, store: Pkcs11KeyStore, tmp_path: Path) -> None:
    made = store.generate(parse_key_uri("pkcs11:token=cas;object=by-two-names"), "P-256")
    (tmp_path / "other.so").symlink_to(MODULE)
    again = store.open(parse_key_uri(f"pkcs11:token=cas;object=by-two-names?module-path={tmp_path}/other.so"))
    assert again.public_key_info == made.public_key_info
    check(again)
    check(made)


def test_the_limit_of_sessions_is_read_where_the_standard_has_it(
    softhsm: SoftHsm, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.generate(parse_key_uri("pkcs11:token=cas;object=limit"), "P-256")
    token = next(iter(pkcs11.lib(MODULE).get_tokens(token_label="cas")))
    # SoftHSM says that there is none.
    assert token_limits.session_limit(MODULE, token) == 0
    assert token_limits.session_limit("/nowhere/libtoken.so", token) == 0
    # The structure as 64-bit Linux has it: 96 octets of names, eleven numbers, two versions, a time.
    assert ctypes.sizeof(token_limits._TokenInfo) == 208
    assert token_limits._TokenInfo.ulMaxSessionCount.offset == 104
    asked: list[bytes] = []
    real = token_limits._get_token_info(MODULE)
    assert real is not None

    def answer(slot: int, info: Any) -> int:
        assert real(slot, info) == 0
        asked.append(info._obj.label.rstrip())
        info._obj.ulMaxSessionCount = 7
        return 0

    monkeypatch.setattr(token_limits, "_get_token_info", lambda _library: answer)
    assert token_limits.session_limit(MODULE, token) == 7
    assert asked == [b"cas"]


def test_messages_never_hold_the_pin(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    for text in ("pkcs11:token=cas;object=nobody", "pkcs11:token=nobody;object=ca"):
        with pytest.raises((OperatorError, Unavailable)) as caught:
            store.open(parse_key_uri(text))
        error: BaseException | None = caught.value
        while error is not None:
            assert PIN not in repr(error)
            error = error.__cause__ or error.__context__
