"""A record: one line of JSON whose end binds it to the line before and to the audit key.

``{"seq":N,…,"prev":"HASH","mac":"MAC"}``: *prev* is the SHA-256 of the line before (without its newline;
zeros for the first), *mac* is the HMAC-SHA-256, under the audit key, of everything before ``,"mac":``.
"""

from __future__ import annotations

import time

from ferrohsm import constants as ck
from ferrohsm.audit import hashing
from ferrohsm.audit.events import COUNT, ENTRY, NAMES, NONE, SPAN_SHIFT
from ferrohsm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferrohsm.audit.hashing import Key

ZERO = "0" * 64
PREV = b',"prev":"'
MAC = b'","mac":"'
END = b'"}'
TAIL = len(PREV) + 64 + len(MAC) + 64 + len(END)
"""The bytes from *prev* to the end of a line."""
_MAC_AT = 64 + len(END)

_USERS = {ck.CKU_SO: "so", ck.CKU_USER: "user"}
_names: dict[tuple[str, int], str] = {}
_second: tuple[int, str] = (-1, "")


def stamp(nanoseconds: int) -> str:
    """Return a time as ISO 8601 in UTC, to the microsecond."""
    global _second
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    known = _second
    if known[0] != seconds:
        known = _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(min(seconds, 1 << 36))))
    return f"{known[1]}.{rest // 1000:06d}Z"


def _name(prefix: str, value: int) -> str:
    found = _names.get((prefix, value))
    if found is None:
        found = ck.name(prefix, value)
        if len(_names) < 4096:
            _names[prefix, value] = found
    return found


def quoted(raw: bytes) -> str:
    """Return bytes as a JSON string; what is not printable ASCII is replaced."""
    plain = raw.rstrip(b"\0").decode("ascii", "replace")
    if plain.isprintable() and plain.isascii() and '"' not in plain and "\\" not in plain:
        return f'"{plain}"'
    safe = "".join(
        character if " " <= character <= "~" and character not in '"\\' else "?" for character in plain
    )
    return f'"{safe}"'


def body(entry: Sequence[Any], token: str, source: str, count: int) -> str:
    """Return what a record says of `count` happenings of an entry; `source` names process and place.

    `source` holds the JSON members ``pid``, ``uid`` and, for an entry of a ring, ``ring``.
    """
    (_, word, _, at, _, session, slot, mechanism, result, event, user, weight, _, object, other, detail) = (
        entry
    )
    parts = [
        f'"time":"{stamp(at)}","event":"{NAMES.get(event) or f"event-{event}"}"',
        f'"result":"{_name("CKR", result)}",{source},"user":"{_USERS.get(user, "nobody")}"',
        f'"slot":{slot},"token":"{token}"' if slot != NONE else f'"token":"{token}"',
    ]
    if session:
        parts.append(f'"session":{session}')
    if object[0]:
        parts.append(f'"object":{quoted(object)}')
    if other[0]:
        parts.append(f'"other":{quoted(other)}')
    if mechanism != NONE:
        parts.append(f'"mechanism":"{_name("CKM", mechanism)}"')
    if count != 1:
        last = at + (word >> SPAN_SHIFT & COUNT) * 1_000_000
        parts.append(f'"count":{count},"last":"{stamp(last)}"')
    if weight > 1:
        parts.append(f'"one_of":{weight}')
    if detail[0]:
        parts.append(f'"detail":{quoted(detail)}')
    return ",".join(parts)


def entry_of(raw: bytes | memoryview) -> Sequence[Any]:
    """Return the fields of an entry."""
    return ENTRY.unpack(raw)


def seal(sequence: int, said: str, before: str, key: Key) -> bytes:
    """Return a record's line, without a newline."""
    head = f'{{"seq":{sequence},{said},"prev":"{before}'.encode()
    return head + MAC + key.mac(head).hex().encode() + END


def digest(line: bytes) -> str:
    """Return what the next record has in *prev*."""
    return hashing.digest(line)


def quick_digest(line: bytes) -> bytes:
    """Return the same as the line has it; for those who only read."""
    from hashlib import sha256

    return sha256(line).hexdigest().encode()


def sequence(line: bytes) -> int | None:
    """Return a line's sequence number, None when it is no record."""
    if not line.startswith(b'{"seq":') or line[-TAIL : -TAIL + len(PREV)] != PREV or not line.endswith(END):
        return None
    digits = line[7 : line.find(b",", 7, 28)]
    return int(digits) if digits.isdigit() and len(digits) < 20 and digits[:1] != b"0" else None


def before(line: bytes) -> bytes:
    """Return the *prev* of a record."""
    return line[-TAIL + len(PREV) : -TAIL + len(PREV) + 64]


def authentic(line: bytes, key: bytes) -> bool:
    """Say whether the record was made with this key and is as it was made."""
    import hmac

    made = hmac.digest(key, line[: -_MAC_AT - len(MAC)], "sha256").hex().encode()
    return line[-_MAC_AT - len(MAC) : -_MAC_AT] == MAC and hmac.compare_digest(
        made, line[-_MAC_AT : -len(END)]
    )
