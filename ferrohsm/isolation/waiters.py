"""Those who wait for an answer of the other process: threads, and coroutines on any loop."""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from ferrohsm.isolation.values import wipe

if TYPE_CHECKING:
    import asyncio


class Waiter:
    """Somebody who waits for an answer until `due`; `noted_by` is when a cancelled call must be noted."""

    __slots__ = ("due", "noted_by")

    def __init__(self, due: float) -> None:
        self.due = due
        self.noted_by: float | None = None

    def settle(self, value: Any, error: BaseException | None, secrets: list[bytearray]) -> None:
        """Give the answer, or wipe it when nobody wants it any more."""
        raise NotImplementedError


class Blocked(Waiter):
    """A thread that waits."""

    __slots__ = ("arrived", "error", "settled", "value")

    def __init__(self, due: float) -> None:
        super().__init__(due)
        self.arrived = allocate_lock()
        self.arrived.acquire()
        self.settled = False
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self, value: Any, error: BaseException | None, secrets: list[bytearray]) -> None:
        """Let the thread go on with the answer."""
        self.value, self.error, self.settled = value, error, True
        self.arrived.release()

    def answer(self) -> Any:
        """Return the value that has arrived, or raise."""
        if self.error is not None:
            raise self.error
        return self.value


class Awaited(Waiter):
    """A coroutine that waits, on its own loop."""

    __slots__ = ("_loop", "future")

    def __init__(self, due: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(due)
        self._loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def settle(self, value: Any, error: BaseException | None, secrets: list[bytearray]) -> None:
        """Let the coroutine go on, on its loop."""
        try:
            self._loop.call_soon_threadsafe(self._settle, value, error, secrets)
        except RuntimeError:  # the loop is closed
            wipe(secrets)

    def _settle(self, value: Any, error: BaseException | None, secrets: list[bytearray]) -> None:
        if self.future.done():
            wipe(secrets)
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)
