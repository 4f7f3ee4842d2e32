"""The proxy for an adapter: it starts the process, and starts another one when that is gone."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ferrohsm import log
from ferrohsm.adapter_info import AdapterInfo
from ferrohsm.errors import DeviceError, HsmError
from ferrohsm.isolation import process
from ferrohsm.isolation.connection import Connection
from ferrohsm.isolation.setup import APART, told
from ferrohsm.runtime import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferrohsm.adapters import AdapterSlot
    from ferrohsm.config import SlotSection

START_SECONDS = 30.0  # in which the process has to be there with its adapter made
END_SECONDS = 5.0
_SOONEST, _LATEST = 0.25, 30.0  # seconds before the next start, doubled with each one that did not last
_LASTING = 10.0  # seconds after which a process counts as one that works


class AbsentSlot:
    """A slot whose token is out: its adapter's process is gone, and the next is not there yet."""

    __slots__ = ("description", "free", "id", "manufacturer", "signer", "store")

    def __init__(self, slot: Any) -> None:
        self.id: int = slot.id
        self.description: str = slot.description
        self.manufacturer: str = slot.manufacturer
        self.free = False
        # The protocol has both always; the core reads a store of None as "no token in the slot".
        self.store: Any = None
        self.signer: Any = slot.signer


class IsolatedAdapter:
    """Stands for the adapter of `section`, which runs in a process of its own."""

    def __init__(self, section: SlotSection) -> None:
        # A host that forbids threads waits for the process itself, on whichever thread it calls.
        self.inline = not section.config.threads
        if os.environ.get(APART):
            raise DeviceError("this is an adapter's own process: it starts no further ones")
        self.section = section
        self.name = section.adapter
        self.version = "0"
        self._connection: Connection | None = None
        self._adapter: Any = None
        self._info: AdapterInfo | None = None
        self._known: list[Any] = []
        self._absent: list[AbsentSlot] = []
        self._failures = 0
        self._started = 0.0
        self._not_before = 0.0
        self._closing = False

    async def open(self) -> None:
        """Start the process and open the adapter in it. Raises what `open` raises there, `DeviceError`."""
        await self._start()

    def info(self) -> AdapterInfo:
        """Describe the adapter, as it did itself; what differs follows from where it runs."""
        own = self._info
        if own is None:
            return AdapterInfo(self.name, self.version, inline=self.inline, isolation=("process",))
        return AdapterInfo(
            own.name,
            own.version,
            inline=self.inline,
            isolation=("process",),
            login=own.login,
            mechanisms=own.mechanisms,
            object_classes=own.object_classes,
            limits=own.limits,
            deadline=own.deadline,
            concurrency=own.concurrency,
        )

    async def slots(self) -> Sequence[AdapterSlot]:
        """Return the slots there; while there is no process, the same ones without their tokens."""
        if self._connection is None or self._connection.over:
            if not self._absent:
                self._absent = [AbsentSlot(slot) for slot in self._known]
            if self._closing or time.monotonic() < self._not_before:
                return self._absent
            try:
                await self._start()
            except Exception as error:
                why = str(error) if isinstance(error, HsmError) else type(error).__name__
                log.event("error", "the adapter's process cannot be started", slot=self.section.name, why=why)
                self._later()
                return self._absent
        slots: list[Any] = await self._adapter.slots()
        self._known, self._absent = slots, []
        return slots

    async def close(self) -> None:
        """Close the adapter and let its process end."""
        self._closing = True
        connection, self._connection = self._connection, None
        if connection is None:
            return
        adapter, self._adapter = self._adapter, None
        self._known = []
        try:
            if adapter is not None and not connection.over:
                await adapter.close()
        finally:
            connection.end(END_SECONDS)

    async def _start(self) -> None:
        from ferrohsm._build import BUILD_ID  # type: ignore[import-not-found,import-untyped,unused-ignore]

        section = self.section
        deadline = section.deadline or DEADLINE
        connection = Connection(
            process.start(section.name), section.name, deadline, self._ended, threads=section.config.threads
        )
        self._connection, self._started = connection, time.monotonic()
        try:
            adapter = await connection.begin(told(section, BUILD_ID), START_SECONDS)
            self.name, self.version = adapter.name, adapter.version
            await adapter.open()
            info = adapter.info() if hasattr(adapter, "info") else None
            if info is not None and "process" not in info.isolation:
                raise DeviceError(f"the adapter {self.name} does not run in a process of its own")
        except BaseException:
            self._connection = None
            connection.end(1.0)
            raise
        if info is not None and info.deadline is not None and section.deadline is None:
            connection.deadline = info.deadline
        self._adapter, self._info = adapter, info

    def _ended(self, reason: str) -> None:
        """Note that the process is gone; the next look at the slots starts another, after a while."""
        if self._closing:
            return
        log.event("error", "an isolated adapter's process is gone", slot=self.section.name, why=reason)
        if time.monotonic() - self._started > _LASTING:
            self._failures = 0
        self._later()

    def _later(self) -> None:
        delay = min(_LATEST, _SOONEST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        self._not_before = time.monotonic() + delay
