"""Wrapping and unwrapping keys (PKCS#11 3.2, "Wrapping/unwrapping private keys" and each mechanism).

A secret key is wrapped as its value, a private key as PKCS#8 PrivateKeyInfo. ECB, CBC and RSA wrap secret
keys only.
"""

from __future__ import annotations

import os

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Operation
from ferrohsm.errors import (
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    KeyNotWrappable,
    KeySizeRange,
    MechanismParamInvalid,
    TemplateInconsistent,
    WrappedKeyInvalid,
    WrappedKeyLenRange,
)
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Ccm, Mechanism, RsaAesKeyWrap
from ferrohsm.typed import Any, Awaitable, Callable
from ferrohsm_adapters.software import der
from ferrohsm_adapters.software.material import (
    from_private_key_info,
    number,
    octets,
    private_key_info,
    secret_attributes,
    secret_length_allowed,
    secret_value,
)
from ferrohsm_adapters.software.operation import wipe

Begin = Callable[[int, Mechanism, Key], Awaitable[Operation]]

SECRETS = (ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY)
"""What is wrapped as its value; all else about the key is in the template that unwraps it."""
_BLOCK = 16
_SEMIBLOCK = 8
# The block that these fill up with zeros, if they have to.
_ZERO_PADDED = {
    **dict.fromkeys((ck.CKM_AES_ECB, ck.CKM_AES_CBC, ck.CKM_CAMELLIA_ECB, ck.CKM_CAMELLIA_CBC), _BLOCK),
    **dict.fromkeys((ck.CKM_ARIA_ECB, ck.CKM_ARIA_CBC), _BLOCK),
    **dict.fromkeys((ck.CKM_DES_ECB, ck.CKM_DES_CBC, ck.CKM_DES3_ECB, ck.CKM_DES3_CBC), 8),
}
# The block that these ciphers pad to; there is always some padding.
_ALWAYS_PADDED = {
    ck.CKM_AES_CBC_PAD: _BLOCK,
    ck.CKM_CAMELLIA_CBC_PAD: _BLOCK,
    ck.CKM_ARIA_CBC_PAD: _BLOCK,
    ck.CKM_DES_CBC_PAD: 8,
    ck.CKM_DES3_CBC_PAD: 8,
}
_KEY_WRAPS = (ck.CKM_AES_KEY_WRAP, ck.CKM_AES_KEY_WRAP_PAD, ck.CKM_AES_KEY_WRAP_KWP)
# Nothing in whole blocks says where a private key ends, and RSA takes none.
_SECRETS_ONLY = (
    *_ZERO_PADDED,
    *(ck.CKM_CAMELLIA_ECB, ck.CKM_CAMELLIA_CBC, ck.CKM_ARIA_ECB, ck.CKM_ARIA_CBC),
    *(ck.CKM_DES_ECB, ck.CKM_DES_CBC, ck.CKM_DES3_ECB, ck.CKM_DES3_CBC),
    *(ck.CKM_RSA_PKCS, ck.CKM_RSA_PKCS_OAEP),
)


async def wrap(begin: Begin, row: Row, mechanism: Mechanism, wrapping: Key, target: Key) -> bytes:
    """Return the wrapped form of `target`; `begin` starts the encryptions that this takes."""
    payload = payload_of(mechanism, target)
    try:
        if row.family == "rsa_aes_key_wrap":
            return await _wrap_rsa_aes(begin, mechanism.parameter, wrapping, payload)
        if row.family == "aes_key_wrap":
            return _wrap_key_wrap(mechanism, wrapping, payload)
        if row.family == "ecdh_aes_key_wrap":
            from ferrohsm_adapters.software import ecdh_wrap

            return ecdh_wrap.wrap(mechanism.parameter, wrapping, payload)
        if mechanism.type in _ZERO_PADDED:
            payload += bytes(-len(payload) % _ZERO_PADDED[mechanism.type])
        return await _encrypted(begin, _sized(mechanism, len(payload)), wrapping, payload)
    finally:
        wipe(payload)


def wrap_length(row: Row, mechanism: Mechanism, wrapping: Key, target: Key) -> int:
    """Return the length of what `wrap` gives."""
    payload = payload_of(mechanism, target)
    length = len(payload)
    wipe(payload)
    if row.family in ("rsa", "rsa_aes_key_wrap"):
        modulus = len(octets(wrapping.attributes, ck.CKA_MODULUS))
        if row.family == "rsa":
            return modulus
        return modulus + _key_wrap_length(ck.CKM_AES_KEY_WRAP_KWP, length)
    if row.family == "ecdh_aes_key_wrap":
        from ferrohsm_adapters.software import ecdh_wrap

        return ecdh_wrap.point_length(wrapping) + _key_wrap_length(ck.CKM_AES_KEY_WRAP_KWP, length)
    if row.family == "aes_key_wrap":
        return _key_wrap_length(mechanism.type, length)
    if mechanism.type in _ZERO_PADDED:
        return length + -length % _ZERO_PADDED[mechanism.type]
    block = _ALWAYS_PADDED.get(mechanism.type)
    if block is not None:
        return length - length % block + block
    return length + _tag_length(mechanism)


