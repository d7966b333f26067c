"""Key files signed with GnuTLS, called through cffi in ABI mode: no compiler, no module of C between it and us.

Owns what GnuTLS has to be told, and what it does not check by itself. Its handles are opaque and made by the library,
so that no layout of a structure is guessed but gnutls_datum_t's, which is public and part of the ABI. Only the soname
that was tested is loaded: another one is another ABI. Nothing is called back, so that no memory has to be writable and
executable at once.

One private key handle is used by all threads: signing only reads it, and GnuTLS's manual ("Thread safety") says that
reading may be shared. For each verification there is a handle of its own.

The library unlocks key files by itself (PKCS#8 encrypted with PBES2: PBKDF2 with AES in CBC mode or 3DES; not scrypt).
It takes passphrases as RFC 8265 prepares them, which changes some characters beyond ASCII, and other libraries do not.

What GnuTLS 3.7 lets pass, and is therefore looked at here before it is asked (`_check_form`): ECDSA signatures in BER
that is not DER, and any last octet of an Ed448 signature. RSA keys with which everything verifies (the exponent 1).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cassiopeia import files
from cassiopeia.core import der
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri
from cassiopeia.errors import InternalError, OperatorError, PeerError, SignatureInvalid, Unavailable
from cassiopeia.secret_source import SecretSource, wipe
from cassiopeia.signer.keystore.interface import CaKey, StoreSettings
from cassiopeia.signer.keystore.key_file import key_path, locked, read_key_file
from cassiopeia.signer.keystore.public_key_info import check_public_key_info

_SONAME: Final = "libgnutls.so.30"
_OLDEST: Final = b"3.7.0"
_RETRY_AFTER_S: Final = 300

# Of <gnutls/gnutls.h>, <gnutls/abstract.h> and <gnutls/x509.h>; its enumerations are ints.
_DECLARATIONS: Final = """
typedef struct { unsigned char *data; unsigned int size; } gnutls_datum_t;
typedef struct gnutls_x509_privkey_int *gnutls_x509_privkey_t;
typedef struct gnutls_privkey_st *gnutls_privkey_t;
typedef struct gnutls_pubkey_st *gnutls_pubkey_t;

extern void (*gnutls_free)(void *);
void gnutls_memset(void *data, int c, size_t size);
int gnutls_global_init(void);
const char *gnutls_check_version(const char *required);
const char *gnutls_strerror(int error);
unsigned gnutls_sign_is_secure2(int algorithm, unsigned int flags);
const int *gnutls_ecc_curve_list(void);

int gnutls_x509_privkey_init(gnutls_x509_privkey_t *key);
void gnutls_x509_privkey_deinit(gnutls_x509_privkey_t key);
int gnutls_x509_privkey_import_pkcs8(gnutls_x509_privkey_t key, const gnutls_datum_t *data, int format,
                                     const char *password, unsigned int flags);
int gnutls_x509_privkey_generate2(gnutls_x509_privkey_t key, int algorithm, unsigned int bits, unsigned int flags,
                                  const void *data, unsigned data_size);
int gnutls_x509_privkey_export2_pkcs8(gnutls_x509_privkey_t key, int format, const char *password, unsigned int flags,
                                      gnutls_datum_t *out);

int gnutls_privkey_init(gnutls_privkey_t *key);
void gnutls_privkey_deinit(gnutls_privkey_t key);
int gnutls_privkey_import_x509(gnutls_privkey_t pkey, gnutls_x509_privkey_t key, unsigned int flags);
int gnutls_privkey_export_ecc_raw2(gnutls_privkey_t key, int *curve, gnutls_datum_t *x, gnutls_datum_t *y,
                                   gnutls_datum_t *k, unsigned int flags);
int gnutls_privkey_sign_data2(gnutls_privkey_t signer, int algorithm, unsigned int flags, const gnutls_datum_t *data,
                              gnutls_datum_t *signature);

int gnutls_pubkey_init(gnutls_pubkey_t *key);
void gnutls_pubkey_deinit(gnutls_pubkey_t key);
int gnutls_pubkey_import(gnutls_pubkey_t key, const gnutls_datum_t *data, int format);
int gnutls_pubkey_import_privkey(gnutls_pubkey_t key, gnutls_privkey_t pkey, unsigned int usage, unsigned int flags);
int gnutls_pubkey_export2(gnutls_pubkey_t key, int format, gnutls_datum_t *out);
int gnutls_pubkey_get_pk_algorithm(gnutls_pubkey_t key, unsigned int *bits);
int gnutls_pubkey_export_ecc_raw2(gnutls_pubkey_t key, int *curve, gnutls_datum_t *x, gnutls_datum_t *y,
                                  unsigned int flags);
