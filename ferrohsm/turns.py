"""Who may change an object of a token now."""

from __future__ import annotations

from _thread import allocate_lock

from ferrohsm.typed import Any


class Turn:
    """One change at a time: what is read, checked and written back must not be an older state.

    Without it a thread that renames a key could undo what another has just made sensitive. Inline
    coroutines never give up their thread in between, so a lock of threads serves them; the others
    share one thread and take turns as tasks.
    """

    def __init__(self, *, inline: bool) -> None:
        self._threads = allocate_lock() if inline else None
        self._tasks: Any = None

    async def __aenter__(self) -> None:
        """Wait for the turn."""
        if self._threads is not None:
            self._threads.acquire()
            return
        if self._tasks is None:
            import asyncio

            self._tasks = asyncio.Lock()
        await self._tasks.acquire()

    async def __aexit__(self, *_: object) -> None:
        """Give it on."""
        if self._threads is not None:
            self._threads.release()
        else:
            self._tasks.release()
