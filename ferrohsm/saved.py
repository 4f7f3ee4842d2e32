"""Saved operations (PKCS#11 3.2, ``C_GetOperationState`` and ``C_SetOperationState``).

What leaves the module is a reference of 32 random bytes, nothing of the state itself: a copy of the operation
stays here, with its right to its key, and goes with the login, the key or the token as that operation would.
"""

from __future__ import annotations

import os

from ferrohsm.errors import KeyChanged, KeyNeeded, KeyNotNeeded, SavedStateInvalid, StateUnsaveable
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferrohsm.operations import BoundOperation

MAGIC = b"FHS1"
REFERENCE = 32  # bytes, random
STATE_LENGTH = len(MAGIC) + REFERENCE
KEPT = 1024  # states of a token; the oldest one makes room


class Part:
    """One operation of a saved state: its place, how far it is, and a signature given before."""

    __slots__ = ("bound", "phase", "place", "signature")

    def __init__(self, place: int, phase: int, bound: BoundOperation, signature: bytes | None) -> None:
        self.place = place
        self.phase = phase
        self.bound = bound
        self.signature = signature

    def copy(self) -> Part:
        """Return the same with an operation of its own."""
        return Part(self.place, self.phase, self.bound.copy(), self.signature)


class SavedStates:
    """The saved states of a token."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[int, list[Part]]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept)

    def keep(self, session_state: int, parts: Sequence[Part]) -> bytes:
        """Keep operations, which are now this object's, and return what the caller gets of them."""
        self._drop_dead()
        while len(self._kept) >= KEPT:
            self._drop(next(iter(self._kept)))
        reference = os.urandom(REFERENCE)
        self._kept[reference] = (session_state, list(parts))
        return MAGIC + reference

    def restore(self, state: bytes, session_state: int, keys: tuple[int | None, int | None]) -> list[Part]:
        """Return copies of the operations of a saved state.

        `keys` are the encryption key and the authentication key that the caller gives, None for none, 0 for
        one that is no key. Raises `SavedStateInvalid`, `KeyNeeded`, `KeyChanged`, `KeyNotNeeded`.
        """
        if len(state) != STATE_LENGTH or not state.startswith(MAGIC):
            raise SavedStateInvalid()
        known, parts = self._kept.get(state[len(MAGIC) :], (None, []))
        if known != session_state or not all(part.bound.valid() for part in parts):
            raise SavedStateInvalid()
        _check_keys(parts, *keys)
        made: list[Part] = []
        try:
            for part in parts:
                made.append(part.copy())
        except BaseException as error:
            close(made)
            raise SavedStateInvalid() if isinstance(error, StateUnsaveable) else error from None
        return made

    def clear(self) -> None:
        """Forget all."""
        for reference in list(self._kept):
            self._drop(reference)

    def _drop_dead(self) -> None:
        """Forget states that nothing can come of any more."""
        for reference, (_, parts) in list(self._kept.items()):
            if not all(part.bound.valid() for part in parts):
                self._drop(reference)

    def _drop(self, reference: bytes) -> None:
        close(self._kept.pop(reference, (0, []))[1])


def close(parts: Sequence[Part]) -> None:
    """End the operations."""
    for part in parts:
        part.bound.close()


def _check_keys(parts: Sequence[Part], encryption: int | None, authentication: int | None) -> None:
    if encryption is not None:
        raise KeyNotNeeded("no encryption is saved")
    wanted = {part.bound.key for part in parts if part.bound.key is not None}
    if not wanted:
        if authentication is not None:
            raise KeyNotNeeded("no signature and no MAC is saved")
        return
    if authentication is None:
        raise KeyNeeded()
    if wanted != {authentication}:
        raise KeyChanged()
