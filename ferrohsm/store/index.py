"""The blind index: finds objects by label, id and the like without opening them.

An entry is ``tag (12 bytes) oid (6 bytes)``; the tag is a MAC of an attribute's type and value, under the
public key for public objects and under the private key for private ones, so that the file alone does not
tell what a private object is called. Entries lie in order, and each carries a MAC over itself and its
successor: an entry that was changed or removed breaks the chain where it stood, so that an object is
never silently "not there". The first and the last entry are sentinels.
"""

from __future__ import annotations

import struct
from _operator import _compare_digest as compare_digest

from ferrohsm import constants as ck
from ferrohsm.adapters import Value
from ferrohsm.errors import DeviceError
from ferrohsm.store.sealing import TAG_SIZE, PrivateKeys, PublicKeys, mac
from ferrohsm.store.sqlite import sqlite3
from ferrohsm.typed import Iterable, Iterator, Mapping, Sequence

OID_SIZE = 6
MAX_OID = (1 << 48) - 1
FIRST = bytes(TAG_SIZE + OID_SIZE)
LAST = b"\xff" * (TAG_SIZE + OID_SIZE)

TYPE = struct.Struct("<Q")
_CERTIFICATE = ck.CKO_CERTIFICATE.to_bytes(8, "little")
_INDEXED = (
    # In the order of how much each leaves, so that a search starts with the best it has.
    ck.CKA_UNIQUE_ID,
    ck.CKA_ID,
    ck.CKA_LABEL,
    ck.CKA_SERIAL_NUMBER,
    ck.CKA_SUBJECT,
    ck.CKA_ISSUER,
    ck.CKA_OBJECT_ID,
    ck.CKA_APPLICATION,
    ck.CKA_KEY_TYPE,
    ck.CKA_CERTIFICATE_TYPE,
    ck.CKA_CLASS,
)

_WALK = (
    "SELECT key, mac FROM entry WHERE key >= "
    "(SELECT key FROM entry WHERE key <= ? ORDER BY key DESC LIMIT 1) ORDER BY key"
)
_AROUND = (
    "SELECT key, mac FROM entry WHERE key >= "
    "(SELECT key FROM entry WHERE key < ? ORDER BY key DESC LIMIT 1) ORDER BY key LIMIT 3"
)
_BROKEN = "the token's index is damaged: it is not used (restore a backup)"


def items(attributes: Mapping[int, Value], private: bool) -> list[bytes]:
    """Return what is indexed of an object, or what of a template can be looked up.

    Every object is listed under whether it is private; empty values are not indexed. A certificate's
    value is, because clients look certificates up by it.
    """
    chosen = []
    if attributes.get(ck.CKA_CLASS) == _CERTIFICATE:
        value = attributes.get(ck.CKA_VALUE)
        if value and isinstance(value, bytes):
            chosen.append(TYPE.pack(ck.CKA_VALUE) + value)
    for number in _INDEXED:
        value = attributes.get(number)
        if value and isinstance(value, bytes):
            chosen.append(TYPE.pack(number) + value)
    chosen.append(TYPE.pack(ck.CKA_PRIVATE) + (b"\1" if private else b"\0"))
    return chosen


def keys_of(
    source: PublicKeys | PrivateKeys, oid: int, attributes: Mapping[int, Value], private: bool
) -> set[bytes]:
    """Return the entries of an object."""
    suffix = oid.to_bytes(OID_SIZE, "big")
    return {source.tag(item) + suffix for item in items(attributes, private)}


