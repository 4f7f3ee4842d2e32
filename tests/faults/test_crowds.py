"""Many at once, killed at any instant, forked: what was acknowledged is there, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_support import PIN, SO_PIN, Token, child, data, ended, secret_key

from ferrohsm import constants as ck
from ferrohsm.errors import DeviceError, DeviceRemoved, HsmError, PinIncorrect
from ferrohsm.runtime import step
from ferrohsm.store import database
from ferrohsm.store.database import Database
from ferrohsm.store.generation import Generation

SOAK = os.environ.get("FERROHSM_SOAK") == "1"
KILLS = int(os.environ.get("FERROHSM_KILLS", "200" if SOAK else "30"))


def work(token: Token, name: str, log: Callable[[str], None], until: float) -> None:
    """Create, find, read, change and delete, and say of each object what was acknowledged."""
    chance = random.Random(name)
    mine: list[tuple[int, str]] = []
    number = 0
    while time.monotonic() < until:
        label = f"{name}-{number}"
        number += 1
        log(f"?{label}")
        oid = token.create(secret_key(label, label.encode().ljust(32)))
        log(f"+{label}")
        mine.append((oid, label))
        oid, label = chance.choice(mine)
        assert token.find((ck.CKA_LABEL, label.encode())) == [oid]
        assert token.read(oid)[ck.CKA_VALUE] == label.encode().ljust(32)
        if len(mine) > 5:
            oid, label = mine.pop(chance.randrange(len(mine)))
            log(f"~{label}")
            step(token.store.delete(oid))
            log(f"-{label}")


def settled(lines: list[str]) -> tuple[set[str], set[str]]:
    """Return the labels that must be there and those that may be: whose last call did not return."""
    there: set[str] = set()
    open_: set[str] = set()
    for line in lines:
        mark, label = line[0], line[1:]
        if mark == "+":
            there.add(label)
        if mark == "~":
            there.discard(label)
        (open_.add if mark in "?~" else open_.discard)(label)
    return there, open_


def check(token: Token, lines: list[str]) -> None:
    other = token.another().login()
    there, open_ = settled(lines)
    found = other.labels()
    assert len(found) == len(set(found))
    assert there <= set(found) <= there | open_
    for oid in other.find(limit=100_000):
        attributes = other.read(oid)
        label = attributes[ck.CKA_LABEL]
        assert isinstance(label, bytes)
        assert attributes[ck.CKA_VALUE] == label.ljust(32)
        assert oid in other.find((ck.CKA_LABEL, label))
    # The whole index is verified by making a backup and restoring it elsewhere.
    archive = token.path / f"backup-{os.urandom(4).hex()}"
    other.directory.backup(token.serial, str(archive), lambda *_: None)
    elsewhere = Token(token.path / f"restored-{os.urandom(4).hex()}")
    elsewhere.directory.restore(str(archive), lambda *_: None)
    elsewhere.close()
    other.close()


def test_kill_at_any_instant(token: Token, tmp_path: Path) -> None:
    token.close()
    chance = random.Random(8)
    lines: list[str] = []
    for kill in range(KILLS):
        journal = tmp_path / f"journal{kill}"

        def action(journal: Path = journal, kill: int = kill) -> None:
            log = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            other = token.another().login()
            threads = [
                threading.Thread(
                    target=work,
                    args=(
                        other,
                        f"k{kill}t{n}",
                        lambda s: os.write(log, s.encode() + b"\n"),
                        time.monotonic() + 60,
                    ),
                )
                for n in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        pid = child(action)
        while not journal.exists() or not journal.stat().st_size:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) == -signal.SIGKILL
        lines += journal.read_text().splitlines()
        if kill % 10 == 9 or kill == KILLS - 1:
            check(token, lines)
    assert sum(line[0] == "+" for line in lines) >= KILLS // 2


def test_processes_and_threads_on_one_token(token: Token, tmp_path: Path) -> None:
    token.close()
    processes, threads, seconds = (8, 4, 60.0) if SOAK else (4, 4, 4.0)

    def action(process: int) -> None:
        log = os.open(tmp_path / f"p{process}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        other = token.another().login()
        failed: list[BaseException] = []

        def run(name: str) -> None:
            try:
                work(other, name, lambda s: os.write(log, s.encode() + b"\n"), time.monotonic() + seconds)
            except BaseException as error:
                failed.append(error)
                raise

        crowd = [threading.Thread(target=run, args=(f"p{process}t{n}",)) for n in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        other.close()
        assert not failed

    children = [child(lambda process=process: action(process)) for process in range(processes)]  # type: ignore[misc]
    assert [ended(pid) for pid in children] == [0] * processes
    lines = [line for n in range(processes) for line in (tmp_path / f"p{n}").read_text().splitlines()]
    _, open_ = settled(lines)
    assert not open_
    names = {line[1:].rsplit("-")[0] for line in lines if line[0] == "+"}
    assert len(names) == processes * threads, "each thread should have had its turn"
    check(token, lines)


def test_a_child_and_its_parent_both_keep_what_they_wrote(token: Token) -> None:
    """The child must not take its parent's locks for its own, or the parent unlinks the child's log."""
    token.create(data("parent"))
    told, tell = os.pipe()
    heard, say = os.pipe()

    def action() -> None:
        other = token.another().login()
        other.create(data("child"))
        os.write(tell, b"x")
        os.read(heard, 1)
        other.create(data("child later"))
        os._exit(0)  # without closing anything, as a killed process would

    pid = child(action)
    os.read(told, 1)
    token.close()
    os.write(say, b"x")
    assert ended(pid) == 0
    assert token.another().login().labels() == ["parent", "child", "child later"]


def test_a_fork_among_working_threads(token: Token) -> None:
    stop = threading.Event()
    made: list[str] = []

    def run(name: str) -> None:
        number = 0
        while not stop.is_set():
            token.create(data(f"{name}-{number}"))
            made.append(f"{name}-{number}")
            number += 1

    threads = [threading.Thread(target=run, args=(f"t{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):

            def action(number: int = number) -> None:
                other = token.another().login()
                other.create(data(f"child-{number}"))
                other.close()

            assert ended(child(action)) == 0
            made.append(f"child-{number}")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(token.another().login().labels()) == sorted(made)


def test_one_of_many_makes_the_free_token(free: Token) -> None:
    free.close()
    ready, go = os.pipe()

    def action() -> None:
        mine = free.another()
        os.read(ready, 1)
        try:
            step(mine.store.initialize(bytearray(SO_PIN), f"by {os.getpid()}"))
        except DeviceRemoved:
            os._exit(7)

    children = [child(action) for _ in range(6)]
    time.sleep(0.3)
    os.write(go, bytes(6))
    codes = sorted(ended(pid) for pid in children)
    assert codes == [0, 7, 7, 7, 7, 7]
    assert len(free.another().directory.tokens()) == 1
    assert {path.name for path in (free.path / "tokens").iterdir()} == {free.serial, "reserved", "lock"}


def test_a_writer_killed_between_its_marks_does_not_blind_the_readers(token: Token) -> None:
    reader = token.another().login()

    before = reader.store.generation()

    def die(self: Generation, number: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        Generation.done = die  # type: ignore[method-assign]
        token.another().login().create(data("committed, not marked"))

    assert ended(child(killed)) == -signal.SIGKILL
    after = reader.store.generation()
    assert after != before
    assert reader.labels() == ["committed, not marked"]
    reader.create(data("next"))
    assert reader.store.generation() != after


def test_a_commit_that_failed_after_it_was_written_does_not_blind_the_readers(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk reports an error for the last fsync: the commit may be found after all."""
    reader = token.another().login()
    before = reader.store.generation()
    original = Database._retry

    def fail(self: Database, db: sqlite3.Connection, statement: str) -> None:
        original(self, db, statement)
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch, pytest.raises(DeviceError):
        patch.setattr(Database, "_retry", fail)
        token.create(data("reported as failed"))
    assert reader.store.generation() != before
    token.create(data("next"))
    assert reader.labels() == ["reported as failed", "next"]


