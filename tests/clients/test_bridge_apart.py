"""SoftHSM 2 behind our module, in a process of its own: a client works, and SoftHSM is not in the client."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peer_modules import SOFTHSM2

CONFIGURATION = """\
[slots.backend]
adapter = "pkcs11_bridge"
module = "{module}"
profile = "softhsm2"
isolation = "process"
"""


@pytest.fixture
def tool(home: Any, need: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    if not home.module.ours:
        pytest.skip("the bridge is ours")
    need("pkcs11-tool", package="opensc")
    backend = need(SOFTHSM2[0], package="softhsm2", places=SOFTHSM2)
    (tmp_path / "backend").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'backend'}\n")
    (tmp_path / "apart.toml").write_text(CONFIGURATION.format(module=backend))
    environment = {
        "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"),
        "FERROHSM_CONF": str(tmp_path / "apart.toml"),
    }

    def run(*arguments: str | Path, program: tuple[str, ...] = ()) -> str:
        command = [*program, "pkcs11-tool", "--module", home.module.path, *arguments]
        done = home.run(*command, environment=environment)
        return str((done.stdout + done.stderr).decode(errors="replace"))

    return run


def test_a_client_works(tool: Callable[..., str], tmp_path: Path) -> None:
    free = re.findall(r"Slot \d+ \((0x[0-9a-f]+)\)", tool("--list-slots"))[-1]
    tool("--slot", free, "--init-token", "--label", "apart", "--so-pin", "87654321")
    token = ("--token-label", "apart", "--login")
    tool(*token, "--login-type", "so", "--so-pin", "87654321", "--init-pin", "--new-pin", "246810")
    user = (*token, "--pin", "246810")
    tool(*user, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "key", "--id", "01")
    tool(*user, "--keygen", "--key-type", "aes:32", "--label", "secret", "--id", "02")
    assert "secret" in tool(*user, "--list-objects")
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(bytes(range(32)))
    sign = ("--mechanism", "ECDSA", "--id", "01", "--input-file", message)
    tool(*user, "--sign", *sign, "--output-file", signature)
    assert "valid" in tool(*user, "--verify", *sign, "--signature-file", signature)
    traced = tool("--list-slots", program=("env", "LD_DEBUG=files"))
    assert "libpkcs11.so" in traced
    assert "libsofthsm2.so" not in traced
