"""An adapter under test: how it is configured, and a core that runs it as a program would.

A `Subject` is what the author says about an adapter once. `Subject.open` gives a `Running` one: a started
core with the adapter's slot, a token in it, and short ways to make keys and to use them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from ferrohsm import constants as ck
from ferrohsm.adapters import Adapter, Function, HardwareKeyStore, HardwareSigner, Value
from ferrohsm.attribute_kinds import TRUE, ulong
from ferrohsm.config import Config, SlotSection
from ferrohsm.core import Core, Hidden, Session
from ferrohsm.mechanisms import ROWS
from ferrohsm.parameters import Mechanism
from ferrohsm.registry import make
from ferrohsm.runtime import step
from ferrohsm.settings import KdfSettings, PinPolicy

T = TypeVar("T")

LABEL = b"conformance"
TOKEN = (ck.CKA_TOKEN, TRUE)

Pairs = tuple[int, Value]


class Subject:
    """An adapter and what the tests may do with it.

    `adapter` is its name, as a slot's section has it; `options` are the section's other keys. The tests log
    in with `user_pin`. Where `initialize` is true they may make a token (with `so_pin` as the security
    officer's PIN) on the first slot without one; otherwise a token with that PIN must be there. `data_dir`
    is the whole configuration's. What the tests make on the token they remove again; `keep_objects` is for
    devices on which nothing can be deleted. `deadline` (seconds) and `isolation` are the slot's.

    What a device behind the adapter cannot help is said by mechanism names (``CKM_*``): `parameters` are
    tried in place of the usual ones, and `leave_out` are not tried at all.
    """

    def __init__(
        self,
        adapter: str,
        options: Mapping[str, Any] | None = None,
        *,
        user_pin: str = "123456",
        so_pin: str = "12345678",
        initialize: bool = True,
        data_dir: str | os.PathLike[str] | None = None,
        keep_objects: bool = False,
        deadline: float | None = None,
        isolation: str = "thread",
        parameters: Mapping[str, Any] | None = None,
        leave_out: Iterable[str] = (),
    ) -> None:
        self.adapter = adapter
        self.options = dict(options or {})
        self.user_pin = user_pin
        self.so_pin = so_pin
        self.initialize = initialize
        self.data_dir = None if data_dir is None else os.fspath(data_dir)
        self.keep_objects = keep_objects
        self.deadline = deadline
        self.isolation = isolation
        self.parameters = dict(parameters or {})
        self.leave_out = frozenset(leave_out)

    def config(self) -> Config:
        """Return the configuration: one slot, PINs that are quick to check and never delay."""
        config = Config(
            data_dir=self.data_dir,
            kdf=KdfSettings(memory_kib=7168, passes=1),
            pin=PinPolicy(delay=0.0),
        )
        options = dict(self.options)
        if self.adapter == "software":
            options = {"data_dir": self.data_dir, "free_slot": True, **options}
        section = SlotSection(
            "conformance",
            self.adapter,
            options,
            config,
            deadline=self.deadline,
            isolation=self.isolation,
        )
        config.slots = [section]
        return config

    def description(self) -> dict[str, Any]:
        """Return what another process makes the same subject of."""
        return {
            "adapter": self.adapter,
            "options": self.options,
            "user_pin": self.user_pin,
            "so_pin": self.so_pin,
            "data_dir": self.data_dir,
            "isolation": self.isolation,
        }

    def make(self) -> Adapter:
        """Return a new adapter that is not opened."""
        return make(self.config().slots[0])

    def start(self) -> Running:
        """Return the adapter running in a core of its own, whatever is in its slots."""
        return Running(self)

    @contextmanager
    def open(self) -> Iterator[Running]:
        """Give the adapter running, with a token that has a user PIN; closed at the end."""
        running = self.start()
        try:
            running.prepare()
            yield running
        finally:
            running.close()


class Running:
    """A started core over the adapter; `slot_id` is the slot that the tests use."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.core = Core(subject.config())
        self._made: list[int] = []
        self._handles = iter(range(1, 1_000_000))
        step(self.core.start())
        views = step(self.core.slots())
        member = self.core.members[0]
        if member.adapter is None or member.problem is not None:
            step(self.core.stop())
            raise AssertionError(f"the adapter {subject.adapter!r} does not open: {member.problem}")
        self.adapter: Adapter = member.adapter
        self.slot_id = self._choose(views)

    def _choose(self, views: list[Any]) -> int:
        assert views, "the adapter has no slot"
        there = [view for view in views if view.token_present and view.initialized]
        return int((there or views)[0].id)

    # How things are run

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the core or the adapter where such coroutines run."""
        return self.core.run(self.slot_id, coroutine)

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Start a coroutine of an adapter that is not inline; the call can be cancelled."""
        return self.core.loop(self.slot_id).submit(coroutine)

    def refused(self, coroutine: Coroutine[Any, Any, Any]) -> BaseException | None:
        """Return what a coroutine raises, None when it works."""
        try:
            self.run(coroutine)
        except Exception as error:
            return error
        return None

    # The token

    @property
    def store(self) -> HardwareKeyStore:
        """The slot's store."""
        return self.core.token(self.slot_id).store

    @property
    def signer(self) -> HardwareSigner:
        """The slot's signer."""
        return self.core.token(self.slot_id).signer

    @property
    def needs_login(self) -> bool:
        """Whether the adapter says that its keys need a login."""
        info = getattr(self.adapter, "info", None)
        return info is None or info().login != "none"

    def mechanisms(self) -> dict[int, tuple[int, int, int]]:
        """Return what the slot offers, less what is left out."""
        offered = self.core.token(self.slot_id).mechanisms()
        left_out = self.subject.leave_out
        return {type: info for type, info in offered.items() if ck.name("CKM", type) not in left_out}

    def mechanism(self, type: int, data: bytes) -> Mechanism:
        """Return a mechanism with a parameter that fits. Raises `LookupError` where none is known."""
        from ferrohsm.testing.material import mechanism_for

        name = ck.name("CKM", type)
        if name in self.subject.parameters:
            return Mechanism(type, self.subject.parameters[name])
        return mechanism_for(type, data)

    def prepare(self) -> None:
        """Make the token if it is not there."""
        status = self.run(self.store.status())
        if status.initialized and (status.user_pin_set or not self.needs_login):
            return
        assert self.subject.initialize, "the token has no user PIN, and initialize is false"
        so_pin, user_pin = self.subject.so_pin.encode(), self.subject.user_pin.encode()
        if not status.initialized:
            self.run(self.core.init_token(self.slot_id, bytearray(so_pin), LABEL.decode()))
            step(self.core.slots())
        session = self.session(login=False)
        self.run(self.core.login(session, ck.CKU_SO, bytearray(so_pin)))
        self.run(self.core.init_pin(session, bytearray(user_pin)))
        self.run(self.core.logout(self.slot_id))
        self.run(self.core.close_session(session))

    def session(self, *, login: bool = True) -> Session:
        """Open a read/write session, logged in if keys need it."""
        session = self.core.open_session(self.slot_id, next(self._handles), True)
        if login and self.needs_login and self.core.login_state(self.slot_id) is None:
            self.login(session)
        return session

    def login(self, session: Session) -> None:
        """Log in the user."""
        self.run(self.core.login(session, ck.CKU_USER, bytearray(self.subject.user_pin.encode())))

    def close(self) -> None:
        """Remove what was made and stop the core."""
        try:
            if self._made and not self.subject.keep_objects:
                session = self.session()
                for oid in self._made:
                    self.refused(self.core.destroy_object(session, oid))
        finally:
            step(self.core.stop())

    def forget(self) -> None:
        """Leave the objects where they are: they are to be found again."""
        self._made.clear()

    # Objects

    def find(self, session: Session, *template: Pairs) -> list[int]:
        """Return the objects that match and may be seen."""

        async def found() -> list[int]:
            cursor = await self.core.find(session, list(template))
            oids: list[int] = []
            while page := await cursor.take(50):
                oids += page
            cursor.close()
            return oids

        return self.run(found())

    def get(self, session: Session, oid: int, *types: int) -> list[Value | Hidden]:
        """Return the values of attributes that may be seen."""
        return self.run(self.core.get_attributes(session, oid, list(types)))

    def destroy(self, session: Session, oid: int) -> None:
        """Destroy an object."""
        self.run(self.core.destroy_object(session, oid))
        if oid in self._made:
            self._made.remove(oid)

    def adopt(self, *oids: int) -> None:
        """Remember objects that are removed at the end."""
        self._made += [oid for oid in oids if oid > 0 and oid not in self._made]

    def makes(self, key_type: int) -> int | None:
        """Return the mechanism by which the slot makes keys of a type, None when it does not."""
        for type in self.mechanisms():
            row = ROWS.get(type)
            if row is not None and row.produces == key_type:
                return type
        return None

    def generate(
        self,
        session: Session,
        type: int,
        size: int | None = None,
        *extra: Pairs,
        function: int | None = None,
    ) -> tuple[int, int]:
        """Make a key (a secret key is both members): `size` in the mechanism's unit, for every use or one."""
        from ferrohsm.testing.material import templates

        smallest, largest, _ = self.mechanisms()[type]
        public, private = templates(ROWS[type], smallest, largest, size, function)
        mechanism = Mechanism(type)
        if public is None:
            oid = self.run(self.core.generate_key(session, mechanism, [*private, *extra]))
            self.adopt(oid)
            return oid, oid
        pair = self.run(
            self.core.generate_key_pair(session, mechanism, [*public, *extra], [*private, *extra])
        )
        self.adopt(*pair)
        return pair

    def a_pair(self, session: Session, *extra: Pairs) -> tuple[int, int, Mechanism]:
        """Return a public key (or itself), its key that signs, and the mechanism: the cheapest there is."""
        from ferrohsm.testing.material import signature_choices

        for _, generate, mechanism in signature_choices(self.mechanisms()):
            public, private = self.generate(session, generate, None, *extra, function=Function.SIGN)
            return public, private, mechanism
        import pytest

        raise pytest.skip.Exception("the slot makes no key that signs")

    def operation(self, session: Session, function: int, mechanism: Mechanism, oid: int) -> Any:
        """Begin an operation with a key."""
        return self.run(self.core.begin(session, function, mechanism, oid))

    def sign(self, session: Session, mechanism: Mechanism, oid: int, data: bytes) -> bytes:
        """Return a signature."""
        operation = self.operation(session, Function.SIGN, mechanism, oid)
        return bytes(self.run(operation.once(memoryview(data))))

    def verify(self, session: Session, mechanism: Mechanism, oid: int, data: bytes, signature: bytes) -> None:
        """Check a signature; raises what the slot says of a bad one."""
        operation = self.operation(session, Function.VERIFY, mechanism, oid)
        self.run(operation.verify(memoryview(data), memoryview(signature)))


def in_threads(count: int, work: Any) -> list[BaseException]:
    """Run ``work(number)`` in threads that start together; return what they raised."""
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def thread(number: int) -> None:
        try:
            gate.wait(10)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
        assert not each.is_alive(), "a call did not come back within two minutes"
    return errors


def label(name: bytes) -> Pairs:
    """Return a label that says whose the object is."""
    return (ck.CKA_LABEL, LABEL + b" " + name + b" " + os.urandom(4).hex().encode())


def object_class(number: int) -> Pairs:
    """Return the class as a template has it."""
    return (ck.CKA_CLASS, ulong(number))