def test_a_login_gives_nobody_a_reason_to_look_at_the_objects_again(token: Token) -> None:
    token.create(data("x"))
    reader = token.another().login()
    before = reader.store.generation()
    token.another().login()
    with pytest.raises(PinIncorrect):
        token.another().login(b"wrong!")
    assert reader.store.generation() == before
    token.create(data("y"))
    assert reader.store.generation() != before


def test_many_tokens_need_few_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "IDLE_OF_ALL", 4)
    place = tmp_path / "data"
    for number in range(12):
        maker = Token(place)
        free = maker.directory.reserved()
        assert free is not None
        step(free[2].initialize(bytearray(b"87654321"), f"t{number}"))
        maker.close()
    listing = Token(place)
    for _, _, store in listing.directory.tokens():
        assert step(store.status()).initialized
    names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_is_open(fd)]
    assert 0 < sum(name.endswith("token.db") and str(place) in name for name in names) <= 5
    listing.close()


def fd_is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_deleted_token_takes_nothing_more(token: Token) -> None:
    other = token.another().login()
    oid = other.create(data("x"))
    before = other.store.generation()
    token.directory.delete(token.serial)
    for call in (
        lambda: other.create(data("y")),
        lambda: other.read(oid),
        lambda: other.find(),
        other.login,
    ):
        with pytest.raises(HsmError):
            call()
    assert other.store.generation() != before
    assert token.directory.tokens() == []
    assert not token.folder.exists()


def test_logout_in_one_thread_never_lets_another_write_with_a_dead_key(token: Token) -> None:
    """Whatever was acknowledged can be read after the next login."""
    stop = threading.Event()
    made: list[str] = []

    def run(name: str) -> None:
        number = 0
        while not stop.is_set():
            try:
                token.create(data(f"{name}-{number}"))
                made.append(f"{name}-{number}")
            except HsmError:
                pass
            number += 1

    threads = [threading.Thread(target=run, args=(f"t{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        token.login(PIN)
        step(token.store.logout())
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(token.login().labels()) == sorted(made)
