"""A token in memory: a `HardwareKeyStore` that forgets, for tests of adapters and of the core.

It keeps PINs as they are and must never hold a real key.
"""

from __future__ import annotations

from _thread import allocate_lock
from hmac import compare_digest
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, HardwareSigner, Template, TokenStatus
from ferrohsm.attribute_kinds import TRUE
from ferrohsm.entries import copied, wipe
from ferrohsm.errors import (
    ObjectHandleInvalid,
    PinIncorrect,
    PinLocked,
    TokenWriteProtected,
    UserNotLoggedIn,
)

SO, USER = ck.CKU_SO, ck.CKU_USER


class MemoryStore:
    """PINs with tries, objects with identities that are never used again."""

    def __init__(self, serial: str = "0000000000000001", tries: int = 3) -> None:
        self.serial = serial
        self.label = ""
        self.tries = tries
        self.initialized = False
        self.write_protected = False
        self.objects: dict[int, Attributes] = {}
        self.pins: dict[int, bytes] = {}
        self.left: dict[int, int] = {SO: tries, USER: tries}
        self.logged_in: int | None = None
        self.closed = False
        self._last = 0
        self._generation = 0
        self._lock = allocate_lock()

    async def status(self) -> TokenStatus:
        """Return how things are."""
        status = TokenStatus()
        status.initialized = self.initialized
        status.label = self.label
        status.serial = self.serial
        status.user_pin_set = USER in self.pins
        status.so_tries_left, status.user_tries_left = self.left[SO], self.left[USER]
        status.tries_allowed = self.tries
        status.so_locked, status.user_locked = self.left[SO] == 0, self.left[USER] == 0
        status.write_protected = self.write_protected
        return status

    async def initialize(self, so_pin: bytearray, label: str) -> None:
        """Start anew; a token that exists wants its PIN."""
        self._writable()
        if self.initialized:
            await self.check_pin(SO, so_pin)
        for attributes in self.objects.values():
            wipe(attributes)
        self.objects.clear()
        self.pins = {SO: bytes(so_pin)}
        self.left = {SO: self.tries, USER: self.tries}
        self.label, self.initialized, self.logged_in = label, True, None
        self._generation += 1

    async def login(self, user: int, pin: bytearray) -> None:
        """Check the PIN and remember who is logged in."""
        await self.check_pin(user, pin)
        self.logged_in = user

    async def check_pin(self, user: int, pin: bytearray) -> None:
        """Count a try, then compare."""
        if self.left[user] == 0:
            raise PinLocked()
        self.left[user] -= 1
        if not compare_digest(self.pins.get(user, b""), bytes(pin)):
            raise PinIncorrect() if self.left[user] else PinLocked()
        self.left[user] = self.tries

    async def logout(self) -> None:
        """Forget who is logged in."""
        self.logged_in = None

    async def init_pin(self, pin: bytearray) -> None:
        """Set the user's PIN."""
        self._writable()
        self.pins[USER] = bytes(pin)
        self.left[USER] = self.tries

    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None:
        """Change a PIN."""
        self._writable()
        await self.check_pin(user, old)
        self.pins[user] = bytes(new)

    def generation(self) -> int:
        """Return the number of changes."""
        return self._generation

    async def create(self, attributes: Attributes) -> int:
        """Keep a copy under a new identity."""
        self._writable()
        self._visible(attributes)
        with self._lock:
            self._last += 1
            self._generation += 1
            self.objects[self._last] = copied(attributes)
            return self._last

    async def read(self, oid: int) -> Attributes:
        """Return a copy."""
        with self._lock:
            attributes = self.objects.get(oid)
            if attributes is None:
                raise ObjectHandleInvalid()
            self._visible(attributes)
            return copied(attributes)

    async def replace(self, oid: int, attributes: Attributes) -> None:
        """Keep a copy in place of what was there."""
        self._writable()
        wipe(await self.read(oid))
        with self._lock:
            self._generation += 1
            self.objects[oid] = copied(attributes)

    async def exchange(self, oid: int, before: Attributes, after: Attributes) -> bool:
        """Keep a copy of `after` if `before` is what is there."""
        self._writable()
        wipe(await self.read(oid))
        with self._lock:
            if self.objects.get(oid) != before:
                return False
            self._generation += 1
            self.objects[oid] = copied(after)
            return True

    async def delete(self, oid: int) -> None:
        """Overwrite the secrets and forget the object."""
        self._writable()
        wipe(await self.read(oid))
        with self._lock:
            self._generation += 1
            wipe(self.objects.pop(oid, {}))

    async def search(self, template: Template, after: int, limit: int) -> list[int]:
        """Return the next matches."""
        found = [
            oid
            for oid, attributes in sorted(self.objects.items())
            if oid > after
            and (attributes.get(ck.CKA_PRIVATE) != TRUE or self.logged_in == USER)
            and all(attributes.get(attribute) == value for attribute, value in template)
        ]
        return found[:limit]

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def _writable(self) -> None:
        if self.write_protected:
            raise TokenWriteProtected()

    def _visible(self, attributes: Attributes) -> None:
        if attributes.get(ck.CKA_PRIVATE) == TRUE and self.logged_in != USER:
            raise UserNotLoggedIn()


class MemorySlot:
    """A slot with a `MemoryStore` and the signer it is given."""

    def __init__(self, slot_id: int, signer: HardwareSigner, store: MemoryStore | None = None) -> None:
        self.id = slot_id
        self.description = "memory"
        self.manufacturer = "FerroHSM"
        self.free = False
        self.store = MemoryStore() if store is None else store
        self.signer = signer


class MemoryAdapter:
    """An adapter over the slots it is given."""

    name = "memory"
    version = "1"

    def __init__(self, slots: list[Any], *, inline: bool = True) -> None:
        self.inline = inline
        self.members = slots

    async def open(self) -> None:
        """Nothing to open."""

    async def slots(self) -> list[Any]:
        """Return what it was given."""
        return self.members

    async def close(self) -> None:
        """Close the stores."""
        for slot in self.members:
            await slot.store.close()
