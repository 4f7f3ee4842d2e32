"""Wrapping under an elliptic curve key: ECDH with a new key, then AES key wrap with padding.

PKCS#11 3.2, "ECDH AES KEY WRAP" and its forms with cofactor (all curves here have 1) and for Montgomery
keys. The blob begins with the new key's point as ``C_DeriveKey`` takes it: uncompressed, no DER around it.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import MechanismParamInvalid, WrappedKeyInvalid, WrappedKeyLenRange
from ferrohsm.mechanisms import ROWS
from ferrohsm.parameters import Ecdh1, EcdhAesKeyWrap, Mechanism
from ferrohsm.typed import Any
from ferrohsm_adapters.software import der, ec_material, ecdh, key_wrap
from ferrohsm_adapters.software.material import Bytes, ulong
from ferrohsm_adapters.software.operation import wipe

_KWP = ck.CKM_AES_KEY_WRAP_KWP
_BITS = (128, 192, 256)


def point_length(key: Key) -> int:
    """Return the length in bytes of a point of the key's curve."""
    curve = ec_material.key_curve(key)
    return 1 + 2 * curve.length if curve.key_type == ck.CKK_EC else curve.length


def wrap(parameter: EcdhAesKeyWrap, wrapping: Key, payload: bytearray) -> bytes:
    """Return the new key's point and `payload` under what was agreed with it."""
    curve = ec_material.key_curve(wrapping)
    transport = ec_material.generate(curve)
    point = _raw(ec_material.point_of(curve, transport.public_key()))
    ours = Key(0, {**_shared(wrapping), ck.CKA_VALUE: ec_material.private_value(curve, transport)})
    try:
        theirs = _raw(ec_material.point_of(curve, ec_material.public_key(wrapping)))
        secret = _agreed(parameter, ours, theirs)
    finally:
        ours.wipe()
    try:
        return point + key_wrap.wrap(_KWP, secret, payload)
    finally:
        wipe(secret)


def unwrap(parameter: EcdhAesKeyWrap, unwrapping: Key, wrapped: memoryview) -> bytearray:
    """Return what is under `wrapped`."""
    size = point_length(unwrapping)
    if not key_wrap.unwrappable(_KWP, len(wrapped) - size):
        raise WrappedKeyLenRange
    _check(parameter)
    try:
        secret = _agreed(parameter, unwrapping, bytes(wrapped[:size]))
    except MechanismParamInvalid:
        raise WrappedKeyInvalid("no point of the curve at the beginning") from None
    try:
        return key_wrap.unwrap(_KWP, secret, wrapped[size:])
    except key_wrap.Malformed:
        raise WrappedKeyInvalid from None
    finally:
        wipe(secret)


def _check(parameter: Any) -> None:
    if parameter.aes_key_bits not in _BITS:
        raise MechanismParamInvalid("the AES key has 128, 192 or 256 bits")
    ecdh.checked_kdf(parameter.kdf, parameter.shared_data)


def _agreed(parameter: EcdhAesKeyWrap, private: Key, point: bytes) -> bytearray:
    """Return "the first ulAESKeyBits bits of the derived key"."""
    _check(parameter)
    whole = Mechanism(ck.CKM_ECDH1_DERIVE, Ecdh1(parameter.kdf, parameter.shared_data, point))
    template: Attributes = {ck.CKA_KEY_TYPE: ulong(ck.CKK_GENERIC_SECRET)}
    length = parameter.aes_key_bits // 8
    if parameter.kdf != ck.CKD_NULL:
        template[ck.CKA_VALUE_LEN] = ulong(length)
    made = ecdh.derive(ROWS[whole.type], whole, private, template, None)[ck.CKA_VALUE]
    assert isinstance(made, bytearray)
    if len(made) < length:
        wipe(made)
        raise MechanismParamInvalid("the curve gives fewer bits")
    secret = made[:length]
    wipe(made)
    return secret


def _shared(key: Key) -> Attributes:
    return {type: key.attributes[type] for type in (ck.CKA_KEY_TYPE, ck.CKA_EC_PARAMS)}


def _raw(point: Bytes) -> bytes:
    inner = der.octet_string(point)
    assert inner is not None
    return inner
