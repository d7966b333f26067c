"""Keys in a token: found by their URI, with their public key and what the token can do with them, and made.

Owns how PKCS#11 objects become what X.509 knows: a SubjectPublicKeyInfo, and signatures as RFC 3279 and RFC 8410 want
them. Octets are hashed here and not in the token, where it can sign hashes: fewer of them have to get there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm, algorithms_for
from cassiopeia.core.key_uri import Pkcs11Uri
from cassiopeia.errors import OperatorError, Refused

with contextlib.suppress(ImportError):
    import pkcs11

SIGNED_WITH: Final = tuple(each for each in ALGORITHMS if each.key_kind in ("RSA", "EC", "Ed25519", "Ed448"))
"""What can be asked of a token; which of it one token can do is in its list of mechanisms."""

# CKA_PUBLIC_KEY_INFO (PKCS#11 2.40, 4.9), which python-pkcs11 has no name for.
PUBLIC_KEY_INFO: Final = 0x129

# RFC 8017 9.2, note 1: what stands before the hash.
_DIGEST_INFO: Final = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
# CKA_EC_PARAMS: the object identifier of the curve; some tokens name the Edwards ones (PKCS#11 3.0, 2.3.7).
_CURVES: Final = {
    "06082a8648ce3d030107": "P-256",
    "06052b81040022": "P-384",
    "06052b81040023": "P-521",
    "06032b6570": "Ed25519",
    "130c656477617264733235353139": "Ed25519",
    "06032b6571": "Ed448",
    "130a65647761726473343438": "Ed448",
}
_WEIERSTRASS: Final[dict[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_PARAMETERS: Final = {name: bytes.fromhex(octets) for octets, name in reversed(_CURVES.items())}
_RSA_BITS: Final = {"RSA-2048": 2048, "RSA-3072": 3072, "RSA-4096": 4096}
_KINDS: Final = (*_RSA_BITS, *_PARAMETERS)
_IDENTIFIER_OCTETS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Mechanism:
    """How a token is asked for one kind of signature: with the hash made here (`prefix` before it), or by itself."""

    mechanism: pkcs11.Mechanism
    parameters: Any = None
    hashed_here: bool = False
    prefix: bytes = b""


def find_key(session: pkcs11.Session, uri: Pkcs11Uri) -> pkcs11.PrivateKey:
    """The one private key that the URI names; raises `pkcs11.NoSuchKey`, and `OperatorError` when it is not the one."""
    found = list(session.get_objects(_private(uri)))
    if not found:
        raise pkcs11.NoSuchKey
    if len(found) > 1:
        raise OperatorError(f"{uri}: {len(found)} private keys in the token match: name it more closely, with id=")
    key = found[0]
    if not isinstance(key, pkcs11.PrivateKey) or not hasattr(key, "sign"):
        raise OperatorError(f"{uri}: this key must not sign, says its token (CKA_SIGN): take one that may")
    return key


def no_such_key(session: pkcs11.Session, uri: Pkcs11Uri) -> OperatorError:
    """For a key that is not in a token that is there; names those that are."""
    names = sorted({_label(each) for each in session.get_objects({pkcs11.Attribute.CLASS: _class("PRIVATE_KEY")})})
    there = f"it has {', '.join(map(repr, names))}" if names else "it has none that this PIN shows"
    return OperatorError(f"{uri}: there is no such private key in the token: {there}; mend object= or id=")


def key_uris(session: pkcs11.Session, token: Pkcs11Uri, *, logged_in: bool) -> list[Pkcs11Uri]:
    """A URI for each private key. Without a login those that have a public key beside them are seen by it."""
    wanted = {pkcs11.Attribute.CLASS: _class("PRIVATE_KEY" if logged_in else "PUBLIC_KEY")}
    return [
        Pkcs11Uri(
            token=token.token,
            serial=token.serial,
            label=_label(each),
            identifier=_attribute(each, pkcs11.Attribute.ID) or b"",
        )
        for each in session.get_objects(wanted)
    ]


def read_public_key(session: pkcs11.Session, key: pkcs11.PrivateKey, uri: Pkcs11Uri) -> PublicKeyTypes:
    """From the public key beside it, from the private key's own attributes, or from a certificate in the token.

    Whether it is the right one shows when the key's owner compares it with a certificate, and by a signature.
    """
    kind_of_key = _attribute(key, pkcs11.Attribute.KEY_TYPE)
    if kind_of_key is None:
        raise OperatorError(f"{uri}: no CA signs with a key of this kind: take one of {', '.join(_KINDS)}")
    identifier, label = _attribute(key, pkcs11.Attribute.ID), _attribute(key, pkcs11.Attribute.LABEL)
    beside: dict[pkcs11.Attribute, Any] = {}
    if identifier:
        beside = {pkcs11.Attribute.ID: identifier}
    elif label:
        beside = {pkcs11.Attribute.LABEL: label}
    publics: list[Any] = []
    certificates: list[Any] = []
    if beside:
        kind = {pkcs11.Attribute.KEY_TYPE: kind_of_key}
        publics = list(session.get_objects({pkcs11.Attribute.CLASS: _class("PUBLIC_KEY"), **kind, **beside}))
        certificates = list(session.get_objects({pkcs11.Attribute.CLASS: _class("CERTIFICATE"), **beside}))
    for each in (*(publics if len(publics) == 1 else ()), key):
        public_key = _public_key(each)
        if public_key is not None:
            return public_key
    for each in certificates:
        octets = _attribute(each, pkcs11.Attribute.VALUE)
        if octets:
            with contextlib.suppress(ValueError, UnsupportedAlgorithm):
                return x509.load_der_x509_certificate(octets).public_key()
    parameters = _attribute(key, pkcs11.Attribute.EC_PARAMS)
    if parameters and parameters.hex() not in _CURVES:
        raise OperatorError(f"{uri}: no CA signs with a key on this curve: take one of {', '.join(_PARAMETERS)}")
    raise OperatorError(
        f"{uri}: the token has no public key for this private key: write it, or a certificate, into the token with "
        f"the same id"
    )


def mechanisms(token: pkcs11.Token, public_key: PublicKeyTypes, uri: Pkcs11Uri) -> dict[SignatureAlgorithm, Mechanism]:
    """What this token can sign with by a key of this kind, and how; raises OperatorError."""
    there = token.slot.get_mechanisms()
    try:
        algorithms = algorithms_for(public_key)
    except Refused as refusal:
        raise OperatorError(f"{uri}: {refusal.message}") from refusal
    found = {}
    for algorithm in algorithms:
        for each in _ways(algorithm):
            if each.mechanism in there:
                found[algorithm] = each
                break
    if not found:
        raise OperatorError(f"{uri}: this token signs with no algorithm that a key of this kind is used with here")
    return found


def sign(key: pkcs11.PrivateKey, algorithm: SignatureAlgorithm, way: Mechanism, octets: bytes, pin: Any) -> bytes:
    """A signature as X.509 wants it; `pin` for a key that wants it for each signature, else None."""
    if way.hashed_here:
        octets = way.prefix + hashlib.new(algorithm.hash_name, octets).digest()
    signature: bytes = key.sign(  # type: ignore[attr-defined] # find_key has looked
        octets, mechanism=way.mechanism, mechanism_param=way.parameters, pin=pin
    )
    if algorithm.key_kind != "EC":
        return signature
    # PKCS#11 2.40, 2.3.1: r and s, each as long as the other. RFC 3279 2.2.3 wants them in DER.
    half, odd = divmod(len(signature), 2)
    if odd or not half:
        # No signature at all: whoever verifies it says so, and then its sub-CA signs no more.
        return signature
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))


def wants_pin_each_time(key: pkcs11.PrivateKey) -> bool:
    return bool(_attribute(key, pkcs11.Attribute.ALWAYS_AUTHENTICATE))


def generate(session: pkcs11.Session, uri: Pkcs11Uri, key_algorithm: str) -> None:
    """Make a key pair in the token; the private key never leaves it. Raises OperatorError."""
    identifier = uri.identifier or os.urandom(_IDENTIFIER_OCTETS)
    # 1. Nothing is overwritten, and no name given twice: PKCS#11 itself would not mind.
    for attribute, value in ((pkcs11.Attribute.LABEL, uri.label), (pkcs11.Attribute.ID, identifier)):
        if value and list(session.get_objects({attribute: value})):
            raise OperatorError(f"{uri}: is there already, and nothing is overwritten: choose another object= or id=")
    # 2. The pair.
    made: dict[str, Any] = {
        "id": identifier,
        "label": uri.label,
        "store": True,
        "capabilities": pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
        "public_template": {pkcs11.Attribute.PRIVATE: False},
        "private_template": {
            pkcs11.Attribute.PRIVATE: True,
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
        },
    }
    try:
        public, private = _generate_pair(session, key_algorithm, made)
    except (pkcs11.MechanismInvalid, pkcs11.KeySizeRange, pkcs11.DomainParamsInvalid, pkcs11.FunctionNotSupported) as e:
        raise OperatorError(f"{uri}: this token makes no {key_algorithm} keys ({type(e).__name__})") from e
    # 3. Some tokens take a template and do something else.
    if not _attribute(private, pkcs11.Attribute.SENSITIVE) or _attribute(private, pkcs11.Attribute.EXTRACTABLE):
        private.destroy()
        public.destroy()
        raise OperatorError(f"{uri}: this token makes only keys that can be taken out of it: no key was made")


def _generate_pair(session: pkcs11.Session, key_algorithm: str, made: dict[str, Any]) -> tuple[Any, Any]:
    if key_algorithm in _RSA_BITS:
        return session.generate_keypair(pkcs11.KeyType.RSA, _RSA_BITS[key_algorithm], **made)
    if key_algorithm not in _PARAMETERS:
        raise OperatorError(f"no {key_algorithm} keys are made in tokens: take one of {', '.join(_KINDS)}")
    kind = pkcs11.KeyType.EC if key_algorithm in _WEIERSTRASS else pkcs11.KeyType.EC_EDWARDS
    curve = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: _PARAMETERS[key_algorithm]}, local=True)
    return curve.generate_keypair(**made)


def _ways(algorithm: SignatureAlgorithm) -> Iterable[Mechanism]:
    """What the token may be asked for, the best first."""
    known = pkcs11.Mechanism
    name = algorithm.hash_name.upper()
    if algorithm.is_pss:
        # RFC 4055 3.1: the salt is as long as the hash.
        parameters = (known[name], pkcs11.MGF[name], hashlib.new(algorithm.hash_name).digest_size)
        yield Mechanism(mechanism=known.RSA_PKCS_PSS, parameters=parameters, hashed_here=True)
        yield Mechanism(mechanism=known[f"{name}_RSA_PKCS_PSS"], parameters=parameters)
    elif algorithm.key_kind == "RSA":
        yield Mechanism(mechanism=known.RSA_PKCS, hashed_here=True, prefix=_DIGEST_INFO[algorithm.hash_name])
        yield Mechanism(mechanism=known[f"{name}_RSA_PKCS"])
    elif algorithm.key_kind == "EC":
        yield Mechanism(mechanism=known.ECDSA, hashed_here=True)
        yield Mechanism(mechanism=known[f"ECDSA_{name}"])
    elif algorithm.key_kind in ("Ed25519", "Ed448"):
        # PKCS#11 3.0, 2.3.14: plain Ed25519 has no parameters. Ed448 has them, but libraries take it without.
        yield Mechanism(mechanism=known.EDDSA)


def _public_key(object_: Any) -> PublicKeyTypes | None:
    """What the attributes of a public or private key say."""
    octets = _attribute(object_, PUBLIC_KEY_INFO)
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        if octets:
            return load_der_public_key(octets)
    modulus = _attribute(object_, pkcs11.Attribute.MODULUS)
    exponent = _attribute(object_, pkcs11.Attribute.PUBLIC_EXPONENT)
    with contextlib.suppress(ValueError):
        if modulus and exponent:
            numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
            return numbers.public_key()
    curve = _CURVES.get((_attribute(object_, pkcs11.Attribute.EC_PARAMS) or b"").hex())
    point = _attribute(object_, pkcs11.Attribute.EC_POINT)
    if curve and point:
        # The point is in an OCTET STRING, but some tokens leave that out, or take a BIT STRING for it.
        for each in (_string(0x04, point), _string(0x03, point)[1:], point):
            with contextlib.suppress(ValueError):
                return _point(curve, each)
    return None


def _point(curve: str, octets: bytes) -> PublicKeyTypes:
    if curve == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(octets)
    if curve == "Ed448":
        return ed448.Ed448PublicKey.from_public_bytes(octets)
    return ec.EllipticCurvePublicKey.from_encoded_point(_WEIERSTRASS[curve], octets)


def _string(tag: int, octets: bytes) -> bytes:
    """What is in an OCTET STRING (4) or BIT STRING (3); of another thing nothing."""
    if octets[:1] != bytes((tag,)):
        return b""
    # Lengths of these points: one octet, or for P-521 two.
    header = 3 if octets[1:2] == b"\x81" else 2
    content = octets[header:]
    return content if octets[header - 1 : header] == bytes((len(content) & 0xFF,)) else b""


def _private(uri: Pkcs11Uri) -> dict[pkcs11.Attribute, Any]:
    template: dict[pkcs11.Attribute, Any] = {pkcs11.Attribute.CLASS: _class("PRIVATE_KEY")}
    if uri.label:
        template[pkcs11.Attribute.LABEL] = uri.label
    if uri.identifier:
        template[pkcs11.Attribute.ID] = uri.identifier
    return template


def _class(name: str) -> pkcs11.ObjectClass:
    return pkcs11.ObjectClass[name]


def _label(object_: Any) -> str:
    return str(_attribute(object_, pkcs11.Attribute.LABEL) or "")


def _attribute(object_: Any, attribute: int) -> Any:
    """One attribute, or None where the object has none, does not show it, or has one that nobody else knows."""
    try:
        return object_[attribute]
    except (
        pkcs11.AttributeTypeInvalid,
        pkcs11.AttributeSensitive,
        pkcs11.FunctionFailed,
        ValueError,
        struct.error,
    ):
        return None


def public_key_info(public_key: PublicKeyTypes) -> bytes:
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
