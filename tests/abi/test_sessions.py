"""Slots, sessions and logins: the specification's table of states, and who is told what."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from ctypes import c_ubyte, c_ulong
from pathlib import Path

import pytest
from bench import Bench, initialize_token
from cryptoki import (
    PIN,
    SO_PIN,
    ULONG_MAX,
    Cryptoki,
    InitializeArguments,
    SessionInfo,
    TokenInfo,
    mechanism,
    template,
)

from ferrohsm import constants as ck

SERIAL = ck.CKF_SERIAL_SESSION
READ_WRITE = SERIAL | ck.CKF_RW_SESSION


def opened(p11: Cryptoki, slot: int, flags: int) -> str:
    return p11.rv("C_OpenSession", slot, flags, None, None, c_ulong(0))


def test_states_follow_the_login_in_every_session(bench: Bench) -> None:
    p11 = bench.p11
    reader, writer = p11.open(bench.slot, read_write=False), p11.open(bench.slot)
    assert p11.state(reader) == ck.CKS_RO_PUBLIC_SESSION
    assert p11.state(writer) == ck.CKS_RW_PUBLIC_SESSION
    p11.login(reader)
    assert p11.state(reader) == ck.CKS_RO_USER_FUNCTIONS
    assert p11.state(writer) == ck.CKS_RW_USER_FUNCTIONS
    p11("C_Logout", writer)
    assert p11.state(reader) == ck.CKS_RO_PUBLIC_SESSION
    p11("C_CloseSession", reader)
    p11.login(writer, ck.CKU_SO)
    assert p11.state(writer) == ck.CKS_RW_SO_FUNCTIONS


def test_session_info_names_slot_and_flags(bench: Bench) -> None:
    info = SessionInfo()
    bench.p11("C_GetSessionInfo", bench.p11.open(bench.slot), info)
    assert (info.slotID, info.flags, info.ulDeviceError) == (bench.slot, READ_WRITE, 0)


def test_read_only_sessions_and_the_security_officer_exclude_each_other(bench: Bench) -> None:
    p11 = bench.p11
    reader, writer = p11.open(bench.slot, read_write=False), p11.open(bench.slot)
    assert p11.rv("C_Login", writer, ck.CKU_SO, SO_PIN, len(SO_PIN)) == "CKR_SESSION_READ_ONLY_EXISTS"
    p11("C_CloseSession", reader)
    p11.login(writer, ck.CKU_SO)
    assert opened(p11, bench.slot, SERIAL) == "CKR_SESSION_READ_WRITE_SO_EXISTS"
    assert opened(p11, bench.slot, READ_WRITE) == "CKR_OK"


@pytest.mark.parametrize(
    ("flags", "rv"),
    [
        (0, "CKR_SESSION_PARALLEL_NOT_SUPPORTED"),
        (ck.CKF_RW_SESSION, "CKR_SESSION_PARALLEL_NOT_SUPPORTED"),
    ],
)
def test_flags_of_open_session(bench: Bench, flags: int, rv: str) -> None:
    assert opened(bench.p11, bench.slot, flags) == rv


def test_open_session_refuses_wrong_arguments(bench: Bench) -> None:
    p11 = bench.p11
    assert p11.rv("C_OpenSession", bench.slot, READ_WRITE, None, None, None) == "CKR_ARGUMENTS_BAD"
    assert opened(p11, ULONG_MAX, READ_WRITE) == "CKR_SLOT_ID_INVALID"


def test_the_free_slot_has_a_token_that_is_not_recognized(bench: Bench) -> None:
    free = bench.p11.slots()[-1]
    assert free != bench.slot
    assert opened(bench.p11, free, READ_WRITE) == "CKR_TOKEN_NOT_RECOGNIZED"


def test_a_new_token_keeps_its_slot_and_a_new_free_slot_appears(bench: Bench) -> None:
    p11 = bench.p11
    free = p11.slots()[-1]
    initialize_token(p11, free, b"second")
    slots = p11.slots()
    assert bench.slot in slots[:-1]
    assert free in slots[:-1]
    assert slots[-1] not in (bench.slot, free)


def test_slot_list_counts_and_fills(bench: Bench) -> None:
    p11 = bench.p11
    count = c_ulong(0)
    assert p11.rv("C_GetSlotList", c_ubyte(1), None, None) == "CKR_ARGUMENTS_BAD"
    p11("C_GetSlotList", c_ubyte(1), None, count)
    wanted = count.value
    short = (c_ulong * wanted)(*([ULONG_MAX] * wanted))
    count.value = wanted - 1
    assert p11.rv("C_GetSlotList", c_ubyte(1), short, count) == "CKR_BUFFER_TOO_SMALL"
    assert count.value == wanted
    assert set(short) == {ULONG_MAX}


def test_handles_are_never_used_again(bench: Bench) -> None:
    p11 = bench.p11
    seen = set()
    for _ in range(50):
        session = p11.open(bench.slot)
        assert session not in seen
        seen.add(session)
        p11("C_CloseSession", session)
        assert p11.rv("C_CloseSession", session) == "CKR_SESSION_HANDLE_INVALID"


def test_closing_the_last_session_logs_out(bench: Bench) -> None:
    p11 = bench.p11
    first, second = bench.user(), p11.open(bench.slot)
    p11("C_CloseSession", first)
    assert p11.state(second) == ck.CKS_RW_USER_FUNCTIONS
    p11("C_CloseSession", second)
    third = p11.open(bench.slot)
    assert p11.state(third) == ck.CKS_RW_PUBLIC_SESSION
    p11.login(third)


def test_close_all_sessions_logs_out_too(bench: Bench) -> None:
    p11 = bench.p11
    session, other = bench.user(), p11.open(bench.slot)
    p11("C_CloseAllSessions", bench.slot)
    for closed in (session, other):
        assert p11.rv("C_GetSessionInfo", closed, SessionInfo()) == "CKR_SESSION_HANDLE_INVALID"
    assert p11.state(p11.open(bench.slot)) == ck.CKS_RW_PUBLIC_SESSION
    assert p11.rv("C_CloseAllSessions", ULONG_MAX) == "CKR_SLOT_ID_INVALID"


def test_token_info_counts_sessions(bench: Bench) -> None:
    p11, info = bench.p11, TokenInfo()
    p11.open(bench.slot)
    p11.open(bench.slot, read_write=False)
    p11("C_GetTokenInfo", bench.slot, info)
    assert (info.ulSessionCount, info.ulRwSessionCount) == (2, 1)
    assert bytes(info.label) == b"token".ljust(32)
    assert info.flags & ck.CKF_USER_PIN_INITIALIZED
    assert p11.rv("C_GetTokenInfo", bench.slot, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_GetTokenInfo", ULONG_MAX, info) == "CKR_SLOT_ID_INVALID"


def test_login_refusals(bench: Bench) -> None:
    p11 = bench.p11
    session = p11.open(bench.slot)
    assert p11.rv("C_Login", session, ck.CKU_USER, b"wrong-pin", 9) == "CKR_PIN_INCORRECT"
    assert p11.rv("C_Login", session, ck.CKU_USER, None, 0) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_Login", session, ck.CKU_USER, PIN, ULONG_MAX) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_Login", session, 3, PIN, len(PIN)) == "CKR_USER_TYPE_INVALID"
    assert p11.rv("C_Login", 0, 3, PIN, len(PIN)) == "CKR_SESSION_HANDLE_INVALID"
    assert p11.rv("C_Logout", session) == "CKR_USER_NOT_LOGGED_IN"
    p11.login(session)
    assert p11.rv("C_Login", session, ck.CKU_USER, PIN, len(PIN)) == "CKR_USER_ALREADY_LOGGED_IN"
    refused = p11.rv("C_Login", session, ck.CKU_SO, SO_PIN, len(SO_PIN))
    assert refused == "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"


def test_login_user_takes_a_name(bench: Bench) -> None:
    p11 = bench.p11
    session = p11.open(bench.slot)
    assert p11.rv("C_LoginUser", session, ck.CKU_USER, PIN, len(PIN), None, 4) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_LoginUser", session, ck.CKU_USER, PIN, len(PIN), b"\xff\xfe", 2) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_LoginUser", session, ck.CKU_USER, PIN, len(PIN), b"alice", 5) == "CKR_OK"
    assert p11.state(session) == ck.CKS_RW_USER_FUNCTIONS


def test_pins_are_set_where_the_state_allows(bench: Bench) -> None:
    p11 = bench.p11
    reader, writer = p11.open(bench.slot, read_write=False), p11.open(bench.slot)
    assert p11.rv("C_InitPIN", writer, b"1234567", 7) == "CKR_USER_NOT_LOGGED_IN"
    assert p11.rv("C_SetPIN", reader, PIN, len(PIN), b"1234567", 7) == "CKR_SESSION_READ_ONLY"
    assert p11.rv("C_SetPIN", writer, None, 4, b"1234567", 7) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_SetPIN", writer, PIN, len(PIN), None, 7) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_SetPIN", writer, b"not this", 8, b"1234567", 7) == "CKR_PIN_INCORRECT"
    assert p11.rv("C_SetPIN", writer, PIN, len(PIN), b"1", 1) in ("CKR_PIN_LEN_RANGE", "CKR_PIN_INVALID")
    p11("C_SetPIN", writer, PIN, len(PIN), b"1234567", 7)
    p11.login(writer, pin=b"1234567")


def test_wrong_pins_show_in_the_tokens_flags_lock_and_are_forgiven_by_the_so(
    library: Cryptoki, configure: Callable[[str], None], tmp_path: Path
) -> None:
    low, final, locked = ck.CKF_USER_PIN_COUNT_LOW, ck.CKF_USER_PIN_FINAL_TRY, ck.CKF_USER_PIN_LOCKED
    kdf = "[kdf]\nmemory_kib = 7168\npasses = 1\n"
    pin = "[pin]\ntries = 3\ndelay = 0\nmin_length = 6\nmax_length = 8\n"
    configure(f'data_dir = "{tmp_path}/data"\n{pin}{kdf}')
    library("C_Initialize", None)
    try:
        slot, info = library.slots()[0], TokenInfo()
        initialize_token(library, slot)

        def flags() -> int:
            library("C_GetTokenInfo", slot, info)
            return int(info.flags) & (low | final | locked)

        session = library.open(slot)
        assert flags() == 0
        assert (info.ulMinPinLen, info.ulMaxPinLen) == (6, 8)
        for answer, shown in (
            ("CKR_PIN_INCORRECT", low),
            ("CKR_PIN_INCORRECT", low | final),
            ("CKR_PIN_LOCKED", low | locked),
        ):
            assert library.rv("C_Login", session, ck.CKU_USER, b"wrong-pin", 9) == answer
            assert flags() == shown
        library("C_Finalize", None)
        library("C_Initialize", None)
        session = library.open(slot)
        assert flags() == low | locked, "the count is on disk"
        assert library.rv("C_Login", session, ck.CKU_USER, PIN, len(PIN)) == "CKR_PIN_LOCKED"
        library.login(session, ck.CKU_SO)
        for bad in (b"short", b"much-too-long"):
            assert library.rv("C_InitPIN", session, bad, len(bad)) == "CKR_PIN_LEN_RANGE"
        library("C_InitPIN", session, b"fresh-8", 7)
        assert flags() == 0
        library("C_Logout", session)
        library.login(session, pin=b"fresh-8")
        assert library.slots()[0] == slot
    finally:
        library.rv("C_Finalize", None)


def test_init_token_refusals(bench: Bench) -> None:
    p11, label = bench.p11, b"again".ljust(32)
    session = p11.open(bench.slot)
    assert p11.rv("C_InitToken", bench.slot, SO_PIN, len(SO_PIN), label) == "CKR_SESSION_EXISTS"
    p11("C_CloseSession", session)
    assert p11.rv("C_InitToken", bench.slot, None, 0, label) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_InitToken", bench.slot, SO_PIN, len(SO_PIN), None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_InitToken", ULONG_MAX, SO_PIN, len(SO_PIN), label) == "CKR_SLOT_ID_INVALID"
    assert p11.rv("C_InitToken", bench.slot, b"wrong-so", 8, label) == "CKR_PIN_INCORRECT"
    p11("C_InitToken", bench.slot, SO_PIN, len(SO_PIN), label)


def test_handles_of_private_objects_die_at_logout_and_public_ones_stay(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    private = p11.data_object(session, (ck.CKA_TOKEN, True), (ck.CKA_PRIVATE, True), (ck.CKA_LABEL, b"p"))
    public = p11.data_object(session, (ck.CKA_TOKEN, True), (ck.CKA_PRIVATE, False), (ck.CKA_LABEL, b"q"))
    p11("C_Logout", session)
    assert p11.rv("C_GetObjectSize", session, private, c_ulong(0)) == "CKR_OBJECT_HANDLE_INVALID"
    assert p11.get(session, public, ck.CKA_LABEL) == b"q"
    p11.login(session)
    assert p11.rv("C_GetObjectSize", session, private, c_ulong(0)) == "CKR_OBJECT_HANDLE_INVALID"
    assert p11.find(session, (ck.CKA_LABEL, b"q")) == [public]
    (again,) = p11.find(session, (ck.CKA_LABEL, b"p"))
    assert again != private
    assert p11.rv("C_GetObjectSize", session, private, c_ulong(0)) == "CKR_OBJECT_HANDLE_INVALID"
    assert p11.get(session, again, ck.CKA_LABEL) == b"p"


def test_session_objects_die_with_their_session(bench: Bench) -> None:
    p11, session, other = bench.p11, bench.user(), bench.p11.open(bench.slot)
    handle = p11.data_object(other, (ck.CKA_LABEL, b"mine"))
    assert p11.find(session, (ck.CKA_LABEL, b"mine")) == [handle]
    p11("C_CloseSession", other)
    assert p11.find(session, (ck.CKA_LABEL, b"mine")) == []
    assert p11.rv("C_GetObjectSize", session, handle, c_ulong(0)) == "CKR_OBJECT_HANDLE_INVALID"


def test_handles_belong_to_their_slot(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    free = p11.slots()[-1]
    initialize_token(p11, free, b"second")
    stranger = p11.open(free)
    handle = p11.data_object(session, (ck.CKA_LABEL, b"here"))
    assert p11.rv("C_GetObjectSize", stranger, handle, c_ulong(0)) == "CKR_OBJECT_HANDLE_INVALID"


def test_session_cancel_ends_what_it_names(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    digest = mechanism(ck.CKM_SHA256)
    p11("C_DigestInit", session, digest)
    p11("C_FindObjectsInit", session, None, 0)
    p11("C_SessionCancel", session, 0)
    assert p11.rv("C_DigestInit", session, digest) == "CKR_OPERATION_ACTIVE"
    p11("C_SessionCancel", session, ck.CKF_DIGEST | ck.CKF_SIGN)
    assert p11.rv("C_FindObjectsInit", session, None, 0) == "CKR_OPERATION_ACTIVE"
    assert p11.rv("C_DigestUpdate", session, b"x", 1) == "CKR_OPERATION_NOT_INITIALIZED"
    p11("C_DigestInit", session, digest)
    p11("C_SessionCancel", session, ck.CKF_FIND_OBJECTS)
    p11("C_FindObjectsInit", session, None, 0)
    assert p11.rv("C_SessionCancel", 0, ck.CKF_SIGN) == "CKR_SESSION_HANDLE_INVALID"


def test_wait_for_slot_event(bench: Bench) -> None:
    p11, slot = bench.p11, c_ulong(0)
    assert p11.rv("C_WaitForSlotEvent", ck.CKF_DONT_BLOCK, None, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_WaitForSlotEvent", ck.CKF_DONT_BLOCK, slot, slot) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_WaitForSlotEvent", ck.CKF_DONT_BLOCK, slot, None) == "CKR_NO_EVENT"


ANOTHER_PROCESS = """
import sys
from bench import initialize_token
from cryptoki import Cryptoki

