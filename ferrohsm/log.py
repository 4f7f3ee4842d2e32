"""Events as lines: in a file, on stderr or to syslog; nowhere unless the configuration says so.

An event is a level, a sentence and fields. Fields are numbers and short texts; anything else is
written as its type's name, and a field whose name sounds secret is not written at all, so that a
careless call cannot leak a PIN or a key. Of an unknown exception the type and the places of its
traceback are written, never its message or values.

Logging never fails a call: a line that cannot be written is lost.
"""

from __future__ import annotations

import os
import time

from ferrohsm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ferrohsm.settings import LogSettings

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SEVERITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_FACILITY_AUTHPRIV = 10 << 3
_SECRET_NAMES = (
    "pin",
    "password",
    "passphrase",
    "secret",
    "value",
    "plaintext",
    "seed",
    "private",
    "template",
)
_LONGEST = 256
_SYSLOG_SOCKETS = ("/dev/log", "/var/run/syslog")

_OFF = 100
_threshold = _OFF
_target = "off"
_json = True
_forward: Callable[[str, str, dict[str, Any]], None] | None = None


def configure(settings: LogSettings) -> None:
    """Start writing as `settings` say; replaces what was configured before."""
    global _threshold, _target, _json
    _target, _json = settings.target, settings.format == "json"
    _threshold = _OFF if _target == "off" else LEVELS[settings.level]


def forward(level: str, to: Callable[[str, str, dict[str, Any]], None]) -> None:
    """Give every event of at least `level` to somebody else, with what may be written of its fields."""
    global _threshold, _forward
    _threshold, _forward = LEVELS[level], to


def close() -> None:
    """Write nothing from now on."""
    global _threshold, _target
    _threshold, _target = _OFF, "off"


def enabled(level: str) -> bool:
    """Say whether an event of `level` would be written."""
    return LEVELS[level] >= _threshold


def event(level: str, message: str, /, **fields: Any) -> None:
    """Write one event. `message` is a constant sentence; what varies goes into the fields."""
    if LEVELS[level] < _threshold:
        return
    try:  # noqa: SIM105 - contextlib is not needed for this alone
        if _forward is not None:
            _forward(level, message, {name: _safe(name, value) for name, value in fields.items()})
            return
        _write(level, _line(level, message, fields))
    except Exception:  # noqa: S110 - whatever goes wrong with a log line, the call goes on
        pass


def failure(message: str, error: BaseException, /, **fields: Any) -> None:
    """Write an error that nobody expected: types and places, no values."""
    if LEVELS["error"] >= _threshold:
        event("error", message, error=_types(error), where=_places(error), **fields)


def _types(error: BaseException) -> str:
    names: list[str] = []
    link: BaseException | None = error
    while link is not None and len(names) < 4:
        names.append(f"{type(link).__module__}.{type(link).__qualname__}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return " from ".join(names)


def _places(error: BaseException) -> str:
    places = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        file = "/".join(code.co_filename.replace("\\", "/").split("/")[-2:])
        places.append(f"{file}:{step.tb_lineno}:{code.co_name}")
        step = step.tb_next
    return " ".join(places[-6:])


def _safe(name: str, value: Any) -> Any:
    """Return what may be written of a field."""
    if value is None or isinstance(value, (bool, int, float)):
        return value if not _sounds_secret(name) or isinstance(value, bool) else "<redacted>"
    if _sounds_secret(name):
        return "<redacted>"
    if isinstance(value, str):
        longest = 2 * _LONGEST if name == "where" else _LONGEST
        return value if len(value) <= longest else value[:longest] + "…"
    return f"<{type(value).__name__}>"


def _sounds_secret(name: str) -> bool:
    return any(word in _SECRET_NAMES for word in name.lower().split("_"))


def _line(level: str, message: str, fields: dict[str, Any]) -> str:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    safe = {name: _safe(name, value) for name, value in fields.items()}
    import json

    if _json:
        head = {"time": stamp, "level": level, "event": message, "pid": os.getpid()}
        return json.dumps({**safe, **head} if safe.keys() & head.keys() else {**head, **safe})
    tail = "".join(f" {name}={json.dumps(value)}" for name, value in safe.items())
    return f"{stamp} {level} [{os.getpid()}] {message}{tail}"


def _write(level: str, line: str) -> None:
    if _target == "syslog":
        _to_syslog(level, line)
    elif _target == "stderr":
        os.write(2, (line + "\n").encode())
    else:
        _to_file(line)


def _to_file(line: str) -> None:
    """Append in one write. The file is opened for each line.

    A descriptor that is kept would write into a host's own file after a host closed all descriptors,
    as daemons do, and into a file that logrotate has moved away.
    """
    import stat

    flags = (
        os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    )
    descriptor = os.open(_target, flags, 0o600)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.write(descriptor, (line + "\n").encode())
    finally:
        os.close(descriptor)


def _to_syslog(level: str, line: str) -> None:
    """Send a datagram ourselves: libc's ``openlog`` would rename the host's own messages."""
    import socket

    stamp = time.strftime("%b %d %H:%M:%S", time.localtime())
    text = f"<{_FACILITY_AUTHPRIV | _SEVERITY[level]}>{stamp} ferrohsm[{os.getpid()}]: {line}"
    for path in _SYSLOG_SOCKETS:
        if os.path.exists(path):
            _datagram(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), path, text.encode())
            return


def _datagram(channel: socket.socket, path: str, data: bytes) -> None:
    with channel:
        channel.setblocking(False)
        channel.connect(path)
        channel.send(data)
