"""Derived keys: the length rule that all derivations share, and derivation by encrypting data.

PKCS#11 3.2, "Key derivation by data encryption - DES & AES" and "… - Camellia".
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Operation
from ferrohsm.errors import AttributeValueInvalid, DataLenRange, KeySizeRange, TemplateIncomplete
from ferrohsm.parameters import CbcEncryptData, Mechanism
from ferrohsm.typed import Awaitable, Callable
from ferrohsm_adapters.software.material import (
    fixed_length,
    number,
    secret_attributes,
    secret_length_allowed,
    with_parity,
)
from ferrohsm_adapters.software.operation import wipe

Begin = Callable[[int, Mechanism, Key], Awaitable[Operation]]

# The encryption that a derivation uses, and the length of a block in bytes.
_CIPHERS = {
    ck.CKM_AES_ECB_ENCRYPT_DATA: (ck.CKM_AES_ECB, 16),
    ck.CKM_AES_CBC_ENCRYPT_DATA: (ck.CKM_AES_CBC, 16),
    ck.CKM_CAMELLIA_ECB_ENCRYPT_DATA: (ck.CKM_CAMELLIA_ECB, 16),
    ck.CKM_CAMELLIA_CBC_ENCRYPT_DATA: (ck.CKM_CAMELLIA_CBC, 16),
    ck.CKM_ARIA_ECB_ENCRYPT_DATA: (ck.CKM_ARIA_ECB, 16),
    ck.CKM_ARIA_CBC_ENCRYPT_DATA: (ck.CKM_ARIA_CBC, 16),
    ck.CKM_DES_ECB_ENCRYPT_DATA: (ck.CKM_DES_ECB, 8),
    ck.CKM_DES_CBC_ENCRYPT_DATA: (ck.CKM_DES_CBC, 8),
    ck.CKM_DES3_ECB_ENCRYPT_DATA: (ck.CKM_DES3_ECB, 8),
    ck.CKM_DES3_CBC_ENCRYPT_DATA: (ck.CKM_DES3_CBC, 8),
}


def wanted_length(attributes: Attributes) -> int | None:
    """Return the length in bytes that the template asks for, None when it leaves it open.

    Raises `AttributeValueInvalid` for a length that the key type does not have.
    """
    length = number(attributes, ck.CKA_VALUE_LEN)
    if number(attributes, ck.CKA_CLASS) == ck.CKO_DATA:
        return length
    key_type = _key_type(attributes)
    if length is None:
        return fixed_length(key_type)
    if not secret_length_allowed(key_type, length):
        raise AttributeValueInvalid("CKA_VALUE_LEN does not fit the key type")
    return length


def derived_key(secret: bytearray, attributes: Attributes, *, leading: bool) -> Attributes:
    """Return the attributes of the key made of `secret`, which is wiped unless it is the value itself.

    `leading` keeps the leading bytes when the key is shorter, else the trailing ones. Without a length
    in the template the whole secret must be a key of the type.
    """
    key_type, length = _key_type(attributes), wanted_length(attributes)
    if length is None:
        if not secret_length_allowed(key_type, len(secret)):
            wipe(secret)
            raise TemplateIncomplete("CKA_VALUE_LEN is needed for this key type")
        length = len(secret)
    if length > len(secret):
        wipe(secret)
        raise KeySizeRange("more bytes asked for than there are")
    value = secret
    if length != len(secret):
        value = secret[:length] if leading else secret[len(secret) - length :]
        wipe(secret)
    return secret_attributes(key_type, with_parity(key_type, value), attributes)


async def derive(begin: Begin, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of a key made by encrypting data with `base`; `begin` starts that."""
    cipher, block = _CIPHERS[mechanism.type]
    if isinstance(mechanism.parameter, CbcEncryptData):
        data, inner = mechanism.parameter.data, Mechanism(cipher, mechanism.parameter.iv)
    else:
        data, inner = mechanism.parameter, Mechanism(cipher)
    if not data or len(data) % block:
        raise DataLenRange
    length = wanted_length(attributes)
    if length is not None and length > len(data):
        raise DataLenRange
    operation = await begin(Function.ENCRYPT, inner, base)
    made = await operation.once(memoryview(data))
    secret = made if isinstance(made, bytearray) else bytearray(made)
    return derived_key(secret, attributes, leading=True)


def _key_type(attributes: Attributes) -> int:
    key_type = number(attributes, ck.CKA_KEY_TYPE)
    return ck.CKK_GENERIC_SECRET if key_type is None else key_type
