"""A slot as it was last seen."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.errors import DeviceRemoved, HsmError, TokenNotPresent
from ferrohsm.typed import Any


class SlotView:
    """A slot as it is now; `flags` are ``CKF_*`` of ``CK_SLOT_INFO``.

    `removed` says that the token was taken out, not only that it cannot be asked now. `max_sessions` is
    what the device takes, None when no limit is known.
    """

    __slots__ = (
        "description",
        "free",
        "id",
        "initialized",
        "inline",
        "manufacturer",
        "max_sessions",
        "removed",
        "token_present",
        "write_protected",
    )

    def __init__(self, slot_id: int, description: str, manufacturer: str, *, inline: bool = True) -> None:
        self.id = slot_id
        self.description = description
        self.manufacturer = manufacturer
        self.inline = inline
        self.free = False
        self.initialized = False
        self.token_present = False
        self.removed = False
        self.write_protected = False
        self.max_sessions: int | None = None

    @property
    def flags(self) -> int:
        """The flags of ``CK_SLOT_INFO``."""
        return ck.CKF_TOKEN_PRESENT if self.token_present else 0

    def without_token(self) -> SlotView:
        """Return the same slot, empty."""
        view = SlotView(self.id, self.description, self.manufacturer, inline=self.inline)
        view.free, view.removed = self.free, True
        return view

    def __repr__(self) -> str:
        """Name the slot."""
        return f"<SlotView {self.id} {self.description!r}>"


async def view_of(slot: Any, *, inline: bool = False) -> SlotView:
    """Return a slot as it is now; one whose token cannot be asked has none."""
    view = SlotView(slot.id, slot.description, slot.manufacturer, inline=inline)
    view.free = slot.free
    if slot.store is None:
        view.removed = True
        return view
    try:
        status = await slot.store.status()
        refresh = getattr(slot.store, "refresh", None)
        if refresh is not None:
            refresh()
        view.initialized, view.write_protected = status.initialized, status.write_protected
        view.token_present = True
    except HsmError as error:
        view.removed = isinstance(error, DeviceRemoved | TokenNotPresent)
        log.event("warning", "the slot has no usable token", slot=slot.id, why=str(error))
    return view
