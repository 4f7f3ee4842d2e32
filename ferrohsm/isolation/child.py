"""The process of an isolated adapter: it serves one host and ends with it, however that ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any, NoReturn

from ferrohsm import log
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import (
    FunctionCanceled,
    GeneralError,
    HsmError,
    KeyHandleInvalid,
    OperationNotInitialized,
)
from ferrohsm.isolation import frames, setup
from ferrohsm.isolation.contract import Shape, shape_of
from ferrohsm.isolation.frames import Frames
from ferrohsm.isolation.process import CHANNEL
from ferrohsm.isolation.values import KEY, KNOWN_KEY, OBJECT, Reader, WireError, Writer, wipe

_LOOK = 10.0  # seconds between two signs of life of the watching thread
_HANGING = 30  # seconds beyond the deadline after which a process without a sign of life is ended
_ENDING = 5  # seconds for closing the adapter when the host is gone
_SAME_LENGTH = (Function.SIGN, Function.DIGEST)


class Call:
    """A question of the host's: a method of an object of ours, and what it is given."""

    __slots__ = ("arguments", "keywords", "method", "number", "secrets")

    def __init__(
        self, number: int, method: Any, arguments: Any, keywords: Any, secrets: list[bytearray]
    ) -> None:
        self.number = number
        self.method = method
        self.arguments = arguments
        self.keywords = keywords
        self.secrets = secrets


class Objects:
    """What the host knows of: objects by number, each with how often the host was told of it, and keys."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._things: dict[int, list[Any]] = {}
        self._numbers: dict[int, int] = {}
        self._last = 0
        self._shapes: dict[Shape, int] = {}
        self.shapes_sent: set[int] = set()
        self.keys: dict[int, Key] = {}

    def get(self, number: int) -> Any:
        """Return an object. Raises `OperationNotInitialized` when it was closed."""
        try:
            return self._things[number][0]
        except KeyError:
            raise OperationNotInitialized() from None

    def key(self, number: int) -> Key:
        """Return a key. Raises `KeyHandleInvalid` when it was wiped."""
        try:
            return self.keys[number]
        except KeyError:
            raise KeyHandleInvalid() from None

    def tell(self, thing: Any) -> tuple[int, int, tuple[str, dict[str, bool]] | None]:
        """Return the number to tell the host, its shape's, and the shape itself the first time."""
        shape = shape_of(thing)
        if not shape.methods and not shape.attributes:
            raise WireError(f"a {type(thing).__name__} cannot be told to another process")
        with self._lock:
            number = self._numbers.get(id(thing))
            if number is None:
                self._last += 1
                number = self._numbers[id(thing)] = self._last
                self._things[number] = [thing, 0]
            self._things[number][1] += 1
            known = self._shapes.setdefault(shape, len(self._shapes))
        # The shape goes along until it was sent: messages may overtake each other on the way to the socket.
        return number, known, None if known in self.shapes_sent else (shape.name, shape.methods)

    def drop(self, number: int, count: int) -> None:
        """Forget an object if the host has, since it was last told of it; an operation is closed."""
        with self._lock:
            entry = self._things.get(number)
            if entry is None:
                return
            entry[1] -= count
            if entry[1] > 0:
                return
            thing = self._things.pop(number)[0]
            self._numbers.pop(id(thing), None)
        if shape_of(thing).methods.get("close") is False:
            thing.close()

    def forget(self, number: int) -> None:
        """Wipe a key."""
        key = self.keys.pop(number, None)
        if key is not None:
            key.wipe()


class ChildReader(Reader):
    """Reads what the host writes."""

    def __init__(self, message: memoryview, objects: Objects) -> None:
        super().__init__(message)
        self._objects = objects

    def special(self, tag: int, number: int) -> Any:
        """Read an object of ours, or a key, whose secrets live until the host forgets it."""
        if tag == OBJECT:
            return self._objects.get(number)
        if tag == KNOWN_KEY:
            return self._objects.key(number)
        if tag != KEY:
            return super().special(tag, number)
        before = len(self.secrets)
        oid, attributes = self.integer(), self.value()
        del self.secrets[before:]
        key = self._objects.keys[number] = Key(oid, attributes)
        return key


