"""What the bridge has open at one slot of a backend: a pool of sessions, one login, threads to wait on.

Everything here but `Workers` is called on a worker's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref
from threading import Lock
from typing import Any, TypeVar

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.errors import DeviceRemoved, HsmError, SessionCount, TokenWriteProtected
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, SessionInfo, buffer_of, wipe
from ferrohsm_adapters.pkcs11_bridge.library import Library, check, error_of
from ferrohsm_adapters.pkcs11_bridge.profiles import Profile
from ferrohsm_adapters.pkcs11_bridge.workers import Workers

T = TypeVar("T")

_IDLE = 8  # sessions that are kept open though nobody uses them
_ALREADY = (ck.CKR_USER_ALREADY_LOGGED_IN, ck.CKR_USER_ANOTHER_ALREADY_LOGGED_IN)
_LOGGED_IN = {
    ck.CKU_USER: (ck.CKS_RO_USER_FUNCTIONS, ck.CKS_RW_USER_FUNCTIONS),
    ck.CKU_SO: (ck.CKS_RW_SO_FUNCTIONS,),
}


class BackendSession:
    """A session with the backend. `objects` counts the session objects that would die with it.

    `spent` says that an operation was left in it, so that it is not used again.
    """

    __slots__ = ("epoch", "handle", "objects", "spent")

    def __init__(self, handle: int, epoch: int) -> None:
        self.handle = handle
        self.epoch = epoch
        self.objects = 0
        self.spent = False


class Connection:
    """One slot of a backend."""

    def __init__(self, library: Library, slot: int, profile: Profile, limit: int, workers: Workers) -> None:
        self.library = library
        self.functions = library.functions
        self.slot = slot
        self.profile = profile
        self.workers = workers
        self.user: int | None = None
        # Moves when all sessions were lost, and with them the login, the handles and the session objects.
        self.epoch = 0
        self._limit = limit
        self._closed = False
        self._lock = Lock()
        self._idle: list[BackendSession] = []
        self._open: set[BackendSession] = set()
        self._anchor: BackendSession | None = None

    # Calls

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. Raises what it answers; the connection is over when the backend has lost us."""
        rv = getattr(self.functions, name)(*arguments)
        if rv != ck.CKR_OK:
            raise self.failure(rv, name)

    def failure(self, rv: int, name: str) -> HsmError:
        """Return the exception for what a function answered."""
        error = error_of(rv, "C_" + name)
        if isinstance(error, DeviceRemoved):
            self.lose(str(error))
        return error

    async def run(self, work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Do something with the backend on a worker's thread."""
        return await self.workers.run(work, undo)

    # Sessions

    @contextmanager
    def session(self) -> Iterator[BackendSession]:
        """Lend a session for some calls."""
        session = self.take()
        try:
            yield session
        finally:
            self.give(session)

    def take(self) -> BackendSession:
        """Return a session that nobody uses. Raises `SessionCount` when there are too many."""
        self.anchor()
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if len(self._open) >= self._limit:
                raise SessionCount(f"{self._limit} sessions with the backend are in use")
        return self._opened()

    def give(self, session: BackendSession) -> None:
        """Take a session back."""
        with self._lock:
            if session.epoch != self.epoch or session not in self._open:
                return
            if session.objects == 0 and (session.spent or len(self._idle) >= _IDLE):
                self._open.discard(session)
            else:
                if not session.spent:
                    self._idle.append(session)
                return
        self.functions.CloseSession(session.handle)

    def anchor(self) -> BackendSession:
        """Return the session that keeps the login; it is never used for an operation."""
        with self._lock:
            anchor = self._anchor
        if anchor is not None:
            return anchor
        opened = self._opened()
        with self._lock:
            if self._anchor is None:
                self._anchor = opened
                return opened
            anchor = self._anchor
            self._idle.append(opened)
        return anchor

    def _opened(self) -> BackendSession:
        if self._closed:
            raise DeviceRemoved("the bridge is closed")
        handle = ULONG()
        flags = ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION
        epoch = self.epoch
        try:
            self.call("OpenSession", self.slot, flags, None, None, byref(handle))
        except TokenWriteProtected:
            self.call("OpenSession", self.slot, ck.CKF_SERIAL_SESSION, None, None, byref(handle))
        session = BackendSession(handle.value, epoch)
        with self._lock:
            self._open.add(session)
        return session

    def drop_object(self, session: BackendSession) -> None:
        """Note that a session object of this session is gone; close it if it was kept for that only."""
        with self._lock:
            session.objects -= 1
            over = session.spent and session.objects == 0 and session in self._open
            if over:
                self._open.discard(session)
        if over:
            self.functions.CloseSession(session.handle)

    def end(self) -> None:
        """Close all sessions and open no more."""
        self._closed = True
        self.close()

    def close(self) -> None:
        """Close all sessions; the backend logs out with the last."""
        with self._lock:
            sessions, self._open = self._open, set()
            self._idle.clear()
            self._anchor = None
            self.epoch += 1
            self.user = None
        for session in sessions:
            self.functions.CloseSession(session.handle)

    def lose(self, why: str) -> None:
        """Forget everything: the backend does not know us any more."""
        log.event("warning", "the backend has lost the connection", module=self.library.path, why=why)
        with self._lock:
            self._open.clear()
            self._idle.clear()
            self._anchor = None
            self.epoch += 1
            self.user = None

    # Logins

    def login(self, user: int, pin: bytearray) -> None:
        """Log in. The PIN is copied for the backend and the copy overwritten.

        A login that we left behind ourselves is ended first, so that the PIN is always the backend's to
        check. The host's own login, if it uses the module beside us, is left alone and the answer passed on
        (``CKR_USER_ALREADY_LOGGED_IN``).
        """
        session = self.anchor()
        rv = self._login(session, user, pin)
        if (
            rv in (ck.CKR_USER_ALREADY_LOGGED_IN, ck.CKR_USER_ANOTHER_ALREADY_LOGGED_IN)
            and self.library.owned
        ):
            self.functions.Logout(session.handle)
            rv = self._login(session, user, pin)
        if rv != ck.CKR_OK:
            raise self.failure(rv, "Login")
        self.user = user

    def login_for(self, session: BackendSession, pin: bytearray) -> None:
        """Give the PIN for one use of a key (``CKU_CONTEXT_SPECIFIC``)."""
        rv = self._login(session, ck.CKU_CONTEXT_SPECIFIC, pin)
        if rv != ck.CKR_OK:
            raise self.failure(rv, "Login")

    def _login(self, session: BackendSession, user: int, pin: bytearray) -> int:
        buffer = buffer_of(pin)
        try:
            return int(self.functions.Login(session.handle, user, buffer, len(pin)))
        finally:
            wipe(buffer)

    def logout(self) -> None:
        """Log out. One that the backend has ended already is no error."""
        self.user = None
        rv = self.functions.Logout(self.anchor().handle)
        if rv not in (ck.CKR_OK, ck.CKR_USER_NOT_LOGGED_IN):
            raise self.failure(rv, "Logout")

    def notice_login(self) -> None:
        """Notice a login that the backend has ended by itself."""
        if self.user is None:
            return
        info = SessionInfo()
        self.call("GetSessionInfo", self.anchor().handle, byref(info))
        if info.state not in _LOGGED_IN.get(self.user, ()):
            self.user = None

    def with_pins(self, name: str, *pins: bytearray) -> None:
        """Call ``C_InitPIN`` or ``C_SetPIN``."""
        buffers = [(buffer_of(pin), len(pin)) for pin in pins]
        try:
            arguments = [part for pair in buffers for part in pair]
            self.call(name, self.anchor().handle, *arguments)
        finally:
            for buffer, _ in buffers:
                wipe(buffer)

    def initialize_token(self, pin: bytearray, label: str) -> None:
        """Call ``C_InitToken``; all sessions are closed for it."""
        self.close()
        buffer, padded = buffer_of(pin), buffer_of(label.encode().ljust(32))
        try:
            check(self.functions.InitToken(self.slot, buffer, len(pin), padded), "C_InitToken")
        finally:
            wipe(buffer)
