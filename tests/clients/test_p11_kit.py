"""p11-kit: a module that a user registered, the proxy over all modules, and remoting over a socket."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

LIBRARIES = [f"/usr/lib/{machine}-linux-gnu" for machine in ("x86_64", "aarch64")]


@pytest.fixture
def p11_kit(need):
    return need("p11-kit", package="p11-kit")


def library(need, name: str) -> str:
    places = [f"{directory}/{name}" for directory in LIBRARIES]
    return need(
        next((place for place in places if os.path.exists(place)), places[0]), package="p11-kit-modules"
    )


SYSTEM = Path("/etc/pkcs11/modules")
ORDINARY_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


@pytest.fixture
def registered(token, p11_kit):
    """Register the module by a file in the user's configuration; return what to put before commands.

    p11-kit reads no user's configuration for root, who becomes somebody else in a user namespace. Where there
    are none (in many containers), root registers the module for the system while the test runs.
    """
    directory, before = token.directory / ".config" / "pkcs11" / "modules", []
    if os.geteuid() == 0:
        before = ORDINARY_USER
        if subprocess.run([*before, "true"], capture_output=True, check=False).returncode != 0:
            directory, before = SYSTEM, []
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"under-test-{os.getpid()}.module"
    file.write_text(f"module: {token.module.path}\ncritical: yes\n")
    yield before
    file.unlink()


def test_list_modules(token, registered, p11_kit):
    listing = token.run(*registered, p11_kit, "list-modules").stdout.decode()
    # 0.24 prints "NAME: library", 0.25 "module: NAME" and the path below it.
    modules = re.split(r"\n(?=\S)", listing)
    ours = next(module for module in modules if f"under-test-{os.getpid()}" in module.splitlines()[0])
    assert str(token.module.path) in ours
    assert re.search(rf"token: {token.label}\n", ours)


def test_proxy(token, registered, need, tmp_path):
    """A signature through the proxy, which gives slots numbers of its own and shares the module."""
    proxy = library(need, "p11-kit-proxy.so")
    tool = [*registered, "pkcs11-tool", "--module", proxy]
    assert token.label in token.run(*tool, "--list-token-slots").stdout.decode()
    tool += ["--token-label", token.label, "--login", "--pin", token.pin]
    token.run(*tool, "--keypairgen", "--key-type", "rsa:2048", "--label", "proxied", "--id", "01")
    assert "proxied" in token.pkcs11_tool("--list-objects"), "the key is not behind the proxy"
    sign_and_verify(token, tool, tmp_path)


def sign_and_verify(token, tool, tmp_path):
    (tmp_path / "message").write_bytes(b"from afar\n")
    token.run(*tool, "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "01", "-i", tmp_path / "message",
              "-o", tmp_path / "signature")
    token.run(*tool, "--read-object", "--type", "pubkey", "--id", "01", "-o", tmp_path / "public.der")
    verified = token.run(
        "openssl", "dgst", "-sha256", "-verify", tmp_path / "public.der", "-keyform", "DER",
        "-signature", tmp_path / "signature", tmp_path / "message",
    )
    assert b"Verified OK" in verified.stdout


@pytest.fixture
def remote(token, background, p11_kit, wait_for, need):
    """``p11-kit server`` offers the token on a socket, whose address clients find in the environment."""
    library(need, "pkcs11/p11-kit-client.so")
    socket = token.directory / "run" / "server"
    log = (token.directory / "server.log").open("wb")
    server = background(
        token.home, p11_kit, "server", "--foreground", "--provider", token.module.path, "--name", socket,
        f"pkcs11:token={token.label}", stdout=log, stderr=log,
    )
    log.close()
    wait_for(lambda: socket.exists() or server.poll() is not None, "the server's socket")
    assert server.poll() is None, (token.directory / "server.log").read_text()
    token.home.environment["P11_KIT_SERVER_ADDRESS"] = f"unix:path={socket}"
    return library(need, "pkcs11/p11-kit-client.so")


def test_remoting(token, remote, tmp_path):
    """Clients that hold no module of ours make a key and sign over the server's socket, one after another."""
    tool = ["pkcs11-tool", "--module", remote, "--token-label", token.label, "--login", "--pin", token.pin]
    slots = token.run("pkcs11-tool", "--module", remote, "--list-token-slots").stdout.decode()
    assert token.label in slots
    token.run(*tool, "--keypairgen", "--key-type", "rsa:2048", "--label", "remote", "--id", "01")
    for _ in range(3):
        sign_and_verify(token, tool, tmp_path)
    assert "remote" in token.pkcs11_tool("--list-objects")


def test_remoting_of_parallel_clients(token, remote, tmp_path):
    """The server gives each client a process of its own; their work lands on one token."""
    if not token.module.ours:
        pytest.skip("SoftHSM 2.6 reports CKR_GENERAL_ERROR when four processes write at once")
    tool = ["pkcs11-tool", "--module", remote, "--token-label", token.label, "--login", "--pin", token.pin]
    running = [
        subprocess.Popen(
            [*tool, "--keygen", "--key-type", "AES:32", "--label", f"key-{index}"],
            env=token.home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for index in range(4)
    ]
    for process in running:
        with process:
            errors = process.stderr.read().decode()
            assert process.wait(60) == 0, errors
    found = re.findall(r"label:\s+(key-\d)", token.pkcs11_tool("--list-objects"))
    assert sorted(found) == [f"key-{index}" for index in range(4)]


def test_server_of_another_client(token, remote, need):
    """GnuTLS over the socket."""
    need("p11tool", package="gnutls-bin")
    p11tool = ["p11tool", f"--provider={remote}", "--batch", "--login", f"--set-pin={token.pin}"]
    token.run(
        *p11tool, "--generate-privkey=ecdsa", "--curve=secp256r1", "--label=far",
        f"pkcs11:token={token.label}",
    )
    token.run(*p11tool, "--test-sign", f"pkcs11:token={token.label};object=far;type=private")
