"""The software adapter: tokens in a directory, keys computed here.

Slots are the tokens of the data directory and, listed last, a free one: the token that is made next.
Without a data directory there is one slot with no token in it.
"""

from __future__ import annotations

from ferrohsm import __version__, log
from ferrohsm.adapters import AdapterInfo
from ferrohsm.errors import HostMemory
from ferrohsm.typed import TYPE_CHECKING, Sequence, cast
from ferrohsm_adapters.software.engine import Engine, Kernels

if TYPE_CHECKING:
    from ferrohsm.adapters import HardwareKeyStore, HardwareSigner
    from ferrohsm.config import SlotSection
    from ferrohsm.store.directory import TokenDirectory, TokenSlots

MANUFACTURER = "FerroHSM"
# The slot of a configuration that has no place for tokens: any id would do, it never gets one.
_EMPTY_SLOT = 1


def kernels() -> Kernels | None:
    """Return the native kernels, None where they were not built."""
    try:
        from ferrohsm_adapters.software import _kernels
    except ImportError as error:
        log.event("warning", "the native kernels are not there: operations take longer", why=str(error))
        return None
    return cast("Kernels", _kernels)


class Slot:
    """A slot: a token of the directory, the free one, or (`store` is None) one without a token."""

    __slots__ = ("description", "free", "id", "manufacturer", "signer", "store")

    store: HardwareKeyStore

    def __init__(
        self, id: int, description: str, store: HardwareKeyStore | None, signer: HardwareSigner, free: bool
    ) -> None:
        self.id = id
        self.description = description
        self.manufacturer = MANUFACTURER
        # The protocol has a store always; the core reads None as "no token in the slot".
        self.store = store  # type: ignore[assignment]
        self.signer = signer
        self.free = free

    def __repr__(self) -> str:
        """Return the slot's id and what is in it."""
        return f"<Slot {self.id}{' (free)' if self.free else ''}>"


class Adapter:
    """Made with its section of the configuration (``[slots.NAME]``, ``adapter = "software"``)."""

    name = "software"
    version = __version__
    inline = True

    def __init__(self, section: SlotSection) -> None:
        self.section = section
        self._kernels = kernels()
        self.engine = Engine(self._kernels)
        self.directory: TokenDirectory | None = None
        self._slots: TokenSlots[Slot] | None = None
        self._empty: Slot | None = None

    def info(self) -> AdapterInfo:
        """Describe the adapter; what the engine can, each slot's signer says."""
        return AdapterInfo(self.name, self.version, inline=True)

    async def open(self) -> None:
        """Open the data directory. Raises what keeps it from being used, or memory from being locked."""
        self._lock_memory()
        path = self.section.options.get("data_dir")
        if path is None:
            return
        from ferrohsm.store import engine
        from ferrohsm.store.directory import TokenDirectory, TokenSlots

        if self._kernels is not None:
            engine.use(self._kernels.mac_into)
        self.directory = TokenDirectory(path, self.section.config, getattr(self._kernels, "Finder", None))
        offer_free = bool(self.section.options.get("free_slot", True))
        self._slots = TokenSlots(self.directory, offer_free, self._slot)

    def _lock_memory(self) -> None:
        """Do as ``memory_lock`` says where the system's limit keeps secrets from being locked in memory."""
        config = self.section.config
        required = config is not None and config.memory_lock == "require"
        if self._kernels is not None and self._kernels.require_lock(required):
            return
        remedy = "raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)"
        if required:
            raise HostMemory(f'memory cannot be locked, and memory_lock = "require": {remedy}')
        log.event("warning", "secrets are not locked in memory and may be swapped out", remedy=remedy)

    async def slots(self) -> Sequence[Slot]:
        """Return the tokens that are there now and the free slot, each the same object every time."""
        if self._slots is None:
            if self._empty is None:
                self._empty = Slot(_EMPTY_SLOT, self._description(), None, self.engine, False)
            return [self._empty]
        return self._slots.look()

    async def close(self) -> None:
        """Close every token of the directory."""
        self._slots = None
        if self._kernels is not None:
            self._kernels.stop()
        directory, self.directory = self.directory, None
        if directory is not None:
            await directory.close()

    def _slot(self, slot_id: int, store: HardwareKeyStore) -> Slot:
        return Slot(slot_id, self._description(), store, self.engine, False)

    def _description(self) -> str:
        return f"FerroHSM software slot {self.section.name}"
