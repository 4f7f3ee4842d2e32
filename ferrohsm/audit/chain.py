"""A chain: the log of one token, in segment files that only grow.

``audit/NAME/`` holds the segments, each named after the first sequence number in it
(``00000000000000000001.jsonl``), and ``lock``, which is held while the chain is written. The head
(`ferrohsm.audit.head`) says how far the chain is known to be on disk. Whoever writes takes up what others
wrote since, so several processes write one chain.

A writer that was killed leaves whole records beyond the head, which stand, and perhaps the beginning of
one, which was never acknowledged and is cut off. A log that is shorter than its head was tampered with: the
chain goes on behind the gap, with a record that says so.
"""

from __future__ import annotations

import os

from ferrohsm import log
from ferrohsm.audit import events, record
from ferrohsm.audit import head as heads
from ferrohsm.audit.head import Head
from ferrohsm.store import files
from ferrohsm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ferrohsm.audit.hashing import Key
    from ferrohsm.audit.witness import Witness
    from ferrohsm.settings import AuditSettings, StoreSettings

SUFFIX = ".jsonl"
HEAD_GONE = "the head was gone"
"""How the record begins with which a chain goes on that has lost its head."""
OLDER = "the token knows of later records"
"""How the record begins with which a chain goes on that is older, head and all, than its token knows."""
_DIGITS = 20
_PART = 1 << 20
_CLOCK_SLACK = 5_000_000_000  # nanoseconds
_LONGEST = 4096
"""More than any record of ours has, in bytes."""
_APPEND = (
    os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)  # fmt: skip


class Place:
    """Where a chain is kept: `root` is the audit's directory, `key` is secret."""

    __slots__ = ("head", "key", "name", "root", "signing_seed", "token", "witness")

    def __init__(self, root: str, name: str, head: str, key: Key, signing_seed: bytes) -> None:
        self.root = root
        self.name = name
        self.token = name
        self.head = head
        self.key = key
        self.signing_seed = signing_seed
        # What the token itself knows of its log; None of a chain that is no token's of ours.
        self.witness: Witness | None = None

    def recall(self) -> int:
        """Return a record that the log is known to have reached, by others than its own files."""
        return 0 if self.witness is None else self.witness.recall() or 0

    @property
    def path(self) -> str:
        """The chain's directory."""
        return os.path.join(self.root, self.name)

    def __repr__(self) -> str:
        """Name the chain."""
        return f"<Place {self.name}>"


def segment_name(first: int) -> str:
    """Return the file name of the segment that begins with a sequence number."""
    return f"{first:0{_DIGITS}d}{SUFFIX}"


def segments(path: str) -> list[tuple[int, str]]:
    """Return first sequence number and path of each segment, in order."""
    found = []
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return []
    for name in names:
        digits = name.removesuffix(SUFFIX)
        if name.endswith(SUFFIX) and len(digits) == _DIGITS and digits.isdigit():
            found.append((int(digits), os.path.join(path, name)))
    return sorted(found)


