"""Keys of wolfSSL: each kind opened, made, used, and asked whether it has made a signature.

Owns what is strict about signatures where wolfSSL itself is not, or does not say that it is: lengths, ranges, the one
DER form. Knows nothing of files.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cassiopeia.core import der
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.errors import InternalError, OperatorError, PeerError
from cassiopeia.signer.keystore.public_key_info import RSA, positive, rsa_modulus, split_public_key_info
from cassiopeia.signer.keystore.wolfssl_library import (
    RSA_LOAD_PRIVATE,
    RSA_LOAD_PUBLIC,
    RSA_PKCS1_PADDING,
    RSA_PKCS1_PSS_PADDING,
    SUCCESS,
    Library,
    damaged,
)

SUPPORTED: Final = tuple(each for each in ALGORITHMS if each.key_kind in ("RSA", "EC", "Ed25519", "Ed448"))
AES_BLOCK_OCTETS: Final = 16

# SP_INT_BITS of Debian's build: a longer modulus is loaded without complaint, and then nothing works with it.
_MAXIMUM_RSA_BITS: Final = 4096
_TAKES: Final = "RSA up to 4096 bits, P-256, P-384, P-521, Ed25519 or Ed448"
# The longest ECDSA signature is one of P-521, with 139 octets.
_ECDSA_OCTETS: Final = 160
_PUBLIC_EXPONENT: Final = 65537
# SEC 1 2.3.3: what stands before both coordinates of a point.
_UNCOMPRESSED: Final = 4
# RFC 5958 2: Version v1.
_VERSION: Final = bytes.fromhex("020100")


class Key(ABC):
    """An open key, which only one thread uses at a time."""

    def __init__(
        self, library: Library, path: Path, public_key_info: bytes, supported: Sequence[SignatureAlgorithm]
    ) -> None:
        self.public_key_info = public_key_info
        self._path = path
        self.algorithms = supported
        self._library = library
        self._lock = threading.Lock()
        self._is_open = True

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        if algorithm not in self.algorithms:
            raise InternalError(f"this key does not sign with {algorithm.name}")
        with self._lock:
            if not self._is_open:
                raise InternalError("the store of this key is closed")
            return self._sign(algorithm, octets)

    def _damaged(self, algorithm: SignatureAlgorithm, reason: str = "") -> OperatorError:
        return damaged(f"{self._path}: wolfSSL cannot sign with {algorithm.name}{reason}")

    def close(self) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._release()

    @abstractmethod
    def _sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes: ...

    @abstractmethod
    def _release(self) -> None:
        """Free the private key, which overwrites it."""


class _RsaKey(Key):
    def __init__(self, library: Library, path: Path, public_key_info: bytes, rsa: Any) -> None:
        super().__init__(library, path, public_key_info, _Rsa.algorithms)
        self._rsa = rsa

    def _sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        ffi, functions = self._library.ffi, self._library.functions
        number, digest = self._library.digest(algorithm.hash_name, octets)
        size = functions.wolfSSL_RSA_size(self._rsa)
        out, length = ffi.new("unsigned char[]", size), ffi.new("unsigned int*", size)
        # The last but one argument: a signature is wanted, and not what would be signed. PSS: the salt is as long as
        # the hash (RFC 4055 3.1), wolfSSL's default.
        code = functions.wolfSSL_RSA_sign_generic_padding(
            number, digest, len(digest), out, length, self._rsa, 1, _padding(algorithm)
        )
        if code != SUCCESS or length[0] != size:
            functions.wolfSSL_ERR_clear_error()
            raise self._damaged(algorithm)
        return bytes(ffi.buffer(out))

    def _release(self) -> None:
        self._library.ffi.release(self._rsa)


class _EllipticKey(Key):
    def __init__(
        self, library: Library, path: Path, public_key_info: bytes, curve: _Elliptic, key: Any, numbers: Any
    ) -> None:
        super().__init__(library, path, public_key_info, (curve.signs_with,))
        self._key = key
        self._numbers = numbers

    def _sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        ffi, library = self._library.ffi, self._library
        _, digest = library.digest(algorithm.hash_name, octets)
        out, length = ffi.new("unsigned char[]", _ECDSA_OCTETS), ffi.new("unsigned int*", _ECDSA_OCTETS)
        library.keep_tables()
        code = library.functions.wc_ecc_sign_hash(digest, len(digest), out, length, self._numbers, self._key)
        if code != 0:
            raise self._damaged(algorithm, f" ({library.explain(code)})")
        return bytes(ffi.buffer(out, length[0]))

    def _release(self) -> None:
        self._library.ffi.release(self._key)
        self._library.ffi.release(self._numbers)


class _EdwardsKey(Key):
    """Private and public key, one behind the other: that is all that wolfSSL needs to sign."""

    def __init__(self, library: Library, path: Path, public_key_info: bytes, curve: _Edwards, pair: Any) -> None:
        super().__init__(library, path, public_key_info, curve.algorithms)
        self._curve = curve
        self._pair = pair

    def _sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        ffi, size = self._library.ffi, 2 * self._curve.octets
        out, length = ffi.new("unsigned char[]", size), ffi.new("unsigned int*", size)
        sign = getattr(self._library.functions, f"wolfSSL_{self._curve.name.upper()}_sign")
        if sign(octets, len(octets), self._pair, size, out, length) != SUCCESS or length[0] != size:
            self._library.functions.wolfSSL_ERR_clear_error()
            raise self._damaged(algorithm)
        return bytes(ffi.buffer(out))

    def _release(self) -> None:
        self._library.ffi.release(self._pair)


class _Rsa:
    """RSA keys. `key` is the DER of an RSAPublicKey (RFC 8017 A.1.1)."""

    identifier = RSA
    algorithms = tuple(each for each in ALGORITHMS if each.key_kind == "RSA")

    def __init__(self, *, bits: int = 0) -> None:
        self._bits = bits

    def open(self, library: Library, octets: Any, length: int, path: Path) -> Key:
        ffi, functions = library.ffi, library.functions
        rsa = library.owned(functions.wolfSSL_RSA_new(), functions.wolfSSL_RSA_free)
        if functions.wolfSSL_RSA_LoadDer_ex(rsa, octets, length, RSA_LOAD_PRIVATE) != SUCCESS:
            functions.wolfSSL_ERR_clear_error()
            raise damaged(str(path))
        if functions.wolfSSL_RSA_bits(rsa) > _MAXIMUM_RSA_BITS:
            raise _not_taken(path)
        # This version gives a SubjectPublicKeyInfo here, and not what the function's name says.
        size = functions.wolfSSL_i2d_RSAPublicKey(rsa, ffi.NULL)
        if size <= 0:
            raise damaged(str(path))
        out = ffi.new("unsigned char[]", size)
        if functions.wolfSSL_i2d_RSAPublicKey(rsa, ffi.new("unsigned char**", out)) != size:
            raise damaged(str(path))
        return _RsaKey(library, path, bytes(ffi.buffer(out)), rsa)

    def make(self, library: Library) -> bytearray:
        ffi, functions = library.ffi, library.functions
        rsa = library.owned(functions.wolfSSL_RSA_new(), functions.wolfSSL_RSA_free)
        exponent = library.owned(functions.wolfSSL_BN_new(), functions.wolfSSL_BN_free)
        functions.wolfSSL_BN_set_word(exponent, _PUBLIC_EXPONENT)
        if functions.wolfSSL_RSA_generate_key_ex(rsa, self._bits, exponent, ffi.NULL) != SUCCESS:
            raise InternalError("wolfSSL cannot make an RSA key")
        size = functions.wolfSSL_i2d_RSAPrivateKey(rsa, ffi.NULL)
        inner = der.header(der.OCTET_STRING, size)
        head = der.header(der.SEQUENCE, len(_VERSION + self.identifier + inner) + size)
        prefix = head + _VERSION + self.identifier + inner
        padded = _padded(len(prefix) + size)
        padded[: len(prefix)] = prefix
        with ffi.from_buffer("unsigned char[]", padded) as room:
            if functions.wolfSSL_i2d_RSAPrivateKey(rsa, ffi.new("unsigned char**", room + len(prefix))) != size:
                raise InternalError("wolfSSL cannot write an RSA key")
        return padded

    def verifies(
        self, library: Library, key: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes
    ) -> bool:
        functions = library.functions
        # 1. The key, and that the signature is a number below its modulus and as long (RFC 8017 5.2.2, 8.1.2, 8.2.2).
        try:
            modulus = rsa_modulus(key)
        except PeerError as error:
            raise OperatorError(f"wolfSSL does not take this public key: {error}") from error
        if modulus.bit_length() > _MAXIMUM_RSA_BITS:
            raise OperatorError(f"wolfSSL does not take an RSA key of {modulus.bit_length()} bits: it takes {_TAKES}")
        if len(signature) != (modulus.bit_length() + 7) // 8 or int.from_bytes(signature, "big") >= modulus:
            return False
        rsa = library.owned(functions.wolfSSL_RSA_new(), functions.wolfSSL_RSA_free)
        if functions.wolfSSL_RSA_LoadDer_ex(rsa, key, len(key), RSA_LOAD_PUBLIC) != SUCCESS:
            functions.wolfSSL_ERR_clear_error()
            raise OperatorError("wolfSSL does not take this public key")
        # 2. The signature: PSS with a salt as long as the hash, no other.
        number, digest = library.digest(algorithm.hash_name, octets)
        code = functions.wolfSSL_RSA_verify_ex(
            number, digest, len(digest), signature, len(signature), rsa, _padding(algorithm)
        )
        functions.wolfSSL_ERR_clear_error()
        library.ffi.release(rsa)
        return bool(code == SUCCESS)


@dataclass(frozen=True, kw_only=True)
class _Elliptic:
    """A curve of SEC 2: wolfSSL's number for it (enum ecc_curve_id), the octets of a coordinate, the group's order."""

    identifier: bytes
    number: int
    octets: int
    order: int
    signs_with: SignatureAlgorithm
    algorithms = tuple(each for each in ALGORITHMS if each.key_kind == "EC")

    def open(self, library: Library, octets: Any, length: int, path: Path) -> Key:
        ffi, functions = library.ffi, library.functions
        key, numbers = library.elliptic_key(), library.random_numbers()
        code = functions.wc_EccPrivateKeyDecode(octets, ffi.new("unsigned int*", 0), key, length)
        # The generator also blinds; the public half is made anew, because PKCS#8 need not have it.
        code = code or functions.wc_ecc_set_rng(key, numbers)
        code = code or functions.wc_ecc_make_pub_ex(key, ffi.NULL, numbers)
        size = len(self.identifier) + 2 * self.octets + 16
        out = ffi.new("unsigned char[]", size)
        length = code or functions.wc_EccPublicKeyToDer(key, out, size, 1)
        if code != 0 or length <= 0:
            raise damaged(f"{path}: {library.explain(code or length)}")
        return _EllipticKey(library, path, bytes(ffi.buffer(out, length)), self, key, numbers)

    def make(self, library: Library) -> bytearray:
        ffi, functions = library.ffi, library.functions
        key, numbers = library.elliptic_key(), library.random_numbers()
        library.check(functions.wc_ecc_make_key_ex(numbers, self.octets, key, self.number), "make a key")
        # Asked without room, it tells how much it needs at the most (and gives an error that means this).
        size = ffi.new("unsigned int*", 0)
        functions.wc_EccKeyToPKCS8(key, ffi.NULL, size)
        room = library.secret(size[0])
        length = functions.wc_EccKeyToPKCS8(key, room, size)
        if length <= 0:
            raise InternalError("wolfSSL cannot write a key")
        padded = _padded(length)
        with ffi.from_buffer("unsigned char[]", padded) as octets:
            ffi.memmove(octets, room, length)
        return padded

    def verifies(
        self, library: Library, key: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes
    ) -> bool:
        ffi, functions = library.ffi, library.functions
        # 1. A point on the curve, both coordinates written out (RFC 5480 2.2).
        if len(key) != 1 + 2 * self.octets or key[0] != _UNCOMPRESSED:
            raise OperatorError("wolfSSL does not take this public key: its point is not written with both coordinates")
        public = library.elliptic_key()
        code = functions.wc_ecc_import_x963_ex(key, len(key), public, self.number)
        code = code or functions.wc_ecc_check_key(public)
        if code != 0:
            raise OperatorError(f"wolfSSL does not take this public key: {library.explain(code)}")
        # 2. Two numbers in DER, each in its one form and within the group.
        if not _is_ecdsa_signature(signature, self.order):
            return False
        # 3. The signature.
        _, digest = library.digest(algorithm.hash_name, octets)
        verified = ffi.new("int*", 0)
        code = functions.wc_ecc_verify_hash(signature, len(signature), digest, len(digest), verified, public)
        ffi.release(public)
        return bool(code == 0 and verified[0] == 1)


@dataclass(frozen=True, kw_only=True)
class _Edwards:
    """A curve of RFC 8032: the octets of a key and of half a signature, the field's prime and the group's order."""

    name: str
    identifier: bytes
    octets: int
    prime: int
    order: int

    @property
    def algorithms(self) -> tuple[SignatureAlgorithm, ...]:
        return tuple(each for each in ALGORITHMS if each.key_kind == self.name)

    def open(self, library: Library, octets: Any, length: int, path: Path) -> Key:
        ffi, start, before = library.ffi, _version_at(octets), self._before_key()
        # RFC 5958 2 allows attributes behind the key, of which no library makes anything.
        if length < start + len(before) + self.octets or ffi.buffer(octets + start, len(before))[:] != before:
            raise damaged(str(path))
        pair = library.secret(2 * self.octets)
        ffi.memmove(pair, octets + start + len(before), self.octets)
        public = library.edwards_public(self.name, pair, self.octets)
        ffi.memmove(pair + self.octets, public, self.octets)
        info = der.encode(der.SEQUENCE, self.identifier, der.encode(der.BIT_STRING, b"\0", public))
        return _EdwardsKey(library, path, info, self, pair)

    def make(self, library: Library) -> bytearray:
        ffi, before = library.ffi, self._before_key()
        prefix = der.header(der.SEQUENCE, len(before) + self.octets) + before
        pair, public = library.secret(2 * self.octets), ffi.new("unsigned char[]", self.octets)
        sizes = ffi.new("unsigned int[]", [2 * self.octets, self.octets])
        generate = getattr(library.functions, f"wolfSSL_{self.name.upper()}_generate_key")
        if generate(pair, sizes, public, sizes + 1) != SUCCESS:
            raise InternalError(f"wolfSSL cannot make an {self.name} key")
        padded = _padded(len(prefix) + self.octets)
        padded[: len(prefix)] = prefix
        with ffi.from_buffer("unsigned char[]", padded) as room:
            ffi.memmove(room + len(prefix), pair, self.octets)
        return padded

    def verifies(
        self, library: Library, key: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes
    ) -> bool:
        if len(key) != self.octets:
            raise OperatorError(f"wolfSSL does not take this public key: it is no {algorithm.name} key")
        # RFC 8032 5.1.3, 5.2.3: y is below the prime, and x has no sign where it is 0. The first bit is that sign.
        sign, y = divmod(int.from_bytes(key, "little"), 1 << 8 * self.octets - 1)
        if y >= self.prime or (sign and y in (1, self.prime - 1)):
            raise OperatorError(f"wolfSSL does not take this public key: it is no {algorithm.name} key in its one form")
        # RFC 8032 5.1.7, 5.2.7: S is below the order, else there would be a second signature for every one.
        if len(signature) != 2 * self.octets or int.from_bytes(signature[self.octets :], "little") >= self.order:
            return False
        verify = getattr(library.functions, f"wolfSSL_{self.name.upper()}_verify")
        code = verify(octets, len(octets), key, len(key), signature, len(signature))
        library.functions.wolfSSL_ERR_clear_error()
        return bool(code == SUCCESS)

    def _before_key(self) -> bytes:
        """What stands in a PKCS#8 before the private key: an OCTET STRING in the OCTET STRING (RFC 8410 7)."""
        inner = der.header(der.OCTET_STRING, self.octets)
        return _VERSION + self.identifier + der.header(der.OCTET_STRING, len(inner) + self.octets) + inner


