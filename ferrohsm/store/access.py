"""Who may use a token: opening it, its PINs, the keys of a login, and making it anew.

The objects are in `ferrohsm.store.token`.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from ferrohsm import constants as ck
from ferrohsm.adapters import TokenStatus
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
from ferrohsm.store.finding import Finding, MakeFinder
from ferrohsm.store.index import Chain
from ferrohsm.store.sealing import KEY_SIZE, PrivateKeys, PublicKeys, wipe
from ferrohsm.typed import TYPE_CHECKING, Callable, Iterator, NamedTuple, contextmanager

if TYPE_CHECKING:
    import sqlite3

    from ferrohsm.config import Config

INCARNATION_SIZE = 16
_KEY_MAGIC = b"FerroKey"
_PIN = {ck.CKU_SO: "so-pin", ck.CKU_USER: "user-pin"}
_TRIES = {ck.CKU_SO: "so-tries", ck.CKU_USER: "user-tries"}
_ATTEMPTS = 5  # how often a change is tried that another process overtakes


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


class Proof(NamedTuple):
    """What a right PIN has opened: the private key, its incarnation, and the record it stood in."""

    incarnation: bytes
    record: bytes
    master: bytearray


class Access:
    """A token that is opened and logged in to; `claim` makes its directory when there is none yet."""

    def __init__(
        self,
        path: str,
        serial: str,
        config: Config,
        claim: Callable[[Access, bytearray, str], None],
        finder: MakeFinder | None = None,
    ) -> None:
        self.path = path
        self.serial = serial
        self._name = serial.encode().ljust(16, b"\0")
        self._config = config
        self._claim = claim
        self._finding = Finding(finder, self._name)
        self._lock = allocate_lock()
        self._database: Database | None = None
        self._public: PublicKeys | None = None
        self._closed = False
        self._login_lock = allocate_lock()
        self._private: PrivateKeys | None = None
        # Incarnation and private key, only while the security officer is logged in: C_InitPIN wraps it.
        self._officer: tuple[bytes, bytearray] | None = None
        self._unprotected_tries: dict[int, pins.Tries] = {}
        # Moves when the file becomes another, whose generations may have the same numbers.
        self._epoch = 0
        # The commit at which the incarnation was last taken over.
        self._followed = 0
        # The commit as of which the incarnation is certain; -1 when it has to be looked at.
        self._certain = -1
        # Whether the last listing showed this token as the free one.
        self.listed_free = False
        # What is told at a login what the token remembers of its audit, and returns what it is to remember.
        self.witness: Callable[[bytes], bytes] | None = None

    # Opening

    def exists(self) -> bool:
        """Say whether the token has been made."""
        return self._database is not None or os.path.exists(os.path.join(self.path, "token.db"))

    def _open(self) -> tuple[Database, PublicKeys]:
        database, public = self._database, self._public
        if database is not None and public is not None and database.current():
            return database, public
        with self._lock:
            if self._closed:
                raise DeviceRemoved("the token is closed")
            if self._database is not None and not self._database.current():
                # Deleted, or replaced by a backup. Its last calls end with an error of their own.
                self._database.close()
                self._database = self._public = None
                self._epoch += 1
                self._followed = 0
                self._certain = -1
            if self._database is None or self._public is None:
                self._database, self._public = self._opened_file()
            return self._database, self._public

    def _opened_file(self) -> tuple[Database, PublicKeys]:
        if not os.path.isdir(self.path):
            raise TokenNotPresent("there is no token yet" if self.listed_free else "the token was deleted")
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
        return database, public

    def _same_incarnation(self, records: Records, public: PublicKeys) -> bool:
        """Follow a re-initialization by another process: what was remembered is gone."""
        incarnation = records.need("incarnation")
        if incarnation == public.incarnation:
            return True
        self._follow(public, incarnation, records.counter()[0])
        return False

    def _follow(self, public: PublicKeys, incarnation: bytes, number: int) -> None:
        with self._lock:
            # A view that is older than what another thread has seen must not turn it back.
            if number > self._followed:
                self._followed = number
                public.incarnation = incarnation
                self._forget_login()

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
        before = database.settled()
        with self._keys() as private, database.read() as (db, records):
            self._same_incarnation(records, public)
            incarnation = public.incarnation
            if before is not None and database.settled() == before:
                self._certain = before
            try:
                yield db, public, _of_this(private, public)
            except DeviceError:
                if incarnation == public.incarnation:
                    raise
                raise ObjectHandleInvalid("the token was initialized anew") from None

    @contextmanager
    def _writing(self) -> Iterator[tuple[Transaction, PublicKeys, PrivateKeys | None]]:
        database, public = self._open()
        with self._keys() as private, database.write() as transaction:
            if not self._same_incarnation(transaction.records, public):
                raise ObjectHandleInvalid("another process has initialized the token anew")
            yield transaction, public, _of_this(private, public)

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
            if not self.listed_free and os.path.isdir(self.path):
                raise DeviceError(f"{self.path} has no token.db: restore a backup")
            status.write_protected = not files.writable(os.path.dirname(self.path))
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
        for _ in range(_ATTEMPTS):
            proof = await self._tried(ck.CKU_SO, so_pin)
            wipe(proof.master)
            database, public = self._open()
            incarnation = os.urandom(INCARNATION_SIZE)
            record = first_pin(so_pin, self._name, incarnation, public, self._config)
            with database.write() as transaction:
                if not _stands(transaction.records, ck.CKU_SO, proof):
                    continue
                for statement in ("DELETE FROM object", "DELETE FROM entry", "DELETE FROM meta"):
                    transaction.db.execute(statement)
                write_first(transaction.db, transaction.records, public, incarnation, record, label)
            # What this process remembers changes after the commit: before, the old token is the token.
            self._follow(public, incarnation, transaction.number)
            self._unprotected_tries.clear()
            return
        raise _overtaken()

    async def rename(self, label: str) -> None:
        """Give the token another label; the security officer is logged in."""
        officer = self._officer
        with self._writing() as (transaction, public, _):
            if officer is None or officer[0] != public.incarnation:
                raise UserNotLoggedIn("the SO must be logged in")
            transaction.records.put("label", label.encode())

    # PINs

    async def login(self, user: int, pin: bytearray) -> None:
        """Check a PIN and hold the keys that it opens, until `logout`."""
        proof = await self._tried(user, pin)
        try:
            keys = PrivateKeys(proof.incarnation, proof.master) if user == ck.CKU_USER else None
            self._forget_login()
            with self._login_lock:
                if keys is None:
                    self._officer = proof.incarnation, bytearray(proof.master)
                else:
                    self._finding.log_in(proof.incarnation, proof.master)
                self._private = keys
        finally:
            wipe(proof.master)

    def holds_login(self) -> bool:
        """Say whether a login's keys are held; not any more once the token was made anew elsewhere."""
        public, keys, officer = self._public, self._private, self._officer
        if public is None:
            return False
        incarnation = public.incarnation
        return (keys is not None and keys.incarnation == incarnation) or (
            officer is not None and officer[0] == incarnation
        )

    async def check_pin(self, user: int, pin: bytearray) -> None:
        """Check a PIN, with all that a wrong one brings."""
        wipe((await self._tried(user, pin)).master)

    async def logout(self) -> None:
        """Wipe the keys of the login."""
        self._forget_login()

    async def init_pin(self, pin: bytearray) -> None:
        """Set the user's PIN and unlock it; the security officer is logged in."""
        with self._login_lock:
            if self._officer is None:
                raise UserNotLoggedIn("the SO must be logged in")
            incarnation, master = self._officer[0], bytearray(self._officer[1])
        try:
            record = self._wrapped(ck.CKU_USER, master, incarnation, pin)
        finally:
            wipe(master)
        with self._writing() as (transaction, public, _):
            if incarnation != public.incarnation:
                raise UserNotLoggedIn("the token was initialized anew")
            _put_pin(transaction.records, ck.CKU_USER, record)

    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None:
        """Replace a PIN by another; what is sealed stays as it is."""
        for _ in range(_ATTEMPTS):
            proof = await self._tried(user, old)
            try:
                record = self._wrapped(user, proof.master, proof.incarnation, new)
            finally:
                wipe(proof.master)
            with self._open()[0].write() as transaction:
                if not _stands(transaction.records, user, proof):
                    continue
                _put_pin(transaction.records, user, record)
            return
        raise _overtaken()

    def _wrapped(self, user: int, master: bytearray, incarnation: bytes, pin: bytearray) -> bytes:
        """Return a PIN's record; this takes its time, so no lock is held meanwhile."""
        owner = pins.Owner(self._name, incarnation, user)
        return pins.wrap(master, pin, owner, self._open()[1].pepper, self._config.kdf)

    async def _tried(self, user: int, pin: bytearray) -> Proof:
        """Return what `pin` opens if it is right, after the delay that earlier failures brought."""
        pins.require_means()
        patience = pins.Patience()
        while True:
            database, public = self._open()
            if database.write_protected:
                found = self._try_uncounted(database, public, user, pin, patience)
            else:
                # One try at a time on a token, so that right PINs at the same moment do not count as
                # failures of each other, and guesses at the same moment do not go uncounted.
                timeout = self._config.store.busy_timeout + 5.0
                with files.FileLock(os.path.join(self.path, "login"), self._config.store, timeout):
                    found = self._try(database, public, user, pin, patience)
            if isinstance(found, Proof):
                return found
            time.sleep(min(found, 1.0))

    def _try(
        self, database: Database, public: PublicKeys, user: int, pin: bytearray, patience: pins.Patience
    ) -> Proof | float:
        """Try a PIN, counted on disk before; return what it opens, or the seconds to wait first."""
        with database.read() as (_, records):
            _, tries = self._due(records, user)
        if wait := patience.left(tries, self._config.pin):
            return wait
        # The objects stay as they are: no need for anyone to look at them again.
        with database.write(announced=False) as transaction:
            self._same_incarnation(transaction.records, public)
            incarnation = transaction.records.need("incarnation")
            record, tries = self._due(transaction.records, user)
            tries = tries.another()
            transaction.records.put(_TRIES[user], tries.pack())
            if self.witness is not None:
                transaction.logs = self.witness(transaction.logs)
        master = self._unwrapped(record, pin, pins.Owner(self._name, incarnation, user), public, tries)
        try:
            return self._succeeded(database, user, Proof(incarnation, record, master), pin)
        except BaseException:
            wipe(master)
            raise

    def _try_uncounted(
        self, database: Database, public: PublicKeys, user: int, pin: bytearray, patience: pins.Patience
    ) -> Proof | float:
        """Try a PIN where nothing can be written: this process counts for itself."""
        with database.read() as (_, records):
            self._same_incarnation(records, public)
            incarnation = records.need("incarnation")
            record, stored = self._due(records, user)
        tries = max(stored, self._unprotected_tries.get(user, stored))
        if tries.failures >= self._config.pin.tries:
            raise PinLocked()
        if wait := patience.left(tries, self._config.pin):
            return wait
        tries = self._unprotected_tries[user] = tries.another()
        master = self._unwrapped(record, pin, pins.Owner(self._name, incarnation, user), public, tries)
        self._unprotected_tries.pop(user, None)
        return Proof(incarnation, record, master)

    def _unwrapped(
        self, record: bytes, pin: bytearray, owner: pins.Owner, public: PublicKeys, tries: pins.Tries
    ) -> bytearray:
        try:
            return pins.unwrap(record, pin, owner, public.pepper)
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

    def _succeeded(self, database: Database, user: int, proof: Proof, pin: bytearray) -> Proof:
        """Take the count back, and wrap anew where the configuration asks for more than the record has."""
        record = proof.record
        if pins.outdated(record, self._config.kdf):
            record = self._wrapped(user, proof.master, proof.incarnation, pin)
        # Without an fsync of its own: lost with the power, it leaves a count that is too high by one.
        with database.write(lasting=False, announced=False) as transaction:
            if _stands(transaction.records, user, proof):
                _put_pin(transaction.records, user, record)
                return proof._replace(record=record)
        return proof  # changed meanwhile, with a count of its own

    def _forget_login(self) -> None:
        with self._login_lock:
            keys, self._private = self._private, None
            officer, self._officer = self._officer, None
            self._finding.log_out()
            if officer is not None:
                wipe(officer[1])
        if keys is not None:
            keys.close()

    # The end

    def audit_name(self) -> tuple[str, str]:
        """Return the data directory and the name of the token's chain in the audit."""
        return os.path.dirname(os.path.dirname(self.path)), self.serial

    def database(self) -> tuple[Database, PublicKeys]:
        """Return what a backup copies."""
        return self._open()

    async def close(self) -> None:
        """Log out, close the file, wipe the keys; calls that are under way are told."""
        self.shut()

    def shut(self) -> None:
        """Do what `close` does, for those who cannot wait."""
        with self._lock:
            self._closed = True
            database, self._database = self._database, None
            public, self._public = self._public, None
        self._forget_login()
        if database is not None:
            database.close()
        if public is not None:
            public.wipe()


