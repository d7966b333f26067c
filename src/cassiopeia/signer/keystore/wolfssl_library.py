"""libwolfssl through cffi: which of its functions are called, and what they demand of whoever calls them.

ABI mode: nothing is compiled, so these declarations are those of wolfSSL 5.5's headers, and only the library with that
soname is taken. No structure's layout is declared: wolfSSL allocates what it works with. The one exception is the
public half of an EdDSA key, for which this version has no function that allocates.

wolfSSL's objects may be used by one thread at a time, also for signing (an `RsaKey` keeps its state while it works:
16 threads on one key got wrong signatures, reported as good). Nothing here locks: the owner of an object does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from cassiopeia.errors import InternalError, OperatorError
from cassiopeia.secret_source import wipe

if TYPE_CHECKING:
    from cffi import FFI

SONAME: Final = "libwolfssl.so.35"

SUCCESS: Final = 1
"""What the functions called wolfSSL_... return; those called wc_... return 0."""
RSA_LOAD_PRIVATE: Final = 1
RSA_LOAD_PUBLIC: Final = 2
RSA_PKCS1_PADDING: Final = 0
RSA_PKCS1_PSS_PADDING: Final = 2

_DECLARATIONS: Final = """
typedef struct WOLFSSL_RSA WOLFSSL_RSA;
typedef struct WOLFSSL_BIGNUM WOLFSSL_BIGNUM;
typedef struct ecc_key ecc_key;
typedef struct ecc_point ecc_point;
typedef struct WC_RNG WC_RNG;

int wolfSSL_Init(void);
const char* wolfSSL_lib_version(void);
const char* wc_GetErrorString(int error);
void wolfSSL_ERR_clear_error(void);
void wolfSSL_OPENSSL_cleanse(void* ptr, size_t len);

int wc_Sha256Hash(const unsigned char* data, unsigned int len, unsigned char* hash);
int wc_Sha384Hash(const unsigned char* data, unsigned int len, unsigned char* hash);
int wc_Sha512Hash(const unsigned char* data, unsigned int len, unsigned char* hash);

WC_RNG* wc_rng_new(unsigned char* nonce, unsigned int nonceSz, void* heap);
void wc_rng_free(WC_RNG* rng);
int wc_RNG_GenerateBlock(WC_RNG* rng, unsigned char* b, unsigned int sz);

int wc_DecryptPKCS8Key(unsigned char* input, unsigned int sz, const char* password, int passwordSz);
int wc_PBKDF2(unsigned char* output, const unsigned char* passwd, int pLen, const unsigned char* salt, int sLen,
              int iterations, int kLen, int typeH);
int wc_AesCbcEncryptWithKey(unsigned char* out, const unsigned char* in, unsigned int inSz, const unsigned char* key,
                            unsigned int keySz, const unsigned char* iv);

WOLFSSL_RSA* wolfSSL_RSA_new(void);
void wolfSSL_RSA_free(WOLFSSL_RSA* rsa);
int wolfSSL_RSA_LoadDer_ex(WOLFSSL_RSA* rsa, const unsigned char* derBuf, int derSz, int opt);
int wolfSSL_RSA_bits(const WOLFSSL_RSA* rsa);
int wolfSSL_RSA_size(const WOLFSSL_RSA* rsa);
int wolfSSL_i2d_RSAPublicKey(WOLFSSL_RSA* rsa, unsigned char** pp);
int wolfSSL_i2d_RSAPrivateKey(WOLFSSL_RSA* rsa, unsigned char** pp);
int wolfSSL_RSA_generate_key_ex(WOLFSSL_RSA* rsa, int bits, WOLFSSL_BIGNUM* bn, void* cb);
int wolfSSL_RSA_sign_generic_padding(int type, const unsigned char* m, unsigned int mLen, unsigned char* sigRet,
                                     unsigned int* sigLen, WOLFSSL_RSA* rsa, int flag, int padding);
int wolfSSL_RSA_verify_ex(int type, const unsigned char* m, unsigned int mLen, const unsigned char* sig,
                          unsigned int sigLen, WOLFSSL_RSA* rsa, int padding);
WOLFSSL_BIGNUM* wolfSSL_BN_new(void);
void wolfSSL_BN_free(WOLFSSL_BIGNUM* bn);
int wolfSSL_BN_set_word(WOLFSSL_BIGNUM* bn, unsigned long w);

