"""AES key wrap, as encryption and for keys (PKCS#11 3.2, "AES Key Wrap"; RFC 3394, RFC 5649).

The engine has the default initial values; another one is refused. RFC 3394 itself needs at least
two semiblocks (16 bytes), RFC 5649 one byte.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap,
    aes_key_wrap_with_padding,
)

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import DataLenRange, EncryptedDataInvalid, EncryptedDataLenRange, MechanismParamInvalid
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software.aes import aes_value
from ferrohsm_adapters.software.material import Bytes
from ferrohsm_adapters.software.operation import EngineOperation

SEMIBLOCK = 8
_DEFAULT_IVS = (None, b"", b"\xa6" * 8, b"\xa6\x59\x59\xa6")
_RFC5649 = (ck.CKM_AES_KEY_WRAP_KWP, ck.CKM_AES_KEY_WRAP_PAD)


class Malformed(ValueError):
    """What came out of the cipher is not what key wrap puts in."""


def check_parameter(mechanism: Mechanism) -> None:
    """Refuse an initial value that is not the default one."""
    if mechanism.parameter not in _DEFAULT_IVS:
        raise MechanismParamInvalid("the engine has the default initial value only")


def wrapped_length(type: int, length: int) -> int | None:
    """Return the length that `length` bytes are wrapped to, None when they cannot be."""
    if type in _RFC5649:
        return -(-length // SEMIBLOCK) * SEMIBLOCK + SEMIBLOCK if length else None
    if type == ck.CKM_AES_KEY_WRAP_PKCS7:
        length += SEMIBLOCK - length % SEMIBLOCK
    return length + SEMIBLOCK if length >= 2 * SEMIBLOCK and not length % SEMIBLOCK else None


def wrap(type: int, value: Bytes, data: Bytes | memoryview) -> bytes:
    """Return `data`, of a length that can be wrapped, under the AES key `value`."""
    if type in _RFC5649:
        return aes_key_wrap_with_padding(value, data)
    if type != ck.CKM_AES_KEY_WRAP_PKCS7:
        return aes_key_wrap(value, data)
    count = SEMIBLOCK - len(data) % SEMIBLOCK
    padded = bytearray(data) + bytes((count,)) * count
    return aes_key_wrap(value, padded)


def unwrap(type: int, value: Bytes, data: Bytes | memoryview) -> bytearray:
    """Return what is under `data`. Raises `Malformed` when the integrity check fails."""
    try:
        if type in _RFC5649:
            return bytearray(aes_key_unwrap_with_padding(value, data))
        plain = bytearray(aes_key_unwrap(value, data))
    except InvalidUnwrap:
        raise Malformed from None
    if type != ck.CKM_AES_KEY_WRAP_PKCS7:
        return plain
    # The check above has authenticated all of this: nothing to hide about the padding.
    count = plain[-1]
    if not 1 <= count <= SEMIBLOCK or plain[-count:] != bytes((count,)) * count:
        raise Malformed
    del plain[-count:]
    return plain


def unwrappable(type: int, length: int) -> bool:
    """Tell whether wrapped data may have this length."""
    shortest = 2 if type in _RFC5649 else 3
    return length % SEMIBLOCK == 0 and length >= shortest * SEMIBLOCK


class KeyWrap(EngineOperation):
    """Key wrap used on data."""

    __slots__ = ("encrypt", "type", "value")

    multi_part = False

    def __init__(self, type: int, value: Bytes, encrypt: bool) -> None:
        super().__init__()
        self.type = type
        self.value: bytearray | None = bytearray(value)
        self.encrypt = encrypt

    def once_length(self, length: int) -> int:
        if self.encrypt:
            out = wrapped_length(self.type, length)
            if out is None:
                raise DataLenRange
            return out
        if not unwrappable(self.type, length):
            raise EncryptedDataLenRange
        return length - SEMIBLOCK

    def _once(self, data: memoryview) -> Bytes:
        self.once_length(len(data))
        assert self.value is not None
        if self.encrypt:
            return wrap(self.type, self.value, data)
        try:
            return unwrap(self.type, self.value, data)
        except Malformed:
            raise EncryptedDataInvalid from None

    def _drop(self) -> None:
        if self.value is not None:
            self.value[:] = bytes(len(self.value))
            self.value = None


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> KeyWrap:
    """Start key wrap used as encryption."""
    check_parameter(mechanism)
    return KeyWrap(mechanism.type, aes_value(key), function == Function.ENCRYPT)
