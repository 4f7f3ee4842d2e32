"""DSA and Diffie-Hellman keys as attributes (PKCS#11 3.2, "DSA", "Diffie-Hellman"; RFC 3279, RFC 5958).

The library reads keys in their DER, checks them and computes the public key of a private one; nothing
is computed here. Key sizes are in bits.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

from cryptography.exceptions import InternalError
from cryptography.utils import CryptographyDeprecationWarning

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import (
    AttributeValueInvalid,
    DomainParamsInvalid,
    KeySizeRange,
    TemplateIncomplete,
    WrappedKeyInvalid,
)
from ferrohsm.typed import Any, NamedTuple, cast
from ferrohsm_adapters.software.der import OCTET_STRING, SEQUENCE, Malformed, element, encode
from ferrohsm_adapters.software.material import Bytes, number, octets, public_info
from ferrohsm_adapters.software.operation import wipe

_INTEGER, _BIT_STRING = 0x02, 0x03


class Kind(NamedTuple):
    """A key type: its identifier in DER, its parameters in the order of their DER, bits of the prime."""

    key_type: int
    identifier: bytes
    parameters: tuple[int, ...]
    sizes: tuple[int, int]


_P, _Q, _G = ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE
KINDS = {
    kind.key_type: kind
    for kind in (
        Kind(ck.CKK_DSA, bytes.fromhex("06072a8648ce380401"), (_P, _Q, _G), (1024, 4096)),
        Kind(ck.CKK_DH, bytes.fromhex("06092a864886f70d010301"), (_P, _G), (1024, 8192)),
        Kind(ck.CKK_X9_42_DH, bytes.fromhex("06072a8648ce3e0201"), (_P, _G, _Q), (1024, 8192)),
    )
}


def private_key(key: Key) -> Any:
    """Return the engine's private key, parsed at its first use."""
    parsed = key.cache.get("private")
    if parsed is None:
        parsed = key.cache["private"] = _load_private(_kind(key.attributes), key.attributes)
    return parsed


def public_key(key: Key) -> Any:
    """Return the engine's public key of a public key object, parsed at its first use."""
    parsed = key.cache.get("public")
    if parsed is None:
        value = int.from_bytes(octets(key.attributes, ck.CKA_VALUE), "big")
        parsed = key.cache["public"] = load_public(key.attributes, value)
    return parsed


def load_public(attributes: Any, value: int) -> Any:
    """Return the engine's public key of a value, with the parameters of `attributes`. Raises `ValueError`."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    silence()
    return load_der_public_key(_info(attributes, value))


def _info(attributes: Any, value: int) -> bytes:
    """Return the SubjectPublicKeyInfo of a public value.

    The library would write a Diffie-Hellman key of a group that it knows as one of X9.42.
    """
    bits = encode(_BIT_STRING, b"\0" + _integer(value))
    return encode(SEQUENCE, _algorithm(_kind(attributes), attributes) + bits)


def private_key_info(key: Key) -> bytearray:
    """Return a private key as PKCS#8 PrivateKeyInfo, with the identifier of its own type."""
    return _private_info(_kind(key.attributes), key.attributes)


def _private_info(kind: Kind, attributes: Any) -> bytearray:
    value = int.from_bytes(octets(attributes, ck.CKA_VALUE), "big")
    inner = encode(OCTET_STRING, _integer(value))
    return bytearray(encode(SEQUENCE, _integer(0) + _algorithm(kind, attributes) + inner))


def _load_private(kind: Kind, attributes: Any) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    silence()
    value = int.from_bytes(octets(attributes, ck.CKA_VALUE), "big")
    bound = ck.CKA_SUBPRIME if ck.CKA_SUBPRIME in kind.parameters else ck.CKA_PRIME
    if not 0 < value < int.from_bytes(octets(attributes, bound), "big") - (bound == ck.CKA_PRIME):
        raise ValueError("no private value")
    info = _private_info(kind, attributes)
    try:
        return load_der_private_key(info, None)
    finally:
        wipe(info)


def _algorithm(kind: Kind, attributes: Any) -> bytes:
    numbers = (int.from_bytes(octets(attributes, part), "big") for part in kind.parameters)
    return encode(SEQUENCE, kind.identifier + encode(SEQUENCE, b"".join(map(_integer, numbers))))


