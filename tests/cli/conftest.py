"""The installed command, each call in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

SO_PIN, PIN, NEW_PIN, PASSWORD = "so-pin-4711", "user-pin-0815", "another-pin-42", "file-password-7"
PINS = {"SO": SO_PIN, "PIN": PIN, "NEW": NEW_PIN, "PW": PASSWORD}


class Command:
    """Runs ``ferrohsm`` in a home; `PINS` are in its environment."""

    def __init__(self, home: Any) -> None:
        self.home = home
        self.program = str(Path(sys.executable).with_name("ferrohsm"))
        home.pins += PINS.values()

    def __call__(
        self,
        *arguments: str | Path,
        code: int = 0,
        input: str | bytes | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = self.home.run(
            self.program, *arguments, input=input, environment={**PINS, **(environment or {})}, check=False
        )
        text = subprocess.CompletedProcess(
            done.args,
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        assert text.returncode == code, f"{arguments}: {text}"
        assert "Traceback" not in text.stderr, text.stderr
        for pin in PINS.values():
            assert pin not in text.stdout + text.stderr, "a PIN was printed"
        return text

    def json(self, *arguments: str | Path, **options: Any) -> Any:
        return json.loads(self(*arguments, "--json", **options).stdout)

    def error(self, *arguments: str | Path, code: int = 1, **options: Any) -> str:
        """Run what must fail; return the one line that says why."""
        done = self(*arguments, code=code, **options)
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("ferrohsm: ")
        return lines[0]

    def make(self, label: str = "alpha") -> dict[str, Any]:
        shape: dict[str, Any] = self.json(
            "token", "init", "--label", label, "--so-pin-env", "SO", "--pin-env", "PIN"
        )
        return shape


@pytest.fixture
def ferrohsm(home: Any) -> Command:
    if not home.module.ours:
        pytest.skip("the command is ours")
    return Command(home)


@pytest.fixture
def token(ferrohsm: Command) -> dict[str, Any]:
    """A token with both PINs, made by the command."""
    return ferrohsm.make()


@pytest.fixture
def openssl(home: Any, need: Callable[..., str]) -> Callable[..., bytes]:
    program = need("openssl", package="openssl")

    def run(*arguments: str | Path, **options: Any) -> bytes:
        output: bytes = home.run(program, *arguments, **options).stdout
        return output

    return run
