"""C_GetFunctionList, C_GetInterfaceList, C_GetInterface, and what the library exports."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embed_build import SANITIZE
from peer_modules import SOFTHSM2

ROOT = Path(__file__).resolve().parents[2]


def test_lists_and_interfaces(run_host: Callable[..., Any]) -> None:
    run_host("lists")


def symbols(module: Path, *flags: str) -> list[str]:
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    result = subprocess.run(["nm", "-D", *flags, str(module)], capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in result.stdout.splitlines()]


def test_exactly_the_specifications_functions_are_exported(module_path: Path) -> None:
    facts = json.loads((ROOT / "tools" / "facts" / "abi-3.2.json").read_text())
    assert sorted(symbols(module_path, "--defined-only")) == sorted(f["name"] for f in facts["functions"])


def test_nothing_of_python_is_linked(module_path: Path) -> None:
    assert not [name for name in symbols(module_path, "--undefined-only") if name.startswith(("Py", "_Py"))]
    result = subprocess.run(["ldd", str(module_path)], capture_output=True, text=True, check=True)
    assert "libpython" not in result.stdout


def test_the_library_is_hardened(module_path: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    result = subprocess.run(["readelf", "-dlW", str(module_path)], capture_output=True, text=True, check=True)
    assert "NODELETE" in result.stdout and "BIND_NOW" in result.stdout and "SYMBOLIC" in result.stdout
    assert "GNU_RELRO" in result.stdout
    stack = next(line for line in result.stdout.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack


DEEPBIND = pytest.param(
    "deepbind", marks=pytest.mark.skipif(bool(SANITIZE), reason="sanitizers don't work with RTLD_DEEPBIND")
)


@pytest.mark.parametrize("way", ["local", "global", "lazy", DEEPBIND])
def test_however_it_is_loaded(run_host: Callable[..., Any], way: str) -> None:
    """The host has functions of the same names in the global scope, and they are never called."""
    run_host("symbols", way)


@pytest.mark.parametrize("way", ["local", DEEPBIND])
def test_after_another_module_was_loaded_globally(
    run_host: Callable[..., Any], need: Callable[..., str], way: str
) -> None:
    run_host("symbols", way, need(SOFTHSM2[0], package="softhsm2", places=SOFTHSM2))
