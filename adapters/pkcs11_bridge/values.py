"""Attribute values on their way: the core's forms (see `ferrohsm.adapters`) and those of a backend in C."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from ctypes import c_ubyte, c_void_p, cast, sizeof
from typing import TYPE_CHECKING, Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Value
from ferrohsm.attribute_kinds import BIG_INTEGER, BOOL, FALSE, SENSITIVE, TEMPLATE, TRUE, ULONG, ULONGS, Rule
from ferrohsm.attribute_rules import SUBTYPES
from ferrohsm.attributes import kind, rules_for
from ferrohsm.ec_encoding import normal_parameters, normal_point, raw_point
from ferrohsm.errors import DeviceError
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG as NATIVE
from ferrohsm_adapters.pkcs11_bridge.cryptoki import UNAVAILABLE, Attribute, wipe

if TYPE_CHECKING:
    from ferrohsm_adapters.pkcs11_bridge.connection import BackendSession, Connection
    from ferrohsm_adapters.pkcs11_bridge.profiles import Profile

_WIDTH = sizeof(NATIVE)
_LARGEST = 1 << 24  # bytes of one value that are believed
_DEEPEST = 4
_PARTIAL = (ck.CKR_OK, ck.CKR_ATTRIBUTE_SENSITIVE, ck.CKR_ATTRIBUTE_TYPE_INVALID, ck.CKR_BUFFER_TOO_SMALL)
_RAW_TYPES = (ck.CKK_EC_EDWARDS, ck.CKK_EC_MONTGOMERY)

# Always told to the backend, though they may be what it does by default: defaults differ.
_SPOKEN = frozenset(
    (
        *(ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_CERTIFICATE_TYPE, ck.CKA_TOKEN, ck.CKA_PRIVATE),
        *(ck.CKA_SENSITIVE, ck.CKA_EXTRACTABLE, ck.CKA_ENCRYPT, ck.CKA_DECRYPT, ck.CKA_SIGN, ck.CKA_VERIFY),
        *(ck.CKA_SIGN_RECOVER, ck.CKA_VERIFY_RECOVER, ck.CKA_WRAP, ck.CKA_UNWRAP, ck.CKA_DERIVE),
    )
)
# Never told: what the backend finds itself.
_SILENT = frozenset(
    (
        *(ck.CKA_UNIQUE_ID, ck.CKA_LOCAL, ck.CKA_KEY_GEN_MECHANISM, ck.CKA_ALWAYS_SENSITIVE),
        *(ck.CKA_NEVER_EXTRACTABLE, ck.CKA_PUBLIC_CRC64_VALUE, ck.CKA_OBJECT_VALIDATION_FLAGS),
    )
)


def to_native(attribute: int, value: bytes | bytearray) -> bytes:
    """Return a value as the backend reads it."""
    form = kind(attribute)
    if form not in (ULONG, ULONGS) or (_WIDTH == 8 and sys.byteorder == "little"):
        return bytes(value)
    numbers = (int.from_bytes(value[i : i + 8], "little") for i in range(0, len(value), 8))
    return b"".join(min(n, UNAVAILABLE).to_bytes(_WIDTH, sys.byteorder) for n in numbers)


def to_core(attribute: int, rule: Rule | None, value: bytearray) -> Value:
    """Return a value of the backend in the one form that the core keeps."""
    if rule is not None and rule.flags & SENSITIVE:
        return value
    plain = bytes(value)
    form = kind(attribute) if rule is None else rule.kind
    if form == BOOL:
        return TRUE if plain not in (b"", FALSE) else FALSE
    if form in (ULONG, ULONGS):
        return _wide(plain)
    if form == BIG_INTEGER:
        return plain.lstrip(b"\0")
    if attribute == ck.CKA_EC_PARAMS:
        return normal_parameters(plain)
    if attribute == ck.CKA_EC_POINT:
        return normal_point(plain)
    return plain


def _wide(native: bytes) -> bytes:
    if len(native) % _WIDTH:
        raise DeviceError("the backend gave a number of an odd length")
    numbers = (int.from_bytes(native[i : i + _WIDTH], sys.byteorder) for i in range(0, len(native), _WIDTH))
    # "Unavailable" is all ones in either width.
    return b"".join(
        (ck.CK_UNAVAILABLE_INFORMATION if n == UNAVAILABLE else n).to_bytes(8, "little") for n in numbers
    )


def template_of(attributes: Mapping[int, Value], profile: Profile) -> list[tuple[int, Any]]:
    """Return what the backend is told to make an object: what says something, in its own form."""
    object_class = _number(attributes.get(ck.CKA_CLASS))
    subtype = SUBTYPES.get(object_class)
    key_type = _number(attributes.get(ck.CKA_KEY_TYPE)) if ck.CKA_KEY_TYPE in attributes else None
    rules = rules_for(object_class, None if subtype is None else _number(attributes.get(subtype))) or {}
    told: list[tuple[int, Any]] = []
    for attribute, value in attributes.items():
        rule = rules.get(attribute)
        if attribute in _SILENT or attribute in profile.silent or attribute >= _VENDOR:
            continue
        is_default = rule is not None and value == rule.default
        if attribute not in _SPOKEN and (is_default or len(value) == 0):
            continue
        told.append((attribute, native_form(attribute, value, profile, key_type)))
    return told


_VENDOR = 0x80000000


def native_form(attribute: int, value: Value, profile: Profile, key_type: int | None = None) -> Any:
    """Return a value for a template: arrays as pairs, points as the backend wants them."""
    if isinstance(value, tuple):
        return [(inner, native_form(inner, part, profile)) for inner, part in value]
    if attribute == ck.CKA_EC_POINT and key_type in _RAW_TYPES and profile.edwards_point == "raw":
        return raw_point(bytes(value))
    return to_native(attribute, value)


def _number(value: Value | None) -> int:
    return -1 if value is None or isinstance(value, tuple) else int.from_bytes(value, "little")


# Reading


def read_values(connection: Connection, session: BackendSession, handle: int) -> Attributes:
    """Return all attributes of an object that the backend reveals, in the core's forms."""
    first = _read(connection, session, handle, (ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_CERTIFICATE_TYPE))
    if ck.CKA_CLASS not in first:
        raise DeviceError("the backend has an object without a class")
    object_class = _number(to_core(ck.CKA_CLASS, None, first[ck.CKA_CLASS]))
    holder = SUBTYPES.get(object_class)
    subtype = None
    if holder is not None and holder in first:
        subtype = _number(to_core(holder, None, first[holder]))
    rules = rules_for(object_class, subtype) or rules_for(object_class, None) or {}
    arrays = [attribute for attribute, rule in rules.items() if rule.kind == TEMPLATE]
    wanted = [attribute for attribute in rules if attribute not in arrays]
    if ck.CKA_CLASS not in rules:
        wanted.append(ck.CKA_CLASS)
    raw = _read(connection, session, handle, wanted)
    attributes: Attributes = {
        attribute: to_core(attribute, rules.get(attribute), value) for attribute, value in raw.items()
    }
    attributes.setdefault(ck.CKA_CLASS, object_class.to_bytes(8, "little"))
    if not attributes.get(ck.CKA_ALLOWED_MECHANISMS, b"?"):
        del attributes[ck.CKA_ALLOWED_MECHANISMS]  # SoftHSM's empty list means that all are allowed
    for attribute in arrays:
        template = _read_array(connection, session, handle, attribute)
        if template is not None:
            attributes[attribute] = template
    return attributes


