"""What is installed, and that the source distribution makes the same."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
BINARIES = {
    "pkcs11_abi/libpkcs11.so",
    f"pkcs11_abi/module{SUFFIX}",
    f"ferrohsm_adapters/software/_kernels{SUFFIX}",
    "ferrohsm_bench/driver_program",
}
if sys.platform.startswith("linux"):
    BINARIES.add(f"ferrohsm/isolation/_start{SUFFIX}")
OTHERS = {
    "ferrohsm/py.typed",
    "ferrohsm_adapters/software/_kernels.pyi",
    "pkcs11_abi/include/ferrohsm_finder.h",
    "pkcs11_abi/include/ferrohsm_kernel.h",
    "pkcs11_abi/include/pkcs11.h",
}


def check(names: set[str]) -> None:
    """Nothing but packages of ours, and in them nothing but modules, the binaries and the headers."""
    ours = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in ours} == {
        "ferrohsm",
        "ferrohsm_adapters",
        "ferrohsm_bench",
        "pkcs11_abi",
    }
    assert {name for name in ours if not name.endswith((".py", ".template"))} == BINARIES | OTHERS
    assert "ferrohsm/cli/adapter_template/NAME/signer.py.template" in ours
    assert "ferrohsm/_build.py" in ours
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_what_is_installed() -> None:
    installed = distribution("ferrohsm")
    assert installed.files is not None
    names = {str(file) for file in installed.files if "__pycache__" not in str(file)}
    check({name for name in names if not name.startswith("..")})
    assert installed.metadata["License-Expression"] == "Apache-2.0"
    adapters = {adapter.name for adapter in installed.entry_points.select(group="ferrohsm.adapters")}
    assert adapters == {"aws_kms", "pkcs11_bridge", "software", "tpm2"}


@pytest.mark.soak
def test_the_source_distribution_makes_a_wheel_that_works(tmp_path: Path) -> None:
    """``python -m build`` makes the wheel from the sdist; then an environment has nothing but that wheel."""
    tree = tmp_path / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    if not any(listed):
        pytest.skip("this is no working tree")
    for name in filter(None, listed):
        source, target = ROOT / name, tree / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    dist = tmp_path / "dist"
    subprocess.run([sys.executable, "-m", "build", "--outdir", dist, tree], cwd=tmp_path, check=True)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "include/pkcs11.h", "pkcs11_abi/module.pyx", "benchmarks/cold_start.c"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc", "/module.c", "/_kernels.c"))]
    with zipfile.ZipFile(wheel) as archive:
        check(set(archive.namelist()))
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin" / "pip", "install", "--quiet", wheel], check=True, cwd=tmp_path)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = venv / "bin" / "ferrohsm"
    module = subprocess.run(
        [command, "paths", "module"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(module.removesuffix("\n")).is_relative_to(venv) and module.count("\n") == 1
    subprocess.run([command, "doctor"], env=environment, cwd=tmp_path, check=True)
