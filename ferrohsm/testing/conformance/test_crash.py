"""A process that is killed in the middle of its work leaves a token that works."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ferrohsm import constants as ck
from ferrohsm.testing.material import DATA
from ferrohsm.testing.subject import Subject

__all__ = ["test_a_killed_process_leaves_the_token_whole"]

MAKE_BEFORE_KILLING = 3  # keys


def test_a_killed_process_leaves_the_token_whole(adapter_under_test: Subject) -> None:
    """Every key that a killed process had made is there afterwards, and each that is there signs."""
    with adapter_under_test.open():
        """The token is there; the process that will be killed only uses it."""
    name = b"conformance killed " + os.urandom(4).hex().encode()
    made = _killed(adapter_under_test, name)
    with adapter_under_test.open() as running:
        session = running.session()
        found = running.find(session, (ck.CKA_LABEL, name))
        running.adopt(*found)
        assert len(found) >= len(made), "a key whose making had returned is gone"
        (mechanism,) = [running.a_pair(session)[2]]
        for oid in found:
            (sign,) = running.get(session, oid, ck.CKA_SIGN)
            if sign == b"\1":
                assert running.sign(session, mechanism, oid, DATA)


def _killed(subject: Subject, name: bytes) -> set[int]:
    """Let a process make keys until it is killed; return the identities that it told."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ferrohsm.testing.victim"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    made: set[int] = set()
    try:
        process.stdin.write(json.dumps({**subject.description(), "label": name.decode()}) + "\n")
        process.stdin.flush()
        for _ in range(MAKE_BEFORE_KILLING):
            line = process.stdout.readline()
            if not line:
                pytest.fail("the process that was to be killed ended by itself", pytrace=False)
            made |= set(json.loads(line))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    return made
