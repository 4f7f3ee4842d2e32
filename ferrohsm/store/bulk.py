"""Many objects in one commit: each row is written as it comes, the index once, in order, at the end.

An entry of the index goes between two others, which costs three statements; when many come in order,
most follow the one before, which costs one.
"""

from __future__ import annotations

from ferrohsm.adapters import Attributes
from ferrohsm.errors import DeviceError
from ferrohsm.store.database import Transaction
from ferrohsm.store.index import OID_SIZE, Chain, keys_of
from ferrohsm.store.records import pack
from ferrohsm.store.sealing import TAG_SIZE, PrivateKeys, PublicKeys
from ferrohsm.store.sqlite import sqlite3
from ferrohsm.typed import Iterable, Iterator

_KEY_SIZE = TAG_SIZE + OID_SIZE
_BATCH = 1000  # rows of one statement


class _Pile:
    """Entries that come in any order and are wanted sorted; 18 bytes of memory each."""

    def __init__(self) -> None:
        self._heaps = [bytearray() for _ in range(256)]

    def add(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._heaps[key[0]] += key

    def __iter__(self) -> Iterator[bytes]:
        for place, heap in enumerate(self._heaps):
            keys = [bytes(heap[at : at + _KEY_SIZE]) for at in range(0, len(heap), _KEY_SIZE)]
            self._heaps[place] = heap = bytearray()
            keys.sort()
            yield from keys


def add_all(
    transaction: Transaction,
    serial: bytes,
    public: PublicKeys,
    private: PrivateKeys | None,
    objects: Iterable[Attributes],
) -> int:
    """Add objects within a transaction and return how many they were."""
    pile, count = _Pile(), 0

    def rows() -> Iterator[tuple[int, int, int, bytes, bytes]]:
        nonlocal count
        for attributes in objects:
            count += 1
            transaction.oid += 1
            row, plain = pack(serial, public, private, transaction.oid, transaction.number, attributes)
            source: PublicKeys | PrivateKeys = private if row.private and private is not None else public
            pile.add(keys_of(source, row.oid, plain, bool(row.private)))
            yield row

    transaction.db.executemany("INSERT INTO object VALUES (?, ?, ?, ?, ?)", rows())
    add_sorted(transaction.db, Chain(transaction.db, public.chain_key), pile)
    return count


def add_sorted(db: sqlite3.Connection, chain: Chain, keys: Iterable[bytes]) -> None:
    """Insert entries that come in ascending order; a place that is damaged or taken is a ``DeviceError``."""
    waiting: list[tuple[bytes, bytes]] = []
    last = after = b""

    def put(key: bytes, following: bytes) -> None:
        waiting.append((key, chain.mac(key, following)))
        if len(waiting) >= _BATCH:
            _flush(db, waiting)

    for key in keys:
        if last and last < key < after:
            put(last, key)
        else:
            if last:
                put(last, after)
                _flush(db, waiting)
            after = chain.link_before(key)
        last = key
    if last:
        put(last, after)
        _flush(db, waiting)


def _flush(db: sqlite3.Connection, waiting: list[tuple[bytes, bytes]]) -> None:
    try:
        db.executemany("INSERT INTO entry (key, mac) VALUES (?, ?)", waiting)
    except sqlite3.IntegrityError:
        raise DeviceError("the token's index is damaged: it is not used (restore a backup)") from None
    waiting.clear()