int gnutls_pubkey_verify_data2(gnutls_pubkey_t pubkey, int algorithm, unsigned int flags, const gnutls_datum_t *data,
                               const gnutls_datum_t *signature);
"""

_FORMAT_DER: Final = 0  # GNUTLS_X509_FMT_DER
_FORMAT_PEM: Final = 1  # GNUTLS_X509_FMT_PEM
_IMPORT_COPY: Final = 1 << 1  # GNUTLS_PRIVKEY_IMPORT_COPY
_PBES2_AES_256: Final = 1 << 7  # GNUTLS_PKCS_PBES2_AES_256
_SECURE_FOR_CERTIFICATES: Final = 1  # GNUTLS_SIGN_FLAG_SECURE_FOR_CERTS
_SIGN_FIXED_SALT: Final = 1 << 10  # GNUTLS_PRIVKEY_FLAG_RSA_PSS_FIXED_SALT_LENGTH
_VERIFY_FIXED_SALT: Final = 1 << 16  # GNUTLS_VERIFY_RSA_PSS_FIXED_SALT_LENGTH
_SIGNATURE_WRONG: Final = -89  # GNUTLS_E_PK_SIG_VERIFY_FAILED
_INSUFFICIENT_SECURITY: Final = -217  # GNUTLS_E_INSUFFICIENT_SECURITY
_UNKNOWN_KIND: Final = -80  # GNUTLS_E_UNKNOWN_PK_ALGORITHM: of a key that it has unlocked
_CONSTRAINT: Final = -101  # GNUTLS_E_CONSTRAINT_ERROR: PSS with a key that is too short for the hash
_DECRYPTION_FAILED: Final = -24  # GNUTLS_E_DECRYPTION_FAILED

# gnutls_sign_algorithm_t. PSS by the numbers that GnuTLS uses in certificates, not by TLS's "RSAE".
_SIGN: Final = {
    "sha256WithRSAEncryption": 6,
    "sha384WithRSAEncryption": 7,
    "sha512WithRSAEncryption": 8,
    "rsassaPss-sha256": 32,
    "rsassaPss-sha384": 33,
    "rsassaPss-sha512": 34,
    "ecdsa-with-SHA256": 14,
    "ecdsa-with-SHA384": 15,
    "ecdsa-with-SHA512": 16,
    "Ed25519": 35,
    "Ed448": 46,
}
# gnutls_pk_algorithm_t: kinds of keys as SignatureAlgorithm.key_kind has them.
_KINDS: Final = {1: "RSA", 4: "EC", 7: "Ed25519", 12: "Ed448"}
# gnutls_ecc_curve_t: the curve of each algorithm that needs one.
_CURVES: Final = {"ecdsa-with-SHA256": 2, "ecdsa-with-SHA384": 3, "ecdsa-with-SHA512": 4, "Ed25519": 7, "Ed448": 21}
_EDDSA_OCTETS: Final = {"Ed25519": 64, "Ed448": 114}


def _curve_bits(curve: int) -> int:
    """GNUTLS_CURVE_TO_BITS: how a curve is named where a size is expected."""
    return 1 << 31 | curve


# What `generate` makes: gnutls_pk_algorithm_t, bits, and the octets of an EC key's private value.
_MAKE: Final = {
    "RSA-2048": (1, 2048, 0),
    "RSA-3072": (1, 3072, 0),
    "RSA-4096": (1, 4096, 0),
    "P-256": (4, _curve_bits(2), 32),
    "P-384": (4, _curve_bits(3), 48),
    "P-521": (4, _curve_bits(4), 66),
    "Ed25519": (7, _curve_bits(7), 0),
    "Ed448": (12, _curve_bits(21), 0),
}


def load() -> GnuTls:
    """Raises ImportError or OSError where cffi or the library is not there, `Unavailable` where it does not start."""
    return GnuTls(_Library())


class _Failure(InternalError):
    """GnuTLS answered with this error. Where nobody expects one, it is a fault of our own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"GnuTLS says: {text}")
        self.code = code


