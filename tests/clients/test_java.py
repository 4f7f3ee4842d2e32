"""Java 17: ``keytool`` and a program on SunPKCS11."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("java") / "Pkcs11Check.java"

# Java keeps what it agreed on and generated readable, so that the program can compare it with software's.
CONFIGURATION = """\
name = Token
library = {library}
slot = {slot}
attributes(*, CKO_SECRET_KEY, *) = {{
  CKA_SENSITIVE = false
  CKA_EXTRACTABLE = true
}}
attributes(generate, CKO_PRIVATE_KEY, CKK_EC) = {{
  CKA_SIGN = true
  CKA_DERIVE = true
}}
"""


@pytest.fixture(scope="session")
def classes(need, tmp_path_factory):
    """The compiled program."""
    out = tmp_path_factory.mktemp("classes")
    subprocess.run([need("javac", package="openjdk-17-jdk-headless"), "-d", out, SOURCE], check=True)
    return out


@pytest.fixture
def configuration(token, tmp_path):
    file = tmp_path / "java.cfg"
    file.write_text(CONFIGURATION.format(library=token.module.path, slot=token.slot))
    return file


@pytest.fixture
def java(token, classes, configuration, need):
    """Run one part of the program on the token."""
    need("java", package="openjdk-17-jre-headless")

    def run(part, *arguments):
        result = token.run(
            "java", "-XX:TieredStopAtLevel=1", "-cp", classes, "Pkcs11Check", configuration, token.pin, part,
            *arguments, timeout=300,
        )
        output = result.stdout.decode()
        assert output.splitlines()[-1] == f"done {part}", output
        return output

    return run


@pytest.fixture
def keytool(token, configuration, need):
    need("keytool", package="openjdk-17-jre-headless")

    def run(*arguments, configuration=configuration):
        result = token.run(
            "keytool", *arguments, "-keystore", "NONE", "-storetype", "PKCS11", "-storepass", token.pin,
            "-providerClass", "sun.security.pkcs11.SunPKCS11", "-providerArg", configuration,
        )
        return result.stdout

    return run


GENERATE = {"rsa": ["-keyalg", "RSA", "-keysize", "2048"], "ec": ["-keyalg", "EC", "-groupname", "secp256r1"]}


@pytest.mark.parametrize("kind", GENERATE)
def test_keytool(token, keytool, java, kind, tmp_path):
    """``keytool`` makes a key pair and its certificate; openssl verifies it, and another process signs."""
    keytool("-genkeypair", "-alias", "made", *GENERATE[kind], "-dname", "CN=made by Java", "-validity", "30")
    assert b"made" in keytool("-list")
    (tmp_path / "made.pem").write_bytes(keytool("-exportcert", "-rfc", "-alias", "made"))
    verified = token.run("openssl", "verify", "-CAfile", tmp_path / "made.pem", tmp_path / "made.pem").stdout
    assert verified.rstrip().endswith(b"OK")
    (tmp_path / "made.csr").write_bytes(keytool("-certreq", "-alias", "made"))
    request = token.run("openssl", "req", "-in", tmp_path / "made.csr", "-verify", "-noout", "-subject")
    assert b"made by Java" in request.stdout
    java("stored", "made")
    keytool("-delete", "-alias", "made")
    assert b"made" not in keytool("-list").split(b"contains")[-1]


def test_keytool_imports_an_issued_certificate(token, keytool, java, tmp_path):
    """A request goes to another CA; what it issued replaces the self-signed certificate in the token."""
    keytool("-genkeypair", "-alias", "made", *GENERATE["ec"], "-dname", "CN=made by Java", "-validity", "30")
    (tmp_path / "made.csr").write_bytes(keytool("-certreq", "-alias", "made"))
    token.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "ca.key",
        "-out", tmp_path / "ca.pem", "-subj", "/CN=another CA", "-days", "30",
    )
    token.run(
        "openssl", "x509", "-req", "-in", tmp_path / "made.csr", "-CA", tmp_path / "ca.pem",
        "-CAkey", tmp_path / "ca.key", "-set_serial", "7", "-days", "10", "-out", tmp_path / "issued.pem",
    )
    chain = (tmp_path / "issued.pem").read_text() + (tmp_path / "ca.pem").read_text()
    (tmp_path / "chain.pem").write_text(chain)
    keytool("-importcert", "-noprompt", "-alias", "made", "-file", tmp_path / "chain.pem")
    assert b"Issuer: CN=another CA" in keytool("-list", "-v", "-alias", "made")


def test_the_first_slot_is_the_token(token, keytool, tmp_path):
    """``slotListIndex = 0`` is the usual configuration: the free slot is not the first."""
    file = tmp_path / "index.cfg"
    file.write_text(f"name = First\nlibrary = {token.module.path}\nslotListIndex = 0\n")
    keytool("-genkeypair", "-alias", "first", *GENERATE["ec"], "-dname", "CN=first", configuration=file)
    assert b"first" in keytool("-list", configuration=file)


@pytest.mark.parametrize("part", ["signatures", "macs", "agreement", "digests", "random", "ciphers"])
def test_program(token, java, part):
    if part == "signatures" and not token.module.ours:
        pytest.skip("SoftHSM 2.6 refuses the short form in which Java gives some signatures of P-521")
    if part == "signatures":
        assert java(part).count("verified in software") == 4 + 3 * 4
    else:
        assert java(part).count("ok ") >= 1


@pytest.mark.parametrize("kind", GENERATE)
def test_threads(keytool, java, kind):
    keytool("-genkeypair", "-alias", "shared", *GENERATE[kind], "-dname", "CN=shared", "-validity", "30")
    java("threads", "shared")
