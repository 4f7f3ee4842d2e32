"""Media that are full, read-only, or kept by others; and the modes of files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from store_support import PIN, SO_PIN, Token, child, config, data, ended, secret_key

from ferrohsm import constants as ck
from ferrohsm.errors import DeviceError, DeviceMemory, PinIncorrect, PinLocked, TokenWriteProtected
from ferrohsm.runtime import step
from ferrohsm.settings import PinPolicy

Mount = Callable[..., Path]


def test_a_full_disk_loses_nothing(mount: Mount) -> None:
    place = mount("tmpfs", "size=1m")
    token = Token(place / "data").make().login()
    made = []
    with pytest.raises(DeviceMemory):
        for number in range(1000):
            token.create(data(f"o{number}", value=os.urandom(8000)))
            made.append(f"o{number}")
    assert len(made) > 10
    for _ in range(3):
        with pytest.raises(DeviceMemory):
            token.create(data("too much", value=os.urandom(300_000)))
    assert token.labels() == made
    assert token.another().login().labels() == made
    # With room again it goes on, in the same process.
    subprocess.run(["mount", "-o", "remount,size=4m", str(place)], check=True)
    token.create(data("again"))
    step(token.store.delete(token.find()[0]))
    assert token.another().login().labels() == [*made[1:], "again"]
    token.close()


def test_a_token_that_does_not_fit_is_not_half_made(mount: Mount) -> None:
    place = mount("tmpfs", "size=48k")
    token = Token(place / "data")
    with pytest.raises(DeviceMemory):
        token.make()
    assert not token.folder.exists()
    assert not step(token.store.status()).initialized


def test_a_read_only_medium_lists_logs_in_and_reads(token: Token, mount: Mount) -> None:
    oid = token.create(secret_key("k"))
    public = token.create(data("p", private=False))
    token.close()
    for suffix in ("-wal", "-shm"):
        assert not (token.folder / f"token.db{suffix}").exists(), "the last one out leaves one file"
    place = mount(token.path, "ro")
    protected = Token(place)
    assert (protected.serial, protected.slot) == (token.serial, token.slot)
    status = step(protected.store.status())
    assert status.initialized and status.write_protected and status.label == "alpha"
    assert protected.find((ck.CKA_LABEL, b"p")) == [public]
    protected.login()
    assert protected.read(oid)[ck.CKA_VALUE] == b"k" * 32
    assert protected.store.generation() == protected.store.generation()
    with pytest.raises(TokenWriteProtected):
        protected.create(data("more"))
    with pytest.raises(TokenWriteProtected):
        step(protected.store.delete(oid))
    with pytest.raises(TokenWriteProtected):
        step(protected.store.set_pin(ck.CKU_USER, bytearray(PIN), bytearray(b"654321")))
    with pytest.raises(TokenWriteProtected):
        step(protected.store.initialize(bytearray(SO_PIN), "anew"))
    protected.close()


def test_tries_on_a_read_only_medium_are_counted_by_the_process(free: Token, mount: Mount) -> None:
    free.make()
    for _ in range(2):
        with pytest.raises(PinIncorrect):
            free.login(b"wrong!")
    free.close()
    protected = Token(mount(free.path, "ro"), config(pin=PinPolicy(tries=4, delay=0.0)))
    with pytest.raises(PinIncorrect):
        protected.login(b"wrong!")
    protected.login()
    for _ in range(1):
        with pytest.raises(PinIncorrect):
            protected.login(b"wrong!")
    with pytest.raises(PinLocked):
        protected.login(b"wrong!")
    with pytest.raises(PinLocked):
        protected.login()
    protected.close()


def test_a_read_only_view_of_a_token_in_use_follows_it(token: Token, mount: Mount) -> None:
    """A container may see another's writable directory read-only: nothing old is trusted there."""
    token.create(data("first"))
    token.close()
    place = mount(token.path, "ro")
    reader = Token(place).login()
    assert reader.labels() == ["first"]
    writer = token.another().login()
    for number in range(40):
        before = reader.store.generation()
        writer.create(data(f"o{number}", value=os.urandom(3000)))
        assert reader.store.generation() != before
        assert reader.labels()[-1] == f"o{number}"
    for oid in writer.find(limit=20):
        step(writer.store.delete(oid))
    assert reader.labels() == writer.labels()
    writer.close()
    assert len(reader.labels()) == 21
    reader.close()


