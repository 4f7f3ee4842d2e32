"""Many objects in one commit are what they would be one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_support import Token, data, secret_key

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes
from ferrohsm.errors import DeviceError, UserNotLoggedIn
from ferrohsm.runtime import step
from ferrohsm.store.index import Chain


def objects(prefix: str, count: int) -> Iterator[Attributes]:
    for number in range(count):
        yield data(f"{prefix}{number}", private=bool(number % 3))
        yield secret_key(f"{prefix}{number}", private=bool(number % 2))


def many(token: Token, prefix: str, count: int) -> int:
    return step(token.store.create_many(objects(prefix, count)))


def entries(token: Token) -> list[bytes]:
    """Return the whole index; every link of it is verified."""
    with token.store._reading() as (db, public, _):
        return list(Chain(db, public.chain_key).all())


@pytest.mark.parametrize("before", [0, 1, 30])
def test_they_are_found_and_read_as_others(token: Token, before: int) -> None:
    for made in objects("before", before):
        token.create(made)
    assert many(token, "many", 300) == 600
    after = token.create(data("after"))
    assert token.find((ck.CKA_LABEL, b"after")) == [after]
    assert entries(token) == sorted(entries(token))
    for number in (0, 1, 150, 299):
        found = token.find((ck.CKA_LABEL, b"many%d" % number))
        assert len(found) == 2
        assert token.read(found[0]).items() >= data(f"many{number}", private=bool(number % 3)).items()
        assert token.read(found[1])[ck.CKA_VALUE] == b"k" * 32
    assert len(token.labels()) == 2 * before + 600 + 1
    assert len(token.another().login().labels()) == 2 * before + 600 + 1


def test_they_go_as_others(token: Token) -> None:
    many(token, "many", 20)
    for oid in token.find(limit=1000):
        step(token.store.delete(oid))
    assert entries(token) == []


def test_all_or_none(token: Token) -> None:
    kept = token.create(data("kept"))

    def broken() -> Iterator[Attributes]:
        yield from objects("many", 10)
        raise LookupError

    with pytest.raises(LookupError):
        step(token.store.create_many(broken()))
    assert token.find() == [kept]
    assert many(token, "many", 10) == 20
    assert step(token.store.create_many([])) == 0


def test_private_ones_need_the_login(token: Token) -> None:
    step(token.store.logout())
    with pytest.raises(UserNotLoggedIn):
        many(token, "many", 3)
    assert token.find() == []


def test_a_damaged_index_takes_none(token: Token) -> None:
    many(token, "many", 5)
    token.edit(("UPDATE entry SET mac = zeroblob(12)", ()))
    again = Token(token.path).login()
    with pytest.raises(DeviceError):
        many(again, "more", 5)
    again.close()
