"""Plugins that hang, block, crash, lie and flood: each costs its caller, and nobody else anything.

Beside the faulty slot there is a software slot, whose results and latency must not change.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from types import ModuleType
from typing import Any

import fault_plugin
import pytest
from bench import initialize_token
from cryptoki import Cryptoki, TokenInfo, mechanism, template

from ferrohsm import constants as ck
from ferrohsm import lanes, loops

CONFIGURATION = """\
data_dir = "{data}"

[kdf]
memory_kib = 7168
passes = 1

[log]
target = "{log}"
level = "info"

[slots.fault]
adapter = "fault"
deadline = {deadline}
concurrency = 4
{more}

[slots.near]
adapter = "software"
"""

LATENCY = 0.5  # seconds that no call to the software slot may take, on a machine that is busy


class Pair:
    """The library with a faulty slot and a software slot, and a session with each."""

    def __init__(self, p11: Cryptoki, log: Path, plugin: ModuleType) -> None:
        self.p11, self.log, self.plugin = p11, log, plugin
        slots = p11.slots()
        with_token = [slot for slot in slots if p11.rv("C_GetTokenInfo", slot, TokenInfo()) == "CKR_OK"]
        self.far, self.near = 77, next(slot for slot in with_token if slot != 77)
        for slot in (self.far, self.near):
            initialize_token(p11, slot)
        self.session = p11.open(self.far)
        self.beside = p11.open(self.near)

    def digest(self, what: str, session: int | None = None, room: int = 64) -> str:
        """Have the faulty adapter do something; return the answer."""
        session = self.session if session is None else session
        begun = self.p11.rv("C_DigestInit", session, mechanism(ck.CKM_SHA256))
        if begun != "CKR_OK":
            return begun
        data = what.encode()
        return self.p11.rv("C_Digest", session, data, len(data), (c_ubyte * room)(), c_ulong(room))

    def look_beside(self, stop: Callable[[], bool]) -> float:
        """Use the software slot until it is time; return the longest call in seconds."""
        longest, expected = 0.0, hashlib.sha256(b"data").digest()
        while True:
            begin = time.monotonic()
            out, length = (c_ubyte * 32)(), c_ulong(32)
            self.p11("C_DigestInit", self.beside, mechanism(ck.CKM_SHA256))
            self.p11("C_Digest", self.beside, b"data", 4, out, length)
            assert bytes(out) == expected
            self.p11("C_GenerateRandom", self.beside, (c_ubyte * 16)(), 16)
            self.p11.data_object(self.beside, (ck.CKA_LABEL, b"beside"))
            longest = max(longest, time.monotonic() - begin)
            if stop():
                return longest
            time.sleep(0.01)

    def meanwhile(self, what: str) -> tuple[str, float, float]:
        """Do something on the faulty slot; return the answer, its time, and the longest call beside it."""
        answers: list[tuple[str, float]] = []

        def call() -> None:
            begin = time.monotonic()
            answers.append((self.digest(what), time.monotonic() - begin))

        thread = threading.Thread(target=call)
        thread.start()
        longest = self.look_beside(lambda: bool(answers))
        thread.join(10)
        return *answers[0], longest

    def present(self) -> bool:
        info = (c_ubyte * 128)()
        self.p11("C_GetSlotInfo", self.far, info)
        return bool(int.from_bytes(bytes(info[96:104]), "little") & ck.CKF_TOKEN_PRESENT)

    def back(self, seconds: float = 10) -> None:
        """Wait until the faulty slot has a token again, and open a session with it."""
        end = time.monotonic() + seconds
        while True:
            self.p11.slots()
            if self.present():
                break
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)
        self.session = self.p11.open(self.far)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Install the plugin in a folder of its own on the path, and import it anew."""
    fault_plugin.install(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    yield importlib.import_module("ferrohsm_fault")
    sys.modules.pop("ferrohsm_fault", None)


@pytest.fixture
def start(
    plugin: ModuleType, library: Cryptoki, configure: Callable[[str], None], tmp_path: Path
) -> Iterator[Callable[..., Path]]:
    """Start the library with the faulty slot; return where its log is."""
    (tmp_path / "data").mkdir()

    def begin(deadline: float = 0.8, more: str = "") -> Path:
        log = tmp_path / "log"
        configure(CONFIGURATION.format(data=tmp_path / "data", log=log, deadline=deadline, more=more))
        library("C_Initialize", None)
        return log

    yield begin
    library.rv("C_Finalize", None)


@pytest.fixture
def pair(start: Callable[..., Path], library: Cryptoki, plugin: ModuleType) -> Pair:
    return Pair(library, start(), plugin)


def test_it_works_on_a_thread_of_its_own(pair: Pair) -> None:
    assert pair.digest("well") == "CKR_OK"
    assert {pair.plugin.OPENED[-1]} == pair.plugin.CALLED_ON
    assert threading.get_ident() not in pair.plugin.CALLED_ON
    names = [thread.name for thread in threading.enumerate()]
    assert "ferrohsm fault" in names and "ferrohsm" in names


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("raise", "CKR_DEVICE_ERROR"),
        ("exit", "CKR_DEVICE_ERROR"),
        ("cancel", "CKR_DEVICE_ERROR"),
        ("lie", "CKR_DEVICE_ERROR"),
        ("text", "CKR_DEVICE_ERROR"),
        ("number", "CKR_DEVICE_ERROR"),
        ("nothing", "CKR_DEVICE_ERROR"),
        ("elsewhere", "CKR_DEVICE_ERROR"),
        ("vendor", f"CKR_{fault_plugin.VENDOR_RV:#x}"),
        ("own", "CKR_DEVICE_REMOVED"),
        ("stop", "CKR_OK"),
        (fault_plugin.WRONG_LENGTH, "CKR_DEVICE_ERROR"),
        ("no such method", "CKR_DEVICE_ERROR"),
    ],
)
def test_errors_and_lies_cost_the_call(pair: Pair, what: str, answer: str) -> None:
    got = pair.digest(what)
    assert got == answer or (what == "vendor" and f"{fault_plugin.VENDOR_RV:x}" in got.lower())
    assert pair.digest("well") == "CKR_OK"  # in the same session: nothing else was lost
    assert pair.look_beside(lambda: True) < LATENCY
    written = pair.log.read_text()
    assert "secret" not in written
    if what == "raise":
        assert "ZeroDivisionError" in written and "operation.once" in written
    if what in ("text", "number", "nothing", fault_plugin.WRONG_LENGTH):
        assert "nonsense" in written


