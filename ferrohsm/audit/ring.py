"""The ring: a mapped file into which a process writes its events, and which outlives it.

``rings/PID-ID.ring`` beside the chains: a page of header (``FerroRng``, version and size of an entry,
capacity, id, process, user, time; at 128 the number of the next entry, at 256 the number of the first one
that is not yet in a chain), then the entries (`ferrohsm.audit.events.ENTRY`). Entry *n* stands in place *n*
modulo the capacity and is complete when its first word is *n* + 1: one that a kill interrupted is told by
that.

The owner holds a record lock on the first byte as long as it lives; whoever can take it has found an
orphan. Who moves entries into chains, be it the owner or another, holds the lock on the second byte.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import sys
import time

from ferrohsm.audit.events import CLOSED, COUNT, ENTRY, ENTRY_SIZE
from ferrohsm.errors import DeviceError
from ferrohsm.store import files
from ferrohsm.typed import TYPE_CHECKING, Any, Protocol

try:
    import fcntl
except ImportError:  # Windows: there are no rings, every event is written at once
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferrohsm.settings import StoreSettings

CAPACITY = 2048
"""Entries in a ring: half a MiB."""
_MOST = 1 << 20
HEADER = 4096
_MAGIC = b"FerroRng"
_VERSION = 1
_FACTS = struct.Struct("<8sIIQ8sQQQ")
_HEAD, _TAIL = 128 // 8, 256 // 8
_WORDS = ENTRY_SIZE // 8
_COMMIT, _COUNT, _TAKEN = 0, 1, 2
_OWNER, _DRAIN = 0, 1
SUFFIX = ".ring"

available = fcntl is not None and sys.byteorder == "little"
_own: set[tuple[int, str]] = set()


class Carrier(Protocol):
    """What writes into a ring without Python's lock; the ABI has one (`pkcs11_abi/auditing.pxi`)."""

    def push(self, entry: bytes) -> bool:
        """Put an entry in; False when the ring is full."""

    def close(self, number: int) -> int:
        """Let entry `number` count no further; return its count word."""

    def broken(self, state: bool) -> None:
        """Say whether the chains cannot be written."""

    def wait(self, milliseconds: int) -> bool:
        """Wait for that time, or until the ring is half full; False once `stop` was called."""

    def attended(self, state: bool) -> bool:
        """Say whether a thread may now begin to look after the ring, or end; that takes effect at once."""

    def stop(self) -> None:
        """End every `wait`."""


