"""What C_GetAttributeValue showed is kept for the next reader, and not one call longer than it is true."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from typing import Any

import pytest
import test_attributes
from bench import Bench
from cryptoki import Attribute, Cryptoki, template
from test_remembered import Counted, elsewhere

from ferrohsm import constants as ck

__all__ = ["elsewhere"]

PUBLIC = ((ck.CKA_PRIVATE, False), (ck.CKA_LABEL, b"shared"))


class Warm(Cryptoki):
    """Every attribute is asked for twice: the second time it comes from the snapshot, if it may be in one."""

    def rv(self, function: str, *arguments: Any) -> str:
        asked = arguments[2] if function == "C_GetAttributeValue" and len(arguments) > 3 else None
        if isinstance(asked, ctypes.Array):
            types = [Attribute(one.type, None, 0) for one in asked]
            super().rv(function, *arguments[:2], (Attribute * len(types))(*types), len(types))
        return super().rv(function, *arguments)


@pytest.fixture
def p11(request: pytest.FixtureRequest, bench: Bench, module_path: Path) -> Cryptoki:
    name = request.function.__name__
    return Warm(str(module_path)) if hasattr(test_attributes, name) else bench.p11


globals().update({name: test for name, test in vars(test_attributes).items() if name.startswith("test_")})


def label(p11: Cryptoki, session: int, handle: int) -> bytes:
    return p11.get(session, handle, ck.CKA_LABEL)


def warm(p11: Cryptoki, session: int, handle: int) -> None:
    """Read the label twice, and see that the second time it needed no Python."""
    first = label(p11, session, handle)
    with Counted() as counted:
        assert label(p11, session, handle) == first
    assert counted.calls == 2


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_the_second_reader_needs_no_python(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    key = p11.aes(session, (ck.CKA_TOKEN, on_token), (ck.CKA_LABEL, b"name"))
    types = (ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_LABEL, ck.CKA_VALUE, ck.CKA_MODULUS)

    def read(user: int) -> tuple[str, list[tuple[int, bytes]]]:
        places = template(*((type_, bytes(16)) for type_ in types))
        answer = p11.rv("C_GetAttributeValue", user, key, places, len(places))
        return answer, [
            (one.ulValueLen, bytes(memory)) for one, memory in zip(places, places.kept, strict=True)
        ]

    first, other = read(session), p11.open(bench.slot)
    assert first[0] == "CKR_ATTRIBUTE_SENSITIVE"
    with Counted() as counted:
        assert read(other) == first
    assert counted.calls == 1
    assert label(p11, other, key) == b"name"


def test_a_secret_is_never_kept(p11: Cryptoki, session: int) -> None:
    key = p11.generic_secret(
        session, b"not for the table", (ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)
    )
    for _ in range(3):
        with Counted() as counted:
            assert p11.get(session, key, ck.CKA_VALUE) == b"not for the table"
        assert counted.calls == 0


def test_what_is_large_is_not_kept(p11: Cryptoki, session: int) -> None:
    handle = p11.data_object(session, (ck.CKA_LABEL, b"large"), (ck.CKA_APPLICATION, b"x" * 2000))
    warm(p11, session, handle)
    for _ in range(2):
        with Counted() as counted:
            assert p11.get(session, handle, ck.CKA_APPLICATION) == b"x" * 2000
        assert counted.calls == 0
    warm(p11, session, handle)


def test_a_buffer_too_small(p11: Cryptoki, session: int) -> None:
    handle = p11.data_object(session, (ck.CKA_LABEL, b"a label"))
    warm(p11, session, handle)
    p11.get(session, handle, ck.CKA_CLASS)
    places = template((ck.CKA_LABEL, bytes(3)), (ck.CKA_CLASS, bytes(8)))
    with Counted() as counted:
        answer = p11.rv("C_GetAttributeValue", session, handle, places, 2)
    assert (answer, counted.calls) == ("CKR_BUFFER_TOO_SMALL", 1)
    assert places[0].ulValueLen == c_ulong(-1).value
    assert places[1].ulValueLen == 8


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_after_a_change(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    handle, other = p11.data_object(session, (ck.CKA_TOKEN, on_token), *PUBLIC), p11.open(bench.slot)
    warm(p11, other, handle)
    p11("C_SetAttributeValue", session, handle, template((ck.CKA_LABEL, b"another")), 1)
    assert label(p11, other, handle) == b"another"
    warm(p11, other, handle)


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_after_the_end_of_the_object(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    handle, other = p11.data_object(session, (ck.CKA_TOKEN, on_token), *PUBLIC), p11.open(bench.slot)
    warm(p11, other, handle)
    p11("C_DestroyObject", session, handle)
    place = template((ck.CKA_LABEL, bytes(16)))
    assert p11.rv("C_GetAttributeValue", other, handle, place, 1) == "CKR_OBJECT_HANDLE_INVALID"


def test_after_the_end_of_its_session(bench: Bench, p11: Cryptoki, session: int) -> None:
    owner = p11.open(bench.slot)
    handle = p11.data_object(owner, *PUBLIC)
    warm(p11, session, handle)
    p11("C_CloseSession", owner)
    place = template((ck.CKA_LABEL, bytes(16)))
    assert p11.rv("C_GetAttributeValue", session, handle, place, 1) == "CKR_OBJECT_HANDLE_INVALID"


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_after_a_logout(p11: Cryptoki, session: int, on_token: bool) -> None:
    private = p11.data_object(
        session, (ck.CKA_TOKEN, on_token), (ck.CKA_PRIVATE, True), (ck.CKA_LABEL, b"mine")
    )
    public = p11.data_object(session, (ck.CKA_TOKEN, on_token), *PUBLIC)
    warm(p11, session, private)
    warm(p11, session, public)
    p11("C_Logout", session)
    place = template((ck.CKA_LABEL, bytes(16)))
    assert p11.rv("C_GetAttributeValue", session, private, place, 1) == "CKR_OBJECT_HANDLE_INVALID"
    warm(p11, session, public)


def test_after_the_end_of_the_library(bench: Bench, p11: Cryptoki, session: int) -> None:
    handle = p11.data_object(session, (ck.CKA_TOKEN, True), *PUBLIC)
    warm(p11, session, handle)
    p11("C_Finalize", None)
    p11("C_Initialize", None)
    place = template((ck.CKA_LABEL, bytes(16)))
    assert p11.rv("C_GetAttributeValue", bench.user(), handle, place, 1) == "CKR_OBJECT_HANDLE_INVALID"


def test_after_another_process_has_changed_it(
    p11: Cryptoki, session: int, elsewhere: Callable[[str], None]
) -> None:
    handle = p11.data_object(session, (ck.CKA_TOKEN, True), *PUBLIC)
    warm(p11, session, handle)
    elsewhere('p11("C_SetAttributeValue", session, found[0], template((ck.CKA_LABEL, b"theirs")), 1)')
    assert label(p11, session, handle) == b"theirs"
    p11("C_SetAttributeValue", session, handle, template((ck.CKA_LABEL, b"shared")), 1)
    elsewhere('p11("C_DestroyObject", session, found[0])')
    place = template((ck.CKA_LABEL, bytes(16)))
    assert p11.rv("C_GetAttributeValue", session, handle, place, 1) == "CKR_OBJECT_HANDLE_INVALID"


def test_the_clock_goes_on(p11: Cryptoki, session: int) -> None:
    (clock,) = p11.find(session, (ck.CKA_CLASS, ck.CKO_HW_FEATURE), (ck.CKA_HW_FEATURE_TYPE, ck.CKH_CLOCK))
    first = p11.get(session, clock, ck.CKA_VALUE)
    time.sleep(1.1)
    assert p11.get(session, clock, ck.CKA_VALUE) != first


def test_more_objects_than_are_kept(p11: Cryptoki, session: int) -> None:
    handles = [p11.data_object(session, (ck.CKA_LABEL, b"%d" % number)) for number in range(6000)]
    for _ in range(2):
        for number in range(6000):
            memory = (c_ubyte * 8)()
            place = (Attribute * 1)(Attribute(ck.CKA_LABEL, ctypes.addressof(memory), 8))
            p11("C_GetAttributeValue", session, handles[number], place, 1)
            assert bytes(memory[: place[0].ulValueLen]) == b"%d" % number
