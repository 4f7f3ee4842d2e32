"""Programs that contain a Python already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embed_build import build


@pytest.fixture(scope="module")
def same(same_python: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("python", tmp_path_factory.mktemp("same"), *same_python)


@pytest.mark.parametrize("mode", ["plain", "finalized", "late"])
def test_the_same_python(run_host: Callable[..., Any], same: Path, mode: str) -> None:
    run_host(same, mode)


def test_an_old_dependency_is_refused(run_host: Callable[..., Any], same: Path, tmp_path: Path) -> None:
    """There is one `cryptography` in a process: the host's own, if it has one."""
    package = tmp_path / "host" / "cryptography"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "41.0.7"\n')
    result = run_host(same, "site", environment={"PYTHONPATH": str(package.parent)}, silent=False)
    assert "cryptography 41.0.7" in result.stderr and "needs" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_sub_interpreter_is_refused(run_host: Callable[..., Any], same: Path) -> None:
    result = run_host(same, "sub", silent=False)
    assert "sub-interpreter" in result.stderr and len(result.stderr.splitlines()) == 1


def test_another_python_is_refused(
    run_host: Callable[..., Any], other_python: list[str], tmp_path: Path
) -> None:
    program = build("python", tmp_path, *other_python)
    result = run_host(program, "other", silent=False)
    lines = result.stderr.splitlines()
    assert len(lines) == 2  # one for each C_Initialize
    version = other_python[-1].removeprefix("-lpython")
    assert f"contains Python {version}" in lines[0] and "this build is for Python" in lines[0]
