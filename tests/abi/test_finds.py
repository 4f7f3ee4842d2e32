"""What a search found is kept for the next one, and not one call longer than it is true."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from ctypes import c_ulong
from typing import Any

import pytest
from bench import Bench, initialize_token
from cryptoki import Cryptoki, template
from test_remembered import Counted, elsewhere

from ferrohsm import constants as ck
from ferrohsm.core import Core
from ferrohsm.searching import Cursor

__all__ = ["elsewhere"]

NAME = (ck.CKA_LABEL, b"shared")
PUBLIC = (ck.CKA_PRIVATE, False)
PRIVATE = (ck.CKA_PRIVATE, True)
ON_TOKEN = (ck.CKA_TOKEN, True)
PLACES = pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])


def find(p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> set[int]:
    return set(p11.find(session, *(pairs or (NAME,))))


def warm(p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> set[int]:
    """Search until the search is known, and see that it is."""
    first = find(p11, session, *pairs)
    with Counted() as counted:
        assert find(p11, session, *pairs) == first
    assert counted.calls == 3
    return first


@PLACES
def test_the_second_search_needs_no_python(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    handle = p11.data_object(session, (ck.CKA_TOKEN, on_token), NAME)
    assert warm(p11, session) == {handle}
    assert warm(p11, session, (ck.CKA_CLASS, ck.CKO_DATA), NAME) == {handle}
    assert warm(p11, session, (ck.CKA_LABEL, b"nobody")) == set()
    with Counted() as counted:
        assert find(p11, p11.open(bench.slot)) == {handle}
    assert counted.calls == 3


def test_it_is_handed_out_piece_by_piece(p11: Cryptoki, session: int) -> None:
    made = {p11.data_object(session, NAME) for _ in range(5)}
    warm(p11, session)
    p11("C_FindObjectsInit", session, template(NAME), 1)
    assert p11.rv("C_FindObjectsInit", session, template(NAME), 1) == "CKR_OPERATION_ACTIVE"
    array, count, found = (c_ulong * 2)(), c_ulong(0), []
    for wanted in (2, 2, 1, 0, 0):
        p11("C_FindObjects", session, array, 2, count)
        assert count.value == wanted
        found += list(array[:wanted])
    assert len(found) == 5
    assert set(found) == made
    assert p11.rv("C_FindObjects", session, None, 2, count) == "CKR_ARGUMENTS_BAD"
    p11("C_FindObjectsFinal", session)
    assert p11.rv("C_FindObjectsFinal", session) == "CKR_OPERATION_NOT_INITIALIZED"
    assert p11.rv("C_FindObjects", session, array, 2, count) == "CKR_OPERATION_NOT_INITIALIZED"


def test_many_objects_are_found_but_not_kept(p11: Cryptoki, session: int) -> None:
    made = {p11.data_object(session, NAME) for _ in range(33)}
    for _ in range(2):
        with Counted() as counted:
            assert find(p11, session) == made
        assert counted.calls == 0


@PLACES
def test_after_one_more_was_made(p11: Cryptoki, session: int, on_token: bool) -> None:
    where = (ck.CKA_TOKEN, on_token)
    first = p11.data_object(session, where, NAME)
    assert warm(p11, session) == {first}
    second = p11.data_object(session, where, NAME)
    assert warm(p11, session) == {first, second}
    third = p11.made("C_CopyObject", session, first, template(where), 1)
    assert warm(p11, session) == {first, second, third}
    fourth = p11.aes(session, where, NAME)
    assert warm(p11, session) == {first, second, third, fourth}
    pair = p11.key_pair(
        session,
        ck.CKM_EC_KEY_PAIR_GEN,
        [(ck.CKA_EC_PARAMS, bytes.fromhex("06082a8648ce3d030107")), where, NAME],
        [where, NAME],
    )
    assert warm(p11, session) == {first, second, third, fourth, *pair}


@PLACES
def test_after_the_end_of_one(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    first, second = (p11.data_object(session, (ck.CKA_TOKEN, on_token), NAME) for _ in range(2))
    other = p11.open(bench.slot)
    warm(p11, other)
    p11("C_DestroyObject", session, first)
    assert warm(p11, other) == {second}


@PLACES
def test_after_a_change(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    handle, other = p11.data_object(session, (ck.CKA_TOKEN, on_token), NAME), p11.open(bench.slot)
    another = (ck.CKA_LABEL, b"another")
    warm(p11, other)
    assert warm(p11, other, another) == set()
    p11("C_SetAttributeValue", session, handle, template(another), 1)
    assert find(p11, other) == set()
    assert find(p11, other, another) == {handle}


def test_after_the_end_of_its_session(bench: Bench, p11: Cryptoki, session: int) -> None:
    owner = p11.open(bench.slot)
    handle = p11.data_object(owner, NAME)
    assert warm(p11, session) == {handle}
    p11("C_CloseSession", owner)
    assert find(p11, session) == set()


@PLACES
def test_after_a_logout_and_a_login(p11: Cryptoki, session: int, on_token: bool) -> None:
    where = (ck.CKA_TOKEN, on_token)
    private = p11.data_object(session, where, PRIVATE, NAME)
    public = p11.data_object(session, where, PUBLIC, NAME)
    assert warm(p11, session) == {private, public}
    p11("C_Logout", session)
    assert warm(p11, session) == {public}
    p11.login(session)
    found = find(p11, session)
    assert public in found
    assert private not in found  # its handle died with the login
    assert len(found) == 1 + on_token


def test_after_the_login_ended_with_its_last_session(bench: Bench, p11: Cryptoki, session: int) -> None:
    p11.data_object(session, ON_TOKEN, PRIVATE, NAME)
    warm(p11, session)
    p11("C_CloseSession", session)
    assert find(p11, p11.open(bench.slot)) == set()


def test_after_the_token_was_made_anew(bench: Bench, p11: Cryptoki, session: int) -> None:
    p11.data_object(session, ON_TOKEN, PUBLIC, NAME)
    warm(p11, session)
    p11("C_CloseAllSessions", bench.slot)
    initialize_token(p11, bench.slot)
    assert find(p11, bench.user()) == set()


def test_after_the_end_of_the_library(bench: Bench, p11: Cryptoki, session: int) -> None:
    stays = p11.data_object(session, ON_TOKEN, PUBLIC, NAME)
    p11.data_object(session, PUBLIC, NAME)
    warm(p11, session)
    p11("C_Finalize", None)
    p11("C_Initialize", None)
    found = find(p11, bench.user())
    assert len(found) == 1
    assert stays not in found  # no handle is ever used again


def test_after_another_process_has_changed_it(
    p11: Cryptoki, session: int, elsewhere: Callable[[str], None]
) -> None:
    handle = p11.data_object(session, ON_TOKEN, NAME)
    assert warm(p11, session) == {handle}
    elsewhere('p11.data_object(session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"shared"))')
    assert len(warm(p11, session)) == 2
    (theirs,) = find(p11, session) - {handle}
    p11("C_DestroyObject", session, handle)
    warm(p11, session)
    elsewhere('p11("C_SetAttributeValue", session, found[0], template((ck.CKA_LABEL, b"theirs")), 1)')
    assert find(p11, session) == set()
    assert warm(p11, session, (ck.CKA_LABEL, b"theirs")) == {theirs}
    p11("C_SetAttributeValue", session, theirs, template(NAME), 1)
    warm(p11, session)
    elsewhere('p11("C_DestroyObject", session, found[0])')
    assert find(p11, session) == set()


def test_after_another_process_has_made_the_token_anew(
    p11: Cryptoki, session: int, elsewhere: Callable[[str], None]
) -> None:
    p11.data_object(session, ON_TOKEN, PUBLIC, NAME)
    p11.data_object(session, ON_TOKEN, PRIVATE, (ck.CKA_LABEL, b"private"))
    warm(p11, session)
    warm(p11, session, (ck.CKA_LABEL, b"private"))
    elsewhere(
        'slot = p11.slots()[0]; p11("C_CloseAllSessions", slot)\n'
        "from bench import initialize_token; initialize_token(p11, slot)"
    )
    assert find(p11, session) == set()
    assert find(p11, session, (ck.CKA_LABEL, b"private")) == set()


def test_while_another_process_is_writing(bench: Bench, p11: Cryptoki, session: int) -> None:
    """A writer that was killed has begun a commit and not ended it: nothing that is known is trusted."""
    handle = p11.data_object(session, ON_TOKEN, NAME)
    warm(p11, session)
    (file,) = bench.log.parent.glob("data/tokens/*/generation")
    before = file.read_bytes()
    begun = int.from_bytes(before[8:16], sys.byteorder) + 1
    with open(file, "r+b") as words:
        words.seek(8)
        words.write(begun.to_bytes(8, sys.byteorder))
    for _ in range(2):
        with Counted() as counted:
            assert find(p11, session) == {handle}
        assert counted.calls == 2  # only its beginning needed Python
    with open(file, "r+b") as words:
        words.write(before)
    warm(p11, session)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_the_child_of_a_fork(bench: Bench, p11: Cryptoki, session: int) -> None:
    p11.data_object(session, PUBLIC, NAME)
    handle = p11.data_object(session, ON_TOKEN, PRIVATE, NAME)
    both = warm(p11, session)
    child = os.fork()
    if child == 0:
        said = [p11.rv("C_FindObjectsInit", session, template(NAME), 1)]
        p11("C_Initialize", None)
        other = p11.open(bench.slot)
        said += [str(len(find(p11, other)))]
        p11.login(other)
        said += [str(len(find(p11, other))), str(handle in find(p11, other))]
        p11("C_Finalize", None)
        os._exit(0 if said == ["CKR_CRYPTOKI_NOT_INITIALIZED", "0", "1", "False"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert warm(p11, session) == both


# A search that has begun.


def begun(p11: Cryptoki, session: int) -> Callable[[], set[int]]:
    """Begin a known search; return what takes the rest of it."""
    warm(p11, session)
    p11("C_FindObjectsInit", session, template(NAME), 1)

    def rest() -> set[int]:
        array, count = (c_ulong * 100)(), c_ulong(0)
        p11("C_FindObjects", session, array, 100, count)
        p11("C_FindObjectsFinal", session)
        return set(array[: count.value])

    return rest


@PLACES
def test_what_was_destroyed_meanwhile_is_not_handed_out(p11: Cryptoki, session: int, on_token: bool) -> None:
    first, second = (p11.data_object(session, (ck.CKA_TOKEN, on_token), NAME) for _ in range(2))
    rest = begun(p11, session)
    p11("C_DestroyObject", session, first)
    assert rest() == {second}


@PLACES
def test_what_a_logout_has_hidden_meanwhile_is_not_handed_out(
    p11: Cryptoki, session: int, on_token: bool
) -> None:
    p11.data_object(session, (ck.CKA_TOKEN, on_token), PRIVATE, NAME)
    public = p11.data_object(session, (ck.CKA_TOKEN, on_token), PUBLIC, NAME)
    rest = begun(p11, session)
    p11("C_Logout", session)
    assert rest() == {public}


def test_it_can_be_cancelled(p11: Cryptoki, session: int) -> None:
    p11.data_object(session, NAME)
    begun(p11, session)
    p11("C_SessionCancel", session, ck.CKF_FIND_OBJECTS)
    assert p11.rv("C_FindObjectsFinal", session) == "CKR_OPERATION_NOT_INITIALIZED"


def test_it_ends_with_its_session(bench: Bench, p11: Cryptoki, session: int) -> None:
    p11.data_object(session, NAME)
    other = p11.open(bench.slot)
    begun(p11, other)
    p11("C_CloseSession", other)


# What is not kept.


def test_a_search_for_a_secret_is_not_kept(p11: Cryptoki, session: int) -> None:
    open_ = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
    handle = p11.generic_secret(session, b"not for the table", *open_)
    wanted = (ck.CKA_VALUE, b"not for the table")
    for _ in range(2):
        with Counted() as counted:
            assert find(p11, session, wanted) == {handle}
        assert counted.calls == 0


def test_a_large_template_is_not_kept(p11: Cryptoki, session: int) -> None:
    handle = p11.data_object(session, (ck.CKA_LABEL, b"x" * 500))
    for _ in range(2):
        with Counted() as counted:
            assert find(p11, session, (ck.CKA_LABEL, b"x" * 500)) == {handle}
        assert counted.calls == 0


def test_bad_templates_are_refused_at_any_time(p11: Cryptoki, session: int) -> None:
    warm(p11, session)
    assert p11.rv("C_FindObjectsInit", session, None, 1) == "CKR_ARGUMENTS_BAD"
    odd = template(NAME)
    odd[0].pValue = None
    assert p11.rv("C_FindObjectsInit", session, odd, 1) == "CKR_ATTRIBUTE_VALUE_INVALID"
    warm(p11, session)


def test_more_searches_than_are_kept(p11: Cryptoki, session: int) -> None:
    handles = [p11.data_object(session, (ck.CKA_LABEL, b"%d" % number)) for number in range(50)]
    for number in range(10_000):
        found = p11.find(session, (ck.CKA_LABEL, b"%d" % number))
        assert found == handles[number : number + 1]


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
def test_what_goes_while_it_is_found_is_not_found(
    p11: Cryptoki, session: int, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    made = {p11.data_object(session, ON_TOKEN, PUBLIC, NAME) for _ in range(40 if many else 2)}
    (going, *_) = p11.find(session, NAME)
    p11("C_Logout", session)  # from here on the core is asked whether their handles are good
    p11.login(session)
    of_few, of_many, asking = Core.find_few, Cursor.take, []

    async def few(core: Core, asked: Any, *more: Any) -> Any:
        asking.append((core, asked))
        found = await of_few(core, asked, *more)
        if not many:
            await core.destroy_object(asked, found[0])
        return found

    async def take(cursor: Cursor, count: int) -> list[int]:
        found = await of_many(cursor, count)
        if len(found) == 40:
            await asking[-1][0].destroy_object(asking[-1][1], found[0])
        return found

    monkeypatch.setattr(Core, "find_few", few)
    monkeypatch.setattr(Cursor, "take", take)
    assert find(p11, session) == made - {going}