ecc_key* wc_ecc_key_new(void* heap);
void wc_ecc_key_free(ecc_key* key);
int wc_ecc_set_rng(ecc_key* key, WC_RNG* rng);
int wc_ecc_make_key_ex(WC_RNG* rng, int keysize, ecc_key* key, int curve_id);
int wc_ecc_make_pub_ex(ecc_key* key, ecc_point* pubOut, WC_RNG* rng);
int wc_ecc_check_key(ecc_key* key);
int wc_ecc_import_x963_ex(const unsigned char* in, unsigned int inLen, ecc_key* key, int curve_id);
int wc_EccPrivateKeyDecode(const unsigned char* input, unsigned int* inOutIdx, ecc_key* key, unsigned int inSz);
int wc_EccPublicKeyToDer(ecc_key* key, unsigned char* output, unsigned int inLen, int with_AlgCurve);
int wc_EccKeyToPKCS8(ecc_key* key, unsigned char* output, unsigned int* outLen);
int wc_ecc_sign_hash(const unsigned char* in, unsigned int inlen, unsigned char* out, unsigned int* outlen,
                     WC_RNG* rng, ecc_key* key);
int wc_ecc_verify_hash(const unsigned char* sig, unsigned int siglen, const unsigned char* hash, unsigned int hashlen,
                       int* res, ecc_key* key);
void wc_ecc_fp_free(void);

int wc_ed25519_init(void* key);
int wc_ed25519_import_private_only(const unsigned char* priv, unsigned int privSz, void* key);
int wc_ed25519_make_public(void* key, unsigned char* pubKey, unsigned int pubKeySz);
void wc_ed25519_free(void* key);
int wolfSSL_ED25519_generate_key(unsigned char* priv, unsigned int* privSz, unsigned char* pub, unsigned int* pubSz);
int wolfSSL_ED25519_sign(const unsigned char* msg, unsigned int msgSz, const unsigned char* priv, unsigned int privSz,
                         unsigned char* sig, unsigned int* sigSz);
int wolfSSL_ED25519_verify(const unsigned char* msg, unsigned int msgSz, const unsigned char* pub, unsigned int pubSz,
                           const unsigned char* sig, unsigned int sigSz);

int wc_ed448_init(void* key);
int wc_ed448_import_private_only(const unsigned char* priv, unsigned int privSz, void* key);
int wc_ed448_make_public(void* key, unsigned char* pubKey, unsigned int pubKeySz);
void wc_ed448_free(void* key);
int wolfSSL_ED448_generate_key(unsigned char* priv, unsigned int* privSz, unsigned char* pub, unsigned int* pubSz);
int wolfSSL_ED448_sign(const unsigned char* msg, unsigned int msgSz, const unsigned char* priv, unsigned int privSz,
                       unsigned char* sig, unsigned int* sigSz);
int wolfSSL_ED448_verify(const unsigned char* msg, unsigned int msgSz, const unsigned char* pub, unsigned int pubSz,
                         const unsigned char* sig, unsigned int sigSz);
