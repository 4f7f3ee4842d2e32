"""An event loop on a thread of its own, and calls that others hand to it.

A call crosses by a queue and an eventfd (a pipe where there is none), and its end is told by one callback: no
`concurrent.futures`, no condition variables. How many calls are at work at once, and how many may wait for
that, is limited. A loop that is blocked by what it runs is abandoned: its callers are told, its thread is
left to itself and never waited for.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from collections import deque
from time import monotonic

from ferrohsm import log
from ferrohsm.errors import DeviceError, DeviceMemory, FunctionCanceled
from ferrohsm.runtime import DEADLINE
from ferrohsm.typed import TYPE_CHECKING, Any, Callable, Coroutine

if TYPE_CHECKING:
    import asyncio
    import threading


CONCURRENCY = 64  # calls at work at once
QUEUE = 1024  # calls that wait for that; one more is refused
GRACE = 1.0  # seconds after which a call that ignores its end no longer counts as one at work
_STOP_SECONDS = 1.0
_COMPLAINING = 1.0  # seconds between two lines about tasks that an adapter has made and nobody awaits


class Call:
    """A coroutine on its way on a loop's thread.

    It is over once: with the value, with the coroutine's error, or because somebody gave it up. `notify` is
    called then, on whatever thread that happens.
    """

    __slots__ = (
        "_begun",
        "_claim",
        "_coroutine",
        "_error",
        "_loop",
        "_notify",
        "_task",
        "_value",
        "deadline",
    )

    def __init__(
        self,
        loop: LoopThread,
        coroutine: Coroutine[Any, Any, Any],
        deadline: float,
        notify: Callable[[], object] | None,
    ) -> None:
        self.deadline = deadline
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self._notify = notify
        self._begun = False
        self._claim = [None]  # popped by the one who ends it: no two do
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._value: Any = None

    def done(self) -> bool:
        """Say whether `result` would return at once."""
        return not self._claim and self._notify is None

    def outcome(self) -> Any:
        """Return the value of a call that is over, or raise its error."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._value

    def wait(self, seconds: float) -> bool:
        """Wait until it is over; say whether it is."""
        lock = allocate_lock()
        lock.acquire()
        if not self.when_done(lock.release):
            return True
        return lock.acquire(timeout=seconds)

    def when_done(self, notify: Callable[[], object]) -> bool:
        """Have `notify` called too when it is over; False (and it is not called) when it is over already."""
        with self._loop.lock:
            if self._claim:
                before = self._notify
                self._notify = notify if before is None else _both(before, notify)
                return True
        return False

    def result(self) -> Any:
        """Wait for the value. Raises `DeviceError` after the deadline, `FunctionCanceled` when given up."""
        if not self.wait(self.deadline):
            self.expire()
        return self.outcome()

    def expire(self) -> None:
        """Its time is over."""
        self.give_up(DeviceError(f"no answer within {self.deadline:g} s"))

    def cancel(self) -> None:
        """Give it up; whoever waits for it is told."""
        self.give_up(FunctionCanceled())

    def give_up(self, error: BaseException) -> None:
        """End it for its caller now; the loop ends the coroutine as soon as it can."""
        if self._settle(None, error):
            self._loop.post(self._end_task)

    def discard(self) -> None:
        """Close the coroutine if it was never begun and will not be: nobody takes it any more."""
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            try:
                coroutine.close()
            except ValueError:
                """It was begun this very moment."""

    def _settle(self, value: Any, error: BaseException | None) -> bool:
        with self._loop.lock:
            try:
                self._claim.pop()
            except IndexError:
                return False
            self._value, self._error = value, error
            notify, self._notify = self._notify, None
        self._loop.calls.discard(self)
        if notify is not None:
            notify()
        return True

    # On the loop's thread

    def _end_task(self) -> None:
        """Cancel what is at work; what has not begun never does."""
        if self._coroutine is not None:
            self.discard()  # its task, if it has one already, finds nothing to run
        elif self._task is not None:
            self._task.cancel()
            self._loop.disown_later(self)

    async def _carry(self) -> None:
        """Run the coroutine and end the call with what comes of it."""
        loop = self._loop
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is None:
            loop.ended(self)
            return
        try:
            value = await coroutine
            if get_ident() != loop.ident:
                raise DeviceError("the adapter came back on another thread")
        except BaseException as error:
            self._settle(None, loop.told(error))
        else:
            self._settle(value, None)
        finally:
            loop.ended(self)


def _both(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], object]:
    """Return what tells two that wait for the same call."""

    def tell() -> None:
        try:
            first()
        finally:
            second()

    return tell


