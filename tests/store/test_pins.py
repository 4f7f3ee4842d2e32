"""PINs: tries are counted before they are made, they lock, and the security officer unlocks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from store_support import CHEAP, PIN, SO_PIN, Token, child, config, data, ended

from ferrohsm import constants as ck
from ferrohsm.errors import PinIncorrect, PinLocked, UserNotLoggedIn, UserPinNotInitialized
from ferrohsm.runtime import step
from ferrohsm.settings import KdfSettings, PinPolicy
from ferrohsm.store import pins


def left(token: Token) -> tuple[int, bool, int, bool]:
    status = step(token.store.status())
    return status.user_tries_left, status.user_locked, status.so_tries_left, status.so_locked


def test_wrong_pins_are_counted_on_disk_and_lock(token: Token) -> None:
    for number in range(1, 10):
        with pytest.raises(PinIncorrect):
            token.login(b"wrong!")
        assert left(token.another())[0] == 10 - number
    with pytest.raises(PinLocked):
        token.login(b"wrong!")
    with pytest.raises(PinLocked):
        token.another().login(PIN)
    assert left(token) == (0, True, 10, False)
    token.set_user_pin(b"another")
    assert left(token)[:2] == (10, False)
    token.login(b"another")


def test_the_right_pin_takes_the_count_back(token: Token) -> None:
    for _ in range(3):
        with pytest.raises(PinIncorrect):
            step(token.store.check_pin(ck.CKU_USER, bytearray(b"no")))
    assert left(token)[0] == 7
    step(token.store.check_pin(ck.CKU_USER, bytearray(PIN)))
    assert left(token)[0] == 10


def test_a_try_counts_even_if_the_process_is_killed_during_it(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def action() -> None:
        monkeypatch.setattr(pins, "unwrap", die)
        token.another().login(b"wrong!")

    assert ended(child(action)) == -signal.SIGKILL
    assert left(token)[0] == 9


def test_the_delay_grows(tmp_path: Path) -> None:
    token = Token(tmp_path, config(pin=PinPolicy(delay=0.1, delay_cap=0.4))).make()
    took = []
    for _ in range(4):
        start = time.monotonic()
        with pytest.raises(PinIncorrect):
            token.login(b"wrong!")
        took.append(time.monotonic() - start)
    assert took[0] < 0.1 <= took[1] + 0.03
    assert took[2] > 0.17
    assert took[3] > 0.35
    token.close()


@pytest.mark.parametrize("delay", [0.0, 0.25])
def test_right_pins_at_the_same_moment_are_no_failures_of_each_other(tmp_path: Path, delay: float) -> None:
    token = Token(tmp_path, config(pin=PinPolicy(tries=3, delay=delay))).make()
    ready, go = os.pipe()

    def action() -> None:
        other = token.another()
        os.read(ready, 1)
        other.login()

    children = [child(action) for _ in range(12)]
    os.write(go, bytes(12))
    started = time.monotonic()
    assert [ended(pid) for pid in children] == [0] * 12
    assert time.monotonic() - started < 5
    assert left(token)[0] == 3
    os.close(ready)
    os.close(go)
    token.close()


def test_guesses_at_the_same_moment_are_all_counted(tmp_path: Path) -> None:
    token = Token(tmp_path, config(pin=PinPolicy(tries=5, delay=0.0))).make()

    def action() -> None:
        with pytest.raises((PinIncorrect, PinLocked)):
            token.another().login(b"guess")

    assert [ended(pid) for pid in [child(action) for _ in range(8)]] == [0] * 8
    assert left(token)[:2] == (0, True)
    token.close()


def test_a_pin_can_be_changed_and_objects_stay(token: Token) -> None:
    oid = token.create(data("kept"))
    with pytest.raises(PinIncorrect):
        step(token.store.set_pin(ck.CKU_USER, bytearray(b"wrong"), bytearray(b"654321")))
    step(token.store.set_pin(ck.CKU_USER, bytearray(PIN), bytearray(b"654321")))
    step(token.store.set_pin(ck.CKU_SO, bytearray(SO_PIN), bytearray(b"so-anew")))
    other = token.another()
    with pytest.raises(PinIncorrect):
        other.login(PIN)
    assert other.login(b"654321").read(oid)[ck.CKA_LABEL] == b"kept"
    other.login(b"so-anew", ck.CKU_SO)
    other.close()


def test_init_pin_needs_the_security_officer(token: Token) -> None:
    with pytest.raises(UserNotLoggedIn):
        step(token.store.init_pin(bytearray(b"123123")))


def test_without_a_user_pin_nobody_logs_in(free: Token) -> None:
    free.make(pin=None)
    assert not step(free.store.status()).user_pin_set
    with pytest.raises(UserPinNotInitialized):
        free.login()


def test_a_dearer_derivation_is_used_from_the_next_login_on(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped: list[object] = []
    original = pins.wrap

    def counted(*given: Any) -> bytes:
        wrapped.append(given[2])
        return original(*given)

    monkeypatch.setattr(pins, "wrap", counted)
    oid = token.create(data("kept"))
    token.close()
    dear = config(kdf=KdfSettings(memory_kib=2 * CHEAP.memory_kib, passes=CHEAP.passes + 1))
    for settings, calls in ((dear, 1), (dear, 0), (config(), 0)):
        other = Token(token.path, settings)
        wrapped.clear()
        other.login()
        assert len(wrapped) == calls
        assert other.read(oid)[ck.CKA_LABEL] == b"kept"
        other.close()


def test_initializing_anew_needs_the_right_so_pin(token: Token) -> None:
    token.create(data("old"))
    with pytest.raises(PinIncorrect):
        step(token.store.initialize(bytearray(b"not the SO"), "anew"))
    assert left(token)[2] == 9
    assert token.labels() == ["old"]
    other = token.another().login()
    step(token.store.initialize(bytearray(SO_PIN), "anew"))
    assert (token.serial, token.slot) == (other.serial, other.slot)
    status = step(other.store.status())
    assert (status.label, status.user_pin_set, status.so_tries_left) == ("anew", False, 10)
    # The other process's login died with the key that it had opened.
    with pytest.raises(UserNotLoggedIn):
        other.create(data("sealed with a dead key"))
    assert other.find() == []
    other.close()
