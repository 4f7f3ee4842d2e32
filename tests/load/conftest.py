"""The host that puts load on a token, compiled once, and what its acknowledgements mean."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def worker(module_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled load host."""
    compiler = shutil.which("cc") or shutil.which(sysconfig.get_config_var("CC").split()[0])
    assert compiler, "a C compiler is needed (Debian package gcc)"
    program = tmp_path_factory.mktemp("load") / "worker"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
        + ["-I", str(module_path.parent / "include"), str(HERE / "worker.c"), "-o", str(program), "-ldl"],
        check=True,
    )
    return program


class Ledger:
    """What a reader of the acknowledgements knows about the objects of a token."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.doubtful: set[str] = set()
        self.destroyed: set[str] = set()

    def read(self, lines: Iterable[str]) -> None:
        """Take in the lines of one worker, in the order in which it wrote them."""
        for line in lines:
            sign, _, label = line.partition(" ")
            if sign == "+":
                self.present.add(label)
            elif sign == "-":
                self.present.discard(label)
                self.doubtful.add(label)
            elif sign == "x":
                self.doubtful.discard(label)
                self.destroyed.add(label)

    def check(self, found: set[str], *, in_flight: int = 0) -> None:
        """Compare with what the token holds; `in_flight` objects may be there unacknowledged."""
        lost = self.present - found
        assert not lost, f"acknowledged, then lost: {sorted(lost)[:5]}"
        risen = self.destroyed & found
        assert not risen, f"destroyed, then there again: {sorted(risen)[:5]}"
        unknown = found - self.present - self.doubtful
        assert len(unknown) <= in_flight, f"objects nobody acknowledged: {sorted(unknown)[:5]}"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def new_ledger() -> Callable[[], Ledger]:
    return Ledger
