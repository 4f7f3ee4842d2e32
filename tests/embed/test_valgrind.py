"""The module's own C under valgrind: threads under helgrind, memory under memcheck.

What helgrind cannot know is named, with the reason, in ``valgrind.supp``. A thread sanitizer looks at the C
tables in tests/abi/test_tables.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUPPRESSIONS = Path(__file__).with_name("valgrind.supp")
ROUNDS = os.environ.get("FERROHSM_VALGRIND_ROUNDS", "20")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(bool(os.environ.get("FERROHSM_SANITIZE")), reason="one watcher at a time"),
]


@pytest.mark.parametrize("tool", ["helgrind", "memcheck"])
def test_a_crowd(tool: str, programs: Callable[[str], Path], home: Any) -> None:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("needs valgrind")
    log = home.directory / "valgrind.log"
    extra = {"helgrind": ["--history-level=approx"], "memcheck": ["--undef-value-errors=no"]}[tool]
    command = [
        valgrind,
        f"--tool={tool}",
        f"--suppressions={SUPPRESSIONS}",
        "--error-exitcode=99",
        "--fullpath-after=",
        f"--log-file={log}",
        *extra,
        str(programs("crowd")),
        str(home.module.path),
        ROUNDS,
    ]
    # Python's own allocator hides from memcheck what is freed.
    environment = {**home.environment, "PYTHONMALLOC": "malloc"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, env=environment)
    text = log.read_text(errors="replace") if log.exists() else ""
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr[-2000:]}\n{text[-12000:]}"
