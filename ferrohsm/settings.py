"""Every setting as a row: its name, what it may be, its default; and the classes that hold them.

`ferrohsm.config` reads files into these; the documentation is checked against the same rows.
"""

from __future__ import annotations

import os
import sys

from ferrohsm import constants as ck
from ferrohsm.errors import GeneralError
from ferrohsm.typed import Any, NamedTuple


class Setting(NamedTuple):
    """One setting: `kind` is bool, integer, number, choice, path, mode, group, target or mechanisms."""

    section: str
    key: str
    kind: str
    default: Any
    allowed: Any
    text: str

    @property
    def name(self) -> str:
        """The dotted name, as in the init string and in messages."""
        return f"{self.section}.{self.key}" if self.section else self.key


SETTINGS = (
    Setting("", "data_dir", "path", None, None, "where the software slot keeps its tokens"),
    Setting("", "free_slot", "bool", True, None, "show the free slot, on which a new token is made"),
    Setting("", "allow_init_string", "bool", False, None, "accept a string in C_Initialize's pReserved"),
    Setting("", "ec_point", "choice", "der", ("der", "raw"), "CKA_EC_POINT of Edwards and Montgomery keys"),
    Setting(
        "", "memory_lock", "choice", "try", ("try", "require"), "what to do when memory cannot be locked"
    ),
    Setting("pin", "min_length", "integer", 4, (1, 255), "shortest PIN, in bytes"),
    Setting("pin", "max_length", "integer", 255, (4, 255), "longest PIN, in bytes"),
    Setting("pin", "tries", "integer", 10, (1, 1000), "wrong PINs in a row that lock it"),
    Setting("pin", "delay", "number", 0.25, (0, 60), "seconds after a wrong PIN; doubles with each one"),
    Setting("pin", "delay_cap", "number", 8.0, (0, 3600), "the longest delay, in seconds"),
    Setting("kdf", "memory_kib", "integer", 19456, (7168, 4194304), "Argon2id's memory for a PIN, in KiB"),
    Setting("kdf", "passes", "integer", 2, (1, 100), "Argon2id's passes over that memory"),
    Setting("store", "mode", "mode", 0o600, (0o600, 0o640, 0o660), "mode of the token's files"),
    Setting("store", "group", "group", None, None, "group that owns the token's files"),
    Setting(
        "store", "busy_timeout", "number", 10.0, (0, 600), "seconds to wait for another process's commit"
    ),
    Setting("log", "target", "target", "off", ("off", "stderr", "syslog"), "where events are written"),
    Setting("log", "level", "choice", "info", ("debug", "info", "warning", "error"), "least level written"),
    Setting("log", "format", "choice", "json", ("json", "text"), "how a line looks"),
    Setting("audit", "enabled", "bool", True, None, "keep an audit log beside the tokens"),
    Setting("audit", "directory", "path", None, None, "keep it here instead of beside the tokens"),
    Setting("audit", "durability", "choice", "batch", ("batch", "sync"), "when a record must be on the disk"),
    Setting(
        "audit",
        "key_use",
        "choice",
        "counted",
        ("each", "counted", "sampled", "off"),
        "how the uses of keys are recorded",
    ),
    Setting("audit", "sample", "integer", 100, (2, 1000000), "with sampled: one use of so many is recorded"),
    Setting(
        "audit",
        "on_failure",
        "choice",
        "closed",
        ("closed", "open"),
        "what to do when nothing can be recorded",
    ),
    Setting("audit", "segment_mib", "integer", 64, (1, 4096), "size of one file of the log, in MiB"),
    Setting("audit", "keep", "integer", 0, (0, 1000000), "how many files of a log are kept (0: all)"),
    Setting("mechanisms", "allow", "mechanisms", None, None, "the only mechanisms offered (all, if absent)"),
    Setting("mechanisms", "deny", "mechanisms", frozenset(), None, "mechanisms never offered"),
    Setting("mechanisms", "weak", "bool", False, None, "offer MD5, DES and Triple DES too"),
)