def _tag_length(mechanism: Mechanism) -> int:
    """Return the bytes of the tag behind a wrapped key; a length that no tag has is refused."""
    from ferrohsm_adapters.software.aes import CCM_TAG_BYTES, GCM_TAG_BITS

    if mechanism.type == ck.CKM_AES_GCM:
        if mechanism.parameter.tag_bits not in GCM_TAG_BITS:
            raise MechanismParamInvalid("no length of a GCM tag")
        return int(mechanism.parameter.tag_bits) // 8
    if mechanism.type == ck.CKM_AES_CCM:
        if mechanism.parameter.mac_length not in CCM_TAG_BYTES:
            raise MechanismParamInvalid("no length of a CCM tag")
        return int(mechanism.parameter.mac_length)
    return 0


async def unwrap(
    begin: Begin,
    row: Row,
    mechanism: Mechanism,
    unwrapping: Key,
    wrapped: memoryview,
    attributes: Attributes,
) -> Attributes:
    """Return the attributes of the key that `wrapped` holds."""
    kind = number(attributes, ck.CKA_CLASS)
    if kind not in (*SECRETS, ck.CKO_PRIVATE_KEY):
        raise TemplateInconsistent("only secret and private keys are unwrapped")
    if kind == ck.CKO_PRIVATE_KEY and mechanism.type in _SECRETS_ONLY:
        raise TemplateInconsistent("this mechanism unwraps secret keys only")
    if row.family == "rsa_aes_key_wrap":
        payload = await _unwrap_rsa_aes(begin, mechanism.parameter, unwrapping, wrapped)
    elif row.family == "ecdh_aes_key_wrap":
        from ferrohsm_adapters.software import ecdh_wrap

        payload = ecdh_wrap.unwrap(mechanism.parameter, unwrapping, wrapped)
    elif row.family == "aes_key_wrap":
        payload = _unwrap_key_wrap(mechanism, unwrapping, wrapped)
    else:
        if isinstance(mechanism.parameter, Ccm):
            mechanism = _sized(mechanism, max(0, len(wrapped) - mechanism.parameter.mac_length))
        payload = await _decrypted(begin, mechanism, unwrapping, wrapped)
    if kind == ck.CKO_PRIVATE_KEY:
        try:
            return from_private_key_info(_without_padding(mechanism, payload), attributes)
        finally:
            wipe(payload)
    return secret_of(mechanism, payload, attributes)


def payload_of(mechanism: Mechanism, target: Key) -> bytearray:
    """Return what is wrapped, in a copy to be wiped."""
    kind = number(target.attributes, ck.CKA_CLASS)
    if kind in SECRETS:
        return bytearray(secret_value(target))
    if kind != ck.CKO_PRIVATE_KEY or mechanism.type in _SECRETS_ONLY:
        raise KeyNotWrappable
    return private_key_info(target)


def secret_of(mechanism: Mechanism, payload: bytearray, attributes: Attributes) -> Attributes:
    """Return a secret key's attributes; padding that the mechanism cannot undo is cut by the template.

    "If any length conflict occurs between the key type …, the output from the unwrapping mechanism, or the
    specified CKA_VALUE_LEN", it is `WrappedKeyLenRange`.
    """
    key_type = number(attributes, ck.CKA_KEY_TYPE)
    wanted = number(attributes, ck.CKA_VALUE_LEN)
    if wanted is not None and wanted != len(payload):
        if mechanism.type in _ZERO_PADDED:
            room = _ZERO_PADDED[mechanism.type]
        elif mechanism.type == ck.CKM_AES_KEY_WRAP:
            room = _SEMIBLOCK
        else:
            room = 1
        if not len(payload) - room < wanted < len(payload):
            wipe(payload)
            raise WrappedKeyLenRange("CKA_VALUE_LEN is not the length of the wrapped key")
        if mechanism.type == ck.CKM_AES_KEY_WRAP and any(payload[wanted:]):
            wipe(payload)
            raise WrappedKeyInvalid("the padding is not zero")
        del payload[wanted:]
    if key_type is None or not secret_length_allowed(key_type, len(payload)):
        wipe(payload)
        raise WrappedKeyLenRange("the length of the unwrapped key does not fit its type")
    return secret_attributes(key_type, payload, attributes)


def _without_padding(mechanism: Mechanism, payload: bytearray) -> bytearray:
    """Return a PrivateKeyInfo without the zero bytes that AES key wrap put behind it.

    SoftHSM 2 puts them there for key wrap with padding too, inside of what that mechanism authenticates.
    """
    if mechanism.type not in _KEY_WRAPS:
        return payload
    try:
        _, _, end = der.element(payload, 0)
    except der.Malformed:
        raise WrappedKeyInvalid("no private key in the wrapped data") from None
    if len(payload) - end >= _SEMIBLOCK or any(payload[end:]):
        raise WrappedKeyInvalid("the padding is not zero")
    del payload[end:]  # in place: the caller wipes this one
    return payload


