"""An environment that plugins may be installed into: with FerroHSM itself in it, and no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

INSTALLED = ("ferrohsm", "ferrohsm_adapters", "pkcs11_abi")
SCRIPT = '#!/bin/sh\nexec "{python}" -m {module} "$@"\n'
# There is no network: what a plugin needs is there already.
PIP = '#!/bin/sh\nexec "{python}" -m pip "$@" --no-deps --no-build-isolation\n'


class Environment:
    """A virtual environment with copies of our packages; everything else is seen where it was installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        venv.create(directory, with_pip=False, symlinks=True)
        self.python = directory / "bin" / "python"
        own = Path(sysconfig.get_path("purelib"))
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        target = directory / "lib" / version / "site-packages"
        for name in INSTALLED:
            shutil.copytree(own / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        for folder in own.glob("ferrohsm-*.dist-info"):
            shutil.copytree(folder, target / folder.name)
        (target / "others.pth").write_text(f"{own}\n")
        for name, module in (("ferrohsm", "ferrohsm.cli"), ("pytest", "pytest"), ("pip", "pip")):
            script = directory / "bin" / name
            text = PIP if name == "pip" else SCRIPT
            script.write_text(text.format(python=self.python, module=module))
            script.chmod(0o755)

    @property
    def variables(self) -> dict[str, str]:
        """What programs of this environment are run with."""
        path = f"{self.directory / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        return {"PATH": path, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "LANG": "C.UTF-8"}

    def run(self, home: Path, *command: str | Path, input: str | None = None) -> str:
        """Run a program, with `home` as working directory and home; return what it said."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=home,
            env={**self.variables, "HOME": str(home), "FERROHSM_CONF": str(home / "ferrohsm.toml")},
            input=input,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr
