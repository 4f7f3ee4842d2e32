"""The directory of tokens: which there are, which serial the next one gets, and their slots' ids.

``tokens/SERIAL/`` is a token; ``tokens/reserved`` is the serial of the one that is made next, so that the
free slot keeps its id when its token is made; ``tokens/lock`` is held while the directory changes.
"""

from __future__ import annotations

import errno
import os

from ferrohsm.errors import DeviceError, DeviceRemoved, HsmError, TokenNotPresent, TokenWriteProtected
from ferrohsm.hashing import digest
from ferrohsm.store import files, schema
from ferrohsm.store.access import INCARNATION_SIZE, Access, first_pin, public_key_file, write_first
from ferrohsm.store.database import Records
from ferrohsm.store.generation import Generation, fresh
from ferrohsm.store.sealing import KEY_SIZE, PublicKeys, wipe
from ferrohsm.store.sqlite import sqlite3
from ferrohsm.store.token import TokenStore
from ferrohsm.typed import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from ferrohsm.config import Config
    from ferrohsm.store.finding import MakeFinder

SERIAL_LENGTH = 16
_DIGITS = frozenset("0123456789abcdef")


def slot_id(serial: str) -> int:
    """Return the slot id of a token: positive, of 31 bits, and the same on every host."""
    number = int.from_bytes(digest(serial.encode())[:4], "big") & 0x7FFFFFFF
    return number or 1


def is_serial(name: str) -> bool:
    """Say whether a name can be a token's serial number."""
    return len(name) == SERIAL_LENGTH and not set(name) - _DIGITS


class TokenSlots:
    """What an adapter makes of each token of a directory and of the free one, on which the next is made.

    `make` gets slot id and store and returns something with `free`. What it made stays the same object as
    long as its token does, also when the free one has become a token. With `offer_free` there is a free one.
    """

    def __init__(
        self, directory: TokenDirectory, offer_free: bool, make: Callable[[int, TokenStore], Any]
    ) -> None:
        self._directory = directory
        self._offer_free = offer_free
        self._make = make
        self._slots: dict[str, tuple[TokenStore, Any]] = {}

    def look(self) -> list[Any]:
        """Return those that are there now, the free one last."""
        tokens = self._directory.tokens()
        reserved = self._directory.reserved() if self._offer_free else None
        free = {serial for serial, (_, slot) in self._slots.items() if slot.free}
        if free - {serial for serial, _, _ in tokens} - {reserved[0] if reserved else ""}:
            tokens = self._directory.tokens()  # another process made that token between the two looks
        found = {serial: self._slot(serial, id, store, free=False) for serial, id, store in tokens}
        if reserved is not None and reserved[0] not in found:
            found[reserved[0]] = self._slot(*reserved, free=True)
        self._slots = found
        return [slot for _, slot in found.values()]

    def _slot(self, serial: str, id: int, store: TokenStore, *, free: bool) -> tuple[TokenStore, Any]:
        known = self._slots.get(serial)
        if known is None or known[0] is not store:
            known = store, self._make(id, store)
        known[1].free = free
        return known


