"""The driver as a process: commands out, answers in, and what becomes of one that dies or hangs."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferrohsm import constants


class TroubleError(Exception):
    """What did not work, in words for the row; the process goes on."""


class DeadError(TroubleError):
    """The process is gone: it died, or it was ended because it did not answer."""


def driver_path() -> Path:
    """Return the path of the driver program; `TroubleError` when this installation has none."""
    path = Path(__file__).with_name("driver_program")
    if not path.exists():
        raise TroubleError("this installation has no benchmark driver: it is built on Linux only")
    return path


def _names(prefix: str) -> dict[int, str]:
    return {value: name for name, value in vars(constants).items() if name.startswith(prefix)}


def explain(text: str) -> str:
    """Return a driver's text with the return values by their names."""
    names = _names("CKR_")
    return re.sub(r"0x[0-9a-f]+", lambda found: names.get(int(found[0], 16), found[0]), text)


class Driver:
    """One process with one module in it."""

    def __init__(
        self, environment: Mapping[str, str], timeout: float, command: Sequence[str] | None = None
    ) -> None:
        self._timeout = timeout
        # What modules print is taken and not shown.
        self._process = subprocess.Popen(
            list(command or [str(driver_path())]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            bufsize=0,
        )
        self._buffer = b""

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, *fields: object, timeout: float | None = None) -> list[str]:
        """Send a command and return the words of an "ok"; `TroubleError` says what else was answered."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(("\t".join(str(field) for field in fields) + "\n").encode())
        except (BrokenPipeError, ValueError):
            raise self._death() from None
        word, _, rest = self._line(timeout or self._timeout).partition(" ")
        if word == "ok":
            return rest.split(" ") if rest else []
        if word == "lacks":
            raise TroubleError("lacks " + _names("CKM_").get(int(rest, 16), rest))
        raise TroubleError(explain(rest))

    def _line(self, timeout: float) -> str:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.end()
                    raise DeadError(f"no answer within {timeout:g} s")
                data = os.read(self._process.stdout.fileno(), 65536)
                if not data:
                    raise self._death()
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def _death(self) -> DeadError:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = 0
        self.end()
        if code < 0:
            return DeadError(f"the process died of {signal.Signals(-code).name}")
        return DeadError(f"the process ended with status {code}")

    def end(self) -> None:
        """End the process, gently only where it still listens."""
        process = self._process
        if process.poll() is None:
            process.kill()
        process.wait()
        self._close()

    def quit(self) -> None:
        """Let the module be finalized; a process that does not end by itself is ended."""
        if self._process.poll() is None and self._process.stdin is not None:
            try:
                self._process.stdin.write(b"quit\n")
                self._process.wait(10)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                pass
        self.end()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
