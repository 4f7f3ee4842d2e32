"""A compiler for the tests of the header."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def compile_and_run(tmp_path: Path) -> Callable[..., str]:
    """Compile a C program with the flags given, run it and return what it prints."""

    def run(source: str, *flags: str) -> str:
        file = tmp_path / "program.c"
        file.write_text(source)
        program = tmp_path / "program"
        compiler = shlex.split(os.environ.get("CC", "cc"))
        built = subprocess.run(
            [*compiler, *flags, str(file), "-o", str(program)], capture_output=True, text=True, check=False
        )
        assert built.returncode == 0, built.stderr
        return subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout

    return run
