"""What an adapter says about itself: `AdapterInfo`, read when the adapter has been opened.

Everything is checked when it is made, so that a plugin that says nonsense fails where it says it, with words
that name the field, and costs its own slot only.
"""

from __future__ import annotations

from ferrohsm.typed import Any, Iterable, Mapping

MECHANISM_TYPE_LIMIT = 2**64
LOGIN_MODELS = ("pin", "user", "none")
ISOLATIONS = ("thread", "process")
LONGEST_DEADLINE = 3600.0  # seconds
MOST_CONCURRENT = 10_000


class Limits:
    """What the device can hold and take; None: no limit that is known. PIN lengths are in bytes.

    ``sessions`` and ``read_write_sessions`` are for all processes' ``CK_TOKEN_INFO``; the core refuses this
    process's session after the last with ``CKR_SESSION_COUNT``. ``data`` is the longest input of one call, in
    bytes (``CKR_DATA_LEN_RANGE``).
    """

    __slots__ = ("data", "max_pin", "min_pin", "read_write_sessions", "sessions")

    def __init__(
        self,
        *,
        sessions: int | None = None,
        read_write_sessions: int | None = None,
        min_pin: int | None = None,
        max_pin: int | None = None,
        data: int | None = None,
    ) -> None:
        self.sessions = sessions
        self.read_write_sessions = read_write_sessions
        self.min_pin = min_pin
        self.max_pin = max_pin
        self.data = data
        for field in self.__slots__:
            value = getattr(self, field)
            if value is not None:
                _whole(f"limits.{field}", value, 0, 2**63)
        if min_pin is not None and max_pin is not None and min_pin > max_pin:
            raise ValueError("limits.min_pin is more than limits.max_pin")

    def __repr__(self) -> str:
        """Return the limits that are known."""
        known = [f"{f}={getattr(self, f)}" for f in self.__slots__ if getattr(self, f) is not None]
        return f"Limits({', '.join(known)})"


class AdapterInfo:
    """Name, version, ways of working and capabilities of an adapter.

    ``inline``: its coroutines wait for nothing and are stepped on the caller's thread.
    ``isolation``: where it may run (``"thread"``: in the host's process, ``"process"``: in a child).
    ``login``: ``"pin"`` (a user and a security officer), ``"user"`` (a user's PIN only), ``"none"``
    (keys need no login).

    ``mechanisms``: type → (smallest key, largest key, flags), as in ``CK_MECHANISM_INFO``; None: each slot's
    ``signer.mechanisms()`` says. When both are there, a slot offers what stands in both.
    ``object_classes``: the ``CKO_*`` that can be created; None: all. ``deadline``: seconds that one call may
    take, and ``concurrency``: calls that may be in the adapter at once, both unless the slot's section says
    otherwise.
    """

    __slots__ = (
        "concurrency",
        "deadline",
        "inline",
        "isolation",
        "limits",
        "login",
        "mechanisms",
        "name",
        "object_classes",
        "version",
    )

    def __init__(
        self,
        name: str,
        version: str,
        *,
        inline: bool = False,
        isolation: Iterable[str] = ISOLATIONS,
        login: str = "pin",
        mechanisms: Mapping[int, tuple[int, int, int]] | None = None,
        object_classes: Iterable[int] | None = None,
        limits: Limits | None = None,
        deadline: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        self.name = _text("name", name)
        self.version = _text("version", version)
        if not isinstance(inline, bool):
            raise TypeError("inline must be True or False")
        self.inline = inline
        self.isolation = tuple(isolation)
        if not self.isolation or any(word not in ISOLATIONS for word in self.isolation):
            raise ValueError(f"isolation must be some of {', '.join(ISOLATIONS)}")
        if login not in LOGIN_MODELS:
            raise ValueError(f"login must be one of {', '.join(LOGIN_MODELS)}")
        self.login = login
        self.mechanisms = None if mechanisms is None else checked_mechanisms(mechanisms)
        self.object_classes = None if object_classes is None else frozenset(object_classes)
        for number in self.object_classes or ():
            _whole("object_classes", number, 0, MECHANISM_TYPE_LIMIT)
        self.limits = Limits() if limits is None else limits
        if not isinstance(self.limits, Limits):
            raise TypeError("limits must be a Limits")
        self.deadline = None if deadline is None else _seconds("deadline", deadline)
        self.concurrency = concurrency
        if concurrency is not None:
            _whole("concurrency", concurrency, 1, MOST_CONCURRENT)

    def __repr__(self) -> str:
        """Return name and version."""
        return f"<AdapterInfo {self.name} {self.version}>"


def checked_mechanisms(given: Any) -> dict[int, tuple[int, int, int]]:
    """Return a copy of what an adapter says it can. The `TypeError` or `ValueError` names what is wrong."""
    if not isinstance(given, Mapping):
        raise TypeError("mechanisms must be a mapping of type to (smallest key, largest key, flags)")
    checked = {}
    for mechanism, entry in given.items():
        _whole("mechanisms", mechanism, 0, MECHANISM_TYPE_LIMIT)
        where = f"mechanisms[{mechanism:#x}]"
        if not isinstance(entry, tuple) or len(entry) != 3:
            raise TypeError(f"{where} must be (smallest key, largest key, flags)")
        smallest, largest, flags = (_whole(where, number, 0, MECHANISM_TYPE_LIMIT) for number in entry)
        if smallest > largest:
            raise ValueError(f"{where}: the smallest key is larger than the largest")
        checked[mechanism] = (smallest, largest, flags)
    return checked


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 64 or not value.isprintable():
        raise ValueError(f"{field} must be a text of 1 to 64 printable characters")
    return value


def _whole(field: str, value: Any, lowest: int, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field} must hold whole numbers")
    if not lowest <= value < limit:
        raise ValueError(f"{field}: {value} is not between {lowest} and {limit - 1}")
    return value


def _seconds(field: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{field} must be a number of seconds")
    if not 0 < value <= LONGEST_DEADLINE:
        raise ValueError(f"{field} must be more than 0 and at most {LONGEST_DEADLINE:g} seconds")
    return float(value)
