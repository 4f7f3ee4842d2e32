"""Moving what stands in a ring into the chains, each entry once, whoever is killed in between.

The order is: append to the chain, have that on disk, note in the ring how much was taken, store the head.
Lines beyond the head are looked through for those of this ring before anything is appended, so that an
entry whose mover was killed between appending and noting is not appended again.
"""

from __future__ import annotations

import os

from ferrohsm import log
from ferrohsm.audit import events, places, record
from ferrohsm.audit import ring as rings
from ferrohsm.audit.chain import Chain, own_source
from ferrohsm.store import files
from ferrohsm.typed import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from ferrohsm.audit.ring import Ring
    from ferrohsm.settings import StoreSettings

_AT_ONCE = 512
"""Entries that are moved at once."""
ChainOf = Callable[[str], Chain]


def move(ring: Ring, chain_of: ChainOf, *, dead: bool, durable: bool) -> int:
    """Move what stands in a ring into its chains; the caller has the ring locked. Return the records made.

    `dead` says that its owner is gone: an entry that is not complete never will be.
    """
    made = 0
    searched: set[str] = set()
    while True:
        tail, head = ring.span()
        end = min(head, tail + _AT_ONCE)
        made += _move_some(ring, chain_of, tail, end, searched, dead=dead, durable=durable)
        if ring.span()[0] == tail or head <= tail + _AT_ONCE:
            return made


def _move_some(
    ring: Ring,
    chain_of: ChainOf,
    tail: int,
    head: int,
    searched: set[str],
    *,
    dead: bool,
    durable: bool,
) -> int:
    by_chain: dict[str, list[int]] = {}
    torn, end = 0, tail
    while end < head:
        if ring.committed(end):
            by_chain.setdefault(ring.chain_of(end), []).append(end)
        elif dead:
            torn += 1
        else:
            break  # it is being written
        end += 1
    made = 0
    for name, numbers in by_chain.items():
        # The ring is locked: what a killed mover appended is there when a chain is searched the first time.
        made += _move_to(chain_of(name), ring, numbers, search=name not in searched, durable=durable)
        searched.add(name)
    if torn:
        _note_torn(chain_of(places.MODULE), ring, torn)
    if ring.carrier is None and not dead:
        end = _finished(ring, tail, end)
    ring.advance(end)
    return made


def _move_to(chain: Chain, ring: Ring, numbers: list[int], *, search: bool, durable: bool) -> int:
    with chain:
        _note_known(chain, ring, search=search)
        said, done = [], []
        for number in numbers:
            count, taken = ring.count(number), ring.taken(number)
            if count > taken:
                entry = ring.read(number)
                source = f'{ring.source},"ring":"{ring.tag}.{number}.{count}"'
                said.append(record.body(entry, chain.token_of(entry), source, count - taken))
                done.append((number, count))
        chain.write(said)
        if durable:
            chain.sync_records()
        for number, count in done:
            ring.take(number, count)
        if durable:
            chain.sync_head()
    return len(said)


def _note_known(chain: Chain, ring: Ring, *, search: bool) -> None:
    """Note in the ring what a killed mover has appended already."""
    start = ring.mark
    lines = chain.catch_up(start)
    if ring.carrier is None and search:
        # Others may have stored a head beyond what a killed mover appended: the log itself is looked through.
        lines = chain.lines_with(start, ring.started)
    for line in lines:
        at = line.find(start) + len(start)
        number, _, count = line[at : line.find(b'"', at)].partition(b".")
        if number.isdigit() and count.isdigit():
            ring.take(int(number), int(count))


def _note_torn(chain: Chain, ring: Ring, torn: int) -> None:
    log.event("warning", "audit: a process was killed while it wrote events", pid=ring.pid, count=torn)
    raw = events.pack(
        events.TORN, places.MODULE.encode(), events.NONE, detail=f"{torn} events that nobody was answered"
    )
    with chain:
        chain.catch_up()
        chain.write([record.body(record.entry_of(raw), chain.place.token, ring.source, 1)])
        chain.sync()


def _finished(ring: Ring, tail: int, end: int) -> int:
    """Return the first entry that a living owner may still count up."""
    while tail < end and not ring.counts_on(tail) and ring.taken(tail) == ring.count(tail):
        tail += 1
    return tail


def adopt(root: str, chain_of: ChainOf, owner: StoreSettings, *, living: bool = False) -> int:
    """Move what processes left behind, with `living` also what stands in the rings of others that run.

    A ring whose chains cannot be written stays for the next one, with a line in the log.
    """
    directory = os.path.join(root, places.RINGS)
    made = 0
    for path in rings.others(directory):
        try:
            made += _adopt_one(path, chain_of, living=living)
        except Exception as error:
            log.event("error", "audit: a ring cannot be emptied", ring=path, why=str(error))
    return made


def _adopt_one(path: str, chain_of: ChainOf, *, living: bool) -> int:
    ring = rings.open_other(path)
    if ring is None:
        return 0
    try:
        dead = rings.orphan(ring)
        if not dead and not living:
            return 0
        ring.lock()
        if not ring.here():
            return 0
        made = move(ring, chain_of, dead=dead, durable=True)
        if dead:
            files.remove(path)
        return made
    finally:
        ring.forsake()


def write_at_once(chain: Chain, raw: bytes) -> None:
    """Append one event, and have it on disk."""
    entry = record.entry_of(raw)
    with chain:
        chain.catch_up()
        chain.write([record.body(entry, chain.token_of(entry), own_source(), 1)])
        chain.sync()