def test_a_result_that_is_longer_than_it_said(pair: Pair) -> None:
    """The caller's buffer is never written past its end; the length that is needed is told."""
    assert pair.digest("longer") in ("CKR_BUFFER_TOO_SMALL", "CKR_DEVICE_ERROR")
    other = pair.p11.open(pair.far)
    assert pair.digest("well", other) == "CKR_OK"


def test_wrong_attributes_and_numbers(pair: Pair) -> None:
    p11, session = pair.p11, pair.session
    assert p11.rv("C_GenerateRandom", session, (c_ubyte * 13)(), 13) == "CKR_DEVICE_ERROR"
    p11("C_GenerateRandom", session, (c_ubyte * 12)(), 12)
    p11.login(session)
    pairs = ((ck.CKA_VALUE_LEN, 24),)
    refused = p11.rv("C_GenerateKey", session, mechanism(ck.CKM_AES_KEY_GEN), template(*pairs), 1, c_ulong())
    assert refused == "CKR_DEVICE_ERROR"
    p11.aes(session)


def test_a_search_that_floods(pair: Pair) -> None:
    p11, session = pair.p11, pair.session
    wanted = template((ck.CKA_LABEL, b"flood"), (ck.CKA_TOKEN, True))
    p11("C_FindObjectsInit", session, wanted, 2)
    assert p11.rv("C_FindObjects", session, (c_ulong * 10)(), 10, c_ulong()) == "CKR_DEVICE_ERROR"
    p11("C_FindObjectsFinal", session)
    assert p11.find(session, (ck.CKA_LABEL, b"none")) == []


def test_tasks_that_flood_their_own_loop(pair: Pair) -> None:
    answer, _, longest = pair.meanwhile("flood")
    assert answer == "CKR_OK" and longest < LATENCY
    assert pair.look_beside(lambda: True) < LATENCY


@pytest.mark.parametrize("what", ["hang", "insist"])
def test_one_that_hangs_costs_its_caller_the_deadline(pair: Pair, what: str) -> None:
    """The session lives, and so do the others of the adapter: the loop still turns."""
    other = pair.p11.open(pair.far)
    answer, seconds, longest = pair.meanwhile(what)
    assert answer == "CKR_DEVICE_ERROR" and 0.6 < seconds < 3 and longest < LATENCY
    assert pair.digest("well") == "CKR_OK"
    assert pair.digest("well", other) == "CKR_OK"


