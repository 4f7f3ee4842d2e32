"""Objects in memory: who uses them, and when their secrets are overwritten."""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key, Value
from ferrohsm.attribute_kinds import TRUE, is_true
from ferrohsm.attributes import Rules, rules_of

# One lock for all entries: it guards a handful of instructions and is never held across an await.
_lock = allocate_lock()


def _renew_lock() -> None:
    """Start the child of a fork with a free lock, whatever another thread was in the middle of."""
    global _lock
    _lock = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def copied(attributes: Attributes) -> Attributes:
    """Return the attributes with secrets of their own, so that each side can wipe its copy."""
    return {
        attribute: bytearray(value) if isinstance(value, bytearray) else value
        for attribute, value in attributes.items()
    }


def wipe(attributes: Attributes) -> None:
    """Overwrite the secret values."""
    for value in attributes.values():
        if isinstance(value, bytearray):
            value[:] = bytes(len(value))


class Entry:
    """An object that was read or made: its attributes as a `Key`, which engines remember things in.

    A caller holds an entry while it uses it. `retire` makes it unusable for others at once, and its
    secrets are overwritten when the last holder has let go: never under someone's hands.
    """

    __slots__ = ("generation", "gone", "holders", "key", "private", "retired", "rules")

    def __init__(self, oid: int, attributes: Attributes, generation: int = 0) -> None:
        self.key = Key(oid, attributes)
        self.rules: Rules = rules_of(attributes)
        self.private = is_true(attributes.get(ck.CKA_PRIVATE))
        self.generation = generation
        self.holders = 0
        self.retired = False
        self.gone = False

    @property
    def oid(self) -> int:
        """The object's identity."""
        return self.key.oid

    @property
    def attributes(self) -> Attributes:
        """All attributes, secrets in the clear: for the core and the engine only."""
        attributes = self.key.attributes
        assert isinstance(attributes, dict)
        return attributes

    @property
    def on_token(self) -> bool:
        """Whether it is a token object."""
        return self.attributes.get(ck.CKA_TOKEN) == TRUE

    def flag(self, attribute: int) -> bool:
        """Say whether a ``CK_BBOOL`` is true."""
        return is_true(self.attributes.get(attribute))

    def get(self, attribute: int) -> Value | None:
        """Return a value, None when the object has no such attribute."""
        return self.attributes.get(attribute)

    def hold(self) -> bool:
        """Take part in it; False when it is retired already."""
        with _lock:
            if self.retired:
                return False
            self.holders += 1
            return True

    def release(self) -> None:
        """Let go; the last one to leave a retired entry wipes it."""
        with _lock:
            self.holders -= 1
            last = self.retired and self.holders == 0
        if last:
            self.key.wipe()

    def retire(self, *, gone: bool) -> None:
        """Stop others from taking it; `gone` when the object itself is no longer there for anyone."""
        with _lock:
            self.gone = self.gone or gone
            unused = not self.retired and self.holders == 0
            self.retired = True
        if unused:
            self.key.wipe()


class ClockEntry(Entry):
    """The clock: its value is the time of asking."""

    __slots__ = ()

    @property
    def attributes(self) -> Attributes:
        """The attributes, with the time of now."""
        return {**super().attributes, ck.CKA_VALUE: utc_time().encode()}


def utc_time() -> str:
    """Return the time as ``CK_TOKEN_INFO`` has it: YYYYMMDDhhmmss and two zeros."""
    return time.strftime("%Y%m%d%H%M%S00", time.gmtime())
