"""A name that nobody asked for before is found without Python, and what is found is true at that moment."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from bench import Bench
from cryptoki import Cryptoki, template
from test_remembered import Counted, elsewhere

from ferrohsm import constants as ck

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SQLite cannot be reached there")

__all__ = ["elsewhere"]

ON_TOKEN = (ck.CKA_TOKEN, True)
PUBLIC = (ck.CKA_PRIVATE, False)
PRIVATE = (ck.CKA_PRIVATE, True)
DATA = (ck.CKA_CLASS, ck.CKO_DATA)


def named(label: bytes) -> tuple[int, bytes]:
    return ck.CKA_LABEL, label


def find(p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> set[int]:
    return set(p11.find(session, *pairs))


QUICK: list[bool] = []


@pytest.fixture(autouse=True)
def most_took_no_python() -> Iterator[None]:
    """Once a second the core looks at the store's files: so not all searches can be quick."""
    QUICK.clear()
    yield
    assert len(QUICK) < 2 or sum(QUICK) * 2 >= len(QUICK)


def quickly(p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> set[int]:
    """Search, and note whether it took Python."""
    find(p11, session, named(b"it may be time to look"))
    with Counted() as counted:
        found = find(p11, session, *pairs)
    QUICK.append(counted.calls == 3)
    return found


def warm(p11: Cryptoki, session: int) -> None:
    """Search until the store's file is open for those who search without Python."""
    for number in range(4):
        assert find(p11, session, named(b"warm %d" % number)) == set()


def test_what_is_found(p11: Cryptoki, session: int) -> None:
    public = p11.data_object(session, ON_TOKEN, PUBLIC, named(b"public"))
    private = p11.data_object(session, ON_TOKEN, PRIVATE, named(b"private"))
    both = {p11.data_object(session, ON_TOKEN, where, named(b"both")) for where in (PUBLIC, PRIVATE)}
    many = {p11.data_object(session, ON_TOKEN, named(b"many")) for _ in range(10)}
    key = p11.generic_secret(session, bytes(32), ON_TOKEN, PRIVATE, named(b"key"), (ck.CKA_ID, b"\7\7"))
    warm(p11, session)
    assert quickly(p11, session, named(b"public")) == {public}
    assert quickly(p11, session, named(b"private")) == {private}
    assert quickly(p11, session, named(b"both")) == both
    assert quickly(p11, session, named(b"nobody")) == set()
    assert quickly(p11, session, (ck.CKA_ID, b"\7\7")) == {key}
    assert quickly(p11, session, (ck.CKA_ID, b"\7")) == set()
    assert quickly(p11, session, DATA, named(b"public")) == {public}
    assert quickly(p11, session, DATA, named(b"key")) == set()
    assert quickly(p11, session, (ck.CKA_ID, b"\7\7"), named(b"key")) == {key}
    assert quickly(p11, session, (ck.CKA_ID, b"\7\7"), named(b"public")) == set()
    parts = [quickly(p11, session, where, named(b"both")) for where in (PUBLIC, PRIVATE)]
    assert [len(part) for part in parts] == [1, 1]
    assert parts[0] | parts[1] == both
    any_true_value = (ck.CKA_PRIVATE, b"\7")
    assert quickly(p11, session, ON_TOKEN, any_true_value, named(b"private")) == {private}
    # What is not the usual case is the core's to answer.
    assert find(p11, session, named(b"many")) == many
    assert find(p11, session, (ck.CKA_TOKEN, False), named(b"public")) == set()
    assert find(p11, session, named(b"public"), named(b"private")) == set()
    assert find(p11, session, named(b"public"), (ck.CKA_MODIFIABLE, True)) == {public}
    assert find(p11, session, named(b"public"), (ck.CKA_ID, b"")) == set()


def test_objects_of_this_process_come_and_go(bench: Bench, p11: Cryptoki, session: int) -> None:
    stays = p11.data_object(session, ON_TOKEN, named(b"stays"))
    warm(p11, session)
    made = p11.data_object(session, ON_TOKEN, named(b"made"))
    assert quickly(p11, session, named(b"made")) == {made}
    p11("C_SetAttributeValue", session, made, template(named(b"called")), 1)
    assert quickly(p11, session, named(b"made")) == set()
    assert quickly(p11, session, named(b"called")) == {made}
    p11("C_DestroyObject", session, made)
    assert quickly(p11, session, named(b"called")) == set()
    owner = p11.open(bench.slot)
    here = p11.data_object(owner, named(b"stays"))  # the core knows session objects, the store does not
    assert find(p11, session, named(b"stays")) == {here, stays}
    p11("C_CloseSession", owner)
    assert quickly(p11, session, named(b"stays")) == {stays}


def test_private_objects_are_found_by_the_user_only(bench: Bench, p11: Cryptoki, session: int) -> None:
    hidden = p11.data_object(session, ON_TOKEN, PRIVATE, named(b"name"))
    shown = p11.data_object(session, ON_TOKEN, PUBLIC, named(b"name"))
    p11.data_object(session, ON_TOKEN, PRIVATE, named(b"hidden"))
    warm(p11, session)
    assert quickly(p11, session, named(b"name")) == {hidden, shown}
    p11("C_Logout", session)
    assert find(p11, session, named(b"name")) == {shown}  # the core is asked whether its handle is good
    assert quickly(p11, session, named(b"hidden")) == set()
    assert quickly(p11, session, PRIVATE, named(b"name")) == set()
    p11.login(session)
    assert len(quickly(p11, session, named(b"hidden"))) == 1
    again = find(p11, session, named(b"name"))
    assert shown in again
    assert hidden not in again  # a handle ends with the login that it was given in
    p11("C_CloseSession", session)
    assert find(p11, p11.open(bench.slot), named(b"hidden")) == set()


def test_what_other_processes_do(p11: Cryptoki, session: int, elsewhere: Callable[[str], None]) -> None:
    p11.data_object(session, ON_TOKEN, named(b"shared"))
    warm(p11, session)
    elsewhere('p11("C_SetAttributeValue", session, found[0], template((ck.CKA_LABEL, b"theirs")), 1)')
    assert quickly(p11, session, named(b"shared")) == set()
    assert len(quickly(p11, session, named(b"theirs"))) == 1
    p11.data_object(session, ON_TOKEN, named(b"shared"))
    elsewhere('p11("C_DestroyObject", session, found[0])')
    assert quickly(p11, session, named(b"shared")) == set()
    p11.data_object(session, ON_TOKEN, named(b"shared"))
    elsewhere(
        'slot = p11.slots()[0]; p11("C_CloseAllSessions", slot)\n'
        "from bench import initialize_token; initialize_token(p11, slot)"
    )
    assert find(p11, session, named(b"theirs")) == set()


def tamper(bench: Bench, *statements: str) -> None:
    (file,) = bench.log.parent.glob("data/tokens/*/token.db")
    db = sqlite3.connect(file)
    with db:
        for statement in statements:
            db.execute(statement)
    db.close()


# The entries of the objects, whose links are also the ones that lead to the names.
SPOILT = {
    "link": ["UPDATE entry SET mac = zeroblob(12)"],
    "entry": ["DELETE FROM entry WHERE key > zeroblob(18) AND key < x'ffffffff'"],
    "object": ["UPDATE object SET attributes = zeroblob(length(attributes))"],
    "kind": ["UPDATE object SET private = 1 - private"],
    "missing": ["DELETE FROM object"],
    "type": ["UPDATE entry SET mac = 'text' || hex(mac)"],
    "other": [
        "CREATE TEMP TABLE kept AS SELECT * FROM object",
        "UPDATE object SET attributes = (SELECT attributes FROM kept WHERE kept.oid <> object.oid LIMIT 1)",
    ],
}


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
def test_what_was_touched_is_not_used(bench: Bench, p11: Cryptoki, session: int, private: bool) -> None:
    for number in range(2):
        p11.data_object(session, ON_TOKEN, (ck.CKA_PRIVATE, private), named(b"name %d" % number))
    warm(p11, session)
    (file,) = bench.log.parent.glob("data/tokens/*/token.db")
    with closing(sqlite3.connect(file)) as db:
        whole = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in ("entry", "object")}
    for what, statements in SPOILT.items():
        tamper(bench, *statements)
        assert p11.rv("C_FindObjectsInit", session, template(named(b"name 0")), 1) == "CKR_DEVICE_ERROR", what
        with closing(sqlite3.connect(file)) as db, db:
            for table, rows in whole.items():
                db.execute(f"DELETE FROM {table}")
                db.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)
    assert len(quickly(p11, session, named(b"name 0"))) == 1


