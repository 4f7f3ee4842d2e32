"""Programs that know nothing of the bridge: some of the client tests again, with SoftHSM behind the slot.

All of them run with ``pytest tests/clients --slot-under-test=bridge``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CLIENTS = Path(__file__).resolve().parent.parent / "clients"
CHOSEN = (
    "test_p11tool.py::test_generate_and_sign[p256]",
    "test_p11tool.py::test_initialize",
    "test_pkcs11_tool.py::test_token_life",
    "test_pkcs11_tool.py::test_wrap_and_unwrap",
    "test_pkcs11_tool.py::test_data_object",
    "test_python.py::test_pykcs11",
    "test_python.py::test_both_in_one_interpreter",
    "test_openssl_engine.py::test_cms_sign",
)


def test_some_clients(softhsm2: str, need: Callable[..., str]) -> None:
    for program, package in (("p11tool", "gnutls-bin"), ("pkcs11-tool", "opensc")):
        need(program, package=package)
    runner = Path(sys.executable).with_name("pytest")
    chosen = [str(CLIENTS / name) for name in CHOSEN]
    command = [
        str(runner),
        "-q",
        "-p",
        "no:cacheprovider",
        "--slot-under-test=bridge",
    ]
    result = subprocess.run(
        [*command, *chosen],
        cwd=CLIENTS.parent.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    counted = re.search(r"(\d+) passed", result.stdout)
    assert result.returncode == 0, result.stdout[-4000:]
    assert counted is not None and int(counted[1]) >= len(CHOSEN), result.stdout[-2000:]
    for reason in re.findall(r"^SKIPPED .*?: (.*)$", result.stdout, re.MULTILINE):
        assert len(reason) > 10, "a skip names its reason"
