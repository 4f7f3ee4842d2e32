"""RSA keys as attributes (PKCS#11 3.2, "RSA public key objects", "RSA private key objects")."""

from __future__ import annotations

from math import lcm

from cryptography.hazmat.primitives.asymmetric import rsa

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import AttributeValueInvalid, KeySizeRange, TemplateIncomplete, TemplateInconsistent
from ferrohsm.mechanisms import RSA_MAX_BITS, RSA_MIN_BITS
from ferrohsm.typed import cast
from ferrohsm_adapters.software.material import Bytes, number, octets, public_info, ulong

_MAX_EXPONENT_BITS = 64

# The private parts beside the exponent, with the names that the engine's numbers have for them.
_CRT = (
    (ck.CKA_PRIME_1, "p"),
    (ck.CKA_PRIME_2, "q"),
    (ck.CKA_EXPONENT_1, "dmp1"),
    (ck.CKA_EXPONENT_2, "dmq1"),
    (ck.CKA_COEFFICIENT, "iqmp"),
)


def private_key(key: Key) -> rsa.RSAPrivateKey:
    """Return the key, parsed at its first use.

    Its numbers were validated when it came in and are sealed since; the primality tests that the
    engine would repeat here cost more than many signatures.
    """
    parsed = key.cache.get("private")
    if parsed is None:
        numbers = _private_numbers(cast("Attributes", key.attributes))
        parsed = key.cache["private"] = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    return cast("rsa.RSAPrivateKey", parsed)


def public_key(key: Key) -> rsa.RSAPublicKey:
    """Return the public key of a public or private key object, parsed at its first use."""
    parsed = key.cache.get("public")
    if parsed is None:
        n, e = _big(key.attributes, ck.CKA_MODULUS), _big(key.attributes, ck.CKA_PUBLIC_EXPONENT)
        parsed = key.cache["public"] = rsa.RSAPublicNumbers(e, n).public_key()
    return cast("rsa.RSAPublicKey", parsed)


def public_attributes(key: rsa.RSAPublicKey) -> Attributes:
    """Return the attributes of a public key object."""
    numbers = key.public_numbers()
    return {
        ck.CKA_MODULUS: _bytes(numbers.n),
        ck.CKA_MODULUS_BITS: ulong(key.key_size),
        ck.CKA_PUBLIC_EXPONENT: _bytes(numbers.e),
        ck.CKA_PUBLIC_KEY_INFO: _info(key),
    }


def private_attributes(key: rsa.RSAPrivateKey) -> Attributes:
    """Return the attributes of a private key object."""
    if not RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
        raise KeySizeRange
    numbers = key.private_numbers()
    attributes: Attributes = {
        ck.CKA_MODULUS: _bytes(numbers.public_numbers.n),
        ck.CKA_PUBLIC_EXPONENT: _bytes(numbers.public_numbers.e),
        ck.CKA_PRIVATE_EXPONENT: bytearray(_bytes(numbers.d)),
        ck.CKA_PUBLIC_KEY_INFO: _info(key.public_key()),
    }
    for type, name in _CRT:
        attributes[type] = bytearray(_bytes(getattr(numbers, name)))
    return attributes


def wanted(public: Attributes) -> tuple[int, bytes]:
    """Return the size in bits and the exponent that the template of a new public key asks for.

    Raises `TemplateIncomplete`, `TemplateInconsistent`, `KeySizeRange`.
    """
    bits = number(public, ck.CKA_MODULUS_BITS)
    if bits is None:
        raise TemplateIncomplete("CKA_MODULUS_BITS is missing")
    if not RSA_MIN_BITS <= bits <= RSA_MAX_BITS:
        raise KeySizeRange(f"RSA keys have {RSA_MIN_BITS} to {RSA_MAX_BITS} bits")
    given = public.get(ck.CKA_PUBLIC_EXPONENT)
    # A zero arrives without a byte, and is none that was left out.
    exponent = 65537 if given is None else int.from_bytes(cast("Bytes", given), "big")
    if exponent < 3 or not exponent & 1 or exponent.bit_length() > _MAX_EXPONENT_BITS:
        raise TemplateInconsistent("the public exponent must be odd, from 3 to 64 bits")
    return bits, _bytes(exponent)


