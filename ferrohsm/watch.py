"""The core's own loop at work: it watches the dispatched adapters (`watch`), and sees them off (`end`)."""

from __future__ import annotations

from time import monotonic

from ferrohsm import log
from ferrohsm.lanes import CLOSING
from ferrohsm.typed import TYPE_CHECKING, Callable, Sequence

if TYPE_CHECKING:
    from ferrohsm.lanes import Lane
    from ferrohsm.loops import Call

TICK = 1.0  # seconds between two looks at all loops; less where a deadline is short
SHORTEST_TICK = 0.05
ENDING = 1.0  # seconds that all loops together have to end


async def watch(lanes: Callable[[], Sequence[Lane]]) -> None:
    """See to every adapter's health until the core stops."""
    import asyncio

    while True:
        watched = lanes()
        shortest = min((lane.loop.deadline for lane in watched), default=TICK)
        await asyncio.sleep(min(TICK, max(SHORTEST_TICK, shortest / 4)))
        for lane in lanes():
            try:
                lane.watch()
            except Exception as error:
                log.failure("an adapter could not be watched", error, slot=lane.member.section.name)


def end(lanes: Sequence[Lane], closing: Sequence[Call | None]) -> None:
    """Wait for the adapters to close, then for their threads to end; both no longer than is said here."""
    until = monotonic() + CLOSING
    for call in closing:
        if call is not None:
            call.wait(max(0.0, until - monotonic()))
    for lane in lanes:
        lane.loop.halt()
    until = monotonic() + ENDING
    for lane in lanes:
        if not lane.loop.abandoned and not lane.loop.stop(max(0.0, until - monotonic())):
            log.event("warning", "a thread was left behind", slot=lane.member.section.name)
