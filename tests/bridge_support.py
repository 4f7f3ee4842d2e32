"""SoftHSM2 in a directory of its own, with a configuration of ours that stands before it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SO_PIN, PIN = "87654321", "123456"
CONFIGURATION = """\
data_dir = "{data}"

[kdf]
memory_kib = 7168
passes = 1

[mechanisms]
weak = true

[log]
target = "{log}"
level = "warning"

[slots.backend]
adapter = "pkcs11_bridge"
module = "{module}"
profile = "{profile}"
{more}
"""
SOFTHSM2_CONFIGURATION = """\
directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
"""


class Backend:
    """A directory with SoftHSM tokens; `environment` names both configurations."""

    def __init__(self, directory: Path, module: str) -> None:
        self.directory = directory
        self.module = module
        self.log = directory / "log"
        tokens = directory / "softhsm"
        tokens.mkdir(parents=True)
        (directory / "softhsm2.conf").write_text(SOFTHSM2_CONFIGURATION.format(tokens=tokens))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "SOFTHSM2_CONF": str(directory / "softhsm2.conf"),
            "FERROHSM_CONF": str(directory / "ferrohsm.toml"),
        }
        self.configure()

    def configure(self, more: str = "", module: str | None = None, profile: str = "softhsm2") -> None:
        """Write our configuration; `more` is added to the slot's section."""
        text = CONFIGURATION.format(
            data=self.directory / "data",
            log=self.log,
            module=module or self.module,
            profile=profile,
            more=more,
        )
        (self.directory / "ferrohsm.toml").write_text(text)

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and result.returncode != 0:
            pytest.fail(f"{command}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}", pytrace=False)
        return result

    def token(self, label: str) -> None:
        """Make a token with SoftHSM's own command."""
        arguments = ["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN]
        self.run("softhsm2-util", *arguments)
