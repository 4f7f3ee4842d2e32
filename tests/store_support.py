"""Tokens on disk for the tests of the store: made quickly, with ways to say things shortly."""

from __future__ import annotations

import os
import sqlite3
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Template
from ferrohsm.config import Config
from ferrohsm.runtime import step
from ferrohsm.settings import KdfSettings, PinPolicy, StoreSettings
from ferrohsm.store.directory import TokenDirectory
from ferrohsm.store.token import TokenStore

SO_PIN = b"87654321"
PIN = b"123456"
CHEAP = KdfSettings(memory_kib=7168, passes=1)


def config(*, pin: PinPolicy | None = None, kdf: KdfSettings = CHEAP, **store: object) -> Config:
    """Return a configuration whose key derivation is cheap and whose wrong PINs cost no time."""
    store.setdefault("busy_timeout", 30.0)
    return Config(kdf=kdf, pin=pin or PinPolicy(delay=0.0), store=StoreSettings(**store))


def ulong(number: int) -> bytes:
    return number.to_bytes(8, "little")


def data(label: str, *, private: bool = True, value: bytes = b"v" * 48, **more: bytes) -> Attributes:
    """Return a data object."""
    attributes: Attributes = {
        ck.CKA_CLASS: ulong(ck.CKO_DATA),
        ck.CKA_TOKEN: b"\1",
        ck.CKA_PRIVATE: bytes([private]),
        ck.CKA_LABEL: label.encode(),
        ck.CKA_VALUE: value,
    }
    return attributes | {getattr(ck, name): given for name, given in more.items()}


def secret_key(
    label: str, value: bytes = b"k" * 32, *, private: bool = True, sensitive: bool = True
) -> Attributes:
    """Return an AES key."""
    return {
        ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY),
        ck.CKA_KEY_TYPE: ulong(ck.CKK_AES),
        ck.CKA_TOKEN: b"\1",
        ck.CKA_PRIVATE: bytes([private]),
        ck.CKA_SENSITIVE: bytes([sensitive]),
        ck.CKA_EXTRACTABLE: bytes([not sensitive]),
        ck.CKA_LABEL: label.encode(),
        ck.CKA_ID: label.encode() + b"-id",
        ck.CKA_VALUE: bytearray(value),
    }


class Token:
    """One token and its directory; every call is a coroutine stepped on the spot."""

    def __init__(self, path: Path, settings: Config | None = None) -> None:
        self.path = path
        self.config = settings or config()
        self.directory = TokenDirectory(str(path), self.config)
        self._others: list[Token] = []
        listed = self.directory.tokens()
        self.serial, self.slot, self.store = listed[0] if listed else self._reserved()

    def _reserved(self) -> tuple[str, int, TokenStore]:
        free = self.directory.reserved()
        assert free is not None
        return free

    @property
    def folder(self) -> Path:
        return self.path / "tokens" / self.serial

    @property
    def file(self) -> Path:
        return self.folder / "token.db"

    def make(self, label: str = "alpha", *, pin: bytes | None = PIN) -> Token:
        step(self.store.initialize(bytearray(SO_PIN), label))
        if pin is not None:
            self.set_user_pin(pin)
        return self

    def set_user_pin(self, pin: bytes) -> None:
        step(self.store.login(ck.CKU_SO, bytearray(SO_PIN)))
        step(self.store.init_pin(bytearray(pin)))
        step(self.store.logout())

    def login(self, pin: bytes = PIN, user: int = ck.CKU_USER) -> Token:
        step(self.store.login(user, bytearray(pin)))
        return self

    def create(self, attributes: Attributes) -> int:
        return step(self.store.create(attributes))

    def read(self, oid: int) -> Attributes:
        return step(self.store.read(oid))

    def find(self, *template: tuple[int, object], after: int = 0, limit: int = 100) -> list[int]:
        wanted: Template = template  # type: ignore[assignment]
        return step(self.store.search(wanted, after, limit))

    def labels(self) -> list[str]:
        """Return the label of every object that can be seen, read whole."""
        found: list[str] = []
        after = 0
        while page := self.find(after=after):
            after = page[-1]
            for oid in page:
                label = self.read(oid)[ck.CKA_LABEL]
                assert isinstance(label, bytes)
                found.append(label.decode())
        return found

    def another(self) -> Token:
        """Return the same token as another process would open it; it is closed with this one."""
        other = Token(self.path, self.config)
        self._others.append(other)
        return other

    def close(self) -> None:
        while self._others:
            self._others.pop().close()
        step(self.directory.close())

    def edit(self, *statements: tuple[str, Sequence[object]]) -> None:
        """Change the file behind the store's back; nobody has it open."""
        self.close()
        db = sqlite3.connect(self.file)
        try:
            for statement, values in statements:
                db.execute(statement, values)
            db.commit()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()


def child(action: Callable[[], None]) -> int:
    """Run `action` in a forked child; return its process id. It exits with 0 unless something is raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    """Wait for a child and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
