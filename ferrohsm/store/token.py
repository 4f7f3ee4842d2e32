"""A token on disk: the `HardwareKeyStore` of the software adapter.

A directory holds ``token.db`` (`ferrohsm.store.schema`), ``public.key`` (the key that needs no PIN) and
``generation`` (`ferrohsm.store.generation`). Before it is initialized a token is only a serial number.
"""

from __future__ import annotations

import heapq
import os
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Template, TokenStatus
from ferrohsm.errors import (
    DeviceError,
    DeviceRemoved,
    ObjectHandleInvalid,
    PinIncorrect,
    PinLocked,
    TokenNotPresent,
    UserNotLoggedIn,
    UserPinNotInitialized,
)
from ferrohsm.store import files, pins
from ferrohsm.store.database import Database, Records, Transaction
from ferrohsm.store.encoding import decode, same
from ferrohsm.store.index import Chain, intersect, items, keys_of
from ferrohsm.store.records import Row, open_attributes, open_secrets, pack
from ferrohsm.store.sealing import KEY_SIZE, PrivateKeys, PublicKeys, wipe

if TYPE_CHECKING:
    import sqlite3

    from ferrohsm.config import Config

INCARNATION_SIZE = 16
_KEY_MAGIC = b"FerroKey"
_PIN = {ck.CKU_SO: "so-pin", ck.CKU_USER: "user-pin"}
_TRIES = {ck.CKU_SO: "so-tries", ck.CKU_USER: "user-tries"}
_ROW = "SELECT oid, private, version, attributes, secrets FROM object WHERE oid = ?"


def public_key_file(master: bytes | bytearray) -> bytearray:
    """Return the content of ``public.key``."""
    return bytearray(_KEY_MAGIC) + master


def read_public_key(path: str) -> bytearray:
    """Return the public key that a file holds."""
    try:
        data = files.load(path, len(_KEY_MAGIC) + KEY_SIZE)
    except OSError as error:
        raise files.refusal(error, f"cannot read {path}") from None
    if len(data) != len(_KEY_MAGIC) + KEY_SIZE or not data.startswith(_KEY_MAGIC):
        raise DeviceError(f"{path} is damaged: restore a backup")
    master = data[len(_KEY_MAGIC) :]
    wipe(data)
    return master


