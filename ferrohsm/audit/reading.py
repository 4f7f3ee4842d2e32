"""The log as those who read it want it: every ring emptied first, records as dictionaries, filters."""

from __future__ import annotations

import heapq
import json

from ferrohsm.audit import places
from ferrohsm.audit.trail import Trail
from ferrohsm.audit.verify import lines
from ferrohsm.typed import TYPE_CHECKING, Any, Iterator, NamedTuple

if TYPE_CHECKING:
    from ferrohsm.audit.chain import Place
    from ferrohsm.config import Config


class Filter(NamedTuple):
    """What records are wanted; None and () for all. Times are ISO 8601, as in the records."""

    events: tuple[str, ...] = ()
    object: str | None = None
    user: str | None = None
    failed: bool = False
    since: str | None = None
    until: str | None = None
    pid: int | None = None

    def wants(self, record: dict[str, Any]) -> bool:
        """Say whether a record is wanted."""
        return (
            (not self.events or record.get("event") in self.events)
            and (self.object is None or self.object in (record.get("object"), record.get("other")))
            and (self.user is None or record.get("user") == self.user)
            and (not self.failed or record.get("result") != "CKR_OK")
            and (self.since is None or str(record.get("last", record.get("time", ""))) >= self.since)
            and (self.until is None or str(record.get("time", "")) < self.until)
            and (self.pid is None or record.get("pid") == self.pid)
        )


def collect(config: Config) -> None:
    """Move into the chains what stands in rings, of processes that run too. What cannot be moved stays."""
    for root in places.roots(config):
        trail = Trail(config, root, None, False)
        try:
            trail.collect()
        finally:
            trail.stop()


def chains(config: Config) -> list[Place]:
    """Return the place of every chain there is; of one whose log was removed the head still tells."""
    return [
        places.find(config, root, name)
        for root in places.roots(config)
        for name in places.chains(config, root)
    ]


def records(place: Place) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield every record of a chain, as it stands there and as a dictionary; no lines that are none."""
    for line in lines(place.path):
        try:
            parsed = json.loads(line.data)
        except ValueError:
            continue
        if isinstance(parsed, dict):
            yield line.data, parsed


def merged(found: list[Place], wanted: Filter) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the records of several chains that are wanted, by their time."""
    streams = [records(place) for place in found]
    for raw, record in heapq.merge(*streams, key=lambda pair: str(pair[1].get("time", ""))):
        if wanted.wants(record):
            yield raw, record