_P256: Final = _Elliptic(
    identifier=bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"),
    number=7,
    octets=32,
    order=int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16),
    signs_with=_Elliptic.algorithms[0],
)
_P384: Final = _Elliptic(
    identifier=bytes.fromhex("301006072a8648ce3d020106052b81040022"),
    number=15,
    octets=48,
    order=int("ff" * 24 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16),
    signs_with=_Elliptic.algorithms[1],
)
_P521: Final = _Elliptic(
    identifier=bytes.fromhex("301006072a8648ce3d020106052b81040023"),
    number=16,
    octets=66,
    order=int("01" + "ff" * 32 + "fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409", 16),
    signs_with=_Elliptic.algorithms[2],
)
_ED25519: Final = _Edwards(
    name="Ed25519",
    identifier=bytes.fromhex("300506032b6570"),
    octets=32,
    prime=2**255 - 19,
    order=2**252 + 27742317777372353535851937790883648493,
)
_ED448: Final = _Edwards(
    name="Ed448",
    identifier=bytes.fromhex("300506032b6571"),
    octets=57,
    prime=2**448 - 2**224 - 1,
    order=2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
)
_KINDS: Final = (_Rsa(), _P256, _P384, _P521, _ED25519, _ED448)
MAKERS: Final[dict[str, _Rsa | _Elliptic | _Edwards]] = {
    **{f"RSA-{bits}": _Rsa(bits=bits) for bits in (2048, 3072, 4096)},
    "P-256": _P256,
    "P-384": _P384,
    "P-521": _P521,
    "Ed25519": _ED25519,
    "Ed448": _ED448,
}


