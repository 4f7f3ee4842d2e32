"""The generation of a token, shared by all processes without a system call.

A file of 64 bytes beside the store, mapped by everyone: ``FerroGen`` and then, as 64-bit words in the
machine's order, *begun*, *done* and *gone*. It is a seqlock whose odd state is ``begun != done``. A writer,
under the database's write lock, sets *begun* to the number of its commit, commits, and sets *done* to the
same number. When both are equal, that commit is complete and none has begun since, so a snapshot of that
number may be trusted; two words, because after its commit a writer no longer holds the lock, and with one
word it could overwrite its successor's mark. A writer that was killed in between leaves them unequal:
readers ask the database until the next writer has passed. *gone* is set when the token is deleted or
replaced, so that those who still map the old file look again.

The numbers are the database's own; this file only says whether asking can be spared.
"""

from __future__ import annotations

import mmap
import os

from ferrohsm.errors import DeviceError, HsmError
from ferrohsm.settings import StoreSettings
from ferrohsm.store import files

SIZE = 64
MAGIC = b"FerroGen"
BEGUN, DONE, GONE = 1, 2, 3
_AHEAD = 1 << 20
"""How far the file may be ahead of the database; beyond that it is damaged, and is written anew."""


class Generation:
    """One mapping of the counter; without one, `settled` is always None."""

    __slots__ = ("_path", "_place", "_shared", "_words", "identity", "writable")

    def __init__(self, path: str, place: StoreSettings) -> None:
        self._path = path
        self._place = place
        self._words: memoryview | None = None
        self._shared: memoryview | None = None
        self.identity: tuple[int, int] | None = None
        self.writable = False

    def open(self) -> bool:
        """Map the file; say whether that worked.

        What was mapped before is only let go of: another thread may be reading it.
        """
        for flags, access in ((os.O_RDWR, mmap.ACCESS_WRITE), (os.O_RDONLY, mmap.ACCESS_READ)):
            try:
                descriptor = files.open_regular(self._path, flags, SIZE)
            except (OSError, HsmError):
                continue
            try:
                about = os.fstat(descriptor)
                mapped = mmap.mmap(descriptor, SIZE, access=access)
            except (OSError, ValueError):
                continue
            finally:
                os.close(descriptor)
            if mapped[:8] != MAGIC:
                mapped.close()
                continue
            words = memoryview(mapped).cast("Q")
            self.identity = (about.st_dev, about.st_ino)
            self.writable = access == mmap.ACCESS_WRITE
            self._shared = words[BEGUN : GONE + 1]
            self._words = words
            return True
        self.close()
        return False

    def settled(self) -> int | None:
        """Return the number of the last commit if it is certain, None if the database must be asked."""
        words = self._words
        if words is None:
            return None
        number = words[BEGUN]
        return number if words[DONE] == number and not words[GONE] else None

    def current(self) -> bool:
        """Say whether the file that is mapped is the one that is there."""
        return self.identity is not None and files.identity(self._path) == self.identity

    def gone(self) -> bool:
        """Say whether the token that this file belonged to was deleted or replaced."""
        words = self._words
        return words is not None and words[GONE] != 0

    def after(self, number: int) -> int:
        """Return the number of the next commit, where the database alone would give it `number`.

        A power failure may take back a commit that the file had announced already. Its number must not be
        given to another one, or whoever saw the announcement would take the other commit as known.
        """
        if not self.current():
            self.open()
        words = self._words
        announced = 0 if words is None else max(words[BEGUN], words[DONE])
        return announced + 1 if number <= announced < number + _AHEAD else number

    def begin(self, number: int) -> None:
        """Announce commit `number`; the caller holds the database's write lock.

        Makes the file where there is none. Raises ``DeviceError`` when the others, who may have mapped it,
        could not be told.
        """
        if not self.writable or self.gone() or not self.current():
            self._make(number)
        words = self._words
        if words is not None:
            words[BEGUN] = number

    def done(self, number: int) -> None:
        """Say that commit `number` is on disk.

        Nothing is said about one that failed: SQLite may have given its lock back already, and what an
        interrupted commit had written may still be found whole. The readers ask until the next one.
        """
        words = self._words
        if words is not None and words[BEGUN] == number:
            words[DONE] = number

    def mark_gone(self) -> None:
        """Tell everyone who maps this file to look for another."""
        words = self._words
        if words is not None and self.writable:
            words[GONE] = 1

    def words(self) -> memoryview | None:
        """Return *begun*, *done* and *gone* for those who watch them without Python.

        The memory stays as long as the view does, also after `close`.
        """
        return self._shared

    def close(self) -> None:
        """Let go of the file: it is unmapped when the last one who reads it stops."""
        self._words = self._shared = None
        self.identity = None
        self.writable = False

    def _make(self, number: int) -> None:
        found = self.open()
        if found and self.writable and not self.gone():
            return
        if found and not self.writable:
            raise DeviceError(f"{self._path} cannot be written: other processes would not see the change")
        files.remove(self._path)
        files.put(self._path, fresh(number - 1), self._place)
        if not self.open() or not self.writable:
            # Where nothing can be mapped, nobody trusts the file: everyone asks the database.
            self.close()
            files.remove(self._path)


def fresh(number: int) -> bytes:
    """Return the content of a file whose last commit is `number`."""
    import sys

    word = number.to_bytes(8, sys.byteorder)
    return (MAGIC + word + word).ljust(SIZE, b"\0")
