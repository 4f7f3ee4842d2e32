"""HKDF (PKCS#11 3.2, "HKDF Mechanisms"; RFC 5869)."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import AttributeValueInvalid, MechanismParamInvalid, TemplateIncomplete
from ferrohsm.mechanisms import hash_of_digest
from ferrohsm.parameters import Hkdf, KeyReference, Mechanism
from ferrohsm_adapters.software import hash_functions
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.material import Bytes, number, secret_value
from ferrohsm_adapters.software.operation import wipe


def derive(mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of a key, or of a data object, made by extracting, expanding or both."""
    parameter: Hkdf = mechanism.parameter
    name = hash_of_digest(parameter.hash)
    if name is None or name == "md5" or not (parameter.extract or parameter.expand):
        raise MechanismParamInvalid("HKDF needs a hash, and extraction or expansion")
    size, length = hash_functions.length(name), wanted_length(attributes)
    if not parameter.expand:
        if length not in (None, size):
            raise AttributeValueInvalid("extraction gives as many bytes as the hash has")
        return _object(_extract(name, parameter, base), attributes)
    if length is None:
        raise TemplateIncomplete("CKA_VALUE_LEN is needed for expansion")
    if not 1 <= length <= 255 * size:
        raise AttributeValueInvalid("HKDF expands to at most 255 times the hash")
    pseudorandom: Bytes = _extract(name, parameter, base) if parameter.extract else secret_value(base)
    if len(pseudorandom) < size:
        # "PRK: a pseudorandom key of at least HashLen octets" (RFC 5869, section 2.3).
        raise MechanismParamInvalid("the base key is shorter than the hash")
    try:
        return _object(_expand(name, pseudorandom, parameter.info, length), attributes)
    finally:
        if parameter.extract:
            assert isinstance(pseudorandom, bytearray)
            wipe(pseudorandom)


def _object(made: bytearray, attributes: Attributes) -> Attributes:
    if number(attributes, ck.CKA_CLASS) == ck.CKO_DATA:
        return {ck.CKA_VALUE: bytes(made)}
    return derived_key(made, attributes, leading=True)


def _extract(name: str, parameter: Hkdf, base: Key) -> bytearray:
    salt: Bytes
    if parameter.salt is None:
        salt = bytes(hash_functions.length(name))
    elif isinstance(parameter.salt, KeyReference):
        salt = secret_value(parameter.salt.key)
    else:
        salt = parameter.salt
    context = hash_functions.authenticating(name, salt)
    context.update(secret_value(base))
    return bytearray(context.finalize())


def _expand(name: str, pseudorandom: Bytes, info: bytes, length: int) -> bytearray:
    out, block, number = bytearray(), b"", 0
    while len(out) < length:
        number += 1
        context = hash_functions.authenticating(name, pseudorandom)
        context.update(block + info + bytes((number,)))
        block = context.finalize()
        out += block
    del out[length:]
    return out