class LoopThread:
    """A thread with an event loop; it starts with the first call.

    `deadline` (seconds) and `concurrency` may be changed at any time.
    """

    def __init__(
        self,
        name: str,
        *,
        deadline: float = DEADLINE,
        concurrency: int | None = None,
        queue: int | None = None,
    ) -> None:
        self.name = name
        self.deadline = deadline
        self.concurrency = concurrency
        self.queue = queue
        self.lock = allocate_lock()
        self.ident: int | None = None
        self.abandoned = False
        self.calls: set[Call] = set()
        self._arrived: deque[Call | Callable[[], object]] = deque()
        self._waiting: deque[Call] = deque()
        self._begun: set[Call] = set()
        self._complained = 0.0
        self._at_work = 0
        self._stubborn = 0
        self._woken = False
        self._write: Callable[[], object] | None = None
        self._stopping = False
        self._owed: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        """Name the thread."""
        return f"<LoopThread {self.name!r}>"

    # From any thread

    @property
    def running(self) -> bool:
        """Whether the thread was started, and not stopped."""
        return self._thread is not None

    @property
    def alive(self) -> bool:
        """Whether the thread is still there."""
        return self._thread is not None and self._thread.is_alive()

    def here(self) -> bool:
        """Say whether this is the loop's own thread."""
        return self.ident == get_ident()

    def start(self) -> None:
        """Start the thread, which imports and makes the loop itself: the caller does not wait for it."""
        with self.lock:
            if self._thread is not None:
                return
            import threading

            self._thread = threading.Thread(target=self._serve, args=_waker(), name=self.name, daemon=True)
            self._woken = True  # it looks at what has arrived when it begins
        start_without_signals(self._thread)

    def submit(
        self,
        coroutine: Coroutine[Any, Any, Any],
        deadline: float | None = None,
        notify: Callable[[], object] | None = None,
        *,
        limited: bool = True,
    ) -> Call:
        """Hand over a coroutine and return at once; `notify` is called when the call is over.

        Raises `DeviceMemory` when too many wait already (unless it is not `limited`), `DeviceError` when the
        loop was abandoned or has ended.
        """
        if self.abandoned or self._stopping:
            coroutine.close()
            raise DeviceError("the adapter is not there any more")
        if limited and self.queue is not None and len(self.calls) >= self.queue + (self.concurrency or 0):
            coroutine.close()
            raise DeviceMemory("too many calls wait for the adapter")
        if self._thread is None:
            self.start()
        call = Call(self, coroutine, self.deadline if deadline is None else deadline, notify)
        self.calls.add(call)
        self._arrived.append(call)
        if not self._woken:
            self._wake()
        if self.abandoned or self._stopping:  # meanwhile
            call.give_up(DeviceError("the adapter is not there any more"))
        return call

    def run(self, coroutine: Coroutine[Any, Any, Any], deadline: float | None = None) -> Any:
        """Run a coroutine on the thread and wait for its value."""
        return self.submit(coroutine, deadline).result()

    def post(self, function: Callable[[], object]) -> None:
        """Have a plain function called on the thread; it is lost when the loop is not there any more."""
        if self._thread is None or self.abandoned:
            return
        self._arrived.append(function)
        if not self._woken:
            self._wake()

    def owes(self) -> float:
        """Return the seconds since the loop last owed a sign of life, and ask for the next one."""
        owed = self._owed  # the loop may pay at any moment
        if owed is not None:
            return monotonic() - owed
        if self.calls or self._arrived:
            self._owed = monotonic()
            self.post(self._pay)
        return 0.0

    @property
    def exhausted(self) -> bool:
        """Whether calls that ignore their end have come to be as many as may be at work."""
        return self.concurrency is not None and self._stubborn >= self.concurrency

    def abandon(self, error: BaseException) -> None:
        """Tell every caller `error` and leave the thread to itself; it ends if it ever comes back."""
        self.abandoned = True
        for call in list(self.calls):
            call.give_up(error)
        self._discard()
        self._arrived.append(self._halt)
        self._wake()

    def halt(self) -> None:
        """Have the thread cancel what is under way and end, without waiting for it."""
        if self._thread is not None:
            self._stopping = True
            self._arrived.append(self._halt)
            self._wake()

    def stop(self, seconds: float = 2 * _STOP_SECONDS) -> bool:
        """Do the same and wait for it; False when it did not give way in time and was left behind."""
        thread = self._thread
        if thread is None or thread.ident == get_ident():
            self.halt()
            return True
        self.halt()
        thread.join(seconds)
        if thread.is_alive():
            self.abandon(FunctionCanceled())
        return not thread.is_alive()

    def _discard(self) -> None:
        for one in [*list(self._arrived), *list(self._waiting), *list(self._begun)]:
            if type(one) is Call:
                one.discard()

    def _wake(self) -> None:
        with self.lock:
            if self._write is not None and not self._woken:
                self._woken = True
                self._write()

    # On its own thread

    def told(self, error: BaseException) -> BaseException:
        """Return what the caller is told: a cancellation that nobody asked for is the adapter's failure."""
        import asyncio

        if not isinstance(error, asyncio.CancelledError):
            return error
        return FunctionCanceled() if self._stopping else DeviceError("the adapter has cancelled the call")

    def disown_later(self, call: Call) -> None:
        """Give a call that was ended some time to end; then it does not count as one at work any more."""
        if self._loop is not None:
            self._loop.call_later(GRACE, self._disown, call)

    def _disown(self, call: Call) -> None:
        task = call._task
        if task is not None and not task.done() and call._begun:
            call._begun = False
            self._stubborn += 1
            self._left()

    def _pay(self) -> None:
        self._owed = None

    def _halt(self) -> None:
        if self._loop is not None:
            self._loop.stop()

    def _take(self) -> None:
        """Begin what has arrived."""
        self._woken = False
        arrived = self._arrived
        while arrived:
            one = arrived.popleft()
            if type(one) is not Call:
                try:
                    one()  # type: ignore[operator]
                except Exception as error:
                    log.failure("an adapter's clean-up failed", error, thread=self.name)
            elif self.concurrency is None or self._at_work < self.concurrency:
                self._begin(one)
            else:
                self._waiting.append(one)

    def _begin(self, call: Call) -> None:
        assert self._loop is not None
        if self.abandoned or self._stopping:
            call.discard()
            return
        self._at_work += 1
        call._begun = True
        self._begun.add(call)
        call._task = self._loop.create_task(call._carry())

    def ended(self, call: Call) -> None:
        """Take note that a call's task is at its end: another one may begin."""
        call._task = None
        self._begun.discard(call)
        if call._begun:
            call._begun = False
            self._left()
        else:
            self._stubborn -= 1

    def _left(self) -> None:
        """One fewer is at work: the next may begin."""
        self._at_work -= 1
        while self._waiting and (self.concurrency is None or self._at_work < self.concurrency):
            self._begin(self._waiting.popleft())

    def _serve(self, file: int, write: Callable[[], object], read: Callable[[], object], close: Any) -> None:
        import asyncio

        self.ident = get_ident()
        self._loop = loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._complain)

        def arrived() -> None:
            read()
            self._take()

        loop.add_reader(file, arrived)
        with self.lock:
            self._write = write
            self._woken = False
        asyncio.set_event_loop(loop)
        try:
            self._take()
            while not self._stopping and not self.abandoned:
                try:
                    loop.run_forever()
                except BaseException as error:  # a plugin's callback raised SystemExit or its like
                    log.failure("an adapter's callback failed", error, thread=self.name)
            self._stopping = True
            self._finish(loop)
        except Exception as error:
            log.failure("an adapter's tasks could not be ended", error, thread=self.name)
        finally:
            with self.lock:
                self._write = None
            for call in list(self.calls):
                call.give_up(FunctionCanceled())
            self._discard()
            self._arrived.clear()
            loop.close()
            close()

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            self._arrived.clear()
            loop.run_until_complete(asyncio.wait(left, timeout=_STOP_SECONDS))

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Write what asyncio has to say into our log, not into the host's, and of a flood the beginning."""
        error = context.get("exception")
        if isinstance(error, BaseException) and monotonic() - self._complained > _COMPLAINING:
            self._complained = monotonic()
            log.failure("a task of an adapter failed", error, thread=self.name)


def _waker() -> tuple[int, Callable[[], object], Callable[[], object], Callable[[], object]]:
    """Return a descriptor to wait for, and what raises it, takes it back and closes it."""
    if hasattr(os, "eventfd"):
        file = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return (
            file,
            lambda: os.eventfd_write(file, 1),
            lambda: os.eventfd_read(file),
            lambda: os.close(file),
        )
    return _pair()


def _pair() -> tuple[int, Callable[[], object], Callable[[], object], Callable[[], object]]:
    """Do the same with two sockets: a pipe is nothing that Windows could wait for."""
    import socket

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    def close() -> None:
        ours.close()
        theirs.close()

    return ours.fileno(), lambda: theirs.send(b"\0"), lambda: ours.recv(4096), close


def start_without_signals(thread: threading.Thread) -> None:
    """Start a thread to which no signal of the process is delivered: they are the host's threads' to take.

    The mask is inherited, so that there is no moment without it. A thread's own faults stay out of it, or
    the kernel would end the process without the host's crash handler. Windows has no such masks.
    """
    import _signal as signal  # type: ignore[import-not-found] # the signal module without its enumerations

    if not hasattr(signal, "pthread_sigmask"):
        thread.start()
        return
    faults = {signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
