"""The ring in C: nothing is lost or counted twice, under sanitizers; and what a use costs its caller."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ferrohsm.audit import events

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / "pkcs11_abi/state"
BUDGET = 300  # nanoseconds


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Compile the program with the ring and run it."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if sys.platform != "linux" or compiler is None or not STATE.is_dir():
        pytest.skip("needs a C compiler for Linux and the sources")

    def run(flags: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "ring_host"
        common = ["-std=c11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Werror"]
        folders = [f"-I{ROOT / 'include'}", f"-I{STATE}"]
        sources = [str(Path(__file__).with_name("ring_host.c")), str(STATE / "ring.c")]
        subprocess.run(
            [compiler, *common, *flags, *folders, *sources, "-o", str(program), "-lpthread"], check=True
        )
        fixed = shutil.which("setarch")  # a sanitizer wants its memory where some kernels do not leave it
        command = [fixed, "--addr-no-randomize", str(program)] if fixed else [str(program)]
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=300, check=False, env=environment
        )

    return run


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_every_use_is_taken_once(
    host: Callable[..., subprocess.CompletedProcess[str]], sanitizer: str
) -> None:
    done = host(["-O1", f"-fsanitize={sanitizer}"], "6", "4000")
    assert done.returncode == 0 and "taken once" in done.stdout, done.stderr[-4000:]
    assert "WARNING" not in done.stderr and "runtime error" not in done.stderr, done.stderr[-4000:]


def test_a_use_costs_its_caller_less_than_the_budget(
    host: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = host(["-O2"], "cost")
    assert done.returncode == 0, done.stderr
    found = {name: int(cost) for name, cost in re.findall(r"(\w+) (\d+)", done.stdout)}
    assert set(found) == {"each", "counted", "sampled"}
    assert max(found.values()) <= BUDGET, found


def test_both_sides_have_the_same_layout() -> None:
    raw = events.pack(
        events.WRAP, b"chain", 9, session=5, mechanism=6, result=7, object=b"o", other=b"p", detail="d"
    )
    assert len(raw) == events.ENTRY_SIZE
    assert raw[88:93] == b"chain" and raw[120:121] == b"o" and raw[160:161] == b"p" and raw[200:201] == b"d"
    assert int.from_bytes(raw[72:76], "little") == events.WRAP
    assert [int.from_bytes(raw[at : at + 8], "little") for at in (40, 48, 56, 64)] == [5, 9, 6, 7]