@pytest.mark.parametrize("what", ["block", "spin", fault_plugin.SLOW_LENGTH])
def test_a_blocked_loop_is_abandoned_and_replaced(pair: Pair, what: str) -> None:
    """Its sessions go, as with a device that was reset."""
    opened = len(pair.plugin.OPENED)
    answer, seconds, longest = pair.meanwhile(what)
    assert answer in ("CKR_DEVICE_ERROR", "CKR_DEVICE_REMOVED") and seconds < 3
    assert longest < LATENCY
    end = time.monotonic() + 10
    while pair.digest("well") != "CKR_SESSION_HANDLE_INVALID":
        assert time.monotonic() < end
    pair.back()
    assert pair.digest("well") == "CKR_OK"
    assert len(pair.plugin.OPENED) == opened + 1
    assert pair.plugin.OPENED[-1] != pair.plugin.OPENED[-2]
    assert "abandoned" in pair.log.read_text()
    assert pair.look_beside(lambda: True) < LATENCY


def test_calls_that_never_end_do_not_use_up_the_adapter(pair: Pair) -> None:
    """More than may be at work at once ignore that they were ended: the adapter is replaced."""
    sessions = [pair.p11.open(pair.far) for _ in range(4)]
    threads = [threading.Thread(target=pair.digest, args=("insist", session)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    end = time.monotonic() + 10
    while "abandoned" not in pair.log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    pair.back()
    assert pair.digest("well") == "CKR_OK"


def test_the_queue_has_an_end(start: Callable[..., Path], library: Cryptoki, plugin: ModuleType) -> None:
    """What cannot be at work waits; beyond the queue a call is refused at once, with CKR_DEVICE_MEMORY."""
    before, loops.QUEUE = loops.QUEUE, 3
    try:
        pair = Pair(library, start(deadline=1.5), plugin)
    finally:
        loops.QUEUE = before
    sessions = [pair.p11.open(pair.far) for _ in range(12)]
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda session=session: answers.append(pair.digest("hang", session)))
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert set(answers) == {"CKR_DEVICE_ERROR", "CKR_DEVICE_MEMORY"}
    assert answers.count("CKR_DEVICE_ERROR") == 7  # four at work, three that waited
    assert pair.digest("well") == "CKR_OK"


def test_finalize_with_a_hung_and_with_a_blocked_adapter(
    start: Callable[..., Path], library: Cryptoki, plugin: ModuleType
) -> None:
    for what in ("hang", "insist", "block"):
        log = start(deadline=60)
        plugin.Adapter.kept = None
        pair = Pair(library, log, plugin)
        answers: list[str] = []

        def call(pair: Pair = pair, what: str = what, answers: list[str] = answers) -> None:
            answers.append(pair.digest(what))

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.2)
        begin = time.monotonic()
        library("C_Finalize", None)
        assert time.monotonic() - begin < 5, what
        thread.join(5)
        assert answers == ["CKR_CRYPTOKI_NOT_INITIALIZED"], what
        for file in (log.parent / "data").iterdir():
            if file.is_file():
                file.unlink()


