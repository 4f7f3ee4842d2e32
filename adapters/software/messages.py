"""AEAD of messages, one after the other with one key (PKCS#11 3.2, "Message-based encryption functions").

A message is an operation of the mechanism with its own initialization vector; its tag stands apart.
A vector is used once in a process: the last ones are remembered.
"""

from __future__ import annotations

import os

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import (
    AeadDecryptFailed,
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    MechanismParamInvalid,
    TokenResourceExceeded,
)
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Ccm, ChaCha20Poly1305, Gcm, Mechanism, MessageParameter
from ferrohsm.typed import Callable
from ferrohsm_adapters.software import aes, modes
from ferrohsm_adapters.software.operation import EngineOperation

REMEMBERED = 1 << 16  # vectors of a process that are known to be used
# The fewest bits that a generated vector varies in: a random one must not come twice.
_FEWEST_RANDOM_BITS = 64
_FEWEST_COUNTED_BITS = 32

Make = Callable[[Key, MessageParameter, bytes, bytes, bool], EngineOperation]


class Vectors:
    """The initialization vectors of one process: generated as asked for, none used twice."""

    def __init__(self) -> None:
        self.count = 0
        self.base: int | None = None
        self.scheme: tuple[int, int, int] | None = None
        self.used: dict[bytes, None] = {}

    def next(self, parameter: MessageParameter) -> bytes:
        """Return the vector of the next message to encrypt. Raises `MechanismParamInvalid`."""
        size = 8 * len(parameter.iv)
        free = size - parameter.fixed
        if parameter.generator == ck.CKG_NO_GENERATE:
            vector = parameter.iv
        elif not 0 < free <= size:
            raise MechanismParamInvalid("the fixed part leaves nothing to generate")
        else:
            moving = self._moving(parameter, free)
            fixed = int.from_bytes(parameter.iv, "big") >> free << free
            vector = (fixed | moving).to_bytes(len(parameter.iv), "big")
        if vector in self.used:
            raise MechanismParamInvalid("this initialization vector was used before")
        self.used[vector] = None
        if len(self.used) > REMEMBERED:
            del self.used[next(iter(self.used))]
        return vector

    def _moving(self, parameter: MessageParameter, free: int) -> int:
        """Return the part that is not fixed."""
        random = parameter.generator in (ck.CKG_GENERATE, ck.CKG_GENERATE_RANDOM)
        if free < (_FEWEST_RANDOM_BITS if random else _FEWEST_COUNTED_BITS):
            raise MechanismParamInvalid("too few bits to generate")
        mask = (1 << free) - 1
        if random:
            return int.from_bytes(os.urandom(-(-free // 8)), "big") & mask
        given = int.from_bytes(parameter.iv, "big") & mask
        if parameter.generator == ck.CKG_GENERATE_COUNTER:
            given = 0
        elif parameter.generator != ck.CKG_GENERATE_COUNTER_XOR:
            raise MechanismParamInvalid("unknown generator")
        scheme = (parameter.generator, free, given)
        if self.scheme is None:
            self.scheme = scheme
        elif self.scheme != scheme:
            # "The value of the non-fixed portion passed must not vary from call to call."
            raise MechanismParamInvalid("the generator or what it starts from has changed")
        number = self.count
        if number > mask:
            raise TokenResourceExceeded("the counter of the vectors is used up")
        self.count += 1
        return given ^ number


class AeadMessages:
    """A process of encrypting or decrypting messages (see `ferrohsm.adapters.Messages`)."""

    multi_part = True

    def __init__(self, make: Make, key: Key, encrypt: bool) -> None:
        self.make = make
        self.key: Key | None = key
        self.encrypt = encrypt
        self.vectors = Vectors()
        self.operation: EngineOperation | None = None
        self.tag_length = 0
        self.expected: int | None = None  # bytes that a CCM message still has to have
        self.held = 0  # bytes of text that come out at the end

    def begin(self, parameter: MessageParameter, associated: memoryview) -> bytes:
        """Begin a message and return its vector."""
        assert self.key is not None
        vector, data = parameter.iv, bytes(associated)
        if self.encrypt:
            # What is wrong with the parameter is found before a vector is spent on it.
            self.make(self.key, parameter, vector, data, True).close()
            vector = self.vectors.next(parameter)
        self.operation = self.make(self.key, parameter, vector, data, self.encrypt)
        self.tag_length, self.expected, self.held = parameter.tag_length, parameter.data_length, 0
        return vector

    def length(self, length: int, last: bool) -> int:
        """Return the bytes of text that come out for `length` bytes."""
        assert self.operation is not None
        if self.expected is not None and (length > self.expected or (last and length != self.expected)):
            raise DataLenRange if self.encrypt else EncryptedDataLenRange
        out = self.operation.update_length(length)
        return out + self.held + length - out if last else out

    def update(self, data: memoryview) -> bytes | bytearray:
        """Take a part."""
        expected_out = self.length(len(data), False)
        assert self.operation is not None
        out = self.operation._update(data)
        self.held += len(data) - expected_out
        if self.expected is not None:
            self.expected -= len(data)
        return out

    def finish(self, data: memoryview, tag: bytes) -> tuple[bytes | bytearray, bytes]:
        """Take the last part, and give or check the tag."""
        self.length(len(data), True)
        operation = self.operation
        assert operation is not None
        if not self.encrypt:
            if len(tag) != self.tag_length:
                raise MechanismParamInvalid("the tag has another length than at the beginning")
            operation._update(data)
            operation._update(memoryview(tag))
            try:
                return operation._finish(), b""
            except EncryptedDataInvalid:
                raise AeadDecryptFailed from None
        out = bytearray(operation._update(data))
        out += operation._finish()
        made = bytes(out[-self.tag_length :])
        del out[-self.tag_length :]
        return out, made

    def abandon(self) -> None:
        """Give up the message in hand."""
        operation, self.operation = self.operation, None
        if operation is not None:
            operation.close()

    def close(self) -> None:
        """End the process."""
        self.abandon()
        self.key = None


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> AeadMessages:
    """Start a process."""
    return AeadMessages(_MAKERS[mechanism.type], key, function == Function.MESSAGE_ENCRYPT)


def _gcm(key: Key, parameter: MessageParameter, vector: bytes, data: bytes, encrypt: bool) -> EngineOperation:
    made = Gcm(vector, 8 * len(vector), data, 8 * parameter.tag_length)
    return aes.cipher(Mechanism(ck.CKM_AES_GCM, made), aes.aes_value(key), encrypt)


def _ccm(key: Key, parameter: MessageParameter, vector: bytes, data: bytes, encrypt: bool) -> EngineOperation:
    if parameter.data_length is None:
        raise MechanismParamInvalid
    made = Ccm(parameter.data_length, vector, data, parameter.tag_length)
    return aes.cipher(Mechanism(ck.CKM_AES_CCM, made), aes.aes_value(key), encrypt)


def _chacha20_poly1305(
    key: Key, parameter: MessageParameter, vector: bytes, data: bytes, encrypt: bool
) -> EngineOperation:
    return modes.chacha20_poly1305(key, ChaCha20Poly1305(vector, data), encrypt)


_MAKERS: dict[int, Make] = {
    ck.CKM_AES_GCM: _gcm,
    ck.CKM_AES_CCM: _ccm,
    ck.CKM_CHACHA20_POLY1305: _chacha20_poly1305,
}
