"""An inline adapter with tokens in memory, whose next call fails as a test asks for."""

from __future__ import annotations

from typing import Any

from ferrohsm_adapters.software.engine import Engine

from ferrohsm.testing.memory import MemoryAdapter, MemorySlot, MemoryStore

FAULT: list[type[Exception]] = []
"""What every call raises, if anything."""

# What is asked before an adapter does anything, or what must be possible to clean up.
_QUIET = {"mechanisms", "close", "kernel", "generation", "multi_part", "logout"}


class Faulty:
    """Something of the adapter's, in front of which stands the fault."""

    def __init__(self, inner: Any, *, begins: bool = False) -> None:
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "begins", begins)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if name in _QUIET or not callable(value):
            return value

        def checked(*arguments: Any) -> Any:
            if FAULT:
                raise FAULT[0]()
            return value(*arguments)

        async def awaited(*arguments: Any) -> Any:
            return Faulty(await checked(*arguments))

        return awaited if self.begins and name in ("begin", "begin_messages") else checked

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)


STORE = MemoryStore(tries=10)


def adapter(section: Any) -> MemoryAdapter:
    """Make the adapter, as the entry point is called."""
    STORE.__init__(tries=10)  # type: ignore[misc]
    signer: Any = Faulty(Engine(), begins=True)
    store: Any = Faulty(STORE)
    return MemoryAdapter([MemorySlot(7, signer, store)], inline=True)
