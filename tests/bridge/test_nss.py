"""NSS's softoken as a backend: it wants a string at C_Initialize, and exports its function list only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bridge_support import PIN, Backend
from peer_modules import NSS

SCRIPT = Path(__file__).with_name("every_mechanism.py")
LABEL = "NSS Certificate DB"
INIT = (
    "configdir='sql:{directory}' certPrefix='' keyPrefix='' secmod='secmod.db' flags= updatedir='' "
    "updateCertPrefix='' updateKeyPrefix='' updateid='' updateTokenDescription=''"
)
# Data objects are not derived through the bridge. What NSS answers to raw RSA with wrong input differs from
# run to run; its rules for a mechanism's parts, and the attributes of what it generates, are its own.
LEFT_OUT = ("in parts", "generate", "CKM_RSA_X_509", "CKM_HKDF_DATA", "keys that were brought in")
NOT_LISTED = "CKR_MECHANISM_INVALID"  # NSS verifies with CMAC without saying so in the mechanism's flags


@pytest.fixture(scope="module")
def nss(need: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """Two databases, the second one behind the bridge."""
    need("certutil", package="libnss3-tools")
    module = need(NSS[0], package="libnss3", places=NSS)
    backend = Backend(tmp_path_factory.mktemp("nss"), module)
    (backend.directory / "pin").write_text(PIN)
    for name in ("direct", "bridged"):
        directory = backend.directory / name
        directory.mkdir()
        backend.run("certutil", "-N", "-d", f"sql:{directory}", "-f", backend.directory / "pin")
    init = INIT.format(directory=backend.directory / "bridged")
    backend.configure(f'init = "{init}"', profile="nss")
    return backend


def answers(backend: Backend, module: str | Path, *more: str | Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(backend.run(sys.executable, SCRIPT, module, LABEL, PIN, *more).stdout)
    return result


def material(answer: Any) -> Any:
    """Return what was computed: of a key that was made, its value."""
    return answer.get("value") if isinstance(answer, dict) else answer


def test_everything_has_the_same_result(nss: Backend, module_path: Path) -> None:
    nss.environment["BACKEND_INIT"] = INIT.format(directory=nss.directory / "direct")
    direct = answers(nss, nss.module)
    del nss.environment["BACKEND_INIT"]
    earlier = nss.directory / "earlier.json"
    earlier.write_text(json.dumps(direct))
    bridged = answers(nss, module_path, earlier)
    compared, differ = 0, {}
    for name, expected in direct["answers"].items():
        if any(part in name for part in LEFT_OUT) or (name.startswith("CKM_") and " " not in name):
            continue
        got = bridged["answers"].get(name)
        compared += 1
        if material(expected) != material(got) and got != NOT_LISTED:
            differ[name] = (expected, got)
    assert not differ
    assert compared > 200
    crossed = bridged["crossed"]
    good = sum(answer is True for answer in crossed.values())
    assert good >= len(crossed) - 3 and good > 60, crossed
    assert not any(answer is False for answer in crossed.values()), crossed


def test_a_client_uses_the_database(nss: Backend, module_path: Path, need: Callable[..., str]) -> None:
    need("pkcs11-tool", package="opensc")
    data, signature = nss.directory / "message", nss.directory / "signature"
    data.write_bytes(b"data")
    tool = ["pkcs11-tool", "--module", module_path, "--token-label", LABEL, "--login", "--pin", PIN]
    nss.run(*tool, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "07", "--label", "made")
    how = ["--mechanism", "ECDSA-SHA256", "--id", "07", "--input-file", data]
    nss.run(*tool, "--sign", *how, "--output-file", signature)
    assert "Signature is valid" in nss.run(*tool, "--verify", *how, "--signature-file", signature).stdout
    listing = nss.run("certutil", "-K", "-d", f"sql:{nss.directory / 'bridged'}", "-f", nss.directory / "pin")
    assert "made" in listing.stdout, "NSS itself has the key"
    wrong = nss.run(*tool[:-1], "wrong", "--list-objects", check=False)
    assert "CKR_PIN_INCORRECT" in wrong.stderr
