"""A token, programs that use it through the installed module, and the command that reads its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from configurations import QUICK
from store_fixtures import mount

__all__ = ["mount"]

ABI = Path(__file__).resolve().parents[1] / "abi"

CONFIGURATION = f"""\
data_dir = "{{data}}"

{QUICK}
[log]
target = "{{log}}"

[audit]
{{audit}}
"""

START = """\
import ctypes, os, signal, sys, time
sys.path[:0] = [{abi!r}]
from bench import initialize_token
from cryptoki import Cryptoki, mechanism, PIN
from ferrohsm import constants as ck

p11 = Cryptoki({library!r})
p11("C_Initialize", None)
if {make}:
    initialize_token(p11, p11.slots()[0])
slot = p11.slots()[0]


def ready():
    session = p11.open(slot)
    p11.login(session)
    key = p11.generic_secret(session, bytes(32), (ck.CKA_SIGN, True), (ck.CKA_PRIVATE, True))
    return session, key


def sign(session, key):
    p11.transform("Sign", session, mechanism(ck.CKM_SHA256_HMAC), key, b"text")


"""


class World:
    """A directory with a configuration; `run` runs a program that uses the module, `audit` the command."""

    def __init__(self, directory: Path, library: str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "events"
        self.library = library
        self.data.mkdir()
        self.configure()

    def configure(self, audit: str = "") -> None:
        text = CONFIGURATION.format(data=self.data, log=self.log, audit=audit)
        (self.directory / "ferrohsm.toml").write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "FERROHSM_CONF": str(self.directory / "ferrohsm.toml")}

    def start(self, program: str, *, make: bool = False) -> subprocess.Popen[str]:
        text = START.format(abi=str(ABI), library=self.library, make=make) + program
        return subprocess.Popen(
            [sys.executable, "-c", text],
            env=self.environment,
            cwd=self.directory,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, program: str = "", *, make: bool = False) -> str:
        process = self.start(program, make=make)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out

    def audit(self, *arguments: str, code: int = 0) -> Any:
        command = [sys.executable, "-m", "ferrohsm.cli", "audit", *arguments, "--json"]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self.audit("show", *arguments)["records"]
        return records

    def events(self, *arguments: str) -> list[tuple[str, str]]:
        return [(record["event"], record["result"]) for record in self.records(*arguments)]


@pytest.fixture
def world(tmp_path: Path, module_path: Path) -> Iterator[World]:
    yield World(tmp_path, str(module_path))


@pytest.fixture
def token(world: World) -> World:
    """A world with a token in it."""
    world.run(make=True)
    return world


@pytest.fixture
def full_disk(mount: Callable[..., Path]) -> Callable[[], Path]:
    """Mount a small file system."""
    return lambda: mount("tmpfs", "size=4m,mode=700")
