"""Many callers at once, and callers who give up."""

from __future__ import annotations

import time

import pytest

from ferrohsm.adapters import Function
from ferrohsm.errors import HsmError
from ferrohsm.testing.material import DATA
from ferrohsm.testing.subject import TOKEN, Running, in_threads, label

__all__ = [
    "test_a_call_that_was_given_up_harms_nobody",
    "test_many_threads_make_and_destroy_objects",
    "test_many_threads_sign_with_one_key",
]

THREADS, CALLS = 8, 5
GIVEN_UP = 10


def test_many_threads_sign_with_one_key(running: Running) -> None:
    """Each signature is right, and that of the data it was asked for."""
    session = running.session()
    public, private, mechanism = running.a_pair(session, label(b"threads"))

    def work(number: int) -> None:
        mine = running.session(login=False)
        for call in range(CALLS):
            data = bytes([number, call]) * 16
            signature = running.sign(mine, mechanism, private, data)
            running.verify(mine, mechanism, public, data, signature)

    assert in_threads(THREADS, work) == []


def test_many_threads_make_and_destroy_objects(running: Running) -> None:
    """Every object has an identity of its own, and what is left is what was left there."""
    session = running.session()
    name = label(b"crowd")
    made: list[list[int]] = [[] for _ in range(4)]

    def work(number: int) -> None:
        mine = running.session(login=False)
        for _ in range(2):
            public, private, _ = running.a_pair(mine, TOKEN, name)
            made[number] += dict.fromkeys((public, private))

    assert in_threads(4, work) == []
    everything = {oid for oids in made for oid in oids}
    assert len(everything) == sum(len(oids) for oids in made), "two objects have one identity"
    assert set(running.find(session, name)) == everything

    def remove(number: int) -> None:
        for oid in made[number]:
            running.destroy(session, oid)

    assert in_threads(4, remove) == []
    assert running.find(session, name) == []


def test_a_call_that_was_given_up_harms_nobody(running: Running) -> None:
    """Cancelled calls end at once, and the next one works and gives its own answer."""
    if running.core.inline(running.slot_id):
        pytest.skip("an inline adapter's calls cannot be given up")
    session = running.session()
    public, private, mechanism = running.a_pair(session, label(b"given up"))
    for number in range(GIVEN_UP):
        operation = running.operation(session, Function.SIGN, mechanism, private)
        call = running.submit(operation.once(memoryview(bytes([number]) * 32)))
        time.sleep(0.001 * (number % 4))
        start = time.monotonic()
        call.cancel()
        try:
            call.result()
        except HsmError:
            pass
        assert time.monotonic() - start < 1.0, "a call that was given up goes on"
        signature = running.sign(session, mechanism, private, DATA)
        running.verify(session, mechanism, public, DATA, signature)
