"""The software adapter's slots: tokens of a directory, the free one last, and a place without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_support import step
from ferrohsm_adapters.software import Adapter, Slot

from ferrohsm.config import SlotSection


def opened(path: Path | None, *, free_slot: bool = True) -> Adapter:
    options: dict[str, Any] = {"data_dir": None if path is None else str(path), "free_slot": free_slot}
    adapter = Adapter(SlotSection("main", "software", options))
    step(adapter.open())
    return adapter


def slots(adapter: Adapter) -> list[Slot]:
    return list(step(adapter.slots()))


def initialize(slot: Slot) -> None:
    step(slot.store.initialize(bytearray(b"so-pin"), "a token"))


def test_no_place_for_tokens() -> None:
    adapter = opened(None)
    [slot] = slots(adapter)
    assert slot.store is None
    assert not slot.free
    assert 0 < slot.id < 2**31
    assert slots(adapter) == [slot]
    step(adapter.close())


def test_the_free_slot_becomes_a_token_and_stays_where_it_is(tmp_path: Path) -> None:
    adapter = opened(tmp_path / "data")
    [free] = slots(adapter)
    assert free.free
    slot_id = free.id
    assert slots(adapter)[0] is free
    initialize(free)
    token, other = slots(adapter)
    assert token is free
    assert (token.id, token.free) == (slot_id, False)
    assert other.free
    assert other.id != slot_id
    step(adapter.close())
    again = opened(tmp_path / "data")
    assert [(slot.id, slot.free) for slot in slots(again)] == [(slot_id, False), (other.id, True)]
    step(again.close())


def test_the_free_slot_can_be_hidden(tmp_path: Path) -> None:
    first = opened(tmp_path / "data")
    [free] = slots(first)
    initialize(free)
    step(first.close())
    adapter = opened(tmp_path / "data", free_slot=False)
    [token] = slots(adapter)
    assert (token.id, token.free) == (free.id, False)
    step(adapter.close())
    nothing = opened(tmp_path / "other", free_slot=False)
    assert slots(nothing) == []
    step(nothing.close())


def test_another_process_makes_a_token(tmp_path: Path) -> None:
    mine, theirs = opened(tmp_path / "data"), opened(tmp_path / "data")
    [my_free], [their_free] = slots(mine), slots(theirs)
    assert my_free.id == their_free.id
    initialize(their_free)
    token, other = slots(mine)
    assert (token.id, token.free) == (their_free.id, False)
    assert other.free
    step(mine.close())
    step(theirs.close())


def test_all_slots_share_one_engine(tmp_path: Path) -> None:
    adapter = opened(tmp_path / "data")
    initialize(slots(adapter)[0])
    token, free = slots(adapter)
    assert token.signer is free.signer is adapter.engine
    assert adapter.inline
    step(adapter.close())


@pytest.mark.parametrize("path", ["/proc/nothing/here"])
def test_a_directory_that_cannot_be_made(path: str) -> None:
    from ferrohsm.errors import HsmError

    adapter = Adapter(SlotSection("main", "software", {"data_dir": path, "free_slot": True}))
    with pytest.raises(HsmError):
        step(adapter.open())
        step(adapter.slots())
