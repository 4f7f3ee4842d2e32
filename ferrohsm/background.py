"""Work that goes on after its call has returned (PKCS#11 3.2, "Asynchronous function management functions").

Work of a slot whose adapter is inline runs on a thread of `Workers`; any other runs where the adapter's
calls do. Either way a `Fate` tells it when nobody wants the result any more.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.errors import FunctionCanceled, NeedToCreateThreads
from ferrohsm.runtime import Runtime, step
from ferrohsm.typed import TYPE_CHECKING, Any, Callable, Coroutine

if TYPE_CHECKING:
    import queue
    import threading

    from ferrohsm.core import Core
    from ferrohsm.sessions import Session

# What an inline slot takes long for: the other mechanisms are over before a thread has started.
SLOW = frozenset(
    (
        ck.CKM_RSA_PKCS_KEY_PAIR_GEN,
        ck.CKM_RSA_X9_31_KEY_PAIR_GEN,
        ck.CKM_DSA_PARAMETER_GEN,
        ck.CKM_DSA_KEY_PAIR_GEN,
        ck.CKM_DH_PKCS_PARAMETER_GEN,
        ck.CKM_X9_42_DH_PARAMETER_GEN,
        ck.CKM_PKCS5_PBKD2,
        ck.CKM_SLH_DSA_KEY_PAIR_GEN,
    )
)
_THREADS = min(4, os.cpu_count() or 1)
_STOP_SECONDS = 5.0
FOREVER = float("inf")  # a generation takes as long as it takes


class Fate:
    """Whether a result is still wanted, and whether the work has begun."""

    __slots__ = ("begun", "cancelled")

    def __init__(self) -> None:
        self.begun = False
        self.cancelled = False


async def wanted(
    core: Core,
    session: Session,
    coroutine: Coroutine[Any, Any, Any],
    fate: Fate,
    *,
    makes_objects: bool,
    afterwards: Callable[[], None],
) -> Any:
    """Await `coroutine`; objects that nobody wants any more are destroyed.

    `afterwards` is called at its end. Work that is cancelled before it has `begun` never comes here: then
    both are the caller's.

    Raises `FunctionCanceled` when it was cancelled meanwhile.
    """
    fate.begun = True
    try:
        if fate.cancelled:
            coroutine.close()
            raise FunctionCanceled()
        result = await coroutine
    finally:
        afterwards()
    if not fate.cancelled:
        return result
    if makes_objects:
        await destroy(core, session, result)
    if hasattr(result, "close"):
        result.close()
    for part in result if isinstance(result, tuple) else (result,):
        if isinstance(part, bytearray):
            part[:] = bytes(len(part))
    raise FunctionCanceled()


def objects_of(made: Any) -> tuple[int, ...]:
    """Return the objects among what a call gives: one, several, or one beside a ciphertext."""
    parts = getattr(made, "keys", made)
    return tuple(part for part in (parts if isinstance(parts, tuple) else (parts,)) if isinstance(part, int))


async def destroy(core: Core, session: Session, made: Any) -> None:
    """Destroy the objects of a result; those that are gone with their session or login are gone."""
    for oid in objects_of(made):
        try:
            await core.destroy_object(session, oid)
        except Exception as error:
            log.event("info", "a cancelled call's object could not be destroyed", why=str(error))


class Work:
    """A coroutine on its way on a worker. `notify` is called when it is over, on whatever thread."""

    __slots__ = ("_begun", "_coroutine", "_done", "_error", "_lock", "_notify", "_value")

    deadline = FOREVER

    def __init__(self, coroutine: Coroutine[Any, Any, Any], notify: Callable[[], object]) -> None:
        self._coroutine = coroutine
        self._notify = notify
        self._lock = allocate_lock()
        self._begun = False
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Step the coroutine, unless it was cancelled."""
        with self._lock:
            if self._done:
                return
            self._begun = True
        try:
            self._value = step(self._coroutine)
        except BaseException as error:
            self._error = error
        self._done = True
        self._notify()

    def done(self) -> bool:
        """Say whether it is over."""
        return self._done

    def cancel(self) -> None:
        """Give it up if it has not begun; what has begun comes to its end."""
        with self._lock:
            if self._begun or self._done:
                return
            self._error = FunctionCanceled()
            self._done = True
        self._coroutine.close()
        self._notify()

    def expire(self) -> None:
        """There is no deadline to be over."""

    def outcome(self) -> Any:
        """Return the value, or raise the error, of what is over."""
        if self._error is not None:
            raise self._error
        return self._value


class Workers:
    """Threads that run the work of inline slots, started at the first need."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = allocate_lock()
        self._waiting: queue.SimpleQueue[Work | None] | None = None
        self._threads: list[threading.Thread] = []
        self._idle = 0

    def submit(self, coroutine: Coroutine[Any, Any, Any], notify: Callable[[], object]) -> Work:
        """Start a coroutine and return at once. Raises `NeedToCreateThreads` where threads are forbidden."""
        if not self._runtime.allowed:
            raise NeedToCreateThreads()
        import queue

        work = Work(coroutine, notify)
        with self._lock:
            if self._waiting is None:
                self._waiting = queue.SimpleQueue()
            self._waiting.put(work)
            if self._idle < self._waiting.qsize() and len(self._threads) < _THREADS:
                self._start(self._waiting)
        return work

    def _start(self, waiting: queue.SimpleQueue[Work | None]) -> None:
        import threading

        from ferrohsm.loops import start_without_signals

        thread = threading.Thread(target=self._serve, args=(waiting,), name="ferrohsm worker", daemon=True)
        start_without_signals(thread)
        self._threads.append(thread)

    def _serve(self, waiting: queue.SimpleQueue[Work | None]) -> None:
        while True:
            with self._lock:
                self._idle += 1
            work = waiting.get()
            with self._lock:
                self._idle -= 1
            if work is None:
                return
            work.run()

    def stop(self) -> None:
        """End the threads; one that does not end in time is left behind, and its result is dropped."""
        with self._lock:
            waiting, threads = self._waiting, self._threads
            self._waiting, self._threads = None, []
        if waiting is None:
            return
        for _ in threads:
            waiting.put(None)
        end = time.monotonic() + _STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
