"""The TPM adapter: keys in a TPM 2.0, tokens in a directory (``docs/adapters-tpm2.md``).

A token's PINs and objects are kept as the software adapter keeps them. Its private keys are the TPM's: an
object holds a blob that only this TPM can use, and the key's random authorization value. What opens the
token is sealed in the TPM too, behind the PIN: without the TPM a stolen directory cannot even be guessed
at, and with it wrong guesses run into the TPM's own lockout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ferrohsm import __version__
from ferrohsm.adapter_info import AdapterInfo
from ferrohsm.errors import DeviceError
from ferrohsm_adapters.kit.slots import LocalSlots, Slot, checked_options
from ferrohsm_adapters.kit.workers import Workers

if TYPE_CHECKING:
    from ferrohsm.config import SlotSection
    from ferrohsm_adapters.kit.slots import LocalStore

DEFAULT_TCTI = "device:/dev/tpmrm0"


class Adapter:
    """Made with its section: ``adapter = "tpm2"``, ``tcti``, ``exclusive``, ``data_dir``, ``free_slot``."""

    name = "tpm2"
    version = __version__
    inline = False

    def __init__(self, section: SlotSection) -> None:
        checked_options(section, tcti=str, exclusive=bool, data_dir=str, free_slot=bool)
        self._section = section
        self._workers = Workers("ferrohsm-tpm2")
        self._device: Any = None
        self._slots: LocalSlots | None = None

    async def open(self) -> None:
        """Connect to the TPM and open the tokens. Raises `DeviceError` where either is not there."""
        try:
            from ferrohsm_adapters.tpm2.device import Device
        except ImportError as error:
            raise DeviceError(f"pip install 'ferrohsm[tpm]' and libtss2 are needed: {error}") from None
        from ferrohsm_adapters.tpm2.signer import TpmSigner

        options = self._section.options
        device = Device(options.get("tcti", DEFAULT_TCTI), exclusive=options.get("exclusive", False))
        await self._workers.run(device.open)
        self._device = device
        signer = TpmSigner(device, self._workers, *await self._workers.run(device.capabilities))
        self._slots = LocalSlots(
            self._section,
            signer,
            description=f"TPM 2.0, slot {self._section.name}",
            manufacturer="FerroHSM",
            around=self._store,
        )
        self._slots.open()

    def _store(self, token: LocalStore) -> Any:
        from ferrohsm_adapters.tpm2.store import TpmStore

        assert self._slots is not None
        return TpmStore(token, self._device, self._workers, self._slots.path, self._section.config)

    def info(self) -> AdapterInfo:
        """Describe the adapter: one TPM does one thing at a time."""
        return AdapterInfo(self.name, self.version, deadline=120.0, concurrency=8)

    async def slots(self) -> Sequence[Slot]:
        """Return the tokens and the free slot."""
        return [] if self._slots is None else self._slots.slots()

    async def close(self) -> None:
        """Close the tokens and leave the TPM."""
        slots, self._slots = self._slots, None
        device, self._device = self._device, None
        if slots is not None:
            await slots.close()
        if device is not None:
            await self._workers.run(device.close)
        self._workers.stop()
