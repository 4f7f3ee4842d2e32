"""Reading a chain and proving it: what was changed, removed, added, or cut off is found and named.

Every record is read once, in order; a million take some seconds.
"""

from __future__ import annotations

import os
from time import sleep

from ferrohsm.audit import head as heads
from ferrohsm.audit import record
from ferrohsm.audit.chain import HEAD_GONE, OLDER, segments
from ferrohsm.audit.events import NAMES, PRUNED, RESUMED
from ferrohsm.typed import TYPE_CHECKING, Callable, Iterator, NamedTuple

if TYPE_CHECKING:
    from ferrohsm.audit.chain import Place
    from ferrohsm.audit.checkpoint import Checkpoint

_PRUNED = f'"event":"{NAMES[PRUNED]}"'.encode()
_RESUMED = f'"event":"{NAMES[RESUMED]}"'.encode()
LOST_HEAD = "lost head"
"""The finding that a chain has once gone on without its head: what came before may have been cut."""
_STEP = 4096
_MOMENT = 0.02  # seconds in which a line is written
_MOST = 1000
"""Findings that are kept; the rest is counted."""


class Finding(NamedTuple):
    """Something that is not as it was written; `sequence` names the record."""

    kind: str
    sequence: int
    where: str
    text: str


class Line(NamedTuple):
    """A line of the log: where it stands, and its bytes without the newline."""

    file: str
    number: int
    data: bytes
    whole: bool


class Report:
    """What `verify` found."""

    def __init__(self) -> None:
        self.records = 0
        self.first = 0
        self.last = 0
        self.digest = record.ZERO.encode()
        self.findings: list[Finding] = []
        self.notices: list[str] = []
        self.more = 0

    def add(self, kind: str, sequence: int, where: str, text: str) -> None:
        """Add a finding."""
        if len(self.findings) < _MOST:
            self.findings.append(Finding(kind, sequence, where, text))
        else:
            self.more += 1

    @property
    def sound(self) -> bool:
        """Whether the log is what was written."""
        return not self.findings


def lines(path: str) -> Iterator[Line]:
    """Yield every line of a chain's directory, in order."""
    for _, name in segments(path):
        short = os.path.basename(name)
        with open(name, "rb", buffering=1 << 20) as file:
            for number, data in enumerate(file, 1):
                if not data.endswith(b"\n"):
                    sleep(_MOMENT)  # a program may be in the middle of writing it
                    data += file.readline()
                whole = data.endswith(b"\n")
                yield Line(short, number, data[:-1] if whole else data, whole)


def sizes(path: str) -> int:
    """Return the bytes of a chain's segments."""
    return sum(os.path.getsize(name) for _, name in segments(path))


def verify(
    place: Place,
    *,
    checkpoint: Checkpoint | None = None,
    step: Callable[[int], None] | None = None,
) -> Report:
    """Read a chain and say what is wrong with it. `step` is told the bytes that were read.

    Raises `OSError` when it cannot be read.
    """
    # The head is read first: records that are written meanwhile are beyond it.
    head, _ = heads.load(place.head, place.name, place.key)
    known = place.recall()
    walk = _Walk(place, checkpoint)
    report = walk.report
    done = 0
    for line in lines(place.path):
        walk.take(line)
        done += len(line.data) + 1
        if step is not None and not report.records % _STEP:
            step(done)
    walk.end()
    _check_head(place, head, report)
    if known > max(report.last, 0 if head is None else head.sequence):
        gone = f"the token knows of records up to {known}: those after {report.last} are gone"
        report.add("cut", report.last + 1, "token.db", gone)
    if checkpoint is not None and not walk.met:
        report.add(
            "cut",
            checkpoint.sequence,
            "checkpoint",
            f"record {checkpoint.sequence}, which the checkpoint names, is not there",
        )
    return report


