"""Threads for what blocks: a vendor's library, a network client without coroutines.

The loop that runs an adapter must never wait in a call. `Workers.run` has one of a few threads make the
call while the loop goes on. A caller that gives up is told at once; the call itself ends when it ends, and
what it made can be taken back then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ferrohsm.errors import DeviceError

if TYPE_CHECKING:
    import asyncio
    from queue import SimpleQueue

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds that a loop has to take an answer which would have to be undone."""


class Workers:
    """Up to `count` threads, started when they are needed and ended by `stop`.

    With one thread the calls are made one after the other, in their order: right for a library that is not
    made for threads. They are daemons: a call that never returns does not keep the process from ending.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self.name = name
        self.count = count
        self._started = 0
        self._queue: SimpleQueue[Any] | None = None

    async def run(
        self, function: Callable[..., T], *arguments: Any, undo: Callable[[T], object] | None = None
    ) -> T:
        """Return what the function returns, called on one of the threads.

        `undo` is called there with the result when nobody waits for it any more.
        """
        import asyncio
        from queue import SimpleQueue

        if self._queue is None:
            self._queue, self._started = SimpleQueue(), 0
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._started < self.count:
            self._start(self._queue)
        queue = self._queue
        queue.put((loop, future, function, arguments, undo))
        try:
            return await future
        except asyncio.CancelledError:
            if undo is not None and future.done() and not future.cancelled() and future.exception() is None:
                # The answer came, and so did the end of the wait before it was looked at.
                queue.put((loop, loop.create_future(), undo, (future.result(),), None))
            raise

    def stop(self) -> None:
        """Let the threads end after what they are doing; `run` may be called again."""
        queue, self._queue = self._queue, None
        if queue is not None:
            for _ in range(self._started):
                queue.put(None)

    def _start(self, queue: SimpleQueue[Any]) -> None:
        import threading

        self._started += 1
        threading.Thread(target=self._work, args=(queue,), name=self.name, daemon=True).start()

    def _work(self, queue: SimpleQueue[Any]) -> None:
        while True:
            task = queue.get()
            if task is None:
                return
            _do(*task)
            del task  # a secret among the arguments must not wait here for the next call


def _do(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    undo: Callable[[Any], object] | None,
) -> None:
    if future.cancelled():
        return
    try:
        value, error = function(*arguments), None
    except Exception as raised:
        value, error = None, raised
    answered = _Answer(future, value, error)
    try:
        loop.call_soon_threadsafe(answered.give)
    except RuntimeError:  # the loop was given up
        pass
    else:
        answered.wait()
    if undo is not None and error is None and answered.untaken():
        undo(value)


class _Answer:
    """What a call came to, on its way to the loop: taken there by whoever waits, or given back, once."""

    def __init__(self, future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
        from _thread import allocate_lock

        self._taken = False
        self._decided = allocate_lock()
        self._future = future
        self._value = value
        self._error = error
        self._given = allocate_lock()
        self._given.acquire()

    def give(self) -> None:
        """Hand it over, on the loop's thread."""
        if not self._future.done():
            if self._error is not None:
                self._future.set_exception(self._error)
            elif self._decided.acquire(False):
                self._taken = True
                self._future.set_result(self._value)
            else:
                self._future.set_exception(DeviceError("the answer came too late and was taken back"))
        self._given.release()

    def untaken(self) -> bool:
        """Say whether nobody has taken it; nobody will, then."""
        return not self._taken and self._decided.acquire(False)

    def wait(self) -> None:
        """Wait until it was handed over; a loop that ends first never does."""
        self._given.acquire(timeout=PATIENCE)
