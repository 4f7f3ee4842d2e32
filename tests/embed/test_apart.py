"""Hosts whose slot is in a process of its own: they see no child, and take it with them however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embed_build import SANITIZE

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes apart are for Linux"),
    # Only the host brings the sanitizer along: the interpreter of the process apart has none.
    pytest.mark.skipif(SANITIZE == "address", reason="the process apart has no sanitizer"),
]


@pytest.fixture
def environment(home: Any, tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "apart.toml"
    (tmp_path / "apart").mkdir()
    text = f'data_dir = "{tmp_path / "apart"}"\n[kdf]\nmemory_kib = 7168\npasses = 1\n'
    file.write_text(text + '[slots.software]\nadapter = "software"\nisolation = "process"\n')
    return {"FERROHSM_CONF": str(file)}


def test_the_host_has_no_child(run_host: Callable[..., Any], environment: dict[str, str]) -> None:
    run_host("apart", "all", environment=environment)


def isolated_processes(host: int) -> list[int]:
    """Return the processes that the host has a pidfd of."""
    found = []
    for entry in Path(f"/proc/{host}/fdinfo").iterdir():
        found += [int(line.split()[1]) for line in entry.read_text().splitlines() if line.startswith("Pid:")]
    return found


@pytest.mark.parametrize("way", ["stays", "stays-forked"])
def test_it_ends_with_a_host_that_is_killed(
    programs: Callable[[str], Path],
    home: Any,
    sanitizer_options: dict[str, str],
    environment: dict[str, str],
    way: str,
) -> None:
    host = subprocess.Popen(
        [programs("apart"), home.module.path, way],
        stdout=subprocess.PIPE,
        env={**home.environment, **sanitizer_options, **environment},
    )
    assert host.stdout is not None
    try:
        other = int(host.stdout.readline())
        (child,) = isolated_processes(host.pid)
        descriptor = os.pidfd_open(child)
    finally:
        host.kill()
        host.wait()
        host.stdout.close()
    try:
        deadline = time.monotonic() + 8
        while not ended(descriptor):
            assert time.monotonic() < deadline, "it goes on without its host"
            time.sleep(0.05)
    finally:
        os.close(descriptor)
        if other:
            os.kill(other, signal.SIGKILL)


def ended(descriptor: int) -> bool:
    import select

    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))