class ChildWriter(Writer):
    """Writes what the host reads."""

    def __init__(self, objects: Objects, fixed: int | None = None) -> None:
        super().__init__()
        self._objects = objects
        self._fixed = fixed
        self.shapes: list[int] = []

    def special(self, value: Any) -> None:
        """Write an object: its number, its shape, and the attributes that the contract knows."""
        number, shape, told = self._objects.tell(value)
        self.tag(OBJECT, number)
        self.value(shape)
        self.value(told)
        self.shapes.append(shape)
        self.value(self._fixed)
        names = shape_of(value).attributes
        self.value({name: getattr(value, name) for name in names if hasattr(value, name)})


class Server:
    """The socket, and what comes in by it."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.frames = Frames(channel)
        self.objects = Objects()
        self.adapter: Any = None
        self._sending = allocate_lock()
        self._leaving = False

    # Before the first call

    def prepare(self) -> None:
        """Take the setup and make the adapter; end when that fails, after saying why."""
        self.send(Writer(), frames.READY)
        message = self.frames.next()
        if message is None:
            os._exit(0)
        reader = ChildReader(message, self.objects)
        if reader.byte() != frames.SETUP:
            raise WireError("no setup")
        given = reader.value()
        message.release()
        self.frames.done()
        try:
            self.adapter = self._make(given)
            self.answer(0, self.adapter)
        except BaseException as error:
            self.refuse(0, error)
            os._exit(1)

    def _make(self, given: Any) -> Any:
        from ferrohsm import registry
        from ferrohsm._build import BUILD_ID  # type: ignore[import-not-found,import-untyped,unused-ignore]

        if given.get("build") != BUILD_ID:
            raise GeneralError("the installation was upgraded while this process was running: restart it")
        if given.get("level") is not None:
            log.forward(given["level"], self._log)
        section = setup.heard(given)
        watch(int(sys.argv[2]), self.leave, int(section.deadline or 60) + _HANGING)
        return registry.make(section)

    def _log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        self.send(Writer(), frames.LOG, level, message, fields)

    # Messages

    def send(self, writer: Writer, kind: int, *parts: Any) -> None:
        """Send a message; without a host there is nothing more to do here."""
        writer.byte(kind)
        for part in parts:
            writer.value(part)
        message = writer.message()
        try:
            with self._sending:
                self.channel.sendall(message)
        except OSError:
            self.leave()
        finally:
            message[:] = bytes(len(message))

    def take(self, message: memoryview) -> Call | int | None:
        """Read a message: a call, the number of one that is to be cancelled, or nothing that is left to do.

        A host that says what it cannot say is no host: the process ends.
        """
        try:
            return self._take(message)
        except Exception as error:
            log.failure("a message of the host cannot be read", error)
            os._exit(1)

    def _take(self, message: memoryview) -> Call | int | None:
        reader = ChildReader(message, self.objects)
        kind = reader.byte()
        if kind == frames.CALL:
            number, target, method = reader.integer(), reader.integer(), reader.text()
            try:
                arguments, keywords = reader.value(), reader.value()
                thing = self.objects.get(target)
            except HsmError as error:  # closed, or wiped, by another thread of the host's just now
                wipe(reader.secrets)
                self.refuse(number, error)
                return None
            if method not in shape_of(thing).methods:
                raise WireError("a method that is none of the contract's")
            return Call(number, getattr(thing, method), arguments, keywords or {}, reader.secrets)
        if kind == frames.CANCEL:
            number = reader.integer()
            self.send(Writer(), frames.CANCELING, number)
            return number
        if kind == frames.DROP:
            self._quietly(self.objects.drop, reader.integer(), reader.integer())
        elif kind == frames.FORGET:
            self.objects.forget(reader.integer())
        else:
            raise WireError("a message of no known kind")
        return None

    def _quietly(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            log.failure("an operation cannot be closed", error)

    def answer(self, number: int, value: Any, fixed: int | None = None) -> None:
        """Send the result of a call, and wipe it here."""
        try:
            writer = ChildWriter(self.objects, fixed)
            writer.byte(frames.RESULT)
            writer.value(number)
            writer.value(value)
            message = writer.message()
        except Exception as error:  # nonsense of the adapter's
            self.refuse(number, error)
            return
        finally:
            _wipe_result(value)
        try:
            with self._sending:
                self.channel.sendall(message)
            self.objects.shapes_sent.update(writer.shapes)
        except OSError:
            self.leave()
        finally:
            message[:] = bytes(len(message))

    def refuse(self, number: int, error: BaseException) -> None:
        """Send what a call raised: a refusal with its words, of anything else only the kind."""
        if type(error).__name__ == "CancelledError":
            error = FunctionCanceled()
        if isinstance(error, HsmError):
            text = str(error.args[0]) if error.args else ""
            # Which of several keys had the wrong template (`SeveralKeysSigner`), counted from 1.
            wrong = getattr(error, "wrong_template", None)
            place = wrong + 1 if isinstance(wrong, int) and wrong >= 0 else 0
            self.send(Writer(), frames.REFUSAL, number, error.rv, text, place)
            return
        log.failure("the adapter raised an error that nobody expected", error)
        self.send(Writer(), frames.FAILURE, number, f"{type(error).__module__}.{type(error).__qualname__}")

    # The end

    def leave(self) -> None:
        """Let the reading side find the end of the stream; the process ends in any case."""
        self._leaving = True
        signal.alarm(_ENDING)
        try:
            self.channel.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def gone(self) -> NoReturn:
        """End the process: the host has closed its end, and the adapter is closed."""
        os._exit(0)


def fixed_length(call: Call, result: Any) -> int | None:
    """Return the length of what an operation gives when no data can change it (signatures, digests)."""
    function = call.arguments[0] if call.arguments else None
    if getattr(call.method, "__name__", "") != "begin" or function not in _SAME_LENGTH:
        return None
    try:
        return int(result.finish_length()) if result.multi_part else None
    except Exception:
        return None


def _wipe_result(value: Any) -> None:
    if isinstance(value, bytearray):
        value[:] = bytes(len(value))
    elif isinstance(value, (list, tuple)):
        for part in value:
            _wipe_result(part)
    elif isinstance(value, dict):
        for part in value.values():
            _wipe_result(part)


def watch(host: int, leave: Callable[[], None], hanging: int) -> None:
    """Look after the host on a thread of its own, and let the system look after this process.

    The end of the stream may not come when the host dies: a child of its fork may have a copy of its socket.
    So the host's pidfd is watched too. A thread that never gives back Python's lock keeps this one from
    setting the alarm anew, and then the alarm ends the process though Python doesn't run.
    """
    try:
        descriptor = os.pidfd_open(host)
    except (AttributeError, OSError):
        descriptor = -1

    def look() -> None:
        poller = select.poll()
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        while True:
            signal.alarm(hanging)
            if poller.poll(_LOOK * 1000):
                leave()
                return

    threading.Thread(target=look, name="host", daemon=True).start()


def main() -> None:
    """Serve the host at the other end of the socket."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(f"ferrohsm {sys.argv[3]}"[:15])
    except OSError:
        pass
    from ferrohsm.isolation import _start  # type: ignore[attr-defined]

    _start.harden()
    server = Server(socket.socket(fileno=CHANNEL))
    os.set_inheritable(CHANNEL, False)
    server.prepare()
    if server.adapter.inline:
        from ferrohsm.isolation.stepping import serve
    else:
        from ferrohsm.isolation.looping import serve
    serve(server)
