"""OpenSSH: a token's public keys, an agent that signs with it, a login at a real ``sshd`` on the loopback."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

import pytest

# OpenSSH 9.2 takes RSA and ECDSA keys from PKCS#11 modules.
KEYS = {"rsa": ["--key-type", "rsa:2048"], "ec": ["--key-type", "EC:prime256v1"]}

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile {directory}/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
"""


@pytest.fixture
def key(token, need, request):
    """A key pair in the token; the parameter is its kind."""
    need("ssh-keygen", package="openssh-client")
    token.pkcs11_tool("--keypairgen", *KEYS[request.param], "--label", "login", "--id", "01", "--usage-sign")
    return request.param


@pytest.fixture
def askpass(token, tmp_path):
    """The environment in which OpenSSH asks a program for the PIN."""
    program = tmp_path / "askpass"
    program.write_text(f"#!/bin/sh\necho '{token.pin}'\n")
    program.chmod(0o700)
    return {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"}


def public_keys(token) -> list[str]:
    listing = token.run("ssh-keygen", "-D", token.module.path).stdout.decode()
    return [line for line in listing.splitlines() if line]


@pytest.fixture
def agent(token, background, wait_for, tmp_path, askpass):
    """An agent that was given the module; its environment names its socket."""
    socket = tmp_path / "agent"
    allowed = f"{token.module.path.resolve().parent}/*"
    background(token.home, "ssh-agent", "-D", "-a", socket, "-P", allowed, stdout=subprocess.DEVNULL)
    wait_for(socket.exists, "the agent's socket")
    environment = {"SSH_AUTH_SOCK": str(socket)}
    token.run("ssh-add", "-s", token.module.path, environment={**environment, **askpass})
    return environment


@pytest.fixture
def server(token, background, wait_for, listening, free_port, tmp_path, need):
    """An ``sshd`` of our own that lets the token's keys in; it gives the port."""
    sshd = need("sshd", package="openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    token.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "host_key")
    host = (tmp_path / "host_key.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{free_port} {host}")
    (tmp_path / "authorized_keys").write_text("\n".join(public_keys(token)) + "\n")
    (tmp_path / "sshd_config").write_text(SSHD.format(port=free_port, directory=tmp_path))
    log = tmp_path / "sshd.log"
    with log.open("wb") as out:
        process = background(
            token.home, sshd, "-D", "-e", "-f", tmp_path / "sshd_config", stdout=out, stderr=out,
        )
    wait_for(lambda: listening(free_port) or process.poll() is not None, "the server's start")
    assert process.poll() is None, log.read_text()
    return free_port


def ssh(
    token, port: int, *options: str | Path, environment, command: str = "echo logged-in", check: bool = True,
):
    return token.run(
        "ssh", "-F", "none", "-p", str(port), "-o", f"UserKnownHostsFile={token.directory}/known_hosts",
        "-o", "StrictHostKeyChecking=yes", "-o", "PreferredAuthentications=publickey",
        "-o", "ConnectTimeout=30",
        *options, f"{getpass.getuser()}@127.0.0.1", command, environment=environment, check=check,
    )


@pytest.mark.parametrize("key", KEYS, indirect=True)
def test_keygen_lists_the_public_key(token, key, tmp_path):
    """``ssh-keygen -D`` prints the key that ``pkcs11-tool`` reads from the token."""
    keys = public_keys(token)
    assert len(keys) == 1
    (tmp_path / "ssh.pub").write_text(keys[0] + "\n")
    ours = token.run("ssh-keygen", "-e", "-m", "PKCS8", "-f", tmp_path / "ssh.pub").stdout
    token.pkcs11_tool("--read-object", "--type", "pubkey", "--id", "01", "-o", tmp_path / "public.der")
    theirs = token.run("openssl", "pkey", "-pubin", "-inform", "DER", "-in", tmp_path / "public.der").stdout
    assert ours == theirs


@pytest.mark.parametrize("key", KEYS, indirect=True)
def test_agent_signs(token, key, agent, tmp_path):
    """A signature by the agent is verified by ``ssh-keygen`` with the public key alone."""
    listed = token.run("ssh-add", "-L", environment=agent).stdout.decode().split()
    public = public_keys(token)[0].split()
    assert listed[:2] == public[:2]
    (tmp_path / "login.pub").write_text(" ".join(public) + "\n")
    (tmp_path / "message").write_bytes(b"signed by an agent\n")
    token.run(
        "ssh-keygen", "-Y", "sign", "-f", tmp_path / "login.pub", "-n", "file", tmp_path / "message",
        environment=agent,
    )
    (tmp_path / "signers").write_text(f"user {' '.join(public[:2])}\n")
    verify = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "signers", "-I", "user", "-n", "file",
              "-s", tmp_path / "message.sig"]
    assert b"Good" in token.run(*verify, input=b"signed by an agent\n").stdout
    assert token.run(*verify, input=b"something else\n", check=False).returncode != 0


@pytest.mark.parametrize("key", KEYS, indirect=True)
def test_agent_forgets(token, key, agent, askpass):
    token.run("ssh-add", "-e", token.module.path, environment={**agent, **askpass})
    assert b"no identities" in token.run("ssh-add", "-L", environment=agent, check=False).stdout


@pytest.mark.parametrize("key", KEYS, indirect=True)
def test_login_with_the_agent(token, key, server, agent):
    for _ in range(3):
        result = ssh(token, server, environment=agent)
        assert result.stdout == b"logged-in\n"


@pytest.mark.parametrize("key", KEYS, indirect=True)
def test_login_with_the_module(token, key, server, askpass):
    """The client itself loads the module (``PKCS11Provider``) and asks for the PIN."""
    result = ssh(token, server, "-o", f"PKCS11Provider={token.module.path}", environment=askpass)
    assert result.stdout == b"logged-in\n"


@pytest.mark.parametrize("key", ["ec"], indirect=True)
def test_another_key_is_refused(token, key, server, agent, tmp_path):
    """The login above is real: with another key in the file of authorized ones it is refused."""
    token.run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "another")
    (tmp_path / "authorized_keys").write_text((tmp_path / "another.pub").read_text())
    result = ssh(token, server, environment=agent, check=False)
    assert result.returncode == 255 and b"Permission denied" in result.stderr
