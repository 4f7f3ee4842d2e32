"""The C tables of sessions, handles, decisions, snapshots and searches under a thread sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / "pkcs11_abi/state"
TABLES = (
    "decisions.c",
    "finds.c",
    "handles.c",
    "lanes.c",
    "recipes.c",
    "searching.c",
    "sessions.c",
    "slots.c",
    "snapshots.c",
)
ROUNDS = os.environ.get("FERROHSM_TABLE_ROUNDS", "1000")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the command of the program with the tables compiled in."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if sys.platform != "linux" or compiler is None or not STATE.is_dir():
        pytest.skip("needs a C compiler for Linux and the sources")
    program = tmp_path_factory.mktemp("tables") / "tables_host"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=thread", "-Wall", "-Wextra", "-Werror"]
    folders = [f"-I{ROOT / 'include'}", f"-I{STATE}"]
    sources = [str(Path(__file__).with_name("tables_host.c")), *(str(STATE / name) for name in TABLES)]
    subprocess.run([compiler, *flags, *folders, *sources, "-o", str(program), "-lpthread"], check=True)
    # The sanitizer wants its memory where some kernels' randomization does not leave it.
    fixed = shutil.which("setarch")
    return [fixed, "--addr-no-randomize", str(program)] if fixed else [str(program)]


def test_no_key_is_used_after_its_right_has_ended(host: list[str]) -> None:
    # Another sanitizer's library, which the tests themselves may run with, is not for this program.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [*host, ROUNDS], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr, done.stderr[-4000:]
    assert "from memory" in done.stdout
