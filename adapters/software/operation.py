"""What the engine's operations have in common: used once, wiped afterwards, lengths known before.

A subclass overrides the plain methods it has (`_once`, `_update`, …); the coroutines around them end
the operation. See `ferrohsm.adapters.Operation` for the contract.
"""

from __future__ import annotations

from ferrohsm.errors import (
    FunctionNotSupported,
    HsmError,
    OperationNotInitialized,
    StateUnsaveable,
    TokenResourceExceeded,
)
from ferrohsm.typed import Any, TypeVar

# Data that must be seen whole before anything may leave (AEAD decryption, EdDSA) is kept up to here.
MAX_HELD_BYTES = 64 * 1024 * 1024


T = TypeVar("T", bound="EngineOperation")


class EngineOperation:
    """The base of all operations."""

    __slots__ = ("live",)

    multi_part = True

    def __init__(self) -> None:
        self.live = True

    def once_length(self, length: int) -> int:
        return self.update_length(length) + self.finish_length()

    def update_length(self, length: int) -> int:
        return 0

    def finish_length(self) -> int:
        return 0

    async def once(self, data: memoryview) -> bytes | bytearray:
        self._check()
        try:
            return self._once(data)
        finally:
            self.close()

    async def update(self, data: memoryview) -> bytes | bytearray:
        self._check()
        try:
            return self._update(data)
        except BaseException:
            self.close()
            raise

    async def finish(self) -> bytes | bytearray:
        self._check()
        try:
            return self._finish()
        finally:
            self.close()

    async def verify(self, data: memoryview, signature: memoryview) -> None:
        self._check()
        try:
            self._verify(data, signature)
        finally:
            self.close()

    async def finish_verify(self, signature: memoryview) -> None:
        self._check()
        try:
            self._finish_verify(signature)
        finally:
            self.close()

    def close(self) -> None:
        if self.live:
            self.live = False
            self._drop()

    def _check(self) -> None:
        if not self.live:
            raise OperationNotInitialized("the operation is over")

    def _once(self, data: memoryview) -> bytes | bytearray:
        first = self._update(data)
        last = self._finish()
        if not first:
            return last
        if not last:
            return first
        return first + last

    def _update(self, data: memoryview) -> bytes | bytearray:
        raise FunctionNotSupported("this operation takes its data in one part")

    def _finish(self) -> bytes | bytearray:
        raise FunctionNotSupported("this operation takes its data in one part")

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        self._update(data)
        self._finish_verify(signature)

    def _finish_verify(self, signature: memoryview) -> None:
        raise FunctionNotSupported("this operation does not verify")

    def _drop(self) -> None:
        """Let go of keys and wipe what was held."""


class Held:
    """Bytes kept until the end of an operation, up to `MAX_HELD_BYTES` (then `refusal`), and wiped."""

    __slots__ = ("data", "refusal")

    def __init__(self, refusal: type[HsmError] = TokenResourceExceeded) -> None:
        self.data = bytearray()
        self.refusal = refusal

    def __len__(self) -> int:
        """Return the number of bytes held."""
        return len(self.data)

    def append(self, data: memoryview) -> None:
        if len(self.data) + len(data) > MAX_HELD_BYTES:
            raise self.refusal("too much data for an operation that must keep it")
        self.data += data

    def wipe(self) -> None:
        wipe(self.data)
        self.data = bytearray()


def wipe(buffer: bytearray) -> None:
    """Overwrite `buffer` with zeros."""
    buffer[:] = bytes(len(buffer))


def copied(operation: T) -> T:
    """Return a second operation that is where this one is, for those whose only state is their `context`.

    Raises `StateUnsaveable` when the engine cannot copy that.
    """
    operation._check()
    context: Any = getattr(operation, "context", None)
    copy = getattr(context, "copy", None)
    if context is not None and copy is None:
        raise StateUnsaveable("the engine cannot copy this operation")
    made = object.__new__(type(operation))
    for kind in type(operation).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(operation, name):
                setattr(made, name, getattr(operation, name))
    if copy is not None:
        made.context = copy()  # type: ignore[attr-defined]
    return made
