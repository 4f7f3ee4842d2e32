"""Digests: SHA-1, SHA-2, SHA-3, BLAKE2b, MD5 (PKCS#11 3.2, "Digests")."""

from __future__ import annotations

from ferrohsm.adapters import Key
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm.typed import Any
from ferrohsm_adapters.software.hash_functions import hashing, length, truncated
from ferrohsm_adapters.software.operation import EngineOperation, copied


class Digest(EngineOperation):
    """One digest."""

    __slots__ = ("context", "length")

    context: Any

    def __init__(self, name: str) -> None:
        super().__init__()
        self.length = length(name)
        self.context = hashing(name)

    def finish_length(self) -> int:
        return self.length

    def _update(self, data: memoryview) -> bytes:
        self.context.update(data)
        return b""

    def _finish(self) -> bytes:
        digest: bytes = self.context.finalize()
        return digest

    def copy(self) -> Digest:
        return copied(self)

    def _drop(self) -> None:
        self.context = None


def begin(function: int, row: Row, mechanism: Mechanism, key: Key | None) -> Digest:
    """Start a digest."""
    return Digest(truncated(mechanism.parameter) if row.hash is None else row.hash)