class Chain:
    """One chain, as one process writes it; a context manager that has the chain to itself meanwhile."""

    def __init__(self, place: Place, settings: AuditSettings, owner: StoreSettings) -> None:
        self.place = place
        self._settings = settings
        self._owner = owner
        self._lock = files.FileLock(os.path.join(place.path, "lock"), owner, max(owner.busy_timeout, 0.1))
        self._segment = -1
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._sequence = 0
        self._digest = record.ZERO
        self._head_place = 1
        self._compared = False  # with what the token knows
        self._stored = 0
        self.dirty = False
        """Whether records may not be on disk yet."""

    def __enter__(self) -> Chain:
        """Take the chain; raises ``HsmError`` or `OSError` when it cannot be had."""
        files.make_directory(self.place.path, self._owner)
        self._lock.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it on."""
        self._lock.__exit__(kind, error, trace)

    def close(self) -> None:
        """Close the segment."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    # Taking up

    def catch_up(self, wanted: bytes | None = None) -> list[bytes]:
        """Find the chain's end; return those lines that others wrote since and that contain `wanted`."""
        place = self.place
        head, self._head_place = heads.load(place.head, place.name, place.key)
        if head is None:
            return self._without_head(wanted)
        if self._descriptor < 0 or head.segment != self._segment or not self._same_file():
            self._open(head.segment)
            self._offset, self._sequence, self._digest = head.offset, head.sequence, head.digest
        size = os.fstat(self._descriptor).st_size
        if size < self._offset or size < head.offset and head.segment == self._segment:
            self._resume_behind(head.sequence, f"records up to {head.sequence} are gone", head.digest)
            return []
        lines = self._read_on(size, wanted)
        self._compare()
        return lines

    def _compare(self) -> None:
        """Notice, once, that log and head are both older than what the token knows of."""
        if self._compared:
            return
        self._compared = True
        known = self.place.recall()
        if self._sequence < known:
            self._resume_behind(known, f"{OLDER}, up to {known}")

    def _same_file(self) -> bool:
        return self._identity == files.identity(os.path.join(self.place.path, segment_name(self._segment)))

    def _open(self, first: int) -> None:
        self.close()
        path = os.path.join(self.place.path, segment_name(first))
        try:
            self._descriptor = os.open(path, _APPEND)
        except FileNotFoundError:
            files.create(path, b"", self._owner)
            self._descriptor = os.open(path, _APPEND)
            files.sync_directory(self.place.path)
        about = os.fstat(self._descriptor)
        self._segment, self._identity = first, (about.st_dev, about.st_ino)

    def _without_head(self, wanted: bytes | None) -> list[bytes]:
        """Begin a chain, or go on with one whose head is gone, and perhaps more."""
        # What this process has written itself it knows as well as the token.
        known = max(self.place.recall(), self._sequence)
        self._compared = True
        found = segments(self.place.path)
        if not found:
            self._sequence, self._digest, self._offset = known, record.ZERO, 0
            if known:
                self._open(known + 1)
                self._say(events.RESUMED, f"{HEAD_GONE}, and records up to {known}")
                self.sync()  # only then there is a head again, with which the next one says nothing
            else:
                self._store_head(Head(0, 1, 0, record.ZERO))
                self._open(1)
            return []
        first = found[-1][0]
        self._open(first)
        self._offset, self._sequence, self._digest = 0, first - 1, record.ZERO
        lines = self._read_on(os.fstat(self._descriptor).st_size, wanted)
        if self._sequence < known:
            self._resume_behind(known, f"{HEAD_GONE}, and records up to {known}")
        else:
            self._say(events.RESUMED, f"{HEAD_GONE}; later records may be, too")
        return lines

    def _resume_behind(self, known: int, what: str, digest: str | None = None) -> None:
        """Go on behind records that are gone: their numbers are not given out again."""
        self._offset = self._read_whole_tail()
        if known >= self._sequence:
            self._sequence = known
            self._digest = digest or self._digest
        self._say(events.RESUMED, what)

    def _read_whole_tail(self) -> int:
        """Return where the last whole line ends, and cut off what follows."""
        size = os.fstat(self._descriptor).st_size
        start = max(size - _PART, 0)
        os.lseek(self._descriptor, start, os.SEEK_SET)
        data = os.read(self._descriptor, _PART)
        end = start + data.rfind(b"\n") + 1
        if end != size:
            os.ftruncate(self._descriptor, end)
        return end

    def _read_on(self, size: int, wanted: bytes | None) -> list[bytes]:
        lines: list[bytes] = []
        rest = b""
        position = self._offset
        os.lseek(self._descriptor, position, os.SEEK_SET)
        while position < size:
            data = os.read(self._descriptor, min(_PART, size - position))
            if not data:
                break
            position += len(data)
            rest += data
            end = rest.rfind(b"\n") + 1
            if end:
                self._pass(rest[:end], wanted, lines)
                rest = rest[end:]
        if rest:  # its writer was killed in the middle, and answered nobody
            os.ftruncate(self._descriptor, self._offset)
        return lines

    def _pass(self, whole: bytes, wanted: bytes | None, lines: list[bytes]) -> None:
        last = whole[whole.rfind(b"\n", 0, -1) + 1 : -1]
        number = record.sequence(last)
        self._sequence = self._sequence + whole.count(b"\n") if number is None else number
        self._digest = record.digest(last)
        self._offset += len(whole)
        if wanted is not None and wanted in whole:
            lines += [line for line in whole.split(b"\n") if wanted in line]

    def lines_with(self, wanted: bytes, since: int) -> list[bytes]:
        """Return the lines that contain `wanted`, of all segments that were written to since a time (ns)."""
        found: list[bytes] = []
        for _, path in segments(self.place.path):
            if os.stat(path).st_mtime_ns < since - _CLOCK_SLACK:
                continue
            with open(path, "rb") as file:
                rest = b""
                while data := file.read(_PART):
                    whole, _, rest = (rest + data).rpartition(b"\n")
                    if wanted in whole:
                        found += [line for line in whole.split(b"\n") if wanted in line]
        return found

    # Writing

    def write(self, said: Sequence[str]) -> None:
        """Append records; the caller has caught up. After a failure the segment is as it was."""
        key, sequence, digest = self.place.key, self._sequence, self._digest
        lines = []
        for one in said:
            sequence += 1
            line = record.seal(sequence, one, digest, key)
            digest = record.digest(line)
            lines.append(line)
        if not lines:
            return
        lines.append(b"")
        data = b"\n".join(lines)
        if self._offset and self._offset + len(data) > self._settings.segment_mib << 20:
            self._rotate()
            self.write(said)
            return
        self._append(data)
        self._sequence, self._digest = sequence, digest

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except BaseException:
            os.ftruncate(self._descriptor, self._offset)
            raise
        self._offset += len(data)
        self.dirty = True

    def _say(self, event: int, what: str) -> None:
        log.event("error" if event == events.RESUMED else "info", f"audit: {what}", chain=self.place.name)
        raw = events.pack(event, self.place.name.encode(), events.NONE, detail=what)
        self.write([record.body(record.entry_of(raw), self.place.token, own_source(), 1)])

    def _rotate(self) -> None:
        """Begin the next segment; drop the oldest ones where only some are kept."""
        self.sync_records()
        self.dirty = False
        first = self._sequence + 1
        self._store_head(Head(self._sequence, first, 0, self._digest))
        self._open(first)
        self._offset = 0
        keep = self._settings.keep
        found = segments(self.place.path)
        if keep and len(found) > keep:
            gone, kept = found[:-keep], found[-keep][0]
            self._say(events.PRUNED, f"records before {kept} were removed as configured")
            self.sync()
            for _, path in gone:
                files.remove(path)

    def sync(self) -> None:
        """Have all that was written on disk, and then the head."""
        self.sync_records()
        self.sync_head()

    def sync_records(self) -> None:
        """Have all that was written on disk."""
        if self.dirty:
            _sync_data(self._descriptor)

    def sync_head(self) -> None:
        """Say that it is."""
        if not self.dirty:
            return
        self.dirty = False
        self._store_head(Head(self._sequence, self._segment, self._offset, self._digest))

    def _store_head(self, head: Head) -> None:
        self._stored = head.sequence
        self._head_place = 1 - self._head_place
        heads.store(self.place.head, head, self._head_place, self.place.name, self.place.key, self._owner)

    def tell(self) -> None:
        """Tell the token how far the log is on disk, if that is worth it."""
        if self._compared and self.place.witness is not None:
            self.place.witness.tell(self._stored)

    def token_of(self, entry: Sequence[Any]) -> str:
        """Return the token that an entry is about; the module's chain has those of tokens that are gone."""
        name = bytes(entry[12]).rstrip(b"\0").decode("ascii", "replace")
        return name if name.isprintable() and '"' not in name and "\\" not in name else self.place.token

    @property
    def end(self) -> tuple[int, str]:
        """The last record's sequence and digest."""
        return self._sequence, self._digest


_sync_data = getattr(os, "fdatasync", os.fsync)


def own_source() -> str:
    """Return the members of a record that name this process."""
    uid = os.getuid() if hasattr(os, "getuid") else 0
    return f'"pid":{os.getpid()},"uid":{uid}'
