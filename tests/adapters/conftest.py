"""Fixtures of the devices that the adapters are tried with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from devices import KmsServer, Tpm, free_ports, needed_in_ci, wait_for
from environment import Environment


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., str]) -> Iterator[Tpm]:
    """A TPM of its own for each module of tests, with a lockout that comes after a hundred wrong PINs."""
    program = need("swtpm", package="swtpm")
    pytss = pytest.importorskip("tpm2_pytss") if not needed_in_ci() else __import__("tpm2_pytss")
    tpm = Tpm(tmp_path_factory.mktemp("tpm"), program)
    tpm.start()
    try:
        with pytss.ESAPI(tpm.tcti) as esapi:
            esapi.dictionary_attack_parameters(100, 1000, 1000)
        yield tpm
    finally:
        tpm.stop()


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmsServer]:
    """A server of its own for each module of tests; this process's environment has its credentials."""
    if not needed_in_ci():
        pytest.importorskip("moto")
        pytest.importorskip("boto3")
    server = KmsServer(port := free_ports(1))
    log = tmp_path_factory.mktemp("kms") / "log"
    with log.open("wb") as output, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        program = [sys.executable, str(Path(__file__).with_name("kms_server.py")), str(port)]
        process = subprocess.Popen(program, stdout=output, stderr=output)
        try:
            wait_for(port, process)
            yield server
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that plugins are installed into."""
    return Environment(tmp_path_factory.mktemp("environment"))
