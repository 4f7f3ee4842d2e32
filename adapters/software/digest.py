"""Digests: SHA-1, SHA-2, SHA-3 (PKCS#11 3.2, "Digests")."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes

from ferrohsm.adapters import Key
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS
from ferrohsm_adapters.software.operation import EngineOperation


class Digest(EngineOperation):
    """One digest."""

    __slots__ = ("context", "length")

    context: hashes.Hash | None

    def __init__(self, name: str) -> None:
        super().__init__()
        function = HASH_FUNCTIONS[name]
        self.length = function.digest_size
        self.context = hashes.Hash(function)

    def finish_length(self) -> int:
        return self.length

    def _update(self, data: memoryview) -> bytes:
        assert self.context is not None
        self.context.update(data)
        return b""

    def _finish(self) -> bytes:
        assert self.context is not None
        return self.context.finalize()

    def _drop(self) -> None:
        self.context = None


def begin(function: int, row: Row, mechanism: Mechanism, key: Key | None) -> Digest:
    """Start a digest."""
    assert row.hash is not None
    return Digest(row.hash)
