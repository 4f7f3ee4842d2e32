"""Fixtures for the tests of the store and of its faults; their ``conftest.py`` names those that they take."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_support import Token


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Token]:
    """An empty directory of tokens."""
    token = Token(tmp_path / "data")
    yield token
    token.close()


@pytest.fixture
def token(free: Token) -> Token:
    """A token that the user is logged in to."""
    return free.make().login()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount something at a new directory; `mount("tmpfs", "size=1m")` or `mount(path, "ro")`.

    This needs root; in CI it must be possible.
    """
    places: list[Path] = []

    def make(what: str | Path, options: str, at: Path | None = None) -> Path:
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")
        place = at or tmp_path / f"mounted{len(places)}"
        place.mkdir(exist_ok=True)
        if what == "tmpfs":
            commands = [["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]]
        else:
            commands = [
                ["mount", "--bind", str(what), str(place)],
                ["mount", "-o", f"remount,bind,{options}", str(place)],
            ]
        for command in commands:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                if not os.environ.get("CI"):
                    pytest.skip(f"cannot mount here: {result.stderr.strip()}")
                pytest.fail(f"cannot mount: {result.stderr.strip()}", pytrace=False)
            if command is commands[0]:
                places.append(place)
        return place

    yield make
    for place in reversed(places):
        subprocess.run(["umount", "-l", str(place)], check=True)
