"""``openssl`` 3.0 through libp11's engine: every private key here lives in the token."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

ENGINE_PLACES = [f"/usr/lib/{machine}-linux-gnu/engines-3/pkcs11.so" for machine in ("x86_64", "aarch64")]

CONFIGURATION = """\
openssl_conf = openssl_init

[openssl_init]
engines = engine_section

[engine_section]
pkcs11 = pkcs11_section

[pkcs11_section]
engine_id = pkcs11
dynamic_path = {engine}
MODULE_PATH = {module}
init = 0
"""

# `openssl req` loads the engine a second time when its own configuration names it too, and fails.
CERTIFICATES = """\
[req]
distinguished_name = name

[name]

[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash

[server]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
extendedKeyUsage = serverAuth
"""

KEYS = {"rsa": ["--key-type", "rsa:2048"], "ec": ["--key-type", "EC:prime256v1"]}


class Engine:
    """``openssl`` with the engine configured, on one token."""

    def __init__(self, token, directory: Path, library: str) -> None:
        self.token = token
        self.directory = directory
        self.configuration = directory / "openssl.cnf"
        self.certificates = directory / "certificates.cnf"
        self.certificates.write_text(CERTIFICATES)
        self.configuration.write_text(CONFIGURATION.format(engine=library, module=token.module.path))

    def key(self, kind: str, label: str, identifier: str) -> str:
        """Make a key pair in the token and return the URI of its private half."""
        self.token.pkcs11_tool(
            "--keypairgen", *KEYS[kind], "--label", label, "--id", identifier, "--usage-sign",
            "--usage-decrypt", "--usage-derive",
        )
        return self.token.uri(object=label, type="private").replace("?pin-value", ";pin-value")

    def run(self, *command: str | Path, **options):
        return self.token.run(
            "openssl", *command, environment={"OPENSSL_CONF": str(self.configuration)}, **options,
        )

    def public(self, uri: str, label: str) -> Path:
        out = self.directory / f"{label}-public.pem"
        self.run("pkey", "-engine", "pkcs11", "-inform", "engine", "-in", uri, "-pubout", "-out", out)
        return out

    def self_signed(self, uri: str, name: str, *options: str) -> Path:
        out = self.directory / f"{name}.pem"
        self.run(
            "req", "-new", "-x509", "-engine", "pkcs11", "-keyform", "engine", "-key", uri, "-sha256",
            "-config", self.certificates, "-subj", f"/CN={name}", "-days", "30", "-out", out, *options,
        )
        return out


@pytest.fixture
def engine(token, tmp_path, need):
    need("openssl", package="openssl")
    library = next((place for place in ENGINE_PLACES if Path(place).exists()), ENGINE_PLACES[0])
    return Engine(token, tmp_path, need(library, package="libengine-pkcs11-openssl"))


@pytest.fixture
def message(tmp_path):
    file = tmp_path / "message"
    file.write_bytes(b"signed by openssl\n")
    return file


@pytest.mark.parametrize("kind", KEYS)
def test_dgst(engine, message, kind):
    uri = engine.key(kind, "signer", "01")
    public = engine.public(uri, "signer")
    signature = engine.directory / "signature"
    for digest in ("sha256", "sha384", "sha512"):
        engine.run(
            "dgst", f"-{digest}", "-engine", "pkcs11", "-keyform", "engine", "-sign", uri, "-out",
            signature, message,
        )
        verified = engine.token.run(
            "openssl", "dgst", f"-{digest}", "-verify", public, "-signature", signature, message,
        )
        assert b"Verified OK" in verified.stdout


def test_pss(engine, message):
    uri = engine.key("rsa", "signer", "01")
    public = engine.public(uri, "signer")
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]
    signature = engine.directory / "signature"
    engine.run(
        "dgst", "-sha256", "-engine", "pkcs11", "-keyform", "engine", "-sign", uri, *pss, "-out", signature,
        message,
    )
    verified = engine.token.run(
        "openssl", "dgst", "-sha256", "-verify", public, *pss, "-signature", signature, message,
    )
    assert b"Verified OK" in verified.stdout


def test_decrypt(engine):
    uri = engine.key("rsa", "box", "01")
    public = engine.public(uri, "box")
    plain, cipher = engine.directory / "plain", engine.directory / "cipher"
    plain.write_bytes(b"a secret")
    for padding in (["rsa_padding_mode:pkcs1"], ["rsa_padding_mode:oaep"]):
        options = [part for option in padding for part in ("-pkeyopt", option)]
        engine.token.run(
            "openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", public, "-in", plain, "-out", cipher,
            *options,
        )
        decrypt = [
            "pkeyutl", "-decrypt", "-engine", "pkcs11", "-keyform", "engine", "-inkey", uri, "-in", cipher,
        ]
        assert engine.run(*decrypt, *options).stdout == b"a secret"


def test_derive(engine):
    uri = engine.key("ec", "agree", "01")
    public = engine.public(uri, "agree")
    peer = engine.directory / "peer.pem"
    engine.token.run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", peer)
    engine.token.run("openssl", "pkey", "-in", peer, "-pubout", "-out", engine.directory / "peer-public.pem")
    ours = engine.run(
        "pkeyutl", "-derive", "-engine", "pkcs11", "-keyform", "engine", "-inkey", uri,
        "-peerkey", engine.directory / "peer-public.pem",
    ).stdout
    theirs = engine.token.run("openssl", "pkeyutl", "-derive", "-inkey", peer, "-peerkey", public).stdout
    assert len(ours) == 32 and ours == theirs


@pytest.mark.parametrize("kind", KEYS)
def test_cms_sign(engine, message, kind):
    uri = engine.key(kind, "signer", "01")
    certificate = engine.self_signed(uri, "signer")
    signed = engine.directory / "signed.pem"
    engine.run(
        "cms", "-sign", "-engine", "pkcs11", "-keyform", "engine", "-inkey", uri, "-signer", certificate,
        "-md", "sha256", "-in", message, "-binary", "-outform", "PEM", "-out", signed,
    )
    verify = [
        "openssl", "cms", "-verify", "-inform", "PEM", "-in", signed, "-CAfile", certificate, "-purpose",
        "any",
    ]
    detached = engine.token.run(*verify, "-content", message, "-binary")
    assert detached.stdout == message.read_bytes()
    message.write_bytes(b"changed\n")
    assert engine.token.run(*verify, "-content", message, "-binary", check=False).returncode != 0


def test_cms_decrypt(engine, message):
    uri = engine.key("rsa", "box", "01")
    certificate = engine.self_signed(uri, "box")
    sealed = engine.directory / "sealed.pem"
    engine.token.run(
        "openssl", "cms", "-encrypt", "-aes256", "-in", message, "-binary", "-outform", "PEM",
        "-out", sealed, certificate,
    )
    opened = engine.run(
        "cms", "-decrypt", "-engine", "pkcs11", "-keyform", "engine", "-inkey", uri, "-recip", certificate,
        "-inform", "PEM", "-in", sealed,
    )
    assert opened.stdout == message.read_bytes()


def issue(engine, authority_uri: str, authority: Path, leaf_uri: str, name: str) -> Path:
    """Issue a certificate for a key of the token, signed by a CA whose key is in the token too."""
    request, out = engine.directory / f"{name}.csr", engine.directory / f"{name}.pem"
    engine.run(
        "req", "-new", "-engine", "pkcs11", "-keyform", "engine", "-key", leaf_uri,
        "-config", engine.certificates, "-subj", f"/CN={name}", "-out", request,
    )
    engine.run(
        "x509", "-req", "-in", request, "-engine", "pkcs11", "-CAkeyform", "engine", "-CAkey", authority_uri,
        "-CA", authority, "-set_serial", "0x1001", "-days", "10", "-sha256",
        "-extfile", engine.certificates, "-extensions", "server", "-out", out,
    )
    return out


@pytest.mark.parametrize("kind", KEYS)
def test_authority(engine, kind):
    """A CA in the token issues a certificate, and openssl without the engine verifies the chain."""
    authority_uri = engine.key(kind, "authority", "01")
    authority = engine.self_signed(authority_uri, "authority", "-extensions", "authority")
    leaf = issue(engine, authority_uri, authority, engine.key(kind, "leaf", "02"), "leaf")
    result = engine.token.run("openssl", "verify", "-x509_strict", "-CAfile", authority, leaf, check=False)
    assert result.stdout.rstrip().endswith(b"OK"), result
    other = engine.self_signed(engine.key(kind, "other", "03"), "authority", "-extensions", "authority")
    assert engine.token.run("openssl", "verify", "-CAfile", other, leaf, check=False).returncode != 0


@pytest.mark.parametrize("protocol", ["-tls1_3", "-tls1_2"])
@pytest.mark.parametrize("kind", KEYS)
def test_tls_server(engine, background, free_port, wait_for, listening, kind, protocol):
    """A TLS server whose key never leaves the token serves clients that verify its chain."""
    authority_uri = engine.key(kind, "authority", "01")
    authority = engine.self_signed(authority_uri, "authority", "-extensions", "authority")
    server_uri = engine.key(kind, "server", "02")
    certificate = issue(engine, authority_uri, authority, server_uri, "server")
    log = (engine.directory / "server.log").open("wb")
    server = background(
        engine.token.home, "openssl", "s_server", "-engine", "pkcs11", "-keyform", "engine",
        "-key", server_uri, "-cert", certificate, "-accept", f"127.0.0.1:{free_port}", "-rev", "-quiet",
        environment={"OPENSSL_CONF": str(engine.configuration)},
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )
    wait_for(lambda: listening(free_port) or server.poll() is not None, "the server's start")
    assert server.poll() is None, (engine.directory / "server.log").read_text()
    connect = ["openssl", "s_client", "-connect", f"127.0.0.1:{free_port}", protocol, "-CAfile", authority,
               "-verify_return_error", "-verify_ip", "127.0.0.1", "-quiet", "-no_ign_eof"]
    for _ in range(5):
        client = subprocess.Popen(
            [
                str(part) for part in connect
            ], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=engine.token.home.environment,
        )
        with client:
            client.stdin.write(b"drawer\n")
            client.stdin.flush()
            answer = client.stdout.readline()
            client.stdin.close()
            client.wait(20)
            assert answer == b"reward\n", client.stderr.read().decode()
    log.close()


def test_certificate_of_the_token(engine, message):
    """The certificate is stored in the token, and what signs is found by the same id."""
    uri = engine.key("rsa", "signer", "01")
    certificate = engine.self_signed(uri, "signer")
    der = engine.directory / "signer.der"
    engine.token.run("openssl", "x509", "-in", certificate, "-outform", "DER", "-out", der)
    engine.token.pkcs11_tool("--write-object", der, "--type", "cert", "--label", "signer", "--id", "01")
    by_id = uri.replace("object=signer", "id=%01")
    signature = engine.directory / "signature"
    (engine.directory / "digest").write_bytes(hashlib.sha256(message.read_bytes()).digest())
    engine.run(
        "pkeyutl", "-sign", "-engine", "pkcs11", "-keyform", "engine", "-inkey", by_id,
        "-pkeyopt", "digest:sha256", "-in", engine.directory / "digest", "-out", signature,
    )
    engine.token.run(
        "openssl", "pkeyutl", "-verify", "-certin", "-inkey", certificate, "-pkeyopt", "digest:sha256",
        "-in", engine.directory / "digest", "-sigfile", signature,
    )
