"""Objects: what is kept comes back, is found, is bound, and is gone when it is deleted."""

from __future__ import annotations

import pytest
from store_support import PIN, SO_PIN, Token, data, secret_key, ulong

from ferrohsm import constants as ck
from ferrohsm.errors import DeviceError, ObjectHandleInvalid, UserNotLoggedIn
from ferrohsm.runtime import step
from ferrohsm.store.encoding import decode, encode
from ferrohsm.store.index import Chain


def test_what_is_created_is_read_by_another_process(token: Token) -> None:
    wanted = secret_key("k") | {ck.CKA_WRAP_TEMPLATE: ((ck.CKA_LABEL, b"x"), (ck.CKA_TOKEN, b"\1"))}
    oid = token.create(wanted)
    other = token.another().login()
    found = other.read(oid)
    assert isinstance(found.pop(ck.CKA_VALUE), bytearray)
    value = wanted.pop(ck.CKA_VALUE)
    template = found.pop(ck.CKA_WRAP_TEMPLATE)
    assert sorted(template) == sorted(wanted.pop(ck.CKA_WRAP_TEMPLATE))  # type: ignore[arg-type]
    assert found == wanted
    assert other.read(oid)[ck.CKA_VALUE] == value
    other.close()


def test_identities_are_never_used_again(token: Token) -> None:
    seen = set()
    for _ in range(5):
        oid = token.create(data("x"))
        assert oid not in seen
        seen.add(oid)
        step(token.store.delete(oid))
    token.close()
    again = token.another().login()
    assert again.create(data("x")) not in seen
    step(again.store.initialize(bytearray(SO_PIN), "anew"))
    again.set_user_pin(PIN)
    again.login()
    assert again.create(data("x")) > max(seen)
    again.close()


def test_search_by_what_is_indexed_and_what_is_not(token: Token) -> None:
    oids = [token.create(secret_key(f"k{i % 3}")) for i in range(9)]
    public = token.create(data("k1", private=False, CKA_APPLICATION=b"app"))
    assert token.find((ck.CKA_LABEL, b"k1")) == [*oids[1::3], public]
    assert token.find((ck.CKA_LABEL, b"k1"), (ck.CKA_CLASS, ulong(ck.CKO_DATA))) == [public]
    assert token.find((ck.CKA_SENSITIVE, b"\1")) == oids
    assert token.find((ck.CKA_APPLICATION, b"app"), (ck.CKA_LABEL, b"k2")) == []
    assert token.find() == [*oids, public]
    assert token.find((ck.CKA_LABEL, b"")) == []
    assert token.find((ck.CKA_LABEL, b"k"), (ck.CKA_ID, b"k0-id")) == []


def test_pages_ascend_and_meet_no_object_twice(token: Token) -> None:
    oids = [token.create(data(f"o{i}", private=bool(i % 2))) for i in range(25)]
    found: list[int] = []
    while page := token.find(after=found[-1] if found else 0, limit=4):
        assert len(page) <= 4
        found += page
    assert found == oids


def test_private_objects_are_not_found_without_the_user(token: Token) -> None:
    private, public = token.create(data("same")), token.create(data("same", private=False))
    step(token.store.logout())
    for user, pin in ((None, b""), (ck.CKU_SO, SO_PIN)):
        if user is not None:
            token.login(pin, user)
        assert token.find((ck.CKA_LABEL, b"same")) == [public]
        assert token.find((ck.CKA_PRIVATE, b"\1")) == []
        assert token.read(public)[ck.CKA_VALUE] == b"v" * 48
        with pytest.raises(UserNotLoggedIn):
            token.read(private)
        with pytest.raises(UserNotLoggedIn):
            token.create(data("another"))


def test_a_secret_is_not_found_by_guessing(token: Token) -> None:
    token.create(secret_key("hidden"))
    shown = token.create(secret_key("shown", sensitive=False))
    assert token.find((ck.CKA_VALUE, b"k" * 32)) == [shown]
    assert token.find((ck.CKA_VALUE, b"x" * 32)) == []


