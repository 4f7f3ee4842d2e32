"""The AWS KMS adapter: keys in the AWS Key Management Service (``docs/adapters-aws-kms.md``).

The slot shows the account's keys as they are there: an alias is a label. Nothing is kept on this side.
Public keys verify and encrypt here; what needs a private key is a request to KMS. Whoever may use the
process's AWS credentials may use the keys; a PIN can be asked for on this side besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ferrohsm import __version__
from ferrohsm.adapter_info import AdapterInfo
from ferrohsm.errors import DeviceError, GeneralError
from ferrohsm_adapters.kit.slots import checked_options, local_path
from ferrohsm_adapters.kit.workers import Workers

if TYPE_CHECKING:
    from ferrohsm.config import SlotSection
    from ferrohsm_adapters.aws_kms.signer import KmsSigner
    from ferrohsm_adapters.aws_kms.store import KmsStore

CONCURRENCY = 16
_OPTIONS: dict[str, Any] = {
    "region": str,
    "profile": str,
    "endpoint": str,
    "prefix": str,
    "create": bool,
    "delete_window": int,
    "refresh": (int, float),
    "pin_file": str,
    "timeout": (int, float),
}


class Slot:
    """The one slot of a section."""

    __slots__ = ("description", "free", "id", "manufacturer", "signer", "store")

    def __init__(self, id: int, description: str, store: KmsStore, signer: KmsSigner) -> None:
        self.id = id
        self.description = description
        self.manufacturer = "FerroHSM"
        self.free = False
        self.store = store
        self.signer = signer


class Adapter:
    """Made with its section: ``adapter = "aws_kms"`` and the options that the documentation lists."""

    name = "aws_kms"
    version = __version__
    inline = False

    def __init__(self, section: SlotSection) -> None:
        checked_options(section, **_OPTIONS)
        options = section.options
        window = options.get("delete_window")
        if window is not None and not 7 <= window <= 30:
            raise GeneralError(f"slots.{section.name}.delete_window: must be from 7 to 30 days")
        self._section = section
        self._workers = Workers("ferrohsm-kms", CONCURRENCY)
        self._slots: list[Slot] = []

    async def open(self) -> None:
        """Connect, and look at the keys once. Raises `DeviceError` where KMS does not answer."""
        try:
            from ferrohsm_adapters.aws_kms.client import Kms
        except ImportError as error:
            raise DeviceError(f"pip install 'ferrohsm[aws]' is needed: {error}") from None
        from ferrohsm_adapters.aws_kms.keys import Keys
        from ferrohsm_adapters.aws_kms.pin import Gate
        from ferrohsm_adapters.aws_kms.signer import KmsSigner
        from ferrohsm_adapters.aws_kms.store import KmsStore

        options, section = self._section.options, self._section
        gate = None
        if "pin_file" in options:
            gate = Gate(local_path(section, "pin_file", ""), section.config.pin.tries)
        kms = await self._workers.run(
            Kms,
            options.get("region"),
            options.get("profile"),
            options.get("endpoint"),
            float(options.get("timeout", 10.0)),
        )
        keys = Keys(kms, options.get("prefix", ""), float(options.get("refresh", 30.0)), gate is not None)
        await self._workers.run(keys.refresh)
        window = options.get("delete_window")
        store = KmsStore(keys, self._workers, gate, section.name, window)
        signer = KmsSigner(
            kms, self._workers, create=options.get("create", True), window=window, private=gate is not None
        )
        self._slots = [Slot(keys.slot_id, f"AWS KMS {kms.region}, slot {section.name}", store, signer)]

    def info(self) -> AdapterInfo:
        """Describe the adapter: keys need no login here unless a PIN was set for this side."""
        login = "user" if "pin_file" in self._section.options else "none"
        return AdapterInfo(self.name, self.version, login=login, concurrency=CONCURRENCY)

    async def slots(self) -> Sequence[Slot]:
        """Return the slot."""
        return self._slots

    async def close(self) -> None:
        """Forget the keys and let the threads end."""
        self._slots = []
        self._workers.stop()
