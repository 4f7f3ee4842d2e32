"""How coroutines run: stepped on the caller's thread, or on a loop thread with a deadline.

`step` is for adapters that are inline: their coroutines never wait for anything. The others run on the
`Runtime`'s thread, which starts at the first need, so that a process without such adapters pays neither
a thread nor the import of asyncio.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ferrohsm.errors import DeviceError, FunctionCanceled, GeneralError, HsmError, NeedToCreateThreads

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    import threading

T = TypeVar("T")

DEADLINE = 60.0  # seconds that a dispatched call may take when nobody says otherwise
_STOP_SECONDS = 5.0


def step(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing, here and now, and return its value.

    Raises `GeneralError` when it does wait: its adapter is not inline and must not say so.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise GeneralError("an inline coroutine waits for something")


class Call:
    """A coroutine on its way on the runtime's thread."""

    __slots__ = ("_deadline", "_future")

    def __init__(self, future: concurrent.futures.Future[Any], deadline: float) -> None:
        self._future = future
        self._deadline = deadline

    def result(self) -> Any:
        """Wait for the value. Raises `DeviceError` after the deadline, `FunctionCanceled` when cancelled."""
        import concurrent.futures

        try:
            return self._future.result(self._deadline)
        except HsmError:
            raise
        except concurrent.futures.CancelledError:
            raise FunctionCanceled() from None
        except TimeoutError:
            if self._future.done() and not self._future.cancelled():
                raise  # the coroutine's own
            self._future.cancel()
            raise DeviceError(f"no answer within {self._deadline:g} s") from None

    @property
    def deadline(self) -> float:
        """The seconds that it may take."""
        return self._deadline

    def when_done(self, callback: Callable[[Any], object]) -> None:
        """Call back, on the runtime's thread or at once, when `result` would not wait any more."""
        self._future.add_done_callback(callback)

    def cancel(self) -> None:
        """Give it up; whoever waits in `result` is told."""
        self._future.cancel()

    def done(self) -> bool:
        """Say whether `result` would return at once."""
        return self._future.done()


class Runtime:
    """The thread with the event loop.

    `allowed` is False in a host that forbids threads (``CKF_LIBRARY_CANT_CREATE_OS_THREADS``); `refused`
    says that one was needed nevertheless.
    """

    def __init__(self) -> None:
        self.allowed = True
        self.refused = False
        self._lock = allocate_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def here(self) -> bool:
        """Say whether this is the runtime's own thread."""
        return self._thread is not None and self._thread.ident == get_ident()

    def submit(self, coroutine: Coroutine[Any, Any, Any], deadline: float | None = None) -> Call:
        """Start a coroutine on the thread and return at once; `deadline` in seconds."""
        import asyncio

        try:
            loop = self._started()
        except HsmError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        return Call(future, DEADLINE if deadline is None else deadline)

    def run(self, coroutine: Coroutine[Any, Any, T], deadline: float | None = None) -> T:
        """Run a coroutine on the thread and wait for its value."""
        value: T = self.submit(coroutine, deadline).result()
        return value

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                if not self.allowed:
                    self.refused = True
                    raise NeedToCreateThreads()
                import asyncio
                import threading

                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="ferrohsm", daemon=True
                )
                _start_without_signals(self._thread)
            return self._loop

    def stop(self) -> None:
        """Cancel what is under way and end the thread; a thread that does not give way is left behind."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread.ident != get_ident():
            thread.join(_STOP_SECONDS)


def _start_without_signals(thread: threading.Thread) -> None:
    """Start a thread to which no signal of the process is delivered: they are the host's threads' to take.

    The mask is inherited, so that there is no moment without it. A thread's own faults stay out of it, or
    the kernel would end the process without the host's crash handler. Windows has no such masks.
    """
    import signal  # asyncio, which is there by now, has imported it already

    if not hasattr(signal, "pthread_sigmask"):
        thread.start()
        return
    faults = {signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1.0))
    finally:
        loop.close()
