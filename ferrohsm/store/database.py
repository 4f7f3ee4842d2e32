"""Connections to a token's file: a few idle ones, one writer at a time, a commit that others see.

SQLite keeps what it has locked in the process's memory. A child of `fork` that opened the same file would
take its parent's locks for its own, and the parent, closing, would unlink the log under it. So no connection
is open at a fork: idle ones are closed before it, and calls that use one are waited for. A child that was
made past that cannot be repaired: it is told so, and leaves its parent's connections alone.
"""

from __future__ import annotations

import os
import struct
import time
from _operator import _compare_digest as compare_digest
from _thread import allocate_lock
from _weakref import ref

from ferrohsm.errors import DeviceError, DeviceRemoved, HsmError, TokenWriteProtected
from ferrohsm.settings import StoreSettings
from ferrohsm.store import files, remembered, schema
from ferrohsm.store.generation import Generation
from ferrohsm.store.sealing import PublicKeys, mac
from ferrohsm.store.sqlite import sqlite3
from ferrohsm.typed import TYPE_CHECKING, Callable, Iterator, TypeVar, contextmanager

if TYPE_CHECKING:
    from ferrohsm.store.finding import Finding

T = TypeVar("T")

IDLE = 4
"""How many connections are kept for the next call."""
IDLE_OF_ALL = 64
"""How many are kept of all tokens together: a host may have few descriptors and many tokens."""
NAMES = frozenset(("counter", "incarnation", "label", "so-pin", "so-tries", "user-pin", "user-tries"))
"""The records that there are; ``user-pin`` is missing until the user has a PIN."""
_COUNTER = struct.Struct("<QQ")
_DAMAGED = "the token's own records are damaged or were changed: restore a backup"

# What a parent had open: kept for ever, so that the child's interpreter never closes it.
_abandoned: list[object] = []
# The files of which SQLite believes, wrongly, that this process has them open.
_tainted: set[tuple[int, int] | None] = set()
# A plain dictionary is listed in one step, whatever other threads do; a WeakSet is not.
_databases: dict[int, ref[Database]] = {}
_fork_is_near = False