def test_a_medium_that_was_pulled_out_while_in_use_says_so(
    token: Token, mount: Mount, tmp_path: Path
) -> None:
    """The log that was not yet copied cannot be read there: the token is refused, never shown as it was."""
    token.create(data("only in the log"))
    assert (token.folder / "token.db-wal").stat().st_size > 0
    copy = tmp_path / "copy"
    shutil.copytree(token.path, copy)
    (copy / "tokens" / token.serial / "token.db-shm").unlink()
    protected = Token(mount(copy, "ro"))
    with pytest.raises(DeviceError, match="was in use"):
        protected.login()


def test_a_directory_that_cannot_be_written_offers_no_free_slot(free: Token, mount: Mount) -> None:
    free.make()
    free.close()
    protected = Token(mount(free.path, "ro"))
    reserved = protected.directory.reserved()
    if reserved is not None:
        with pytest.raises(TokenWriteProtected):
            step(reserved[2].initialize(bytearray(SO_PIN), "more"))


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    place = tmp_path / "data"

    def action() -> None:
        os.umask(umask)
        token = Token(place).make().login()
        token.create(data("x"))
        token.directory.backup(token.serial, str(tmp_path / "backup"), lambda *_: None)
        modes(place, 0o700, 0o600)
        assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
        token.close()
        modes(place, 0o700, 0o600)

    assert ended(child(action)) == 0


def modes(place: Path, directory: int, file: int, group: int | None = None) -> None:
    found = [place, *place.rglob("*")]
    assert len(found) >= 6
    for path in found:
        about = path.lstat()
        wanted = directory if path.is_dir() else file
        assert stat.S_IMODE(about.st_mode) == wanted, f"{path}: {stat.S_IMODE(about.st_mode):o}"
        if group is not None:
            assert about.st_gid == group, path


def test_a_shared_token_belongs_to_its_group(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving files to a group needs root")
    group = 12345
    settings = config(mode=0o660, group=group)
    os.chmod(tmp_path, 0o755)
    place = tmp_path / "data"
    token = Token(place, settings).make().login()
    token.create(data("from root"))
    modes(place, 0o2770, 0o660, group)

    def action() -> None:
        os.setgroups([group])
        os.setgid(23456)
        os.setuid(23456)
        os.umask(0o077)
        other = Token(place, settings).login()
        other.create(data("from another user"))
        assert other.labels() == ["from root", "from another user"]
        other.close()

    passable(tmp_path)
    assert ended(child(action)) == 0
    assert token.labels() == ["from root", "from another user"]
    token.create(data("from root again"))
    token.close()


def passable(place: Path) -> None:
    """Let other users of the machine into a directory of the tests."""
    for path in place.parents:
        if not path.stat().st_mode & 0o001:
            os.chmod(path, stat.S_IMODE(path.stat().st_mode) | 0o011)
        if str(path) == "/tmp":
            break


def test_whoever_may_only_read_the_files_reads_the_token(tmp_path: Path) -> None:
    """At rest, in use, and at rest again: it never needs a file that only a writer makes."""
    if os.geteuid() != 0:
        pytest.skip("giving files to a group needs root")
    group = 12345
    settings = config(mode=0o640, group=group)
    os.chmod(tmp_path, 0o755)
    token = Token(tmp_path / "data", settings).make().login()
    token.create(data("first"))
    token.close()

    def action() -> None:
        os.setgroups([group])
        os.setgid(23456)
        os.setuid(23456)
        other = Token(tmp_path / "data", settings)
        status = step(other.store.status())
        assert status.initialized and status.write_protected and status.label == "alpha"
        other.login()
        assert other.labels() == labels
        with pytest.raises(TokenWriteProtected):
            other.create(data("more"))
        other.close()

    passable(tmp_path)
    labels = ["first"]
    assert ended(child(action)) == 0
    writer = token.another().login()
    writer.create(data("second"))
    labels = ["first", "second"]
    assert ended(child(action)) == 0
    writer.close()
    assert ended(child(action)) == 0
