"""TLS handshakes with an `openssl s_server` whose key is in the token, on the loopback interface."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from ferrohsm_bench.contestants import Contestant, Module
from ferrohsm_bench.driver_process import TroubleError
from ferrohsm_bench.runner import Settings

_CONFIGURATION = """\
openssl_conf = init
[init]
engines = engines
[engines]
pkcs11 = pkcs11
[pkcs11]
engine_id = pkcs11
MODULE_PATH = {path}
INIT_ARGS = {init}
PIN = {pin}
init = 0
[req]
distinguished_name = name
[name]
"""
_LABEL = "tls-handshake"


def measure(one: Contestant, settings: Settings) -> list[float]:
    """Return the microseconds of a full TLS 1.3 handshake, from the client's side, once a second of load."""
    program = shutil.which("openssl")
    if program is None:
        raise TroubleError("needs the openssl command")
    environment = one.environment
    key = []
    with tempfile.TemporaryDirectory(prefix="ferrohsm-bench-tls-") as name:
        directory = Path(name)
        if isinstance(one, Module):
            if one.mode == "named":
                raise TroubleError("takes place only with tokens that the suite makes itself")
            one.ask("key", _LABEL)
            one.quit()
            environment = {**environment, "OPENSSL_CONF": str(_configuration(one, directory))}
            key = ["-engine", "pkcs11", "-keyform", "engine", "-key", f"pkcs11:object={_LABEL};type=private"]
        else:
            file = directory / "key.pem"
            curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(file)]
            _openssl([program, "genpkey", *curve], environment)
            key = ["-key", str(file)]
        certificate = str(directory / "certificate.pem")
        subject = ["-subj", "/CN=localhost", "-days", "1", "-out", certificate]
        _openssl([program, "req", "-new", "-x509", *key, *subject], environment)
        return _load(program, [*key, "-cert", certificate], environment, settings)


def _configuration(one: Module, directory: Path) -> Path:
    file = directory / "openssl.cnf"
    file.touch(mode=0o600)
    text = _CONFIGURATION.format(path=one.path, init=one.init, pin=one.pin)
    file.write_text("\n".join(line for line in text.splitlines() if line != "INIT_ARGS = ") + "\n")
    return file


def _openssl(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
        )
    except subprocess.TimeoutExpired:
        raise TroubleError(f"openssl {command[1]} did not end") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
        raise TroubleError(f"openssl {command[1]}: {lines[-1]}")
    return done.stdout.decode(errors="replace")


def _load(program: str, key: list[str], environment: dict[str, str], settings: Settings) -> list[float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [program, "s_server", "-accept", place, "-quiet", *key],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(server, place)
        samples = []
        for _ in range(max(1, min(5, settings.rounds))):
            before = time.monotonic()
            text = _openssl(
                [program, "s_time", "-connect", place, "-new", "-time", "1"], _without_engine(environment)
            )
            took = time.monotonic() - before
            found = re.search(r"(\d+) connections in \d+ real seconds", text)
            if found is None or int(found[1]) == 0:
                raise TroubleError("no handshake succeeded")
            samples.append(took / int(found[1]) * 1e6)
        return samples
    finally:
        server.kill()
        server.wait()


def _without_engine(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment without the engine: the client has no key."""
    return {name: value for name, value in environment.items() if name != "OPENSSL_CONF"}


def _wait(server: subprocess.Popen[bytes], place: str) -> None:
    host, _, port = place.partition(":")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise TroubleError(f"openssl s_server ended with status {server.returncode}")
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TroubleError("openssl s_server did not listen")
