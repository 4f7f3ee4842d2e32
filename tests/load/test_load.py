"""Many processes and threads on one token, and processes that are killed under load.

The hosts are C programs on the installed module; what a call acknowledged is compared with what a
fresh process finds afterwards.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Home, Token, make_token
from tests.load.conftest import Ledger

# Lists a token's data objects in a process of its own, and reads each of them whole.
LISTING = """\
import sys
import PyKCS11
from PyKCS11 import LowLevel as ck

library = PyKCS11.PyKCS11Lib()
library.load(sys.argv[1])
for slot in library.getSlotList(tokenPresent=True):
    if library.getTokenInfo(slot).label.strip() == sys.argv[2]:
        break
session = library.openSession(slot)
session.login(sys.argv[3])
for handle in session.findObjects([(ck.CKA_CLASS, ck.CKO_DATA)]):
    label, value = session.getAttributeValue(handle, [ck.CKA_LABEL, ck.CKA_VALUE])
    assert len(value) == 48 and len(set(value)) == 1, f"half an object: {label}"
    print(label)
"""


def contents(token: Token) -> set[str]:
    """Return the labels of the token's data objects, as a fresh process finds them."""
    listing = token.run(sys.executable, "-c", LISTING, token.module.path, token.label, token.pin, timeout=300)
    labels = listing.stdout.decode().split()
    assert len(labels) == len(set(labels)), "an object is listed twice"
    return set(labels)


@pytest.fixture
def loaded(home: Home) -> Token:
    """A token with the key that the workers sign with."""
    token = make_token(home)
    token.pkcs11_tool("--keygen", "--key-type", "GENERIC:32", "--label", "signing key", "--usage-sign")
    return token


def start(token: Token, worker: Path, name: str, threads: int, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(worker), str(token.module.path), token.label, token.pin, name, str(threads), str(seconds)],
        env=token.home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(token: Token, worker: Path, ledger: Ledger, processes: int, threads: int, seconds: float) -> int:
    """Run `processes` workers at once and return how many objects they made."""
    running = [start(token, worker, f"p{i}", threads, seconds) for i in range(processes)]
    outputs = [process.communicate(timeout=seconds * 4 + 120) for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors
    for output, _ in outputs:
        ledger.read(output.splitlines())
    return sum(line.startswith("+") for output, _ in outputs for line in output.splitlines())


def test_processes_and_threads_share_a_token(loaded: Token, worker: Path, ledger: Ledger) -> None:
    made = together(loaded, worker, ledger, processes=8, threads=4, seconds=5)
    assert made >= 32, "each thread should have made an object"
    ledger.check(contents(loaded))


@pytest.mark.soak
def test_processes_and_threads_share_a_token_for_a_minute(
    loaded: Token, worker: Path, ledger: Ledger
) -> None:
    made = together(loaded, worker, ledger, processes=8, threads=4, seconds=60)
    assert made >= 320
    ledger.check(contents(loaded))


def killed(token: Token, worker: Path, ledger: Ledger, kills: int, check_every: int) -> None:
    """Kill a two-threaded worker at a random instant, `kills` times, and compare."""
    chance = random.Random(20261124)
    for kill in range(kills):
        process = start(token, worker, f"k{kill}", 2, 30)
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "r eady\n", process.communicate()[1]
        try:
            process.wait(chance.uniform(0.0, 0.12))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL, errors
        ledger.read(output.splitlines())
        if kill % check_every == check_every - 1 or kill == kills - 1:
            ledger.check(contents(token), in_flight=2 * (kill + 1))


def test_kill_loses_nothing(loaded: Token, worker: Path, ledger: Ledger) -> None:
    killed(loaded, worker, ledger, kills=int(os.environ.get("FERROHSM_KILLS", "25")), check_every=10)


@pytest.mark.soak
def test_two_hundred_kills_lose_nothing(loaded: Token, worker: Path, ledger: Ledger) -> None:
    killed(loaded, worker, ledger, kills=200, check_every=10)


def test_the_ledger_notices(new_ledger: Callable[[], Ledger]) -> None:
    """The comparison itself fails when something is lost, comes back or appears."""
    ledger = new_ledger()
    ledger.read(["+ a", "+ b", "- b", "x b", "+ c", "- c"])
    ledger.check({"a", "c"})
    ledger.check({"a"})
    for wrong in (set(), {"a", "b"}, {"a", "d"}):
        with pytest.raises(AssertionError):
            ledger.check(wrong)
