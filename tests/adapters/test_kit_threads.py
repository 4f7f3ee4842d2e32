"""The kit's threads: an answer that comes late is taken or taken back, never both; no PIN is left behind."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ferrohsm_adapters.aws_kms import pin as pins
from ferrohsm_adapters.kit import slots, workers
from ferrohsm_adapters.tpm2.store import TpmStore

from ferrohsm import constants as ck
from ferrohsm.config import Config
from ferrohsm.errors import DeviceError, PinIncorrect, PinLocked


def test_an_answer_that_was_taken_back_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.05)
    undone = threading.Event()

    async def main() -> None:
        threads = workers.Workers("late")
        working = asyncio.ensure_future(threads.run(lambda: "made", undo=lambda _: undone.set()))
        await asyncio.sleep(0)
        assert undone.wait(30)  # the loop is kept busy by this
        with pytest.raises(DeviceError, match="taken back"):
            await working
        # Without anything to take back a late answer is as good as any.
        assert await threads.run(lambda: 7) == 7
        threads.stop()

    asyncio.run(main())


def test_no_copy_of_a_pin_is_left_when_the_caller_gives_up_before_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bytearray] = []

    async def main() -> None:
        threads = workers.Workers("pins")
        store = slots.LocalStore(SimpleNamespace(login=None), threads)  # type: ignore[arg-type]
        hold, begun = threading.Event(), threading.Event()
        first = asyncio.ensure_future(threads.run(lambda: (begun.set(), hold.wait(30))))
        await asyncio.to_thread(begun.wait, 30)

        def copy(pin: bytearray) -> bytearray:
            seen.append(bytearray(pin))
            return seen[-1]

        monkeypatch.setattr(slots, "bytearray", copy, raising=False)
        login = asyncio.ensure_future(store.login(ck.CKU_USER, bytearray(b"a long enough PIN")))
        await asyncio.sleep(0)
        login.cancel()
        with pytest.raises(asyncio.CancelledError):
            await login
        assert len(seen) == 1 and not any(seen[0])
        hold.set()
        await first
        threads.stop()

    asyncio.run(main())


def test_a_right_pin_does_not_undo_a_lock_that_came_while_it_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pin"
    file.write_text(pins.record(b"right pin"))
    gate = pins.Gate(str(file), 2)
    hashed, tried = pins._hashed, threading.Event()

    def slow(pin: bytearray, salt: bytes) -> bytes:
        if pin == b"right pin":
            wrong.start()
            tried.wait(0.2)  # a second caller may try meanwhile, if it is let
        return hashed(pin, salt)

    def try_wrong() -> None:
        for _ in range(2):
            with pytest.raises((PinIncorrect, PinLocked)):
                gate.check(bytearray(b"wrong"))
        tried.set()

    monkeypatch.setattr(pins, "_hashed", slow)
    wrong = threading.Thread(target=try_wrong)
    gate.check(bytearray(b"right pin"))
    wrong.join(30)
    assert gate.left == 0
    with pytest.raises(PinLocked):
        gate.check(bytearray(b"wrong"))


class Inner:
    """A token's store that knows its user's secret only."""

    serial = "0123456789abcdef"
    secret = b""
    killed = ""

    async def status(self) -> Any:
        return SimpleNamespace(user_locked=False, so_locked=False)

    async def init_pin(self, secret: bytearray) -> None:
        if self.killed == "before":
            raise KeyboardInterrupt
        self.secret = bytes(secret)
        if self.killed == "after":
            raise KeyboardInterrupt

    async def login(self, user: int, secret: bytearray) -> None:
        if bytes(secret) != self.secret:
            raise PinIncorrect

    check_pin = login


class Sealing:
    """A device that seals in the clear and counts wrong tries."""

    wrong = 0

    def seal(self, auth: bytes, secret: bytes) -> bytes:
        return auth + secret

    def unseal(self, blob: bytes, auth: bytes) -> bytearray:
        if blob[:32] != auth:
            self.wrong += 1
            raise PinIncorrect
        return bytearray(blob[32:])


@pytest.mark.parametrize("killed", ["", "before", "after"])
def test_one_of_two_pins_opens_the_token_whenever_init_pin_is_killed(tmp_path: Path, killed: str) -> None:
    async def main() -> None:
        inner, threads = Inner(), workers.Workers("tpm")
        device = Sealing()
        parts: Any = (inner, device, threads, str(tmp_path), Config())
        store = TpmStore(*parts)
        os.mkdir(tmp_path / "sealed")
        await store.init_pin(bytearray(b"first"))
        await store.login(ck.CKU_USER, bytearray(b"first"))
        inner.killed = killed
        try:
            await store.init_pin(bytearray(b"second"))
        except KeyboardInterrupt:
            pass
        inner.killed = ""
        good, bad = (b"first", b"second") if killed == "before" else (b"second", b"first")
        for _ in range(2):
            with pytest.raises(PinIncorrect):
                await store.login(ck.CKU_USER, bytearray(bad))
            await store.login(ck.CKU_USER, bytearray(good))
        # The TPM counts wrong tries for itself: a right PIN makes none, however often it is used.
        before = device.wrong
        await store.login(ck.CKU_USER, bytearray(good))
        assert device.wrong == before
        threads.stop()

    asyncio.run(main())


def test_a_wrong_pin_is_a_wrong_pin_also_after_the_first_init_pin_was_killed(tmp_path: Path) -> None:
    async def main() -> None:
        inner, threads = Inner(), workers.Workers("tpm")
        parts: Any = (inner, Sealing(), threads, str(tmp_path), Config())
        store = TpmStore(*parts)
        os.mkdir(tmp_path / "sealed")
        inner.killed = "after"
        with pytest.raises(KeyboardInterrupt):
            await store.init_pin(bytearray(b"first"))
        with pytest.raises(PinIncorrect):
            await store.login(ck.CKU_USER, bytearray(b"wrong"))
        await store.login(ck.CKU_USER, bytearray(b"first"))
        threads.stop()

    asyncio.run(main())


def test_two_calls_that_set_a_pin_at_once_take_turns(tmp_path: Path) -> None:
    """The first has the lock of files while it waits for the TPM: the second must not hold up the loop."""

    async def main() -> None:
        inner, threads = Inner(), workers.Workers("tpm")
        parts: Any = (inner, Sealing(), threads, str(tmp_path), Config())
        store = TpmStore(*parts)
        os.mkdir(tmp_path / "sealed")
        await asyncio.gather(*(store.init_pin(bytearray(pin)) for pin in (b"first", b"second")))
        await store.login(ck.CKU_USER, bytearray(b"second"))
        threads.stop()

    asyncio.run(main())
