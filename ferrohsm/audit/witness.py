"""What a token's own store knows of its log, so that a log that is gone, head and all, is missed.

The head (`ferrohsm.audit.head`) is a file as the log is, and goes with it. The store keeps a number that the
log has reached (`ferrohsm.store.remembered`); who deletes that destroys the token.
"""

from __future__ import annotations

import os

from ferrohsm.audit import hashing
from ferrohsm.audit import head as heads
from ferrohsm.errors import DeviceRemoved
from ferrohsm.store import remembered
from ferrohsm.typed import TYPE_CHECKING, Callable, TypeVar

if TYPE_CHECKING:
    from ferrohsm.audit.chain import Place
    from ferrohsm.config import Config
    from ferrohsm.store.access import Access

T = TypeVar("T")

_GROWN = 1024
"""Records after which the store is told again."""


def mark_of(directory: str | None) -> bytes:
    """Return what names a token's log in its store: the default one, or that of a configured directory.

    The default one moves with the token; of programs that are configured otherwise, each has its own.
    """
    if directory is None:
        return bytes(remembered.MARK_SIZE)
    return bytes.fromhex(hashing.digest(os.path.realpath(directory).encode()))[: remembered.MARK_SIZE]


class Witness:
    """One token's knowledge of its log; `store` is the token as this process has it open, if it has."""

    __slots__ = ("_config", "_known", "_mark", "_path", "_told", "closing", "store")

    def __init__(self, config: Config, path: str, mark: bytes) -> None:
        self.store: Access | None = None
        # Once the process ends nothing is opened any more: OpenSSL may have ended before it.
        self.closing = False
        self._config = config
        self._path = path
        self._mark = mark
        self._known: int | None = None
        self._told = 0

    def recall(self) -> int | None:
        """Return the last record that the token knows of, 0 if it knows of none; None when it cannot tell."""
        if self._known is None:
            try:
                self._known = self._with_store(lambda store: remembered.recall(store, self._mark))
            except Exception:
                return None  # a token that cannot be read is not used, and says so itself
        return self._known

    def at_login(self, place: Place, raw: bytes) -> bytes:
        """Learn what the token remembers, and return what it is to remember: how far the head says it is."""
        self._known = remembered.last(raw, self._mark)
        try:
            head, _ = heads.load(place.head, place.name, place.key)
        except OSError:
            return raw  # whoever writes the log is told the same
        return raw if head is None else remembered.noted(raw, self._mark, head.sequence)

    def tell(self, sequence: int) -> None:
        """Have the token remember that its log has reached a record on disk, if that is worth it."""
        if self._known is None:
            return
        before = max(self._known, self._told)
        if sequence > before and (before == 0 or sequence - before >= _GROWN):
            self._told = sequence
            try:
                self._with_store(lambda store: remembered.note(store, self._mark, sequence))
            except Exception:
                return  # a token that cannot be written now; it is told when the log has grown on
            self._known = sequence

    def _with_store(self, work: Callable[[Access], T]) -> T:
        """Do something with the token as it is open here, else with one that is opened for it."""
        store = self.store
        if store is not None:
            try:
                return work(store)
            except DeviceRemoved:  # it was closed, or is another file by now
                pass
        if self.closing:
            raise DeviceRemoved("the process ends")
        from ferrohsm.store.token import TokenStore

        opened = TokenStore(self._path, os.path.basename(self._path), self._config, _none_is_made)
        try:
            return work(opened)
        finally:
            opened.shut()


def _none_is_made(store: Access, so_pin: bytearray, label: str) -> None:
    raise DeviceRemoved("the token was deleted")
