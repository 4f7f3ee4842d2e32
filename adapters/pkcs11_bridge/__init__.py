"""The PKCS#11 bridge: any vendor's module, or SoftHSM, as the keeper of a slot's keys.

``[slots.NAME]``, ``adapter = "pkcs11_bridge"``, ``module = "/path/to/module.so"``; see ``docs/bridge.md``.
Each slot of the module that the section chooses becomes a slot of ours, with the same token in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ferrohsm import __version__
from ferrohsm import constants as ck
from ferrohsm.adapters import AdapterInfo
from ferrohsm.errors import DeviceRemoved, HsmError
from ferrohsm_adapters.pkcs11_bridge.connection import Connection
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, SlotInfo, TokenInfo, text
from ferrohsm_adapters.pkcs11_bridge.library import Library, acquire, check, release
from ferrohsm_adapters.pkcs11_bridge.options import Options
from ferrohsm_adapters.pkcs11_bridge.records import Records
from ferrohsm_adapters.pkcs11_bridge.signer import BridgeSigner, backend_mechanisms
from ferrohsm_adapters.pkcs11_bridge.store import BridgeStore
from ferrohsm_adapters.pkcs11_bridge.workers import Workers

if TYPE_CHECKING:
    from ferrohsm.adapters import HardwareKeyStore, HardwareSigner
    from ferrohsm.config import SlotSection

_THREADS = 8


class Slot:
    """A slot of the backend; `store` is None when there is no token in it."""

    __slots__ = ("connection", "description", "free", "id", "manufacturer", "serial", "signer", "store")

    store: HardwareKeyStore
    signer: HardwareSigner

    def __init__(self, id: int, info: Any, serial: str) -> None:
        self.id = id
        self.description = text(info.description)
        self.manufacturer = text(info.manufacturer)
        self.serial = serial
        self.free = False
        self.connection: Connection | None = None
        # The protocols have both always; the core reads None as "no token in the slot".
        self.store = None  # type: ignore[assignment]
        self.signer = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the slot's id and description."""
        return f"<Slot {self.id} {self.description!r}>"


class Adapter:
    """Made with its section of the configuration; nothing is loaded before `open`."""

    name = "pkcs11_bridge"
    version = __version__

    def __init__(self, section: SlotSection) -> None:
        self._name = section.name
        self._options = Options(section)
        # A host that forbids threads waits on its own; one of its calls holds up another only at the backend.
        self.inline = not section.config.threads
        threads = section.concurrency or _THREADS
        self._workers = Workers(threads if self._options.profile.os_locking else 1, here=self.inline)
        self._library: Library | None = None
        self._slots: dict[int, Slot] = {}
        self._found: dict[int, Slot] = {}  # while they are being listed

    def info(self) -> AdapterInfo:
        """Describe the adapter."""
        return AdapterInfo(self.name, self.version, inline=self.inline)

    async def open(self) -> None:
        """Load and initialize the module. Raises what keeps it from being used."""
        options = self._options
        self._library = await self._workers.run(
            lambda: acquire(options.module, options.init, threads=options.profile.os_locking), release
        )

    async def slots(self) -> Sequence[Slot]:
        """Return the module's slots that the section chooses; a slot that stays is the same object."""
        slots: list[Slot] = await self._workers.run(self._listed)
        return slots

    def _listed(self) -> list[Slot]:
        if self._library is None:
            raise DeviceRemoved("the bridge is closed")
        try:
            ids = self._ids(self._library)
        except DeviceRemoved:
            # The host has finalized the module under us. What was open is gone; it is made anew.
            for slot in self._slots.values():
                if slot.connection is not None:
                    slot.connection.lose("the module was finalized")
            options = self._options
            self._library.initialize(options.init, threads=options.profile.os_locking)
            ids = self._ids(self._library)
        found = self._found = {}
        for slot_id in ids:
            slot = self._slot(self._library, slot_id)
            if slot is not None:
                found[slot_id] = slot
        self._slots = found
        return list(found.values())

    @staticmethod
    def _ids(library: Library) -> list[int]:
        count = ULONG()
        check(library.functions.GetSlotList(0, None, byref(count)), "C_GetSlotList")
        ids = (ULONG * max(count.value, 1))()
        check(library.functions.GetSlotList(0, ids, byref(count)), "C_GetSlotList")
        return list(ids[: count.value])

    def _slot(self, library: Library, slot_id: int) -> Slot | None:
        info, token = SlotInfo(), TokenInfo()
        if library.functions.GetSlotInfo(slot_id, byref(info)) != ck.CKR_OK:
            return None
        rv = ck.CKR_TOKEN_NOT_PRESENT
        if info.flags & ck.CKF_TOKEN_PRESENT:
            rv = library.functions.GetTokenInfo(slot_id, byref(token))
        if rv != ck.CKR_OK:
            return self._empty(slot_id, info)
        serial = text(token.serial)
        initialized = bool(token.flags & ck.CKF_TOKEN_INITIALIZED)
        if not self._options.wants(slot_id, text(token.label), serial, initialized=initialized):
            return None
        slot = self._slots.get(slot_id)
        if slot is None or slot.connection is None or (slot.serial and slot.serial != serial):
            slot = self._filled(library, slot_id, info, serial if initialized else "")
        elif initialized and not slot.serial:
            slot.serial = serial  # the free slot that became a token stays where it is
        slot.free = not initialized
        return slot

    def _empty(self, slot_id: int, info: Any) -> Slot | None:
        """Return a slot without a token, if it was asked for by number."""
        if self._options.slot != slot_id:
            return None
        slot = self._slots.get(slot_id)
        if slot is None or slot.connection is not None:
            slot = Slot(self._id(f"slot {slot_id}"), info, "")
        return slot

    def _filled(self, library: Library, slot_id: int, info: Any, serial: str) -> Slot:
        options = self._options
        # NSS gives all its tokens the serial number 0.
        what = f"serial {serial}" if serial.strip("0") else f"slot {slot_id}"
        slot = Slot(self._id(what), info, serial)
        connection = Connection(library, slot_id, options.profile, options.sessions, self._workers)
        records = Records(connection, serial or f"{options.module} {slot_id}")
        slot.connection = connection
        slot.store = BridgeStore(connection, records, options)
        slot.signer = BridgeSigner(connection, records, options, backend_mechanisms(connection))
        return slot

    def _id(self, what: str) -> int:
        """Return a slot's id: the same whenever the same token stands behind the same section."""
        slot_id = crc32(f"{self._name}\0{what}".encode()) & 0x7FFFFFFF or 1
        taken = {slot.id for slot in (*self._slots.values(), *self._found.values())}
        while slot_id in taken:
            slot_id = slot_id % 0x7FFFFFFF + 1
        return slot_id

    async def close(self) -> None:
        """Close what is open with the backend and let go of the module."""
        library, self._library = self._library, None
        if library is not None:

            def work() -> None:
                for slot in self._slots.values():
                    if slot.connection is not None:
                        slot.connection.end()
                release(library)

            try:
                await self._workers.run(work)
            except HsmError:
                self._workers.close()
                raise
        self._workers.close()