class Chain:
    """The entries of one store, under the MAC key of the chain."""

    __slots__ = ("_db", "_key")

    def __init__(self, db: sqlite3.Connection, key: bytes) -> None:
        self._db = db
        self._key = key

    def start(self) -> None:
        """Put the two sentinels into an empty table."""
        self._put(FIRST, LAST)
        self._put(LAST, b"")

    def add(self, keys: Iterable[bytes]) -> None:
        """Insert entries; raises ``DeviceError`` if their places are damaged or taken."""
        for key in sorted(keys):
            self._put(key, self.link_before(key))

    def link_before(self, key: bytes) -> bytes:
        """Let the entry before `key` name it as its successor, and return the entry behind it."""
        around = self._db.execute(_AROUND, (key,)).fetchmany(2)
        if len(around) != 2 or around[1][0] == key:
            raise DeviceError(_BROKEN)
        (before, link), (after, _) = around
        self._check(before, after, link)
        self._link(before, key)
        return bytes(after)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Remove entries; raises ``DeviceError`` if one is missing or damaged."""
        for key in sorted(keys):
            around = self._db.execute(_AROUND, (key,)).fetchmany(3)
            if len(around) != 3 or around[1][0] != key:
                raise DeviceError(_BROKEN)
            (before, link), (_, own), (after, _) = around
            self._check(before, key, link)
            self._check(key, after, own)
            self._link(before, after)
            self._db.execute("DELETE FROM entry WHERE key = ?", (key,))

    def oids(self, tag: bytes, after: int) -> Iterator[int]:
        """Yield the objects under `tag` above `after`, ascending; what is missing raises."""
        start = tag + after.to_bytes(OID_SIZE, "big")
        cursor = self._db.execute(_WALK, (start,))
        key = self._key
        try:
            row = cursor.fetchone()
            if row is None:
                raise DeviceError(_BROKEN)
            before, link = row
            for here, following in cursor:
                if not compare_digest(mac(key, before + here)[:TAG_SIZE], link):
                    raise DeviceError(_BROKEN)
                if not here.startswith(tag):
                    return
                yield int.from_bytes(here[TAG_SIZE:], "big")
                before, link = here, following
            raise DeviceError(_BROKEN)
        except TypeError:  # a damaged cell may be of any type
            raise DeviceError(_BROKEN) from None
        finally:
            cursor.close()

    def all(self) -> Iterator[bytes]:
        """Yield every entry, verified."""
        cursor = self._db.execute("SELECT key, mac FROM entry ORDER BY key")
        try:
            row = cursor.fetchone()
            if row is None or row[0] != FIRST:
                raise DeviceError(_BROKEN)
            before, link = row
            for here, following in cursor:
                self._check(before, here, link)
                before, link = here, following
                if here != LAST:
                    yield here
            self._check(before, b"", link)
            if before != LAST:
                raise DeviceError(_BROKEN)
        finally:
            cursor.close()

    def _check(self, before: bytes, after: bytes, link: bytes) -> None:
        # A damaged cell may be of any type.
        whole = isinstance(before, bytes) and isinstance(after, bytes) and isinstance(link, bytes)
        if not whole or not compare_digest(self.mac(before, after), link):
            raise DeviceError(_BROKEN)

    def mac(self, key: bytes, after: bytes) -> bytes:
        """Return the MAC of an entry and its successor."""
        return mac(self._key, key + after)[:TAG_SIZE]

    def _link(self, key: bytes, after: bytes) -> None:
        self._db.execute("UPDATE entry SET mac = ? WHERE key = ?", (self.mac(key, after), key))

    def _put(self, key: bytes, after: bytes) -> None:
        self._db.execute("INSERT INTO entry (key, mac) VALUES (?, ?)", (key, self.mac(key, after)))


def intersect(chain: Chain, tags: Sequence[bytes], after: int) -> Iterator[int]:
    """Yield the objects that stand under every one of `tags`, ascending, without opening any.

    Each list leaps to where the furthest one stands, so the shortest list sets the price.
    """
    if len(tags) == 1:
        yield from chain.oids(tags[0], after)
        return
    walks = [_Walk(chain, tag) for tag in tags]
    try:
        target = after + 1
        while True:
            agreed = True
            for walk in walks:
                found = walk.seek(target)
                if found is None:
                    return
                if found != target:
                    target = found
                    agreed = walk is walks[0]
            if agreed:
                yield target
                target += 1
    finally:
        for walk in walks:
            walk.close()


class _Walk:
    """One list that leaps forward: it steps while the target is near and looks it up when it is far."""

    __slots__ = ("_at", "_chain", "_oids", "_tag")
    _NEAR = 4

    def __init__(self, chain: Chain, tag: bytes) -> None:
        self._chain = chain
        self._tag = tag
        self._at: int | None = -1
        self._oids: Iterator[int] | None = None

    def seek(self, target: int) -> int | None:
        """Return the first object at or after `target`, None when there is none."""
        if self._oids is not None:
            for _ in range(self._NEAR):
                if self._at is None or self._at >= target:
                    return self._at
                self._at = next(self._oids, None)
            if self._at is None or self._at >= target:
                return self._at
        self.close()
        self._oids = self._chain.oids(self._tag, target - 1)
        self._at = next(self._oids, None)
        return self._at

    def close(self) -> None:
        """Give the statement back."""
        oids, self._oids = self._oids, None
        if oids is not None:
            oids.close()  # type: ignore[attr-defined]
