"""The short way of a search for one or two objects by a name: two statements, without a transaction.

A transaction and a look at the token's own records cost as much as the search itself. They tell that all
statements see one commit, and whether the token is still the one that was logged in to. The generation
(`ferrohsm.store.generation`) tells the same: what was read between two looks at it that agree is that one
commit, and the incarnation as of it is known. Whatever is unusual (a commit meanwhile, more objects, damage)
has no answer here, and the search takes the long way, which knows what to say.
"""

from __future__ import annotations

from _operator import _compare_digest as compare_digest

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Value
from ferrohsm.errors import HsmError
from ferrohsm.store.encoding import compare
from ferrohsm.store.index import OID_SIZE, TYPE
from ferrohsm.store.records import open_attributes
from ferrohsm.store.sealing import TAG_SIZE, PrivateKeys, PublicKeys, mac
from ferrohsm.store.sqlite import sqlite3
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrohsm.store.database import Database

# What names one object, or a few; in the order in which they are tried.
_NAMES = (ck.CKA_UNIQUE_ID, ck.CKA_ID, ck.CKA_LABEL, ck.CKA_SUBJECT)
# More objects than this are for the long way.
_FEW = 8
_WALK = (
    "SELECT key, mac FROM entry WHERE key >= "
    "(SELECT key FROM entry WHERE key <= ? ORDER BY key DESC LIMIT 1) ORDER BY key LIMIT 3"
)
_OBJECT = "SELECT oid, private, version, attributes, secrets FROM object WHERE oid = ?"


def named(wanted: Attributes) -> bytes | None:
    """Return the item to look up, None when the search is not by a name."""
    for name in _NAMES:
        value = wanted.get(name)
        if value and isinstance(value, bytes):
            return TYPE.pack(name) + value
    return None


def glance(
    database: Database,
    serial: bytes,
    public: PublicKeys,
    private: PrivateKeys | None,
    item: bytes,
    wanted: Attributes,
    after: int,
) -> list[int] | None:
    """Return the objects under `item` that match, ascending, None when the long way has to be taken.

    The caller looks at the generation before and after.
    """
    asked = wanted.get(ck.CKA_PRIVATE)
    sources: list[PublicKeys | PrivateKeys] = []
    if asked is None or asked == b"\0":
        sources.append(public)
    if private is not None and (asked is None or asked == b"\1"):
        sources.append(private)
    db = database.borrow()
    if db is None:
        return None
    sound = False
    try:
        found: list[int] | None = []
        for source in sources:
            tag = source.tag(item)
            if found is not None and not _under(db, public.chain_key, tag, after, found):
                found = None
        if found:
            found = _verified(db, serial, public, private, found, wanted)
        sound = True
        return found
    except (sqlite3.Error, HsmError, TypeError):
        return None
    finally:
        database.give_back(db, sound=sound)


def _under(db: sqlite3.Connection, key: bytes, tag: bytes, after: int, found: list[int]) -> bool:
    """Add the objects under a tag; False when there are more than a few or the chain is broken."""
    start = tag + after.to_bytes(OID_SIZE, "big")
    while len(found) <= _FEW:
        rows = db.execute(_WALK, (start,)).fetchall()
        if len(rows) < 2:
            return False
        before, link = rows[0]
        for here, following in rows[1:]:
            if not compare_digest(mac(key, before + here)[:TAG_SIZE], link):
                return False
            if here[:TAG_SIZE] != tag:
                return len(found) <= _FEW
            found.append(int.from_bytes(here[TAG_SIZE:], "big"))
            before, link = here, following
        start = before
    return False


def _verified(
    db: sqlite3.Connection,
    serial: bytes,
    public: PublicKeys,
    private: PrivateKeys | None,
    found: list[int],
    wanted: Attributes,
) -> list[int] | None:
    """Return those of the candidates that match, as the objects themselves tell; None if one cannot."""
    ordered: list[tuple[int, Value]] = list(wanted.items())
    if len(ordered) > 1:
        ordered.sort()
    if len(found) > 1:
        found.sort()
    kept = []
    for oid in found:
        row = db.execute(_OBJECT, (oid,)).fetchone()
        if row is None:
            return None
        matching = compare(open_attributes(serial, public, private, row), ordered)
        if matching is None:
            return None
        if matching:
            kept.append(oid)
    return kept
