"""A dispatched adapter at work: its loop, its slots as they were last seen, its health.

It is opened, looked at and closed on its own loop, and never waited for longer than is said here. What fails
is tried again, at growing intervals; a loop that does not turn any more is abandoned, and another adapter is
made in its place. While the adapter is away its slots stay listed, without a token.
"""

from __future__ import annotations

from _thread import allocate_lock
from time import monotonic

from ferrohsm import log
from ferrohsm.errors import DeviceError, HsmError
from ferrohsm.guards import GuardedSlot
from ferrohsm.loops import CONCURRENCY
from ferrohsm.registry import describe, make, reason
from ferrohsm.runtime import DEADLINE
from ferrohsm.translation import from_adapter
from ferrohsm.typed import TYPE_CHECKING, Any, Callable
from ferrohsm.views import SlotView, view_of

if TYPE_CHECKING:
    from ferrohsm.loops import Call, LoopThread
    from ferrohsm.registry import Member
    from ferrohsm.runtime import Runtime

PATIENCE = 1.0  # seconds that a look at the slots waits for an adapter that is at work
OPENING = 5.0  # the same while it is opened for the first time
OPEN_DEADLINE = 30.0  # seconds that it may take to open, if its calls may not take longer
HEALTH = 5.0  # seconds between looks that nobody asks for
RETRY, LONGEST_RETRY = 0.5, 60.0  # seconds until it is tried again; doubles with every failure
MOST_ABANDONED = 8  # threads of one adapter that may be left behind blocked at the same time
CLOSING = 2.0  # seconds that closing may take