def test_replaced_attributes_are_found_and_the_old_ones_are_not(token: Token) -> None:
    oid = token.create(secret_key("old"))
    generation = token.store.generation()
    step(token.store.replace(oid, secret_key("new", b"n" * 32)))
    assert token.store.generation() != generation
    assert token.find((ck.CKA_LABEL, b"old")) == []
    assert token.find((ck.CKA_LABEL, b"new")) == [oid]
    assert token.read(oid)[ck.CKA_VALUE] == b"n" * 32


def test_exchange_refuses_what_another_has_changed(token: Token) -> None:
    oid = token.create(data("a"))
    seen = token.read(oid)
    other = token.another().login()
    step(other.store.replace(oid, data("b")))
    other.close()
    assert step(token.store.exchange(oid, seen, data("c"))) is False
    assert token.read(oid)[ck.CKA_LABEL] == b"b"
    assert step(token.store.exchange(oid, token.read(oid), data("c"))) is True


def test_deleted_objects_are_gone(token: Token) -> None:
    oid = token.create(data("gone"))
    step(token.store.delete(oid))
    assert token.find() == []
    for call in (token.store.read(oid), token.store.delete(oid), token.store.replace(oid, data("x"))):
        with pytest.raises(ObjectHandleInvalid):
            step(call)


def test_nothing_private_lies_open_in_the_files(token: Token) -> None:
    value = bytes(range(100, 132))
    token.create(secret_key("label-of-the-key", value))
    token.create(secret_key("public-with-secret", value, private=False))
    token.close()
    everything = b"".join(file.read_bytes() for file in token.folder.iterdir())
    assert value not in everything
    assert b"label-of-the-key" not in everything
    assert b"public-with-secret" in everything  # readable, as it needs no login
    assert PIN not in everything
    assert SO_PIN not in everything


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x01",
        b"\x02\x00\x00",
        b"\x01\x00\x00\x00",
        b"\x01\x01\x00" + bytes(8) + b"\x02" + bytes(4),
        b"\x01\x01\x00" + bytes(8) + b"\x00" + b"\xff\xff\xff\x7f",
        b"\x01\x02\x00" + (bytes(8) + b"\x00" + bytes(4)) * 2,
    ],
)
def test_only_the_canonical_encoding_is_read(bad: bytes) -> None:
    with pytest.raises(DeviceError):
        decode(bad)


def test_a_cut_or_grown_encoding_is_refused() -> None:
    whole = bytes(encode(data("x") | {ck.CKA_WRAP_TEMPLATE: ((ck.CKA_DERIVE_TEMPLATE, ((1, b"y"),)),)}))
    assert encode(decode(whole)) == whole
    for cut in range(len(whole)):
        with pytest.raises(DeviceError):
            decode(whole[:cut])
    with pytest.raises(DeviceError):
        decode(whole + b"\0")


def test_a_pair_is_one_commit(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = step(token.store.create_pair(data("public", private=False), data("private")))
    assert (token.read(first)[ck.CKA_LABEL], token.read(second)[ck.CKA_LABEL]) == (b"public", b"private")
    before = token.store.generation()
    step(token.store.create_pair(data("public", private=False), data("private")))
    assert token.store.generation() == before + 1

    original = Chain.add
    calls = []

    def fails_the_second_time(self: Chain, keys: set[bytes]) -> None:
        calls.append(keys)
        if len(calls) == 2:
            raise DeviceError("in between")
        original(self, keys)

    monkeypatch.setattr(Chain, "add", fails_the_second_time)
    with pytest.raises(DeviceError):
        step(token.store.create_pair(data("half a", private=False), data("pair")))
    monkeypatch.undo()
    assert token.labels() == ["public", "private"] * 2
    before = token.store.generation()
    three = step(token.store.create_together((data("one"), data("two", private=False), data("three"))))
    assert token.store.generation() == before + 1 and list(three) == sorted(three)
    assert token.labels() == [*["public", "private"] * 2, "one", "two", "three"]
    step(token.store.logout())
    with pytest.raises(UserNotLoggedIn):
        step(token.store.create_together((data("open", private=False), data("closed"))))
    assert token.labels() == ["public", "public", "two"]
