"""The environment that the library finds around itself."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkcs11_abi import start

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


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_an_upgrade_under_a_running_program(
    run_host: Callable[..., Any], home: Any, copied: Path, tmp_path: Path, how: str
) -> None:
    """What is loaded works on; a module that comes later must be of the same build."""
    log = tmp_path / "log"
    with open(home.environment["FERROHSM_CONF"], "a") as file:
        file.write(f'[log]\ntarget = "{log}"\n')
    copy_dependencies(copied)
    run_host("upgraded", copied / "ferrohsm" / "_build.py", how)
    lines = log.read_text().splitlines()
    assert len(lines) == 2 and all("restart the process" in line for line in lines)


PLUGIN = """\
from ferrohsm.testing.memory import MemoryAdapter, MemorySlot, MemoryStore
from ferrohsm_adapters.software.engine import Engine


def adapter(section):
    return MemoryAdapter([MemorySlot(7, Engine(), MemoryStore())], inline=False)
"""


def write_plugin(folder: Path) -> None:
    (folder / "plugin.py").write_text(PLUGIN)
    (folder / "plugin-1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: plugin\nVersion: 1\n"
    (folder / "plugin-1.dist-info" / "METADATA").write_text(metadata)
    (folder / "plugin-1.dist-info" / "entry_points.txt").write_text(
        "[ferrohsm.adapters]\nplugin = plugin:adapter\n"
    )


FINDER = """\
import pathlib, sys
from importlib.machinery import PathFinder

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [FAR]) if path is None else None

sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize("way", ["path", "finder"])
def test_an_adapter_where_only_a_pth_file_leads(
    run_host: Callable[..., Any], home: Any, module_path: Path, tmp_path: Path, way: str
) -> None:
    """As in an environment that sees its parent's packages, or one where a package is under work."""
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    (folder,) = (tmp_path / "env").glob("lib/python*/site-packages")
    for name in ("pkcs11_abi", "ferrohsm", "ferrohsm_adapters"):
        shutil.copytree(module_path.parents[1] / name, folder / name)
    copy_dependencies(folder)
    far = tmp_path / "far"
    far.mkdir()
    write_plugin(far)
    if way == "path":
        (folder / "far.pth").write_text(f"{far}\n")
    else:
        (folder / "far.pth").write_text("import far_finder\n")
        (folder / "far_finder.py").write_text(FINDER.replace("FAR", repr(str(far))))
        (far / "plugin-1.dist-info").rename(folder / "plugin-1.dist-info")
    file = tmp_path / "plugin.toml"
    file.write_text('[slots.plugin]\nadapter = "plugin"\n')
    home.module = Elsewhere(folder)
    run_host("untouched", "plain", 2, environment={"FERROHSM_CONF": str(file)})


@pytest.mark.parametrize("state", ["plain", "handlers", "ignored"])
def test_the_process_is_left_alone_by_the_runtimes_thread(
    run_host: Callable[..., Any], home: Any, copied: Path, tmp_path: Path, state: str
) -> None:
    """An adapter that is not inline brings two threads with event loops, which take no signal of the host."""
    copy_dependencies(copied)
    write_plugin(copied)
    file = tmp_path / "plugin.toml"
    file.write_text('[slots.plugin]\nadapter = "plugin"\n')
    run_host("untouched", state, 2, environment={"FERROHSM_CONF": str(file)})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
def test_a_set_user_id_program_trusts_no_variable(
    programs: Callable[[str], Path],
    home: Any,
    need: Callable[..., str],
    sanitizer_options: dict[str, str],
) -> None:
    """Neither FERROHSM_TRACE nor FERROHSM_CONF, which would name files for another's rights to write."""
    setpriv = need("setpriv", package="util-linux")
    nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*nobody, "test", "-r", str(home.module.path)], check=False).returncode:
        pytest.skip("the installation cannot be reached by another user")
    with tempfile.TemporaryDirectory(prefix="ferrohsm-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = folder / "privileged"
        shutil.copy(programs("privileged"), program)
        program.chmod(0o4755)
        trace, conf = folder / "trace", folder / "ferrohsm.toml"
        conf.write_text("no = such = thing")  # C_Initialize would say so
        result = subprocess.run(
            [*nobody, program, home.module.path, trace],
            env={
                **sanitizer_options,
                "FERROHSM_TRACE": str(trace),
                "FERROHSM_CONF": str(conf),
                "HOME": "/nonexistent",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode == 77:
            pytest.skip("set-user-id programs don't work in this folder")
        assert result.returncode == 0 and result.stderr == "", result.stderr
        assert not trace.exists()


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


@pytest.mark.parametrize(
    ("settings", "names", "needed"),
    [
        ("include-system-site-packages = false\n", ["ferrohsm"], False),
        ("home = x\ninclude-system-site-packages = false\n", ["distutils-precedence.pth"], False),
        ("include-system-site-packages = true\n", [], True),
        ("include-system-site-packages = false\n", ["distutils-precedence.pth", "far.pth"], True),
        ("include-system-site-packages = false\n", ["sitecustomize.py"], True),
        ("home = x\n", [], True),
        (None, [], True),
    ],
)
def test_site_is_run_where_it_finds_more(
    tmp_path: Path, settings: str | None, names: list[str], needed: bool
) -> None:
    folder = tmp_path / "lib" / "python3.x" / "site-packages"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("")
    if settings is not None:
        (tmp_path / "pyvenv.cfg").write_text(settings)
    assert start.needs_site(str(folder)) is (needed or sys.platlibdir != "lib")
