"""The slots of a process: the adapters that are configured, their loops, and the tokens that are there."""

from __future__ import annotations

from _thread import allocate_lock

from ferrohsm import log
from ferrohsm.errors import SlotIdInvalid, TokenNotPresent
from ferrohsm.registry import Member, describe, load
from ferrohsm.runtime import step
from ferrohsm.tokens import Token
from ferrohsm.typed import TYPE_CHECKING, Any, Coroutine, TypeVar, cast
from ferrohsm.views import SlotView, view_of

if TYPE_CHECKING:
    from ferrohsm.adapters import AdapterSlot
    from ferrohsm.audit.tokens import Audit
    from ferrohsm.config import Config
    from ferrohsm.lanes import Lane
    from ferrohsm.loops import LoopThread
    from ferrohsm.runtime import Runtime

T = TypeVar("T")

MANUFACTURER = "FerroHSM"


class Slots:
    """The configured adapters (`members`), and a `Token` for each slot that has one."""

    def __init__(self, config: Config, runtime: Runtime, audit: Audit) -> None:
        self.members: list[Member] = []
        # What a dispatched adapter's slots are has changed since `look` looked at them.
        self.stale = False
        self._config = config
        self._runtime = runtime
        self._audit = audit
        self._tokens: dict[int, Token] = {}
        self._empty: dict[int, Member] = {}
        self._merging = allocate_lock()

    async def open(self) -> None:
        """Load the adapters and open those that are inline; the others begin to open on loops of their own.

        One that cannot be opened leaves an empty slot and a line in the log.
        """
        self.members = load(self._config)
        for member in self.members:
            adapter = member.adapter
            if adapter is None:
                continue
            try:
                if adapter.inline:
                    await adapter.open()
                    member.info = describe(adapter, member.section.isolation)
                else:
                    self._dispatch(member)
            except (Exception, SystemExit) as error:
                member.fail("the slot's adapter cannot be opened", error)

    def set_going(self) -> None:
        """Start the threads that dispatched adapters need, which do the rest without the caller."""
        lanes = self._lanes()
        for lane in lanes:
            lane.look()
        if lanes:
            from ferrohsm.watch import watch

            self._runtime.submit(watch(self._lanes))

    def _lanes(self) -> list[Lane]:
        return [member.lane for member in self.members if member.lane is not None]

    def _dispatch(self, member: Member) -> Lane:
        """Give an adapter that is not inline a loop of its own. Raises `NeedToCreateThreads`."""
        from ferrohsm.lanes import Lane

        member.lane = Lane(member, self._runtime, self._changed)
        return member.lane

    def _changed(self) -> None:
        self.stale = True

    async def close(self) -> None:
        """Log out everywhere, wipe, close. A failure of one adapter does not keep the others from it."""
        tokens, self._tokens = self._tokens, {}
        lanes = self._lanes()
        self._runtime.stop()  # nobody watches any more
        closing = [lane.close([t for t in tokens.values() if t.loop is lane.loop]) for lane in lanes]
        for token in tokens.values():
            if token.loop is None:
                await quietly(token.close())
        for member in self.members:
            if member.adapter is not None and member.lane is None:
                await quietly(member.adapter.close())
        if lanes:
            from ferrohsm.watch import end

            end(lanes, closing)
        for token in tokens.values():
            token.forget()
        self.members = []

    @property
    def opening(self) -> bool:
        """Whether there are dispatched adapters, whose slots are known when somebody has asked for them."""
        return bool(self._lanes())

    async def look(self, ask: bool = True) -> list[SlotView]:
        """Look at the slots anew and return them, free ones last (``C_GetSlotList``).

        A dispatched adapter that does not answer soon is shown as it was last seen, and none is asked without
        `ask`.
        """
        if ask and any(member.lane is not None or _is_new(member) for member in self.members):
            self._look_at_lanes()
        inline: dict[Member, list[tuple[Any, SlotView]]] = {}
        for member in self.members:
            if member.adapter is not None and member.lane is None:
                slots = await member.adapter.slots()
                inline[member] = [(slot, await view_of(slot, inline=True)) for slot in slots]
        with self._merging:
            views, gone = self._merge(inline)
        for token in gone:
            if token.loop is None:
                await quietly(token.close())
            else:
                self._leave(token)
        return sorted(views, key=lambda view: view.free)

    def _look_at_lanes(self) -> None:
        """Have every dispatched adapter look at its slots, all at once, and wait for them a little."""
        from time import monotonic

        for member in self.members:
            if _is_new(member):
                self._dispatch(member)
        looks = [(lane, lane.look()) for lane in self._lanes() if not lane.loop.abandoned]
        begun = monotonic()
        for lane, look in looks:
            lane.await_look(look, begun + lane.patience)

    def _merge(self, inline: dict[Member, list[tuple[Any, SlotView]]]) -> tuple[list[SlotView], list[Token]]:
        """Take over what was seen; return the views, and the tokens that are not there any more."""
        self.stale = False
        views: list[SlotView] = []
        tokens: dict[int, Token] = {}
        empty: dict[int, Member] = {}
        for member in self.members:
            lane = member.lane
            seen = inline.get(member, []) if lane is None else lane.found
            if lane is not None and not lane.seen:
                continue  # its slots are listed when they are known
            if not seen and (lane is not None or member.adapter is None):
                views.append(_empty_view(member, [*tokens, *empty]))
                empty[views[-1].id] = member
            for slot, view in seen:
                if slot.id in tokens or slot.id in empty:
                    log.event("error", "two slots have one id", slot=member.section.name, id=slot.id)
                    continue
                views.append(view)
                if view.removed:
                    empty[slot.id] = member
                    continue
                token = self._tokens.get(slot.id)
                if token is None or token.slot is not slot:
                    loop = None if lane is None else lane.loop
                    token = Token(
                        cast("AdapterSlot", slot),
                        lane is None,
                        self._config,
                        member.section.options,
                        member.info,
                        loop,
                    )
                    token.audit = self._audit.of(token, member.section)
                tokens[slot.id] = token
                view.max_sessions = token.max_sessions
        gone = [token for slot_id, token in self._tokens.items() if tokens.get(slot_id) is not token]
        self._tokens, self._empty = tokens, empty
        return views, gone

    def _leave(self, token: Token) -> None:
        """Forget a token of a dispatched adapter that went away; the adapter is told if it is still there."""
        loop, left = token.loop, token.forget()
        if loop is not None and not loop.abandoned:
            loop.submit(quietly(token.take_leave(*left)), limited=False)

    def loop(self, slot_id: int) -> LoopThread:
        """Return the loop on which the coroutines of a slot that is not inline run.

        Raises `TokenNotPresent` when its adapter is away.
        """
        loop = self.token(slot_id).loop
        if loop is None:
            raise TokenNotPresent()
        return loop

    def run(self, slot_id: int, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a call about a slot to its end, wherever it has to run."""
        token = self._tokens.get(slot_id)
        if token is None or token.loop is None:
            return step(coroutine)
        value: T = token.loop.run(coroutine)
        return value

    def token(self, slot_id: int) -> Token:
        """Return the token of a slot. Raises `SlotIdInvalid`, `TokenNotPresent`."""
        token = self._tokens.get(slot_id)
        if token is not None:
            return token
        if slot_id in self._empty:
            raise TokenNotPresent(self._empty[slot_id].problem or "")
        raise SlotIdInvalid()

    def known(self, slot_id: int) -> Token | None:
        """Return the token of a slot, None when there is none."""
        return self._tokens.get(slot_id)

    def inline(self, slot_id: int) -> bool:
        """Say whether the slot's coroutines may be stepped on the caller's thread."""
        token = self._tokens.get(slot_id)
        return token is None or token.inline


async def quietly(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await what only tidies up: its failure is a line in the log."""
    try:
        await coroutine
    except Exception as error:
        log.failure("closing failed", error)


def _is_new(member: Member) -> bool:
    """Say whether a dispatched adapter has no loop yet."""
    return member.lane is None and member.adapter is not None and not member.adapter.inline


def _empty_view(member: Member, taken: list[int]) -> SlotView:
    """Return the slot of an adapter that does not work: always the same id for the same name."""
    from zlib import crc32

    slot_id = crc32(member.section.name.encode()) & 0x7FFFFFFF or 1
    while slot_id in taken:
        slot_id = slot_id % 0x7FFFFFFF + 1
    # A program's list of slots is all that its user sees of it.
    return SlotView(slot_id, f"no token, ferrohsm doctor says why: {member.section.name}", MANUFACTURER)
