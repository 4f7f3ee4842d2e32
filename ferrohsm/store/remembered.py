"""What a token remembers of its audit: which logs were begun, and up to which record each is known to go.

The log and its head are files, and whoever can delete one can delete both. So the token keeps in its own
counter's record, under that record's MAC, a mark of each log (the default one, or that of a configured
directory) and a sequence number that the log had reached on disk. No commit is made at a use for that: a
login writes the number with what it writes anyway, and whoever moves records into the log when it has grown.
"""

from __future__ import annotations

import struct

from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrohsm.store.access import Access

MARK_SIZE = 8
_LOG = struct.Struct(f"<{MARK_SIZE}sQ")
_MOST = 8
"""Logs that are remembered, those that were written last: a token seldom has more than one."""
_PATIENCE = 0.05
"""Seconds that a note waits for a writer: the next one says more."""


def sound(raw: bytes) -> bool:
    """Say whether this can be what a token remembers."""
    return len(raw) % _LOG.size == 0 and len(raw) <= _MOST * _LOG.size


def last(raw: bytes, mark: bytes) -> int:
    """Return the last record that is remembered of a log; 0 when none is."""
    return max((sequence for log, sequence in _LOG.iter_unpack(raw) if log == mark), default=0)


def noted(raw: bytes, mark: bytes, sequence: int) -> bytes:
    """Return what is remembered once a log is known to have reached a record; it never goes back."""
    sequence = max(sequence, last(raw, mark))
    if not sequence:
        return raw
    kept = [(log, known) for log, known in _LOG.iter_unpack(raw) if log != mark]
    return b"".join(_LOG.pack(*log) for log in [*kept, (mark, sequence)][-_MOST:])


def recall(store: Access, mark: bytes) -> int:
    """Return the last record that a token remembers of a log. Raises ``HsmError`` when it cannot be read."""
    database, _ = store.database()
    with database.read() as (_, records):
        return last(records.logs(), mark)


def note(store: Access, mark: bytes, sequence: int) -> None:
    """Have a token remember that a log has reached a record; a power failure may take that back.

    Raises ``HsmError`` when it cannot be written, or another is writing.
    """
    database, _ = store.database()
    with database.write(lasting=False, announced=False, patience=_PATIENCE) as transaction:
        transaction.logs = noted(transaction.logs, mark, sequence)
