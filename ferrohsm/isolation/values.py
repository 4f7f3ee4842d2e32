"""How values are written for the other process: a tag, a length, the content; nothing else is read.

What there is: None, booleans, integers, numbers, text, bytes, `bytearray` (a secret: the reader gets one too,
and is told of it so that it can be wiped), lists, tuples, mappings, sets, the parameters of mechanisms
(`ferrohsm.parameters`), the plain records of `ferrohsm.adapters` (`TokenStatus` …), and what the two sides
know each in their own way: keys and objects, which `Writer.special` and `Reader.special` write and read.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, error
from typing import Any

from ferrohsm import adapter_info, adapters, parameters

LIMIT = 1 << 30  # bytes of one message
_DEPTH = 24

_LENGTH = Struct("<I")
_INTEGER = Struct("<q")
_NUMBER = Struct("<d")
_TAGGED_LENGTH = Struct("<BI")
_TAGGED_INTEGER = Struct("<Bq")
_TAGGED_NUMBER = Struct("<Bd")

NONE, TRUE, FALSE, INTEGER, BIG, NUMBER, TEXT, BYTES, SECRET, VIEW = range(10)
LIST, TUPLE, MAPPING, SET, PARAMETER, RECORD = range(10, 16)
KEY, KNOWN_KEY, OBJECT = range(32, 35)
"""The tags from 32 on are those of `special`."""

_NONE, _TRUE, _FALSE = bytes([NONE]), bytes([TRUE]), bytes([FALSE])


class WireError(Exception):
    """What was received is not what the other side would write."""


def _parameters() -> list[type[Any]]:
    found = [
        value
        for value in vars(parameters).values()
        if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields")
    ]
    return sorted(found, key=lambda cls: cls.__name__)


def _records() -> list[type[Any]]:
    """Return the classes of the contract that are data and nothing else."""
    found = [
        value
        for value in vars(adapters).values()
        if isinstance(value, type)
        and value.__module__ in (adapters.__name__, adapter_info.__name__)
        and value.__dict__.get("__slots__")
        and not getattr(value, "_is_protocol", False)
        and value is not adapters.Key
    ]
    return sorted(found, key=lambda cls: cls.__name__)


# Both sides are of one build (they check that), so a place in these lists names a class.
PARAMETERS = _parameters()
RECORDS = _records()
_PARAMETER_PLACE = {cls: place for place, cls in enumerate(PARAMETERS)}
_RECORD_PLACE = {cls: place for place, cls in enumerate(RECORDS)}


def _slots(cls: type[Any]) -> tuple[str, ...]:
    own = cls.__slots__
    return (own,) if isinstance(own, str) else tuple(sorted(own))


class Writer:
    """Writes values. Nothing is copied until `message` puts all parts together in one piece of memory."""

    def __init__(self) -> None:
        self.parts: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def message(self) -> bytearray:
        """Return the message with its length before it; the caller wipes it when it was sent."""
        if self._size > LIMIT:
            raise WireError("there is more to say than fits into one message")
        return bytearray().join([_LENGTH.pack(self._size), *self.parts])

    def _put(self, part: bytes | bytearray | memoryview) -> None:
        self.parts.append(part)
        self._size += len(part)

    def byte(self, value: int) -> None:
        """Write a single byte."""
        self._put(bytes([value]))

    def special(self, value: Any) -> None:
        """Write what only this side knows how to write. Raises `WireError` for anything else."""
        raise WireError(f"a {type(value).__name__} cannot be told to another process")

    def value(self, value: Any, depth: int = 0) -> None:
        """Write any value."""
        if depth > _DEPTH:
            raise WireError("values are nested too deeply")
        if value is None:
            self._put(_NONE)
        elif value is True:
            self._put(_TRUE)
        elif value is False:
            self._put(_FALSE)
        elif isinstance(value, int):
            self._integer(int(value))
        elif isinstance(value, bytes):
            self._sized(BYTES, value)
        elif isinstance(value, bytearray):
            self._sized(SECRET, value)
        elif isinstance(value, memoryview):
            self._sized(VIEW, value.cast("B") if value.contiguous else value.tobytes())
        elif isinstance(value, str):
            self._sized(TEXT, value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, float):
            self._put(_TAGGED_NUMBER.pack(NUMBER, value))
        else:
            self._compound(value, depth + 1)

    def _integer(self, value: int) -> None:
        if -(1 << 63) <= value < 1 << 63:
            self._put(_TAGGED_INTEGER.pack(INTEGER, value))
        else:
            length = value.bit_length() // 8 + 1
            self._sized(BIG, value.to_bytes(length, "little", signed=True))

    def _sized(self, tag: int, content: bytes | bytearray | memoryview) -> None:
        self._head(tag, len(content))
        self._put(content)

    def _head(self, tag: int, count: int) -> None:
        if count > LIMIT:
            raise WireError("there is more to say than fits into one message")
        self._put(_TAGGED_LENGTH.pack(tag, count))

    def _compound(self, value: Any, depth: int) -> None:
        place = _PARAMETER_PLACE.get(type(value))
        if place is not None:
            self._head(PARAMETER, place)
            for part in value:
                self.value(part, depth)
        elif isinstance(value, (list, tuple)):
            self._head(LIST if isinstance(value, list) else TUPLE, len(value))
            for part in value:
                self.value(part, depth)
        elif isinstance(value, dict):
            self._head(MAPPING, len(value))
            for key, part in value.items():
                self.value(key, depth)
                self.value(part, depth)
        elif isinstance(value, (set, frozenset)):
            self._head(SET, len(value))
            for part in value:
                self.value(part, depth)
        elif type(value) in _RECORD_PLACE:
            self._record(value, depth)
        else:
            self.special(value)

    def _record(self, value: Any, depth: int) -> None:
        self._head(RECORD, _RECORD_PLACE[type(value)])
        self.value(
            {name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}, depth
        )

    def tag(self, tag: int, number: int) -> None:
        """Write the head of something special."""
        self._put(_TAGGED_INTEGER.pack(tag, number))


class Reader:
    """Reads values from a message; everything that it returns is a copy.

    `secrets` are the `bytearray`s that were read, for whoever wipes them when they are of no more use.
    """

    def __init__(self, message: memoryview) -> None:
        self._message = message
        self._at = 0
        self.secrets: list[bytearray] = []

    def special(self, tag: int, number: int) -> Any:
        """Read what `Writer.special` wrote."""
        raise WireError(f"tag {tag}")

    def _take(self, count: int) -> memoryview:
        end = self._at + count
        if end > len(self._message):
            raise WireError("the message ends too early")
        part = self._message[self._at : end]
        self._at = end
        return part

    def byte(self) -> int:
        """Read a single byte."""
        return self._take(1)[0]

    def integer(self) -> int:
        """Read a number that was written by `Writer.value`."""
        value = self.value()
        if type(value) is not int:
            raise WireError("a number was expected")
        return value

    def text(self) -> str:
        """Read a text."""
        value = self.value()
        if not isinstance(value, str):
            raise WireError("a text was expected")
        return value

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._message):
            raise WireError("the message goes on")

    def value(self, depth: int = 0) -> Any:
        """Read any value. Raises `WireError`."""
        if depth > _DEPTH:
            raise WireError("values are nested too deeply")
        tag = self.byte()
        try:
            plain = _PLAIN.get(tag)
            if plain is not None:
                return plain(self)
            if tag >= KEY:
                (number,) = _INTEGER.unpack(self._take(8))
                return self.special(tag, number)
            return self._compound(tag, depth + 1)
        except (error, UnicodeDecodeError, TypeError, ValueError) as wrong:
            raise WireError(f"tag {tag}: {type(wrong).__name__}") from None

    def _count(self) -> int:
        (count,) = _LENGTH.unpack(self._take(4))
        if count > len(self._message):  # every part takes a byte at least
            raise WireError("more parts than the message has room for")
        return int(count)

    def _content(self) -> memoryview:
        return self._take(self._count())

    def _secret(self) -> bytearray:
        secret = bytearray(self._content())
        self.secrets.append(secret)
        return secret

    def _compound(self, tag: int, depth: int) -> Any:
        if tag == PARAMETER:
            return self._parameter(depth)
        if tag == RECORD:
            return self._record(depth)
        count = self._count()
        if tag == MAPPING:
            made = {}
            for _ in range(count):
                key = self.value(depth)
                made[key] = self.value(depth)
            return made
        parts = [self.value(depth) for _ in range(count)]
        if tag == LIST:
            return parts
        if tag == TUPLE:
            return tuple(parts)
        if tag == SET:
            return frozenset(parts)
        raise WireError(f"tag {tag}")

    def _class(self, classes: list[type[Any]]) -> type[Any]:
        (place,) = _LENGTH.unpack(self._take(4))
        if place >= len(classes):
            raise WireError("a class that is not known")
        found: type[Any] = classes[place]
        return found

    def _parameter(self, depth: int) -> Any:
        cls: Any = self._class(PARAMETERS)
        return cls(*[self.value(depth) for _ in cls._fields])

    def _record(self, depth: int) -> Any:
        cls = self._class(RECORDS)
        values = self.value(depth)
        names = _slots(cls)
        if not isinstance(values, dict) or not all(name in names for name in values):
            raise WireError(f"a {cls.__name__} that is none")
        made = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made


_PLAIN: dict[int, Callable[[Reader], Any]] = {
    NONE: lambda reader: None,
    TRUE: lambda reader: True,
    FALSE: lambda reader: False,
    INTEGER: lambda reader: _INTEGER.unpack(reader._take(8))[0],
    BIG: lambda reader: int.from_bytes(reader._content(), "little", signed=True),
    NUMBER: lambda reader: _NUMBER.unpack(reader._take(8))[0],
    TEXT: lambda reader: str(reader._content(), "utf-8", "surrogatepass"),
    BYTES: lambda reader: bytes(reader._content()),
    SECRET: lambda reader: reader._secret(),
    VIEW: lambda reader: memoryview(reader._secret()),
}


def wipe(secrets: list[bytearray]) -> None:
    """Overwrite what is of no more use."""
    for secret in secrets:
        secret[:] = bytes(len(secret))