def _integer(value: int) -> bytes:
    return encode(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _kind(attributes: Any) -> Kind:
    return KINDS[cast("int", number(attributes, ck.CKA_KEY_TYPE))]


def prime_bits(attributes: Any) -> int:
    """Return the length of the prime."""
    return int.from_bytes(octets(attributes, ck.CKA_PRIME), "big").bit_length()


def order_length(key: Key) -> int:
    """Return the length in bytes of DSA's subprime."""
    return (int.from_bytes(octets(key.attributes, ck.CKA_SUBPRIME), "big").bit_length() + 7) // 8


def complete_public(key_type: int, attributes: Attributes) -> Attributes:
    """Check a public key that is brought in and return what it lacks."""
    _check_size(attributes)
    value = int.from_bytes(octets(attributes, ck.CKA_VALUE), "big")
    try:
        load_public(attributes, value)
    except (ValueError, InternalError):
        raise AttributeValueInvalid("this is no public key of its type") from None
    if not (_sound(attributes) and in_group(attributes, value)):
        raise AttributeValueInvalid("the public value is none of its group, or the group is none")
    return public_info(attributes, _info(attributes, value))


def complete_private(key_type: int, attributes: Attributes) -> Attributes:
    """Check a private key that is brought in and return what it lacks."""
    _check_size(attributes)
    try:
        private = _load_private(_kind(attributes), attributes)
    except (ValueError, InternalError):
        # The second is what the library says of a prime that is even.
        raise AttributeValueInvalid("this is no private key of its type") from None
    if not _sound(attributes):
        raise AttributeValueInvalid("the parameters are those of no group")
    return public_info(attributes, _info(attributes, private.public_key().public_numbers().y))


def in_group(attributes: Any, value: int) -> bool:
    """Tell whether a public value is one of the group, and none that tells a secret (SP 800-56A, 5.6.2.3).

    A value outside the subgroup, in one that is small, gives away a private key's remainder with every use.
    """
    p, q = _number(attributes, _P), _number(attributes, _Q)
    return 1 < value < p - 1 and (not q or pow(value, q, p) == 1)


def _sound(attributes: Any) -> bool:
    """Tell whether DSA's parameters are those of a group (FIPS 186-4, appendix A).

    The library looks at those of Diffie-Hellman when it reads a key, and at none of DSA's.
    """
    if _kind(attributes).key_type != ck.CKK_DSA:
        return True
    return _is_group(*(_number(attributes, part) for part in (_P, _Q, _G)))


@lru_cache(maxsize=64)
def _is_group(p: int, q: int, g: int) -> bool:
    """Tell whether `g` makes a group of order `q` modulo `p`: with a base of 1 anybody could sign.

    Fermat's test tells numbers that are no primes, unless they were made to deceive it. Keys share their
    parameters, and it takes 0.1 s for 3072 bits, so the answers are kept; nothing of this is secret.
    """
    odd = p & 1 and q & 1 and 1 < q < p and (p - 1) % q == 0
    if not odd or pow(2, q - 1, q) != 1 or pow(2, p - 1, p) != 1:
        return False
    return 1 < g < p - 1 and pow(g, q, p) == 1


def _number(attributes: Any, part: int) -> int:
    return int.from_bytes(attributes.get(part) or b"", "big")


def _check_size(attributes: Any) -> None:
    least, most = _kind(attributes).sizes
    if not least <= prime_bits(attributes) <= most:
        raise KeySizeRange


def generate_pair(key_type: int, public: Attributes) -> tuple[Attributes, Attributes]:
    """Return the attributes that a new pair adds; the parameters are those of the public key's template."""
    silence()
    kind = KINDS[key_type]
    given = {**public, ck.CKA_KEY_TYPE: key_type.to_bytes(8, "little")}
    _check_size(given)
    p, q, g = (int.from_bytes(cast("Bytes", given.get(part, b"")), "big") for part in (_P, _Q, _G))
    try:
        private = _parameters(key_type, p, q, g).generate_private_key()
        shared: Attributes = {part: octets(given, part) for part in kind.parameters}
        numbers = private.private_numbers()
        shared[ck.CKA_PUBLIC_KEY_INFO] = _info(given, numbers.public_numbers.y)
    except (ValueError, InternalError):
        # The second is what the library says of a subprime whose length no standard has.
        raise DomainParamsInvalid("no parameters of this key type") from None
    value = _octets(numbers.public_numbers.y)
    added: Attributes = {ck.CKA_VALUE: value, ck.CKA_PUBLIC_KEY_INFO: shared[ck.CKA_PUBLIC_KEY_INFO]}
    hidden: Attributes = {**shared, ck.CKA_VALUE: bytearray(_octets(numbers.x))}
    if key_type == ck.CKK_DH:
        hidden[ck.CKA_VALUE_BITS] = numbers.x.bit_length().to_bytes(8, "little")
    return added, hidden


def _parameters(key_type: int, p: int, q: int, g: int) -> Any:
    if key_type == ck.CKK_DSA:
        from cryptography.hazmat.primitives.asymmetric.dsa import DSAParameterNumbers

        return DSAParameterNumbers(p, q, g).parameters()
    from cryptography.hazmat.primitives.asymmetric.dh import DHParameterNumbers

    return DHParameterNumbers(p, g, q if key_type == ck.CKK_X9_42_DH else None).parameters()


def generate_parameters(key_type: int, attributes: Attributes) -> Attributes:
    """Return new domain parameters (``CKM_DSA_PARAMETER_GEN``, ``CKM_DH_PKCS_PARAMETER_GEN``, X9.42's).

    Those of X9.42 are as those of DSA: a prime, a subprime of the group, and a generator of it.

    A safe prime of 2048 bits takes seconds to minutes to be found.
    """
    silence()
    bits = number(attributes, ck.CKA_PRIME_BITS)
    if bits is None:
        raise TemplateIncomplete("CKA_PRIME_BITS is missing")
    least, most = KINDS[key_type].sizes
    if not least <= bits <= most or bits % 64:
        raise KeySizeRange
    if key_type in (ck.CKK_DSA, ck.CKK_X9_42_DH):
        from cryptography.hazmat.primitives.asymmetric import dsa

        wanted = number(attributes, ck.CKA_SUBPRIME_BITS)
        if wanted not in (None, 160 if bits < 2048 else 256):
            raise KeySizeRange("the subprime has 160 bits, with primes of 2048 and more 256")

        try:
            found: Any = dsa.generate_parameters(bits).parameter_numbers()
        except ValueError:
            raise KeySizeRange("DSA has primes of 1024, 2048, 3072 and 4096 bits") from None
        return {_P: _octets(found.p), _Q: _octets(found.q), _G: _octets(found.g)}
    from cryptography.hazmat.primitives.asymmetric import dh

    found = dh.generate_parameters(2, bits).parameter_numbers()
    return {_P: _octets(found.p), _G: _octets(found.g)}


def unwrapped(key_type: int | None, private: Any, info: Bytes) -> Attributes:
    """Return the attributes of an unwrapped private key, whose type must be the one asked for.

    What type it is the identifier in `info` says, not the library: it gives a key of a group that it knows
    its subprime.
    """
    numbers = private.private_numbers()
    of = numbers.public_numbers.parameter_numbers
    found = next((kind for kind in KINDS.values() if kind.identifier == _identifier(info)), None)
    if found is None or found.key_type != key_type:
        raise WrappedKeyInvalid("the wrapped key is of another type")
    made: Attributes = {_P: _octets(of.p), _G: _octets(of.g), ck.CKA_VALUE: bytearray(_octets(numbers.x))}
    if _Q in found.parameters:
        if not of.q:
            raise WrappedKeyInvalid("no subprime in the wrapped key")
        made[_Q] = _octets(of.q)
    if found.key_type == ck.CKK_DH:
        made[ck.CKA_VALUE_BITS] = numbers.x.bit_length().to_bytes(8, "little")
    typed = {**made, ck.CKA_KEY_TYPE: found.key_type.to_bytes(8, "little")}
    if not _sound(typed):
        raise WrappedKeyInvalid("the parameters in the wrapped key are those of no group")
    made[ck.CKA_PUBLIC_KEY_INFO] = _info(typed, numbers.public_numbers.y)
    return made


def _identifier(info: Bytes) -> bytes:
    """Return the identifier of the algorithm in a PrivateKeyInfo that the library has read, in DER."""
    try:
        _, start, _ = element(info, 0)
        _, _, version = element(info, start)
        _, algorithm, _ = element(info, version)
        _, _, end = element(info, algorithm)
    except Malformed:
        return b""
    return bytes(info[algorithm:end])


def public_attributes(key: Key) -> Attributes:
    """Return the material of the public key that belongs to a private key."""
    kind, public = _kind(key.attributes), private_key(key).public_key()
    made: Attributes = {part: octets(key.attributes, part) for part in kind.parameters}
    made[ck.CKA_VALUE] = _octets(public.public_numbers().y)
    return made


def _octets(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")


def silence() -> None:
    """Keep the library from warning that this is old, on whatever stderr the host has."""
    warnings.filterwarnings("ignore", "Diffie-Hellman over finite fields", CryptographyDeprecationWarning)
