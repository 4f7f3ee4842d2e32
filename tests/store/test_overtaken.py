"""What another process, a full disk or the clock does in the middle of a call about PINs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from store_support import PIN, SO_PIN, Token, config, data

from ferrohsm import constants as ck
from ferrohsm.errors import (
    DeviceError,
    DeviceMemory,
    DeviceRemoved,
    HsmError,
    PinIncorrect,
    UserNotLoggedIn,
    UserPinNotInitialized,
)
from ferrohsm.runtime import step
from ferrohsm.settings import PinPolicy
from ferrohsm.store import access, pins


def make_anew(token: Token) -> None:
    other = token.another()
    step(other.store.initialize(bytearray(SO_PIN), "anew"))
    other.close()


def once_after(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], None], name: str = "wrap", place: Any = pins
) -> None:
    """Do `action` after the next call of `name`: the PIN was tried, and nothing is locked."""
    original = getattr(place, name)

    def call(*given: Any) -> Any:
        monkeypatch.setattr(place, name, original)
        value = original(*given)
        action()
        return value

    monkeypatch.setattr(place, name, call)


def test_a_clock_that_was_set_back_costs_one_delay(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Token(token.path, config(pin=PinPolicy(delay=0.2)))
    with pytest.raises(PinIncorrect):
        slow.login(b"wrong!")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86400)
    start = time.monotonic()
    slow.login(PIN)
    assert 0.15 < time.monotonic() - start < 2
    slow.close()


def test_a_pin_that_was_changed_meanwhile_stays(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    def reset() -> None:
        other = token.another()
        other.set_user_pin(b"by the SO")
        other.close()

    once_after(monkeypatch, reset)
    with pytest.raises(PinIncorrect):
        step(token.store.set_pin(ck.CKU_USER, bytearray(PIN), bytearray(b"by the user")))
    token.another().login(b"by the SO")


def test_an_so_pin_that_was_changed_meanwhile_destroys_nothing(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    token.create(data("kept"))

    def change() -> None:
        step(token.another().store.set_pin(ck.CKU_SO, bytearray(SO_PIN), bytearray(b"another")))

    once_after(monkeypatch, change)
    with pytest.raises(PinIncorrect):
        step(token.store.initialize(bytearray(SO_PIN), "anew"))
    assert token.labels() == ["kept"]


@pytest.mark.parametrize("error", [DeviceMemory, KeyboardInterrupt])
def test_making_anew_happens_whole_or_not_at_all(
    token: Token, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    token.create(data("kept"))
    original = access.write_first

    def fail(*given: Any) -> None:
        original(*given)
        raise error

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(access, "write_first", fail)
        step(token.store.initialize(bytearray(SO_PIN), "anew"))
    assert token.store.holds_login()
    assert token.labels() == ["kept"]
    token.create(data("more"))
    assert token.another().login().labels() == ["kept", "more"]
    assert step(token.store.status()).label == "alpha"


def test_a_login_that_the_token_did_not_survive_seals_nothing(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = token.another()
    once_after(monkeypatch, lambda: make_anew(token), "PrivateKeys", access)
    late.login()
    with pytest.raises(HsmError):
        late.create(data("sealed with a dead key"))
    assert not late.store.holds_login()
    with pytest.raises(UserNotLoggedIn):
        late.create(data("sealed with a dead key"))
    with pytest.raises(UserPinNotInitialized):
        late.login()


def test_the_so_of_a_former_token_sets_no_pin(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    late = token.another().login(SO_PIN, ck.CKU_SO)
    once_after(monkeypatch, lambda: make_anew(token))
    with pytest.raises(HsmError):
        step(late.store.init_pin(bytearray(b"dead key")))
    assert not step(token.store.status()).user_pin_set
    with pytest.raises(UserNotLoggedIn):
        step(late.store.init_pin(bytearray(b"dead key")))
    with pytest.raises(UserNotLoggedIn):
        step(late.store.rename("dead"))
    assert step(token.store.status()).label == "anew"


def test_a_closed_store_opens_nothing_again(token: Token) -> None:
    oid = token.create(data("x"))
    store = token.store
    token.close()
    for call in (store.status(), store.read(oid), store.login(ck.CKU_USER, bytearray(PIN))):
        with pytest.raises(DeviceRemoved):
            step(call)


def test_what_another_process_deleted_is_logged_out(token: Token) -> None:
    store = token.store
    other = token.another()
    other.directory.delete(token.serial)
    other.close()
    assert token.directory.tokens() == []
    assert not store.holds_login()
    with pytest.raises(HsmError):
        step(store.read(1))


@pytest.mark.parametrize("name", ["public.key", "token.db", "generation"])
def test_a_damaged_token_can_be_deleted(token: Token, name: str) -> None:
    token.close()
    (token.folder / name).write_bytes(b"junk")
    other = token.another()
    other.directory.delete(token.serial)
    assert other.directory.tokens() == []
    assert {path.name for path in (token.path / "tokens").iterdir()} == {"reserved", "lock"}


def test_a_row_that_is_listed_but_missing_is_damage(token: Token) -> None:
    private, public = token.create(data("a")), token.create(data("b", private=False))
    token.edit(("DELETE FROM object", ()))
    other = token.another().login()
    for oid in (private, public):
        with pytest.raises(DeviceError):
            other.read(oid)
