"""A process that answers what the contract does not know is ended, and nobody waits for it in vain."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ferrohsm.errors import DeviceError, DeviceRemoved
from ferrohsm.isolation import frames
from ferrohsm.isolation.values import INTEGER, OBJECT, Writer

if not sys.platform.startswith("linux"):
    pytest.skip("processes apart are for Linux", allow_module_level=True)

from ferrohsm.isolation.connection import Connection
from ferrohsm.isolation.process import Process


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for the adapter's: it must be dead afterwards."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    assert process.wait(5) == -9


def message(kind: int, *parts: object) -> bytes:
    writer = Writer()
    writer.byte(kind)
    for part in parts:
        writer.value(part)
    return bytes(writer.message())


def told_object(told: object, values: object) -> bytes:
    writer = Writer()
    writer.byte(frames.RESULT)
    writer.value(0)
    writer.tag(OBJECT, 1)
    for part in (0, told, None, values):
        writer.value(part)
    return bytes(writer.message())


NONSENSE = {
    "no message": b"\x05\0\0\0\xff\xff\xff\xff\xff",
    "too long": b"\xff\xff\xff\xff",
    "an answer to no question": message(frames.RESULT, 77, None),
    "a question": message(frames.CALL, 1, 1, "open", [], None),
    "no return value": message(frames.REFUSAL, 0, 0, "text", 0),
    "cut short": b"\x03\0\0\0" + bytes([frames.RESULT, INTEGER, 1]),
    "more than an answer": message(frames.RESULT, 0, None, None),
    "foreign methods": told_object(("Thing", {"__del__": False}), {}),
    "foreign attributes": told_object(("Thing", {"open": True}), {"connection": 5}),
}


@pytest.mark.parametrize("threads", [True, False], ids=["thread", "threadless"])
@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_ends_it(victim: subprocess.Popen[bytes], answer: bytes, threads: bool) -> None:
    ours, theirs = socket.socketpair()
    ended: list[str] = []
    connection = Connection(Process(ours, victim.pid, -1), "slot", 5.0, ended.append, threads=threads)
    with theirs:
        theirs.sendall(answer)
        with pytest.raises(DeviceError):
            asyncio.run(connection.begin({}, 5.0))
    assert len(ended) == 1
    assert connection.over
    with pytest.raises(DeviceRemoved):
        connection.call_and_wait(1, "generation", (), {})
    connection.end(1.0)
    victim.kill()  # without a pidfd a process that may be gone is not killed by its number


@pytest.mark.parametrize("threads", [True, False], ids=["thread", "threadless"])
def test_silence_ends_it_after_the_deadline(victim: subprocess.Popen[bytes], threads: bool) -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(Process(ours, victim.pid, -1), "slot", 0.2, lambda _: None, threads=threads)
    begun = time.monotonic()

    def closed_when_killed() -> None:
        victim.wait(5)
        theirs.close()

    import threading

    watcher = threading.Thread(target=closed_when_killed)
    watcher.start()
    with pytest.raises(DeviceError):
        asyncio.run(connection.begin({}, 0.2))
    watcher.join()
    assert time.monotonic() - begun < 3
    connection.end(1.0)
