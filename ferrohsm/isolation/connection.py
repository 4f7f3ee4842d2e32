"""The host's end: calls go out from any thread, one thread takes in the answers and watches the clock.

A call that is not answered by its deadline costs the other process its life: whatever it does, it is ours to
kill. So does a call that was cancelled when nobody there takes note of it: a process that hangs with
Python's lock held says nothing any more. Everybody who waits is then told ``CKR_DEVICE_ERROR``.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ferrohsm import log
from ferrohsm.errors import DeviceError, DeviceRemoved, HsmError, from_rv
from ferrohsm.isolation import frames
from ferrohsm.isolation.contract import ATTRIBUTES, METHODS
from ferrohsm.isolation.frames import Frames
from ferrohsm.isolation.remote import Remote, RemoteOperation, remote_class
from ferrohsm.isolation.telling import HostReader, HostWriter, KnownKey
from ferrohsm.isolation.values import WireError, Writer
from ferrohsm.isolation.waiters import Awaited, Blocked, Waiter

if TYPE_CHECKING:
    from ferrohsm.isolation.process import Process

_TURN = 0.005  # seconds between two tries to read for all, where there is no thread for it
GRACE = 2.0  # seconds in which a cancelled call must be taken note of
_TICK = 1.0  # seconds between two looks at the clock, at most, while there is something to look at
_ENDED_QUIETLY = frozenset({"logout", "close", "release"})  # done, when the process is gone


class ForeignError(Exception):
    """The adapter raised, in its process, what nobody expected; the log has its kind and places."""


class Connection:
    """The calls to one process. `ended` is called, on the thread that reads, when it is gone.

    That is a thread of its own unless the host forbids `threads`; then everything waits where it is called.
    """

    def __init__(
        self, process: Process, name: str, deadline: float, ended: Callable[[str], None], *, threads: bool
    ) -> None:
        self.name = name
        self.deadline = deadline
        self._process = process
        self._owner = os.getpid()
        self._frames = Frames(process.channel)
        self._ended = ended
        self._sending = allocate_lock()
        self._calls = itertools.count(1)
        self._keys = itertools.count(1)
        self._waiters: dict[int, Waiter] = {}
        self._notices: deque[tuple[int, int, int]] = deque()
        self._remotes: WeakValueDictionary[int, Remote] = WeakValueDictionary()
        self._classes: dict[int, type[Remote]] = {}
        self._setup: Any = None
        self._reason = ""
        self._over = False
        self._idle = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller = select.poll()
        self._poller.register(process.channel, select.POLLIN)
        self._poller.register(self._wake, select.POLLIN)
        self._looked = 0.0
        self._tick = min(_TICK, deadline / 4)
        self._turning = allocate_lock()
        self._thread: threading.Thread | None = None
        if threads:
            self._thread = threading.Thread(target=self._serve, name=f"ferrohsm {name}", daemon=True)

    # Its life

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def over(self) -> bool:
        """Whether the process is gone, or is another's: of the parent, in the child of a fork."""
        return self._over or self._owner != os.getpid()

    async def begin(self, setup: dict[str, Any], seconds: float) -> Any:
        """Start to listen, hand over the setup once the process asks for it; return the adapter there."""
        import socket
        from struct import pack

        channel = self._process.channel
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pack("ll", int(self.deadline) + 1, 0))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pack("ll", 0, int(self._tick * 999_999)))
        self._setup = setup
        if self._thread is None:
            here = self._waiters[0] = Blocked(time.monotonic() + seconds)
            return self._wait_here(here)
        import asyncio

        from ferrohsm.loops import start_without_signals

        waiter = self._waiters[0] = Awaited(time.monotonic() + seconds, asyncio.get_running_loop())
        start_without_signals(self._thread)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self.kill("its start was given up")
            raise

    def kill(self, reason: str) -> None:
        """End the process; everybody who waits for it is told."""
        if not self.over:
            self._reason = self._reason or reason
            self._process.kill()

    def end(self, seconds: float) -> None:
        """Let the process go: the end of the stream tells it; kill it if it is not gone in time."""
        if self._owner != os.getpid():
            return
        import socket

        try:
            if not self._over:
                self._reason = self._reason or "closed"
                self._process.channel.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if self._thread is None:
            self._end_here(seconds)
            return
        if self._thread.ident is None:
            self._finish()
            return
        if self._thread is threading.current_thread():
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join(seconds)

    # Calls

    async def call(self, target: int, method: str, arguments: Any, keywords: Any) -> Any:
        """Call a coroutine's method. Raises what it raises, `DeviceError` when there is no answer."""
        if self.over and method in _ENDED_QUIETLY:
            return None
        if self._thread is None:
            return self.call_and_wait(target, method, arguments, keywords)
        import asyncio

        waiter = Awaited(time.monotonic() + self.deadline, asyncio.get_running_loop())
        number = self._send_call(waiter, target, method, arguments, keywords)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._send_cancel(number, waiter)
            raise

    def call_and_wait(self, target: int, method: str, arguments: Any, keywords: Any) -> Any:
        """Call a plain method."""
        waiter = Blocked(time.monotonic() + self.deadline)
        self._send_call(waiter, target, method, arguments, keywords)
        if self._thread is None:
            return self._wait_here(waiter)
        if not waiter.arrived.acquire(timeout=self.deadline + 4 * _TICK):
            self.kill("no answer")
            raise DeviceError()
        return waiter.answer()

    def _send_call(self, waiter: Waiter, target: int, method: str, arguments: Any, keywords: Any) -> int:
        writer = HostWriter(self)
        with self._sending:
            if self.over:
                raise DeviceRemoved(f"the process of {self.name} is gone")
            number = next(self._calls)
            try:
                writer.byte(frames.CALL)
                for part in (number, target, method, arguments, keywords or None):
                    writer.value(part)
                message = writer.message()
            except BaseException as error:
                for key, known in writer.news:
                    known.told = False
                    key.cache.pop(self, None)
                if isinstance(error, WireError):
                    raise DeviceError(str(error)) from None
                raise
            self._waiters[number] = waiter
            self._send_notices()
            self._send(message)
        if self._idle:
            self._idle = False
            self._wake_up()
        return number

    def _send_cancel(self, number: int, waiter: Waiter) -> None:
        with self._sending:
            if self.over or number not in self._waiters:
                return
            waiter.noted_by = time.monotonic() + GRACE
            self._send_short(frames.CANCEL, number)

    def _send_short(self, kind: int, *parts: Any) -> None:
        writer = Writer()
        writer.byte(kind)
        for part in parts:
            writer.value(part)
        self._send(writer.message())

    def _send(self, message: bytearray) -> None:
        """Send; the caller has the lock. A process that does not read is killed."""
        try:
            self._process.channel.sendall(message)
        except OSError:
            self.kill("it does not take what it is sent")
        finally:
            message[:] = bytes(len(message))

    # What the other side no longer needs to keep

    def new_key(self) -> KnownKey:
        """Return a number for a key."""
        return KnownKey(self, next(self._keys))

    def drop(self, number: int, count: int) -> None:
        """Note that nobody here has the object any more; called from finalizers, so nothing is sent here."""
        self._note(frames.DROP, number, count)

    def forget(self, number: int) -> None:
        """Note that a key was wiped here."""
        self._note(frames.FORGET, number, 0)

    def _note(self, kind: int, number: int, count: int) -> None:
        if self.over:
            return
        self._notices.append((kind, number, count))
        if self._idle:
            self._idle = False
            self._wake_up()

    def _send_notices(self) -> None:
        """Send what was noted, in its order; the caller has the lock."""
        while self._notices:
            self._send_short(*self._notices.popleft())

    def _wake_up(self) -> None:
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:
            pass

    # Without a thread of our own: whoever waits reads, for all

    def _wait_here(self, waiter: Blocked) -> Any:
        while not waiter.settled:
            if not self._turning.acquire(blocking=False):  # somebody reads, for us too
                waiter.arrived.acquire(timeout=_TURN)
                continue
            try:
                while not waiter.settled and self._turn():
                    pass
                if not waiter.settled:
                    self._finish()
            finally:
                self._turning.release()
        return waiter.answer()

    def _end_here(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        if not self._turning.acquire(timeout=seconds):
            self._process.kill()  # whoever reads finds the end of the stream
            return
        try:
            while time.monotonic() < until and self._turn():
                pass
            self._finish()
        finally:
            self._turning.release()

    # The reading side

    def _serve(self) -> None:
        while self._turn():
            pass
        self._finish()

    def _turn(self) -> bool:
        """Take a message, or wait a while for one. False when there is nothing more to come."""
        try:
            return self._take() or self._receive()
        except WireError as error:
            self._reason = f"it answers nonsense: {error}"
        except OSError as error:
            self._reason = self._reason or f"its socket fails: {error.strerror}"
        except Exception as error:
            self._reason = f"its answer cannot be read: {type(error).__name__}"
            log.failure("an answer of an isolated adapter cannot be read", error, slot=self.name)
        return False

    def _take(self) -> bool:
        message = self._frames.buffered()
        if message is None:
            return False
        try:
            self._handle(message)
        finally:
            message.release()
            self._frames.done()
        return True

    def _receive(self) -> bool:
        """Take in what comes, with a look at the clock now and then; False at the end of the stream."""
        while True:
            if self._notices and self._sending.acquire(blocking=False):
                try:
                    self._send_notices()
                finally:
                    self._sending.release()
            now = time.monotonic()
            if now - self._looked > self._tick:
                self._looked = now
                self._look_at_the_clock(now)
            try:
                return self._frames.receive()
            except BlockingIOError:  # a tick has passed
                if self._thread is None:
                    return True
                self._sleep()

    def _sleep(self) -> None:
        """With nothing to wait for, and so no clock to look at, sleep until somebody wakes us up."""
        self._idle = True
        if not self._waiters and not self._notices:
            self._poller.poll()
            try:
                os.eventfd_read(self._wake)
            except BlockingIOError:
                pass
        self._idle = False

    def _look_at_the_clock(self, now: float) -> None:
        for waiter in list(self._waiters.values()):
            if waiter.due < now:
                self.kill(f"no answer within {self.deadline:g} s")
            elif waiter.noted_by is not None and waiter.noted_by < now:
                self.kill("it took no note of a cancelled call")

    def _handle(self, message: memoryview) -> None:
        reader = HostReader(message, self)
        kind = reader.byte()
        if kind == frames.RESULT:
            number, value = reader.integer(), reader.value()
            reader.end()
            self._settle(number, value, None, reader.secrets)
        elif kind == frames.REFUSAL:
            number, rv, text = reader.integer(), reader.integer(), reader.text()
            self._settle(number, None, _refusal(rv, text, reader.integer()), [])
        elif kind == frames.FAILURE:
            number, types = reader.integer(), reader.text()
            self._settle(number, None, ForeignError(f"{types} in the process of {self.name}"), [])
        elif kind == frames.CANCELING:
            noted = self._waiters.get(reader.integer())
            if noted is not None:
                noted.noted_by = None
        elif kind == frames.LOG:
            self._log(reader.text(), reader.text(), reader.value())
        elif kind == frames.READY:
            setup, self._setup = self._setup, None
            with self._sending:
                self._send_short(frames.SETUP, setup)
        else:
            raise WireError("a message of no known kind")

    def _settle(self, number: int, value: Any, error: BaseException | None, secrets: list[bytearray]) -> None:
        waiter = self._waiters.pop(number, None)
        if waiter is None:
            raise WireError("an answer to no question")
        waiter.settle(value, error, secrets)

    def _log(self, level: str, message: str, fields: Any) -> None:
        if level in log.LEVELS and isinstance(fields, dict):
            named = {str(name): value for name, value in fields.items() if str(name).isidentifier()}
            log.event(level, message[:200], **{**named, "slot": self.name, "child": self.pid})

    def remote(self, number: int, shape: int, told: Any, fixed: Any, values: dict[str, Any]) -> Remote:
        """Return the proxy for an object that the other side tells of; the same as before if it lives."""
        if shape not in self._classes:
            if not isinstance(told, tuple) or len(told) != 2 or not isinstance(told[1], dict):
                raise WireError("an object of no known shape")
            if not METHODS.issuperset(told[1]):
                raise WireError("an object with methods that are none of the contract's")
            self._classes[shape] = remote_class(str(told[0]), told[1])
        if not ATTRIBUTES.issuperset(values):
            raise WireError("an object with attributes that are none of the contract's")
        made = self._remotes.get(number)
        if made is None:
            made = self._classes[shape].__new__(self._classes[shape])
            made.remote_id, made.remote_count, made.connection = number, 0, self
            self._remotes[number] = made
        made.remote_count += 1
        if isinstance(made, RemoteOperation) and isinstance(fixed, int):
            made.fixed = fixed
        for name, value in values.items():
            setattr(made, name, value)
        return made

    def _finish(self) -> None:
        """Tell everybody who waits that the process is gone, or has to be."""
        if self._over:
            return
        self._process.kill(surely=False)
        with self._sending:
            self._over = True
            waiters, self._waiters = self._waiters, {}
            self._notices.clear()
            self._process.close()
            os.close(self._wake)
        reason = self._reason or "the process ended"
        self._ended(reason)
        for waiter in waiters.values():
            waiter.settle(None, DeviceError(f"{self.name}: {reason}"), [])


def _refusal(rv: int, text: str, place: int) -> HsmError:
    if not 0 < rv < 2**64:
        raise WireError("a return value that is none")
    refusal = from_rv(rv, text[:400])
    if place > 0:
        refusal.wrong_template = place - 1  # type: ignore[attr-defined]
    return refusal