class Records:
    """The token's own records (table ``meta``), each with a MAC, within one transaction."""

    __slots__ = ("_db", "_key", "_serial")

    def __init__(self, db: sqlite3.Connection, serial: bytes, key: bytes) -> None:
        self._db = db
        self._serial = serial
        self._key = key

    def get(self, name: str) -> bytes | None:
        """Return a record, None when there is none; raises ``DeviceError`` when it was touched."""
        row = self._db.execute("SELECT value, mac FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None:
            if any(other not in NAMES for (other,) in self._db.execute("SELECT name FROM meta")):
                raise DeviceError(_DAMAGED)  # it may be the one that is missing
            return None
        value, code = row
        if not (isinstance(value, bytes) and isinstance(code, bytes)):
            raise DeviceError(_DAMAGED)
        if not compare_digest(self._mac(name, value), code):
            raise DeviceError(_DAMAGED)
        return value

    def need(self, name: str) -> bytes:
        """Return a record that every token has."""
        value = self.get(name)
        if value is None:
            raise DeviceError(_DAMAGED)
        return value

    def put(self, name: str, value: bytes) -> None:
        """Write a record."""
        self._db.execute(
            "INSERT INTO meta (name, value, mac) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value, mac = excluded.mac",
            (name, value, self._mac(name, value)),
        )

    def drop(self, name: str) -> None:
        """Remove a record if it is there."""
        self._db.execute("DELETE FROM meta WHERE name = ?", (name,))

    def counter(self) -> tuple[int, int]:
        """Return the number of the last commit and the last object identity given out."""
        number, oid = _COUNTER.unpack(self._counters()[: _COUNTER.size])
        return number, oid

    def logs(self) -> bytes:
        """Return what the token remembers of its audit (`ferrohsm.store.remembered`)."""
        return self._counters()[_COUNTER.size :]

    def _counters(self) -> bytes:
        value = self.need("counter")
        if len(value) < _COUNTER.size or not remembered.sound(value[_COUNTER.size :]):
            raise DeviceError(_DAMAGED)
        return value

    def count(self, number: int, oid: int, logs: bytes = b"") -> None:
        """Write the counter, and what is remembered of the audit."""
        self.put("counter", _COUNTER.pack(number, oid) + logs)

    def _mac(self, name: str, value: bytes) -> bytes:
        return mac(self._key, b"meta\0" + self._serial + name.encode() + b"\0" + value)


class Transaction:
    """A write in progress: `number` is its commit's, `oid` the last identity given out.

    `logs` is what the token remembers of its audit. It is written with either.
    """

    __slots__ = ("_before", "db", "logs", "number", "oid", "records")

    def __init__(self, db: sqlite3.Connection, records: Records) -> None:
        self.db = db
        self.records = records
        number, self.oid = records.counter()
        self.logs = records.logs()
        self._before = number, self.oid, self.logs
        self.number = number + 1

    def count(self, *, announced: bool) -> None:
        """Write the counter of a commit; one that is not `announced` has no number and no new identities."""
        if announced:
            self.records.count(self.number, self.oid, self.logs)
        elif self.logs != self._before[2]:
            self.records.count(*self._before[:2], self.logs)


class Database:
    """The file of one token, shared by the threads of this process."""

    __slots__ = (
        "__weakref__",
        "_directory",
        "_forking",
        "_generation",
        "_idle",
        "_identity",
        "_lock",
        "_mode",
        "_pid",
        "_place",
        "_public",
        "_rest",
        "_serial",
        "_used",
        "_writer",
        "finding",
        "path",
    )

    def __init__(self, directory: str, serial: bytes, public: PublicKeys, place: StoreSettings) -> None:
        self.path = os.path.join(directory, "token.db")
        self._directory = directory
        self._serial = serial
        self._public = public
        self._place = place
        self._lock = allocate_lock()
        self._writer = allocate_lock()
        self._idle: list[sqlite3.Connection] = []
        self._used = 0
        self._forking = _fork_is_near
        self._pid = os.getpid()
        self._rest: tuple[int, int, int] | None = None
        self._identity = files.identity(self.path)
        self._mode = ""
        self._generation = Generation(os.path.join(directory, "generation"), place)
        self._generation.open()
        # What finds without Python, once it has the file open.
        self.finding: Finding | None = None
        number = id(self)
        _databases[number] = ref(self, lambda _: _databases.pop(number, None))

    @property
    def write_protected(self) -> bool:
        """Whether the medium, or our rights to it, forbid to write."""
        if self._mode in ("ro", "immutable"):
            return True
        return not (files.writable(self._directory) and files.writable(self.path))

    # The generation

    def generation(self) -> int:
        """Return the number of the last commit of any process."""
        self._own()
        if not self._generation.current():
            self._generation.open()
        number = self._generation.settled()
        if number is not None:
            return number
        with self.read() as (_, records):
            return records.counter()[0]

    def current(self) -> bool:
        """Say whether the file that was opened is still the token's: it may have been deleted or replaced."""
        return files.identity(self.path) == self._identity

    def look(self) -> None:
        """Map the generation's file anew if it is another by now."""
        if not self._generation.current():
            self._generation.open()

    def settled(self) -> int | None:
        """Return the number of the last commit if shared memory tells it, None if the file must be asked."""
        return self._generation.settled()

    # Transactions

    @contextmanager
    def read(self) -> Iterator[tuple[sqlite3.Connection, Records]]:
        """Give a connection that sees one commit, whole."""
        db = self._take()
        keep = True
        try:
            self._until_free(lambda: _begin_read(db))
            try:
                yield db, Records(db, self._serial, self._public.mac_key)
            finally:
                _rollback(db)
        except sqlite3.Error as error:
            keep = False
            raise schema.refusal(error, self.path) from None
        finally:
            self._give(db, keep)

    @contextmanager
    def write(
        self, *, lasting: bool = True, announced: bool = True, patience: float | None = None
    ) -> Iterator[Transaction]:
        """Give the only write transaction; it is on disk when the block has ended without an exception.

        Unless it is `lasting`, a power failure may take it back, as a whole; a killed process cannot.
        Unless it is `announced`, the generation stays: the block must leave all objects as they are.
        `patience` is how long another writer is waited for, in seconds; None for as long as configured.
        """
        if self.write_protected:
            raise TokenWriteProtected("the token's medium cannot be written")
        if patience is None:
            patience = self._place.busy_timeout
        if not self._writer.acquire(timeout=max(patience, 0.001)):
            raise DeviceError("another thread has kept the token busy for too long")
        try:
            db = self._take()
            keep = False
            try:
                if not lasting:
                    db.execute("PRAGMA synchronous=NORMAL")
                self._until_free(lambda: db.execute("BEGIN IMMEDIATE"), patience)
                if not self.current():
                    # Looked at under the lock: nobody is told "done" about a file that is no longer there.
                    raise DeviceRemoved("the token was deleted or replaced")
                transaction = Transaction(db, Records(db, self._serial, self._public.mac_key))
                transaction.number = self._generation.after(transaction.number)
                yield transaction
                transaction.count(announced=announced)
                if announced:
                    self._generation.begin(transaction.number)
                self._retry(db, "COMMIT")
                if announced:
                    self._generation.done(transaction.number)
                if not lasting:
                    db.execute("PRAGMA synchronous=FULL")
                keep = True
            except sqlite3.Error as error:
                raise schema.refusal(error, self.path) from None
            except OSError as error:
                raise files.refusal(error, "cannot write the token") from None
            except HsmError:
                keep = lasting
                raise
            finally:
                _rollback(db)
                self._give(db, keep)
        finally:
            self._writer.release()

    def _retry(self, db: sqlite3.Connection, statement: str) -> None:
        """Execute a statement that may find another connection in the way."""
        self._until_free(lambda: db.execute(statement))

    def _until_free(self, work: Callable[[], T], patience: float | None = None) -> T:
        """Do what may find another connection in the way again, up to `patience` or the configured time."""
        deadline = time.monotonic() + (self._place.busy_timeout if patience is None else patience)
        pause = 0.0005
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                if not schema.busy(error) or time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    # Connections

    def borrow(self) -> sqlite3.Connection | None:
        """Return an idle connection for single statements, None when there is none; `give_back` ends it."""
        self._own()
        with self._lock:
            if self._forking or not self._idle or self._rest is not None:
                return None
            self._used += 1
            return self._idle.pop()

    def give_back(self, db: sqlite3.Connection, *, sound: bool) -> None:
        """Keep what was borrowed for the next call if it is `sound`, else close it."""
        self._give(db, sound)

    def lend(self, open_elsewhere: Callable[[str], bool]) -> bool:
        """Have the file opened by a connection that is not Python's, and say whether it was.

        It is closed with the idle ones, by `finding`. On a medium without locks nobody else may open it.
        """
        self._own()
        with self._lock:
            if self._forking or self._pid == -1 or self._mode not in ("rw", "ro"):
                return False
            self._used += 1  # a fork waits until it is open, and closes it
        opened = False
        try:
            usable = self._identity not in _tainted and self.current()
            opened = usable and open_elsewhere(schema.uri(self.path, self._mode))
        finally:
            with self._lock:
                self._used -= 1
                closed = self._pid == -1
            if closed and self.finding is not None:
                self.finding.close()  # what closed this file meanwhile found nothing to close yet
        return opened and not closed

    def open(self) -> None:
        """Open the file once, migrate it if it is older, and see that it is ours."""
        db = self._take()
        keep = False
        try:
            if self._until_free(lambda: schema.version(db)) < schema.VERSION:
                self._migrate(db)
            keep = True
        except sqlite3.Error as error:
            raise schema.refusal(error, self.path) from None
        finally:
            self._give(db, keep)

    def close(self) -> None:
        """Close what is idle; connections in use are closed when they are given back."""
        if self._pid != os.getpid():
            self._own()
            return
        with self._lock:
            self._pid = -1
        self._close_idle()
        self._generation.close()

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
        if self.finding is not None:
            self.finding.close()

    def generation_words(self) -> memoryview | None:
        """Return the generation's words, see `ferrohsm.adapters.SharedGeneration`."""
        return self._generation.words()

    def copy(self, to: sqlite3.Connection, step: Callable[[int, int], None]) -> None:
        """Copy the file, page by page and as of one commit, while it is in use."""
        # Within a read transaction, or every commit of another process would make it start again.
        with self.read() as (db, _):
            db.backup(to, pages=64, progress=lambda _, left, total: step(total - left, total))

    def _migrate(self, db: sqlite3.Connection) -> None:
        if self.write_protected:
            raise TokenWriteProtected("the token has an older form: open it once where it can be written")
        self._retry(db, "BEGIN IMMEDIATE")
        try:
            if schema.version(db) < schema.VERSION:  # another process may have been faster
                schema.chain_entries(db, self._public.chain_key)
            self._retry(db, "COMMIT")
        finally:
            _rollback(db)

    def _own(self) -> None:
        """Notice a fork that went past the handlers: nothing of the parent's is used or closed."""
        if self._pid not in (os.getpid(), -1):
            self._in_child()

    def _take(self) -> sqlite3.Connection:
        self._own()
        if self._rest is not None and self._rest != self._at_rest():
            # What looked like a read-only medium is another's writable one: from now on with locks.
            self._mode, self._rest = "", None
            self._close_idle()
        while True:
            with self._lock:
                if self._pid == -1:
                    raise DeviceRemoved("the token is closed")
                if not self._forking:
                    self._used += 1
                    idle = self._idle.pop() if self._idle else None
                    break
            time.sleep(0.0005)  # a fork is about to happen: nothing may be open then
        if idle is not None and self.current():
            return idle
        try:
            if idle is not None:
                idle.close()
            return self._connect()
        except BaseException:
            with self._lock:
                self._used -= 1
            raise

    def _give(self, db: sqlite3.Connection, keep: bool) -> None:
        if len(_databases) > IDLE_OF_ALL // IDLE:
            _make_room(self)
        with self._lock:
            if keep and self._pid == os.getpid() and not self._forking and len(self._idle) < IDLE:
                self._idle.append(db)
                self._used -= 1
                return
        try:
            db.close()
        finally:
            # Only now: a fork waits until nothing is open, and closing takes its time.
            with self._lock:
                self._used -= 1

    def _connect(self) -> sqlite3.Connection:
        identity = files.identity(self.path)
        if identity is None or identity != self._identity:
            raise DeviceRemoved("the token was deleted or replaced")
        if identity in _tainted:
            raise DeviceError("the process was forked while it used the token: this needs a new program")
        if not self._mode:
            self._mode = self._ways()
        try:
            # The last connection to be closed, here or elsewhere, keeps the file for itself meanwhile.
            return self._until_free(lambda: schema.connect(self.path, self._mode))
        except sqlite3.Error as error:
            raise schema.refusal(error, self.path) from None

    def _ways(self) -> str:
        """Return how the file can be opened where it lies."""
        if files.writable(self._directory):
            return "rw" if files.writable(self.path) else "ro"
        if os.path.exists(self.path + "-shm"):
            return "ro"
        # SQLite can neither lock nor share memory here. Without a log the file is whole, and it is read as
        # it is for as long as it stays so.
        rest = self._at_rest()
        if rest[2]:
            raise DeviceError(
                "the token was in use when its medium became read-only: open it once where it can be written"
            )
        self._rest = rest
        return "immutable"

    def _at_rest(self) -> tuple[int, int, int]:
        try:
            about = os.stat(self.path)
        except OSError as error:
            raise files.refusal(error, "cannot read the token") from None
        try:
            logged = os.stat(self.path + "-wal").st_size
        except OSError:
            logged = 0
        return about.st_mtime_ns, about.st_size, logged

    # Forks

    def _before_fork(self) -> None:
        """Close what is idle; a call that is under way closes its own when it ends, which is waited for."""
        with self._lock:
            self._forking = True
        deadline = time.monotonic() + self._place.busy_timeout + 2.0
        while self._used and time.monotonic() < deadline:
            time.sleep(0.0005)
        self._close_idle()

    def _in_parent(self) -> None:
        self._forking = False

    def _in_child(self) -> None:
        if self._used or self._idle or (self.finding is not None and self.finding.is_open):
            _tainted.add(self._identity)
        _abandoned.append((self._idle, self._generation))
        if self.finding is not None:
            self.finding.abandon()
            self.finding = None
        self._lock = allocate_lock()
        self._writer = allocate_lock()
        self._idle = []
        self._used = 0
        self._forking = False
        if self._pid != -1:
            self._pid = os.getpid()
            self._generation = Generation(os.path.join(self._directory, "generation"), self._place)
            self._generation.open()


def _live() -> list[Database]:
    found = [reference() for reference in list(_databases.values())]
    return [database for database in found if database is not None]


def _make_room(used: Database) -> None:
    """Close what is kept of other tokens while it is too much, the longest known first."""
    databases = _live()
    count = sum(len(database._idle) for database in databases)
    for database in databases:
        if count < IDLE_OF_ALL:
            break
        if database is not used:
            count -= len(database._idle)
            database._close_idle()


def _before_fork() -> None:
    global _fork_is_near
    _fork_is_near = True
    for database in _live():
        database._before_fork()


def _after_fork(database_method: Callable[[Database], None]) -> None:
    global _fork_is_near
    _fork_is_near = False
    for database in _live():
        database_method(database)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(Database._in_parent),
        after_in_child=lambda: _after_fork(Database._in_child),
    )


def _begin_read(db: sqlite3.Connection) -> None:
    """Begin a transaction that sees one commit from here on.

    A deferred BEGIN takes no lock; the first look at the file does.
    """
    try:
        db.execute("BEGIN")
        db.execute("SELECT name FROM meta LIMIT 1").fetchone()
    except BaseException:
        _rollback(db)
        raise


def _rollback(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        try:
            db.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # the connection is closed, not kept, after an error of SQLite's
