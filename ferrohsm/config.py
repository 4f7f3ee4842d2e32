"""The configuration: where it is found and how it is read.

`load` looks for ``ferrohsm.toml`` at ``FERROHSM_CONF``, then in the user's configuration directory,
then in the system's. Nothing at all is a configuration too: one software slot in the user's data
directory. A home that is missing is no error (the slot is there, its token is not); a file that is
wrong is one, and the message says which file, which key and what is allowed.
"""

from __future__ import annotations

import os
import sys

from ferrohsm import plain_toml
from ferrohsm.errors import ArgumentsBad, GeneralError
from ferrohsm.settings import (
    ROWS,
    SETTINGS,
    SLOT_SETTINGS,
    TABLES,
    AuditSettings,
    KdfSettings,
    LogSettings,
    MechanismSettings,
    PinPolicy,
    Place,
    StoreSettings,
    check,
    from_text,
)
from ferrohsm.typed import Any, Mapping

FILE_NAME = "ferrohsm.toml"
SYSTEM_FILE = "/etc/ferrohsm/ferrohsm.toml"
ENVIRONMENT = ("FERROHSM_CONF", "HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
"""The variables that matter; a caller whose ``os.environ`` may be stale passes these to `load`."""

_AT_SECURE = 23


class SlotSection:
    """``[slots.NAME]``: an adapter and what it is told.

    `options` holds every key that is the adapter's own, as written; for the software adapter ``data_dir``,
    ``free_slot`` and ``ec_point`` are checked and always there. `config` is the whole configuration.
    ``deadline`` (seconds a call may take), ``concurrency`` (calls at once) and ``isolation`` are for every
    adapter: None and "thread" unless they are given.
    """

    __slots__ = ("adapter", "concurrency", "config", "deadline", "isolation", "name", "options")

    def __init__(
        self,
        name: str,
        adapter: str,
        options: dict[str, Any],
        config: Config | None = None,
        *,
        deadline: float | None = None,
        concurrency: int | None = None,
        isolation: str = "thread",
    ) -> None:
        self.name = name
        self.adapter = adapter
        self.options = options
        self.deadline = deadline
        self.concurrency = concurrency
        self.isolation = isolation
        self.config = config if config is not None else Config()

    def __repr__(self) -> str:
        """Return name and adapter, without the options."""
        return f"SlotSection({self.name!r}, {self.adapter!r})"


class Config:
    """Everything that is configured. `Config()` is the defaults, without a data directory.

    `data_problem` says, with the remedy, why `data_dir` is None; it is None when there is one. `threads` is
    False in a host that forbids threads (``CKF_LIBRARY_CANT_CREATE_OS_THREADS``).
    """

    __slots__ = (
        "allow_init_string",
        "audit",
        "data_dir",
        "data_problem",
        "ec_point",
        "free_slot",
        "kdf",
        "log",
        "mechanisms",
        "memory_lock",
        "path",
        "pin",
        "slots",
        "store",
        "threads",
    )

    def __init__(self, **values: Any) -> None:
        self.path: str | None = None
        self.data_dir: str | None = None
        self.data_problem: str | None = None
        self.threads = True
        self.slots: list[SlotSection] = []
        self.pin = PinPolicy()
        self.kdf = KdfSettings()
        self.store = StoreSettings()
        self.log = LogSettings()
        self.audit = AuditSettings()
        self.mechanisms = MechanismSettings()
        self.free_slot: bool = ROWS["free_slot"].default
        self.allow_init_string: bool = ROWS["allow_init_string"].default
        self.ec_point: str = ROWS["ec_point"].default
        self.memory_lock: str = ROWS["memory_lock"].default
        for key, value in values.items():
            setattr(self, key, value)


def secure_execution() -> bool:
    """Say whether the process has rights that its caller lacks (then the environment is not trusted)."""
    if sys.platform == "win32":
        return False
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return True
    if hasattr(os, "getresuid") and (len(set(os.getresuid())) > 1 or len(set(os.getresgid())) > 1):
        return True
    try:  # file capabilities, and rights that were given up since
        with open("/proc/self/auxv", "rb", buffering=0) as file:
            auxiliary = file.read(4096)
    except OSError:
        return False
    word = 8 if sys.maxsize > 2**32 else 4
    for offset in range(0, len(auxiliary) - 2 * word + 1, 2 * word):
        if int.from_bytes(auxiliary[offset : offset + word], sys.byteorder) == _AT_SECURE:
            return any(auxiliary[offset + word : offset + 2 * word])
    return False


def trusted_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of `ENVIRONMENT` that are set; none in a set-user-id process."""
    if secure_execution():
        return {}
    source = os.environ if environ is None else environ
    return {name: source[name] for name in ENVIRONMENT if source.get(name)}


def home(environ: Mapping[str, str]) -> str | None:
    """Return the user's home directory when it exists, else None."""
    directory: str | None = environ.get("USERPROFILE" if sys.platform == "win32" else "HOME")
    if directory is None and sys.platform != "win32":
        import pwd

        try:
            directory = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            return None
    if directory is None or not os.path.isabs(directory) or not os.path.isdir(directory):
        return None
    return directory


def _directory(environ: Mapping[str, str], variable: str, below_home: str) -> str | None:
    """Return an XDG base directory; one that is not absolute is ignored, as that specification says."""
    base: str | None = environ.get(variable)
    if base is not None and os.path.isabs(base):
        return os.path.join(base, "ferrohsm")
    base = home(environ)
    return None if base is None else os.path.join(base, below_home, "ferrohsm")


def candidates(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the places where the file is looked for, first to last."""
    return _candidates(trusted_environment(environ))


def _candidates(trusted: Mapping[str, str]) -> list[str]:
    if "FERROHSM_CONF" in trusted:
        return [trusted["FERROHSM_CONF"]]
    directory = _directory(trusted, "XDG_CONFIG_HOME", ".config")
    user = [] if directory is None else [os.path.join(directory, FILE_NAME)]
    return [*user, SYSTEM_FILE]


def load(environ: Mapping[str, str] | None = None, init_string: str | None = None) -> Config:
    """Find, read and check the configuration.

    `init_string` is ``C_Initialize``'s ``pReserved``; it needs ``allow_init_string`` in the file
    that would be used without it.

    Raises `GeneralError` for a file that cannot be read or is wrong, `ArgumentsBad` for an init
    string that is not allowed or is wrong.
    """
    trusted = trusted_environment(environ)
    config = _load_file(trusted, _find(trusted), {})
    if init_string is None:
        return config
    if not config.allow_init_string:
        raise ArgumentsBad(
            "pReserved is not NULL, and the configuration does not say allow_init_string = true"
        )
    pairs = _parse_init_string(init_string)
    path = pairs.pop("config", None) or config.path
    try:
        return _load_file(trusted, path, pairs)
    except GeneralError as error:
        raise ArgumentsBad(f"init string: {error}") from None


def _find(trusted: Mapping[str, str]) -> str | None:
    if "FERROHSM_CONF" in trusted:
        return trusted["FERROHSM_CONF"]
    for path in _candidates(trusted):
        try:
            os.stat(path)
        except OSError:  # also a directory that may not be searched: nothing of ours is there
            continue
        return path
    return None


def _load_file(trusted: Mapping[str, str], path: str | None, pairs: Mapping[str, str]) -> Config:
    document = {} if path is None else _read(path)
    return _build(trusted, None if path is None else os.path.abspath(path), document, pairs)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except OSError as error:
        raise GeneralError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise GeneralError(f"{path}: is not UTF-8 text") from None
    plain = plain_toml.parse(text)
    if plain is not None:
        return plain
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GeneralError(f"{path}: is not TOML: {error}") from None


def _build(
    trusted: Mapping[str, str], path: str | None, document: Mapping[str, Any], pairs: Mapping[str, str]
) -> Config:
    here = home(trusted)
    place = Place(path or "defaults", here)
    sections = [table.table for table in TABLES]
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key in sections:
            if not isinstance(value, dict):
                raise place.wrong(key, f"must be a table: [{key}]")
            for inner, setting in value.items():
                row = ROWS.get(f"{key}.{inner}")
                if row is None:
                    raise place.unknown(f"{key}.{inner}", [r.key for r in SETTINGS if r.section == key])
                values[row.name] = check(place, row, setting)
        elif key != "slots":
            row = ROWS.get(key)
            if row is None:
                top = [r.key for r in SETTINGS if not r.section]
                raise place.unknown(key, [*top, *sections, "slots"])
            values[key] = check(place, row, value)
    given = Place("init string", here)
    for name, text in pairs.items():
        row = ROWS.get(name)
        if row is None or name == "allow_init_string":
            raise given.unknown(name, ["config", *(n for n in ROWS if n != "allow_init_string")])
        values[name] = check(given, row, from_text(row, text))
    config = Config(path=path)
    _fill(config, values)
    if config.pin.min_length > config.pin.max_length:
        raise place.wrong("pin.min_length", f"{config.pin.min_length} is more than pin.max_length")
    if config.data_dir is None:
        _default_data_dir(config, trusted)
    config.slots = _slots(place, config, document.get("slots"))
    return config


def _fill(config: Config, values: Mapping[str, Any]) -> None:
    for table in TABLES:
        own = {ROWS[key].key: value for key, value in values.items() if ROWS[key].section == table.table}
        setattr(config, table.table, table(**own))
    for key, value in values.items():
        if not ROWS[key].section:
            setattr(config, key, value)


def _default_data_dir(config: Config, trusted: Mapping[str, str]) -> None:
    config.data_dir = _directory(trusted, "XDG_DATA_HOME", os.path.join(".local", "share"))
    if config.data_dir is None:
        config.data_problem = (
            "there is no home directory for the tokens; "
            f"set data_dir in {SYSTEM_FILE} or in the file that FERROHSM_CONF names"
        )


def _slots(place: Place, config: Config, table: Any) -> list[SlotSection]:
    if table is None:
        table = {"software": {"adapter": "software"}}
    if not isinstance(table, dict) or not all(isinstance(inner, dict) for inner in table.values()):
        raise place.wrong("slots", "must hold tables: [slots.NAME]")
    sections: list[SlotSection] = []
    directories: dict[str, str] = {}
    for name, inner in table.items():
        adapter = inner.get("adapter")
        if not isinstance(adapter, str) or not adapter:
            raise place.wrong(
                f"slots.{name}.adapter", 'must name an adapter, for example adapter = "software"'
            )
        lane = {
            row.key: check(place, row, inner[row.key], f"slots.{name}.{row.key}")
            for row in SLOT_SETTINGS
            if row.key in inner
        }
        options = {key: value for key, value in inner.items() if key != "adapter" and key not in lane}
        if adapter == "software":
            _software_options(place, config, name, options)
            directory = options["data_dir"]
            if directory in directories:
                raise place.wrong(
                    f"slots.{name}.data_dir", f"is the same as slots.{directories[directory]}'s"
                )
            if directory is not None:
                directories[directory] = name
        sections.append(SlotSection(name, adapter, options, config, **lane))
    return sections


def _software_options(place: Place, config: Config, name: str, options: dict[str, Any]) -> None:
    """Check the software adapter's options and put the defaults of the whole configuration."""
    known = ("data_dir", "free_slot", "ec_point")
    for key, value in options.items():
        if key not in known:
            raise place.unknown(
                f"slots.{name}.{key}", [*known, "adapter", *(row.key for row in SLOT_SETTINGS)]
            )
        options[key] = check(place, ROWS[key], value, f"slots.{name}.{key}")
    for key in known:
        options.setdefault(key, getattr(config, key))


def _parse_init_string(text: str) -> dict[str, str]:
    """Split ``key=value key="a value"`` into pairs."""
    pairs: dict[str, str] = {}
    position = 0
    while True:
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
        if position == len(text):
            return pairs
        equals = text.find("=", position)
        key = text[position:equals] if equals > 0 else ""
        if not key or any(character in " \t\r\n\"'" for character in key):
            raise ArgumentsBad("init string: must be key=value pairs with spaces between them")
        position = equals + 1
        if position < len(text) and text[position] in "\"'":
            end = text.find(text[position], position + 1)
            if end < 0:
                raise ArgumentsBad(f"init string: {key}: the quote is not closed")
            value, position = text[position + 1 : end], end + 1
            if position < len(text) and text[position] not in " \t\r\n":
                raise ArgumentsBad(f"init string: {key}: there must be a space after the value")
        else:
            end = position
            while end < len(text) and text[end] not in " \t\r\n":
                end += 1
            value, position = text[position:end], end
        if key in pairs:
            raise ArgumentsBad(f"init string: {key}: given twice")
        pairs[key] = value