class Lane:
    """One dispatched adapter. `changed` is called when what `found` holds is not what it was."""

    def __init__(self, member: Member, runtime: Runtime, changed: Callable[[], None]) -> None:
        self.member = member
        self.found: list[tuple[GuardedSlot, SlotView]] = []
        self._runtime = runtime
        self._changed = changed
        self._lock = allocate_lock()
        self.loop = self._new_loop()
        self._opened = False
        self.seen = False
        self._looking: Call | None = None
        self._again = False
        self._late = False
        self._looked_at = 0.0
        self._failures = 0
        self._retry_at = 0.0
        self._left_behind: list[LoopThread] = []

    def __repr__(self) -> str:
        """Name the slot's section."""
        return f"<Lane {self.member.section.name!r}>"

    @property
    def there(self) -> bool:
        """Whether the adapter is open and answered the last look."""
        return self._opened

    # From any thread

    def look(self) -> Call:
        """Look at the slots anew; a look that is under way is joined, and looks once more for us."""
        with self._lock:
            call = self._looking
            if call is None or call.done():
                call = self._looking = self.loop.submit(self._look(), limited=False)
            else:
                self._again = True
            return call

    def await_look(self, call: Call, until: float) -> None:
        """Wait for a look; one that comes too late is not waited for again until it has come."""
        if self._late and not call.done():
            return
        self._late = not call.wait(max(0.0, until - monotonic()))

    @property
    def patience(self) -> float:
        """The seconds that a look may be waited for."""
        return PATIENCE if self.seen else OPENING

    @property
    def _limit(self) -> float:
        """The seconds after which the loop counts as hung: to open may take longer than a call."""
        return self.loop.deadline if self._opened else max(self.loop.deadline, OPEN_DEADLINE)

    def watch(self) -> None:
        """See to it that the loop turns, that a device that is away is tried again, that news arrive."""
        loop = self.loop
        if not loop.abandoned and (loop.owes() > self._limit or loop.exhausted):
            self.replace()
            return
        now = monotonic()
        if now >= (self._looked_at + HEALTH if self._opened else self._retry_at):
            if loop.abandoned and not self._renew():
                return
            self.look()

    def replace(self) -> None:
        """Abandon the loop and all that was open behind it; another one takes its place when it is time."""
        with self._lock:
            if self.loop.abandoned:
                return
            self._left_behind = [thread for thread in self._left_behind if thread.alive] + [self.loop]
            self.loop.abandon(DeviceError("the adapter has stopped answering and was abandoned"))
            self._looking = None
        self._lost("the adapter has stopped answering and was abandoned", None)

    def _renew(self) -> bool:
        """Make a loop and an adapter in place of abandoned ones, unless too many threads hang already."""
        self._left_behind = [thread for thread in self._left_behind if thread.alive]
        if len(self._left_behind) >= MOST_ABANDONED:
            self._retry_at = monotonic() + LONGEST_RETRY
            return False
        with self._lock:
            self.loop = self._new_loop()
            self.member.adapter = None
        return True

    def _new_loop(self) -> LoopThread:
        section = self.member.section
        loop = self._runtime.lane(section.name)
        loop.deadline = DEADLINE if section.deadline is None else section.deadline
        loop.concurrency = CONCURRENCY if section.concurrency is None else section.concurrency
        return loop

    def close(self, tokens: list[Any]) -> Call | None:
        """Begin to close the tokens and the adapter; None when nothing can be done about it."""
        if self.loop.abandoned or not self.loop.running:
            return None
        return self.loop.submit(self._close(tokens), CLOSING, limited=False)

    # On the loop

    async def _look(self) -> None:
        loop = self.loop
        while True:
            self._again = False
            await self._look_once()
            with self._lock:
                if not self._again or loop is not self.loop:
                    if loop is self.loop:
                        self._looking = None
                    return

    async def _look_once(self) -> None:
        import asyncio

        if not self._opened and monotonic() < self._retry_at:
            return
        loop, limit = self.loop, self._limit
        self._looked_at = monotonic()
        try:
            await asyncio.wait_for(self._look_now(loop), limit)
        except (Exception, SystemExit) as error:
            if isinstance(error, TimeoutError):
                error = DeviceError(f"no answer within {limit:g} s")
            if loop is self.loop and not loop.abandoned:
                why = (
                    "the slot's adapter cannot be used"
                    if self.seen
                    else "the slot's adapter cannot be opened"
                )
                self._lost(why, error)
                await self._close_quietly(loop)
        finally:
            self.seen = True

    async def _look_now(self, loop: LoopThread) -> None:
        if not self._opened:
            await self._open(loop)
        adapter: Any = self.member.adapter
        try:
            slots = list(await adapter.slots())
        except (Exception, SystemExit) as error:
            raise from_adapter(error, adapter=self.member.section.adapter, call="slots") from None
        known = {slot.id: slot for slot, _ in self.found}
        found = []
        for inner in slots:
            slot = known.get(getattr(inner, "id", None))
            if slot is None or not slot.follows(inner):
                slot = GuardedSlot(inner, self.member.section.adapter, loop)
            found.append((slot, await view_of(slot)))
        if loop is self.loop and not loop.abandoned:
            self._failures = 0
            self.member.problem = self.member.why = None
            self._publish(found)

    async def _open(self, loop: LoopThread) -> None:
        section = self.member.section
        if self.member.adapter is None:
            self.member.adapter = make(section)
        adapter = self.member.adapter
        await adapter.open()
        info = describe(adapter, section.isolation)
        self.member.info = info
        if section.deadline is None:
            loop.deadline = info.deadline or DEADLINE
        if section.concurrency is None:
            loop.concurrency = info.concurrency or CONCURRENCY
        self._opened = True
        log.event(
            "info", "the slot's adapter is open", slot=section.name, adapter=info.name, version=info.version
        )

    def _publish(self, found: list[tuple[GuardedSlot, SlotView]]) -> None:
        before = [(slot, view.token_present, view.removed) for slot, view in self.found]
        self.found = found
        if [(slot, view.token_present, view.removed) for slot, view in found] != before:
            self._changed()

    def _lost(self, why: str, error: BaseException | None) -> None:
        """Empty the slots of an adapter that does not work, until it is tried again."""
        self._opened = False
        first = self.member.problem != why
        self.member.problem = why
        self.member.why = None if error is None else reason(error)
        self._failures += 1
        pause = min(RETRY * 2.0 ** min(self._failures - 1, 16), LONGEST_RETRY)
        self._retry_at = monotonic() + pause
        if first:
            section = self.member.section
            fields = {"slot": section.name, "adapter": section.adapter, "again_in": pause}
            if error is None or isinstance(error, HsmError):
                log.event("error", why, **fields, **({} if error is None else {"why": str(error)}))
            else:
                log.failure(why, error, **fields)
        self._publish([(slot, view.without_token()) for slot, view in self.found])

    async def _close_quietly(self, loop: LoopThread) -> None:
        import asyncio

        adapter, self.member.adapter = self.member.adapter, None
        if adapter is None:
            return
        try:
            await asyncio.wait_for(adapter.close(), CLOSING)
        except Exception as error:
            log.failure("closing failed", error, slot=self.member.section.name)

    async def _close(self, tokens: list[Any]) -> None:
        for token in tokens:
            try:
                await token.close()
            except Exception as error:
                log.failure("closing failed", error, slot=self.member.section.name)
        await self._close_quietly(self.loop)