class _Library:
    """The C library: its functions by name without `gnutls_`, its memory as bytes."""

    def __init__(self) -> None:
        self.ffi = _cffi()
        self.ffi.cdef(_DECLARATIONS)
        self._functions = self.ffi.dlopen(_SONAME)
        version = self._functions.gnutls_check_version(_OLDEST)
        if not version:
            raise _does_not_start(f"it is older than {_OLDEST.decode()}; install a newer one")
        # It started when it was loaded; this says how that went.
        started = self._functions.gnutls_global_init()
        if started < 0:
            raise _does_not_start(
                f"{self.failure(started)}; look at its configuration (/etc/gnutls/config) and into the system's log"
            )
        self.version = self._text(self._functions.gnutls_check_version(self.ffi.NULL))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self._functions, f"gnutls_{name}")
        return function

    def call(self, name: str, *arguments: Any) -> int:
        """Raises `_Failure` for every negative answer."""
        answer: int = getattr(self, name)(*arguments)
        if answer < 0:
            raise self.failure(answer)
        return answer

    def failure(self, code: int) -> _Failure:
        return _Failure(code, self._text(self._functions.gnutls_strerror(code)).rstrip("."))

    def _text(self, string: Any) -> str:
        octets: bytes = self.ffi.string(string)
        return octets.decode()

    def new(self, kind: str) -> Any:
        """A handle (x509_privkey, privkey or pubkey) that is released with its last reference."""
        place = self.ffi.new(f"gnutls_{kind}_t *")
        self.call(f"{kind}_init", place)
        return self.ffi.gc(place[0], getattr(self, f"{kind}_deinit"))

    def datum(self, octets: bytes) -> Any:
        """`octets` where they lie: to be passed on at once, while the caller still holds them."""
        return self.ffi.new("gnutls_datum_t *", (self.ffi.from_buffer("unsigned char[]", octets), len(octets)))

    def taking(self, name: str, *arguments: Any) -> bytes:
        """What a function writes to its last argument, a datum that it allocates."""
        datum = self.ffi.new("gnutls_datum_t *")
        self.call(name, *arguments, datum)
        try:
            return bytes(self.ffi.buffer(datum.data, datum.size))
        finally:
            self.free(datum.data)

    def enabled_curves(self) -> set[int]:
        curves = self.ecc_curve_list()
        # Zero ends the list.
        return set(itertools.takewhile(bool, (curves[place] for place in itertools.count())))


def _cffi() -> Any:
    """What calls the library; as `Any`, because its own types know nothing of what is declared to it."""
    import cffi  # noqa: PLC0415 # an extra: the other backends go without it

    return cffi.FFI()


def _does_not_start(reason: str) -> Unavailable:
    return Unavailable(
        f"the crypto backend gnutls cannot be used: {reason}", code="backend-missing", retry_after_s=_RETRY_AFTER_S
    )


