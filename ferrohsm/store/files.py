"""Files and directories with the modes that were asked for, whatever the process's umask is.

Nothing here follows a symbolic link in the last place of a path, and no descriptor survives an exec.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from _thread import LockType, allocate_lock

from ferrohsm.errors import DeviceError, DeviceMemory, DeviceRemoved, HsmError, TokenWriteProtected
from ferrohsm.settings import StoreSettings

try:
    import fcntl
except ImportError:  # Windows locks ranges of bytes with msvcrt
    fcntl = None  # type: ignore[assignment]

_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PROTECTED = {errno.EROFS, errno.EACCES, errno.EPERM}


def refusal(error: OSError, what: str) -> HsmError:
    """Return the refusal for what the system said while we did `what`."""
    message = f"{what}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno in _FULL:
        return DeviceMemory(message)
    if error.errno in _PROTECTED:
        return TokenWriteProtected(message)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return DeviceRemoved(message)
    return DeviceError(message)


def own(path: str | int, place: StoreSettings, *, directory: bool = False) -> None:
    """Give a path or descriptor the configured mode and group."""
    mode = place.directory_mode if directory else place.mode
    if place.group is not None and hasattr(os, "chown"):
        os.chown(path, -1, place.group)
        if directory:
            mode |= 0o2000  # so that the log SQLite makes beside the file gets the group as well
    if os.chmod in os.supports_fd or isinstance(path, str):
        os.chmod(path, mode)


def make_directory(path: str, place: StoreSettings) -> None:
    """Make `path` and what is missing above it; raise if it is there and is no directory."""
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_directory(parent, place)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return
    own(path, place, directory=True)
    sync_directory(parent)


def create(path: str, data: bytes | bytearray, place: StoreSettings) -> None:
    """Write a new file that must not be there, and have it on disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
    try:
        own(descriptor if os.chmod in os.supports_fd else path, place)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(path: str, data: bytes | bytearray, place: StoreSettings) -> None:
    """Write `path` whole: after a crash there is the old content or the new one."""
    temporary = f"{path}.{os.urandom(6).hex()}"
    try:
        create(temporary, data, place)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    sync_directory(os.path.dirname(path))


def load(path: str, limit: int) -> bytearray:
    """Return the content of a regular file of at most `limit` bytes, in a buffer that can be wiped.

    Raises `OSError` when it cannot be read and ``DeviceError`` when it is anything else.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFE)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > limit:
            raise DeviceError(f"{path} is not a file of ours")
        data = bytearray(about.st_size)
        view = memoryview(data)
        read = 0
        while read < len(data):
            step = os.readv(descriptor, [view[read:]]) if hasattr(os, "readv") else 0
            if step <= 0 and not hasattr(os, "readv"):
                part = os.read(descriptor, len(data) - read)
                step = len(part)
                view[read : read + step] = part
            if step <= 0:
                raise DeviceError(f"{path} became shorter while it was read")
            read += step
        return data
    finally:
        os.close(descriptor)


def open_regular(path: str, flags: int, size: int) -> int:
    """Open a regular file of exactly `size` bytes; the caller closes it."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | _SAFE)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_size != size:
        os.close(descriptor)
        raise DeviceError(f"{path} is not a file of ours")
    return descriptor


def remove(path: str) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_tree(path: str) -> None:
    """Remove a directory of ours: plain files, no deeper directories; links are not followed."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    for name in names:
        remove(os.path.join(path, name))
    os.rmdir(path)


def sync_directory(path: str) -> None:
    """Have a directory's entries on disk."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _SAFE)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writable(path: str) -> bool:
    """Say whether the medium and our rights allow to write a file, or to make one in a directory."""
    try:
        if hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY:
            return False
    except OSError:
        return False
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another one in its place, None when there is none."""
    try:
        about = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return about.st_dev, about.st_ino


_locks: dict[str, LockType] = {}


class FileLock:
    """A lock between processes and threads on one file, used as a context manager.

    A record lock belongs to the process, so a child does not inherit it and the system drops it when the
    process dies; between the threads of the process stands an ordinary lock.
    """

    __slots__ = ("_descriptor", "_mine", "_path", "_place", "_timeout")

    def __init__(self, path: str, place: StoreSettings, timeout: float) -> None:
        self._path = os.path.realpath(path)
        self._place = place
        self._timeout = timeout
        self._mine: LockType | None = None
        self._descriptor = -1

    def __enter__(self) -> None:
        """Wait up to the timeout (seconds); raises ``DeviceError`` then."""
        deadline = time.monotonic() + self._timeout
        mine = _locks.setdefault(self._path, allocate_lock())
        if not mine.acquire(timeout=self._timeout):
            raise self._busy()
        try:
            self._descriptor = self._open()
            pause = 0.001
            while not self._lock():
                if time.monotonic() > deadline:
                    raise self._busy()
                time.sleep(pause)
                pause = min(pause * 1.5, 0.02)
        except BaseException as error:
            self._close()
            mine.release()
            if isinstance(error, OSError):
                raise refusal(error, f"cannot lock {self._path}") from None
            raise
        self._mine = mine

    def __exit__(self, *_: object) -> None:
        self._close()
        mine, self._mine = self._mine, None
        if mine is not None:
            mine.release()

    def _open(self) -> int:
        flags = os.O_RDWR | _SAFE
        try:
            return os.open(self._path, flags)
        except FileNotFoundError:
            descriptor = os.open(self._path, flags | os.O_CREAT, 0o600)
            own(descriptor if os.chmod in os.supports_fd else self._path, self._place)
            return descriptor

    def _lock(self) -> bool:
        try:
            if fcntl is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt

                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                return False
            raise
        return True

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _busy(self) -> DeviceError:
        return DeviceError(f"another process has kept {self._path} locked for {self._timeout:g} s")


if hasattr(os, "register_at_fork"):
    # Threads that held a lock are not in the child.
    os.register_at_fork(after_in_child=_locks.clear)
