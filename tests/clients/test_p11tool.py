"""GnuTLS's ``p11tool``, and ``certtool`` with keys that live in the token."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import re

import pytest


@pytest.fixture
def p11tool(token, need):
    """Run ``p11tool`` on the token, logged in."""
    need("p11tool", package="gnutls-bin")

    def run(*arguments, check=True):
        command = [
            "p11tool", f"--provider={token.module.path}", "--batch", "--login", f"--set-pin={token.pin}",
        ]
        return token.run(*command, *arguments, check=check).stdout.decode(errors="replace")

    return run


def url(token, **attributes: str) -> str:
    return f"pkcs11:token={token.label}" + "".join(f";{name}={value}" for name, value in attributes.items())


def test_list_tokens(token, p11tool):
    listing = p11tool("--list-tokens")
    assert re.search(rf"Label: {token.label}\n", listing)
    assert "uPIN uninitialized" not in listing.split(f"Label: {token.label}")[1].split("Token ")[0]


def test_initialize(home, need):
    """``p11tool`` makes a token by itself: SO PIN, then user PIN."""
    need("p11tool", package="gnutls-bin")
    provider = f"--provider={home.module.path}"
    # p11tool lists no token that is not initialized; with one slot, the shortest URI names it.
    home.run(
        "p11tool", provider, "--batch", "--initialize", "--set-so-pin=so-secret", "--label=gnu", "pkcs11:",
    )
    home.run(
        "p11tool", provider, "--batch", "--initialize-pin", "--set-so-pin=so-secret", "--set-pin=user-secret",
        "pkcs11:token=gnu",
    )
    listing = home.run(
        "p11tool", provider, "--batch", "--login", "--set-pin=user-secret", "--list-all", "pkcs11:token=gnu",
        check=False,
    )
    # Newer ones show the profile objects, of a type that they do not know.
    types = set(re.findall(rb"Type: (.*)", listing.stdout))
    assert b"No matching objects" in listing.stdout + listing.stderr or types == {b"Unknown"}


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--generate-privkey=rsa", "--bits=2048"], "RSA"),
        (["--generate-privkey=ecdsa", "--curve=secp256r1"], "EC"),
        (["--generate-privkey=ecdsa", "--curve=secp384r1"], "EC"),
    ],
    ids=["rsa", "p256", "p384"],
)
def test_generate_and_sign(token, p11tool, tmp_path, arguments, kind):
    """The tool's own sign test verifies what the token signed, and openssl reads the public key."""
    public = p11tool(*arguments, "--label=made", "--id=0a0b", url(token))
    assert "BEGIN PUBLIC KEY" in public
    output = p11tool("--test-sign", url(token, object="made", type="private"))
    assert "failed" not in output.lower()
    listing = p11tool("--list-all", url(token))
    assert "Label: made" in listing and "0a:0b" in listing
    exported = p11tool("--export-pubkey", url(token, object="made", type="private"))
    (tmp_path / "public.pem").write_text(exported[exported.index("-----BEGIN") :])
    text = token.run(
        "openssl", "pkey", "-pubin", "-in", tmp_path / "public.pem", "-noout", "-text",
    ).stdout.decode()
    assert {"RSA": "2048 bit", "EC": "NIST CURVE"}[kind] in text


def test_sign_with_ed25519(token, p11tool, tmp_path):
    """GnuTLS 3.7 signs with Ed25519 but generates with the wrong mechanism: another tool makes the key."""
    token.pkcs11_tool("--keypairgen", "--key-type", "EC:edwards25519", "--label", "made", "--id", "01")
    sign = p11tool("--test-sign", "--hash=SHA512", url(token, object="made", type="private"))
    assert "failed" not in sign.lower()
    exported = p11tool("--export-pubkey", url(token, object="made", type="private"))
    (tmp_path / "public.pem").write_text(exported[exported.index("-----BEGIN") :])
    text = token.run(
        "openssl", "pkey", "-pubin", "-in", tmp_path / "public.pem", "-noout", "-text",
    ).stdout.decode()
    assert "ED25519" in text


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_import(token, p11tool, tmp_path, kind):
    """A private key and a certificate made elsewhere are written, listed, exported and used."""
    new = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    token.run(
        "openssl", "req", "-x509", "-newkey", *new, "-nodes", "-keyout", tmp_path / "key.pem",
        "-out", tmp_path / "certificate.pem", "-subj", "/CN=imported", "-days", "30",
    )
    p11tool("--write", f"--load-privkey={tmp_path}/key.pem", "--label=brought", "--id=01", url(token))
    p11tool(
        "--write", f"--load-certificate={tmp_path}/certificate.pem", "--label=brought", "--id=01",
        url(token),
    )
    certificates = p11tool("--list-all-certs", url(token))
    assert "Label: brought" in certificates
    exported = p11tool("--export", url(token, object="brought", type="cert"))
    (tmp_path / "exported.pem").write_text(exported)
    fingerprint = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in"]
    expected = token.run(*fingerprint, tmp_path / "certificate.pem").stdout
    assert token.run(*fingerprint, tmp_path / "exported.pem").stdout == expected
    p11tool("--test-sign", url(token, id="%01", type="private"))


def test_certificate(token, p11tool, tmp_path, need):
    """``certtool`` signs a certificate with the key in the token; openssl verifies it."""
    need("certtool", package="gnutls-bin")
    p11tool("--generate-privkey=ecdsa", "--curve=secp256r1", "--label=ca", "--id=01", url(token))
    (tmp_path / "template").write_text('cn = "certtool CA"\nca\ncert_signing_key\nexpiration_days = 30\n')
    token.run(
        "certtool", f"--provider={token.module.path}", "--generate-self-signed",
        f"--load-privkey={url(token, object='ca', type='private')}",
        f"--template={tmp_path}/template", f"--outfile={tmp_path}/ca.pem",
        environment={"GNUTLS_PIN": token.pin},
    )
    verified = token.run("openssl", "verify", "-CAfile", tmp_path / "ca.pem", tmp_path / "ca.pem").stdout
    assert verified.rstrip().endswith(b"OK")
    p11tool("--write", f"--load-certificate={tmp_path}/ca.pem", "--label=ca", "--id=01", url(token))
    assert "Label: ca" in p11tool("--list-certs", url(token))


def test_secret_key(token, p11tool):
    p11tool("--write", "--secret-key=000102030405060708090a0b0c0d0e0f", "--label=secret", url(token))
    assert "Label: secret" in p11tool("--list-all", url(token))


def test_delete(token, p11tool):
    for label in ("one", "two"):
        p11tool("--generate-privkey=ecdsa", "--curve=secp256r1", f"--label={label}", url(token))
    p11tool("--delete", url(token, object="one"))
    listing = p11tool("--list-all", url(token))
    assert "Label: two" in listing and "Label: one" not in listing


def test_random(token, p11tool):
    first, second = (p11tool("--generate-random=32", url(token)) for _ in range(2))
    assert first and first != second


def test_mechanisms(token, p11tool):
    listing = p11tool("--list-mechanisms", url(token))
    for name in ("CKM_RSA_PKCS_KEY_PAIR_GEN", "CKM_ECDSA", "CKM_AES_CBC_PAD"):
        assert name in listing