"""

# obj_mac.h's numbers, which wolfSSL took over, and how many octets the hash has.
_HASHES: Final = {"sha256": (672, 32), "sha384": (673, 48), "sha512": (674, 64)}
# enum wc_HashType.
_WC_SHA256: Final = 6

# ed25519_key has 368 octets here and ed448_key 616; room for many times that, and a look whether it was enough.
_WORKSPACE_OCTETS: Final = 8192
_UNTOUCHED: Final = b"\xa5" * 4096


class Library:
    """The loaded library. `ffi` makes the objects that its functions take, `functions` are these."""

    def __init__(self) -> None:
        """Raise ImportError or OSError when it is not there, or was built without what is needed."""
        from cffi import FFI  # noqa: PLC0415 - an extra, missed only where somebody asks for this backend

        self.ffi: FFI = FFI()
        self.ffi.cdef(_DECLARATIONS)
        self.functions = cast("Any", self.ffi.dlopen(SONAME))
        for name in dir(self.functions):
            try:
                getattr(self.functions, name)
            except AttributeError as error:
                raise ImportError(f"this {SONAME} was built without {name}") from error
        if self.functions.wolfSSL_Init() != SUCCESS:
            raise OSError(f"{SONAME} does not start")
        self._of_thread = threading.local()

    @property
    def version(self) -> str:
        return "wolfSSL " + self._text(self.functions.wolfSSL_lib_version())

    def explain(self, code: int) -> str:
        """What an error code of a wc_... function means."""
        return self._text(self.functions.wc_GetErrorString(code))

    def digest(self, hash_name: str, octets: bytes) -> tuple[int, bytes]:
        """The hash, behind the number by which wolfSSL's RSA functions call it."""
        number, length = _HASHES[hash_name]
        out = self.ffi.new("unsigned char[]", length)
        compute = getattr(self.functions, f"wc_{hash_name.capitalize()}Hash")
        self.check(compute(octets, len(octets), out), "hash")
        return number, bytes(self.ffi.buffer(out))

    def check(self, code: int, doing: str) -> None:
        """Raise `InternalError` unless a wc_... function has done what cannot fail but for its own fault."""
        if code != 0:
            raise InternalError(f"wolfSSL cannot {doing}: {self.explain(code)}")

    def random_numbers(self) -> Any:
        """A generator of its own for one owner: they must not be shared between threads either."""
        return self.owned(self.functions.wc_rng_new(self.ffi.NULL, 0, self.ffi.NULL), self.functions.wc_rng_free)

    def random(self, count: int) -> bytes:
        out = self.ffi.new("unsigned char[]", count)
        self.check(self.functions.wc_RNG_GenerateBlock(self.random_numbers(), out, count), "make random numbers")
        return bytes(self.ffi.buffer(out))

    def owned(self, pointer: Any, free: Callable[[Any], None]) -> Any:
        """What wolfSSL has allocated, to be freed (and overwritten) when nobody holds it, or by `ffi.release`."""
        if pointer == self.ffi.NULL:
            raise InternalError("wolfSSL has no memory")
        return self.ffi.gc(pointer, free)

    def secret(self, count: int) -> Any:
        """Octets that are overwritten before they are freed."""
        return self.owned(
            self.ffi.new("unsigned char[]", count),
            lambda octets: self.functions.wolfSSL_OPENSSL_cleanse(octets, count),
        )

    def elliptic_key(self) -> Any:
        """A new `ecc_key`."""
        self.keep_tables()
        return self.owned(self.functions.wc_ecc_key_new(self.ffi.NULL), self.functions.wc_ecc_key_free)

    def keep_tables(self) -> None:
        """To be called in a thread before it computes with elliptic curves.

        wolfSSL keeps tables of points for each such thread, 0.8 MB, and only this thread can free them: it does so
        when it ends.
        """
        if not hasattr(self._of_thread, "tables"):
            self._of_thread.tables = _Tables(self.functions.wc_ecc_fp_free)

    def decrypt(self, encrypted: bytearray, passphrase: bytearray) -> int:
        """Decrypt a PKCS#8 EncryptedPrivateKeyInfo in its place; gives the length, or 0 if it cannot be unlocked."""
        ffi = self.ffi
        with ffi.from_buffer("unsigned char[]", encrypted) as octets, ffi.from_buffer("char[]", passphrase) as secret:
            length: int = self.functions.wc_DecryptPKCS8Key(octets, len(encrypted), secret, len(passphrase))
        self.functions.wolfSSL_ERR_clear_error()
        return max(length, 0)

    def encrypt(self, padded: bytearray, passphrase: bytearray, salt: bytes, iterations: int, vector: bytes) -> bytes:
        """AES-256-CBC with a key that PBKDF2 makes with HMAC-SHA-256 (RFC 8018 6.2)."""
        ffi, functions = self.ffi, self.functions
        key = bytearray(32)
        out = ffi.new("unsigned char[]", len(padded))
        try:
            with ffi.from_buffer("unsigned char[]", key) as keyed:
                with ffi.from_buffer("unsigned char[]", passphrase) as secret:
                    code = functions.wc_PBKDF2(
                        keyed, secret, len(passphrase), salt, len(salt), iterations, len(key), _WC_SHA256
                    )
                self.check(code, "make a key of a passphrase")
                with ffi.from_buffer("unsigned char[]", padded) as octets:
                    code = functions.wc_AesCbcEncryptWithKey(out, octets, len(padded), keyed, len(key), vector)
                self.check(code, "encrypt")
        finally:
            wipe(key)
        return bytes(ffi.buffer(out))

    def edwards_public(self, kind: str, seed: Any, size: int) -> bytes:
        """The public half of an Ed25519 or Ed448 key, of which `seed` points to the private one."""
        ffi, functions, name = self.ffi, self.functions, kind.lower()
        workspace = self.secret(_WORKSPACE_OCTETS)
        whole = ffi.buffer(workspace, _WORKSPACE_OCTETS)
        whole[-len(_UNTOUCHED) :] = _UNTOUCHED
        public = ffi.new("unsigned char[]", size)
        self.check(getattr(functions, f"wc_{name}_init")(workspace), "make room for a key")
        try:
            code = getattr(functions, f"wc_{name}_import_private_only")(seed, size, workspace)
            self.check(code, "take a private key")
            self.check(getattr(functions, f"wc_{name}_make_public")(workspace, public, size), "make a public key")
        finally:
            getattr(functions, f"wc_{name}_free")(workspace)
        if whole[-len(_UNTOUCHED) :] != _UNTOUCHED:
            raise InternalError(f"{SONAME} needs more room for a key than it ever did: it is another version")
        return bytes(ffi.buffer(public))

    def _text(self, pointer: Any) -> str:
        octets = self.ffi.string(pointer)
        return octets.decode("ascii", "replace") if isinstance(octets, bytes) else octets


class _Tables:
    """Frees what wolfSSL keeps for a thread, in this thread: it dies with the thread's local variables."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free = free

    def __del__(self) -> None:
        self._free()


def damaged(what: str) -> OperatorError:
    """For a key with which wolfSSL cannot work although it is of a kind that it takes."""
    return OperatorError(f"{what}: this key is damaged: restore it from its backup, or let another library sign")
