"""NSS: ``modutil`` adds the module, ``certutil`` makes a CA and a leaf in the token, other tools use them."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import pytest


class Database:
    """An NSS database that has the module."""

    def __init__(self, token, directory):
        self.token = token
        self.directory = directory
        directory.mkdir()
        self.pins = directory.parent / "nss-pins"
        self.pins.write_text(f"{token.label}:{token.pin}\nNSS Certificate DB:nss-database\n")
        self.noise = directory.parent / "noise"
        self.noise.write_bytes(bytes(range(256)) * 8)
        self.where = ["-d", f"sql:{directory}"]
        token.run("certutil", "-N", *self.where, "--empty-password")
        self.modutil("-add", "ferro", "-libfile", token.module.path)

    def modutil(self, *arguments) -> str:
        return self.token.run(
            "modutil", "-dbdir", f"sql:{self.directory}", "-force", *arguments,
        ).stdout.decode()

    def certutil(self, *arguments, check=True) -> str:
        result = self.token.run("certutil", *self.where, "-f", self.pins, *arguments, check=check)
        return result.stdout.decode(errors="replace")

    def certificate(self, kind, name, *arguments, serial):
        """Make a key pair in the token and a certificate for it."""
        return self.certutil(
            "-S", "-h", self.token.label, *KINDS[kind], "-n", name, "-s", f"CN={name}",
            "-m", str(serial), "-v", "1", "-z", self.noise, *arguments,
        )

    def export(self, name, out):
        out.write_text(self.certutil("-L", "-h", self.token.label, "-n", f"{self.token.label}:{name}", "-a"))
        return out


KINDS = {"rsa": ["-k", "rsa", "-g", "2048"], "ec": ["-k", "ec", "-q", "nistp256"]}


@pytest.fixture
def database(token, need, tmp_path):
    need("modutil", package="libnss3-tools")
    return Database(token, tmp_path / "nss")


def test_modutil(token, database):
    listing = database.modutil("-list")
    assert f"token: {token.label}" in listing
    assert str(token.module.path) in listing
    detail = database.modutil("-list", "ferro")
    assert f"Token Name: {token.label}" in detail
    assert "Login Type: Login required" in detail
    database.modutil("-delete", "ferro")
    assert token.label not in database.modutil("-list")


@pytest.mark.parametrize("kind", KINDS)
def test_authority_and_leaf(token, database, tmp_path, kind):
    """Both keys live in the token; openssl verifies the chain that NSS made."""
    self_signed = ["-x", "-t", "CT,,", "--keyUsage", "certSigning,crlSigning,critical"]
    database.certificate(kind, "nss-ca", *self_signed, serial=1)
    issuer = f"{token.label}:nss-ca"
    database.certificate(kind, "nss-leaf", "-c", issuer, "-t", ",,", "--extSAN", "dns:localhost", serial=2)
    keys = database.certutil("-K", "-h", token.label)
    assert "nss-ca" in keys and "nss-leaf" in keys
    certificates = database.certutil("-L", "-h", token.label)
    assert f"{token.label}:nss-leaf" in certificates
    authority = database.export("nss-ca", tmp_path / "ca.pem")
    leaf = database.export("nss-leaf", tmp_path / "leaf.pem")
    verified = token.run("openssl", "verify", "-CAfile", authority, leaf).stdout
    assert verified.rstrip().endswith(b"OK")


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_signs(token, database, tmp_path, kind):
    """A later ``cmsutil`` signs with the key of the token, and openssl verifies."""
    database.certificate(kind, "mail", "-x", "-t", "CT,C,C", serial=3)
    (tmp_path / "message").write_bytes(b"signed by NSS\n")
    token.run(
        "cmsutil", "-S", *database.where, "-f", database.pins, "-N", f"{token.label}:mail", "-H", "SHA256",
        "-i", tmp_path / "message", "-o", tmp_path / "signed.der",
    )
    certificate = database.export("mail", tmp_path / "mail.pem")
    verified = token.run(
        "openssl", "cms", "-verify", "-inform", "DER", "-in", tmp_path / "signed.der", "-CAfile", certificate,
        "-purpose", "any", "-binary",
    )
    assert verified.stdout == b"signed by NSS\n"


def test_import_of_pkcs12(token, database, tmp_path):
    """``pk12util`` unwraps a key and its certificate into the token."""
    token.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key.pem",
        "-out", tmp_path / "certificate.pem", "-subj", "/CN=brought", "-days", "30",
    )
    token.run(
        "openssl", "pkcs12", "-export", "-inkey", tmp_path / "key.pem", "-in", tmp_path / "certificate.pem",
        "-name", "brought", "-passout", "pass:pkcs12", "-out", tmp_path / "bundle.p12",
    )
    (tmp_path / "pkcs12-password").write_text("pkcs12\n")
    token.run(
        "pk12util", "-i", tmp_path / "bundle.p12", *database.where, "-h", token.label, "-k", database.pins,
        "-w", tmp_path / "pkcs12-password",
    )
    assert "brought" in database.certutil("-K", "-h", token.label)
    exported = database.export("brought", tmp_path / "exported.pem")
    fingerprint = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in"]
    expected = token.run(*fingerprint, tmp_path / "certificate.pem").stdout
    assert token.run(*fingerprint, exported).stdout == expected


def test_delete(token, database):
    database.certificate("ec", "gone", "-x", "-t", ",,", serial=4)
    assert "gone" in database.certutil("-K", "-h", token.label)
    database.certutil("-F", "-h", token.label, "-n", f"{token.label}:gone")
    assert "gone" not in database.certutil("-K", "-h", token.label, check=False)