class TokenDirectory:
    """The tokens under one data directory. A token that stays is the same object at every listing."""

    def __init__(self, path: str, config: Config, finder: MakeFinder | None = None) -> None:
        self._finder = finder
        self.data_dir = path
        self.path = os.path.join(path, "tokens")
        self._config = config
        self._place = config.store
        self._stores: dict[str, TokenStore] = {}
        try:
            files.make_directory(self.path, self._place)
        except OSError as error:
            if error.errno != errno.EROFS or not os.path.isdir(path):
                raise files.refusal(error, f"cannot make {self.path}") from None

    def tokens(self) -> list[tuple[str, int, TokenStore]]:
        """Return serial, slot id and store of each token, the oldest first."""
        found = []
        for serial in self._serials():
            store = self._store(serial)
            store.listed_free = False
            found.append((serial, slot_id(serial), store))
        there = {serial for serial, _, _ in found}
        for serial, store in list(self._stores.items()):
            if serial not in there and not store.listed_free:
                # Deleted by another process. Calls that are under way end with an error of their own.
                self._drop(serial, store)
        return found

    def reserved(self) -> tuple[str, int, TokenStore] | None:
        """Return serial, slot id and store of the token that is made next; None where none can be made."""
        serial = self._reserved_serial()
        if serial is None:
            try:
                with self._locked():
                    serial = self._reserved_serial() or self._reserve()
            except HsmError:
                return None
        for other, store in list(self._stores.items()):
            if store.listed_free and other != serial:
                self._drop(other, store)
        store = self._store(serial)
        store.listed_free = True
        return serial, slot_id(serial), store

    def delete(self, serial: str) -> None:
        """Delete a token for good; whoever uses it is told at its next call."""
        store = self._existing(serial)
        with self._locked():
            generation = Generation(os.path.join(store.path, "generation"), self._place)
            if generation.open():  # a damaged token can be deleted as well
                generation.mark_gone()
            gone = os.path.join(self.path, f".deleted-{serial}-{os.urandom(4).hex()}")
            try:
                os.rename(store.path, gone)
                files.sync_directory(self.path)
            except OSError as error:
                raise files.refusal(error, f"cannot delete {store.path}") from None
            self._sweep()
        self._drop(serial, store)

    def backup(self, serial: str, path: str, step: Callable[[int, int], None]) -> None:
        """Write a copy of a token, as of one commit, to a file that must not be there."""
        from ferrohsm.store.backup import write

        write(self._existing(serial), path, step)

    def restore(self, path: str, step: Callable[[int, int], None]) -> str:
        """Make a token from a backup and return its serial; it must not be there already."""
        from ferrohsm.store.backup import unpack

        with self._locked():
            self._sweep()
            temporary = self._temporary()
            try:
                serial = unpack(path, temporary, self._place, step)
                taken = {slot_id(other): other for other in self._serials()}
                if serial in taken.values():
                    raise DeviceError(f"token {serial} is there already: delete it before you restore it")
                if slot_id(serial) in taken:
                    raise DeviceError(f"token {taken[slot_id(serial)]} has the slot id that {serial} needs")
                self._move_in(temporary, serial)
            except BaseException:
                self._sweep()
                raise
            reserved = self._reserved_serial()
            if reserved is None or slot_id(reserved) == slot_id(serial):
                self._reserve()
        return serial

    async def close(self) -> None:
        """Close every token."""
        for store in list(self._stores.values()):
            await store.close()
        self._stores.clear()

    # Making a token

    def _claim(self, store: Access, so_pin: bytearray, label: str) -> None:
        """Make the reserved token. Raises ``DeviceRemoved`` when another process was faster."""
        with self._locked():
            self._sweep()
            if store.exists() or self._reserved_serial() != store.serial:
                raise DeviceRemoved("another process has just made this token")
            temporary = self._temporary()
            try:
                self._build(temporary, store.serial, so_pin, label)
                self._move_in(temporary, store.serial)
            except BaseException:
                self._sweep()
                raise
            self._reserve()

    def _build(self, path: str, serial: str, so_pin: bytearray, label: str) -> None:
        name = serial.encode().ljust(16, b"\0")
        master = bytearray(os.urandom(KEY_SIZE))
        public = PublicKeys(os.urandom(INCARNATION_SIZE), master)
        key = public_key_file(master)
        database = os.path.join(path, "token.db")
        try:
            record = first_pin(so_pin, name, public.incarnation, public, self._config)
            files.make_directory(path, self._place)
            files.create(os.path.join(path, "public.key"), key, self._place)
            files.create(os.path.join(path, "generation"), fresh(1), self._place)
            files.create(database, b"", self._place)
            db = schema.connect(database, "rw")
            try:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("BEGIN IMMEDIATE")
                schema.create(db)
                records = Records(db, name, public.mac_key)
                write_first(db, records, public, public.incarnation, record, label)
                records.count(1, 0)
                db.execute("COMMIT")
            finally:
                db.close()
            files.sync_directory(path)
        except sqlite3.Error as error:
            raise schema.refusal(error, database) from None
        except OSError as error:
            raise files.refusal(error, f"cannot make {path}") from None
        finally:
            wipe(key)
            public.wipe()

    def _move_in(self, temporary: str, serial: str) -> None:
        try:
            os.rename(temporary, os.path.join(self.path, serial))
            files.sync_directory(self.path)
        except OSError as error:
            raise files.refusal(error, f"cannot make token {serial}") from None

    def _temporary(self) -> str:
        return os.path.join(self.path, f".new-{os.urandom(6).hex()}")

    def _sweep(self) -> None:
        """Remove what processes that were killed left behind; the lock is held, so nobody works on it."""
        try:
            for name in os.listdir(self.path):
                if name.startswith((".new-", ".deleted-")):
                    files.remove_tree(os.path.join(self.path, name))
        except OSError:
            pass  # it is in nobody's way, and the next one tries again

    # The reserved serial

    def _reserved_serial(self) -> str | None:
        """Return the serial that is reserved, None when there is none or its token has been made."""
        try:
            data = bytes(files.load(os.path.join(self.path, "reserved"), 64))
        except (OSError, HsmError):
            return None
        serial = data.decode("ascii", "replace").strip()
        if not is_serial(serial) or os.path.exists(os.path.join(self.path, serial)):
            return None
        return serial

    def _reserve(self) -> str:
        """Reserve a serial whose slot id no token has; the lock is held."""
        taken = {slot_id(serial) for serial in self._serials()}
        while True:
            serial = os.urandom(SERIAL_LENGTH // 2).hex()
            if slot_id(serial) not in taken:
                break
        try:
            files.put(os.path.join(self.path, "reserved"), serial.encode() + b"\n", self._place)
        except OSError as error:
            raise files.refusal(error, "cannot reserve a serial number") from None
        return serial

    # Helpers of the listing

    def _serials(self) -> list[str]:
        try:
            names = [name for name in os.listdir(self.path) if is_serial(name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise files.refusal(error, f"cannot read {self.path}") from None
        return sorted(names, key=lambda name: (self._age(name), name))

    def _age(self, serial: str) -> int:
        # The public key is written once, when the token is made.
        try:
            return os.stat(os.path.join(self.path, serial, "public.key")).st_mtime_ns
        except OSError:
            return 0

    def _store(self, serial: str) -> TokenStore:
        store = self._stores.get(serial)
        if store is None:
            path = os.path.join(self.path, serial)
            made = TokenStore(path, serial, self._config, self._claim, self._finder)
            store = self._stores.setdefault(serial, made)  # another thread may list at the same moment
        return store

    def _drop(self, serial: str, store: TokenStore) -> None:
        if self._stores.get(serial) is store:
            del self._stores[serial]
        store.shut()

    def _existing(self, serial: str) -> TokenStore:
        if not is_serial(serial) or not os.path.isdir(os.path.join(self.path, serial)):
            raise TokenNotPresent(f"there is no token {serial}")
        return self._store(serial)

    def _locked(self) -> files.FileLock:
        if not os.path.isdir(self.path):
            raise TokenWriteProtected(f"{self.path} is not there and cannot be made")
        timeout = max(self._place.busy_timeout, 0.1)
        return files.FileLock(os.path.join(self.path, "lock"), self._place, timeout)