@pytest.mark.parametrize("way", ["hang_at_open", "fail_at_open"])
def test_an_adapter_that_does_not_open(
    start: Callable[..., Path], library: Cryptoki, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its slot is without a token, or not listed yet; the software slot is there."""
    monkeypatch.setattr(lanes, "OPENING", 1.0)
    log = start(deadline=0.3, more=f"{way} = true")
    begin = time.monotonic()
    slots = library.slots()
    assert time.monotonic() - begin < 3
    assert 77 not in slots and slots
    near = [slot for slot in slots if library.rv("C_GetTokenInfo", slot, TokenInfo()) == "CKR_OK"]
    assert len(near) == 1
    begin = time.monotonic()
    library.slots()
    assert time.monotonic() - begin < 0.5  # it is not waited for twice
    if way == "fail_at_open":
        (empty,) = set(slots) - set(near)
        assert library.rv("C_GetTokenInfo", empty, TokenInfo()) == "CKR_TOKEN_NOT_PRESENT"
        assert "cannot be opened" in log.read_text()


def test_what_no_slot_names_is_never_imported(pair: Pair) -> None:
    assert "ferrohsm_unnamed" not in sys.modules


def test_a_plugin_that_cannot_be_imported(
    start: Callable[..., Path], library: Cryptoki, plugin: ModuleType
) -> None:
    others = ("broken", "nowhere", "leaving")
    log = start(more="\n".join(f'[slots.{name}]\nadapter = "{name}"' for name in others))
    pair = Pair(library, log, plugin)
    assert pair.digest("well") == "CKR_OK"
    empty = set(library.slots()) - {77, pair.near}
    without = [s for s in empty if library.rv("C_GetTokenInfo", s, TokenInfo()) == "CKR_TOKEN_NOT_PRESENT"]
    assert len(without) == 3
    lines = log.read_text().splitlines()
    assert any("cannot be loaded" in line and '"broken"' in line for line in lines)
    assert any("cannot be loaded" in line and '"leaving"' in line for line in lines)
    assert any("not installed" in line and '"nowhere"' in line for line in lines)


def test_what_the_adapter_says_about_itself_is_held(pair: Pair) -> None:
    p11 = pair.p11
    count = c_ulong(100)
    array = (c_ulong * 100)()
    p11("C_GetMechanismList", pair.far, array, count)
    assert set(array[: count.value]) == {ck.CKM_SHA256, ck.CKM_AES_KEY_GEN}  # what engine and adapter say
    info: Any = (c_ulong * 3)()
    p11("C_GetMechanismInfo", pair.far, ck.CKM_AES_KEY_GEN, info)
    assert list(info)[:2] == [16, 24]
    token = TokenInfo()
    p11("C_GetTokenInfo", pair.far, token)
    assert token.ulMaxSessionCount == 50
    assert pair.digest("x" * 101) == "CKR_DATA_LEN_RANGE"
    p11.login(pair.session)
    cert = template((ck.CKA_CLASS, ck.CKO_DOMAIN_PARAMETERS), (ck.CKA_TOKEN, True), (ck.CKA_KEY_TYPE, 1))
    assert p11.rv("C_CreateObject", pair.session, cert, 3, c_ulong()) != "CKR_OK"
    p11.data_object(pair.session, (ck.CKA_TOKEN, True))
    opened = [p11.open(pair.far) for _ in range(49)]
    refused = p11.rv("C_OpenSession", pair.far, ck.CKF_SERIAL_SESSION, None, None, c_ulong())
    assert refused == "CKR_SESSION_COUNT"
    p11("C_CloseSession", opened[0])
    p11.open(pair.far)


def test_a_device_that_comes_and_goes(pair: Pair) -> None:
    p11, place = pair.p11, c_ulong()
    while p11.rv("C_WaitForSlotEvent", ck.CKF_DONT_BLOCK, place, None) == "CKR_OK":
        """What setting up has told."""
    p11.login(pair.session)
    pair.plugin.PLUGGED.clear()
    try:
        p11("C_WaitForSlotEvent", 0, place, None)
        assert place.value == pair.far and not pair.present()
        assert pair.digest("well") == "CKR_SESSION_HANDLE_INVALID"
        assert p11.rv("C_GetTokenInfo", pair.far, TokenInfo()) == "CKR_TOKEN_NOT_PRESENT"
        assert p11.rv("C_OpenSession", pair.far, 4, None, None, c_ulong()) == "CKR_TOKEN_NOT_PRESENT"
        assert p11.rv("C_WaitForSlotEvent", ck.CKF_DONT_BLOCK, place, None) == "CKR_NO_EVENT"
    finally:
        pair.plugin.PLUGGED.set()
    p11("C_WaitForSlotEvent", 0, place, None)
    assert place.value == pair.far and pair.present()
    session = p11.open(pair.far)
    assert p11.state(session) == ck.CKS_RW_PUBLIC_SESSION  # the login went with the token
    assert pair.digest("well", session) == "CKR_OK"
    p11.login(session)


def test_a_call_under_way_when_the_token_goes(
    start: Callable[..., Path], library: Cryptoki, plugin: Any
) -> None:
    pair = Pair(library, start(deadline=20), plugin)
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(pair.digest("hang")))
    thread.start()
    time.sleep(0.2)
    plugin.PLUGGED.clear()
    try:
        library.slots()
        thread.join(5)
        assert answers == ["CKR_DEVICE_REMOVED"]
    finally:
        plugin.PLUGGED.set()
