"""Keys that a device keeps: what the core does so that none is left behind in the device.

See `ferrohsm.adapters.CKA_REFERENCE` and ``docs/adr/0011-keys-that-a-device-keeps.md``.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Value
from ferrohsm.attribute_kinds import number
from ferrohsm.errors import FunctionNotSupported
from ferrohsm.typed import TYPE_CHECKING, Any, Iterable

if TYPE_CHECKING:
    from ferrohsm.entries import Entry
    from ferrohsm.tokens import Token

_KEYS = (ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY, ck.CKO_SECRET_KEY)


def reference_of(attributes: Attributes) -> bytes | None:
    """Return what names the key in its device, None when no device keeps it."""
    reference = attributes.get(CKA_REFERENCE)
    return None if reference is None or isinstance(reference, tuple) else bytes(reference)


async def keep(token: Token, attributes: Attributes) -> None:
    """Let the device take a key that was brought in, if it takes such keys; secrets do not stay here then.

    What the device tells about the key replaces what was asked for.
    """
    take = getattr(token.signer, "keep", None)
    if take is None or number(attributes[ck.CKA_CLASS]) not in _KEYS or CKA_REFERENCE in attributes:
        return
    made: Attributes = await take(dict(attributes))
    if CKA_REFERENCE in made:
        for attribute, value in list(attributes.items()):
            if isinstance(value, bytearray):
                value[:] = bytes(len(value))
                del attributes[attribute]
    attributes.update(made)


async def copy(token: Token, entry: Entry, attributes: Attributes, changed: Attributes) -> None:
    """Let the device copy its key, and put the copy's reference into `attributes`.

    Raises `FunctionNotSupported` when the device copies no keys.
    """
    if attributes.pop(CKA_REFERENCE, None) is None:
        return
    duplicate = getattr(token.signer, "copy", None)
    if duplicate is None:
        raise FunctionNotSupported("the device that keeps the key does not copy it")
    attributes.update(await duplicate(entry.key, dict(changed)))


async def change(token: Token, entry: Entry, changed: dict[int, Value | None]) -> None:
    """Tell the device what changes about a session object that it keeps; a store does so for the others."""
    tell = getattr(token.signer, "change", None)
    if tell is not None and entry.oid < 0 and CKA_REFERENCE in entry.attributes:
        await tell(entry.key, dict(changed))


async def give_back(token: Token, references: Iterable[bytes | None]) -> None:
    """Release keys in the device. A failure is logged: it changes nothing about what is done here."""
    release = getattr(token.signer, "release", None)
    for reference in references:
        if reference is not None and release is not None:
            try:
                await release(reference)
            except Exception as error:
                log.failure("a key could not be released in its device", error, slot=token.id)


def of_session_objects(entries: Iterable[Any]) -> list[bytes]:
    """Return the references of session objects that are going; token objects stay in their device."""
    return [
        reference
        for entry in entries
        if entry is not None and entry.oid < 0 and (reference := reference_of(entry.attributes)) is not None
    ]