def generate(bits: int, exponent: bytes) -> tuple[Attributes, Attributes]:
    """Generate a pair; the library makes those with the exponents 65537 and 3."""
    number = int.from_bytes(exponent, "big")
    if number not in (3, 65537):
        raise TemplateInconsistent("the public exponent must be 65537 or 3")
    key = rsa.generate_private_key(number, bits)
    return public_attributes(key.public_key()), private_attributes(key)


def complete_public(attributes: Attributes) -> Attributes:
    """Check a public key that is brought in and return what it lacks."""
    n, e = _big(attributes, ck.CKA_MODULUS), _big(attributes, ck.CKA_PUBLIC_EXPONENT)
    _check_size(n)
    if not n & 1:
        raise AttributeValueInvalid("no RSA modulus is even")
    try:
        key = rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise AttributeValueInvalid("no RSA public key") from None
    added = public_attributes(key)
    added.update(public_info(attributes, _info(key)))
    return _new(attributes, added)


def complete_private(attributes: Attributes) -> Attributes:
    """Check a private key that is brought in and return what it lacks.

    The modulus and two of the exponents, or an exponent and both primes, are enough for the rest.
    """
    numbers = _private_numbers(attributes)
    try:
        key = numbers.private_key()
    except ValueError:
        raise AttributeValueInvalid("the parts are not those of one RSA key") from None
    added = private_attributes(key)
    added.update(public_info(attributes, _info(key.public_key())))
    return _new(attributes, added)


def _private_numbers(attributes: Attributes) -> rsa.RSAPrivateNumbers:
    n = _big(attributes, ck.CKA_MODULUS)
    _check_size(n)
    d = _big(attributes, ck.CKA_PRIVATE_EXPONENT)
    p, q = _maybe(attributes, ck.CKA_PRIME_1), _maybe(attributes, ck.CKA_PRIME_2)
    e = _maybe(attributes, ck.CKA_PUBLIC_EXPONENT)
    try:
        if e is None:
            if p is None or q is None:
                raise TemplateIncomplete("CKA_PUBLIC_EXPONENT is missing")
            e = pow(d, -1, lcm(p - 1, q - 1))
        if p is None or q is None:
            p, q = rsa.rsa_recover_prime_factors(n, e, d)
        dmp1 = _maybe(attributes, ck.CKA_EXPONENT_1) or rsa.rsa_crt_dmp1(d, p)
        dmq1 = _maybe(attributes, ck.CKA_EXPONENT_2) or rsa.rsa_crt_dmq1(d, q)
        iqmp = _maybe(attributes, ck.CKA_COEFFICIENT) or rsa.rsa_crt_iqmp(p, q)
        return rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, rsa.RSAPublicNumbers(e, n))
    except (ValueError, ZeroDivisionError):
        raise AttributeValueInvalid("the parts are not those of one RSA key") from None


def _check_size(n: int) -> None:
    if not RSA_MIN_BITS <= n.bit_length() <= RSA_MAX_BITS:
        raise KeySizeRange(f"RSA keys have {RSA_MIN_BITS} to {RSA_MAX_BITS} bits")


def _new(attributes: Attributes, added: Attributes) -> Attributes:
    """Leave out what the object has already, byte for byte."""
    return {type: value for type, value in added.items() if attributes.get(type) != value}


def _big(attributes: object, type: int) -> int:
    return int.from_bytes(octets(attributes, type), "big")


def _maybe(attributes: Attributes, type: int) -> int | None:
    value = attributes.get(type)
    return int.from_bytes(cast("Bytes", value), "big") if value else None


def _bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _info(key: rsa.RSAPublicKey) -> bytes:
    # Ten milliseconds of imports, which a process that only signs does without.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
