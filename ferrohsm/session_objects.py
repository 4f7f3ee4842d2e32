"""Session objects by identity, and by label and id once there are many and somebody searches."""

from __future__ import annotations

from _thread import allocate_lock

from ferrohsm import constants as ck
from ferrohsm.adapters import Template
from ferrohsm.entries import Entry
from ferrohsm.typed import Any, Iterable

# The attributes that are looked up, the one that leaves least first.
_NAMES = (ck.CKA_ID, ck.CKA_LABEL)
# With fewer objects than this a search looks at each.
_FEW = 64

_Name = tuple[int, bytes]


class SessionObjects(dict[int, Entry]):
    """A dictionary that keeps up an index of names from the first search on that is worth one.

    Programs that make session keys by the thousand seldom search for them, and pay nothing then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._index: dict[_Name, set[int]] | None = None
        self._lock = allocate_lock()

    def candidates(self, wanted: Template) -> Iterable[Entry]:
        """Return the objects among which are all that match `wanted`."""
        named = dict(wanted)
        for attribute in _NAMES:
            value = named.get(attribute)
            if type(value) is bytes and len(self) > _FEW:
                with self._lock:
                    oids = tuple(self._indexed().get((attribute, value), ()))
                return [entry for oid in oids if (entry := self.get(oid)) is not None]
        return list(self.values())

    def _indexed(self) -> dict[_Name, set[int]]:
        """Return the index, made now if there is none; the caller has the lock."""
        if self._index is None:
            self._index = {}
            for entry in list(self.values()):
                self._enter(entry)
        return self._index

    def _enter(self, entry: Entry) -> None:
        if self._index is not None:
            for name in _names(entry):
                self._index.setdefault(name, set()).add(entry.oid)

    def _strike(self, entry: Entry | None) -> None:
        if self._index is None or entry is None:
            return
        for name in _names(entry):
            oids = self._index.get(name)
            if oids is not None:
                oids.discard(entry.oid)
                if not oids:
                    del self._index[name]

    def __setitem__(self, oid: int, entry: Entry) -> None:
        """Put an object in, in the place of the one before."""
        with self._lock:
            self._strike(self.get(oid))
            super().__setitem__(oid, entry)
            self._enter(entry)

    def setdefault(self, oid: int, entry: Entry) -> Entry:
        """Put an object in unless there is one, and return what is there."""
        with self._lock:
            there = super().setdefault(oid, entry)
            if there is entry:
                self._enter(entry)
            return there

    def pop(self, oid: int, default: Any = None) -> Any:
        """Take an object out and return it."""
        with self._lock:
            entry = super().pop(oid, default)
            self._strike(entry)
            return entry

    def clear(self) -> None:
        """Take all objects out, and forget the index."""
        with self._lock:
            super().clear()
            self._index = None


def _names(entry: Entry) -> list[_Name]:
    attributes = entry.attributes
    return [
        (attribute, value) for attribute in _NAMES if isinstance(value := attributes.get(attribute), bytes)
    ]
