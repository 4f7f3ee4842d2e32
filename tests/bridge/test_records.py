"""What a handle of the backend means after the connection was lost: handles are dealt out anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ferrohsm_adapters.pkcs11_bridge.records import Records


def test_a_handle_that_has_moved_leaves_its_number_to_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    connection: Any = SimpleNamespace(epoch=1)
    records = Records(connection, "serial")
    record = records.of_handle(5)
    record.known_by = ((0, b"known"),)
    for epoch in range(2, 50):
        connection.epoch = epoch
        moved = epoch + 100
        monkeypatch.setattr(records, "search", lambda *_, moved=moved, **__: [moved])
        records.relocate(connection)
        assert records.of_handle(moved) is record
    assert records.of_handle(5) is not record
    assert len(records._by_handle) == 2
