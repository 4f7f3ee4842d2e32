"""The short way of a search says what the long way says, or nothing."""

from __future__ import annotations

import sqlite3

import pytest
from store_support import Token, data, secret_key

from ferrohsm import constants as ck
from ferrohsm.adapters import Template
from ferrohsm.errors import DeviceError
from ferrohsm.runtime import step
from ferrohsm.store.encoding import compare, encode


def short(token: Token, *template: tuple[int, bytes], after: int = 0) -> list[int] | None:
    """Search the short way only, after a look that lets it know the token."""
    wanted: Template = template  # type: ignore[assignment]
    token.find((ck.CKA_LABEL, b"nobody"))
    return token.store._glance(dict(wanted), after)


def label(text: str) -> tuple[int, bytes]:
    return ck.CKA_LABEL, text.encode()


@pytest.fixture
def full(token: Token) -> Token:
    for number in range(20):
        token.create(data(f"d{number}", private=bool(number % 2)))
        token.create(secret_key(f"k{number}", private=bool(number % 2)))
    return token


def test_it_finds_what_is_there(full: Token) -> None:
    for number in range(20):
        for name in (f"d{number}", f"k{number}"):
            found = short(full, label(name))
            assert found is not None
            assert len(found) == 1
            assert full.read(found[0])[ck.CKA_LABEL] == name.encode()
            assert short(full, label(name), after=found[0]) == []
    assert short(full, label("nobody")) == []
    assert short(full, (ck.CKA_ID, b"k3-id"), label("k3")) == full.find(label("k3"))
    assert short(full, label("k3"), (ck.CKA_ID, b"k4-id")) == []
    assert short(full, label("k3"), (ck.CKA_PRIVATE, b"\1")) == full.find(label("k3"))
    assert short(full, label("k3"), (ck.CKA_PRIVATE, b"\0")) == []


def test_a_few_of_one_name(token: Token) -> None:
    made = [token.create(data("same", private=bool(number % 2))) for number in range(8)]
    assert short(token, label("same")) == made
    assert short(token, label("same"), after=made[3]) == made[4:]
    made.append(token.create(data("same")))
    assert short(token, label("same")) is None
    assert token.find(label("same")) == made


def test_without_a_login_the_private_ones_are_not_there(full: Token) -> None:
    step(full.store.logout())
    assert short(full, label("d3")) == []
    assert short(full, label("d4")) == full.find(label("d4")) != []


def test_what_it_does_not_answer(full: Token) -> None:
    assert short(full, (ck.CKA_CLASS, b"\0" * 8)) is None
    assert short(full, label("k3"), (ck.CKA_VALUE, b"k" * 32)) is None
    assert short(full, label("k3"), (ck.CKA_START_DATE, b"")) is None


def test_after_a_commit_the_token_is_looked_at_first(full: Token) -> None:
    assert short(full, label("d1")) is not None
    other = full.another().login()
    oid = other.create(data("theirs"))
    assert full.store._glance(dict([label("theirs")]), 0) is None
    assert full.find(label("theirs")) == [oid]
    assert full.store._glance(dict([label("theirs")]), 0) == [oid]


def test_a_commit_between_the_two_looks(full: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    from ferrohsm.store import token as module

    other, real = full.another().login(), module.glance

    def overtaken(*arguments: object) -> list[int] | None:
        found = real(*arguments)  # type: ignore[arg-type]
        other.create(data("d1"))
        return found

    assert len(short(full, label("d1")) or []) == 1
    monkeypatch.setattr(module, "glance", overtaken)
    assert full.store._glance(dict([label("d1")]), 0) is None
    monkeypatch.undo()
    assert len(full.find(label("d1"))) == 2


def test_after_the_token_was_made_anew(full: Token) -> None:
    assert short(full, label("d1")) is not None
    full.another().make("anew")
    assert full.store._glance(dict([label("d1")]), 0) is None
    assert full.find(label("d1")) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entry WHERE key > x'01' AND key < x'ff'",
        "UPDATE entry SET mac = zeroblob(12)",
        "UPDATE object SET attributes = zeroblob(99)",
        "UPDATE object SET secrets = 'x'",
        "DELETE FROM object",
    ],
)
def test_damage_is_never_an_answer(full: Token, statement: str) -> None:
    assert short(full, label("k3")) is not None
    db = sqlite3.connect(full.file)
    db.execute(statement)
    db.commit()
    db.close()
    assert full.store._glance(dict([label("k3")]), 0) is None
    with pytest.raises(DeviceError):
        full.find(label("k3"))


def test_compare() -> None:
    plain = {1: b"a", 3: b"bc", 9: b"", 10: ((1, b"x"),)}
    encoded = bytes(encode(plain))
    assert compare(encoded, [(1, b"a"), (3, b"bc"), (9, b"")]) is True
    assert compare(encoded, [(3, b"bc")]) is True
    assert compare(encoded, [(3, b"b")]) is False
    assert compare(encoded, [(1, b"a"), (3, b"")]) is False
    for missing in (0, 2, 8, 10, 11):
        assert compare(encoded, [(missing, b"a")]) is None
    assert compare(encoded, [(1, b"a"), (2, b"a")]) is None
    assert compare(encoded, [(1, b"a"), (2, b"a"), (3, b"bc")]) is None
    assert compare(encoded, []) is True
