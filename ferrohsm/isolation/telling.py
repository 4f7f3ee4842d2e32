"""What the host writes and reads in its own way: keys, which it tells once, and proxies for objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferrohsm.adapters import Key
from ferrohsm.isolation.remote import Remote
from ferrohsm.isolation.values import KEY, KNOWN_KEY, OBJECT, Reader, WireError, Writer

if TYPE_CHECKING:
    from ferrohsm.isolation.connection import Connection


class KnownKey:
    """Stands in a key's cache and says under which number the other side knows it, until the key is wiped."""

    __slots__ = ("connection", "number", "told")

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.told = False

    def __del__(self) -> None:
        if self.told:
            self.connection.forget(self.number)


class HostWriter(Writer):
    """Writes what the other process reads; `news` are the keys that it was told of just now."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.news: list[tuple[Key, KnownKey]] = []

    def special(self, value: Any) -> None:
        """Write a proxy as the object it stands for, a key as a number or in full."""
        if isinstance(value, Remote) and value.connection is self._connection:
            self.tag(OBJECT, value.remote_id)
        elif isinstance(value, Key):
            self._key(value)
        else:
            super().special(value)

    def _key(self, key: Key) -> None:
        known: KnownKey | None = key.cache.get(self._connection)
        if known is None:
            known = key.cache.setdefault(self._connection, self._connection.new_key())
        if known.told:
            self.tag(KNOWN_KEY, known.number)
            return
        known.told = True
        self.news.append((key, known))
        self.tag(KEY, known.number)
        self.value(key.oid)
        self.value(dict(key.attributes))


class HostReader(Reader):
    """Reads what the other process writes."""

    def __init__(self, message: memoryview, connection: Connection) -> None:
        super().__init__(message)
        self._connection = connection

    def special(self, tag: int, number: int) -> Any:
        """Read an object: its proxy."""
        if tag != OBJECT:
            return super().special(tag, number)
        shape, told, fixed = self.integer(), self.value(), self.value()
        values = self.value()
        if not isinstance(values, dict):
            raise WireError("an object without attributes")
        return self._connection.remote(number, shape, told, fixed, values)
