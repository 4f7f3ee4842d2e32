"""A cryptographic operation that is bound to what allowed it: a login, a key, a session's token."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.audit.tokens import unique_id
from ferrohsm.errors import (
    DataLenRange,
    FunctionNotSupported,
    KeyHandleInvalid,
    OperationNotInitialized,
    StateUnsaveable,
    UserNotLoggedIn,
)
from ferrohsm.typed import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ferrohsm.adapters import Operation
    from ferrohsm.audit.ring import Carrier
    from ferrohsm.audit.tokens import KeyUse
    from ferrohsm.entries import Entry
    from ferrohsm.tokens import Token

T = TypeVar("T")


class BoundOperation:
    """An adapter's `Operation` and the right to it.

    It holds its key, which is wiped only when the operation lets go. `needs_login` stays true until
    the ABI has seen ``C_Login`` with ``CKU_CONTEXT_SPECIFIC`` succeed. `operation` is the adapter's own.
    """

    # How many values with a type each it gives instead of a string of bytes (`ferrohsm.otp`).
    pieces = 0

    __slots__ = (
        "_busy",
        "_entry",
        "_epoch",
        "_expired",
        "_longest",
        "_over",
        "_token",
        "_use",
        "multi_part",
        "needs_login",
        "operation",
    )

    def __init__(
        self, token: Token, operation: Operation, entry: Entry | None, use: KeyUse | None = None
    ) -> None:
        self.operation = operation
        self.multi_part = operation.multi_part
        self.needs_login = entry is not None and entry.flag(ck.CKA_ALWAYS_AUTHENTICATE)
        self._token = token
        self._longest = token.longest_input
        self._use = use
        self._entry = entry
        self._epoch = token.epoch
        self._busy = False
        self._over = False
        self._expired = False
        token.operations.add(self)

    def valid(self) -> bool:
        """Say whether the key is still there and the login still the one it was allowed under."""
        entry = self._entry
        if self._over:
            return False
        if entry is None:
            return True
        return not entry.gone and (not entry.private or self._epoch == self._token.epoch)

    def terms(self) -> tuple[Any, bool, bool] | None:
        """Return on what terms the same use may begin again without asking; None: it has to be asked for.

        The terms are the kernel's key (a capsule, None where no key is used), whether the right ends with
        the login, and whether other processes may change the key. See `ferrohsm.adapters.KernelOperation`.
        """
        kernel_key = getattr(self.operation, "kernel_key", None)
        if kernel_key is None or self.needs_login or self._over:
            return None
        if self._entry is None:
            return None, False, False
        key = kernel_key()
        return None if key is None else (key, self._entry.private, self._entry.oid > 0)

    def copy(self) -> BoundOperation:
        """Return a second operation that is where this one is, with a right of its own.

        Raises `StateUnsaveable` when the engine cannot copy it, or where the key wants the PIN at each use.
        """
        if not self.valid():
            raise OperationNotInitialized()
        entry, copy = self._entry, getattr(self.operation, "copy", None)
        if copy is None or (entry is not None and entry.flag(ck.CKA_ALWAYS_AUTHENTICATE)):
            raise StateUnsaveable()
        try:
            made = copy()
        except FunctionNotSupported:
            raise StateUnsaveable() from None
        if entry is not None and not entry.hold():
            made.close()
            raise OperationNotInitialized()
        bound = BoundOperation(self._token, made, entry, self._use and self._use.copy())
        bound._epoch = self._epoch
        return bound

    @property
    def use(self) -> KeyUse | None:
        """What records the use of its key; None where that is not recorded."""
        return self._use

    @property
    def audited(self) -> tuple[Carrier, bytes, bytes] | None:
        """Return what records the uses of its key without Python: carrier, chain, key; None: nothing does.

        Raises `FunctionNotSupported` when they are recorded, but only here.
        """
        if self._entry is None or self._token.audit.silent:
            return None
        carried = self._token.audit.carried()
        if carried is None:
            raise FunctionNotSupported()
        return *carried, unique_id(self._entry.attributes)

    @property
    def key(self) -> int | None:
        """The identity of its key, None for a digest."""
        return None if self._entry is None else self._entry.oid

    def expire(self) -> None:
        """End it if its right is gone and nobody is in the middle of it."""
        if not self._busy and not self.valid():
            self._expired = not self._over
            self.close()

    def once_length(self, length: int) -> int:
        """Return the length of what `once` gives for `length` bytes."""
        return self.operation.once_length(length)

    def update_length(self, length: int) -> int:
        """Return the length of what `update` gives for `length` bytes."""
        return self.operation.update_length(length)

    def finish_length(self) -> int:
        """Return the length of what `finish` gives."""
        return self.operation.finish_length()

    async def once_within(self, data: memoryview, room: int | None) -> int | bytes | bytearray:
        """Do it all if it gives at most `room` bytes (None: no limit), else return how many it would give."""
        length = self.operation.once_length(len(data))
        if room is not None and length > room:
            return length
        return await self.once(data)

    async def once(self, data: memoryview) -> bytes | bytearray:
        """Do it all."""
        self._enter(len(data))
        try:
            return await self._recorded(self.operation.once(data))
        finally:
            self._leave(over=True)

    async def update(self, data: memoryview) -> bytes | bytearray:
        """Take the next part."""
        self._enter(len(data))
        over = True
        try:
            result = await self.operation.update(data)
            if self._use is not None and result:
                self._use.part(result)
            over = False
            return result
        except Exception as error:
            self._failed(error)
            raise
        finally:
            self._leave(over=over)

    async def finish(self) -> bytes | bytearray:
        """Give what is left."""
        self._enter()
        try:
            return await self._recorded(self.operation.finish())
        finally:
            self._leave(over=True)

    async def verify(self, data: memoryview, signature: memoryview) -> None:
        """Check a signature over `data`."""
        self._enter(len(data))
        try:
            await self._recorded(self.operation.verify(data, signature))
        finally:
            self._leave(over=True)

    async def finish_verify(self, signature: memoryview) -> None:
        """Check a signature over the parts."""
        self._enter()
        try:
            await self._recorded(self.operation.finish_verify(signature))
        finally:
            self._leave(over=True)

    async def _recorded(self, work: Awaitable[T]) -> T:
        """Do what ends the operation, and record it; what cannot be recorded is not given out."""
        try:
            result = await work
        except Exception as error:
            self._failed(error)
            raise
        if self._use is not None:
            self._use.ended(result)
        return result

    def _failed(self, error: Exception) -> None:
        if self._use is not None:
            self._use.failed(error)

    def _enter(self, length: int = 0) -> None:
        try:
            self._check()
        except UserNotLoggedIn as error:
            self._failed(error)
            raise
        if self._longest is not None and length > self._longest:
            self.close()
            raise DataLenRange(f"the device takes {self._longest} bytes at once")
        self._busy = True

    def _check(self) -> None:
        if self._over:
            raise UserNotLoggedIn() if self._expired else OperationNotInitialized()
        if self.needs_login:
            raise UserNotLoggedIn()
        if not self.valid():
            logged_out = self._epoch != self._token.epoch
            self.close()
            raise UserNotLoggedIn() if logged_out else KeyHandleInvalid()

    def _leave(self, *, over: bool) -> None:
        self._busy = False
        if over or not self.valid():
            self.close()

    def close(self) -> None:
        """End it and let go of the key; may be called twice."""
        if self._over:
            return
        self._over = True
        self._token.operations.discard(self)
        entry, self._entry = self._entry, None
        try:
            self.operation.close()
        finally:
            if entry is not None:
                entry.release()
