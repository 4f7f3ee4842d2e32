"""Where a PIN or a password comes from: a prompt, a file, a variable or a descriptor; never an argument.

What stands on a command line can be read by every user of the machine and stays in the shell's
history, so ``--pin VALUE`` is refused, with that explanation.
"""

from __future__ import annotations

import argparse
import getpass
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ferrohsm.cli.terminal import CommandError, note

_LONGEST = 4096


class _Refuse(argparse.Action):
    """Refuses a secret on the command line without repeating it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        parser.error(
            f"{option_string} is not accepted: what stands on a command line can be read by every user "
            f"of this machine; use {option_string}-file, {option_string}-env or {option_string}-fd, or wait "
            "to be asked"
        )


def add(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    """Add the options that say where the secret `name` (``pin``, ``so-pin`` …) comes from."""
    group = parser.add_argument_group(what, "asked for on the terminal unless one of these is given")
    sources = group.add_mutually_exclusive_group()
    sources.add_argument(f"--{name}-file", metavar="FILE", help="read the first line of FILE")
    sources.add_argument(f"--{name}-env", metavar="NAME", help="take the environment variable NAME")
    sources.add_argument(f"--{name}-fd", metavar="N", type=int, help="read a line from file descriptor N")
    sources.add_argument(f"--{name}", action=_Refuse, nargs="?", help=argparse.SUPPRESS)


def given(arguments: argparse.Namespace, name: str) -> bool:
    """Say whether a source for `name` was given."""
    key = name.replace("-", "_")
    return any(getattr(arguments, f"{key}_{source}", None) is not None for source in ("file", "env", "fd"))


@contextmanager
def secret(
    arguments: argparse.Namespace, name: str, prompt: str, *, new: bool = False
) -> Iterator[bytearray]:
    """Give the secret `name` and wipe it afterwards; a `new` one is asked for twice."""
    value = _read(arguments, name, prompt, new)
    try:
        yield value
    finally:
        value[:] = bytes(len(value))


def _read(arguments: argparse.Namespace, name: str, prompt: str, new: bool) -> bytearray:
    key = name.replace("-", "_")
    path, variable = getattr(arguments, f"{key}_file"), getattr(arguments, f"{key}_env")
    descriptor = getattr(arguments, f"{key}_fd")
    if path is not None:
        return _from_file(path, f"--{name}-file")
    if descriptor is not None:
        return _line(descriptor, f"--{name}-fd")
    if variable is not None:
        text = os.environb.get(os.fsencode(variable)) if os.supports_bytes_environ else None
        if text is None and variable in os.environ:
            text = os.environ[variable].encode()
        if text is None:
            raise CommandError(f"--{name}-env: the variable {variable} is not set")
        return bytearray(text)
    return _ask(name, prompt, new)


def _from_file(path: str, option: str) -> bytearray:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            note(f"{path} can be read by others; chmod 600 it")
        return _line(descriptor, option)
    finally:
        os.close(descriptor)


def _line(descriptor: int, option: str) -> bytearray:
    line = bytearray()
    while len(line) < _LONGEST:
        byte = os.read(descriptor, 1)  # one at a time: the rest of a pipe is somebody else's
        if byte in (b"", b"\n"):
            break
        line += byte
    if line.endswith(b"\r"):
        del line[-1:]
    if not line:
        raise CommandError(f"{option}: there is nothing to read")
    return line


def _ask(name: str, prompt: str, new: bool) -> bytearray:
    try:
        with open("/dev/tty" if os.name == "posix" else "CONIN$", "rb"):
            pass
    except OSError:
        raise CommandError(
            f"{prompt}: there is no terminal to ask on", f"give --{name}-file, --{name}-env or --{name}-fd"
        ) from None
    text = getpass.getpass(f"{prompt}: ")
    if new and getpass.getpass(f"{prompt}, again: ") != text:
        raise CommandError("the two are not the same; nothing was done")
    return bytearray(text.encode())