def _read(
    connection: Connection, session: BackendSession, handle: int, wanted: Iterable[int]
) -> dict[int, bytearray]:
    """Return the raw values of the attributes that there are: their lengths are asked for first."""
    types = list(wanted)
    if connection.profile.one_by_one and len(types) > 1:
        values: dict[int, bytearray] = {}
        for attribute in types:
            values.update(_read(connection, session, handle, (attribute,)))
        return values
    array = (Attribute * len(types))()
    for place, attribute in zip(array, types, strict=True):
        place.type = attribute
    _get(connection, session, handle, array)
    there = [place for place in array if place.length != UNAVAILABLE and place.length <= _LARGEST]
    second = (Attribute * max(len(there), 1))()
    buffers: list[Any] = []
    for place, known in zip(second, there, strict=False):
        buffer = (c_ubyte * max(known.length, 1))()
        buffers.append(buffer)
        place.type, place.value, place.length = known.type, cast(buffer, c_void_p), known.length
    if there:
        _get(connection, session, handle, second, len(there))
    values = {}
    for place, known, buffer in zip(second, there, buffers, strict=False):
        if place.length <= known.length:
            values[known.type] = bytearray(buffer)[: place.length]
        wipe(buffer)
    return values


def _get(
    connection: Connection, session: BackendSession, handle: int, array: Any, count: int | None = None
) -> None:
    number = len(array) if count is None else count
    rv = connection.functions.GetAttributeValue(session.handle, handle, array, number)
    if rv not in _PARTIAL:
        raise connection.failure(rv, "GetAttributeValue")


def _read_array(
    connection: Connection, session: BackendSession, handle: int, attribute: int
) -> tuple[tuple[int, bytes], ...] | None:
    """Return a template that is an attribute's value, None when there is none. Asked for in three steps."""
    outer = (Attribute * 1)()
    outer[0].type = attribute
    _get(connection, session, handle, outer)
    size = outer[0].length
    if size in (0, UNAVAILABLE) or size % sizeof(Attribute) or size > 256 * sizeof(Attribute):
        return () if size == 0 else None
    inner = (Attribute * (size // sizeof(Attribute)))()
    outer[0].value = cast(inner, c_void_p)
    _get(connection, session, handle, outer)
    buffers = []
    for place in inner:
        if place.length > _LARGEST:
            return None
        buffer = (c_ubyte * max(place.length, 1))()
        buffers.append(buffer)
        place.value = cast(buffer, c_void_p)
    outer[0].length = size
    _get(connection, session, handle, outer)
    pairs = []
    for place, buffer in zip(inner, buffers, strict=True):
        value = to_core(place.type, None, bytearray(buffer)[: min(place.length, len(buffer))])
        assert not isinstance(value, tuple)
        pairs.append((place.type, bytes(value)))
    return tuple(pairs)
