"""Backups: consistent while the token is in use, whole or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from store_support import PIN, Token, config, data

from ferrohsm import constants as ck
from ferrohsm.errors import DeviceError, HsmError, PinIncorrect
from ferrohsm.store.directory import TokenDirectory

Restore = Callable[[Path, Path], Token]


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def restored() -> Iterator[Restore]:
    """Restore a backup to a directory, and close what was opened there at the end."""
    opened: list[Token] = []

    def restore(file: Path, path: Path) -> Token:
        TokenDirectory(str(path), config()).restore(str(file), quiet)
        opened.append(Token(path))
        return opened[-1]

    yield restore
    for token in opened:
        token.close()


def test_a_backup_holds_everything_and_is_nobody_elses(
    token: Token, tmp_path: Path, restored: Restore
) -> None:
    for number in range(30):
        token.create(data(f"object {number}", private=bool(number % 2)))
    file = tmp_path / "backup"
    token.directory.backup(token.serial, str(file), quiet)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [name for name in tmp_path.iterdir() if name.name.startswith("backup.")], (
        "nothing else is left"
    )
    token.create(data("later"))
    again = restored(file, tmp_path / "elsewhere")
    assert (again.serial, again.slot) == (token.serial, token.slot)
    with pytest.raises(PinIncorrect):
        again.login(b"wrong")
    again.login(PIN)
    assert again.labels() == [f"object {number}" for number in range(30)]
    assert again.find((ck.CKA_LABEL, b"object 3"))
    again.create(data("goes on"))


def test_a_backup_of_a_token_in_use_is_of_one_commit(token: Token, tmp_path: Path, restored: Restore) -> None:
    """Objects are made in pairs within one commit's reach: each label that is there has been read whole."""
    stop = threading.Event()
    made: list[str] = []

    def write() -> None:
        other = token.another().login()
        number = 0
        while not stop.is_set():
            other.create(data(f"object {number}"))
            made.append(f"object {number}")
            number += 1
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for round_ in range(5):
            while len(made) < 5 * round_ + 5:
                thread.join(0.001)
            before = len(made)
            file = tmp_path / f"backup{round_}"
            token.directory.backup(token.serial, str(file), quiet)
            after = len(made) + 1
            labels = restored(file, tmp_path / f"copy{round_}").login().labels()
            assert labels == [f"object {number}" for number in range(len(labels))]
            assert before <= len(labels) <= after
    finally:
        stop.set()
        thread.join()


def test_a_backup_ends_while_others_commit_at_every_step(
    token: Token, tmp_path: Path, restored: Restore
) -> None:
    for number in range(40):
        token.create(data(f"object {number:02}", value=bytes(16_000)))
    other = token.another().login()
    steps: list[int] = []

    def commit(done: int, total: int) -> None:
        steps.append(done)
        assert len(steps) < 100, "every commit of another process makes the copy start again"
        other.create(data("later"))

    file = tmp_path / "backup"
    token.directory.backup(token.serial, str(file), commit)
    assert len(steps) > 2
    labels = restored(file, tmp_path / "copy").login().labels()
    assert labels == [f"object {number:02}" for number in range(40)]


def test_a_date_beyond_all_files_is_no_obstacle(token: Token, tmp_path: Path, restored: Restore) -> None:
    file = tmp_path / "backup"
    token.directory.backup(token.serial, str(file), quiet)
    content = bytearray(file.read_bytes()[:-32])
    made = content.index(token.serial.encode()) + 16
    content[made : made + 8] = b"\xff" * 8
    file.write_bytes(content + sha256(content).digest())
    assert restored(file, tmp_path / "copy").login().labels() == []


def test_a_backup_damaged_anywhere_is_refused(token: Token, tmp_path: Path, restored: Restore) -> None:
    token.create(data("one"))
    file = tmp_path / "backup"
    token.directory.backup(token.serial, str(file), quiet)
    content = file.read_bytes()
    spots = sorted({*range(60), *range(60, len(content), 997), len(content) - 1})
    for number, spot in enumerate(spots):
        file.write_bytes(content[:spot] + bytes([content[spot] ^ 0x10]) + content[spot + 1 :])
        path = tmp_path / f"copy{number}"
        with pytest.raises(HsmError):
            restored(file, path)
        assert TokenDirectory(str(path), config()).tokens() == []
    for length in (0, 10, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(DeviceError):
            restored(file, tmp_path / f"cut{length}")
    file.write_bytes(content + b"x")
    with pytest.raises(DeviceError):
        restored(file, tmp_path / "longer")


def test_nothing_is_written_over(token: Token, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_bytes(b"mine")
    with pytest.raises(HsmError):
        token.directory.backup(token.serial, str(file), quiet)
    assert file.read_bytes() == b"mine"
    file.unlink()
    token.directory.backup(token.serial, str(file), quiet)
    with pytest.raises(DeviceError, match="there already"):
        token.directory.restore(str(file), quiet)
    assert token.login().labels() == []
