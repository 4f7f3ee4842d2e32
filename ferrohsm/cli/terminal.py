"""What the command says: tables and JSON on stdout, progress, questions and errors on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.errors import HsmError

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_PIN = 1, 2, 3, 4


class CommandError(Exception):
    """A refusal of the command itself: a message, a remedy, an exit code."""

    def __init__(self, message: str, remedy: str = "", code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.code = code


class UsageError(CommandError):
    """The options say too little, or contradict each other."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy, EXIT_USAGE)


class NotFoundError(CommandError):
    """There is no such token or object, or more than one."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy, EXIT_NOT_FOUND)


_PIN_CODES = frozenset({ck.CKR_PIN_INCORRECT, ck.CKR_PIN_LOCKED, ck.CKR_PIN_EXPIRED})

_REMEDIES = {
    ck.CKR_PIN_INCORRECT: "the PIN is wrong; tries are counted; too many wrong ones lock the PIN",
    ck.CKR_PIN_LOCKED: "the SO can set a new user PIN with: ferrohsm token unlock",
    ck.CKR_PIN_LEN_RANGE: "the limits are pin.min_length and pin.max_length in the configuration",
    ck.CKR_TOKEN_NOT_PRESENT: "ferrohsm doctor says what is missing",
    ck.CKR_TOKEN_WRITE_PROTECTED: "the token's directory cannot be written; ferrohsm doctor says more",
    ck.CKR_TOKEN_NOT_RECOGNIZED: "the token's files are damaged or from a newer version",
    ck.CKR_USER_PIN_NOT_INITIALIZED: "set one with: ferrohsm token unlock",
    ck.CKR_USER_NOT_LOGGED_IN: "private objects need the user PIN",
    ck.CKR_DEVICE_MEMORY: "the disk is full",
    ck.CKR_DEVICE_REMOVED: "the token is gone, or another process has just made one; try again",
    ck.CKR_MECHANISM_INVALID: "the configuration or the adapter does not offer it",
}


def report(error: BaseException, *, as_json: bool) -> int:
    """Print `error` as one line on stderr and return the exit code."""
    name, message, remedy, code = _describe(error)
    if as_json:
        print(json.dumps({"error": {"name": name, "message": message, "remedy": remedy}}), file=sys.stderr)
        return code
    line = f"ferrohsm: {message}"
    if name.startswith("CKR_") and name not in line:
        line += f" ({name})"
    print(line + (f"; {remedy}" if remedy else ""), file=sys.stderr)
    return code


def _describe(error: BaseException) -> tuple[str, str, str, int]:
    if isinstance(error, CommandError):
        return "command", str(error), error.remedy, error.code
    if isinstance(error, HsmError):
        code = EXIT_PIN if error.rv in _PIN_CODES else EXIT_FAILED
        return ck.name("CKR", error.rv), str(error), _REMEDIES.get(error.rv, ""), code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return "os", f"{where}{error.strerror or type(error).__name__}", "", EXIT_FAILED
    place = ""
    step = error.__traceback__
    while step is not None:
        place = f" at {os.path.basename(step.tb_frame.f_code.co_filename)}:{step.tb_lineno}"
        step = step.tb_next
    return (
        "unexpected",
        f"unexpected {type(error).__name__}{place}",
        "FERROHSM_DEBUG=1 shows the traceback",
        EXIT_FAILED,
    )


def show(arguments: Any, value: Mapping[str, Any], text: str) -> None:
    """Print `value` as JSON when that was asked for, else `text`."""
    if arguments.json:
        print(json.dumps(value, indent=2))
    elif text:
        print(text)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out `rows` in columns under `heads`."""
    cells = [[printable(str(cell)) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def printable(text: str) -> str:
    """Return `text` without characters that would act on the terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def note(message: str) -> None:
    """Say something that is no result."""
    print(f"ferrohsm: {message}", file=sys.stderr)


def confirm(arguments: Any, question: str) -> None:
    """Ask before something that cannot be undone; ``--yes`` answers, and so must a script."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"nothing was done, for nobody answers: {question}", "say --yes to do it unasked")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done")


class Progress:
    """Shows on a terminal that long work goes on; says nothing when it was quick or nobody looks."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.monotonic()
        self._last = self._started
        self._live = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> Progress:
        """Start."""
        return self

    def step(self, done: int, total: int | None = None) -> None:
        """Report `done` of `total`; calls may come as often as they like."""
        now = time.monotonic()
        if not self._live or now - self._last < 0.1 or now - self._started < 0.3:
            return
        self._last, self._shown = now, True
        amount = f"{done}" if not total else f"{done} of {total}"
        print(f"\r\033[K{self._what} {amount}", end="", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away again."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
