"""A token on disk: the `HardwareKeyStore` of the software adapter.

A directory holds ``token.db`` (`ferrohsm.store.schema`), ``public.key`` (the key that needs no PIN) and
``generation`` (`ferrohsm.store.generation`). Before it is initialized a token is only a serial number.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Template
from ferrohsm.errors import DeviceError, HsmError, ObjectHandleInvalid, UserNotLoggedIn
from ferrohsm.store.access import Access
from ferrohsm.store.database import Transaction
from ferrohsm.store.encoding import decode, same
from ferrohsm.store.glance import glance, named
from ferrohsm.store.index import Chain, intersect, items, keys_of
from ferrohsm.store.records import Row, open_attributes, open_secrets, pack
from ferrohsm.store.sealing import PrivateKeys, PublicKeys, wipe
from ferrohsm.typed import TYPE_CHECKING, Iterable, Iterator

if TYPE_CHECKING:
    import sqlite3

_ROW = "SELECT oid, private, version, attributes, secrets FROM object WHERE oid = ?"


class TokenStore(Access):
    """One token and its objects."""

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

    def finder(self) -> object | None:
        """Return what finds by a name without Python (`NativeSearch`), None while nothing does."""
        if not self.exists():
            return None
        try:
            database, public = self._open()
            return self._finding.ready(database, public)
        except HsmError:
            return None  # the search itself says what is the matter

    def look(self) -> None:
        """See whether the token's files are still the ones that are open."""
        if self._database is None:
            return
        try:
            self._open()[0].look()
        except HsmError:
            pass  # whatever is asked next says what is the matter

    async def create(self, attributes: Attributes) -> int:
        """Keep an object; it is on disk when this returns."""
        with self._writing() as (transaction, public, private):
            return self._create(transaction, public, private, attributes)

    async def create_pair(self, first: Attributes, second: Attributes) -> tuple[int, int]:
        """Keep two objects in one commit."""
        one, other = await self.create_together((first, second))
        return one, other

    async def create_together(self, objects: tuple[Attributes, ...]) -> tuple[int, ...]:
        """Keep some objects in one commit, and return their identities."""
        with self._writing() as (transaction, public, private):
            return tuple([self._create(transaction, public, private, one) for one in objects])

    async def create_many(self, objects: Iterable[Attributes]) -> int:
        """Keep any number of objects in one commit, all or none, and return how many they were."""
        from ferrohsm.store.bulk import add_all

        with self._writing() as (transaction, public, private):
            return add_all(transaction, self._name, public, private, objects)

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
            return self._opened(self._row(db, oid, public, private), public, private)

    async def replace(self, oid: int, attributes: Attributes) -> None:
        """Keep other attributes under the same identity."""
        with self._writing() as (transaction, public, private):
            row = self._row(transaction.db, oid, public, private)
            self._replace(transaction, public, private, row, attributes)

    async def exchange(self, oid: int, before: Attributes, after: Attributes) -> bool:
        """Keep `after` if the object is as it was in `before`."""
        with self._writing() as (transaction, public, private):
            row = self._row(transaction.db, oid, public, private)
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
            row = self._row(transaction.db, oid, public, private)
            plain = decode(open_attributes(self._name, public, private, row))
            Chain(transaction.db, public.chain_key).drop(self._entries(row, plain, public, private))
            transaction.db.execute("DELETE FROM object WHERE oid = ?", (oid,))

    async def search(self, template: Template, after: int, limit: int) -> list[int]:
        """Return up to `limit` objects above `after`, ascending; private ones only after the user's login."""
        wanted = dict(template)
        few = self._glance(wanted, after)
        if few is not None and len(few) < limit:
            return few
        from heapq import merge

        found: list[int] = []
        with self._reading() as (db, public, private):
            chain = Chain(db, public.chain_key)
            streams = self._streams(chain, wanted, after, public, private)
            try:
                for oid in merge(*streams):
                    row = db.execute(_ROW, (oid,)).fetchone()
                    if row is None:
                        raise _missing(oid)
                    if self._matches(Row(*row), wanted, public, private):
                        found.append(oid)
                        if len(found) == limit:
                            break
            finally:
                for stream in streams:
                    stream.close()  # type: ignore[attr-defined]
        return found

    def _glance(self, wanted: Attributes, after: int) -> list[int] | None:
        """Search the short way; None when that has no answer."""
        item = named(wanted)
        if item is None:
            return None
        database, public = self._open()
        number = database.settled()
        if number is None or number != self._certain:
            return None
        private = self._private
        if private is None:
            found = glance(database, self._name, public, None, item, wanted, after)
        elif private.incarnation != public.incarnation:
            return None
        else:
            try:
                with private:
                    found = glance(database, self._name, public, private, item, wanted, after)
            except UserNotLoggedIn:
                return None
        return found if database.settled() == number else None

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

    def _row(self, db: sqlite3.Connection, oid: int, public: PublicKeys, private: PrivateKeys | None) -> Row:
        row = db.execute(_ROW, (oid,)).fetchone()
        if row is None:
            for stream in self._streams(Chain(db, public.chain_key), {}, oid - 1, public, private):
                if next(stream, None) == oid:
                    raise _missing(oid)
            raise ObjectHandleInvalid()
        return Row(*row)


def _missing(oid: int) -> DeviceError:
    return DeviceError(f"object {oid} is listed but not there: restore a backup")


def _hides(plain: Attributes) -> bool:
    """Say whether an object's secrets may not be seen, and so not be found by guessing either."""
    return plain.get(ck.CKA_SENSITIVE) == b"\1" or plain.get(ck.CKA_EXTRACTABLE) == b"\0"
