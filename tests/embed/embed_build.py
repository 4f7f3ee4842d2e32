"""Compile the host programs; FERROHSM_SANITIZE=address makes them hosts for a module built with it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

HOSTS = Path(__file__).parent / "hosts"
ROOT = Path(__file__).resolve().parents[2]
SANITIZE = os.environ.get("FERROHSM_SANITIZE", "")
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-g", "-O1", "-rdynamic"]


def build(name: str, folder: Path, *flags: str) -> Path:
    """Compile a host program."""
    program = folder / name
    compiler = shlex.split(os.environ.get("CC", "cc"))
    include = f"-I{ROOT / 'include'}"
    command = [
        *compiler,
        *FLAGS,
        include,
        str(HOSTS / f"{name}.c"),
        "-o",
        str(program),
        "-ldl",
        "-lpthread",
        *([f"-fsanitize={SANITIZE}"] if SANITIZE else []),
        *flags,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return program
