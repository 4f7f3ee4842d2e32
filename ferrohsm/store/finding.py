"""What finds a token's objects by name without Python, as long as the usual case lasts.

An adapter may bring a `NativeFinder` (the software adapter's is in its kernels). It has connections of its
own to the token's file, which are opened only when somebody has searched a few times, and closed whenever the
store's own idle ones are: before a fork, when the file is another, when the token is closed.
"""

from __future__ import annotations

from ferrohsm.errors import HsmError
from ferrohsm.store import schema
from ferrohsm.store.sealing import PublicKeys, subkey, wipe
from ferrohsm.typed import TYPE_CHECKING, Callable, Protocol

if TYPE_CHECKING:
    from ferrohsm.store.database import Database

# With 8 MiB the inner pages of a million objects stay; it takes memory only as pages are read.
_PRAGMAS = ";".join((*schema.PRAGMAS, "PRAGMA cache_size=-8192"))


class NativeFinder(Protocol):
    """A finder of ``ferrohsm_finder.h`` and what it is told."""

    is_open: bool

    def open(
        self, uri: str, pragmas: str, incarnation: bytes, index_key: bytes, chain_key: bytes, mac_key: bytes
    ) -> bool:
        """Open the file; False where it cannot be."""

    def close(self) -> None:
        """Close the file, when the searches under way have ended."""

    def log_in(self, incarnation: bytes, index_key: bytearray, seal_key: bytearray) -> None:
        """Take the keys of the user's login, which the caller wipes."""

    def log_out(self) -> None:
        """Wipe the keys of the login."""

    def abandon(self) -> None:
        """Never touch again what is open: it is the parent's of a fork."""

    def capsule(self) -> object:
        """Return what the ABI calls."""


MakeFinder = Callable[[bytes], NativeFinder]


class Finding:
    """The finder of one token. Without one, nothing here does anything."""

    __slots__ = ("_capsule", "_incarnation", "_native", "_refused")

    def __init__(self, make: MakeFinder | None, serial: bytes) -> None:
        self._native = None if make is None else make(serial)
        self._capsule: object | None = None
        self._incarnation = b""
        self._refused = False

    @property
    def is_open(self) -> bool:
        """Whether it has the file open."""
        return self._native is not None and self._native.is_open

    def ready(self, database: Database, public: PublicKeys) -> object | None:
        """Return the capsule of an open finder, None where there is none."""
        native = self._native
        if native is None or self._refused:
            return None
        # A file put in the place of another, such as a backup of it, may be of the same incarnation.
        if not native.is_open or self._incarnation != public.incarnation or database.finding is not self:
            database.finding = self
            if not database.lend(lambda uri: self._open(native, uri, public)):
                return None
        if self._capsule is None:
            self._capsule = native.capsule()
        return self._capsule

    def _open(self, native: NativeFinder, uri: str, public: PublicKeys) -> bool:
        incarnation = public.incarnation
        opened = native.open(uri, _PRAGMAS, incarnation, public.index_key, public.chain_key, public.mac_key)
        self._incarnation = incarnation
        self._refused = not opened  # it would be refused at every search
        return opened

    def log_in(self, incarnation: bytes, master: bytearray) -> None:
        """Take the keys of the user's login; without them nothing is found for a user."""
        if self._native is None:
            return
        index, seal = subkey(master, b"ferrohsm index"), subkey(master, b"ferrohsm seal")
        try:
            self._native.log_in(incarnation, index, seal)
        except HsmError:  # it finds nothing then, and the store is asked
            self._native.log_out()
        finally:
            wipe(index)
            wipe(seal)

    def log_out(self) -> None:
        """Wipe the keys of the login."""
        if self._native is not None:
            self._native.log_out()

    def close(self) -> None:
        """Close the file."""
        if self._native is not None:
            self._native.close()

    def abandon(self) -> None:
        """In the child of a fork: leave everything to the parent."""
        native, self._native = self._native, None
        self._capsule = None
        if native is not None:
            native.abandon()
            _abandoned.append(native)


_abandoned: list[object] = []