def first_pin(
    so_pin: bytearray, serial: bytes, incarnation: bytes, public: PublicKeys, config: Config
) -> bytes:
    """Draw a private key and return the record of the security officer's PIN that holds it."""
    master = bytearray(os.urandom(KEY_SIZE))
    try:
        return pins.wrap(
            master, so_pin, pins.Owner(serial, incarnation, ck.CKU_SO), public.pepper, config.kdf
        )
    finally:
        wipe(master)


def write_first(
    db: sqlite3.Connection,
    records: Records,
    public: PublicKeys,
    incarnation: bytes,
    so_record: bytes,
    label: str,
) -> None:
    """Write the records of a token without objects; its counter is the caller's to write."""
    records.put("incarnation", incarnation)
    records.put("label", label.encode())
    records.put(_PIN[ck.CKU_SO], so_record)
    for tries in _TRIES.values():
        records.put(tries, pins.FRESH)
    Chain(db, public.chain_key).start()


def _put_pin(records: Records, user: int, record: bytes) -> None:
    records.put(_PIN[user], record)
    records.put(_TRIES[user], pins.FRESH)


def _stands(records: Records, user: int, proof: Proof) -> bool:
    """Say whether a PIN that was proved is still the token's: looked at in the step that relies on it."""
    return records.need("incarnation") == proof.incarnation and records.get(_PIN[user]) == proof.record


def _overtaken() -> DeviceError:
    return DeviceError("the token's PINs were changed by another process, again and again")


def _of_this(private: PrivateKeys | None, public: PublicKeys) -> PrivateKeys | None:
    """Return the login's keys unless the token was made anew since: nothing is sealed with dead keys."""
    return private if private is not None and private.incarnation == public.incarnation else None
