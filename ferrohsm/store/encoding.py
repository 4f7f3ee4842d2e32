"""The compact form of attributes that is sealed and stored.

Version 1 is ``01 count:u16`` and then, ascending by type, ``type:u64 kind:u8 length:u32 value``,
little-endian. Kind 0 is bytes; kind 1 is a template in the same form. There is exactly one encoding of
a set of attributes, and the parser refuses every other, so that what is bound by a MAC has one meaning.
"""

from __future__ import annotations

import struct

from ferrohsm.adapters import Attributes, Value
from ferrohsm.errors import AttributeValueInvalid, DeviceError, DeviceMemory
from ferrohsm.typed import Any, Iterable, Mapping

VERSION = 1
MAX_SIZE = 1 << 24
"""The largest encoding, in bytes, that is written or read."""
MAX_DEPTH = 4
"""How deep templates may stand inside templates."""

_HEAD = struct.Struct("<BH")
_ITEM = struct.Struct("<QBI")
_BYTES, _TEMPLATE = 0, 1


def encode(attributes: Mapping[int, Value]) -> bytearray:
    """Return the canonical encoding; the buffer is made once, at its final size, so it can be wiped.

    Raises ``DeviceMemory`` above `MAX_SIZE` and ``AttributeValueInvalid`` for a template that is
    nested too deep or names a type twice.
    """
    items = sorted(attributes.items())
    size = _size(items, 0)
    if size > MAX_SIZE or len(items) > 0xFFFF:
        raise DeviceMemory(f"an object of {size} bytes is too big for the store")
    out = bytearray(size)
    _write(out, 0, items)
    return out


def decode(data: bytes | bytearray | memoryview, *, secret: bool = False) -> Attributes:
    """Return the attributes in `data`; values are `bytearray` when `secret`, else `bytes`.

    Raises ``DeviceError`` for anything but a canonical encoding.
    """
    attributes: Attributes = {}
    view = memoryview(data)
    unpack = _ITEM.unpack_from
    step = _ITEM.size
    kind_of = bytearray if secret else bytes
    try:
        version, count = _HEAD.unpack_from(view)
        if version != VERSION or len(view) > MAX_SIZE:
            raise DeviceError("a stored object has an unknown form")
        at = _HEAD.size
        end = len(view)
        last = -1
        for _ in range(count):
            number, kind, length = unpack(view, at)
            start = at + step
            at = start + length
            if number <= last or at > end:
                raise DeviceError("a stored object is damaged: its encoding is not canonical")
            last = number
            if kind == _BYTES:
                attributes[number] = kind_of(view[start:at])
            elif kind == _TEMPLATE:
                attributes[number] = _template(view[start:at], 1)
            else:
                raise DeviceError("a stored object is damaged: an attribute of unknown kind")
    except struct.error:
        raise DeviceError("a stored object is damaged: it ends too early") from None
    if at != end:
        raise DeviceError("a stored object is damaged: there is more after its end")
    return attributes


def compare(data: bytes, wanted: list[tuple[int, Value]]) -> bool | None:
    """Say whether an encoding that is known to be whole has the values of `wanted`, ascending by type.

    None when that has to be seen from the decoded attributes: one is not there, or is a template.
    """
    at, end = _HEAD.size, len(data)
    unpack, step = _ITEM.unpack_from, _ITEM.size
    for number, value in wanted:
        there = -1
        while there < number and at < end:
            there, kind, length = unpack(data, at)
            at += step + length
        if there != number or kind != _BYTES:
            return None
        if data[at - length : at] != value:
            return False
    return True


def _template(view: memoryview, depth: int) -> tuple[tuple[int, Any], ...]:
    if depth > MAX_DEPTH:
        raise DeviceError("a stored object is damaged: templates nested too deep")
    version, count = _HEAD.unpack_from(view)
    at = _HEAD.size
    pairs: list[tuple[int, Any]] = []
    last = -1
    for _ in range(count):
        number, kind, length = _ITEM.unpack_from(view, at)
        start = at + _ITEM.size
        at = start + length
        if number <= last or at > len(view) or kind not in (_BYTES, _TEMPLATE):
            raise DeviceError("a stored object is damaged: its encoding is not canonical")
        last = number
        part = view[start:at]
        pairs.append((number, bytes(part) if kind == _BYTES else _template(part, depth + 1)))
    if at != len(view) or version != VERSION:
        raise DeviceError("a stored object is damaged: a template does not fill its place")
    return tuple(pairs)


def _size(items: Iterable[tuple[int, Value]], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise AttributeValueInvalid("templates are nested too deep")
    total = _HEAD.size
    for _, value in items:
        total += _ITEM.size + (_size(value, depth + 1) if isinstance(value, tuple) else len(value))
    return total


def _write(out: bytearray, at: int, items: list[tuple[int, Value]]) -> int:
    _HEAD.pack_into(out, at, VERSION, len(items))
    at += _HEAD.size
    last = -1
    for number, value in items:
        if number == last:
            raise AttributeValueInvalid("a template names an attribute twice")
        last = number
        start = at + _ITEM.size
        if isinstance(value, tuple):
            end = _write(out, start, sorted(value, key=_number))
            _ITEM.pack_into(out, at, number, _TEMPLATE, end - start)
        else:
            end = start + len(value)
            _ITEM.pack_into(out, at, number, _BYTES, end - start)
            out[start:end] = value
        at = end
    return at


def _number(pair: tuple[int, Any]) -> int:
    return pair[0]


def same(stored: Value, wanted: Value) -> bool:
    """Say whether two values are equal, whatever the order of a template's attributes."""
    if isinstance(stored, tuple) or isinstance(wanted, tuple):
        if not (isinstance(stored, tuple) and isinstance(wanted, tuple)) or len(stored) != len(wanted):
            return False
        pairs = zip(sorted(stored, key=_number), sorted(wanted, key=_number), strict=True)
        return all(a[0] == b[0] and same(a[1], b[1]) for a, b in pairs)
    return stored == wanted
