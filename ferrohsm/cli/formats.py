"""Keys and certificates as files, and as the attributes of objects.

Reading and writing PEM, DER, PKCS#8, PKCS#12 and OpenSSH is `cryptography`'s; this module says which
attributes each thing becomes. The parameters of a curve and the point are taken from the DER of the
``SubjectPublicKeyInfo``, so there is no table of curves here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes
from ferrohsm.attribute_kinds import ulong
from ferrohsm.cli.terminal import CommandError
from ferrohsm.ec_encoding import normal_parameters, normal_point, raw_point

Password = Callable[[], bytes]

_EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")
_EDWARDS = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
_MONTGOMERY = (x25519.X25519PublicKey, x448.X448PublicKey)
_PUBLIC = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, *_EDWARDS, *_MONTGOMERY)
_RAW_PRIVATE = (
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    x25519.X25519PrivateKey,
    x448.X448PrivateKey,
)
SECRET_TYPES = {
    "aes": ck.CKK_AES,
    "generic": ck.CKK_GENERIC_SECRET,
    "sha1-hmac": ck.CKK_SHA_1_HMAC,
    "sha224-hmac": ck.CKK_SHA224_HMAC,
    "sha256-hmac": ck.CKK_SHA256_HMAC,
    "sha384-hmac": ck.CKK_SHA384_HMAC,
    "sha512-hmac": ck.CKK_SHA512_HMAC,
}


class Material(NamedTuple):
    """One thing to bring in: what it is, its attributes, and the label and id that it suggests."""

    kind: str  # "private", "public", "certificate", "secret"
    attributes: Attributes
    id: bytes
    label: str


def read(data: bytes, password: Password) -> list[Material]:
    """Return what a file holds: private keys first, their public halves, then certificates.

    `password` is called when something is encrypted. Raises `CommandError`.
    """
    try:
        if b"-----BEGIN " in data:
            found = _read_pem(data, password)
        elif data.startswith((b"ssh-", b"ecdsa-sha2-")):
            found = [_read_ssh(data)]
        else:
            found = _read_der(data, password)
    except UnsupportedAlgorithm as error:
        raise CommandError(f"this kind of key or file is not supported: {error}") from None
    if not found:
        raise CommandError("there is no key and no certificate in the file", f"it may be {_FORMATS}")
    order = ("private", "public", "certificate")
    unique = {(material.kind, material.id, _distinct(material)): material for material in found}
    return sorted(unique.values(), key=lambda material: order.index(material.kind))


def _distinct(material: Material) -> bytes:
    """Return what tells two certificates of one key apart; keys are told apart by their id."""
    value = material.attributes.get(ck.CKA_VALUE)
    return value if isinstance(value, bytes) and material.kind == "certificate" else b""


_FORMATS = "PEM, DER, PKCS#8, PKCS#12, OpenSSH or a certificate; --type says that it is a raw secret"


def _read_pem(data: bytes, password: Password) -> list[Material]:
    found: list[Material] = []
    for block in _blocks(data):
        name = block.split(b"-----")[1].removeprefix(b"BEGIN ").decode("ascii", "replace")
        try:
            if name == "OPENSSH PRIVATE KEY":
                found.extend(_both(_open(serialization.load_ssh_private_key, block, password)))
            elif name.endswith("PRIVATE KEY"):
                found.extend(_both(_open(serialization.load_pem_private_key, block, password)))
            elif name.endswith("PUBLIC KEY"):
                found.append(public(serialization.load_pem_public_key(block)))
            elif name in ("CERTIFICATE", "X509 CERTIFICATE"):
                found.append(certificate(x509.load_pem_x509_certificate(block)))
        except ValueError:
            raise CommandError(f"the {name} in the file is damaged, or the password is wrong") from None
    return found


def _blocks(data: bytes) -> list[bytes]:
    """Cut a file into its PEM blocks; what stands between them is comment."""
    blocks = []
    position = data.find(b"-----BEGIN ")
    while position >= 0:
        end = data.find(b"-----END ", position)
        end = data.find(b"-----", end + 9) if end >= 0 else -1
        if end < 0:
            raise CommandError("a PEM block in the file has no end")
        blocks.append(data[position : end + 5] + b"\n")
        position = data.find(b"-----BEGIN ", end + 5)
    return blocks


def _read_ssh(data: bytes) -> Material:
    try:
        return public(serialization.load_ssh_public_key(data))
    except ValueError:
        raise CommandError("the OpenSSH public key in the file is damaged") from None


def _read_der(data: bytes, password: Password) -> list[Material]:
    """Try what DER can be; PKCS#12 last, since a wrong password there looks like damage."""
    try:
        return [certificate(x509.load_der_x509_certificate(data))]
    except ValueError:
        pass
    try:
        return [public(serialization.load_der_public_key(data))]
    except ValueError:
        pass
    if _is_pkcs12(data):
        return _read_pkcs12(data, password)
    try:
        return _both(_open(serialization.load_der_private_key, data, password))
    except ValueError:
        if not _looks_der(data):
            return []
        raise CommandError("the file is damaged, not of a known kind, or the password is wrong") from None


