"""Calls that are dispatched to the runtime's thread: they wait without Python's lock and can be ended."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from ctypes import c_ubyte, c_ulong
from pathlib import Path

import pytest
import slow_adapter
from bench import initialize_token
from cryptoki import PIN, Cryptoki, InitializeArguments, mechanism
from test_arguments import IN_SESSION

from ferrohsm import constants as ck

CONFIGURATION = """\
[slots.slow]
adapter = "slow"
inline = {inline}

[log]
target = "{log}"
level = "warning"
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the adapter as an installed package would: by an entry point."""
    folder = tmp_path / "site" / "slow_adapter-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-adapter\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[ferrohsm.adapters]\nslow = slow_adapter:adapter\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    slow_adapter.WAITING.clear()
    slow_adapter.ENDED.clear()


@pytest.fixture
def slow(
    plugin: None, library: Cryptoki, configure: Callable[[str], None], tmp_path: Path
) -> Iterator[tuple[Cryptoki, int]]:
    """The library with the slow adapter and a session whose user is logged in."""
    configure(CONFIGURATION.format(inline="false", log=tmp_path / "log"))
    library("C_Initialize", None)
    try:
        (slot,) = library.slots()
        initialize_token(library, slot)
        session = library.open(slot)
        library.login(session)
        yield library, session
    finally:
        library.rv("C_Finalize", None)


class Waiting:
    """A thread in a call that waits."""

    def __init__(self, p11: Cryptoki, session: int) -> None:
        self.answer = ""
        p11("C_DigestInit", session, mechanism(ck.CKM_SHA_1))
        self.thread = threading.Thread(target=self.call, args=(p11, session))
        self.thread.start()
        assert slow_adapter.WAITING.wait(5)

    def call(self, p11: Cryptoki, session: int) -> None:
        self.answer = p11.rv("C_Digest", session, b"data", 4, (c_ubyte * 64)(), c_ulong(64))

    def end(self) -> str:
        self.thread.join(5)
        assert not self.thread.is_alive()
        assert slow_adapter.ENDED.wait(5)
        return self.answer


def test_the_usual_calls_work(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    key = p11.aes(session, (ck.CKA_LABEL, b"key"))
    assert p11.find(session, (ck.CKA_LABEL, b"key")) == [key]
    how = mechanism(ck.CKM_AES_CBC_PAD, bytes(16))
    secret = p11.transform("Encrypt", session, how, key, b"plain")
    assert p11.transform("Decrypt", session, how, key, secret) == b"plain"


def test_another_call_in_the_session_is_told(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    waiting = Waiting(p11, session)
    assert p11.rv("C_DigestInit", session, mechanism(ck.CKM_SHA256)) == "CKR_OPERATION_ACTIVE"
    assert p11.state(session) == ck.CKS_RW_USER_FUNCTIONS
    p11.data_object(session)  # what needs no operation goes on
    p11("C_CloseSession", session)
    waiting.end()


def test_session_cancel_ends_the_call(slow: tuple[Cryptoki, int], tmp_path: Path) -> None:
    p11, session = slow
    waiting = Waiting(p11, session)
    assert p11.rv("C_SessionCancel", session, ck.CKF_SIGN) == "CKR_OPERATION_CANCEL_FAILED"
    p11("C_SessionCancel", session, ck.CKF_DIGEST)
    assert waiting.end() == "CKR_FUNCTION_CANCELED"
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    log = tmp_path / "log"
    assert not log.exists() or "nobody expected" not in log.read_text()


def test_closing_the_session_ends_the_call(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    waiting = Waiting(p11, session)
    p11("C_CloseSession", session)
    assert waiting.end() == "CKR_SESSION_CLOSED"
    assert p11.rv("C_CloseSession", session) == "CKR_SESSION_HANDLE_INVALID"


def test_finalize_ends_the_call(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    waiting = Waiting(p11, session)
    p11("C_Finalize", None)
    assert waiting.end() == "CKR_CRYPTOKI_NOT_INITIALIZED"


def test_a_host_that_holds_pythons_lock_does_not_stop_the_runtime(
    slow: tuple[Cryptoki, int], module_path: Path
) -> None:
    holding, (_, session) = Cryptoki(str(module_path), holding_lock=True), slow
    key = holding.aes(session)
    assert len(holding.transform("Encrypt", session, mechanism(ck.CKM_AES_ECB), key, bytes(16))) == 16


def test_an_error_that_nobody_expected_is_logged_without_its_words(
    slow: tuple[Cryptoki, int], tmp_path: Path
) -> None:
    p11, session = slow
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA224))
    assert p11.rv("C_Digest", session, b"data", 4, (c_ubyte * 64)(), c_ulong(64)) == "CKR_DEVICE_ERROR"
    written = (tmp_path / "log").read_text()
    assert "ZeroDivisionError" in written
    assert "secret" not in written
    assert p11.rv("C_DigestFinal", session, (c_ubyte * 64)(), c_ulong(64)) == "CKR_OPERATION_NOT_INITIALIZED"


def test_a_host_without_threads_cannot_have_such_a_slot(
    plugin: None, library: Cryptoki, configure: Callable[[str], None], tmp_path: Path
) -> None:
    arguments = InitializeArguments(flags=ck.CKF_LIBRARY_CANT_CREATE_OS_THREADS | ck.CKF_OS_LOCKING_OK)
    configure(CONFIGURATION.format(inline="false", log=tmp_path / "log"))
    assert library.rv("C_Initialize", arguments) == "CKR_NEED_TO_CREATE_THREADS"
    configure(CONFIGURATION.format(inline="true", log=tmp_path / "log"))
    library("C_Initialize", arguments)
    library("C_Finalize", None)


def test_an_inline_adapter_that_waits_is_refused(
    plugin: None, library: Cryptoki, configure: Callable[[str], None], tmp_path: Path
) -> None:
    configure(CONFIGURATION.format(inline="true", log=tmp_path / "log"))
    library("C_Initialize", None)
    try:
        (slot,) = library.slots()
        initialize_token(library, slot)
        session = library.open(slot)
        library.login(session, pin=PIN)
        library("C_DigestInit", session, mechanism(ck.CKM_SHA_1))
        refused = library.rv("C_Digest", session, b"data", 4, (c_ubyte * 64)(), c_ulong(64))
        assert refused in ("CKR_FUNCTION_FAILED", "CKR_GENERAL_ERROR")
    finally:
        library("C_Finalize", None)


def test_others_find_a_session_that_is_at_work_busy(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    waiting = Waiting(p11, session)
    busy = set()
    for row in IN_SESSION:
        if row["name"] in ("C_CloseSession", "C_SessionCancel", "C_Logout", "C_Login", "C_LoginUser"):
            continue
        arguments = [None if argument["type"].endswith("_PTR") else 0 for argument in row["args"][1:]]
        if p11.rv(row["name"], session, *arguments) == "CKR_OPERATION_ACTIVE":
            busy.add(row["name"])
    p11("C_SessionCancel", session, ck.CKF_DIGEST)
    assert waiting.end() == "CKR_FUNCTION_CANCELED"
    assert {"C_Sign", "C_EncryptInit", "C_FindObjects", "C_VerifyMessageNext", "C_SetOperationState"} <= busy
    # What leaves the session's operations alone works beside it.
    assert not {"C_GenerateKey", "C_CreateObject", "C_GetAttributeValue", "C_GetSessionInfo"} & busy