class TokenStore:
    """One token; `claim` makes its directory when it is initialized for the first time."""

    def __init__(
        self, path: str, serial: str, config: Config, claim: Callable[[TokenStore, bytearray, str], None]
    ) -> None:
        self.path = path
        self.serial = serial
        self._name = serial.encode().ljust(16, b"\0")
        self._config = config
        self._claim = claim
        self._lock = allocate_lock()
        self._database: Database | None = None
        self._public: PublicKeys | None = None
        self._private: PrivateKeys | None = None
        # The private key itself, only while the security officer is logged in: C_InitPIN wraps it.
        self._master: bytearray | None = None
        self._unprotected_tries: dict[int, pins.Tries] = {}
        # Moves when the file becomes another, whose generations may have the same numbers.
        self._epoch = 0
        # The commit at which the incarnation was last taken over.
        self._followed = 0
        # Whether the last listing showed this token as the free one.
        self.listed_free = False

    # Opening

    def exists(self) -> bool:
        """Say whether the token has been made."""
        return self._database is not None or os.path.exists(os.path.join(self.path, "token.db"))

    def _open(self) -> tuple[Database, PublicKeys]:
        database, public = self._database, self._public
        if database is not None and public is not None and database.current():
            return database, public
        with self._lock:
            if self._database is not None and not self._database.current():
                # Deleted, or replaced by a backup. Its last calls end with an error of their own.
                self._database.close()
                self._database = self._public = None
                self._epoch += 1
                self._followed = 0
            if self._database is None or self._public is None:
                if not os.path.isdir(self.path):
                    raise TokenNotPresent(
                        "there is no token yet" if self.listed_free else "the token was deleted"
                    )
                key = read_public_key(os.path.join(self.path, "public.key"))
                public = PublicKeys(bytes(INCARNATION_SIZE), key)
                database = Database(self.path, self._name, public, self._config.store)
                try:
                    database.open()
                    with database.read() as (_, records):
                        public.incarnation = records.need("incarnation")
                except BaseException:
                    database.close()
                    public.wipe()
                    raise
                self._database, self._public = database, public
            return self._database, self._public

    def _same_incarnation(self, records: Records, public: PublicKeys) -> bool:
        """Follow a re-initialization by another process: what was remembered is gone."""
        incarnation = records.need("incarnation")
        if incarnation == public.incarnation:
            return True
        number, _ = records.counter()
        with self._lock:
            # A view that is older than what another thread has seen must not turn it back.
            if number > self._followed:
                self._followed = number
                public.incarnation = incarnation
                self._forget_login()
        return False

    # The token

    async def status(self) -> TokenStatus:
        """Return the token's state, as it is on disk now."""
        status = TokenStatus()
        status.serial = self.serial
        tries = self._config.pin.tries
        status.tries_allowed = tries
        status.so_tries_left = status.user_tries_left = tries
        status.so_locked = status.user_locked = False
        status.user_pin_set = status.initialized = False
        status.label = ""
        if not self.exists():
            status.write_protected = not _writable(os.path.dirname(self.path))
            return status
        database, public = self._open()
        with database.read() as (_, records):
            self._same_incarnation(records, public)
            status.initialized = True
            status.label = records.need("label").decode()
            status.user_pin_set = records.get(_PIN[ck.CKU_USER]) is not None
            so = pins.Tries.of(records.need(_TRIES[ck.CKU_SO])).failures
            user = pins.Tries.of(records.need(_TRIES[ck.CKU_USER])).failures
        status.so_tries_left, status.so_locked = max(tries - so, 0), so >= tries
        status.user_tries_left, status.user_locked = max(tries - user, 0), user >= tries
        status.write_protected = database.write_protected
        return status

    async def initialize(self, so_pin: bytearray, label: str) -> None:
        """Make the token, or destroy what is on it when `so_pin` is right.

        Raises ``DeviceRemoved`` when another process has made it since the slot was listed as free.
        """
        if not self.exists():
            self._claim(self, so_pin, label)
            self.listed_free = False
            return
        if self.listed_free:
            raise DeviceRemoved("another process has just made this token")
        wipe(await self._tried(ck.CKU_SO, so_pin))
        database, public = self._open()
        self._forget_login()
        with database.write() as transaction:
            for statement in ("DELETE FROM object", "DELETE FROM entry", "DELETE FROM meta"):
                transaction.db.execute(statement)
            public.incarnation = os.urandom(INCARNATION_SIZE)
            write_first(transaction.db, transaction.records, self._name, public, so_pin, label, self._config)
            transaction.records.count(transaction.number, transaction.oid)
            self._followed = transaction.number
        self._unprotected_tries.clear()

    async def rename(self, label: str) -> None:
        """Give the token another label; the security officer is logged in."""
        if self._master is None:
            raise UserNotLoggedIn("the SO must be logged in")
        with self._writing() as (transaction, _, _):
            transaction.records.put("label", label.encode())

    # PINs

    async def login(self, user: int, pin: bytearray) -> None:
        """Check a PIN and hold the keys that it opens, until `logout`."""
        master = await self._tried(user, pin)
        _, public = self._open()
        try:
            keys = PrivateKeys(public.incarnation, master) if user == ck.CKU_USER else None
            self._forget_login()
            if keys is None:
                self._master = bytearray(master)
            self._private = keys
        finally:
            wipe(master)

    def logged_in(self) -> bool:
        """Say whether a login's keys are held; not any more once the token was made anew elsewhere."""
        return self._private is not None or self._master is not None

    async def check_pin(self, user: int, pin: bytearray) -> None:
        """Check a PIN, with all that a wrong one brings."""
        wipe(await self._tried(user, pin))

    async def logout(self) -> None:
        """Wipe the keys of the login."""
        self._forget_login()

    async def init_pin(self, pin: bytearray) -> None:
        """Set the user's PIN and unlock it; the security officer is logged in."""
        if self._master is None:
            raise UserNotLoggedIn("the SO must be logged in")
        master = bytearray(self._master)
        try:
            with self._writing() as (transaction, public, _):
                self._put_pin(transaction.records, ck.CKU_USER, master, pin, public)
        finally:
            wipe(master)

    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None:
        """Replace a PIN by another; what is sealed stays as it is."""
        master = await self._tried(user, old)
        try:
            with self._writing() as (transaction, public, _):
                self._put_pin(transaction.records, user, master, new, public)
        finally:
            wipe(master)

    def _put_pin(
        self, records: Records, user: int, master: bytearray, pin: bytearray, public: PublicKeys
    ) -> None:
        records.put(_PIN[user], pins.wrap(master, pin, user, self._name, public, self._config.kdf))
        records.put(_TRIES[user], pins.FRESH)

    async def _tried(self, user: int, pin: bytearray) -> bytearray:
        """Return the private key if `pin` is right, after the delay that earlier failures brought."""
        while True:
            database, public = self._open()
            if database.write_protected:
                found = self._try_uncounted(database, public, user, pin)
            else:
                # One try at a time on a token, so that right PINs at the same moment do not count as
                # failures of each other, and guesses at the same moment do not go uncounted.
                with files.FileLock(os.path.join(self.path, "login"), self._config.store, self._patience()):
                    found = self._try(database, public, user, pin)
            if isinstance(found, bytearray):
                return found
            time.sleep(min(found, 1.0))

    def _patience(self) -> float:
        return self._config.store.busy_timeout + 5.0

    def _try(self, database: Database, public: PublicKeys, user: int, pin: bytearray) -> bytearray | float:
        """Try a PIN, counted on disk before; return the private key, or the seconds to wait first."""
        with database.read() as (_, records):
            self._same_incarnation(records, public)
            _, tries = self._due(records, user)
        if wait := tries.wait(self._config.pin):
            return wait
        with database.write() as transaction:
            self._same_incarnation(transaction.records, public)
            record, tries = self._due(transaction.records, user)
            tries = tries.another()
            transaction.records.put(_TRIES[user], tries.pack())
        master = self._unwrapped(record, pin, user, public, tries)
        try:
            self._succeeded(user, record, master, pin)
        except BaseException:
            wipe(master)
            raise
        return master

    def _try_uncounted(
        self, database: Database, public: PublicKeys, user: int, pin: bytearray
    ) -> bytearray | float:
        """Try a PIN where nothing can be written: this process counts for itself."""
        with database.read() as (_, records):
            self._same_incarnation(records, public)
            record, stored = self._due(records, user)
        tries = max(stored, self._unprotected_tries.get(user, stored))
        if tries.failures >= self._config.pin.tries:
            raise PinLocked()
        if wait := tries.wait(self._config.pin):
            return wait
        tries = self._unprotected_tries[user] = tries.another()
        master = self._unwrapped(record, pin, user, public, tries)
        self._unprotected_tries.pop(user, None)
        return master

    def _unwrapped(
        self, record: bytes, pin: bytearray, user: int, public: PublicKeys, tries: pins.Tries
    ) -> bytearray:
        try:
            return pins.unwrap(record, pin, user, self._name, public)
        except PinIncorrect:
            if tries.failures >= self._config.pin.tries:
                raise PinLocked("that was the last try") from None
            raise

    def _due(self, records: Records, user: int) -> tuple[bytes, pins.Tries]:
        record = records.get(_PIN[user])
        if record is None:
            raise UserPinNotInitialized()
        tries = pins.Tries.of(records.need(_TRIES[user]))
        if tries.failures >= self._config.pin.tries:
            raise PinLocked()
        return record, tries

    def _succeeded(self, user: int, record: bytes, master: bytearray, pin: bytearray) -> None:
        """Take the count back, and wrap anew where the configuration asks for more than the record has."""
        # Without an fsync of its own: lost with the power, it leaves a count that is too high by one.
        with self._writing(lasting=False) as (transaction, public, _):
            if transaction.records.get(_PIN[user]) != record:
                return  # changed meanwhile, with a count of its own
            if pins.outdated(record, self._config.kdf):
                self._put_pin(transaction.records, user, master, pin, public)
            else:
                transaction.records.put(_TRIES[user], pins.FRESH)

    def _forget_login(self) -> None:
        keys, self._private = self._private, None
        master, self._master = self._master, None
        if keys is not None:
            keys.close()
        if master is not None:
            wipe(master)

    # Objects

    def generation(self) -> int:
        """Return a number that moves with every commit of any process; 0 before there is a token."""
        if not self.exists():
            return 0
        database, _ = self._open()
        return (self._epoch << 48) + database.generation()

    def generation_words(self) -> memoryview | None:
        """Return the generation's words (`ferrohsm.adapters.SharedGeneration`), None while it is not open."""
        database = self._database
        return None if database is None else database.generation_words()

    async def create(self, attributes: Attributes) -> int:
        """Keep an object; it is on disk when this returns."""
        with self._writing() as (transaction, public, private):
            return self._create(transaction, public, private, attributes)

    async def create_pair(self, first: Attributes, second: Attributes) -> tuple[int, int]:
        """Keep two objects in one commit."""
        with self._writing() as (transaction, public, private):
            return (
                self._create(transaction, public, private, first),
                self._create(transaction, public, private, second),
            )

    def _create(
        self,
        transaction: Transaction,
        public: PublicKeys,
        private: PrivateKeys | None,
        attributes: Attributes,
    ) -> int:
        transaction.oid += 1
        oid = transaction.oid
        row, plain = pack(self._name, public, private, oid, transaction.number, attributes)
        transaction.db.execute("INSERT INTO object VALUES (?, ?, ?, ?, ?)", row)
        Chain(transaction.db, public.chain_key).add(self._entries(row, plain, public, private))
        return oid

    async def read(self, oid: int) -> Attributes:
        """Return an object's attributes, secrets in `bytearray`s."""
        with self._reading() as (db, public, private):
            return self._opened(self._row(db, oid), public, private)

    async def replace(self, oid: int, attributes: Attributes) -> None:
        """Keep other attributes under the same identity."""
        with self._writing() as (transaction, public, private):
            self._replace(transaction, public, private, self._row(transaction.db, oid), attributes)

    async def exchange(self, oid: int, before: Attributes, after: Attributes) -> bool:
        """Keep `after` if the object is as it was in `before`."""
        with self._writing() as (transaction, public, private):
            row = self._row(transaction.db, oid)
            now = self._opened(row, public, private)
            unchanged = now == before
            for value in now.values():
                if isinstance(value, bytearray):
                    wipe(value)
            if unchanged:
                self._replace(transaction, public, private, row, after)
        return unchanged

    async def delete(self, oid: int) -> None:
        """Remove an object; SQLite overwrites what it held."""
        with self._writing() as (transaction, public, private):
            row = self._row(transaction.db, oid)
            plain = decode(open_attributes(self._name, public, private, row))
            Chain(transaction.db, public.chain_key).drop(self._entries(row, plain, public, private))
            transaction.db.execute("DELETE FROM object WHERE oid = ?", (oid,))

    async def search(self, template: Template, after: int, limit: int) -> list[int]:
        """Return up to `limit` objects above `after`, ascending; private ones only after the user's login."""
        wanted = dict(template)
        found: list[int] = []
        with self._reading() as (db, public, private):
            chain = Chain(db, public.chain_key)
            streams = self._streams(chain, wanted, after, public, private)
            try:
                for oid in heapq.merge(*streams):
                    row = db.execute(_ROW, (oid,)).fetchone()
                    if row is None:
                        raise DeviceError(f"object {oid} is missing: restore a backup")
                    if self._matches(Row(*row), wanted, public, private):
                        found.append(oid)
                        if len(found) == limit:
                            break
            finally:
                for stream in streams:
                    stream.close()  # type: ignore[attr-defined]
        return found

    def _streams(
        self, chain: Chain, wanted: Attributes, after: int, public: PublicKeys, private: PrivateKeys | None
    ) -> list[Iterator[int]]:
        """Return the candidates among the public and among the private objects."""
        streams = []
        asked = wanted.get(ck.CKA_PRIVATE)
        sources: list[tuple[bool, PublicKeys | PrivateKeys | None]] = [(False, public), (True, private)]
        for flag, source in sources:
            if source is not None and asked in (None, bytes([flag])):
                tags = [source.tag(item) for item in items(wanted, flag)]
                if len(tags) > 1:
                    tags.pop()  # what the last one tells, "private or not", the key of the others tells too
                streams.append(intersect(chain, tags, after))
        return streams

    def _matches(self, row: Row, wanted: Attributes, public: PublicKeys, private: PrivateKeys | None) -> bool:
        encoded = open_attributes(self._name, public, private, row)
        plain = decode(encoded)
        left = {}
        for number, value in wanted.items():
            if number not in plain:
                left[number] = value
            elif not same(plain[number], value):
                return False
        if not left:
            return True
        if not row.secrets or _hides(plain):
            return False
        secrets = open_secrets(self._name, public, private, row, encoded)
        try:
            return all(number in secrets and same(secrets[number], value) for number, value in left.items())
        finally:
            for value in secrets.values():
                if isinstance(value, bytearray):
                    wipe(value)

    def _replace(
        self,
        transaction: Transaction,
        public: PublicKeys,
        private: PrivateKeys | None,
        row: Row,
        attributes: Attributes,
    ) -> None:
        old = decode(open_attributes(self._name, public, private, row))
        before = self._entries(row, old, public, private)
        new, plain = pack(self._name, public, private, row.oid, transaction.number, attributes)
        after = self._entries(new, plain, public, private)
        chain = Chain(transaction.db, public.chain_key)
        chain.drop(before - after)
        chain.add(after - before)
        transaction.db.execute(
            "UPDATE object SET private = ?, version = ?, attributes = ?, secrets = ? WHERE oid = ?",
            (new.private, new.version, new.attributes, new.secrets, new.oid),
        )

    def _entries(
        self, row: Row, plain: Attributes, public: PublicKeys, private: PrivateKeys | None
    ) -> set[bytes]:
        source: PublicKeys | PrivateKeys | None = private if row.private else public
        if source is None:
            raise UserNotLoggedIn("a private object needs the user's login")
        return keys_of(source, row.oid, plain, bool(row.private))

    def _opened(self, row: Row, public: PublicKeys, private: PrivateKeys | None) -> Attributes:
        encoded = open_attributes(self._name, public, private, row)
        secrets = open_secrets(self._name, public, private, row, encoded)
        return {**decode(encoded), **secrets}

    def _row(self, db: sqlite3.Connection, oid: int) -> Row:
        row = db.execute(_ROW, (oid,)).fetchone()
        if row is None:
            raise ObjectHandleInvalid()
        return Row(*row)

    @contextmanager
    def _keys(self) -> Iterator[PrivateKeys | None]:
        """Hold the keys of the user's login, if there is one, so that a logout waits for this call."""
        keys = self._private
        if keys is None:
            yield None
            return
        with keys:
            yield keys

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, PublicKeys, PrivateKeys | None]]:
        database, public = self._open()
        with self._keys() as private, database.read() as (db, records):
            self._same_incarnation(records, public)
            incarnation = public.incarnation
            try:
                yield db, public, _of_this(private, public)
            except DeviceError:
                if incarnation == public.incarnation:
                    raise
                raise ObjectHandleInvalid("the token was initialized anew") from None

    @contextmanager
    def _writing(
        self, *, lasting: bool = True
    ) -> Iterator[tuple[Transaction, PublicKeys, PrivateKeys | None]]:
        database, public = self._open()
        with self._keys() as private, database.write(lasting=lasting) as transaction:
            if not self._same_incarnation(transaction.records, public):
                raise ObjectHandleInvalid("another process has initialized the token anew")
            yield transaction, public, _of_this(private, public)

    # The end

    def mark_gone(self) -> None:
        """Tell other processes that the token is deleted."""
        self._open()[0].mark_gone()

    def database(self) -> tuple[Database, PublicKeys]:
        """Return what a backup copies."""
        return self._open()

    async def close(self) -> None:
        """Log out, close the file, wipe the keys."""
        self._forget_login()
        with self._lock:
            database, self._database = self._database, None
            public, self._public = self._public, None
        if database is not None:
            database.close()
        if public is not None:
            public.wipe()


