"""A vendor's module in this process: it meets only itself, and is initialized once for all its slots.

The module's own functions must be the ones in its table: a table that was bound to another module's symbols
(both export ``C_Sign``) would lead back to us. So it is loaded with ``RTLD_DEEPBIND`` where there is such a
thing, and the table is checked against the file it came from.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_void_p, cast
from threading import Lock
from typing import Any

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.errors import DeviceError, DeviceRemoved, GeneralError, HsmError, from_rv
from ferrohsm_adapters.pkcs11_bridge.cryptoki import FunctionList, InitializeArguments

# What says that the backend has lost us, not that the caller has done anything wrong.
_LOST = frozenset(
    (
        ck.CKR_CRYPTOKI_NOT_INITIALIZED,
        ck.CKR_SESSION_HANDLE_INVALID,
        ck.CKR_SESSION_CLOSED,
        ck.CKR_SLOT_ID_INVALID,
        ck.CKR_TOKEN_NOT_PRESENT,
        ck.CKR_DEVICE_REMOVED,
    )
)
# What a backend never has a reason to say to us: it is the bridge's or the backend's fault.
_ODD = frozenset((ck.CKR_OPERATION_ACTIVE, ck.CKR_BUFFER_TOO_SMALL))

_libraries: dict[str, Library] = {}
_lock = Lock()


def _after_fork() -> None:
    global _lock
    _lock = Lock()
    for library in _libraries.values():
        library.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Library:
    """A loaded module. `owned` says that we initialized it: then the host does not use it by itself."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self.owned = False
        self.forked = False
        self._handle = _load(path)
        get = self._handle.C_GetFunctionList
        get.restype, get.argtypes = ctypes.c_ulong, [POINTER(c_void_p)]
        table = c_void_p()
        rv = get(byref(table))
        if rv != ck.CKR_OK or not table.value:
            raise from_rv(rv or ck.CKR_GENERAL_ERROR, f"{path}: C_GetFunctionList")
        self.functions = FunctionList(table.value)
        _check_origin(path, cast(get, c_void_p).value or 0, self.functions)

    def initialize(self, init: str | None, *, threads: bool) -> None:
        """Call ``C_Initialize``; a module that the host has initialized already is used as it is."""
        arguments = InitializeArguments()
        # CKF_OS_LOCKING_OK: calls come from several threads. Modules that cannot say so.
        arguments.flags = ck.CKF_OS_LOCKING_OK if threads else 0
        kept = None if init is None else c_char_p(init.encode())
        arguments.reserved = None if kept is None else cast(kept, c_void_p)
        rv = self.functions.Initialize(byref(arguments))
        if rv == ck.CKR_CRYPTOKI_ALREADY_INITIALIZED and self.forked and self.owned:
            # What the child has is its parent's: logins and sessions that are not ours to use.
            self.functions.Finalize(None)
            rv = self.functions.Initialize(byref(arguments))
        self.forked = False
        if rv == ck.CKR_CRYPTOKI_ALREADY_INITIALIZED:
            log.event("info", "the module was initialized already", module=self.path)
            return
        self.owned = rv == ck.CKR_OK
        check(rv, "C_Initialize")


def acquire(path: str, init: str | None, *, threads: bool) -> Library:
    """Return the module, loaded and initialized; `release` it afterwards.

    Raises `GeneralError` when it cannot be loaded, and what ``C_Initialize`` answers.
    """
    with _lock:
        library = _libraries.get(path)
        if library is None:
            library = Library(path)
        if library.users == 0 or library.forked:
            library.users = 0
            library.initialize(init, threads=threads)
        library.users += 1
        _libraries[path] = library
        return library


def release(library: Library) -> None:
    """Finalize the module when this was its last user, and it was not the host who had initialized it."""
    with _lock:
        library.users -= 1
        if library.users > 0 or not library.owned or library.forked:
            return
        library.owned = False
        rv = library.functions.Finalize(None)
    if rv != ck.CKR_OK:
        log.event("warning", "C_Finalize failed", module=library.path, rv=ck.name("CKR", rv))


def check(rv: int, what: str) -> None:
    """Raise what a return value says; the backend's own values pass through."""
    if rv != ck.CKR_OK:
        raise error_of(rv, what)


def error_of(rv: int, what: str) -> HsmError:
    """Return the exception for a return value of the backend's function `what`."""
    name = ck.name("CKR", rv)
    if rv in _LOST:
        return DeviceRemoved(f"{what}: {name}")
    if rv in _ODD:
        return DeviceError(f"{what}: {name}")
    return from_rv(rv, f"{what}: {name}")


def _load(path: str) -> Any:
    mode = os.RTLD_NOW | os.RTLD_LOCAL if hasattr(os, "RTLD_NOW") else ctypes.DEFAULT_MODE
    if hasattr(os, "RTLD_DEEPBIND") and not _sanitized():
        mode |= os.RTLD_DEEPBIND
    try:
        return ctypes.CDLL(path, mode=mode)
    except OSError as error:
        raise GeneralError(f"{path} cannot be loaded: {error}") from None


def _sanitized() -> bool:
    """Say whether the process runs under AddressSanitizer, which ends a process that binds deeply."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "__asan_init")


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("file", c_char_p),
        ("base", c_void_p),
        ("name", c_char_p),
        ("address", c_void_p),
    )


def _check_origin(path: str, entry: int, functions: FunctionList) -> None:
    """Refuse a table whose functions are another module's, which may be ours: calls would go in circles."""
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None) if sys.platform != "win32" else None
    if dladdr is None:
        return
    dladdr.argtypes = [c_void_p, POINTER(_DlInfo)]

    def base(address: int) -> int | None:
        info = _DlInfo()
        return info.base if dladdr(address, byref(info)) else None

    own = base(entry)
    for name in ("Initialize", "Sign", "Login"):
        address = functions.addresses.get(name)
        if address is not None and own is not None and base(address) not in (own, None):
            raise GeneralError(
                f"{path}: its C_{name} is another module's, loaded before it with global symbols; "
                'use isolation = "process"'
            )
