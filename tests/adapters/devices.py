"""Devices for the adapters' tests: a software TPM and a server that answers like AWS KMS, on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path


def free_ports(count: int) -> int:
    """Return the first of some ports in a row that nobody listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args!r} ended with status {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port} after {seconds:g} s")


class Tpm:
    """A software TPM; `tcti` is how to reach it."""

    def __init__(self, directory: Path, program: str) -> None:
        self._directory = directory
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_ports(2)
        self.tcti = f"swtpm:host=127.0.0.1,port={self._port}"

    @property
    def options(self) -> dict[str, object]:
        return {"tcti": self.tcti, "exclusive": True}

    def start(self) -> None:
        command = [self._program, "socket", "--tpm2", "--tpmstate", f"dir={self._directory}"]
        command += ["--ctrl", f"type=tcp,port={self._port + 1}", "--server", f"type=tcp,port={self._port}"]
        command += ["--flags", "not-need-init,startup-clear"]
        self._process = subprocess.Popen(command)
        # The control channel: a connection to the other one would be the TPM's only one.
        wait_for(self._port + 1, self._process)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(10)


def needed_in_ci() -> bool:
    """Say whether what is missing is a failure: it is in CI."""
    return bool(os.environ.get("CI"))


class KmsServer:
    """A server that answers like AWS KMS; `environment` has credentials that it takes."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": "a-secret-for-the-tests",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.options: dict[str, object] = {
            "endpoint": self.endpoint,
            "region": "eu-central-1",
            "delete_window": 7,
        }
