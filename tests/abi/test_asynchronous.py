"""Asynchronous sessions: calls that return CKR_PENDING, completed, joined, cancelled, left behind."""

from __future__ import annotations

import os
import threading
import time
from ctypes import c_ulong
from typing import Any

import mechanism_parameters as parameters
import pytest
from asynchronous import ASYNC, NONE, Data, complete, open_async
from bench import Bench
from cryptoki import Cryptoki, InitializeArguments, SessionInfo, TokenInfo, mechanism, template

from ferrohsm import constants as ck

PAIR = b"C_GenerateKeyPair"
RSA = mechanism(ck.CKM_RSA_PKCS_KEY_PAIR_GEN)


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
