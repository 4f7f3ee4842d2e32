"""What finds without Python has the token's own file open, and no other, whoever closes it meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_support import Token, data

from ferrohsm.runtime import step
from ferrohsm.store.directory import TokenDirectory


class Recorder:
    """A finder that only keeps account: which file (by its inode) it has open."""

    def __init__(self, serial: bytes) -> None:
        self.file: int | None = None
        self.opened = 0
        self.meanwhile: Callable[[], object] = lambda: None

    @property
    def is_open(self) -> bool:
        return self.file is not None

    def open(self, uri: str, *rest: object) -> bool:
        inode = Path(uri.removeprefix("file:").partition("?")[0]).stat().st_ino
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        self.file = inode
        self.opened += 1
        return True

    def close(self) -> None:
        self.file = None

    def log_in(self, *keys: object) -> None:
        pass

    def log_out(self) -> None:
        pass

    def abandon(self) -> None:
        raise AssertionError("nobody forks here")

    def capsule(self) -> object:
        return self


@pytest.fixture
def found(token: Token) -> Iterator[tuple[Token, Recorder]]:
    """The token as it is opened by a directory whose finders are recorders."""
    token.create(data("object"))
    step(token.directory.close())
    token.directory = TokenDirectory(str(token.path), token.config, Recorder)
    ((token.serial, token.slot, token.store),) = token.directory.tokens()[:1]
    native = token.store._finding._native
    assert isinstance(native, Recorder)
    yield token, native


def replace(token: Token) -> None:
    """Put a copy of the token in its place: of the same incarnation, and another file."""
    copy = token.folder.with_name("copy")
    shutil.copytree(token.folder, copy)
    token.folder.rename(token.path / "away")
    copy.rename(token.folder)


def test_it_is_opened_once(found: tuple[Token, Recorder]) -> None:
    token, native = found
    assert token.store.finder() is native
    assert token.store.finder() is native
    assert (native.file, native.opened) == (token.file.stat().st_ino, 1)
    step(token.store.close())
    assert not native.is_open
    assert token.store.finder() is None


def test_a_token_that_is_closed_while_it_is_opened(found: tuple[Token, Recorder]) -> None:
    token, native = found
    native.meanwhile = token.store.shut
    assert token.store.finder() is None
    assert native.opened == 1
    assert not native.is_open


def test_a_file_that_is_replaced_while_it_is_opened(found: tuple[Token, Recorder]) -> None:
    token, native = found

    def others() -> None:
        replace(token)
        assert token.store.finder() is native  # as another thread searches
        assert native.file == token.file.stat().st_ino

    native.meanwhile = others
    assert token.store.finder() is None
    assert not native.is_open
    assert token.store.finder() is native
    assert native.file == token.file.stat().st_ino


def test_a_file_that_somebody_else_opened_anew(found: tuple[Token, Recorder]) -> None:
    token, native = found
    assert token.store.finder() is native
    before = native.file
    replace(token)
    database, _ = token.store._open()
    native.file = before  # as a thread leaves it that had begun before
    assert database.finding is None
    assert token.store.finder() is native
    assert native.file == token.file.stat().st_ino
    assert before != native.file
