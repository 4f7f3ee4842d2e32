"""The software adapter with a fault: a digest with CKM_SHA_1 does to its process what the data says."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import Any

from ferrohsm_adapters.software import Adapter as Software
from ferrohsm_adapters.software.engine import Engine

from ferrohsm import constants as ck


def crash() -> None:
    ctypes.string_at(0)


def hold() -> None:
    """Keep Python's lock for good, as native code can."""
    ctypes.PyDLL(None).sleep(3600)


def leave() -> None:
    os._exit(3)


def block() -> None:
    """Block without awaiting."""
    time.sleep(3600)


def fail() -> None:
    raise ZeroDivisionError("a secret text")


FAULTS = {function.__name__.encode(): function for function in (crash, hold, leave, block, fail)}


class FaultyOperation:
    multi_part = False

    def __init__(self, operation: Any) -> None:
        self.operation = operation

    def once_length(self, length: int) -> int:
        return int(self.operation.once_length(length))

    async def once(self, data: memoryview) -> Any:
        what = bytes(data)
        if what == b"wait":
            await asyncio.sleep(3600)
        if what == b"lie":
            return object()
        if what in FAULTS:
            FAULTS[what]()
        return bytes(await self.operation.once(data))

    def close(self) -> None:
        self.operation.close()


class FaultyEngine(Engine):
    async def begin(self, function: int, mechanism: Any, key: Any) -> Any:
        operation = await super().begin(function, mechanism, key)
        return FaultyOperation(operation) if mechanism.type == ck.CKM_SHA_1 else operation


class Adapter(Software):
    """Inline or not, as its section says."""

    name = "faulty"

    def __init__(self, section: Any) -> None:
        super().__init__(section)
        self.inline = section.options["inline"]
        self.engine = FaultyEngine(self._kernels)