def write_first(
    db: sqlite3.Connection,
    records: Records,
    serial: bytes,
    public: PublicKeys,
    so_pin: bytearray,
    label: str,
    config: Config,
) -> None:
    """Write the records of a token without objects; its counter is the caller's to write."""
    master = bytearray(os.urandom(KEY_SIZE))
    try:
        records.put("incarnation", public.incarnation)
        records.put("label", label.encode())
        records.put(_PIN[ck.CKU_SO], pins.wrap(master, so_pin, ck.CKU_SO, serial, public, config.kdf))
        for tries in _TRIES.values():
            records.put(tries, pins.FRESH)
        Chain(db, public.chain_key).start()
    finally:
        wipe(master)


def _of_this(private: PrivateKeys | None, public: PublicKeys) -> PrivateKeys | None:
    """Return the login's keys unless the token was made anew since: nothing is sealed with dead keys."""
    return private if private is not None and private.incarnation == public.incarnation else None


def _hides(plain: Attributes) -> bool:
    """Say whether an object's secrets may not be seen, and so not be found by guessing either."""
    return plain.get(ck.CKA_SENSITIVE) == b"\1" or plain.get(ck.CKA_EXTRACTABLE) == b"\0"


def _writable(path: str) -> bool:
    try:
        if hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY:
            return False
    except OSError:
        return False
    return os.access(path, os.W_OK)
