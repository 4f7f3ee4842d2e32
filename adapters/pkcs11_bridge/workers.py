"""Threads on which the backend's calls wait: an event loop never does.

They are daemon threads, so that a backend that never returns does not keep its process from ending, and they
are started by the loop's thread, whose signal mask they inherit: the host's signals stay the host's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ferrohsm.errors import DeviceRemoved

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_IDLE_SECONDS = 30.0


class _Job:
    __slots__ = ("future", "loop", "undo", "work")

    def __init__(
        self,
        work: Callable[[], Any],
        undo: Callable[[Any], None] | None,
        loop: asyncio.AbstractEventLoop | None,
        future: asyncio.Future[Any] | None,
    ) -> None:
        self.work = work
        self.undo = undo
        self.loop = loop
        self.future = future


class Workers:
    """At most `limit` threads; a job waits until one is free.

    `here` is for a host that forbids threads: everything is done on the caller's own, where it waits without
    the interpreter's lock, and no coroutine of the bridge waits for anything else.
    """

    def __init__(self, limit: int, *, here: bool = False) -> None:
        self._here = here
        self.limit = limit
        self._condition = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._threads = 0
        self._idle = 0
        self._closed = False

    async def run(self, work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Run `work` on a thread and return what it returns.

        When the caller is cancelled the work goes on; `undo` then gets what it made, on the same thread.
        """
        if self._here:
            return work()
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Job(work, undo, loop, future))
        return await future

    def post(self, work: Callable[[], Any]) -> None:
        """Run `work` some time; nobody waits for it. Without a thread for it (at the end) it is dropped."""
        if self._here:
            _do(_Job(work, None, None, None))
        else:
            self._put(_Job(work, None, None, None), quiet=True)

    def close(self) -> None:
        """Take no more jobs; what waits is done, and the threads end."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _put(self, job: _Job, *, quiet: bool = False) -> None:
        with self._condition:
            if self._closed:
                if quiet:
                    return
                raise DeviceRemoved("the bridge is closed")
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._condition.notify()
                return
            if self._threads >= self.limit:
                return
            self._threads += 1
        threading.Thread(target=self._serve, name="ferrohsm-bridge", daemon=True).start()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            _do(job)

    def _next(self) -> _Job | None:
        with self._condition:
            while not self._jobs:
                self._idle += 1
                waited = not self._closed and self._condition.wait(_IDLE_SECONDS)
                self._idle -= 1
                if not self._jobs and (self._closed or not waited):
                    self._threads -= 1
                    return None
            return self._jobs.popleft()


def _do(job: _Job) -> None:
    result: Any = None
    error: BaseException | None = None
    try:
        result = job.work()
    except BaseException as raised:
        error = raised
    if job.loop is None or job.future is None:
        return
    try:
        job.loop.call_soon_threadsafe(_deliver, job, result, error)
    except RuntimeError:  # the loop is closed: nobody is there any more
        _undo(job, result, error)


def _deliver(job: _Job, result: Any, error: BaseException | None) -> None:
    future = job.future
    assert future is not None
    if future.cancelled():
        # On the loop's thread: hand it to a thread, it will call the backend.
        threading.Thread(target=_undo, args=(job, result, error), daemon=True).start()
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _undo(job: _Job, result: Any, error: BaseException | None) -> None:
    if job.undo is not None and error is None:
        try:
            job.undo(result)
        except Exception as failure:
            from ferrohsm import log

            log.failure("what an abandoned call had made could not be undone", failure)
