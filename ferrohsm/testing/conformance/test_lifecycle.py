"""Opening, closing and opening again; slots and what they say about themselves."""

from __future__ import annotations

from ferrohsm.adapters import AdapterInfo
from ferrohsm.runtime import step
from ferrohsm.testing.subject import Running, Subject

__all__ = [
    "test_close_may_be_called_twice",
    "test_it_opens_again_with_the_same_slots",
    "test_it_says_what_it_is",
    "test_slots_stay_the_same_objects",
    "test_slots_tell_who_they_are",
    "test_the_tokens_status_is_whole",
]

DESCRIPTION_BYTES, MANUFACTURER_BYTES, LABEL_BYTES, SERIAL_BYTES = 64, 32, 32, 16
SLOT_IDS = range(1, 2**63)


def _slots(running: Running) -> list[object]:
    return list(running.run(running.adapter.slots()))


def test_it_says_what_it_is(running: Running) -> None:
    """Name, version and, where it has `info`, the rest."""
    adapter = running.adapter
    assert isinstance(adapter.name, str) and adapter.name
    assert isinstance(adapter.version, str) and adapter.version
    assert adapter.inline in (True, False)
    describe = getattr(adapter, "info", None)
    if describe is not None:
        info = describe()
        assert isinstance(info, AdapterInfo)
        assert (info.name, info.inline) == (adapter.name, adapter.inline)


def test_slots_tell_who_they_are(running: Running) -> None:
    """Identities are unique, texts fit into ``CK_SLOT_INFO``."""
    slots = running.run(running.adapter.slots())
    identities = [slot.id for slot in slots]
    assert identities and len(set(identities)) == len(identities)
    for slot in slots:
        assert slot.id in SLOT_IDS, f"slot id {slot.id}"
        assert 0 < len(slot.description.encode()) <= DESCRIPTION_BYTES
        assert len(slot.manufacturer.encode()) <= MANUFACTURER_BYTES


def test_slots_stay_the_same_objects(running: Running) -> None:
    """A slot that stays is the same object at every listing, with the same store and signer."""
    first, second = (running.run(running.adapter.slots()) for _ in range(2))
    again = {slot.id: slot for slot in second}
    for slot in first:
        assert again.get(slot.id) is slot, f"slot {slot.id} is another object at the second listing"
        assert again[slot.id].store is slot.store
        assert again[slot.id].signer is slot.signer


def test_the_tokens_status_is_whole(running: Running) -> None:
    """Every field is there and of its type; a token that is initialized has a serial number."""
    status = running.run(running.store.status())
    for field in ("initialized", "user_pin_set", "so_locked", "user_locked", "write_protected"):
        assert isinstance(getattr(status, field), bool), field
    for field in ("so_tries_left", "user_tries_left", "tries_allowed"):
        assert getattr(status, field) >= 0, field
    assert len(status.label.encode()) <= LABEL_BYTES
    assert 0 < len(status.serial.encode()) <= SERIAL_BYTES


def test_it_opens_again_with_the_same_slots(adapter_under_test: Subject) -> None:
    """A program finds its token by slot id or serial number: both stay."""
    seen = []
    for _ in range(2):
        with adapter_under_test.open() as running:
            seen.append((running.slot_id, running.run(running.store.status()).serial))
    assert seen[0] == seen[1]


def test_close_may_be_called_twice(adapter_under_test: Subject) -> None:
    """Closing what is closed, or was never opened, is nothing."""
    with adapter_under_test.open() as running:
        adapter = running.adapter
        for _ in range(2):
            running.run(adapter.close())
    unopened = adapter_under_test.make()
    if unopened.inline:
        step(unopened.close())
    else:
        import asyncio

        asyncio.run(unopened.close())
