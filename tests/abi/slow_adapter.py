"""An adapter that is not inline, with tokens in memory; one of its mechanisms waits until it is cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from ferrohsm_adapters.software.engine import Engine

from ferrohsm import constants as ck
from ferrohsm.testing.memory import MemoryAdapter, MemorySlot, MemoryStore

WAITING = threading.Event()
"""Set while a digest with CKM_SHA_1 waits."""

ENDED = threading.Event()
"""Set when that wait was ended from outside."""

RELEASE = threading.Event()
"""Set when a digest with CKM_SHA384 may go on."""

HELD = threading.Event()
"""Set while nothing of the engine comes to its end."""

ENGINE = (
    *("begin", "begin_messages", "complete", "generate_key", "generate_key_pair", "wrap", "unwrap", "derive"),
    *("encapsulate", "decapsulate", "wrap_authenticated", "unwrap_authenticated"),
)


class SlowEngine(Engine):
    """SHA-1 waits for ever, SHA-384 until it may go on, SHA-224 fails in a way that nobody foresaw."""

    def __getattribute__(self, name: str) -> Any:
        """Return a method that waits as long as all are held."""
        found = super().__getattribute__(name)
        if name not in ENGINE or not HELD.is_set():
            return found

        async def waits(*arguments: Any) -> Any:
            while HELD.is_set():
                await asyncio.sleep(0.002)
            return await found(*arguments)

        return waits

    async def begin(self, function: int, mechanism: Any, key: Any) -> Any:
        operation = await super().begin(function, mechanism, key)
        if mechanism.type in (ck.CKM_SHA_1, ck.CKM_SHA224, ck.CKM_SHA384):
            return SlowOperation(operation, mechanism.type)
        return operation


class SlowOperation:
    """An operation whose `once` does not come back by itself."""

    multi_part = False

    def __init__(self, operation: Any, type_: int) -> None:
        self.operation = operation
        self.type = type_

    def once_length(self, length: int) -> int:
        return int(self.operation.once_length(length))

    async def once(self, data: memoryview) -> bytes:
        if self.type == ck.CKM_SHA224:
            raise ZeroDivisionError("a secret text")
        part = data[:2]  # an engine that holds on to its input, whatever becomes of the call
        WAITING.set()
        try:
            if self.type == ck.CKM_SHA_1:
                await asyncio.sleep(30)
            while not RELEASE.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            time.sleep(0.01)  # its caller goes on meanwhile
            assert bytes(part) == b"da"
            ENDED.set()
            raise
        return bytes(await self.operation.once(data))

    def close(self) -> None:
        self.operation.close()


def adapter(section: Any) -> MemoryAdapter:
    """Make the adapter, as the entry point is called."""
    slots = [MemorySlot(7, SlowEngine(), MemoryStore(tries=10))]
    return MemoryAdapter(slots, inline=section.options.get("inline", False))