def _is_pkcs12(data: bytes) -> bool:
    """PFX is SEQUENCE { INTEGER 3, … }; PKCS#8's version is 0 or 1."""
    try:
        _, inner, _ = _element(data)
        return _element(inner)[:2] == (2, b"\x03")
    except CommandError:
        return False


def _looks_der(data: bytes) -> bool:
    try:
        tag, _, rest = _element(data)
    except CommandError:
        return False
    return tag == 0x30 and not rest  # noqa: PLR2004 - SEQUENCE


def _read_pkcs12(data: bytes, password: Password) -> list[Material]:
    try:
        bag = pkcs12.load_pkcs12(data, password())
    except ValueError:
        raise CommandError("the PKCS#12 file is damaged, or the password is wrong") from None
    found: list[Material] = []
    name = b""
    if bag.cert is not None:
        name = bag.cert.friendly_name or b""
    label = name.decode("utf-8", "replace")
    if bag.key is not None:
        found.extend(material._replace(label=label) for material in _both(bag.key))
    for held in [bag.cert, *bag.additional_certs]:
        if held is not None:
            material = certificate(held.certificate)
            found.append(material._replace(label=label) if held is bag.cert and label else material)
    return found


def _open(load: Callable[..., Any], data: bytes, password: Password) -> Any:
    """Load a private key; ask for the password only when there is one."""
    try:
        return load(data, None)
    except TypeError:
        return load(data, password())


def _both(key: Any) -> list[Material]:
    return [private(key), public(key.public_key())]


def private(key: Any) -> Material:
    """Return the attributes of a private key. Secret parts are `bytearray`s."""
    attributes: Attributes = {ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY)}
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        attributes |= {
            ck.CKA_KEY_TYPE: ulong(ck.CKK_RSA),
            ck.CKA_MODULUS: _big(numbers.public_numbers.n),
            ck.CKA_PUBLIC_EXPONENT: _big(numbers.public_numbers.e),
            ck.CKA_PRIVATE_EXPONENT: bytearray(_big(numbers.d)),
            ck.CKA_PRIME_1: bytearray(_big(numbers.p)),
            ck.CKA_PRIME_2: bytearray(_big(numbers.q)),
            ck.CKA_EXPONENT_1: bytearray(_big(numbers.dmp1)),
            ck.CKA_EXPONENT_2: bytearray(_big(numbers.dmq1)),
            ck.CKA_COEFFICIENT: bytearray(_big(numbers.iqmp)),
        }
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        length = (key.curve.key_size + 7) // 8
        attributes |= _curve(key.public_key())
        attributes[ck.CKA_VALUE] = bytearray(key.private_numbers().private_value.to_bytes(length, "big"))
    elif isinstance(key, _RAW_PRIVATE):
        attributes |= _curve(key.public_key())
        attributes[ck.CKA_VALUE] = bytearray(key.private_bytes_raw())
    else:
        raise CommandError(f"keys of this kind are not supported ({type(key).__name__.strip('_')})")
    return Material("private", attributes, key_id(key.public_key()), "")


def public(key: Any) -> Material:
    """Return the attributes of a public key."""
    if not isinstance(key, _PUBLIC):
        raise CommandError(f"keys of this kind are not supported ({type(key).__name__.strip('_')})")
    attributes: Attributes = {ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY)}
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        attributes |= {
            ck.CKA_KEY_TYPE: ulong(ck.CKK_RSA),
            ck.CKA_MODULUS: _big(numbers.n),
            ck.CKA_PUBLIC_EXPONENT: _big(numbers.e),
        }
    else:
        attributes |= _curve(key)
        attributes[ck.CKA_EC_POINT] = _octets(_key_info(key)[2])
    return Material("public", attributes, key_id(key), "")


