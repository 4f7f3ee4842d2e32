"""Tokens in a directory, kept as the software adapter keeps its own: PINs, objects, several processes.

The keys' material is elsewhere: an object holds the device's reference to it, sealed like a secret.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ferrohsm.errors import GeneralError
from ferrohsm.runtime import step
from ferrohsm.settings import Place
from ferrohsm_adapters.kit.workers import Workers

if TYPE_CHECKING:
    from ferrohsm.adapters import HardwareKeyStore, HardwareSigner
    from ferrohsm.config import SlotSection
    from ferrohsm.store.directory import TokenDirectory, TokenSlots
    from ferrohsm.store.token import TokenStore

PIN_THREADS = 2


class Slot:
    """A token of the directory, or the free one, on which the next token is made."""

    __slots__ = ("description", "free", "id", "manufacturer", "signer", "store", "token")

    def __init__(self, id: int, names: tuple[str, str], token: TokenStore, store: Any, signer: Any) -> None:
        self.id = id
        self.description, self.manufacturer = names
        self.free = False
        self.token = token
        self.store: HardwareKeyStore = store
        self.signer: HardwareSigner = signer


class LocalStore:
    """A token's store, its PINs tried on a thread: after a wrong one the next try is made to wait."""

    def __init__(self, token: TokenStore, workers: Workers) -> None:
        self._token = token
        self._workers = workers

    def __getattr__(self, name: str) -> Any:
        """Everything that is not about PINs is the token's own, and quick."""
        return getattr(self._token, name)

    async def initialize(self, so_pin: bytearray, label: str) -> None:
        """Make the token, or make it anew."""
        await self._tried([so_pin], lambda pins: self._token.initialize(pins[0], label))

    async def login(self, user: int, pin: bytearray) -> None:
        """Log in."""
        await self._tried([pin], lambda pins: self._token.login(user, pins[0]))

    async def check_pin(self, user: int, pin: bytearray) -> None:
        """Check a PIN."""
        await self._tried([pin], lambda pins: self._token.check_pin(user, pins[0]))

    async def init_pin(self, pin: bytearray) -> None:
        """Give the user a PIN."""
        await self._tried([pin], lambda pins: self._token.init_pin(pins[0]))

    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None:
        """Change a PIN."""
        await self._tried([old, new], lambda pins: self._token.set_pin(user, *pins))

    async def _tried(
        self, pins: list[bytearray], call: Callable[[list[bytearray]], Coroutine[Any, Any, None]]
    ) -> None:
        """Make a call on a thread, with copies: the caller may have given up and wiped its own."""
        copies = [bytearray(pin) for pin in pins]
        mine = allocate_lock()  # had by the thread, or by a caller that gave up before it began

        def wipe() -> None:
            for copy in copies:
                copy[:] = bytes(len(copy))

        def work() -> None:
            if not mine.acquire(False):
                return
            try:
                step(call(copies))
            finally:
                wipe()

        try:
            await self._workers.run(work)
        finally:
            if mine.acquire(False):
                wipe()


class LocalSlots:
    """The slots of an adapter whose tokens are in the section's ``data_dir``.

    `around` makes the slot's store of the token's, for an adapter that adds to it.
    """

    def __init__(
        self,
        section: SlotSection,
        signer: HardwareSigner,
        *,
        description: str,
        manufacturer: str,
        around: Callable[[LocalStore], Any] | None = None,
    ) -> None:
        self.path = local_path(section, "data_dir", section.name)
        self._section = section
        self._signer = signer
        self._names = (description, manufacturer)
        self._around = around
        self._pins = Workers(f"{section.name}-pins", PIN_THREADS)
        self._directory: TokenDirectory | None = None
        self._slots: TokenSlots[Slot] | None = None

    def open(self) -> None:
        """Open the directory, which is made if it is not there."""
        from ferrohsm.store.directory import TokenDirectory, TokenSlots

        self._directory = TokenDirectory(self.path, self._section.config)
        offer_free = bool(self._section.options.get("free_slot", True))
        self._slots = TokenSlots(self._directory, offer_free, self._slot)

    def slots(self) -> Sequence[Slot]:
        """Return the tokens that are there now and the free slot, each the same object every time."""
        return [] if self._slots is None else self._slots.look()

    async def close(self) -> None:
        """Close every token."""
        self._slots = None
        self._pins.stop()
        directory, self._directory = self._directory, None
        if directory is not None:
            await directory.close()

    def _slot(self, id: int, token: TokenStore) -> Slot:
        local = LocalStore(token, self._pins)
        store = local if self._around is None else self._around(local)
        return Slot(id, self._names, token, store, self._signer)


def local_path(section: SlotSection, option: str, default: str) -> str:
    """Return a path of the section: absolute, ``~``, or beside the configuration file.

    Without the option it is the folder `default` in the data directory. Raises `GeneralError`.
    """
    from ferrohsm.config import home, trusted_environment

    config, value = section.config, section.options.get(option)
    name = f"slots.{section.name}.{option}"
    place = Place(config.path or "defaults", home(trusted_environment()))
    if value is None:
        if config.data_dir is None:
            raise GeneralError(f"{name}: {config.data_problem or 'must be given where there is no data_dir'}")
        return os.path.join(config.data_dir, default)
    if not isinstance(value, str) or not value or "\0" in value:
        raise place.wrong(name, "must be a path")
    return place.absolute(name, value)


def checked_options(section: SlotSection, **known: type | tuple[type, ...]) -> None:
    """Raise `GeneralError` for an option that is not known, with the nearest that is, or of a wrong type."""
    place = Place(section.config.path or "defaults", None)
    for option, value in section.options.items():
        name = f"slots.{section.name}.{option}"
        if option not in known:
            raise place.unknown(name, [*known, "adapter"])
        kinds = known[option] if isinstance(known[option], tuple) else (known[option],)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            words = " or ".join({str: "text", bool: "true or false"}.get(kind, "a number") for kind in kinds)
            raise place.wrong(name, f"must be {words}")
