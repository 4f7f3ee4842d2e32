"""Asynchronous sessions: calls that return CKR_PENDING, completed, joined, cancelled, left behind."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_ubyte, c_ulong, c_void_p
from pathlib import Path
from typing import Any

import mechanism_parameters as parameters
import pytest
import slow_adapter
from bench import Bench, initialize_token
from cryptoki import Cryptoki, InitializeArguments, SessionInfo, TokenInfo, mechanism, template
from scenes import EVERY, SCENES, Stage
from test_dispatch import CONFIGURATION, plugin

from ferrohsm import constants as ck

__all__ = ["plugin"]
ASYNC = ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION | ck.CKF_ASYNC_SESSION
PAIR = b"C_GenerateKeyPair"
RSA = mechanism(ck.CKM_RSA_PKCS_KEY_PAIR_GEN)
KEPT: list[Any] = []
NONE = "CKR_OPERATION_NOT_INITIALIZED"


class Data(ctypes.Structure):
    """CK_ASYNC_DATA."""

    _fields_ = [
        ("ulVersion", c_ulong),
        ("pValue", c_void_p),
        ("ulValue", c_ulong),
        ("hObject", c_ulong),
        ("hAdditionalObject", c_ulong),
    ]


def open_async(p11: Cryptoki, slot: int) -> int:
    return p11.made("C_OpenSession", slot, ASYNC, None, None)


def complete(p11: Cryptoki, session: int, name: bytes, seconds: float = 30) -> tuple[str, Data]:
    """Ask until the call is over."""
    end = time.monotonic() + seconds
    while True:
        data = Data(0, 0x1234, 77, 88, 99)
        rv = p11.rv("C_AsyncComplete", session, name, data)
        if rv != "CKR_PENDING":
            return rv, data
        assert (data.pValue, data.ulValue, data.hObject, data.hAdditionalObject) == (0x1234, 77, 88, 99)
        assert time.monotonic() < end
        time.sleep(0.005)


def user(bench: Bench) -> int:
    """Return an asynchronous session in which the user is logged in."""
    session = open_async(bench.p11, bench.slot)
    bench.p11.login(session)
    return session


def generate(p11: Cryptoki, session: int, *pairs: tuple[int, Any], bits: int = 1024) -> tuple[str, int, int]:
    """Begin to generate an RSA key pair; the handles are what stood in their places afterwards."""
    public = template((ck.CKA_MODULUS_BITS, bits), *pairs)
    private = template(*pairs)
    first, second = c_ulong(4711), c_ulong(4712)
    arguments = (session, RSA, public, len(public), private, len(private), first, second)
    return p11.rv("C_GenerateKeyPair", *arguments), first.value, second.value


# Inline slots: what takes long goes on on a worker.


def test_a_key_pair(bench: Bench) -> None:
    p11 = bench.p11
    session = user(bench)
    info = SessionInfo()
    p11("C_GetSessionInfo", session, info)
    assert info.flags == ASYNC
    token = TokenInfo()
    p11("C_GetTokenInfo", bench.slot, token)
    assert token.flags & ck.CKF_ASYNC_SESSION_SUPPORTED
    assert generate(p11, session) == ("CKR_PENDING", 4711, 4712)
    assert generate(p11, session)[0] == "CKR_OPERATION_ACTIVE"
    rv, data = complete(p11, session, PAIR)
    assert (rv, data.ulValue) == ("CKR_OK", 0)
    classes = [p11.get(session, handle, ck.CKA_CLASS)[0] for handle in (data.hObject, data.hAdditionalObject)]
    assert classes == [ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY]
    how = mechanism(ck.CKM_SHA256_RSA_PKCS)
    signature = p11.transform("Sign", session, how, data.hAdditionalObject, b"data")
    p11("C_VerifyInit", session, how, data.hObject)
    p11("C_Verify", session, b"data", 4, signature, len(signature))
    assert complete(p11, session, PAIR)[0] == NONE  # once
    # What is over at once is done at once, and other sessions wait as ever.
    assert p11.ec(session)
    assert generate(p11, p11.open(bench.slot))[0] == "CKR_OK"


@pytest.mark.parametrize("end", ["completed", "cancelled", "closed"])
def test_a_pair_that_was_found_before_it_was_completed_ends_like_any_other(bench: Bench, end: str) -> None:
    p11 = bench.p11
    session = user(bench)
    other = p11.open(bench.slot)
    wanted = ((ck.CKA_LABEL, b"early"), (ck.CKA_CLASS, ck.CKO_PRIVATE_KEY))
    assert generate(p11, session, wanted[0])[0] == "CKR_PENDING"
    until = time.monotonic() + 30
    while not (found := p11.find(other, *wanted)):
        assert time.monotonic() < until
        time.sleep(0.005)
    how = mechanism(ck.CKM_SHA256_RSA_PKCS)
    for _ in range(3):  # so that all is remembered that can be
        assert p11.transform("Sign", other, how, found[0], b"data")
        assert p11.get(other, found[0], ck.CKA_LABEL) == b"early"
    if end == "completed":
        assert complete(p11, session, PAIR)[1].hAdditionalObject == found[0]
    elif end == "cancelled":
        p11("C_SessionCancel", session, ck.CKF_GENERATE_KEY_PAIR)
    if end != "cancelled":
        p11("C_CloseSession", session)
    assert p11.rv("C_SignInit", other, how, found[0]) == "CKR_KEY_HANDLE_INVALID"
    label = template((ck.CKA_LABEL, bytes(5)))
    assert p11.rv("C_GetAttributeValue", other, found[0], label, 1) == "CKR_OBJECT_HANDLE_INVALID"


def test_a_key_of_a_password(bench: Bench) -> None:

    p11 = bench.p11
    session = user(bench)
    values = []
    for asked in (session, p11.open(bench.slot)):
        how = mechanism(
            ck.CKM_PKCS5_PBKD2, parameters.pbkd2(b"password", b"salt", 1000, ck.CKP_PKCS5_PBKD2_HMAC_SHA256)
        )
        pairs = template(
            (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET),
            (ck.CKA_VALUE_LEN, 32),
            (ck.CKA_EXTRACTABLE, True),
            (ck.CKA_SENSITIVE, False),
        )
        place = c_ulong(0)
        rv = p11.rv("C_GenerateKey", asked, how, pairs, len(pairs), place)
        if asked == session:
            assert rv == "CKR_PENDING"
            rv, data = complete(p11, session, b"C_GenerateKey")
            place.value = data.hObject
        assert rv == "CKR_OK"
        values.append(p11.get(session, place.value, ck.CKA_VALUE))
    assert values[0] == values[1]


def test_errors_come_with_the_completion(bench: Bench) -> None:
    p11 = bench.p11
    session = user(bench)
    assert generate(p11, session, bits=512)[0] == "CKR_PENDING"
    assert complete(p11, session, PAIR)[0] == "CKR_KEY_SIZE_RANGE"
    assert complete(p11, session, PAIR)[0] == NONE
    p11("C_Logout", session)
    assert generate(p11, session)[0] == "CKR_PENDING"
    assert complete(p11, session, PAIR)[0] == "CKR_USER_NOT_LOGGED_IN"


def test_names_and_arguments(bench: Bench) -> None:
    p11 = bench.p11
    session = user(bench)
    number = c_ulong(0)
    assert generate(p11, session)[0] == "CKR_PENDING"
    for name in (None, b"", b"C_Nonsense", b"C_Login", b"x" * 100):
        for function, rest in (("C_AsyncComplete", (Data(),)), ("C_AsyncGetID", (number,))):
            assert p11.rv(function, session, name, *rest) == "CKR_ARGUMENTS_BAD"
        assert p11.rv("C_AsyncJoin", session, name, 1, None, 0) == "CKR_ARGUMENTS_BAD"
    for name in (b"C_Sign", b"C_GenerateKey"):  # known, and not pending
        assert p11.rv("C_AsyncComplete", session, name, Data()) == NONE
        assert p11.rv("C_AsyncGetID", session, name, number) == NONE
    assert p11.rv("C_AsyncGetID", session, PAIR, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_AsyncComplete", session, PAIR, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_AsyncComplete", session, PAIR, Data(ulVersion=1)) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_AsyncJoin", session, PAIR, 4711, None, 0) == "CKR_SAVED_STATE_INVALID"
    other = open_async(p11, bench.slot)
    assert p11.rv("C_AsyncComplete", other, PAIR, Data()) == NONE  # another session's
    ordinary = p11.open(bench.slot)
    assert p11.rv("C_AsyncComplete", ordinary, PAIR, Data()) == NONE
    assert p11.rv("C_AsyncComplete", 0, PAIR, Data()) == "CKR_SESSION_HANDLE_INVALID"
    assert p11.rv("C_AsyncGetID", 0, PAIR, number) == "CKR_SESSION_HANDLE_INVALID"
    assert p11.rv("C_AsyncJoin", 0, PAIR, 1, None, 0) == "CKR_SESSION_HANDLE_INVALID"
    assert complete(p11, session, PAIR)[0] == "CKR_OK"


def test_session_objects_do_not_outlive_their_session(bench: Bench) -> None:
    p11 = bench.p11
    session, number = user(bench), c_ulong(0)
    assert generate(p11, session)[0] == "CKR_PENDING"
    assert p11.rv("C_AsyncGetID", session, PAIR, number) == "CKR_STATE_UNSAVEABLE"
    assert complete(p11, session, PAIR)[0] == "CKR_OK"


def test_another_session_joins(bench: Bench) -> None:
    p11 = bench.p11
    first, second = open_async(p11, bench.slot), open_async(p11, bench.slot)
    p11.login(first)
    assert generate(p11, first, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"joined"))[0] == "CKR_PENDING"
    number = p11.made("C_AsyncGetID", first, PAIR)
    assert p11.made("C_AsyncGetID", first, PAIR) == number
    p11("C_CloseSession", first)
    invalid = "CKR_SAVED_STATE_INVALID"
    assert p11.rv("C_AsyncJoin", second, PAIR, number + 1, None, 0) == invalid
    assert p11.rv("C_AsyncJoin", second, b"C_GenerateKey", number, None, 0) == invalid
    assert p11.rv("C_AsyncJoin", p11.open(bench.slot), PAIR, number, None, 0) == invalid  # not asynchronous
    read_only = p11.made("C_OpenSession", bench.slot, ASYNC & ~ck.CKF_RW_SESSION, None, None)
    assert p11.rv("C_AsyncJoin", read_only, PAIR, number, None, 0) == invalid  # another state
    p11("C_AsyncJoin", second, PAIR, number, None, 0)
    rv, data = complete(p11, second, PAIR)
    assert rv == "CKR_OK"
    assert p11.get(second, data.hAdditionalObject, ck.CKA_LABEL) == b"joined"
    assert p11.rv("C_AsyncJoin", second, PAIR, number, None, 0) == invalid  # once


def objects(p11: Cryptoki, session: int) -> list[int]:
    return p11.find(session, (ck.CKA_LABEL, b"cancelled"))


@pytest.mark.parametrize("when", ["running", "done"])
@pytest.mark.parametrize("how", ["cancel", "close", "logout"])
def test_what_is_cancelled_leaves_no_key(bench: Bench, how: str, when: str) -> None:
    p11 = bench.p11
    session, other = open_async(p11, bench.slot), p11.open(bench.slot)
    p11.login(session)
    pairs = ((ck.CKA_TOKEN, True), (ck.CKA_PRIVATE, False), (ck.CKA_LABEL, b"cancelled"))
    assert generate(p11, session, *pairs)[0] == "CKR_PENDING"
    if when == "done":
        end = time.monotonic() + 20
        while len(objects(p11, other)) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(objects(p11, other)) == 2
    if how == "cancel":
        number = p11.made("C_AsyncGetID", session, PAIR)
        p11("C_SessionCancel", session, ck.CKF_SIGN)
        p11("C_SessionCancel", session, ck.CKF_GENERATE_KEY_PAIR)
        assert complete(p11, session, PAIR)[0] == NONE
        assert p11.rv("C_AsyncJoin", session, PAIR, number, None, 0) == "CKR_SAVED_STATE_INVALID"
    elif how == "close":
        p11("C_CloseSession", session)
        assert p11.rv("C_AsyncComplete", session, PAIR, Data()) == "CKR_SESSION_HANDLE_INVALID"
    else:
        p11("C_Logout", session)
        assert complete(p11, session, PAIR)[0] == NONE
        p11.login(session)
    if how != "close":  # the next one is made after the one that was cancelled
        generate(p11, session)
        assert complete(p11, session, PAIR)[0] == "CKR_OK"
    end = time.monotonic() + 20
    while objects(p11, other) and time.monotonic() < end:
        time.sleep(0.01)
    assert objects(p11, other) == []


def test_finalize_waits_for_what_has_an_identity(bench: Bench) -> None:
    p11 = bench.p11
    session = user(bench)
    assert generate(p11, session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"outlives"))[0] == "CKR_PENDING"
    number = p11.made("C_AsyncGetID", session, PAIR)
    p11("C_Finalize", None)
    p11("C_Initialize", None)
    session = open_async(p11, bench.slot)
    assert p11.rv("C_AsyncJoin", session, PAIR, number, None, 0) == "CKR_SAVED_STATE_INVALID"  # no login yet
    p11.login(session)
    p11("C_AsyncJoin", session, PAIR, number, None, 0)
    rv, data = complete(p11, session, PAIR)
    assert rv == "CKR_OK"
    assert p11.get(session, data.hObject, ck.CKA_LABEL) == b"outlives"


def test_finalize_ends_the_rest_and_every_thread(bench: Bench) -> None:
    p11, before = bench.p11, threading.active_count()
    for _ in range(3):
        session = user(bench)
        assert generate(p11, session)[0] == "CKR_PENDING"
        p11("C_Finalize", None)
        assert threading.active_count() == before
        p11("C_Initialize", None)
        session = open_async(p11, bench.slot)
        assert complete(p11, session, PAIR)[0] == NONE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_has_none_of_its_parents_calls(bench: Bench) -> None:
    p11, session = bench.p11, user(bench)
    assert generate(p11, session, (ck.CKA_TOKEN, True))[0] == "CKR_PENDING"
    number = p11.made("C_AsyncGetID", session, PAIR)
    child = os.fork()
    if child == 0:
        answers = [p11.rv("C_AsyncComplete", session, PAIR, Data())]
        p11("C_Initialize", None)
        mine = user(bench)
        answers.append(p11.rv("C_AsyncJoin", mine, PAIR, number, None, 0))
        answers.append(p11.rv("C_AsyncComplete", mine, PAIR, Data()))
        answers.append(generate(p11, mine)[0])
        answers.append(complete(p11, mine, PAIR)[0])
        p11("C_Finalize", None)
        wanted = ["CKR_CRYPTOKI_NOT_INITIALIZED", "CKR_SAVED_STATE_INVALID", NONE, "CKR_PENDING", "CKR_OK"]
        os._exit(0 if answers == wanted else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert complete(p11, session, PAIR)[0] == "CKR_OK"


def test_many_sessions_at_once(bench: Bench) -> None:
    p11 = bench.p11
    sessions = [open_async(p11, bench.slot) for _ in range(6)]
    p11.login(sessions[0])
    for session in sessions:
        assert generate(p11, session, bits=1024)[0] == "CKR_PENDING"
    made = [complete(p11, session, PAIR) for session in sessions]
    assert [rv for rv, _ in made] == ["CKR_OK"] * 6
    handles = {data.hObject for _, data in made} | {data.hAdditionalObject for _, data in made}
    assert len(handles) == 12


def test_a_host_without_threads(library: Cryptoki, bench: Bench) -> None:
    library("C_Finalize", None)
    forbids = InitializeArguments(flags=ck.CKF_LIBRARY_CANT_CREATE_OS_THREADS)
    library("C_Initialize", forbids)
    answer = library.rv("C_OpenSession", bench.slot, ASYNC, None, None, c_ulong(0))
    assert answer == "CKR_SESSION_ASYNC_NOT_SUPPORTED"
    token = TokenInfo()
    library("C_GetTokenInfo", bench.slot, token)
    assert not token.flags & ck.CKF_ASYNC_SESSION_SUPPORTED
    assert library.rv("C_OpenSession", 4711, ASYNC, None, None, c_ulong(0)) == "CKR_SLOT_ID_INVALID"


# Dispatched slots: the adapter's work goes on where its calls run.


@pytest.fixture
def slow(
    plugin: None, library: Cryptoki, configure: Callable[[str], None], tmp_path: Path
) -> Iterator[tuple[Cryptoki, int]]:
    """An asynchronous session with the slow adapter, its user logged in."""
    configure(CONFIGURATION.format(inline="false", log=tmp_path / "log"))
    library("C_Initialize", None)
    try:
        (slot,) = library.slots()
        initialize_token(library, slot)
        session = open_async(library, slot)
        library.login(session)
        slow_adapter.RELEASE.clear()
        yield library, session
    finally:
        slow_adapter.RELEASE.set()
        library.rv("C_Finalize", None)


def begin_digest(p11: Cryptoki, session: int, type_: int = ck.CKM_SHA384) -> tuple[Any, c_ulong]:
    room, length = (c_ubyte * 64)(), c_ulong(64)
    KEPT.append(room)  # "the buffer … remains available to the module for the duration of the operation"
    p11("C_DigestInit", session, mechanism(type_))
    assert p11.rv("C_Digest", session, b"data", 4, room, length) == "CKR_PENDING"
    return room, length


def test_a_remote_operation(slow: tuple[Cryptoki, int]) -> None:
    import hashlib

    p11, session = slow
    expected = hashlib.sha384(b"data").digest()
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA384))
    short = c_ulong(47)
    assert p11.rv("C_Digest", session, b"data", 4, bytes(48), short) == "CKR_BUFFER_TOO_SMALL"
    assert short.value == 48
    p11("C_Digest", session, b"data", 4, None, short)  # a query is answered at once
    p11("C_DigestInit", session, None)
    room, length = begin_digest(p11, session)
    assert slow_adapter.WAITING.wait(5)
    for call in (
        ("C_DigestInit", session, mechanism(ck.CKM_SHA384)),
        ("C_Digest", session, b"data", 4, room, length),
        ("C_DigestUpdate", session, b"data", 4),
        ("C_DigestFinal", session, room, length),
        ("C_DigestKey", session, 1),
    ):
        assert p11.rv(*call) == "CKR_OPERATION_ACTIVE"
    assert p11.rv("C_AsyncComplete", session, b"C_Digest", Data()) == "CKR_PENDING"
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    slow_adapter.RELEASE.set()
    time.sleep(0.05)
    assert (bytes(room), length.value) == (bytes(64), 64)  # nothing before the caller comes for it
    rv, data = complete(p11, session, b"C_Digest")
    assert (rv, data.pValue, data.ulValue) == ("CKR_OK", ctypes.addressof(room), 48)
    assert (bytes(room), length.value) == (expected + bytes(16), 64)
    assert complete(p11, session, b"C_Digest")[0] == NONE
    begin_digest(p11, session)  # the place is free again
    assert complete(p11, session, b"C_Digest")[0] == "CKR_OK"


def test_another_session_joins_a_remote_operation(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    room, _ = begin_digest(p11, session)
    number = p11.made("C_AsyncGetID", session, b"C_Digest")
    other = open_async(p11, p11.slots()[0])
    p11("C_CloseSession", session)
    target = (c_ubyte * 48)()
    join = ("C_AsyncJoin", other, b"C_Digest", number)
    assert p11.rv(*join, target, 47) == "CKR_BUFFER_TOO_SMALL"
    assert p11.rv(*join, None, 48) == "CKR_ARGUMENTS_BAD"
    p11(*join, target, 48)
    assert p11.rv("C_AsyncComplete", other, b"C_Digest", Data()) == "CKR_PENDING"
    slow_adapter.RELEASE.set()
    rv, data = complete(p11, other, b"C_Digest")
    assert (rv, data.pValue, data.ulValue) == ("CKR_OK", ctypes.addressof(target), 48)
    assert any(target) and not any(room)


def test_a_remote_operation_is_cancelled(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    for end in (
        lambda: p11("C_SessionCancel", session, ck.CKF_DIGEST),
        lambda: p11("C_DigestInit", session, None),
    ):
        slow_adapter.WAITING.clear()
        slow_adapter.ENDED.clear()
        room, _ = begin_digest(p11, session)
        assert slow_adapter.WAITING.wait(5)
        end()
        assert slow_adapter.ENDED.wait(5)
        assert complete(p11, session, b"C_Digest")[0] == NONE
        assert not any(room)
    slow_adapter.WAITING.clear()
    slow_adapter.ENDED.clear()
    begin_digest(p11, session)
    assert slow_adapter.WAITING.wait(5)
    p11("C_CloseSession", session)
    assert slow_adapter.ENDED.wait(5)


def test_finalize_ends_remote_operations(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    begin_digest(p11, session)
    assert slow_adapter.WAITING.wait(5)
    p11("C_Finalize", None)
    assert slow_adapter.ENDED.wait(5)


def test_a_remote_operation_outlives_finalize(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    begin_digest(p11, session)
    number = p11.made("C_AsyncGetID", session, b"C_Digest")
    threading.Timer(0.1, slow_adapter.RELEASE.set).start()
    p11("C_Finalize", None)
    p11("C_Initialize", None)
    (slot,) = p11.slots()
    initialize_token(p11, slot)
    session, target = open_async(p11, slot), (c_ubyte * 48)()
    p11.login(session)
    p11("C_AsyncJoin", session, b"C_Digest", number, target, 48)
    rv, data = complete(p11, session, b"C_Digest")
    assert (rv, data.ulValue) == ("CKR_OK", 48)
    assert any(target)


def test_remote_keys_and_signatures(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    slow_adapter.RELEASE.set()
    pairs = template((ck.CKA_VALUE_LEN, 16), (ck.CKA_EXTRACTABLE, True), (ck.CKA_SENSITIVE, False))
    keys = []
    for _ in range(2):
        how = mechanism(ck.CKM_AES_KEY_GEN)
        assert p11.rv("C_GenerateKey", session, how, pairs, len(pairs), c_ulong(0)) == "CKR_PENDING"
        rv, data = complete(p11, session, b"C_GenerateKey")
        assert rv == "CKR_OK"
        keys.append(data.hObject)
    how, room = mechanism(ck.CKM_AES_KEY_WRAP), (c_ubyte * 64)()
    assert p11.rv("C_WrapKey", session, how, *keys, room, c_ulong(23)) == "CKR_BUFFER_TOO_SMALL"
    assert p11.rv("C_WrapKey", session, how, *keys, room, c_ulong(64)) == "CKR_PENDING"
    rv, data = complete(p11, session, b"C_WrapKey")
    assert (rv, data.ulValue) == ("CKR_OK", 24)
    new = template((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES))
    wrapped = bytes(room[:24])
    arguments = (session, how, keys[0], wrapped, 24, new, 2, c_ulong(0))
    assert p11.rv("C_UnwrapKey", *arguments) == "CKR_PENDING"
    assert complete(p11, session, b"C_UnwrapKey")[0] == "CKR_OK"
    # Encryption is exact; of decryption only a bound is known, and that much room is needed.
    cbc = mechanism(ck.CKM_AES_CBC_PAD, bytes(16))
    p11("C_EncryptInit", session, cbc, keys[0])
    assert p11.rv("C_Encrypt", session, b"plain", 5, room, c_ulong(16)) == "CKR_PENDING"
    assert complete(p11, session, b"C_Encrypt")[0] == "CKR_OK"
    sealed, number = bytes(room[:16]), c_ulong(14)
    p11("C_DecryptInit", session, cbc, keys[0])
    assert p11.rv("C_Decrypt", session, sealed, 16, room, number) == "CKR_BUFFER_TOO_SMALL"
    number.value = 16
    assert p11.rv("C_Decrypt", session, sealed, 16, room, number) == "CKR_PENDING"
    assert p11.rv("C_AsyncGetID", session, b"C_Decrypt", c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    rv, data = complete(p11, session, b"C_Decrypt")
    assert (rv, data.ulValue, bytes(room[:5])) == ("CKR_OK", 5, b"plain")
    secret = p11.generic_secret(session, b"k" * 32, (ck.CKA_SIGN, True), (ck.CKA_VERIFY, True))
    hmac = mechanism(ck.CKM_SHA256_HMAC)
    p11("C_SignInit", session, hmac, secret)
    p11("C_SignUpdate", session, b"data", 4)
    assert p11.rv("C_SignFinal", session, room, c_ulong(32)) == "CKR_PENDING"
    assert complete(p11, session, b"C_SignFinal")[1].ulValue == 32
    tag = bytes(room[:32])
    for signed, expected in ((b"data", "CKR_OK"), (b"date", "CKR_SIGNATURE_INVALID")):
        p11("C_VerifyInit", session, hmac, secret)
        assert p11.rv("C_Verify", session, signed, 4, tag, 32) == "CKR_PENDING"
        assert complete(p11, session, b"C_Verify")[0] == expected
        p11("C_VerifyInit", session, hmac, secret)
        p11("C_VerifyUpdate", session, signed, 4)
        assert p11.rv("C_VerifyFinal", session, tag, 32) == "CKR_PENDING"
        rv = "CKR_PENDING"
        while rv == "CKR_PENDING":
            rv = p11.rv("C_AsyncComplete", session, b"C_VerifyFinal", None)  # nothing to receive
        assert rv == expected


def test_errors_of_remote_operations(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA224))
    assert p11.rv("C_Digest", session, b"data", 4, bytes(28), c_ulong(28)) == "CKR_PENDING"
    assert complete(p11, session, b"C_Digest")[0] == "CKR_DEVICE_ERROR"
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA224))  # the operation is over


PENDING = [
    *(
        "C_GenerateKey",
        "C_GenerateKeyPair",
        "C_WrapKey",
        "C_UnwrapKey",
        "C_DeriveKey",
        "C_Encrypt",
        "C_Decrypt",
    ),
    *(
        "C_Digest",
        "C_Sign",
        "C_SignRecover",
        "C_Verify",
        "C_VerifyRecover",
        "C_EncryptFinal",
        "C_DecryptFinal",
    ),
    *("C_DigestFinal", "C_SignFinal", "C_VerifyFinal"),
]


def test_every_function_that_may_be_pending_is(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    slow_adapter.RELEASE.set()
    stage = Stage(p11, p11.slots()[0])  # its keys are made in a session that waits
    stage.session = session
    for name in PENDING:
        p11("C_SessionCancel", session, EVERY)
        assert p11.rv(name, *SCENES[name](stage)) == "CKR_PENDING", name
        rv, _ = complete(p11, session, name.encode())
        assert rv == ("CKR_SIGNATURE_INVALID" if name == "C_VerifyFinal" else "CKR_OK"), name
