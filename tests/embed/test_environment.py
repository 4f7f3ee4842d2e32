"""The environment that the library finds around itself."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Elsewhere:
    """Stands for the module fixture's object: an installation in another folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pkcs11_abi" / "libpkcs11.so"


@pytest.fixture
def copied(module_path: Path, home: Any, tmp_path: Path) -> Path:
    """Our packages in a folder that belongs to no environment, as ``pip install --target`` makes it."""
    folder = tmp_path / "target"
    for name in ("pkcs11_abi", "ferrohsm", "ferrohsm_adapters"):
        shutil.copytree(
            module_path.parents[1] / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    home.module = Elsewhere(folder)
    return folder


def copy_dependencies(folder: Path) -> None:
    for name in ("cryptography", "cffi", "pycparser"):
        package = Path(sysconfig.get_path("platlib")) / name
        if package.is_dir():
            shutil.copytree(package, folder / name)
    for library in Path(sysconfig.get_path("platlib")).glob("_cffi_backend*"):
        shutil.copy(library, folder)


def test_outside_of_any_environment(run_host: Callable[..., Any], copied: Path) -> None:
    copy_dependencies(copied)
    run_host("lists")
    run_host("exits", "plain")


def test_behind_a_link(run_host: Callable[..., Any], home: Any, module_path: Path, tmp_path: Path) -> None:
    """Administrators like to link modules into one folder."""
    link = tmp_path / "pkcs11" / "ferrohsm.so"
    link.parent.mkdir()
    link.symlink_to(module_path)
    home.module = type("Linked", (), {"path": link})()
    run_host("exits", "plain")


def test_parts_of_different_builds_are_refused(run_host: Callable[..., Any], copied: Path) -> None:
    """``pip install -U`` under a running host: half of the old is in memory, half of the new on the disk."""
    (copied / "ferrohsm" / "_build.py").write_text('BUILD_ID = "another"\n')
    result = run_host("refused", silent=False)
    lines = result.stderr.splitlines()
    assert len(lines) == 3 and all("different builds" in line for line in lines)


def test_a_broken_installation_is_told(run_host: Callable[..., Any], copied: Path) -> None:
    (copied / "ferrohsm" / "errors.py").unlink()
    result = run_host("refused", silent=False)
    assert "cannot start: ImportError" in result.stderr and "errors" in result.stderr


def test_without_a_shared_libpython(run_host: Callable[..., Any], home: Any, tmp_path: Path) -> None:
    """The loader, built for a Python that has no shared library anywhere, names the package to install."""
    library = tmp_path / "site-packages" / "pkcs11_abi" / "libpkcs11.so"
    library.parent.mkdir(parents=True)
    loader = ROOT / "pkcs11_abi" / "loader"
    sources = [str(path) for path in loader.glob("*.c") if path.name != "platform_win32.c"]
    identity = tmp_path / "identity.c"
    identity.write_text('#include "boot.h"\nconst char ferro_build_id[] = "test";\n')
    macros = {"LIBDIR": "", "LIBRARY": "libpython9.9.so.1.0", "MULTIARCH": ""}
    command = [
        *shlex.split(sysconfig.get_config_var("CC") or "cc"),
        "-shared",
        "-fPIC",
        *(f'-DFERRO_PYTHON_{name}="{value}"' for name, value in macros.items()),
        *(f"-I{folder}" for folder in (ROOT / "include", loader, sysconfig.get_path("include"))),
        *sources,
        str(identity),
        "-o",
        str(library),
        "-ldl",
        "-lpthread",
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    home.module = type("Alone", (), {"path": library})()
    result = run_host("refused", silent=False)
    version = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    lines = result.stderr.splitlines()
    assert len(lines) == 3 and all("no shared libpython9.9" in line and version in line for line in lines)
