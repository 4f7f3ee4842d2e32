"""The audit of one process: where an event goes, when it is written, and what happens when it cannot be.

A process with a carrier (the ABI) puts events into a ring and has a thread move them into the chains; one
without (the command) writes every event at once.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock, start_new_thread

from ferrohsm import log
from ferrohsm.audit import drain, events, places
from ferrohsm.audit import ring as rings
from ferrohsm.audit.chain import Chain
from ferrohsm.errors import DeviceError, HsmError
from ferrohsm.store import files
from ferrohsm.store.directory import is_serial
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferrohsm.audit.chain import Place
    from ferrohsm.audit.ring import Carrier, Ring
    from ferrohsm.config import Config
    from ferrohsm.store.access import Access

INTERVAL = 200
"""Milliseconds from an event to the disk, at most, where there may be a thread."""
REMEDY = 'set directory in [audit] to a place that can be written, or on_failure = "open" there'
_RETRY = 1.0  # seconds between two tries where events are let go
_STOP_SECONDS = 5.0
_LOCK_SECONDS = 10.0


class Trail:
    """The audit under one directory."""

    def __init__(
        self, config: Config, root: str, make_carrier: Callable[..., Carrier] | None, threads: bool
    ) -> None:
        self.root = root
        self.ring: Ring | None = None
        self.failed = False
        self._config = config
        self._settings = config.audit
        self._make_carrier = make_carrier
        self._threads = threads
        self._lock = allocate_lock()
        self._chains: dict[str, Chain] = {}
        self._places: dict[str, Place] = {}
        self._opened = False
        self._ended = allocate_lock()
        self._lost = 0
        self._tried = 0.0
        self._moved = 0.0
        self._why = ""

    def ready(self) -> None:
        """Raise ``DeviceError`` when nothing can be recorded and nothing must happen unrecorded."""
        if not self._opened or self.failed:
            self._try()

    def put(self, entry: bytes) -> None:
        """Record an event; with ``sync`` it is on disk when this returns. Raises as `ready` does."""
        ring = self.ring
        if ring is None or ring.carrier is None:
            self._try(entry)
            return
        if self.failed:
            self._try()
        carrier = ring.carrier
        if not carrier.push(entry):
            self._try()
            if not carrier.push(entry):
                self._let_go(1)
                return
        if self._settings.durability == "sync":
            self._try()
        elif not self._threads:
            if time.monotonic() - self._moved > INTERVAL / 1000:
                self._try()
        else:
            self.attend()

    def attend(self) -> None:
        """See to it that a thread moves what is in the ring; it ends when nothing comes any more."""
        ring = self.ring
        if self._threads and ring is not None and ring.carrier is not None and ring.carrier.attended(True):
            self._ended.acquire(timeout=_STOP_SECONDS)
            try:
                _start_without_signals(self._serve)
            except RuntimeError:  # the system gives no more threads
                self._threads = False
                self._ended.release()

    def collect(self) -> None:
        """Move what stands in the rings of other processes, whether they run or not, into the chains."""
        directory = os.path.join(self.root, places.RINGS)
        if rings.available and rings.others(directory):
            with files.FileLock(os.path.join(directory, "lock"), self._config.store, _LOCK_SECONDS):
                drain.adopt(self.root, self.chain_of, self._config.store, living=True)

    def settle(self) -> None:
        """Have on disk what was recorded so far. Raises as `ready` does."""
        self._try()

    def _try(self, entry: bytes | None = None) -> None:
        """Write what there is to write."""
        if self.failed and self._settings.on_failure == "open" and time.monotonic() - self._tried < _RETRY:
            self._let_go(entry is not None)
            return
        with _Guarded(self._lock):
            try:
                self._write(entry)
            except Exception as error:
                self._fail(error)
                self._let_go(entry is not None)
            else:
                if self.failed:
                    self._recovered()

    def _write(self, entry: bytes | None) -> None:
        before = _hold_size_signal()
        try:
            self._open()
            if self.ring is not None:
                self._move()
            if entry is not None:
                name = entry[88:120].rstrip(b"\0").decode("ascii", "replace")
                drain.write_at_once(self.chain_of(name), entry)
            for chain in self._chains.values():
                chain.tell()
        finally:
            _release_size_signal(before)

    def _open(self) -> None:
        if self._opened:
            return
        _fill_streams()
        directory = os.path.join(self.root, places.RINGS)
        files.make_directory(directory, self._config.store)
        if rings.available:
            with files.FileLock(os.path.join(directory, "lock"), self._config.store, _LOCK_SECONDS):
                drain.adopt(self.root, self.chain_of, self._config.store)
                if self._make_carrier is not None and self.ring is None:
                    ring = rings.create(directory, self._config.store)
                    ring.carrier = self._make_carrier(ring.memory, self)
                    self.ring = ring
        self._opened = True

    def _move(self) -> None:
        ring = self.ring
        assert ring is not None
        self._moved = time.monotonic()
        ring.lock()
        try:
            drain.move(ring, self.chain_of, dead=False, durable=True)
        finally:
            ring.unlock()

    def chain_of(self, name: str) -> Chain:
        """Return a chain; the module's for a token that is not there any more."""
        if not name or not set(name) <= _NAME or name[0] == ".":
            name = places.MODULE
        if is_serial(name) and places.token_directory(self._config, self.root, name) is None:
            name = places.MODULE
        chain = self._chains.get(name)
        if chain is None:
            chain = self._chains[name] = Chain(self._place(name), self._settings, self._config.store)
        return chain

    def _place(self, name: str) -> Place:
        place = self._places.get(name)
        if place is None:
            place = self._places.setdefault(name, places.find(self._config, self.root, name))
        return place

    def attest(self, name: str, store: Access) -> None:
        """Have an open token learn at its logins how far its log is, and tell what it remembers."""

        def at_login(raw: bytes) -> bytes:
            try:
                place = self._place(name)
            except (OSError, HsmError):
                return raw  # what cannot be recorded is refused elsewhere
            if place.witness is None:
                return raw
            place.witness.store = store
            return place.witness.at_login(place, raw)

        store.witness = at_login

    # When it cannot be written

    def _fail(self, error: Exception) -> None:
        self._tried = time.monotonic()
        if not self.failed:
            if isinstance(error, OSError):
                why = f"{error.filename or self.root}: {error.strerror}"
            else:
                why = str(error)
            self._why = why
            log.event(
                "error", "the audit cannot be written", why=why, then=self._settings.on_failure, remedy=REMEDY
            )
        self.failed = True
        if self.ring is not None and self.ring.carrier is not None:
            self.ring.carrier.broken(True)

    def _let_go(self, count: int) -> None:
        if self._settings.on_failure == "closed":
            raise DeviceError(
                f"the audit cannot be written ({self._why}), and what it must hold is not done without it: "
                f"{REMEDY}"
            )
        self._lost += count

    def _recovered(self) -> None:
        self.failed = False
        if self.ring is not None and self.ring.carrier is not None:
            self.ring.carrier.broken(False)
        log.event("warning", "the audit can be written again", lost=self._lost)
        if self._lost:
            lost, self._lost = self._lost, 0
            raw = events.pack(
                events.RESUMED,
                places.MODULE.encode(),
                events.NONE,
                detail=f"at least {lost} events were let go",
            )
            drain.write_at_once(self.chain_of(places.MODULE), raw)

    # The thread

    def _serve(self) -> None:
        """Move events a short time after they came, as long as some come."""
        ring = self.ring
        try:
            if ring is None or ring.carrier is None:
                return
            carrier = ring.carrier
            while carrier.wait(INTERVAL):
                try:
                    self._try()
                except DeviceError:  # it was said in the log, and the callers are refused
                    carrier.wait(1000)
                if carrier.attended(False):
                    return
        finally:
            self._ended.release()

    def stop(self) -> None:
        """Write what is left and end; what cannot be written stays in the ring for the next process."""
        for place in list(self._places.values()):
            if place.witness is not None:
                place.witness.closing = True
        ring = self.ring
        if ring is not None and ring.carrier is not None:
            ring.carrier.stop()
            if self._ended.acquire(timeout=_STOP_SECONDS):
                self._ended.release()
            try:
                self._try()
                empty = not self.failed and ring.span()[0] == ring.span()[1]
            except DeviceError:
                empty = False
            self.ring = None
            if empty:
                files.remove(ring.path)
            ring.carrier = None
            ring.forsake()
        for chain in self._chains.values():
            chain.close()
        self._chains.clear()


