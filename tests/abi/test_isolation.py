"""An adapter in a process of its own: it works, and whatever befalls that process the host goes on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_ubyte, c_ulong
from pathlib import Path

import pytest
from bench import initialize_token
from cryptoki import Cryptoki, InitializeArguments, mechanism

from ferrohsm import constants as ck

CONFIGURATION = """\
[slots.apart]
adapter = "faulty"
isolation = "process"
deadline = {deadline}
data_dir = "{data}"
inline = {inline}

[slots.beside]
adapter = "software"
data_dir = "{data}-beside"

[pin]
delay = 0

[kdf]
memory_kib = 7168
passes = 1

[log]
target = "{log}"
level = "info"
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes apart are for Linux")


class Apart:
    """The library with a slot in a process of its own, and one beside it."""

    def __init__(self, p11: Cryptoki, log: Path) -> None:
        self.p11 = p11
        self.log = log
        self.slot = self.beside = 0
        for slot in p11.slots():
            if b"beside" in self.slot_info(slot)[:64]:
                self.beside = slot
            else:
                self.slot = slot

    def slot_info(self, slot: int) -> bytes:
        place = (c_ubyte * 256)()
        self.p11("C_GetSlotInfo", slot, place)
        return bytes(place)

    def present(self) -> bool:
        self.p11.slots()
        return bool(self.slot_info(self.slot)[96] & ck.CKF_TOKEN_PRESENT)

    def user(self) -> int:
        session = self.p11.open(self.slot)
        self.p11.login(session)
        return session

    def children(self) -> list[int]:
        """Return the processes of this host's adapters."""
        found = []
        for entry in Path("/proc/self/fdinfo").iterdir():
            try:
                lines = entry.read_text().splitlines()
            except OSError:
                continue
            found += [int(line.split()[1]) for line in lines if line.startswith("Pid:")]
        return [child for child in found if child > 0]

    def digest(self, session: int, data: bytes) -> str:
        self.p11("C_DigestInit", session, mechanism(ck.CKM_SHA_1))
        return self.p11.rv("C_Digest", session, data, len(data), (c_ubyte * 64)(), c_ulong(64))

    def digest_or_gone(self, session: int) -> str:
        rv = self.p11.rv("C_DigestInit", session, mechanism(ck.CKM_SHA_1))
        if rv == "CKR_OK":
            rv = self.p11.rv("C_Digest", session, b"x", 1, (c_ubyte * 64)(), c_ulong(64))
        return rv

    def back(self) -> None:
        """Wait until the token is back."""
        until(self.present)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the adapter as an installed package would: by an entry point."""
    folder = tmp_path / "site" / "faulty_adapter-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-adapter\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[ferrohsm.adapters]\nfaulty = faulty_adapter:Adapter\n")
    here = str(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", [*sys.path, here, str(tmp_path / "site")])


@pytest.fixture(params=["true", "false", "threadless"], ids=["stepped", "looped", "threadless"])
def apart(
    request: pytest.FixtureRequest,
    plugin: None,
    library: Cryptoki,
    configure: Callable[[str], None],
    tmp_path: Path,
) -> Iterator[Apart]:
    for name in ("data", "data-beside"):
        (tmp_path / name).mkdir()
    log = tmp_path / "log"
    inline = "false" if request.param == "threadless" else request.param
    configure(CONFIGURATION.format(deadline=1, data=tmp_path / "data", inline=inline, log=log))
    forbidden = ck.CKF_LIBRARY_CANT_CREATE_OS_THREADS | ck.CKF_OS_LOCKING_OK
    library("C_Initialize", InitializeArguments(flags=forbidden) if inline != request.param else None)
    try:
        made = Apart(library, log)
        initialize_token(library, made.slot)
        yield made
        children = made.children()
    finally:
        library.rv("C_Finalize", None)
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 3)


stepped = pytest.mark.parametrize("apart", ["true"], indirect=True, ids=["stepped"])
looped = pytest.mark.parametrize("apart", ["false"], indirect=True, ids=["looped"])


def test_it_works(apart: Apart) -> None:
    p11, session = apart.p11, apart.user()
    key = p11.aes(session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"key"), (ck.CKA_EXTRACTABLE, True))
    assert p11.find(session, (ck.CKA_LABEL, b"key")) == [key]
    how = mechanism(ck.CKM_AES_CBC_PAD, bytes(16))
    secret = p11.transform("Encrypt", session, how, key, b"plain" * 1000)
    assert p11.transform("Decrypt", session, how, key, secret) == b"plain" * 1000
    public, private = p11.ec(session)
    ecdsa = mechanism(ck.CKM_ECDSA_SHA256)
    signature = p11.transform("Sign", session, ecdsa, private, b"data")
    p11("C_VerifyInit", session, ecdsa, public)
    p11("C_Verify", session, b"data", 4, signature, len(signature))
    p11("C_SignInit", session, ecdsa, private)
    for part in (b"da", b"ta"):
        p11("C_SignUpdate", session, part, 2)
    assert len(p11.whole("C_SignFinal", session)) == 64
    wrapping = p11.aes(session, (ck.CKA_WRAP, True))
    assert len(p11.whole("C_WrapKey", session, mechanism(ck.CKM_AES_KEY_WRAP), wrapping, key)) == 24


@looped
def test_the_process_has_nothing_of_the_host(apart: Apart) -> None:
    (child,) = apart.children()
    links = {entry.name: os.readlink(entry) for entry in Path(f"/proc/{child}/fd").iterdir()}
    mine = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            mine.add(os.readlink(entry))
        except OSError:
            continue
    assert all(links[str(standard)] == "/dev/null" for standard in range(3))
    assert links["3"].startswith("socket:")
    assert not [link for link in links.values() if link in mine and link.startswith(("socket", "pipe"))]
    status = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    assert status[1] != str(os.getpid())  # it is nobody's child here
    limits = Path(f"/proc/{child}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    assert Path(f"/proc/{child}/maps").stat().st_uid == 0  # it can be traced by nobody but root


@pytest.mark.parametrize(
    ("apart", "what"),
    [
        ("true", b"crash"),
        ("false", b"leave"),
        ("true", b"hold"),
        ("false", b"hold"),
        ("false", b"block"),
        ("threadless", b"leave"),
        ("threadless", b"hold"),
    ],
    indirect=["apart"],
)
def test_what_befalls_it_costs_the_call_and_the_sessions(apart: Apart, what: bytes) -> None:
    p11, session = apart.p11, apart.user()
    key = p11.aes(session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"kept"))
    (child,) = apart.children()
    begun = time.monotonic()
    assert apart.digest(session, what) == "CKR_DEVICE_ERROR"
    assert time.monotonic() - begun < 6
    until(lambda: not Path(f"/proc/{child}").exists())
    apart.back()
    assert p11.rv("C_EncryptInit", session, mechanism(ck.CKM_AES_ECB), key) in (
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_DEVICE_REMOVED",
    )
    session = apart.user()
    assert len(p11.find(session, (ck.CKA_LABEL, b"kept"))) == 1
    assert apart.digest(session, b"data") == "CKR_OK"
    assert apart.children() != [child]


@stepped
def test_the_slot_beside_it_goes_on(apart: Apart) -> None:
    p11 = apart.p11
    initialize_token(p11, apart.beside)
    session = p11.open(apart.beside)
    p11.login(session)
    mine = apart.user()
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(apart.digest(mine, b"hold")))
    thread.start()
    slowest, key = 0.0, p11.aes(session)
    while thread.is_alive():
        begun = time.monotonic()
        p11.transform("Encrypt", session, mechanism(ck.CKM_AES_ECB), key, bytes(16))
        slowest = max(slowest, time.monotonic() - begun)
    thread.join()
    assert answers == ["CKR_DEVICE_ERROR"]
    assert slowest < 1


@looped
def test_a_killed_process_is_noticed_and_replaced(apart: Apart) -> None:
    session = apart.user()
    (child,) = apart.children()
    os.kill(child, signal.SIGKILL)
    until(lambda: apart.digest_or_gone(session) != "CKR_OK")
    apart.back()
    assert "process is gone" in apart.log.read_text()
    assert apart.children() != [child]
    assert apart.digest(apart.user(), b"data") == "CKR_OK"


@stepped
def test_nonsense_and_errors_cost_the_call_only(apart: Apart) -> None:
    session = apart.user()
    for what in (b"lie", b"fail"):
        assert apart.digest(session, what) == "CKR_DEVICE_ERROR"
        assert apart.digest(session, b"data") == "CKR_OK"
    written = apart.log.read_text()
    assert "ZeroDivisionError" in written
    assert "secret" not in written


@pytest.mark.parametrize("apart", ["true", "false"], indirect=True, ids=["stepped", "looped"])
def test_calls_do_not_wait_for_each_other(apart: Apart) -> None:
    """One waits for ever, the others are served meanwhile; it ends with its session, and harms nobody."""
    p11, waiting, session = apart.p11, apart.user(), apart.p11.open(apart.slot)
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(apart.digest(waiting, b"wait")))
    thread.start()
    for _ in range(20):
        assert apart.digest(session, b"data") == "CKR_OK"
    p11("C_CloseSession", waiting)
    thread.join(5)
    assert answers in (["CKR_SESSION_CLOSED"], ["CKR_DEVICE_ERROR"])  # inline, it must not wait
    assert apart.digest(session, b"data") == "CKR_OK"
