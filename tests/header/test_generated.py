"""Every generated file is what its generator writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATORS = sorted(path.name for path in (ROOT / "tools").glob("gen_*.py"))


def test_there_are_generators() -> None:
    assert {"gen_constants.py", "gen_header.py", "gen_lists.py"} <= set(GENERATORS)


@pytest.mark.parametrize("name", GENERATORS)
def test_generated_files_are_fresh(name: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / name), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
