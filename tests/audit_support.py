"""Chains of the audit, for tests that write them without a token."""

from __future__ import annotations

from pathlib import Path

from ferrohsm.audit import events, record
from ferrohsm.audit.chain import Chain, Place, segments
from ferrohsm.audit.hashing import Key
from ferrohsm.settings import AuditSettings, StoreSettings


def place_in(root: Path, key: bytes = b"k" * 32) -> Place:
    root.mkdir(exist_ok=True)
    return Place(str(root), "chain", str(root / "audit.head"), Key(key), b"s" * 32)


def said(count: int) -> list[str]:
    raw = events.pack(events.SIGN, b"chain", 7, session=3, user=1, mechanism=0x1041, object=b"ab" * 16)
    return [record.body(record.entry_of(raw), "chain", '"pid":1,"uid":0', 1)] * count


def append(place: Place, count: int, settings: AuditSettings | None = None, *, sync: bool = True) -> None:
    chain = Chain(place, settings or AuditSettings(), StoreSettings())
    with chain:
        chain.catch_up()
        chain.write(said(count))
        if sync:
            chain.sync()
    chain.close()


def files_of(place: Place) -> list[Path]:
    return [Path(path) for _, path in segments(place.path)]
