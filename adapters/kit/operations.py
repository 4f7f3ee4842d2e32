"""Operations that a device computes: used once, lengths known before, closed by whatever ends them.

See `ferrohsm.adapters.Operation` for the contract. `compute` is the device's part: it gets the data, or its
digest, and is awaited. `length` says how many bytes the result has for so many bytes of data, and raises
(``DataLenRange``, ``EncryptedDataLenRange``) for a length that cannot be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any

from ferrohsm.errors import (
    DataLenRange,
    FunctionNotSupported,
    OperationNotInitialized,
    SignatureInvalid,
    SignatureLenRange,
)

Compute = Callable[[Any], Awaitable["bytes | bytearray"]]


class DeviceOperation:
    """The base: a subclass has `_once`, or `_update` and `_finish`."""

    multi_part = False

    def __init__(self, compute: Compute) -> None:
        self._compute: Compute | None = compute

    def once_length(self, length: int) -> int:
        """Return the length of what `once` gives for `length` bytes."""
        return self.update_length(length) + self.finish_length()

    def update_length(self, length: int) -> int:
        """Return the length of what `update` gives: nothing comes before the end."""
        return 0

    def finish_length(self) -> int:
        """Return the length of what `finish` gives."""
        return 0

    async def once(self, data: memoryview) -> bytes | bytearray:
        """Do it all."""
        try:
            return await self._once(self._live(), data)
        finally:
            self.close()

    async def update(self, data: memoryview) -> bytes | bytearray:
        """Take the next part."""
        try:
            self._live()
            self._update(data)
        except BaseException:
            self.close()
            raise
        return b""

    async def finish(self) -> bytes | bytearray:
        """Give the result of all parts."""
        try:
            return await self._finish(self._live())
        finally:
            self.close()

    async def verify(self, data: memoryview, signature: memoryview) -> None:
        """Compute it again and compare: for keys that both sides have."""
        _compare(await self.once(data), signature)

    async def finish_verify(self, signature: memoryview) -> None:
        """Do as `verify` does, for the parts."""
        _compare(await self.finish(), signature)

    def close(self) -> None:
        """End it and wipe what was kept; may be called twice."""
        self._compute = None

    def _live(self) -> Compute:
        if self._compute is None:
            raise OperationNotInitialized("the operation is over")
        return self._compute

    async def _once(self, compute: Compute, data: memoryview) -> bytes | bytearray:
        self._update(data)
        return await self._finish(compute)

    def _update(self, data: memoryview) -> None:
        raise FunctionNotSupported("this operation takes its data in one part")

    async def _finish(self, compute: Compute) -> bytes | bytearray:
        raise FunctionNotSupported("this operation takes its data in one part")


class Whole(DeviceOperation):
    """An operation on data in one part, as it is: a digest to sign, a block to decrypt."""

    def __init__(self, compute: Compute, length: Callable[[int], int]) -> None:
        super().__init__(compute)
        self._length = length

    def once_length(self, length: int) -> int:
        """Return the length of the result."""
        return self._length(length)

    async def _once(self, compute: Compute, data: memoryview) -> bytes | bytearray:
        self._length(len(data))
        kept = bytearray(data)  # the caller's memory is gone when it gives up before the device answers
        try:
            return await compute(kept)
        finally:
            kept[:] = bytes(len(kept))


class Hashed(DeviceOperation):
    """A signature over data of any length, hashed here: the device gets the digest."""

    multi_part = True

    def __init__(self, compute: Compute, hash_name: str, length: int) -> None:
        from ferrohsm_adapters.software.hash_functions import hashing

        super().__init__(compute)
        self._context: Any = hashing(hash_name)
        self._length = length

    def finish_length(self) -> int:
        """Return the length of the signature."""
        return self._length

    def _update(self, data: memoryview) -> None:
        self._context.update(data)

    async def _finish(self, compute: Compute) -> bytes | bytearray:
        return await compute(self._context.finalize())

    def close(self) -> None:
        """Forget the data."""
        super().close()
        self._context = None


class Gathered(DeviceOperation):
    """An operation whose data the device takes whole, up to `limit` bytes: it is gathered until then."""

    multi_part = True

    def __init__(self, compute: Compute, length: int, limit: int) -> None:
        super().__init__(compute)
        self._data = bytearray()
        self._length = length
        self._limit = limit

    def once_length(self, length: int) -> int:
        """Return the length of the result."""
        self._check(length)
        return self._length

    def finish_length(self) -> int:
        """Return the length of the result."""
        return self._length

    def _check(self, length: int) -> None:
        if len(self._data) + length > self._limit:
            raise DataLenRange(f"the device takes up to {self._limit} bytes")

    def _update(self, data: memoryview) -> None:
        self._check(len(data))
        self._data += data

    async def _finish(self, compute: Compute) -> bytes | bytearray:
        return await compute(self._data)

    def close(self) -> None:
        """Overwrite what was gathered."""
        super().close()
        self._data[:] = bytes(len(self._data))
        self._data = bytearray()


def _compare(made: bytes | bytearray, signature: memoryview) -> None:
    if len(signature) != len(made):
        raise SignatureLenRange
    if not compare_digest(made, signature):
        raise SignatureInvalid