class Ring:
    """A ring that is mapped: this process's own (`carrier` writes into it), or another's."""

    def __init__(self, path: str, descriptor: int, mapped: mmap.mmap) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self.descriptor = descriptor
        self.carrier: Carrier | None = None
        self._mapped = mapped
        self._view = memoryview(mapped)
        self._words = self._view.cast("Q")
        facts = _FACTS.unpack(mapped[: _FACTS.size])
        self.capacity: int = facts[3]
        self.pid: int = facts[5]
        self.uid: int = facts[6]
        self.started: int = facts[7]
        self.tag: str = facts[4].hex()

    @property
    def memory(self) -> memoryview:
        """The whole ring, for the carrier."""
        return self._view

    @property
    def source(self) -> str:
        """The members of a record that name the process."""
        return f'"pid":{self.pid},"uid":{self.uid}'

    @property
    def mark(self) -> bytes:
        """What every line from this ring contains."""
        return f'"ring":"{self.tag}.'.encode()

    def span(self) -> tuple[int, int]:
        """Return the numbers of the first entry that is not in a chain yet and of the next one."""
        tail, head = self._words[_TAIL], self._words[_HEAD]
        if not tail <= head <= tail + self.capacity:
            raise DeviceError(f"{self.path} is damaged")
        return tail, head

    def _at(self, number: int) -> int:
        return HEADER // 8 + number % self.capacity * _WORDS

    def committed(self, number: int) -> bool:
        """Say whether an entry is complete."""
        return self._words[self._at(number) + _COMMIT] == number + 1

    def read(self, number: int) -> Sequence[Any]:
        """Return an entry's fields."""
        return ENTRY.unpack_from(self._view, HEADER + number % self.capacity * ENTRY_SIZE)

    def chain_of(self, number: int) -> str:
        """Return the name of an entry's chain."""
        start = HEADER + number % self.capacity * ENTRY_SIZE + 88
        return bytes(self._view[start : start + 32]).rstrip(b"\0").decode("ascii", "replace")

    def count(self, number: int) -> int:
        """Return how often it happened so far; this process's own entry counts no further."""
        at = self._at(number)
        value: int = self._words[at + _COUNT]
        if self.carrier is not None and not value & CLOSED:
            value = self.carrier.close(number)
        return int(value & COUNT)

    def taken(self, number: int) -> int:
        """Return how often it is in the chain already."""
        return self._words[self._at(number) + _TAKEN]

    def take(self, number: int, count: int) -> None:
        """Say that it is in the chain `count` times."""
        tail, head = self.span()
        if tail <= number < head and count > self.taken(number):
            self._words[self._at(number) + _TAKEN] = count

    def counts_on(self, number: int) -> bool:
        """Say whether the owner may still count this entry up."""
        return not self._words[self._at(number) + _COUNT] & CLOSED

    def advance(self, number: int) -> None:
        """Free the places of the entries before `number`."""
        self._words[_TAIL] = number

    def lock(self) -> None:
        """Have its entries alone; raises ``DeviceError`` when another process keeps them for seconds."""
        deadline = time.monotonic() + 10.0
        while not _locked(self.descriptor, _DRAIN):
            if time.monotonic() > deadline:
                raise DeviceError(f"another process has kept {self.path} locked")
            time.sleep(0.002)

    def unlock(self) -> None:
        """Give them on."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, _DRAIN)

    def here(self) -> bool:
        """Say whether the file is still in its place."""
        about = os.fstat(self.descriptor)
        return files.identity(self.path) == (about.st_dev, about.st_ino)

    def forsake(self) -> None:
        """Unmap and close; the file stays. Nobody may write into it any more."""
        _own.discard((os.getpid(), self.path))
        self._words.release()
        self._view.release()
        try:
            self._mapped.close()
        except BufferError:
            pass  # somebody has a view of it still: it is unmapped when that one goes
        os.close(self.descriptor)


def create(directory: str, owner: StoreSettings) -> Ring:
    """Make this process's ring, all of it on the disk's account; the caller holds the directory's lock."""
    identity = os.urandom(8)
    path = os.path.join(directory, f"{os.getpid()}-{identity.hex()}{SUFFIX}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o600)
    size = HEADER + CAPACITY * ENTRY_SIZE
    try:
        files.own(descriptor, owner)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            # A hole would be a SIGBUS in somebody's C_Sign when the disk is full.
            zeros = bytes(1 << 16)
            for _ in range(0, size, len(zeros)):
                os.write(descriptor, zeros)
            os.ftruncate(descriptor, size)
        uid = os.getuid()
        facts = _FACTS.pack(
            _MAGIC, _VERSION, ENTRY_SIZE, CAPACITY, identity, os.getpid(), uid, time.time_ns()
        )
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, facts)
        if not _locked(descriptor, _OWNER):
            raise DeviceError(f"{path} cannot be locked")
        mapped = mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        files.remove(path)
        raise
    _own.add((os.getpid(), path))
    return Ring(path, descriptor, mapped)


def others(directory: str) -> list[str]:
    """Return the paths of the rings of other processes."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    paths = [os.path.join(directory, name) for name in sorted(names) if name.endswith(SUFFIX)]
    return [path for path in paths if (os.getpid(), path) not in _own]


def open_other(path: str) -> Ring | None:
    """Map another process's ring; None when it is gone, or was never finished."""
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    size = os.fstat(descriptor).st_size
    try:
        facts = os.read(descriptor, _FACTS.size)
        if len(facts) == _FACTS.size:
            magic, version, entry, capacity, *_ = _FACTS.unpack(facts)
            whole = HEADER + capacity * ENTRY_SIZE
            known = (magic, version, entry) == (_MAGIC, _VERSION, ENTRY_SIZE)
            if known and 0 < capacity <= _MOST and size == whole:
                return Ring(path, descriptor, mmap.mmap(descriptor, size))
    except (OSError, ValueError):
        pass
    if _locked(descriptor, _OWNER):
        files.remove(path)  # nothing was ever written into it
    os.close(descriptor)
    return None


def orphan(ring: Ring) -> bool:
    """Say whether the owner of another's ring is dead."""
    return _locked(ring.descriptor, _OWNER)


def _locked(descriptor: int, byte: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True