# What every [slots.NAME] may have beside its adapter's own keys.
SLOT_SETTINGS = (
    Setting("slots", "deadline", "number", None, (0.001, 3600), "seconds that one call may take"),
    Setting("slots", "concurrency", "integer", None, (1, 10000), "calls that are in the adapter at once"),
    Setting("slots", "isolation", "choice", "thread", ("thread", "process"), "where the adapter runs"),
)

_ROWS = {row.name: row for row in SETTINGS}
_SECTIONS = frozenset(row.section for row in SETTINGS if row.section)


class Section:
    """The settings of one table, one attribute a key, with the defaults filled in; they do not change."""

    __slots__ = ()
    table = ""

    def __init__(self, **values: Any) -> None:
        for row in SETTINGS:
            if row.section == self.table:
                object.__setattr__(self, row.key, values.pop(row.key, row.default))
        if values:
            raise TypeError(f"[{self.table}] has no {', '.join(sorted(values))}")

    def __setattr__(self, key: str, value: Any) -> None:
        """Refuse."""
        raise AttributeError("settings do not change after they are loaded")

    def __repr__(self) -> str:
        """Return the settings with their values."""
        keys: tuple[str, ...] = type(self).__slots__
        inner = ", ".join(f"{key}={getattr(self, key)!r}" for key in keys)
        return f"{type(self).__name__}({inner})"


class PinPolicy(Section):
    """``[pin]``: lengths in bytes, delays in seconds."""

    __slots__ = ("delay", "delay_cap", "max_length", "min_length", "tries")
    table = "pin"
    min_length: int
    max_length: int
    tries: int
    delay: float
    delay_cap: float

    def delay_after(self, failures: int) -> float:
        """Return the seconds to wait after `failures` wrong PINs in a row."""
        if failures <= 0:
            return 0.0
        return min(self.delay * 2.0 ** min(failures - 1, 64), self.delay_cap)


class KdfSettings(Section):
    """``[kdf]``: what it costs to try a PIN; memory in KiB."""

    __slots__ = ("memory_kib", "passes")
    table = "kdf"
    memory_kib: int
    passes: int


class StoreSettings(Section):
    """``[store]``: `mode` of the files whatever the umask, `group` a group id or None, seconds to wait."""

    __slots__ = ("busy_timeout", "group", "mode")
    table = "store"
    mode: int
    group: int | None
    busy_timeout: float

    @property
    def directory_mode(self) -> int:
        """The mode of directories: whoever can read files in them can also search them."""
        return self.mode | (self.mode & 0o444) >> 2


class LogSettings(Section):
    """``[log]``: `target` is ``off``, ``stderr``, ``syslog`` or a file's path (see `ferrohsm.log`)."""

    __slots__ = ("format", "level", "target")
    table = "log"
    target: str
    level: str
    format: str


class AuditSettings(Section):
    """``[audit]``: `directory` is None beside the tokens; one use in `sample`; `segment_mib` in MiB."""

    __slots__ = (
        "directory",
        "durability",
        "enabled",
        "keep",
        "key_use",
        "on_failure",
        "sample",
        "segment_mib",
    )
    table = "audit"
    enabled: bool
    directory: str | None
    durability: str
    key_use: str
    sample: int
    on_failure: str
    segment_mib: int
    keep: int


class MechanismSettings(Section):
    """``[mechanisms]``: which ``CKM_*`` a slot offers; `allow` is None for all that are not weak."""

    __slots__ = ("allow", "deny", "weak")
    table = "mechanisms"
    allow: frozenset[int] | None
    deny: frozenset[int]
    weak: bool

    def offers(self, mechanism: int) -> bool:
        """Say whether `mechanism` may be offered. A weak one has to be asked for: all of them, or by name."""
        if mechanism in self.deny:
            return False
        if self.allow is not None:
            return mechanism in self.allow
        from ferrohsm.mechanisms import ROWS

        row = ROWS.get(mechanism)
        return self.weak or row is None or not row.weak


TABLES: tuple[type[Section], ...] = (
    PinPolicy,
    KdfSettings,
    StoreSettings,
    LogSettings,
    AuditSettings,
    MechanismSettings,
)
ROWS = {row.name: row for row in SETTINGS}


