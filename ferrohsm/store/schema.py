"""The SQLite file of a token: tables, versions, settings, and what its errors mean.

Version 1 had an index without the chain of MACs (`ferrohsm.store.index`); version 2 has it.
"""

from __future__ import annotations

import os

from ferrohsm.errors import (
    DeviceError,
    DeviceMemory,
    DeviceRemoved,
    HostMemory,
    HsmError,
    TokenNotRecognized,
    TokenWriteProtected,
)
from ferrohsm.store.index import FIRST, LAST, Chain
from ferrohsm.store.sqlite import sqlite3

VERSION = 2
APPLICATION_ID = 0x4648534D  # "FHSM"

TABLES = {
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL, mac BLOB NOT NULL) WITHOUT ROWID",
    "object": (
        "CREATE TABLE object (oid INTEGER PRIMARY KEY, private INTEGER NOT NULL, version INTEGER NOT NULL, "
        "attributes BLOB NOT NULL, secrets BLOB NOT NULL)"
    ),
    "entry": "CREATE TABLE entry (key BLOB PRIMARY KEY, mac BLOB NOT NULL) WITHOUT ROWID",
}
TABLES_1 = {**TABLES, "entry": "CREATE TABLE entry (key BLOB PRIMARY KEY) WITHOUT ROWID"}

PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=ON",  # macOS: a plain fsync leaves the data in the disk's cache
    "PRAGMA secure_delete=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=4194304",
)
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def uri(path: str, mode: str) -> str:
    """Return what SQLite calls a file that is there (`mode`: ``rw``, ``ro`` or ``immutable``)."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?mode=ro&immutable=1" if mode == "immutable" else f"file:{quoted}?mode={mode}"


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Open a file that is there (`mode`: ``rw``, ``ro`` or ``immutable``); the caller waits for locks."""
    db = sqlite3.connect(uri(path, mode), uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        for pragma in PRAGMAS:
            db.execute(pragma)
    except BaseException:
        db.close()
        raise
    return db


def version(db: sqlite3.Connection) -> int:
    """Return the version of a file that is ours.

    Raises ``TokenNotRecognized`` for a newer one and ``DeviceError`` for any other file.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (number,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or number < 1:
        raise DeviceError("token.db is not a token's file, or is damaged")
    if number > VERSION:
        raise TokenNotRecognized(
            f"the token was written by a newer FerroHSM (schema {number}, this one reads up to {VERSION}): "
            "upgrade ferrohsm"
        )
    wanted = TABLES if number == VERSION else TABLES_1
    if dict(db.execute("SELECT name, sql FROM sqlite_master")) != wanted:
        raise DeviceError("the token's schema is damaged or was changed: it is not used")
    return int(number)


def create(db: sqlite3.Connection) -> None:
    """Make the tables in an empty file; the caller has a transaction open."""
    for statement in TABLES.values():
        db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={VERSION}")


def chain_entries(db: sqlite3.Connection, key: bytes) -> None:
    """Step from version 1 to 2: give every entry its MAC. The caller has a write transaction open."""
    db.execute("ALTER TABLE entry RENAME TO plain")
    db.execute(TABLES["entry"])
    chain = Chain(db, key)
    before = FIRST
    for (here,) in db.execute("SELECT key FROM plain ORDER BY key"):
        if not isinstance(here, bytes) or len(here) != len(FIRST) or not before < here < LAST:
            raise DeviceError("the token's index is damaged: it cannot be migrated")
        db.execute("INSERT INTO entry (key, mac) VALUES (?, ?)", (before, chain.mac(before, here)))
        before = here
    for here, after in ((before, LAST), (LAST, b"")):
        db.execute("INSERT INTO entry (key, mac) VALUES (?, ?)", (here, chain.mac(here, after)))
    db.execute("DROP TABLE plain")
    db.execute(f"PRAGMA user_version={VERSION}")


def busy(error: sqlite3.Error) -> bool:
    """Say whether another connection is in the way, so that trying again makes sense."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in BUSY


def refusal(error: sqlite3.Error, path: str) -> HsmError:
    """Return the refusal for what SQLite reported about the file at `path`."""
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or primary == sqlite3.SQLITE_TOOBIG:
        return DeviceMemory(f"there is no space left for the token ({name})")
    if primary == sqlite3.SQLITE_NOMEM:
        return HostMemory(f"SQLite: {name}")
    if primary == sqlite3.SQLITE_READONLY:
        return TokenWriteProtected(f"the token cannot be written ({name})")
    if primary in BUSY:
        return DeviceError(f"another process has kept the token busy for too long ({name})")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DeviceError(f"token.db is damaged: restore a backup ({name})")
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return _disk(path, name)
    return DeviceError(f"SQLite: {name}")


def _disk(path: str, name: str) -> HsmError:
    """Say what is the matter with the disk when SQLite only says that something is."""
    if not os.path.exists(path):
        return DeviceRemoved("the token was deleted")
    if hasattr(os, "statvfs"):
        try:
            about = os.statvfs(path)
        except OSError:
            return DeviceError(f"the token cannot be reached ({name})")
        if about.f_flag & os.ST_RDONLY:
            return TokenWriteProtected(f"the token's medium is read-only ({name})")
        if about.f_bavail * about.f_frsize < 1 << 18 or (about.f_files and not about.f_favail):
            return DeviceMemory(f"there is no space left for the token ({name})")
    return DeviceError(f"the token cannot be read or written ({name})")
