"""What the installed module makes others accept, and the other way round: for every mechanism that they have.

The others are SoftHSM 2 and NSS, whose own lists say what they have, the `openssl` command, Python's
hashlib, hmac and integers, and for ML-KEM and ML-DSA the packages kyber-py and dilithium-py. A mechanism
that both have and that does not pass both ways fails here, unless `reviewed` has the reason. What was
exchanged stands in tools/facts/both-directions.json, from which the documentation's table is made;
``FERROHSM_RECORD_DIRECTIONS=1`` writes it. There "NSS" is the version of Debian 12, and "NSS 3.110" has what
passes from that version on besides. With a version that nothing was recorded with, all that stands there for
the ones before must pass, and more may.
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
from reviewed import ALONE, DIFFERENT, MENDED, RECORDED, REFUSED

from ferrohsm import constants as ck
from ferrohsm.mechanisms import ROWS

HERE = Path(__file__).parent
FACTS = HERE.parents[1] / "tools" / "facts" / "both-directions.json"
PROGRAMS = {"SoftHSM2": ("softhsm2", SOFTHSM2), "NSS": ("libnss3", NSS), "OpenSSL": ("openssl", ("openssl",))}
PACKAGES = {"kyber-py": "kyber_py", "dilithium-py": "dilithium_py"}
PEERS = (*PROGRAMS, "Python", *PACKAGES)
NAMES = {ck.name("CKM", type_) for type_ in ROWS}
Results = dict[str, dict[str, str]]
Version = tuple[int, ...]
Run = Callable[[str], tuple[Results, set[str], Version]]


@pytest.fixture(scope="module")
def run(module_path: Path, tmp_path_factory: pytest.TempPathFactory, need: Callable[..., str]) -> Run:
    """Return what came out of the exchange with a peer, what our slot offers, and the peer's version.

    One process for each; the version is empty where a peer has none that matters.
    """
    done: dict[str, tuple[Results, set[str], Version]] = {}

    def results(peer: str) -> tuple[Results, set[str], Version]:
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
            done[peer] = out["results"], set(out["offered"]), tuple(out["version"])
        return done[peer]

    return results


def facts() -> dict[str, dict[str, list[str]]]:
    made: dict[str, dict[str, list[str]]] = json.loads(FACTS.read_text(encoding="utf-8"))
    return made


@pytest.mark.parametrize("peer", PEERS)
def test_everything_that_both_have_is_exchanged(run: Run, peer: str) -> None:
    results, _, version = run(peer)
    failed = {
        (peer, name, function): answer
        for name, answers in results.items()
        for function, answer in answers.items()
        if answer != "good"
    }
    refused = {case for case in REFUSED if case[0] == peer and not _mended(case, version)}
    wrong = {case: answer for case, answer in failed.items() if case not in refused}
    assert not wrong, "these do not pass in both directions"
    # Somewhere between two versions a case was mended; and what a version does not list is not tried.
    listed = {(peer, name, function) for name, answers in results.items() for function in answers}
    certain = {case for case in refused & listed if case not in MENDED or version <= RECORDED[peer]}
    stale = certain - set(failed)
    assert not stale, "these pass now: take them out of the reviewed list"
    empty = {name for name, answers in results.items() if not answers and (peer, name) not in DIFFERENT}
    assert not empty, "both list these, and nothing is exchanged"


@pytest.mark.parametrize("peer", PEERS)
def test_the_documentation_says_what_was_exchanged(run: Run, peer: str) -> None:
    results, offered, version = run(peer)
    good = {
        name: functions
        for name, answers in results.items()
        if (functions := [function for function, answer in answers.items() if answer == "good"])
    }
    if os.environ.get("FERROHSM_RECORD_DIRECTIONS"):
        _record(peer, version, good, offered)
    found = {(name, function) for name, functions in good.items() for function in functions}
    told = _told(peer, version, offered)
    if version not in (RECORDED.get(peer, ()), *_versions(peer)):
        found &= told
    assert found == told, (
        "run FERROHSM_RECORD_DIRECTIONS=1 pytest tests/interop, then tools/gen_mechanism_table.py"
    )


def _mended(case: tuple[str, str, str], version: Version) -> bool:
    return case in MENDED and version >= MENDED[case]


def _label(peer: str, version: Version) -> str:
    """Return what the facts call a peer of that version."""
    return peer if version == RECORDED.get(peer, ()) else f"{peer} {'.'.join(map(str, version))}"


def _version(label: str) -> Version:
    """Return the version that a label of the facts ends with, or else the one that was recorded first."""
    peer, _, version = label.partition(" ")
    return tuple(map(int, version.split("."))) if version else RECORDED.get(peer, ())


def _versions(peer: str) -> set[Version]:
    """Return the versions of a peer that something was recorded with."""
    return {
        _version(label) for peers in facts().values() for label in peers if label.partition(" ")[0] == peer
    }


def _told(peer: str, version: Version, offered: set[str]) -> set[tuple[str, str]]:
    """Return the mechanisms and functions that stand in the facts for a peer up to that version.

    What needs a newer libcrypto than the kernels were built with is not offered, and not tried.
    """
    return {
        (name, function)
        for name, peers in facts().items()
        if name in offered
        for label, functions in peers.items()
        if label.partition(" ")[0] == peer and _version(label) <= version
        for function in functions
    }


def _record(peer: str, version: Version, good: dict[str, list[str]], offered: set[str]) -> None:
    """Write what passed under the peer's label; for a later version only what no earlier one had."""
    before = facts() if FACTS.exists() else {}
    made = {name: dict(before.get(name, {})) for name in sorted(set(before) | set(good))}
    label = _label(peer, version)
    for name in offered & set(made):
        made[name].pop(label, None)
    earlier = {
        (name, function)
        for name, peers in made.items()
        for known, functions in peers.items()
        if known.partition(" ")[0] == peer and _version(known) < version
        for function in functions
    }
    for name, functions in good.items():
        more = [function for function in functions if (name, function) not in earlier]
        if more:
            made[name] = dict(sorted({**made[name], label: more}.items()))
    lines = [f" {json.dumps(name)}: {json.dumps(peers)}" for name, peers in made.items() if peers]
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def test_every_mechanism_has_a_peer_or_a_reason() -> None:
    alone = {name for name in NAMES if any(re.fullmatch(pattern, name) for pattern in ALONE)}
    exchanged = set(facts())
    assert not alone & exchanged
    assert alone | exchanged == NAMES