class GnuTls:
    """The library, with what the configuration of this machine leaves of its algorithms."""

    name = "gnutls"

    def __init__(self, library: _Library) -> None:
        self._library = library
        curves = library.enabled_curves()
        self.signs: Sequence[SignatureAlgorithm] = tuple(
            each
            for each in ALGORITHMS
            if each.name in _SIGN
            and library.sign_is_secure2(_SIGN[each.name], _SECURE_FOR_CERTIFICATES)
            and (each.name not in _CURVES or _CURVES[each.name] in curves)
        )
        self.verifies = self.signs

    @property
    def version(self) -> str:
        return f"GnuTLS {self._library.version}"

    def open_store(self, settings: StoreSettings) -> GnuTlsKeyStore:
        return GnuTlsKeyStore(self._library, settings.passphrase, self.signs)

    def verify(self, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
        library = self._library
        if algorithm.name not in _SIGN:
            raise OperatorError(f"GnuTLS {library.version} does not know {algorithm.name}: name another library")
        # 1. The key, and whether it signs so at all.
        key = library.new("pubkey")
        try:
            library.call("pubkey_import", key, library.datum(public_key_info), _FORMAT_DER)
            kind = library.call("pubkey_get_pk_algorithm", key, library.ffi.NULL)
            check_public_key_info(public_key_info, is_rsa=_KINDS.get(kind) == "RSA")
        except (_Failure, PeerError) as error:
            raise OperatorError(f"this public key cannot be used: {error}") from error
        if _KINDS.get(kind) != algorithm.key_kind:
            raise SignatureInvalid(f"this key does not sign with {algorithm.name}")
        # 2. The form, about which GnuTLS is too generous.
        _check_form(algorithm, signature)
        # 3. The signature.
        try:
            library.call(
                "pubkey_verify_data2",
                key,
                _SIGN[algorithm.name],
                _VERIFY_FIXED_SALT if algorithm.is_pss else 0,
                library.datum(octets),
                library.datum(signature),
            )
        except _Failure as error:
            if error.code in (_SIGNATURE_WRONG, _CONSTRAINT):
                raise SignatureInvalid(f"the {algorithm.name} signature does not verify") from None
            if error.code == _INSUFFICIENT_SECURITY:
                raise OperatorError(
                    f"the configuration of GnuTLS on this machine (/etc/gnutls/config) forbids {algorithm.name}: allow "
                    "it there, or name another library"
                ) from error
            raise InternalError(f"verifying {algorithm.name}: {error}") from error


def _check_form(algorithm: SignatureAlgorithm, signature: bytes) -> None:
    if algorithm.key_kind == "EC":
        # RFC 3279 2.2.3: SEQUENCE of two INTEGERs, here in DER alone; whether they are in range, GnuTLS looks.
        try:
            numbers = der.elements(der.content(signature, der.SEQUENCE), at_most=2)
            values = [der.content(octets, der.INTEGER) for _, octets in numbers]
        except PeerError:
            raise SignatureInvalid(f"the {algorithm.name} signature is no DER of two numbers") from None
        if len(values) != 2 or not all(_is_positive(value) for value in values):  # noqa: PLR2004 # r and s
            raise SignatureInvalid(f"the {algorithm.name} signature is no DER of two positive numbers")
    elif algorithm.name in _EDDSA_OCTETS:
        if len(signature) != _EDDSA_OCTETS[algorithm.name]:
            raise SignatureInvalid(f"the {algorithm.name} signature has {len(signature)} octets")
        # RFC 8032 5.2.6 step 5: the last octet is zero (S is less than the group's order; GnuTLS looks at the others).
        if algorithm.name == "Ed448" and signature[-1]:
            raise SignatureInvalid("the last octet of an Ed448 signature is zero")


def _is_positive(value: bytes) -> bool:
    """Whether this is a positive INTEGER in the fewest octets (X.690 8.3.2)."""
    if not value or value[0] & 0x80:
        return False
    return value[0] != 0 or (len(value) > 1 and bool(value[1] & 0x80))


class GnuTlsKeyStore:
    """Key files, unlocked with one passphrase."""

    def __init__(self, library: _Library, passphrase: SecretSource, supported: Sequence[SignatureAlgorithm]) -> None:
        self._library = library
        self._passphrase = passphrase
        self._supported = supported

    def list_keys(self) -> Sequence[KeyUri]:
        """None: files are named one by one."""
        return ()

    def open(self, uri: KeyUri) -> CaKey:
        path = key_path(uri)
        octets = read_key_file(path)
        library = self._library
        key = library.new("x509_privkey")
        with self._passphrase.read() as passphrase, self._c_string(passphrase) as password:
            plain = passphrase.isascii()
            try:
                library.call("x509_privkey_import_pkcs8", key, library.datum(octets), _FORMAT_PEM, password, 0)
            except _Failure as error:
                raise self._cannot_open(path, error, plain=plain) from error
        return self._key(key, path)

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        path = key_path(uri)
        if key_algorithm not in _MAKE:
            raise OperatorError(
                f"{path}: GnuTLS {self._library.version} makes no {key_algorithm} keys; let another backend make it"
            )
        library = self._library
        with self._passphrase.read() as passphrase, self._c_string(passphrase) as password:
            if not passphrase.isascii():
                raise OperatorError(
                    f"{path}: {self._passphrase.what} has characters beyond ASCII, which GnuTLS changes: other "
                    "libraries could not open this file; take another passphrase, or let another backend make the key"
                )
            try:
                key = self._make(key_algorithm)
                encrypted = library.taking("x509_privkey_export2_pkcs8", key, _FORMAT_PEM, password, _PBES2_AES_256)
            except _Failure as error:
                raise OperatorError(f"{path}: cannot make a {key_algorithm} key: {error}") from error
        with files.new_file(path) as stream:
            stream.write(encrypted)
        return self._key(key, path)

    def close(self) -> None:
        """Nothing is open."""

    def _make(self, key_algorithm: str) -> Any:
        library = self._library
        kind, bits, value_octets = _MAKE[key_algorithm]
        while True:
            key = library.new("x509_privkey")
            library.call("x509_privkey_generate2", key, kind, bits, 0, library.ffi.NULL, 0)
            # GnuTLS 3.7 writes an EC key's private value as an INTEGER's octets: no leading zeros, but one where the
            # top bit is set. RFC 5915 3 wants as many octets as the group's order has, and OpenSSL insists. So a key
            # that would come out longer or shorter (each second one) is thrown away, for half a bit of strength.
            if not value_octets or self._private_value_octets(key) == value_octets:
                return key

    def _private_value_octets(self, x509_key: Any) -> int:
        library = self._library
        key = library.new("privkey")
        library.call("privkey_import_x509", key, x509_key, _IMPORT_COPY)
        value = library.ffi.new("gnutls_datum_t *")
        null = library.ffi.NULL
        library.call("privkey_export_ecc_raw2", key, null, null, null, value, 0)
        library.memset(value.data, 0, value.size)
        library.free(value.data)
        size: int = value.size
        return size

    @contextmanager
    def _c_string(self, passphrase: bytearray) -> Iterator[Any]:
        """The passphrase with the NUL that ends it in C, wiped when the block ends."""
        if 0 in passphrase:
            raise OperatorError(
                f"{self._passphrase.what} has a NUL octet, where GnuTLS would end it: take another passphrase, or "
                "another backend"
            )
        terminated = bytearray(len(passphrase) + 1)
        terminated[: len(passphrase)] = passphrase
        view = self._library.ffi.from_buffer("char[]", terminated)
        try:
            yield view
        finally:
            self._library.ffi.release(view)
            wipe(terminated)

    def _cannot_open(self, path: Path, error: _Failure, *, plain: bool) -> OperatorError:
        """Why a file of the right armour was not taken, as far as GnuTLS tells: for a passphrase and a curve alike."""
        if error.code == _UNKNOWN_KIND:
            return OperatorError(
                f"{path}: GnuTLS {self._library.version} knows no keys of this kind: name another backend for its "
                'sub-CA in signer.toml, with verify_with = "none" if no second one knows it either'
            )
        reason = f"{locked(path)} ({error})"
        if error.code != _DECRYPTION_FAILED:
            reason += (
                f"; or this is nothing for GnuTLS {self._library.version}: it takes RSA, P-256, P-384, P-521, Ed25519 "
                "and Ed448 in PKCS#8 with PBES2, not scrypt: name another backend"
            )
        elif not plain:
            reason += "; GnuTLS changes some characters beyond ASCII in passphrases: name another backend"
        elif not self._library.enabled_curves().issuperset(_CURVES.values()):
            reason += "; or a curve that its configuration on this machine (/etc/gnutls/config) disables"
        return OperatorError(reason)

    def _key(self, x509_key: Any, path: Path) -> _Key:
        library = self._library
        key = library.new("privkey")
        public = library.new("pubkey")
        try:
            # A copy: what it was copied from is wiped and released by the library when this returns.
            library.call("privkey_import_x509", key, x509_key, _IMPORT_COPY)
            library.call("pubkey_import_privkey", public, key, 0, 0)
            kind = _KINDS.get(library.call("pubkey_get_pk_algorithm", public, library.ffi.NULL), "")
            curve = self._curve(public) if kind == "EC" else 0
            public_key_info = library.taking("pubkey_export2", public, _FORMAT_DER)
        except _Failure as error:
            raise OperatorError(f"{path}: this CA key cannot be used: {error}") from error
        supported = tuple(
            each for each in self._supported if each.key_kind == kind and curve in (0, _CURVES.get(each.name))
        )
        if not supported:
            raise OperatorError(
                f"{path}: GnuTLS cannot sign with this CA key: take RSA (not id-RSASSA-PSS), P-256, P-384, P-521, "
                "Ed25519 or Ed448, look at what /etc/gnutls/config forbids, or name another backend"
            )
        return _Key(library, key, path, supported, public_key_info)

    def _curve(self, public: Any) -> int:
        curve = self._library.ffi.new("int *")
        null = self._library.ffi.NULL
        self._library.call("pubkey_export_ecc_raw2", public, curve, null, null, 0)
        found: int = curve[0]
        return found


class _Key:
    def __init__(
        self,
        library: _Library,
        key: Any,
        path: Path,
        supported: Sequence[SignatureAlgorithm],
        public_key_info: bytes,
    ) -> None:
        self._library = library
        self._key = key
        self._path = path
        self.algorithms = supported
        self.public_key_info = public_key_info

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        if algorithm not in self.algorithms:
            raise InternalError(f"this key does not sign with {algorithm.name}")
        library = self._library
        try:
            return library.taking(
                "privkey_sign_data2",
                self._key,
                _SIGN[algorithm.name],
                _SIGN_FIXED_SALT if algorithm.is_pss else 0,
                library.datum(octets),
            )
        except _Failure as error:
            raise OperatorError(
                f"{self._path}: cannot sign with {algorithm.name}: {error}; restore this key from its backup, or let "
                "another backend sign"
            ) from error
