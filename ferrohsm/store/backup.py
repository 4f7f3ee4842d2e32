"""Backups: one file with everything that makes a token.

``FerroBackup1`` and a newline, the serial (16 digits), the time the token was made (64 bits, nanoseconds
since the epoch), the lengths of the public key's file and of the database (64 bits each, little-endian),
both files, and the SHA-256 of all that. A backup holds the public key: keep it as you keep the token.
"""

from __future__ import annotations

import os
import struct
from hashlib import sha256

from ferrohsm.errors import DeviceError
from ferrohsm.settings import StoreSettings
from ferrohsm.store import files, schema
from ferrohsm.store.access import INCARNATION_SIZE, Access, read_public_key
from ferrohsm.store.database import Records
from ferrohsm.store.generation import fresh
from ferrohsm.store.index import Chain
from ferrohsm.store.records import Row, open_attributes, open_secrets
from ferrohsm.store.sealing import PublicKeys
from ferrohsm.store.sqlite import sqlite3
from ferrohsm.typed import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from typing import BinaryIO

_MAGIC = b"FerroBackup1\n"
_HEAD = struct.Struct("<16sQQQ")
_PART = 1 << 20
_LATEST = 1 << 62  # no file system goes further


def write(store: Access, path: str, step: Callable[[int, int], None]) -> None:
    """Write a backup to a new file; an interrupted one leaves no file."""
    database, _ = store.database()
    private = StoreSettings()  # 0600, no group: a backup is nobody else's business
    copy = f"{path}.{os.urandom(6).hex()}"
    try:
        files.create(path, b"", private)
    except OSError as error:
        raise files.refusal(error, f"cannot write {path}") from None
    try:
        files.create(copy, b"", private)
        to = schema.connect(copy, "rw")
        try:
            database.copy(to, step)
            # The copy must not need a log beside it.
            to.execute("PRAGMA journal_mode=DELETE")
        finally:
            to.close()
        _pack(store, copy, path)
    except sqlite3.Error as error:
        files.remove(path)
        raise schema.refusal(error, copy) from None
    except OSError as error:
        files.remove(path)
        raise files.refusal(error, f"cannot write {path}") from None
    except BaseException:
        files.remove(path)
        raise
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            files.remove(copy + suffix)


def _pack(store: Access, copy: str, path: str) -> None:
    key_path = os.path.join(store.path, "public.key")
    made = os.stat(key_path).st_mtime_ns
    digest = sha256()
    with open(path, "wb") as out:

        def put(data: bytes) -> None:
            digest.update(data)
            out.write(data)

        put(_MAGIC)
        put(_HEAD.pack(store.serial.encode(), made, os.stat(key_path).st_size, os.stat(copy).st_size))
        for source in (key_path, copy):
            with open(source, "rb") as file:
                while data := file.read(_PART):
                    put(data)
        out.write(digest.digest())
        out.flush()
        os.fsync(out.fileno())


def unpack(path: str, directory: str, place: StoreSettings, step: Callable[[int, int], None]) -> str:
    """Make `directory` from a backup, verify every object in it, and return the token's serial."""
    try:
        with open(path, "rb") as file:
            serial, made = _unpack(file, path, directory, place, step)
        _verify(directory, serial, place)
        os.utime(os.path.join(directory, "public.key"), ns=(min(made, _LATEST), min(made, _LATEST)))
        files.sync_directory(directory)
    except sqlite3.Error as error:
        raise schema.refusal(error, path) from None
    except OSError as error:
        raise files.refusal(error, f"cannot restore {path}") from None
    return serial


def _unpack(
    file: BinaryIO, path: str, directory: str, place: StoreSettings, step: Callable[[int, int], None]
) -> tuple[str, int]:
    from ferrohsm.store.directory import is_serial

    head = file.read(len(_MAGIC) + _HEAD.size)
    size = os.fstat(file.fileno()).st_size
    if len(head) != len(_MAGIC) + _HEAD.size or not head.startswith(_MAGIC):
        raise DeviceError(f"{path} is not a backup of a token")
    name, made, key_size, database_size = _HEAD.unpack(head[len(_MAGIC) :])
    serial = name.decode("ascii", "replace")
    if not is_serial(serial) or key_size > 4096 or size != len(head) + key_size + database_size + 32:
        raise DeviceError(f"{path} is damaged or incomplete")
    digest = sha256(head)
    files.make_directory(directory, place)
    done = 0
    for target, length in (("public.key", key_size), ("token.db", database_size)):
        target = os.path.join(directory, target)
        files.create(target, b"", place)
        with open(target, "wb") as out:
            left = length
            while left:
                data = file.read(min(_PART, left))
                if not data:
                    raise DeviceError(f"{path} is incomplete")
                digest.update(data)
                out.write(data)
                left -= len(data)
                done += len(data)
                step(done, key_size + database_size)
            out.flush()
            os.fsync(out.fileno())
    if file.read(32) != digest.digest():
        raise DeviceError(f"{path} is damaged: its checksum does not fit")
    return serial, made


def _verify(directory: str, serial: str, place: StoreSettings) -> None:
    """Open what was unpacked as its token would and verify every record that needs no PIN."""
    name = serial.encode()
    public = PublicKeys(bytes(INCARNATION_SIZE), read_public_key(os.path.join(directory, "public.key")))
    db = schema.connect(os.path.join(directory, "token.db"), "rw")
    try:
        if schema.version(db) < schema.VERSION:
            db.execute("BEGIN IMMEDIATE")
            schema.chain_entries(db, public.chain_key)
            db.execute("COMMIT")
        records = Records(db, name, public.mac_key)
        for (record,) in db.execute("SELECT name FROM meta").fetchall():
            records.need(record)
        public.incarnation = records.need("incarnation")
        for _ in Chain(db, public.chain_key).all():
            pass
        readable = "SELECT oid, private, version, attributes, secrets FROM object WHERE private = 0"
        for row in map(Row._make, db.execute(readable)):
            open_secrets(name, public, None, row, open_attributes(name, public, None, row))
        db.execute("PRAGMA journal_mode=WAL")
        number, _ = records.counter()
    finally:
        db.close()
        public.wipe()
    files.create(os.path.join(directory, "generation"), fresh(number), place)
