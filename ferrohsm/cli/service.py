"""The core as the command uses it: started, one token chosen, a session, a login."""

from __future__ import annotations

import argparse
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ferrohsm import config as configuration
from ferrohsm import constants as ck
from ferrohsm import runtime
from ferrohsm.cli import pins
from ferrohsm.cli.terminal import CommandError, NotFoundError, printable
from ferrohsm.core import Core

if TYPE_CHECKING:
    from ferrohsm.config import SlotSection
    from ferrohsm.registry import Member

T = TypeVar("T")


class TokenView(NamedTuple):
    """A token as it is listed; `free` is the slot on which the next one is made."""

    slot: int
    label: str
    serial: str
    flags: int
    free: bool
    present: bool

    @property
    def name(self) -> str:
        """How messages call it."""
        return printable(self.label) or self.serial


class Service:
    """A started core; every coroutine is stepped here, on the calling thread, when its slot is inline."""

    def __init__(self, config: configuration.Config) -> None:
        self.config = config
        self.core = Core(config)

    def run(self, slot: int | None, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one call of the core to its end."""
        if slot is None:
            return runtime.step(coroutine)
        return self.core.run(slot, coroutine)

    def tokens(self) -> list[TokenView]:
        """Return every slot, the free one last."""
        views = []
        for slot in self.run(None, self.core.slots()):
            label = serial = ""
            flags = 0
            if slot.token_present:
                info = self.run(slot.id, self.core.token_info(slot.id))
                label, serial, flags = info.label.rstrip(), info.serial_number.rstrip(), info.flags
            views.append(TokenView(slot.id, label, serial, flags, slot.free, slot.token_present))
        return views

    def problems(self) -> list[tuple[SlotSection, str]]:
        """Return the slots' sections whose adapter does not work, each with what is wrong."""
        found = []
        for member in self.core.members:
            problem = member.problem or not_seen(member)
            if problem is not None:
                found.append((member.section, f"{problem}: {member.why}" if member.why else problem))
        return found

    def free(self) -> TokenView:
        """Return the free slot."""
        for view in self.tokens():
            if view.free:
                return view
        if self.config.data_problem:
            raise CommandError("there is no place for a token", self.config.data_problem)
        self._refuse_broken("there is no free slot")
        raise NotFoundError("there is no free slot", "ferrohsm doctor says why; free_slot = false hides it")

    def chosen(self, arguments: argparse.Namespace) -> TokenView:
        """Return the token that ``--token`` or ``--slot`` names, or the only one there is."""
        tokens = [view for view in self.tokens() if view.present and not view.free]
        if arguments.slot is not None:
            found = [view for view in tokens if view.slot == arguments.slot]
            what = f"there is no token in slot {arguments.slot}"
        elif arguments.token is not None:
            found = [view for view in tokens if view.serial == arguments.token]
            found = found or [view for view in tokens if view.label == arguments.token]
            what = f"there is no token {arguments.token!r}"
        else:
            found, what = tokens, "there is no token"
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{view.name} ({view.serial})" for view in found)
            raise NotFoundError(f"more than one token: {names}", "choose with --token SERIAL or --slot ID")
        self._refuse_broken(what)
        if not tokens:
            raise NotFoundError(what, "make one with: ferrohsm token init --label NAME")
        raise NotFoundError(what, "ferrohsm token list shows them")

    def _refuse_broken(self, what: str) -> None:
        """Name the slots that do not work: what is missing is probably there."""
        broken = "; ".join(f"slot {section.name}: {problem}" for section, problem in self.problems())
        if broken:
            raise NotFoundError(f"{what}; {broken}", "ferrohsm doctor says what to do")

    @contextmanager
    def session(self, slot: int, *, read_write: bool = False) -> Iterator[Any]:
        """Open a session and close it."""
        session = self.core.open_session(slot, 1, read_write)
        try:
            yield session
        finally:
            self.run(slot, self.core.close_session(session))

    def login(self, slot: int, session: Any, user: int, pin: bytearray) -> None:
        """Log in."""
        self.run(slot, self.core.login(session, user, pin))


def not_seen(member: Member) -> str | None:
    """Say so when an adapter that opens by itself has not answered yet."""
    if member.lane is not None and not member.lane.seen:
        return "the adapter does not answer: it is still being opened"
    return None


@contextmanager
def service() -> Iterator[Service]:
    """Load the configuration, start the core, stop it."""
    opened = Service(configuration.load())
    opened.run(None, opened.core.start())
    try:
        yield opened
    finally:
        opened.run(None, opened.core.stop())


class Work(NamedTuple):
    """A session on the chosen token."""

    service: Service
    token: TokenView
    session: Any

    @property
    def core(self) -> Core:
        """The core."""
        return self.service.core

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one call of the core on this token's slot."""
        return self.service.run(self.token.slot, coroutine)

    def value(self, oid: int, attribute: int) -> bytes:
        """Return the value of one attribute, empty when there is none or it is hidden."""
        (value,) = self.run(self.core.get_attributes(self.session, oid, [attribute]))
        return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


@contextmanager
def work(arguments: argparse.Namespace, *, read_write: bool = False) -> Iterator[Work]:
    """Open a session on the chosen token, logged in as the user unless ``--public`` says otherwise."""
    with service() as opened:
        token = opened.chosen(arguments)
        with opened.session(token.slot, read_write=read_write) as session:
            if not getattr(arguments, "public", False) and token.flags & ck.CKF_USER_PIN_INITIALIZED:
                with pins.secret(arguments, "pin", f"User PIN of {token.name}") as pin:
                    opened.login(token.slot, session, ck.CKU_USER, pin)
            yield Work(opened, token, session)
