"""An adapter that does everything wrong that an adapter can do, when the data of a digest says so.

Its tests install it as a distribution of its own (`install`), for processes of their own as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import AdapterInfo, Limits
from ferrohsm.errors import DeviceRemoved, HsmError, TokenNotPresent, from_rv
from ferrohsm.testing.memory import MemorySlot, MemoryStore

VENDOR_RV = 0x80001234
SLOW_LENGTH, WRONG_LENGTH = "a length that blocks", "a length that is a text"
BLOCKED = 3.0  # seconds that a blocked loop is blocked

OPENED: list[int] = []
"""The threads on which adapters were opened."""

CALLED_ON: set[int] = set()
"""The threads on which an operation was used."""

PLUGGED = threading.Event()
"""Whether the device is there."""
PLUGGED.set()


class OwnError(DeviceRemoved):
    """A plugin's own kind of an error that there is."""


class Lie(HsmError):  # noqa: N818
    """An error that says that all is well."""

    rv = 0


class Engine:
    """Digests with SHA-256, of which `Operation` makes what it is told."""

    def mechanisms(self) -> dict[int, tuple[int, int, int]]:
        return {
            ck.CKM_SHA256: (0, 0, ck.CKF_DIGEST),
            ck.CKM_SHA512: (0, 0, ck.CKF_DIGEST),
            ck.CKM_AES_KEY_GEN: (16, 32, ck.CKF_GENERATE),
        }

    async def begin(self, function: int, mechanism: Any, key: Any) -> Any:
        return Operation()

    async def random(self, length: int) -> Any:
        return bytes(length) if length != 13 else bytes(1 << 20)  # 13: more than was asked for

    async def complete(self, attributes: Any) -> Any:
        return {}

    async def generate_key(self, mechanism: Any, attributes: Any) -> Any:
        if attributes[ck.CKA_VALUE_LEN][0] == 24:
            return {"CKA_VALUE": 7}
        return {ck.CKA_VALUE: bytearray(16)}


class Operation:
    """A digest of 32 bytes, or what the data says."""

    multi_part = False

    def once_length(self, length: int) -> Any:
        if length == len(SLOW_LENGTH):
            time.sleep(BLOCKED)
        return "32" if length == len(WRONG_LENGTH) else 32

    async def once(self, data: memoryview) -> Any:
        CALLED_ON.add(threading.get_ident())
        return await getattr(self, "do_" + bytes(data).decode())()

    def close(self) -> None:
        """Nothing to end."""

    async def do_well(self) -> bytes:
        await asyncio.sleep(0)
        return bytes(32)

    async def do_hang(self) -> bytes:
        await asyncio.sleep(3600)
        return bytes(32)

    async def do_insist(self) -> bytes:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    async def do_block(self) -> bytes:
        time.sleep(BLOCKED)
        return bytes(32)

    async def do_spin(self) -> bytes:
        end = time.monotonic() + BLOCKED
        while time.monotonic() < end:
            pass
        return bytes(32)

    async def do_raise(self) -> bytes:
        raise ZeroDivisionError("a secret text")

    async def do_exit(self) -> bytes:
        raise SystemExit(3)

    async def do_cancel(self) -> bytes:
        raise asyncio.CancelledError

    async def do_stop(self) -> bytes:
        asyncio.get_running_loop().stop()
        return bytes(32)

    async def do_vendor(self) -> bytes:
        raise from_rv(VENDOR_RV)

    async def do_own(self) -> bytes:
        raise OwnError("gone")

    async def do_lie(self) -> bytes:
        raise Lie()

    async def do_text(self) -> Any:
        return "thirty-two bytes of text, or so.."

    async def do_number(self) -> Any:
        return 1 << 70

    async def do_nothing(self) -> Any:
        return None

    async def do_longer(self) -> bytes:
        return bytes(1 << 20)

    async def do_flood(self) -> bytes:
        """Fill the adapter's own loop with tasks, and the log with words."""

        async def one() -> None:
            await asyncio.sleep(0)
            raise ValueError("one of many")

        self.tasks = [asyncio.create_task(one()) for _ in range(20000)]
        return bytes(32)

    async def do_elsewhere(self) -> bytes:
        """Come back on another thread than the loop's."""
        task = asyncio.current_task()
        assert task is not None
        coroutine: Any = task.get_coro()

        def go_on() -> None:
            with contextlib.suppress(StopIteration, RuntimeError):
                coroutine.send(None)

        await Elsewhere(go_on)
        return bytes(32)


class Elsewhere:
    """Something to await: another thread steps the coroutine meanwhile."""

    def __init__(self, go_on: Any) -> None:
        self.go_on = go_on

    def __await__(self) -> Any:
        future = asyncio.get_running_loop().create_future()
        threading.Timer(0.05, self.go_on).start()
        yield future


class Store(MemoryStore):
    """A token whose search gives more than it was asked for when it is asked for the label "flood"."""

    async def search(self, template: Any, after: int, limit: int) -> Any:
        if (ck.CKA_LABEL, b"flood") in [(type_, bytes(value)) for type_, value in template]:
            return list(range(after + 1, after + 100_000))
        return await super().search(template, after, limit)

    async def status(self) -> Any:
        if not PLUGGED.is_set():
            raise TokenNotPresent("unplugged")
        return await super().status()


class Adapter:
    """One slot with a token that stays as long as the process."""

    name = "fault"
    version = "1.0"
    inline = False
    kept: MemorySlot | None = None

    def __init__(self, section: Any) -> None:
        self.options = section.options

    def info(self) -> AdapterInfo:
        return AdapterInfo(
            "fault",
            "1.0",
            limits=Limits(sessions=50, data=100),
            object_classes=[ck.CKO_DATA, ck.CKO_SECRET_KEY],
            mechanisms={ck.CKM_SHA256: (0, 0, ck.CKF_DIGEST), ck.CKM_AES_KEY_GEN: (16, 24, ck.CKF_GENERATE)},
        )

    async def open(self) -> None:
        OPENED.append(threading.get_ident())
        if self.options.get("hang_at_open"):
            await asyncio.sleep(3600)
        if self.options.get("fail_at_open"):
            raise OSError("no such device")

    async def slots(self) -> Any:
        if type(self).kept is None:
            type(self).kept = MemorySlot(77, Engine(), Store(tries=10))
        return [type(self).kept]

    async def close(self) -> None:
        """Nothing to close."""


def install(site: Path) -> None:
    """Put this module into `site` as a distribution, beside two that are never to be seen."""
    site.mkdir(parents=True, exist_ok=True)
    (site / "ferrohsm_fault.py").write_text(Path(__file__).read_text())
    (site / "ferrohsm_unnamed.py").write_text("raise SystemExit('a plugin that no slot names was imported')")
    (site / "ferrohsm_broken.py").write_text("import there_is_no_such_module")
    (site / "ferrohsm_leaving.py").write_text("raise SystemExit('this one leaves')")
    folder = site / "ferrohsm_fault-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: ferrohsm-fault\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[ferrohsm.adapters]\n"
        "fault = ferrohsm_fault:Adapter\n"
        "unnamed = ferrohsm_unnamed:Adapter\n"
        "broken = ferrohsm_broken:Adapter\n"
        "leaving = ferrohsm_leaving:Adapter\n"
    )
