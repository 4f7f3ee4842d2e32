"""How coroutines run: stepped on the caller's thread, or on a loop's thread with a deadline.

`step` is for adapters that are inline: their coroutines never wait for anything. The others have a loop
each (`ferrohsm.loops`), which `Runtime` makes. Its own loop is for what the core does beside the calls: it
watches the adapters and writes what can be written later. A process without such adapters pays neither
threads nor the import of asyncio.
"""

from __future__ import annotations

from ferrohsm.errors import GeneralError, NeedToCreateThreads
from ferrohsm.typed import TYPE_CHECKING, Any, Callable, Coroutine, TypeVar

if TYPE_CHECKING:
    from ferrohsm.loops import Call, LoopThread

T = TypeVar("T")

NAME = "ferrohsm"
DEADLINE = 60.0  # seconds that a dispatched call may take when nobody says otherwise


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


async def called(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a plain method where a coroutine would run; what it returns may have to be awaited."""
    value = method(*arguments)
    return await value if hasattr(value, "__await__") else value


class Runtime:
    """The threads with event loops of one core.

    `allowed` is False in a host that forbids threads (``CKF_LIBRARY_CANT_CREATE_OS_THREADS``); `refused`
    says that one was needed nevertheless.
    """

    def __init__(self) -> None:
        self.allowed = True
        self.refused = False
        self._own: LoopThread | None = None

    @property
    def running(self) -> bool:
        """Whether the core's own loop was started."""
        return self._own is not None

    def here(self) -> bool:
        """Say whether this is the thread of the core's own loop."""
        return self._own is not None and self._own.here()

    def lane(self, name: str) -> LoopThread:
        """Return a new loop for one adapter, not started. Raises `NeedToCreateThreads`."""
        from ferrohsm.loops import CONCURRENCY, QUEUE

        return self._thread(f"{NAME} {name}", concurrency=CONCURRENCY, queue=QUEUE)

    def submit(
        self,
        coroutine: Coroutine[Any, Any, Any],
        deadline: float | None = None,
        notify: Callable[[], object] | None = None,
    ) -> Call:
        """Start a coroutine on the core's own loop and return at once; `deadline` in seconds."""
        try:
            loop = self._own
            if loop is None:
                loop = self._own = self._thread(NAME)
        except NeedToCreateThreads:
            coroutine.close()
            raise
        return loop.submit(coroutine, deadline, notify)

    def run(self, coroutine: Coroutine[Any, Any, T], deadline: float | None = None) -> T:
        """Run a coroutine there and wait for its value."""
        value: T = self.submit(coroutine, deadline).result()
        return value

    def _thread(self, name: str, **limits: Any) -> LoopThread:
        if not self.allowed:
            self.refused = True
            raise NeedToCreateThreads()
        from ferrohsm.loops import LoopThread

        return LoopThread(name, **limits)

    def stop(self) -> None:
        """Cancel what is under way on the core's own loop and end its thread."""
        loop, self._own = self._own, None
        if loop is not None:
            loop.stop()