class Place:
    """Where a value was written, for messages and for paths that are relative to the file."""

    __slots__ = ("home", "source")

    def __init__(self, source: str, home: str | None) -> None:
        self.source = source
        self.home = home

    def wrong(self, name: str, what: str) -> GeneralError:
        """Return the error that says where, which key and what is allowed."""
        return GeneralError(f"{self.source}: {name}: {what}")

    def unknown(self, name: str, known: list[str]) -> GeneralError:
        """Return the error for a key that does not exist, with the nearest that does."""
        import difflib

        close = difflib.get_close_matches(name.rsplit(".", 1)[-1], known, 1)
        hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(sorted(known))}"
        return self.wrong(name, f"unknown; {hint}")

    def absolute(self, name: str, value: str) -> str:
        """Return a path made absolute: ``~`` is the home, the rest is relative to the file."""
        if value == "~" or value.startswith("~/"):
            if self.home is None:
                raise self.wrong(name, "there is no home directory to put for ~; write an absolute path")
            value = self.home + value[1:]
        if not os.path.isabs(value):
            base = os.path.dirname(self.source) if os.path.isabs(self.source) else ""
            if not base:
                raise self.wrong(name, "must be an absolute path")
            value = os.path.join(base, value)
        return os.path.normpath(value)


def check(place: Place, row: Setting, value: Any, name: str | None = None) -> Any:
    """Return `value` as the setting's type, or raise with what is allowed."""
    name = name or row.name
    if row.kind == "bool":
        if not isinstance(value, bool):
            raise place.wrong(name, "must be true or false")
    elif row.kind in ("integer", "number"):
        kinds = int if row.kind == "integer" else (int, float)
        low, high = row.allowed
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            noun = "an integer" if row.kind == "integer" else "a number"
            raise place.wrong(name, f"must be {noun} from {low} to {high}")
        return int(value) if row.kind == "integer" else float(value)
    elif row.kind == "choice":
        if not isinstance(value, str) or value not in row.allowed:
            raise place.wrong(name, "must be " + " or ".join(f'"{word}"' for word in row.allowed))
    elif row.kind == "path":
        return place.absolute(name, _text(place, name, value))
    elif row.kind == "target":
        text = _text(place, name, value)
        return text if text in row.allowed else place.absolute(name, text)
    elif row.kind == "mode":
        return _mode(place, row, name, value)
    elif row.kind == "group":
        return _group(place, name, value)
    elif row.kind == "mechanisms":
        return _mechanisms(place, name, value)
    return value


def _text(place: Place, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise place.wrong(name, "must be text that is not empty")
    return value


def _mode(place: Place, row: Setting, name: str, value: Any) -> int:
    if isinstance(value, str):
        try:
            value = int(value, 8)
        except ValueError:
            value = -1
    if isinstance(value, bool) or value not in row.allowed:
        raise place.wrong(name, "must be " + " or ".join(f"0o{mode:o}" for mode in row.allowed))
    return int(value)


def _group(place: Place, name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32 - 1:
        return value
    text = _text(place, name, value)
    if text.isdecimal():
        return int(text)
    if sys.platform == "win32":
        raise place.wrong(name, "there are no groups of files on this system")
    import grp

    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise place.wrong(name, f"there is no group {text!r}") from None


def _mechanisms(place: Place, name: str, value: Any) -> frozenset[int]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise place.wrong(name, 'must be a list of names, for example ["CKM_AES_GCM"]')
    types = set()
    for word in value:
        number = getattr(ck, word, None) if word.startswith("CKM_") else None
        if not isinstance(number, int):
            known = [constant for constant in vars(ck) if constant.startswith("CKM_")]
            import difflib

            close = difflib.get_close_matches(word.upper(), known, 1)
            raise place.wrong(
                name, f"{word!r} is no mechanism" + (f"; did you mean {close[0]}?" if close else "")
            )
        types.add(number)
    return frozenset(types)


def from_text(row: Setting, text: str) -> Any:
    """Read a value of the init string as the file would have it."""
    if row.kind == "bool":
        return {"true": True, "false": False}.get(text, text)
    if row.kind in ("integer", "number"):
        try:
            return int(text) if row.kind == "integer" else float(text)
        except ValueError:
            return text
    if row.kind == "mechanisms":
        return text.split(",")
    return text
