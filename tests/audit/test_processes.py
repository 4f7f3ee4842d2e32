"""Many write one chain, are killed, fork, end without C_Finalize: what was answered is in the log, once."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.audit.conftest import World

SOAK = os.environ.get("FERROHSM_SOAK") == "1"

WORK = """\
session, key = ready()
answered = os.open({file!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    sign(session, key)
    os.write(answered, b".")
"""


def uses(world: World) -> Counter[int]:
    """Return how often each process has signed, by the log."""
    found: Counter[int] = Counter()
    for record in world.records("--event", "sign"):
        assert record["result"] == "CKR_OK" and record["mechanism"] == "CKM_SHA256_HMAC", record
        found[record["pid"]] += record.get("count", 1)
    return found


@pytest.mark.parametrize("mode", ["counted", "each"])
def test_eight_processes_some_of_which_are_killed(token: World, tmp_path: Path, mode: str) -> None:
    token.configure(f'key_use = "{mode}"')
    seconds = 20.0 if SOAK else 1.0
    chance = random.Random(mode)
    processes = []
    for number in range(8):
        program = WORK.format(file=str(tmp_path / f"answered{number}"), seconds=seconds)
        processes.append(token.start(program if number % 2 else program + "os._exit(0)"))
    victims = processes[:4]
    time.sleep(seconds * 0.6)
    for process in victims:
        time.sleep(chance.random() * 0.2)
        process.kill()
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process in victims or process.returncode == 0, error
    found = uses(token)
    report = token.audit("verify")
    assert report["sound"], report
    for number, process in enumerate(processes):
        file = tmp_path / f"answered{number}"
        answered = file.stat().st_size if file.exists() else 0
        # A killed one may have been about to say that it was answered.
        assert found[process.pid] - answered in ((0, 1) if process in victims else (0,)), (
            number,
            answered,
            found,
        )
    assert sum(found.values()) > 100
    assert not list((token.data / "audit/rings").glob("*.ring"))


def test_a_process_that_ends_at_once_loses_nothing(token: World) -> None:
    token.run("session, key = ready()\nfor _ in range(50): sign(session, key)\nos._exit(0)")
    assert list((token.data / "audit/rings").glob("*.ring")), "it was moved before anybody looked"
    assert sum(uses(token).values()) == 50
    assert not list((token.data / "audit/rings").glob("*.ring"))
    assert token.audit("verify")["sound"]


def test_the_command_sees_what_a_process_did_that_still_runs(token: World) -> None:
    process = token.start(
        "session, key = ready()\nfor _ in range(7): sign(session, key)\n"
        "print('done', flush=True)\ntime.sleep(100)"
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "done\n"
        assert uses(token)[process.pid] == 7
        assert uses(token)[process.pid] == 7, "counted twice"
    finally:
        process.kill()
        process.communicate()
    assert uses(token)[process.pid] == 7
    assert token.audit("verify")["sound"]


def test_a_forked_child_has_a_ring_of_its_own(token: World) -> None:
    out = token.run(
        """
session, key = ready()
for _ in range(3): sign(session, key)
child = os.fork()
if child == 0:
    p11("C_Initialize", None)
    session, key = ready()
    for _ in range(5): sign(session, key)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
for _ in range(2): sign(session, key)
p11("C_Finalize", None)
print(os.getpid(), child)
"""
    )
    parent, child = map(int, out.split())
    assert uses(token) == {parent: 5, child: 5}
    assert token.audit("verify")["sound"]


def test_a_host_that_forbids_threads_is_recorded_too(token: World) -> None:
    out = token.run(
        """
p11("C_Finalize", None)
class Arguments(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in "abcd"] + [("flags", ctypes.c_ulong), ("r", ctypes.c_void_p)]
p11("C_Initialize", ctypes.byref(Arguments(flags=ck.CKF_LIBRARY_CANT_CREATE_OS_THREADS)))
session, key = ready()
for _ in range(9): sign(session, key)
assert len(os.listdir("/proc/self/task")) == 1
print(os.getpid())
"""
    )
    assert uses(token)[int(out)] == 9


def test_sync_has_the_record_on_disk_before_the_answer(token: World) -> None:
    token.configure('durability = "sync"')
    program = """
import glob
session, key = ready()
for number in range(1, 21):
    sign(session, key)
    lines = [line for file in glob.glob(FILES) for line in open(file) if '"event":"sign"' in line]
    assert len(lines) == number, (len(lines), number)
print(os.getpid())
"""
    out = token.run(program.replace("FILES", repr(str(token.data / "audit/*/*.jsonl"))))
    assert uses(token)[int(out)] == 20


def test_one_of_so_many_is_recorded(token: World) -> None:
    token.configure('key_use = "sampled"\nsample = 10')
    token.run("session, key = ready()\nfor _ in range(95): sign(session, key)")
    found = token.records("--event", "sign")
    assert 9 <= len(found) <= 11 and all(record["one_of"] == 10 for record in found)


def test_uses_are_not_recorded_where_that_is_configured(token: World) -> None:
    token.configure('key_use = "off"')
    token.run("session, key = ready()\nfor _ in range(5): sign(session, key)")
    assert not token.records("--event", "sign") and token.records("--event", "login")
    token.configure("enabled = false")
    before = len(token.records())
    token.run("session, key = ready()\nsign(session, key)")
    assert len(token.records()) == before