_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class _Guarded:
    """A lock that is not waited for for ever: a thread that died in it must not stop the others."""

    __slots__ = ("_lock",)

    def __init__(self, lock: object) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=30.0):  # type: ignore[attr-defined]
            raise DeviceError("the audit is kept busy")

    def __exit__(self, *_: object) -> None:
        self._lock.release()  # type: ignore[attr-defined]


def _fill_streams() -> None:
    """Put the null device where the host closed a standard stream: what it prints must not get into files."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004
        pass
    os.close(descriptor)


def _start_without_signals(work: Callable[[], None]) -> None:
    """Start a thread to which no signal of the process is delivered but its own faults."""
    import _signal  # type: ignore[import-not-found]

    if not hasattr(_signal, "pthread_sigmask"):
        start_new_thread(work, ())
        return
    faults = {_signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGSEGV}
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, set(_signal.valid_signals()) - faults)
    try:
        start_new_thread(work, ())
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def _hold_size_signal() -> set[int] | None:
    """Keep SIGXFSZ from ending the host when a file reaches the process's limit: it is an error of ours."""
    import _signal

    if not hasattr(_signal, "SIGXFSZ") or not hasattr(_signal, "sigtimedwait"):
        return None
    return set(_signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGXFSZ}))


def _release_size_signal(before: set[int] | None) -> None:
    import _signal

    if before is not None and _signal.SIGXFSZ not in before:
        while _signal.SIGXFSZ in _signal.sigpending():
            _signal.sigtimedwait({_signal.SIGXFSZ}, 0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
