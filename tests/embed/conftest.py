"""Small C programs that load the installed module, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from embed_build import build  # noqa: E402


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a compiled host program by name; each is compiled once."""
    folder = tmp_path_factory.mktemp("hosts")
    built: dict[str, Path] = {}

    def program(name: str) -> Path:
        if name not in built:
            built[name] = build(name, folder)
        return built[name]

    return program


@pytest.fixture(scope="session")
def sanitizer_options() -> dict[str, str]:
    """Return the variables from which a host that was compiled with a sanitizer reads its options."""
    return {name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}


@pytest.fixture
def run_host(
    programs: Callable[[str], Path], home: Any, sanitizer_options: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a host program with the module's path and arguments; it has to end well, by default in silence."""

    def run(
        name: str | Path,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        timeout: float = 120,
        silent: bool = True,
        status: int = 0,
    ) -> subprocess.CompletedProcess[str]:
        program = programs(name) if isinstance(name, str) else name
        result = subprocess.run(
            [str(program), str(home.module.path), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**home.environment, **sanitizer_options, **(environment or {})},
            cwd=home.directory,
        )
        assert result.returncode == status, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
        if silent:
            assert result.stderr == ""
        return result

    return run


def python_flags(executable: str) -> list[str] | None:
    """Return what a program that embeds this Python is compiled with, None if it has no shared library."""
    code = (
        "import sys, sysconfig as s; v = s.get_config_var; include = s.get_path('include');"
        "print(v('Py_ENABLE_SHARED'), include, v('LIBDIR'), s.get_python_version(), sep='\\n');"
        "print(sys._base_executable)"
    )
    result = subprocess.run([executable, "-c", code], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return None
    shared, include, library, version, program = result.stdout.split("\n")[:5]
    if shared != "1" or not Path(include, "Python.h").exists():
        return None
    define = f'-DHOST_PYTHON="{program}"'
    return [define, f"-I{include}", f"-L{library}", f"-Wl,-rpath,{library}", f"-lpython{version}"]


@pytest.fixture(scope="session")
def same_python() -> list[str]:
    """Flags for embedding the Python that the module was built for, which is the one that runs the tests."""
    flags = python_flags(sys.executable)
    if flags is None:
        pytest.skip(f"{sysconfig.get_python_version()} here has no shared library to embed")
    return flags


@pytest.fixture(scope="session")
def other_python() -> list[str]:
    """Flags for embedding a Python of another minor version."""
    own = sysconfig.get_python_version()
    versions = [f"3.{minor}" for minor in range(15, 8, -1) if f"3.{minor}" != own]
    places = [f"python{version}" for version in versions]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions:
        places.extend(str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python3")))
    places.append("/usr/bin/python3")
    for place in places:
        try:
            flags = python_flags(place)
        except OSError:
            continue
        if flags is not None and flags[-1] != f"-lpython{own}":
            return flags
    pytest.skip("there is no other Python with a shared library")
