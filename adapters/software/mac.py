"""Message authentication: HMAC and AES-CMAC, whole or of a length asked for.

PKCS#11 3.2, "Hash-Based Message Authentication Codes (HMAC)" and "AES-CMAC".
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Any

from ferrohsm.adapters import Key
from ferrohsm.errors import KeySizeRange, MechanismParamInvalid, SignatureInvalid, SignatureLenRange
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software.material import secret_value
from ferrohsm_adapters.software.operation import EngineOperation


class Mac(EngineOperation):
    """A MAC being made or checked; `length` is in bytes."""

    __slots__ = ("context", "length")

    def __init__(self, context: Any, length: int) -> None:
        super().__init__()
        self.context = context
        self.length = length

    def finish_length(self) -> int:
        return self.length

    def _update(self, data: memoryview) -> bytes:
        self.context.update(data)
        return b""

    def _finish(self) -> bytes:
        tag: bytes = self.context.finalize()
        return tag[: self.length]

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        self._check_length(signature)
        super()._verify(data, signature)

    def _finish_verify(self, signature: memoryview) -> None:
        self._check_length(signature)
        if not compare_digest(self._finish(), signature):
            raise SignatureInvalid

    def _check_length(self, signature: memoryview) -> None:
        if len(signature) != self.length:
            raise SignatureLenRange

    def _drop(self) -> None:
        self.context = None


def _length(mechanism: Mechanism, whole: int) -> int:
    """Return the length asked for in a ``CK_MAC_GENERAL_PARAMS``, else the whole."""
    if mechanism.parameter is None:
        return whole
    length: int = mechanism.parameter
    if not 1 <= length <= whole:
        raise MechanismParamInvalid("the length of a MAC is from 1 to that of its whole output")
    return length


def begin_hmac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start an HMAC."""
    from cryptography.hazmat.primitives.hmac import HMAC

    from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS

    assert row.hash is not None
    algorithm = HASH_FUNCTIONS[row.hash]
    length = _length(mechanism, algorithm.digest_size)
    value = secret_value(key)
    if not row.min_key <= len(value) <= row.max_key:
        raise KeySizeRange
    return Mac(HMAC(value, algorithm), length)


def begin_cmac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start an AES-CMAC."""
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.cmac import CMAC

    length = _length(mechanism, 16)
    value = secret_value(key)
    if len(value) not in (16, 24, 32):
        raise KeySizeRange
    return Mac(CMAC(AES(value)), length)
