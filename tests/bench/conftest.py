"""`ferrohsm bench` as it is installed, with few and short rounds: nothing here depends on how fast it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--quick", "--rounds", "2", "--batch", "1")


class Bench:
    """Runs ``ferrohsm bench``; the result of a run is its JSON."""

    def __init__(self, home: Any) -> None:
        self.home = home
        self.program = str(Path(sys.executable).with_name("ferrohsm"))
        self.number = 0

    def __call__(
        self, *arguments: str | Path, code: int = 0, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        done = self.home.run(self.program, "bench", *arguments, check=False, timeout=300, **options)
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done

    def file(self, *arguments: str, **options: Any) -> Path:
        self.number += 1
        file: Path = self.home.directory / f"run-{self.number}.json"
        self("run", *QUICK, *arguments, "--json", file, **options)
        return file

    def run(self, *arguments: str, **options: Any) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.file(*arguments, **options).read_text())
        return document


def row(document: dict[str, Any], case: str, contestant: str, threads: int = 1) -> dict[str, Any]:
    """Return the one row of a case."""
    [found] = [
        row
        for row in document["results"]
        if (row["case"], row["contestant"], row["threads"]) == (case, contestant, threads)
    ]
    return found


@pytest.fixture
def bench(home: Any) -> Bench:
    if not home.module.ours:
        pytest.skip("the command is ours")
    return Bench(home)


@pytest.fixture(scope="session")
def bad_module(
    module: Any, tmp_path_factory: pytest.TempPathFactory, need: Callable[..., str]
) -> Callable[[str], str]:
    """Build a module that lets its host down in the way that a macro names."""
    compiler = need(os.environ.get("CC", "cc"), package="gcc")
    folder = tmp_path_factory.mktemp("bad")
    source = Path(__file__).parent / "modules" / "bad.c"
    include = module.path.parent / "include"

    def build(macro: str) -> str:
        target = folder / f"{macro.lower()}.so"
        if not target.exists():
            command = [
                compiler,
                "-shared",
                "-fPIC",
                "-O1",
                f"-D{macro}",
                f"-I{include}",
                "-o",
                target,
                source,
            ]
            subprocess.run([str(word) for word in command], check=True)
        return str(target)

    return build