def test_another_file_in_its_place(bench: Bench, p11: Cryptoki, session: int) -> None:
    p11.data_object(session, ON_TOKEN, named(b"name"))
    warm(p11, session)
    (token,) = (path.parent for path in bench.log.parent.glob("data/tokens/*/token.db"))
    token.rename(bench.log.parent / "away")
    time.sleep(1.1)  # for a second it may be used as it was
    assert p11.rv("C_FindObjectsInit", session, template(named(b"name")), 1) != "CKR_OK"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_the_child_of_a_fork(bench: Bench, p11: Cryptoki, session: int) -> None:
    p11.data_object(session, ON_TOKEN, PRIVATE, named(b"private"))
    warm(p11, session)
    child = os.fork()
    if child == 0:
        said = [p11.rv("C_FindObjectsInit", session, template(named(b"private")), 1)]
        p11("C_Initialize", None)
        other = p11.open(bench.slot)
        warm(p11, other)
        said += [str(len(find(p11, other, named(b"private"))))]
        p11.login(other)
        warm(p11, other)
        said += [str(len(find(p11, other, named(b"private"))))]
        p11("C_Finalize", None)
        os._exit(0 if said == ["CKR_CRYPTOKI_NOT_INITIALIZED", "0", "1"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    warm(p11, session)
    assert len(quickly(p11, session, named(b"private"))) == 1
