"""The directory of tokens: serials, slot ids, the free slot, tokens that come and go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from store_support import SO_PIN, Token, config, data

from ferrohsm.errors import DeviceRemoved, HsmError, TokenNotPresent
from ferrohsm.runtime import step
from ferrohsm.store.directory import TokenDirectory, slot_id


def fresh(path: Path) -> TokenDirectory:
    return TokenDirectory(str(path), config())


def view(directory: TokenDirectory) -> list[tuple[str, int]]:
    return [(serial, slot) for serial, slot, _ in directory.tokens()]


def test_the_free_slot_keeps_its_id_when_its_token_is_made(free: Token) -> None:
    serial, slot = free.serial, free.slot
    assert fresh(free.path).reserved()[:2] == (serial, slot)  # type: ignore[index]
    free.make()
    for directory in (free.directory, fresh(free.path)):
        assert view(directory) == [(serial, slot)]
        next_one = directory.reserved()
        assert next_one is not None and next_one[1] != slot
    assert 0 < slot < 1 << 31


def test_ids_stay_when_other_tokens_come_and_go(free: Token) -> None:
    made = []
    for label in ("first", "second", "third"):
        token = Token(free.path)
        token.serial, token.slot, token.store = token._reserved()
        token.make(label)
        made.append((token.serial, token.slot))
        token.close()
    directory = fresh(free.path)
    assert view(directory) == made, "the oldest comes first"
    directory.delete(made[1][0])
    assert view(directory) == view(fresh(free.path)) == [made[0], made[2]]


def test_ids_are_the_same_on_another_host(token: Token, tmp_path: Path) -> None:
    token.close()
    shutil.copytree(token.path, tmp_path / "elsewhere")
    assert view(fresh(tmp_path / "elsewhere")) == [(token.serial, token.slot)]


def test_an_id_stays_when_the_token_is_made_anew(token: Token) -> None:
    step(token.store.initialize(bytearray(SO_PIN), "anew"))
    assert view(fresh(token.path)) == [(token.serial, token.slot)]


def test_slot_ids_are_positive_and_of_31_bits() -> None:
    for number in range(2000):
        assert 0 < slot_id(f"{number:016x}") < 1 << 31


def test_a_serial_whose_slot_id_is_taken_is_not_reserved(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.unlink(token.path / "tokens" / "reserved")
    drawn = iter([bytes.fromhex(token.serial), bytes(8)])
    monkeypatch.setattr("ferrohsm.store.directory.os.urandom", lambda n: next(drawn) if n == 8 else bytes(n))
    reserved = fresh(token.path).reserved()
    assert reserved is not None and reserved[0] == "0" * 16


def test_who_comes_too_late_for_the_free_slot_is_told(free: Token) -> None:
    late = free.another()
    free.make("winner")
    with pytest.raises(DeviceRemoved):
        step(late.store.initialize(bytearray(SO_PIN), "loser"))
    assert step(free.store.status()).label == "winner"
    # After the next listing it is a token like any other, to be made anew with its SO PIN.
    assert view(late.directory) == [(free.serial, free.slot)]
    step(late.store.initialize(bytearray(SO_PIN), "again"))
    assert step(free.store.status()).label == "again"


def test_what_a_killed_process_left_is_swept_and_never_a_token(free: Token) -> None:
    left = free.path / "tokens" / ".new-0123456789ab"
    left.mkdir()
    (left / "token.db").write_bytes(b"half")
    assert view(fresh(free.path)) == []
    free.make()
    assert not left.exists()


def test_a_deleted_token_is_gone_for_those_who_use_it(token: Token) -> None:
    other = token.another().login()
    oid = other.create(data("mine"))
    token.directory.delete(token.serial)
    for use in (lambda: other.read(oid), lambda: other.create(data("more")), other.find):
        with pytest.raises(HsmError) as refused:
            use()
        assert isinstance(refused.value, DeviceRemoved | TokenNotPresent)
    assert view(other.directory) == []
    with pytest.raises(TokenNotPresent):
        token.directory.delete(token.serial)


def test_names_that_are_no_serials_are_left_alone(free: Token) -> None:
    for name in ("notes", "0123", "0123456789ABCDEF", "..", "0123456789abcdeg"):
        if name != "..":
            (free.path / "tokens" / name).mkdir()
        with pytest.raises(TokenNotPresent):
            free.directory.delete(name)
    assert view(fresh(free.path)) == []
