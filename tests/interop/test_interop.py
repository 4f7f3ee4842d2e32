"""What the installed module makes others accept, and the other way round: for every mechanism that they have.

The others are SoftHSM 2 and NSS, whose own lists say what they have, the `openssl` command, Python's
hashlib, hmac and integers, and for ML-KEM and ML-DSA the packages kyber-py and dilithium-py. A mechanism
that both have and that does not pass both ways fails here, unless `reviewed` has the reason. What was
exchanged stands in tools/facts/both-directions.json, from which the documentation's table is made;
``FERROHSM_RECORD_DIRECTIONS=1`` writes it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from peer_modules import NSS, SOFTHSM2
from reviewed import ALONE, DIFFERENT, REFUSED

from ferrohsm import constants as ck
from ferrohsm.mechanisms import ROWS

HERE = Path(__file__).parent
FACTS = HERE.parents[1] / "tools" / "facts" / "both-directions.json"
PROGRAMS = {"SoftHSM2": ("softhsm2", SOFTHSM2), "NSS": ("libnss3", NSS), "OpenSSL": ("openssl", ("openssl",))}
PACKAGES = {"kyber-py": "kyber_py", "dilithium-py": "dilithium_py"}
PEERS = (*PROGRAMS, "Python", *PACKAGES)
NAMES = {ck.name("CKM", type_) for type_ in ROWS}
Results = dict[str, dict[str, str]]
Run = Callable[[str], tuple[Results, set[str]]]


@pytest.fixture(scope="module")
def run(module_path: Path, tmp_path_factory: pytest.TempPathFactory, need: Callable[..., str]) -> Run:
    """Return what came out of the exchange with a peer and what our slot offers: one process for each."""
    done: dict[str, tuple[Results, set[str]]] = {}

    def results(peer: str) -> tuple[Results, set[str]]:
        if peer in PACKAGES and find_spec(PACKAGES[peer]) is None:
            assert not os.environ.get("CI"), f"{peer} is not installed"
            pytest.skip(f"{peer} is a test dependency")
        if peer in PROGRAMS:
            package, places = PROGRAMS[peer]
            need(places[0], package=package, places=places)
        if peer not in done:
            directory = tmp_path_factory.mktemp(peer.lower())
            command = [
                sys.executable,
                "-X",
                "faulthandler",
                HERE / "exchange.py",
                module_path,
                peer,
                directory,
            ]
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            assert ran.returncode == 0, ran.stderr[-2000:]
            out = json.loads(ran.stdout)
            done[peer] = out["results"], set(out["offered"])
        return done[peer]

    return results


def facts() -> dict[str, dict[str, list[str]]]:
    made: dict[str, dict[str, list[str]]] = json.loads(FACTS.read_text(encoding="utf-8"))
    return made


@pytest.mark.parametrize("peer", PEERS)
def test_everything_that_both_have_is_exchanged(run: Run, peer: str) -> None:
    results, _ = run(peer)
    failed = {
        (peer, name, function): answer
        for name, answers in results.items()
        for function, answer in answers.items()
        if answer != "good"
    }
    wrong = {case: answer for case, answer in failed.items() if case not in REFUSED}
    assert not wrong, "these do not pass in both directions"
    stale = {case for case in REFUSED if case[0] == peer} - set(failed)
    assert not stale, "these pass now: take them out of the reviewed list"
    empty = {name for name, answers in results.items() if not answers and (peer, name) not in DIFFERENT}
    assert not empty, "both list these, and nothing is exchanged"


@pytest.mark.parametrize("peer", PEERS)
def test_the_documentation_says_what_was_exchanged(run: Run, peer: str) -> None:
    results, offered = run(peer)
    good = {
        name: functions
        for name, answers in results.items()
        if (functions := [function for function, answer in answers.items() if answer == "good"])
    }
    if os.environ.get("FERROHSM_RECORD_DIRECTIONS"):
        _record(peer, good, offered)
    # What needs a newer libcrypto than the kernels were built with is not offered, and not tried.
    told = {name: peers[peer] for name, peers in facts().items() if peer in peers and name in offered}
    assert told == good, (
        "run FERROHSM_RECORD_DIRECTIONS=1 pytest tests/interop, then tools/gen_mechanism_table.py"
    )


def _record(peer: str, good: dict[str, list[str]], offered: set[str]) -> None:
    before = facts() if FACTS.exists() else {}
    made = {name: dict(before.get(name, {})) for name in sorted(set(before) | set(good))}
    for name in offered & set(made):
        made[name].pop(peer, None)
    for name, functions in good.items():
        made[name] = dict(sorted({**made[name], peer: functions}.items()))
    lines = [f" {json.dumps(name)}: {json.dumps(peers)}" for name, peers in made.items() if peers]
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def test_every_mechanism_has_a_peer_or_a_reason() -> None:
    alone = {name for name in NAMES if any(re.fullmatch(pattern, name) for pattern in ALONE)}
    exchanged = set(facts())
    assert not alone & exchanged
    assert alone | exchanged == NAMES