def split_public_key(octets: bytes) -> tuple[_Rsa | _Elliptic | _Edwards, bytes]:
    """The kind of a SubjectPublicKeyInfo (RFC 5280 4.1.2.7), and the key in its BIT STRING."""
    try:
        identifier, key = split_public_key_info(octets)
    except PeerError as error:
        raise OperatorError(f"wolfSSL does not take this public key: {error}") from error
    for kind in _KINDS:
        if kind.identifier == identifier:
            return kind, key
    raise OperatorError(f"wolfSSL does not take this public key: it takes {_TAKES}")


def is_key_info(octets: bytearray, length: int) -> bool:
    """Whether this can be a PrivateKeyInfo (RFC 5958 2) of this length.

    wolfSSL does not look at the padding, so that what a wrong passphrase makes of a file now and then begins like one.
    """
    return 0 < length <= len(octets) and octets.startswith(_VERSION, _version_at(octets))


def open_key(library: Library, octets: bytearray, length: int, path: Path) -> Key:
    start = _version_at(octets) + len(_VERSION)
    for kind in _KINDS:
        if octets.startswith(kind.identifier, start):
            with library.ffi.from_buffer("unsigned char[]", octets) as room:
                return kind.open(library, room, length, path)
    raise _not_taken(path)


def _version_at(octets: Any) -> int:
    """Where Version stands: the header of the SEQUENCE says its length in one octet, or in how many (X.690 8.1.3)."""
    length: int = octets[1]
    return 2 + (length & 0x7F if length & 0x80 else 0)


def _not_taken(path: Path) -> OperatorError:
    return OperatorError(f"{path}: wolfSSL does not take this CA key: use {_TAKES}, or let another library sign")


def _padded(length: int) -> bytearray:
    """Room for so many octets, the padding of AES-CBC behind them (RFC 8018 6.1.1): a secret is never moved again."""
    padding = AES_BLOCK_OCTETS - length % AES_BLOCK_OCTETS
    return bytearray([padding]) * (length + padding)


def _padding(algorithm: SignatureAlgorithm) -> int:
    return RSA_PKCS1_PSS_PADDING if algorithm.is_pss else RSA_PKCS1_PADDING


def _is_ecdsa_signature(signature: bytes, order: int) -> bool:
    """Whether it is an ECDSA-Sig-Value (RFC 3279 2.2.3) in DER, both numbers between 0 and the order."""
    try:
        numbers = [positive(each) for _, each in der.elements(der.content(signature, der.SEQUENCE), at_most=2)]
    except PeerError:
        return False
    return len(numbers) == len(("r", "s")) and max(numbers) < order