class _Walk:
    """The way along a chain, record by record."""

    def __init__(self, place: Place, checkpoint: Checkpoint | None) -> None:
        self.report = Report()
        self.met = False
        self._key = place.key.secret
        self._checkpoint = checkpoint
        self._file = ""
        self._sure = True  # the digest is that of the record before as it was written
        self._pruned = 1
        self._unexplained = 0

    def take(self, line: Line) -> None:
        """Look at the next line."""
        report = self.report
        data = line.data
        number = record.sequence(data)
        if not line.whole or number is None or not record.authentic(data, self._key):
            self._bad(line, number)
            return
        report.records += 1
        if number > report.last + 1 and self._resumed(data):
            report.first = report.first or number  # it says itself what is missing before it
        elif report.last == 0:
            self._first(line, number)
        elif number != report.last + 1:
            self._jump(line, number)
        elif self._sure and record.before(data) != report.digest:
            report.add(
                "changed", number, self._at(line), f"record {number} does not follow the one before it"
            )
        self._file = line.file
        if number > report.last:
            report.last = number
            report.digest = record.quick_digest(data)
            self._sure = True
        self._notice(data, number, self._at(line))
        if self._checkpoint is not None and number == self._checkpoint.sequence:
            self._meet(line, record.quick_digest(data).decode())

    def _bad(self, line: Line, number: int | None) -> None:
        report = self.report
        expected = report.last + 1
        if not line.whole and number is None:
            report.add("torn", expected, self._at(line), f"record {expected} is not whole")
            return
        if number is not None and number <= report.last:
            what = f"a record {number} was added that is not ours"
            report.add("inserted", number, self._at(line), what)
            return
        report.records += 1
        report.add("changed", expected, self._at(line), f"record {expected} was changed, or is not ours")
        if report.first == 0:
            report.first = expected
        report.last = expected
        self._sure = False

    def _resumed(self, data: bytes) -> bool:
        """Say whether a record went on without the head, or behind it, from the last one that is here.

        It names that one's digest: whoever removes more behind it does not hide that.
        """
        return self._sure and _lost(data) is not None and record.before(data) == self.report.digest

    def _first(self, line: Line, number: int) -> None:
        self.report.first = number
        if number == 1:
            if record.before(line.data) != record.ZERO.encode():
                self.report.add("changed", 1, self._at(line), "the first record follows another")
        else:
            self._unexplained = number

    def _jump(self, line: Line, number: int) -> None:
        report = self.report
        if number > report.last + 1:
            missing = number - report.last - 1
            which = (
                f"record {report.last + 1} is"
                if missing == 1
                else f"records {report.last + 1} to {number - 1} are"
            )
            report.add("removed", report.last + 1, self._at(line), f"{which} missing")
        else:
            report.add(
                "moved", number, self._at(line), f"record {number} stands here again, or in the wrong place"
            )

    def _notice(self, data: bytes, number: int, where: str) -> None:
        if _PRUNED in data:
            at = data.find(b"records before ") + 15
            digits = data[at : data.find(b" ", at)]
            if digits.isdigit():
                self._pruned = max(self._pruned, int(digits))
        elif _RESUMED in data:
            said = _lost(data)
            if said is None:
                self.report.notices.append(f"record {number}: {_detail(data)}")
            elif self._vouched(number):
                self.report.notices.append(f"record {number}: {said}")
            else:
                # Whoever cuts the tail and removes the head must not be helped by the next record.
                self.report.add(LOST_HEAD, number, where, f"before record {number} {said}")

    def _vouched(self, number: int) -> bool:
        """Say whether a checkpoint was made after that record: somebody took the log for what it was then."""
        return self._checkpoint is not None and self._checkpoint.sequence >= number

    def _meet(self, line: Line, digest: str) -> None:
        self.met = True
        assert self._checkpoint is not None
        if digest != self._checkpoint.digest:
            number = self._checkpoint.sequence
            said = f"record {number} is not the one that the checkpoint was made of"
            self.report.add("replaced", number, self._at(line), said)

    def end(self) -> None:
        """Say whether what is missing at the beginning was removed as configured."""
        if self._unexplained and self._pruned < self._unexplained:
            first = self._unexplained
            self.report.add("removed", 1, "the beginning", f"records up to {first - 1} are missing")
        elif self._unexplained:
            self.report.notices.append(f"records before {self._unexplained} were removed as configured")

    @staticmethod
    def _at(line: Line) -> str:
        return f"{line.file}:{line.number}"


def _detail(data: bytes) -> str:
    at = data.find(b'"detail":"') + 10
    return data[at : data.find(b'"', at)].decode("ascii", "replace")


def _lost(data: bytes) -> str | None:
    """Return what a record says with which a chain went on though its end was not known, else None."""
    said = _detail(data) if _RESUMED in data else ""
    return said if said.startswith((HEAD_GONE, OLDER)) else None


def _check_head(place: Place, head: heads.Head | None, report: Report) -> None:
    where = os.path.basename(place.head)
    if head is None:
        if report.records or segments(place.path):
            report.add(
                "cut", report.last + 1, where, "the head is missing or damaged: the end cannot be proved"
            )
        return
    if head.sequence > report.last:
        gone = f"records {report.last + 1} to {head.sequence} are gone: the log was cut"
        report.add("cut", report.last + 1, where, gone)
    elif (
        head.sequence == report.last
        and report.last
        and head.digest.encode() != report.digest
        and report.sound
    ):
        report.add(
            "replaced", head.sequence, where, f"record {head.sequence} is not the one that the head names"
        )