async def _encrypted(begin: Begin, mechanism: Mechanism, key: Key, payload: bytearray) -> bytes:
    operation = await begin(Function.ENCRYPT, mechanism, key)
    try:
        with memoryview(payload) as data:
            return bytes(await operation.once(data))
    except DataLenRange:
        raise KeySizeRange("the key is too long for the wrapping key") from None


async def _decrypted(begin: Begin, mechanism: Mechanism, key: Key, wrapped: memoryview) -> bytearray:
    operation = await begin(Function.DECRYPT, mechanism, key)
    try:
        plain = await operation.once(wrapped)
    except EncryptedDataLenRange:
        raise WrappedKeyLenRange from None
    except EncryptedDataInvalid:
        raise WrappedKeyInvalid from None
    return plain if isinstance(plain, bytearray) else bytearray(plain)


def _sized(mechanism: Mechanism, length: int) -> Mechanism:
    """Return a CCM mechanism with the length of the key in place: tokens ignore the caller's."""
    if isinstance(mechanism.parameter, Ccm):
        return mechanism._replace(parameter=mechanism.parameter._replace(data_length=length))
    return mechanism


def _key_wrap_length(type: int, length: int) -> int:
    from ferrohsm_adapters.software import key_wrap

    if type == ck.CKM_AES_KEY_WRAP:
        length = -(-length // _SEMIBLOCK) * _SEMIBLOCK
    wrapped = key_wrap.wrapped_length(type, length)
    if wrapped is None:
        raise KeySizeRange("the key is too short for this mechanism")
    return wrapped


def _wrap_key_wrap(mechanism: Mechanism, wrapping: Key, payload: bytearray) -> bytes:
    from ferrohsm_adapters.software import aes, key_wrap

    key_wrap.check_parameter(mechanism)
    _key_wrap_length(mechanism.type, len(payload))
    if mechanism.type == ck.CKM_AES_KEY_WRAP and len(payload) % _SEMIBLOCK:
        payload += bytes(_SEMIBLOCK - len(payload) % _SEMIBLOCK)
    return key_wrap.wrap(mechanism.type, aes.aes_value(wrapping), payload)


def _unwrap_key_wrap(mechanism: Mechanism, unwrapping: Key, wrapped: memoryview) -> bytearray:
    from ferrohsm_adapters.software import aes, key_wrap

    key_wrap.check_parameter(mechanism)
    if not key_wrap.unwrappable(mechanism.type, len(wrapped)):
        raise WrappedKeyLenRange
    try:
        return key_wrap.unwrap(mechanism.type, aes.aes_value(unwrapping), wrapped)
    except key_wrap.Malformed:
        raise WrappedKeyInvalid from None


def _oaep(parameter: Any) -> Mechanism:
    if not isinstance(parameter, RsaAesKeyWrap) or parameter.aes_key_bits not in (128, 192, 256):
        raise MechanismParamInvalid
    return Mechanism(ck.CKM_RSA_PKCS_OAEP, parameter.oaep)


async def _wrap_rsa_aes(begin: Begin, parameter: RsaAesKeyWrap, wrapping: Key, payload: bytearray) -> bytes:
    """Wrap with a new AES key, and that with RSA OAEP ("RSA AES KEY WRAP")."""
    from ferrohsm_adapters.software import key_wrap

    oaep = _oaep(parameter)
    temporary = bytearray(os.urandom(parameter.aes_key_bits // 8))
    try:
        first = await _encrypted(begin, oaep, wrapping, temporary)
        return first + key_wrap.wrap(ck.CKM_AES_KEY_WRAP_KWP, temporary, payload)
    finally:
        wipe(temporary)


async def _unwrap_rsa_aes(
    begin: Begin, parameter: RsaAesKeyWrap, unwrapping: Key, wrapped: memoryview
) -> bytearray:
    from ferrohsm_adapters.software import key_wrap

    oaep = _oaep(parameter)
    size = len(octets(unwrapping.attributes, ck.CKA_MODULUS))
    if not key_wrap.unwrappable(ck.CKM_AES_KEY_WRAP_KWP, len(wrapped) - size):
        raise WrappedKeyLenRange
    temporary = await _decrypted(begin, oaep, unwrapping, wrapped[:size])
    try:
        if len(temporary) != parameter.aes_key_bits // 8:
            raise WrappedKeyInvalid
        return key_wrap.unwrap(ck.CKM_AES_KEY_WRAP_KWP, temporary, wrapped[size:])
    except key_wrap.Malformed:
        raise WrappedKeyInvalid from None
    finally:
        wipe(temporary)
