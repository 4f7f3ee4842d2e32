"""Dispatched adapters in programs without Python: hung ones keep nobody waiting, and what a hop costs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_environment import copied, copy_dependencies  # noqa: F401 - a fixture

sys.path.append(str(Path(__file__).parents[1] / "abi"))
import fault_plugin  # noqa: E402

SLOTS = """\
data_dir = "{data}"

[kdf]
memory_kib = 7168
passes = 1

[slots.fault]
adapter = "fault"
deadline = 60

[slots.near]
adapter = "software"
"""

ECHO = """
from ferrohsm.testing.memory import MemoryAdapter, MemorySlot, MemoryStore


class Echo:
    async def random(self, length):
        return bytes(length)

    def mechanisms(self):
        return {}


def adapter(section):
    return MemoryAdapter([MemorySlot(7, Echo(), MemoryStore())], inline=False)
"""


@pytest.fixture
def far(copied: Path, tmp_path: Path) -> dict[str, str]:  # noqa: F811
    """Put the faulty plugin beside our packages; return the variable that names a configuration with it."""
    copy_dependencies(copied)
    fault_plugin.install(copied)
    (tmp_path / "near").mkdir()
    file = tmp_path / "far.toml"
    file.write_text(SLOTS.format(data=tmp_path / "near"))
    return {"FERROHSM_CONF": str(file)}


@pytest.mark.parametrize("end", ["finalize", "exit"])
@pytest.mark.parametrize("what", ["hang", "block"])
def test_a_hung_adapter_keeps_nobody_waiting(
    run_host: Callable[..., Any], far: dict[str, str], what: str, end: str
) -> None:
    run_host("hung", what, end, environment=far, timeout=40)


@pytest.mark.soak
def test_a_hop_is_cheap(run_host: Callable[..., Any], copied: Path, tmp_path: Path) -> None:  # noqa: F811
    """At most 40 µs at one thread and 10 µs a call at eight, on one processor: the best of five."""
    copy_dependencies(copied)
    (copied / "echo_plugin.py").write_text(ECHO)
    (copied / "echo-1.dist-info").mkdir()
    (copied / "echo-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: echo\nVersion: 1\n")
    entry_points = "[ferrohsm.adapters]\necho = echo_plugin:adapter\n"
    (copied / "echo-1.dist-info" / "entry_points.txt").write_text(entry_points)
    file = tmp_path / "echo.toml"
    file.write_text('[slots.echo]\nadapter = "echo"\n')
    runs = []
    for _ in range(5):
        done = run_host("hops", environment={"FERROHSM_CONF": str(file)})
        runs.append([float(word) for word in done.stdout.split()])
    alone, together = (min(run[place] for run in runs) for place in (0, 1))
    assert alone <= 40 and together <= 10, runs
