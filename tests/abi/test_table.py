"""Generated files are what their generator makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "tools" / "gen_functions.py"
COMPLETE = GENERATOR.exists() and (ROOT / "pkcs11_abi" / "module.pyx").exists()


@pytest.mark.skipif(not COMPLETE, reason="only a source tree has its generators")
def test_the_function_list_is_not_stale() -> None:
    subprocess.run([sys.executable, GENERATOR, "--check"], check=True)
