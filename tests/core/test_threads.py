"""Many threads in one core: nobody computes with a key that another thread has just wiped."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from house import SLOT, TRUE, House

from ferrohsm import constants as ck
from ferrohsm import objects
from ferrohsm.adapters import Function
from ferrohsm.attribute_kinds import ulong
from ferrohsm.errors import HsmError, KeyHandleInvalid, ObjectHandleInvalid, UserNotLoggedIn
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

CMAC = Mechanism(ck.CKM_AES_CMAC)
SECONDS = 0.5


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run(*works: Callable[[], None]) -> None:
    """Let all work at once for a moment; the first exception of any is raised."""
    end = time.monotonic() + SECONDS
    errors: list[BaseException] = []

    def loop(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < end and not errors:
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def mac(house: House, session: Session, oid: int) -> bytes:
    return bytes(step(step(house.core.begin(session, Function.SIGN, CMAC, oid)).once(memoryview(b"data"))))


@pytest.mark.parametrize("on_token", [True, False])
def test_signing_while_the_key_changes(
    house: House, session: Session, on_token: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "CACHE_LIMIT", 2)
    place = (ck.CKA_TOKEN, TRUE if on_token else b"\x00")
    keys = [house.aes(session, place) for _ in range(4)]
    expected = {oid: mac(house, session, oid) for oid in keys}
    changes = iter(range(10**9))

    def sign() -> None:
        for oid in keys:
            assert mac(house, session, oid) == expected[oid]

    def rename() -> None:
        label = f"label {next(changes)}".encode()
        step(house.core.set_attributes(session, keys[0], [(ck.CKA_LABEL, label)]))

    run(sign, sign, sign, rename)
    assert next(changes) > 10
    assert house.core.token(SLOT).operations == set()


@pytest.mark.parametrize("on_token", [True, False])
def test_no_change_is_lost(house: House, session: Session, on_token: bool) -> None:
    """Renaming a key at the same moment does not take back that it was made sensitive."""
    place = (ck.CKA_TOKEN, TRUE if on_token else b"\x00")

    def once() -> None:
        oid = house.aes(session, place, (ck.CKA_SENSITIVE, b"\x00"), (ck.CKA_EXTRACTABLE, TRUE))
        changes = [
            (ck.CKA_SENSITIVE, TRUE),
            (ck.CKA_EXTRACTABLE, b"\x00"),
            (ck.CKA_LABEL, b"a"),
            (ck.CKA_ID, b"b"),
        ]
        threads = [
            threading.Thread(target=lambda c=c: step(house.core.set_attributes(session, oid, [c])))  # type: ignore[misc]
            for c in changes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert house.get(session, oid, *(attribute for attribute, _ in changes)) == [v for _, v in changes]

    for _ in range(50):
        once()


def test_signing_while_others_log_out(house: House, session: Session) -> None:
    oid = house.aes(session, (ck.CKA_TOKEN, TRUE))
    expected = mac(house, session, oid)
    counts = {"signed": 0, "refused": 0}

    def sign() -> None:
        try:
            assert mac(house, session, oid) == expected
            counts["signed"] += 1
        except (KeyHandleInvalid, UserNotLoggedIn):
            counts["refused"] += 1

    def in_and_out() -> None:
        house.logout()
        house.login(session)

    run(sign, sign, in_and_out)
    assert counts["signed"] and counts["refused"]


def test_fork_under_a_held_lock(house: House, session: Session) -> None:
    """The child's new core is not stopped by what a thread of the parent held."""
    from ferrohsm import entries

    with entries._lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                fresh = House()
                fresh.initialize()
                inside = fresh.open()
                fresh.login(inside)
                status = 0 if mac(fresh, inside, fresh.aes(inside)) else 2
            finally:
                os._exit(status)
        end = time.monotonic() + 10
        done, status = os.waitpid(child, os.WNOHANG)
        while not done and time.monotonic() < end:
            time.sleep(0.01)
            done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert done and status == 0


def test_making_and_destroying(house: House, session: Session) -> None:
    secret = (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY))

    def make_and_destroy() -> None:
        oid = house.aes(session, (ck.CKA_TOKEN, TRUE))
        assert mac(house, session, oid)
        step(house.core.destroy_object(session, oid))
        here = house.aes(session)
        step(house.core.destroy_object(session, here))

    def look() -> None:
        for oid in house.find(session, [secret]):
            try:
                house.get(session, oid, ck.CKA_LABEL, ck.CKA_VALUE)
                mac(house, session, oid)
            except (ObjectHandleInvalid, KeyHandleInvalid):
                pass

    try:
        run(make_and_destroy, make_and_destroy, look, look)
    except HsmError as error:
        raise AssertionError("a thread was refused something") from error
    assert house.find(session, [secret]) == []
    assert house.store.objects == {}
