"""The software adapter passes the conformance suite, which the command runs as a vendor would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ferrohsm.testing.conformance import *  # noqa: F403
from ferrohsm.testing.subject import Subject


@pytest.fixture(scope="module")
def adapter_under_test(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject("software", data_dir=tmp_path_factory.mktemp("tokens"))


def test_the_command_line(tmp_path: Path) -> None:
    options = tmp_path / "options.toml"
    options.write_text(f'data_dir = "{tmp_path / "tokens"}"\n')
    command = [str(Path(sys.executable).with_name("pytest")), "-p", "no:cacheprovider"]
    command += ["-p", "ferrohsm.testing.adapter", "--adapter", "software", "--adapter-options", str(options)]
    command += ["-q", "-k", "lifecycle"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
