"""What a row of the attribute table says, and how a value of each kind looks.

The rows themselves are generated: `ferrohsm.attribute_rules`. The footnotes are those of PKCS#11
3.2, "Common attributes".
"""

from __future__ import annotations

from ferrohsm.adapters import Value
from ferrohsm.typed import Callable, NamedTuple

# How an object comes into being.
CREATE = 0  # C_CreateObject
GENERATE = 1  # C_GenerateKey, C_GenerateKeyPair
UNWRAP = 2  # C_UnwrapKey
DERIVE = 3  # C_DeriveKey

# Flags of a rule. The first eight are pairs by origin: REQUIRED << origin, FORBIDDEN << origin.
REQUIRED = 0x001
FORBIDDEN = 0x010
CREATE_REQUIRED = REQUIRED << CREATE  # footnote 1
GENERATE_REQUIRED = REQUIRED << GENERATE  # footnote 3
UNWRAP_REQUIRED = REQUIRED << UNWRAP  # footnote 5
DERIVE_REQUIRED = REQUIRED << DERIVE
CREATE_FORBIDDEN = FORBIDDEN << CREATE  # footnote 2
GENERATE_FORBIDDEN = FORBIDDEN << GENERATE  # footnote 4
UNWRAP_FORBIDDEN = FORBIDDEN << UNWRAP  # footnote 6
DERIVE_FORBIDDEN = FORBIDDEN << DERIVE  # no footnote of its own: what must not be given to generation
SENSITIVE = 0x0100  # footnote 7
MODIFIABLE = 0x0200  # footnote 8
TRUE_BY_SO = 0x0400  # footnote 10
ONLY_TO_TRUE = 0x0800  # footnote 11
ONLY_TO_FALSE = 0x1000  # footnote 12
ON_COPY = 0x2000  # may change in C_CopyObject though not in C_SetAttributeValue
ERASABLE = 0x4000  # may be set to no value

# Kinds of values.
BOOL = "bool"
ULONG = "ulong"
BYTES = "bytes"
STRING = "string"
BIG_INTEGER = "big_integer"
DATE = "date"
ULONGS = "ulongs"
TEMPLATE = "template"

TRUE = b"\x01"
FALSE = b"\x00"


class Rule(NamedTuple):
    """One attribute of one class: `default` is None when there is none, `default_unwrap` as `default`."""

    type: int
    kind: str
    flags: int
    default: bytes | None = None
    default_unwrap: bytes | None = None


def ulong(value: int) -> bytes:
    """Return a ``CK_ULONG`` as the core carries it."""
    return value.to_bytes(8, "little")


def number(value: Value) -> int:
    """Return the number that a ``CK_ULONG`` value holds."""
    assert not isinstance(value, tuple)
    return int.from_bytes(value, "little")


def is_true(value: Value | None) -> bool:
    """Say whether a ``CK_BBOOL`` is there and true."""
    return value == TRUE


# Days of the months, January first, in a common year.
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _is_date(value: bytes | bytearray) -> bool:
    if not value:
        return True
    if len(value) != 8 or not value.isdigit():
        return False
    year, month, day = int(value[:4]), int(value[4:6]), int(value[6:8])
    if not 1 <= month <= 12:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= day <= (29 if leap and month == 2 else _DAYS[month - 1])


def _is_text(value: bytes | bytearray) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


_WELL_FORMED: dict[str, Callable[[bytes | bytearray], bool]] = {
    BOOL: lambda value: value in (TRUE, FALSE),
    ULONG: lambda value: len(value) == 8,
    BYTES: lambda value: True,
    STRING: _is_text,
    BIG_INTEGER: lambda value: True,
    DATE: _is_date,
    ULONGS: lambda value: len(value) % 8 == 0,
}


def well_formed(kind: str, value: Value) -> bool:
    """Say whether `value` has the form of `kind`; the inside of a template is checked by its reader."""
    if isinstance(value, tuple):
        return kind == TEMPLATE
    check = _WELL_FORMED.get(kind)
    return check is not None and check(value)