p11 = Cryptoki(sys.argv[1])
p11("C_Initialize", None)
initialize_token(p11, p11.slots()[-1], b"theirs")
p11("C_Finalize", None)
"""


def test_a_token_of_another_process_is_an_event_and_can_be_used(bench: Bench, module_path: Path) -> None:
    p11, slot = bench.p11, c_ulong(0)
    free, known = p11.slots()[-1], set(p11.slots())
    answer: list[str] = []
    waiter = threading.Thread(target=lambda: answer.append(p11.rv("C_WaitForSlotEvent", 0, slot, None)))
    waiter.start()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", ANOTHER_PROCESS, module_path]
    subprocess.run(command, check=True, cwd=bench.log.parent, env={**os.environ, "PYTHONPATH": path})
    assert opened(p11, free, READ_WRITE) == "CKR_OK"
    waiter.join(5)
    assert answer == ["CKR_OK"]
    assert slot.value == free or slot.value not in known
    initialized = TokenInfo()
    p11("C_GetTokenInfo", free, initialized)
    assert bytes(initialized.label).rstrip() == b"theirs"


MADE_ANEW = """
import sys
from bench import initialize_token
from cryptoki import Cryptoki

p11 = Cryptoki(sys.argv[1])
p11("C_Initialize", None)
initialize_token(p11, int(sys.argv[2]), b"anew")
p11("C_Finalize", None)
"""


@pytest.mark.parametrize("user", [ck.CKU_USER, ck.CKU_SO])
def test_a_token_that_another_process_makes_anew_is_logged_out(
    bench: Bench, module_path: Path, user: int
) -> None:
    """Its objects are gone, a private one cannot be made without its keys, and a login helps."""
    p11, session = bench.p11, bench.p11.open(bench.slot)
    p11.login(session)
    private = p11.aes(session, (ck.CKA_TOKEN, True), (ck.CKA_PRIVATE, True), (ck.CKA_LABEL, b"old"))
    p11.transform("Encrypt", session, mechanism(ck.CKM_AES_ECB), private, bytes(16))
    if user == ck.CKU_SO:
        p11("C_Logout", session)
        p11.login(session, ck.CKU_SO)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", MADE_ANEW, module_path, str(bench.slot)]
    subprocess.run(command, check=True, cwd=bench.log.parent, env={**os.environ, "PYTHONPATH": path})
    assert p11.find(session, (ck.CKA_LABEL, b"old")) == []
    refused = p11.rv("C_EncryptInit", session, mechanism(ck.CKM_AES_ECB), private)
    assert refused == "CKR_KEY_HANDLE_INVALID"
    if user == ck.CKU_USER:
        assert p11.state(session) == ck.CKS_RW_PUBLIC_SESSION
        attributes = template((ck.CKA_CLASS, ck.CKO_DATA), (ck.CKA_TOKEN, True), (ck.CKA_PRIVATE, True))
        refused = p11.rv("C_CreateObject", session, attributes, 3, c_ulong(0))
        assert refused == "CKR_USER_NOT_LOGGED_IN"
    else:
        assert p11.rv("C_InitPIN", session, PIN, len(PIN)) == "CKR_USER_NOT_LOGGED_IN"
    p11.login(session)
    made = p11.data_object(session, (ck.CKA_TOKEN, True), (ck.CKA_PRIVATE, True), (ck.CKA_LABEL, b"new"))
    assert p11.find(session, (ck.CKA_LABEL, b"new")) == [made]


def test_finalize_wakes_a_waiting_call(bench: Bench) -> None:
    p11, result = bench.p11, []
    waiter = threading.Thread(target=lambda: result.append(p11.rv("C_WaitForSlotEvent", 0, c_ulong(0), None)))
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive()
    p11("C_Finalize", None)
    waiter.join(5)
    assert result == ["CKR_CRYPTOKI_NOT_INITIALIZED"]


def test_initialize_judges_its_arguments(bench: Bench) -> None:
    p11 = bench.p11
    assert p11.rv("C_Initialize", None) == "CKR_CRYPTOKI_ALREADY_INITIALIZED"
    assert p11.rv("C_Finalize", c_ulong(1)) == "CKR_ARGUMENTS_BAD"
    p11("C_Finalize", None)
    text = ctypes.create_string_buffer(b"free_slot=false")
    arguments = InitializeArguments(flags=ck.CKF_OS_LOCKING_OK, pReserved=ctypes.addressof(text))
    assert p11.rv("C_Initialize", arguments) == "CKR_ARGUMENTS_BAD"
    arguments = InitializeArguments(flags=ck.CKF_LIBRARY_CANT_CREATE_OS_THREADS | ck.CKF_OS_LOCKING_OK)
    p11("C_Initialize", arguments)


def test_initialize_takes_an_init_string_where_the_configuration_allows(bench: Bench, tmp_path: Path) -> None:
    p11, file = bench.p11, tmp_path / "ferrohsm.toml"
    before = p11.slots()
    p11("C_Finalize", None)
    file.write_text("allow_init_string = true\n" + file.read_text())
    text = ctypes.create_string_buffer(b"free_slot=false")
    arguments = InitializeArguments(flags=ck.CKF_OS_LOCKING_OK, pReserved=ctypes.addressof(text))
    p11("C_Initialize", arguments)
    assert p11.slots() == before[:-1]


def test_everything_starts_anew_after_finalize(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    handle = p11.data_object(session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"stays"))
    p11("C_Finalize", None)
    assert p11.rv("C_GetSessionInfo", session, SessionInfo()) == "CKR_CRYPTOKI_NOT_INITIALIZED"
    p11("C_Initialize", None)
    assert p11.rv("C_GetSessionInfo", session, SessionInfo()) == "CKR_SESSION_HANDLE_INVALID"
    session = bench.user()
    assert p11.rv("C_GetObjectSize", session, handle, c_ulong(0)) == "CKR_OBJECT_HANDLE_INVALID"
    assert len(p11.find(session, (ck.CKA_LABEL, b"stays"))) == 1


def test_the_rest_of_the_session_functions(bench: Bench) -> None:
    p11, session, flags = bench.p11, bench.p11.open(bench.slot), c_ulong(7)
    assert p11.rv("C_GetFunctionStatus", session) == "CKR_FUNCTION_NOT_PARALLEL"
    assert p11.rv("C_CancelFunction", session) == "CKR_FUNCTION_NOT_PARALLEL"
    assert p11.rv("C_CancelFunction", 0) == "CKR_SESSION_HANDLE_INVALID"
    p11("C_GetSessionValidationFlags", session, ck.CKS_LAST_VALIDATION_OK, flags)
    assert flags.value == 0
    assert p11.rv("C_GetSessionValidationFlags", session, 99, flags) == "CKR_ARGUMENTS_BAD"
