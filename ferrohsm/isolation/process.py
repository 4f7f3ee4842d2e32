"""Starting the other process, and ending it (Linux)."""

from __future__ import annotations

import os
import socket
import sys

from ferrohsm.config import secure_execution
from ferrohsm.errors import DeviceError

CHANNEL = 3  # where the process finds its socket

_BOOT = """\
import os, sys
os.closerange(4, 1 << 16)
os.chdir("/")
site = sys.argv[1]
if site not in sys.path:
    ends = [i for i, path in enumerate(sys.path) if path.endswith("-packages")]
    sys.path.insert(ends[0] if ends else len(sys.path), site)
from ferrohsm.isolation.child import main
main()
"""


def site() -> str:
    """Return the folder that holds this package."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def interpreter() -> str:
    """Return the Python program of the environment that this package is installed in.

    The host may be any program, and in a Python host ``sys.executable`` may be another environment's, or
    no Python at all; so the folders above our own are looked at first. Raises `DeviceError`.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folder = site()
    places = []
    for _ in range(5):
        folder = os.path.dirname(folder)
        places.append(os.path.join(folder, "bin", version))
        if os.path.exists(os.path.join(folder, "pyvenv.cfg")):
            places.append(os.path.join(folder, "bin", "python3"))
    for known in (sys.executable, getattr(sys, "_base_executable", None)):
        if known and os.path.basename(known).startswith("python"):
            places.append(known)
    places.append(os.path.join(sys.base_exec_prefix, "bin", version))
    for place in places:
        if os.path.isabs(place) and os.access(place, os.X_OK):
            return place
    raise DeviceError(f'no {version} was found for isolation = "process"')


def _elsewhere(channel: socket.socket) -> socket.socket:
    with channel:
        return channel.dup()


class Process:
    """A process that is nobody's child: its socket, and what it can be killed by."""

    __slots__ = ("_pidfd", "channel", "pid")

    def __init__(self, channel: socket.socket, pid: int, pidfd: int) -> None:
        self.channel = channel
        self.pid = pid
        self._pidfd = pidfd

    def kill(self, *, surely: bool = True) -> None:
        """End it at once, whatever it does.

        Its number may be somebody else's once it is gone: without a pidfd it is used only where the caller
        is sure that the process is there.
        """
        import signal

        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif surely:
                os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass

    def close(self) -> None:
        """Give back the descriptors."""
        self.channel.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def start(name: str) -> Process:
    """Start the process for the slot section `name`. Raises `DeviceError`."""
    try:
        from ferrohsm.isolation import _start  # type: ignore[attr-defined]
    except ImportError:
        raise DeviceError('isolation = "process" is for Linux') from None
    program = interpreter()
    arguments = (program, "-I", "-B", "-X", "utf8", "-c", _BOOT, site(), str(os.getpid()), name)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if theirs.fileno() == CHANNEL:  # older C libraries would leave it to be closed at exec
        theirs = _elsewhere(theirs)
    try:
        # A program with rights that its caller lacks hands on nothing of what the caller has set.
        clean = secure_execution()
        pid, pidfd = _start.start(
            os.fsencode(program), tuple(map(os.fsencode, arguments)), (), theirs.fileno(), clean
        )
    except OSError as error:
        ours.close()
        raise DeviceError(f"{program} cannot be started: {error.strerror}") from None
    finally:
        theirs.close()
    return Process(ours, pid, pidfd)