def certificate(parsed: x509.Certificate) -> Material:
    """Return the attributes of an X.509 certificate; its id is that of its key."""
    serial = parsed.serial_number
    length = (serial.bit_length() + 8) // 8 or 1
    attributes: Attributes = {
        ck.CKA_CLASS: ulong(ck.CKO_CERTIFICATE),
        ck.CKA_CERTIFICATE_TYPE: ulong(ck.CKC_X_509),
        ck.CKA_SUBJECT: parsed.subject.public_bytes(),
        ck.CKA_ISSUER: parsed.issuer.public_bytes(),
        ck.CKA_SERIAL_NUMBER: b"\x02" + _length(length) + serial.to_bytes(length, "big", signed=True),
        ck.CKA_VALUE: parsed.public_bytes(serialization.Encoding.DER),
    }
    names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    label = str(names[0].value) if names else parsed.subject.rfc4514_string()
    try:
        identity = key_id(parsed.public_key())
    except (UnsupportedAlgorithm, ValueError):  # a certificate of a key that we don't know is still one
        identity = b""
    return Material("certificate", attributes, identity, label)


def secret(value: bytes | bytearray, key_type: int) -> Material:
    """Return the attributes of a secret key."""
    attributes: Attributes = {
        ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY),
        ck.CKA_KEY_TYPE: ulong(key_type),
        ck.CKA_VALUE: bytearray(value),
    }
    return Material("secret", attributes, b"", "")


def public_info(value: Callable[[int], bytes]) -> bytes:
    """Return a public key object as DER (SubjectPublicKeyInfo), made of its parts where its module has none.

    `value` gives an attribute's value, empty when there is none; the result is empty when parts are missing.
    """
    info = value(ck.CKA_PUBLIC_KEY_INFO)
    if info:
        return info
    modulus, exponent = value(ck.CKA_MODULUS), value(ck.CKA_PUBLIC_EXPONENT)
    if modulus and exponent:
        numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
        return numbers.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    curve, point = normal_parameters(value(ck.CKA_EC_PARAMS)), raw_point(normal_point(value(ck.CKA_EC_POINT)))
    if not curve or not point:
        return b""
    other = value(ck.CKA_KEY_TYPE) != ulong(ck.CKK_EC)  # an Edwards or Montgomery curve is an algorithm
    algorithm = curve if other else _EC_PUBLIC_KEY + curve
    return _sequence(_sequence(algorithm) + b"\x03" + _length(len(point) + 1) + b"\x00" + point)


def key_id(key: Any) -> bytes:
    """Return the id that key and certificate share: SHA-1 of the public key, as RFC 5280 4.2.1.2 has it."""
    return hashlib.sha1(_key_info(key)[2], usedforsecurity=False).digest()


def _curve(key: Any) -> Attributes:
    """Return key type and ``CKA_EC_PARAMS``: the curve's OID, or for the others the algorithm's."""
    algorithm, parameters, _ = _key_info(key)
    if isinstance(key, _EDWARDS):
        return {ck.CKA_KEY_TYPE: ulong(ck.CKK_EC_EDWARDS), ck.CKA_EC_PARAMS: algorithm}
    if isinstance(key, _MONTGOMERY):
        return {ck.CKA_KEY_TYPE: ulong(ck.CKK_EC_MONTGOMERY), ck.CKA_EC_PARAMS: algorithm}
    return {ck.CKA_KEY_TYPE: ulong(ck.CKK_EC), ck.CKA_EC_PARAMS: parameters}


def _key_info(key: Any) -> tuple[bytes, bytes, bytes]:
    """Return the algorithm (DER), its parameters (DER) and the key's bits of a SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    _, body, _ = _element(der)
    _, identifier, rest = _element(body)
    _, _, parameters = _element(identifier)
    _, bits, _ = _element(rest)
    return identifier[: len(identifier) - len(parameters)], parameters, bits[1:]


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return tag, contents and what follows of the first element."""
    if len(der) < 2:  # noqa: PLR2004 - tag and length
        raise CommandError("the DER ends too early")
    length, start = der[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(der[2:start], "big")
    if start > len(der) or start + length > len(der):
        raise CommandError("the DER ends too early")
    return der[0], der[start : start + length], der[start + length :]


def _length(length: int) -> bytes:
    if length < 0x80:  # noqa: PLR2004 - the short form
        return bytes([length])
    size = (length.bit_length() + 7) // 8
    return bytes([0x80 | size]) + length.to_bytes(size, "big")


def _sequence(body: bytes) -> bytes:
    return b"\x30" + _length(len(body)) + body


def _octets(value: bytes) -> bytes:
    return b"\x04" + _length(len(value)) + value


def _big(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")
