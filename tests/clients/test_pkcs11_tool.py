"""OpenSC's ``pkcs11-tool``."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

MESSAGE = b"the quick brown fox\n"

EC_CURVES = {"prime256v1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "secp521r1": ec.SECP521R1()}


@pytest.fixture
def message(tmp_path: Path) -> Path:
    file = tmp_path / "message"
    file.write_bytes(MESSAGE)
    return file


def read_public_key(token, label: str, out: Path) -> Path:
    """Read a public key from the token and return it as PEM, made by openssl."""
    der = out.with_suffix(".der")
    token.pkcs11_tool("--read-object", "--type", "pubkey", "--label", label, "--output-file", der)
    pem = out.with_suffix(".pem")
    token.run("openssl", "pkey", "-pubin", "-inform", "DER", "-in", der, "-out", pem)
    return pem


def listed_point(token) -> bytes:
    """Return the public point that ``pkcs11-tool`` lists, without its DER octet string."""
    listing = token.pkcs11_tool("--list-objects", "--type", "pubkey")
    point = bytes.fromhex(re.search(r"EC_POINT:\s+([0-9a-f]+)", listing).group(1))
    assert point[0] == 0x04, "the list shows no DER octet string"
    header = 2 if point[1] < 0x80 else 3
    assert len(point) - header == point[header - 1]
    return point[header:]


def write_public_key(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey, out: Path) -> Path:
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    out.write_bytes(key.public_bytes(*pem))
    return out


def openssl_verify(token, pem: Path, digest: str, signature: Path, message: Path, *options: str) -> None:
    command = ["openssl", "dgst", f"-{digest}", "-verify", pem, "-signature", signature]
    result = token.run(*command, *[part for option in options for part in ("-sigopt", option)], message)
    assert b"Verified OK" in result.stdout


def test_token_life(home, need):
    """Initialize, set a PIN, change it, unlock it, initialize again."""
    need("pkcs11-tool", package="opensc")
    tool = ["pkcs11-tool", "--module", home.module.path]
    slots = home.run(*tool, "--list-slots").stdout.decode()
    assert "token state:" in slots and "uninitialized" in slots
    home.run(*tool, "--slot-index", "0", "--init-token", "--label", "life", "--so-pin", "12345678")
    so = ["--login", "--login-type", "so", "--so-pin", "12345678"]
    home.run(*tool, "--token-label", "life", *so, "--init-pin", "--new-pin", "1111")
    listing = home.run(*tool, "--list-token-slots").stdout.decode()
    assert re.search(r"token label\s+: life\n", listing)
    assert "PIN initialized" in listing
    first = re.search(r"\((0x[0-9a-f]+)\)", listing).group(1)

    user = [*tool, "--token-label", "life", "--login", "--pin"]
    home.run(*user, "1111", "--change-pin", "--new-pin", "2222")
    wrong = home.run(*user, "1111", "--list-objects", check=False)
    assert wrong.returncode != 0
    assert b"CKR_PIN_INCORRECT" in wrong.stderr
    home.run(*user, "2222", "--keygen", "--key-type", "AES:16", "--label", "gone")

    again = [*tool, "--token-label", "life", "--init-token", "--label", "life", "--so-pin"]
    refused = home.run(*again, "00000000", check=False)
    assert refused.returncode != 0
    assert b"gone" in home.run(*user, "2222", "--list-objects").stdout
    home.run(*again, "12345678")
    home.run(*tool, "--token-label", "life", *so, "--init-pin", "--new-pin", "3333")
    assert b"gone" not in home.run(*user, "3333", "--list-objects").stdout
    listing = home.run(*tool, "--list-token-slots").stdout.decode()
    assert f"({first})" in listing, "the slot's id changed when its token was initialized again"


def test_unlock_pin(token):
    """The SO gives a forgotten PIN a new value, and the objects are still there."""
    token.pkcs11_tool("--keygen", "--key-type", "AES:16", "--label", "kept")
    tool = ["pkcs11-tool", "--module", token.module.path, "--token-label", token.label]
    so = ["--login", "--login-type", "so", "--so-pin", token.so_pin]
    token.run(*tool, *so, "--init-pin", "--new-pin", "99999999")
    token.pin = "99999999"
    assert "kept" in token.pkcs11_tool("--list-objects")


@pytest.mark.parametrize("bits", [1024, 2048, 3072])
def test_rsa_sign(token, message, tmp_path, bits):
    token.pkcs11_tool("--keypairgen", "--key-type", f"rsa:{bits}", "--label", "r", "--id", "01")
    pem = read_public_key(token, "r", tmp_path / "public")
    for mechanism, digest in [
        ("SHA1-RSA-PKCS", "sha1"),
        ("SHA256-RSA-PKCS", "sha256"),
        ("SHA384-RSA-PKCS", "sha384"),
        ("SHA512-RSA-PKCS", "sha512"),
    ]:
        signature = tmp_path / f"signature-{digest}"
        token.pkcs11_tool("--sign", "--mechanism", mechanism, "--label", "r", "-i", message, "-o", signature)
        assert signature.stat().st_size == bits // 8
        openssl_verify(token, pem, digest, signature, message)


def test_rsa_pss_sign(token, message, tmp_path):
    token.pkcs11_tool("--keypairgen", "--key-type", "rsa:2048", "--label", "r", "--id", "01")
    pem = read_public_key(token, "r", tmp_path / "public")
    for bits in (256, 384, 512):
        signature = tmp_path / f"signature-{bits}"
        token.pkcs11_tool(
            "--sign", "--mechanism", f"SHA{bits}-RSA-PKCS-PSS", "--id", "01", "-i", message, "-o", signature,
        )
        openssl_verify(
            token, pem, f"sha{bits}", signature, message, "rsa_padding_mode:pss", "rsa_pss_saltlen:digest",
        )
    digest = tmp_path / "digest"
    digest.write_bytes(hashlib.sha256(MESSAGE).digest())
    token.pkcs11_tool(
        "--sign", "--mechanism", "RSA-PKCS-PSS", "--hash-algorithm", "SHA256", "--mgf", "MGF1-SHA256",
        "--salt-len", "20", "--id", "01", "-i", digest, "-o", tmp_path / "raw",
    )
    openssl_verify(
        token, pem, "sha256", tmp_path / "raw", message, "rsa_padding_mode:pss", "rsa_pss_saltlen:20",
    )


@pytest.mark.parametrize("curve", EC_CURVES)
def test_ec_sign(token, message, tmp_path, curve):
    token.pkcs11_tool(
        "--keypairgen", "--key-type", f"EC:{curve}", "--label", "e", "--id", "02", "--usage-sign",
    )
    # pkcs11-tool 0.23 cannot read a public key of P-384 or P-521 itself, so the point comes from its list.
    public = ec.EllipticCurvePublicKey.from_encoded_point(EC_CURVES[curve], listed_point(token))
    pem = write_public_key(public, tmp_path / "public.pem")
    (tmp_path / "digest").write_bytes(hashlib.sha256(MESSAGE).digest())
    cases = [("ECDSA", tmp_path / "digest", "sha256")]
    if token.module.ours:  # SoftHSM 2.6 hashes nothing for ECDSA
        cases += [("ECDSA-SHA1", message, "sha1")]
        cases += [(f"ECDSA-SHA{bits}", message, f"sha{bits}") for bits in (224, 256, 384, 512)]
    for mechanism, source, digest in cases:
        signature = tmp_path / f"signature-{mechanism}"
        token.pkcs11_tool(
            "--sign", "--mechanism", mechanism, "--signature-format", "openssl", "--label", "e", "-i", source,
            "-o", signature,
        )
        openssl_verify(token, pem, digest, signature, message)


def test_ed25519_sign(token, message, tmp_path):
    token.pkcs11_tool("--keypairgen", "--key-type", "EC:edwards25519", "--label", "d", "--id", "03")
    token.pkcs11_tool(
        "--sign", "--mechanism", "EDDSA", "--label", "d", "-i", message, "-o", tmp_path / "signature",
    )
    public = ed25519.Ed25519PublicKey.from_public_bytes(listed_point(token))
    pem = write_public_key(public, tmp_path / "public.pem")
    token.run(
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pem, "-rawin", "-in", message,
        "-sigfile", tmp_path / "signature",
    )


def test_verify(token, message, tmp_path):
    """The token verifies what it signed, and refuses what was changed."""
    token.pkcs11_tool("--keypairgen", "--key-type", "rsa:2048", "--label", "r", "--id", "01")
    signature = tmp_path / "signature"
    token.pkcs11_tool(
        "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "01", "-i", message, "-o", signature,
    )
    verify = [
        "--verify", "--mechanism", "SHA256-RSA-PKCS", "--id", "01", "--signature-file", signature, "-i",
        message,
    ]
    assert "Signature is valid" in token.pkcs11_tool(*verify)
    message.write_bytes(MESSAGE + b"!")
    assert "Invalid signature" in token.pkcs11_tool(*verify, check=False)


def test_rsa_decrypt(token, tmp_path):
    token.pkcs11_tool("--keypairgen", "--key-type", "rsa:2048", "--label", "r", "--id", "01")
    pem = read_public_key(token, "r", tmp_path / "public")
    plain = tmp_path / "plain"
    plain.write_bytes(b"sixteen byte key")
    cases = [("RSA-PKCS", [], ["rsa_padding_mode:pkcs1"]),
             ("RSA-PKCS-OAEP", ["--hash-algorithm", "SHA-1", "--mgf", "MGF1-SHA1"],
             ["rsa_padding_mode:oaep"])]
    if token.module.ours:
        cases += [
            (
                "RSA-PKCS-OAEP",
                ["--hash-algorithm", f"SHA{bits}", "--mgf", f"MGF1-SHA{bits}"],
                ["rsa_padding_mode:oaep", f"rsa_oaep_md:sha{bits}", f"rsa_mgf1_md:sha{bits}"],
            )
            for bits in (256, 384, 512)
        ]
    for mechanism, options, padding in cases:
        cipher, out = tmp_path / "cipher", tmp_path / "out"
        token.run(
            "openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", pem, "-in", plain, "-out", cipher,
            *[part for option in padding for part in ("-pkeyopt", option)],
        )
        token.pkcs11_tool(
            "--decrypt", "--mechanism", mechanism, *options, "--id", "01", "-i", cipher, "-o", out,
        )
        assert out.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("size", [16, 24, 32])
def test_aes_encrypt_and_decrypt(token, tmp_path, size):
    """An AES key is generated and read back by openssl's decryption of what the token encrypted."""
    token.pkcs11_tool("--keygen", "--key-type", f"AES:{size}", "--label", "a", "--id", "05", "--extractable")
    plain, cipher, out = tmp_path / "plain", tmp_path / "cipher", tmp_path / "out"
    plain.write_bytes(os.urandom(100))
    iv = os.urandom(16).hex()
    token.pkcs11_tool(
        "--encrypt", "--mechanism", "AES-CBC-PAD", "--iv", iv, "--id", "05", "-i", plain, "-o", cipher,
    )
    assert cipher.stat().st_size == 112
    token.pkcs11_tool(
        "--decrypt", "--mechanism", "AES-CBC-PAD", "--iv", iv, "--id", "05", "-i", cipher, "-o", out,
    )
    assert out.read_bytes() == plain.read_bytes()


def test_import_secret_key(token, tmp_path):
    """An AES key brought in encrypts as openssl does with the same key."""
    key, iv = os.urandom(32), os.urandom(16)
    plain, cipher = tmp_path / "plain", tmp_path / "cipher"
    (tmp_path / "key").write_bytes(key)
    plain.write_bytes(os.urandom(1000))
    token.pkcs11_tool(
        "--write-object", tmp_path / "key", "--type", "secrkey", "--key-type", "AES:32", "--label", "a",
        "--id", "06", "--usage-decrypt",
    )
    encrypt = [
        "--encrypt", "--mechanism", "AES-CBC-PAD", "--iv", iv.hex(), "--id", "06", "-i", plain, "-o", cipher,
    ]
    token.pkcs11_tool(*encrypt)
    expected = token.run(
        "openssl", "enc", "-aes-256-cbc", "-K", key.hex(), "-iv", iv.hex(), "-in", plain,
    ).stdout
    assert cipher.read_bytes() == expected


def test_hmac(token, message, tmp_path):
    """The MAC of a generated secret is the one that its value, read back, gives."""
    token.pkcs11_tool(
        "--keygen", "--key-type", "GENERIC:32", "--label", "h", "--id", "06", "--extractable", "--usage-sign",
    )
    token.pkcs11_tool("--read-object", "--type", "secrkey", "--id", "06", "-o", tmp_path / "key")
    key = (tmp_path / "key").read_bytes()
    assert len(key) == 32
    token.pkcs11_tool(
        "--sign", "--mechanism", "SHA256-HMAC", "--id", "06", "-i", message, "-o", tmp_path / "mac",
    )
    assert (tmp_path / "mac").read_bytes() == hmac.digest(key, MESSAGE, "sha256")


def test_digests(token, message, tmp_path):
    for mechanism, name in [
        ("SHA-1", "sha1"), ("SHA256", "sha256"), ("SHA384", "sha384"), ("SHA512", "sha512"),
    ]:
        token.pkcs11_tool("--hash", "--mechanism", mechanism, "-i", message, "-o", tmp_path / name)
        assert (tmp_path / name).read_bytes() == hashlib.new(name, MESSAGE).digest()


def test_derive(token, tmp_path):
    """ECDH on the token gives the secret that openssl computes from the other side."""
    token.pkcs11_tool(
        "--keypairgen", "--key-type", "EC:prime256v1", "--label", "e", "--id", "07", "--usage-derive",
    )
    ours = read_public_key(token, "e", tmp_path / "ours")
    theirs = tmp_path / "theirs.pem"
    token.run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", theirs)
    token.run("openssl", "pkey", "-in", theirs, "-pubout", "-outform", "DER", "-out", tmp_path / "theirs.der")
    token.pkcs11_tool(
        "--derive", "--mechanism", "ECDH1-DERIVE", "--id", "07", "-i", tmp_path / "theirs.der",
        "-o", tmp_path / "secret", "--extractable",
    )
    expected = token.run("openssl", "pkeyutl", "-derive", "-inkey", theirs, "-peerkey", ours).stdout
    assert len(expected) == 32
    assert (tmp_path / "secret").read_bytes() == expected


def test_wrap_and_unwrap(token, tmp_path):
    """A key that left wrapped and came back still decrypts what it encrypted."""
    token.pkcs11_tool("--keypairgen", "--key-type", "rsa:2048", "--label", "w", "--id", "08", "--usage-wrap")
    token.pkcs11_tool("--keygen", "--key-type", "AES:32", "--label", "a", "--id", "09", "--extractable")
    plain, cipher, wrapped, out = (tmp_path / name for name in ("plain", "cipher", "wrapped", "out"))
    plain.write_bytes(os.urandom(100))
    iv = ["--iv", "00" * 16]
    token.pkcs11_tool("--encrypt", "--mechanism", "AES-CBC-PAD", *iv, "--id", "09", "-i", plain, "-o", cipher)
    token.pkcs11_tool(
        "--wrap", "--mechanism", "RSA-PKCS", "--id", "08", "--application-id", "09", "--output-file", wrapped,
    )
    assert wrapped.stat().st_size == 256
    token.pkcs11_tool("--delete-object", "--type", "secrkey", "--id", "09")
    token.pkcs11_tool(
        "--unwrap", "--mechanism", "RSA-PKCS", "--id", "08", "--application-id", "0a",
        "--input-file", wrapped,
        "--key-type", "AES:", "--application-label", "back", "--usage-decrypt",
    )
    token.pkcs11_tool("--decrypt", "--mechanism", "AES-CBC-PAD", *iv, "--id", "0a", "-i", cipher, "-o", out)
    assert out.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_import_key_pair_and_certificate(token, message, tmp_path, kind):
    """A key pair and its certificate from openssl: the token signs, openssl verifies with the certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    token.run(
        "openssl", "req", "-x509", "-newkey", *new, "-nodes", "-keyout", key, "-out", certificate, "-subj",
        "/CN=imported", "-days", "30",
    )
    for source, kind_of, name in [("pkey", "privkey", "key.der"), ("x509", "cert", "certificate.der")]:
        source_file = key if source == "pkey" else certificate
        token.run("openssl", source, "-in", source_file, "-outform", "DER", "-out", tmp_path / name)
        token.pkcs11_tool(
            "--write-object", tmp_path / name, "--type", kind_of, "--label", "imported", "--id", "0b",
            "--usage-sign",
        )
    token.run("openssl", "pkey", "-in", key, "-pubout", "-outform", "DER", "-out", tmp_path / "public.der")
    token.pkcs11_tool(
        "--write-object", tmp_path / "public.der", "--type", "pubkey", "--label", "imported", "--id", "0b",
    )
    listing = token.pkcs11_tool("--list-objects")
    assert listing.count("imported") >= 3
    signature = tmp_path / "signature"
    if kind == "rsa":
        token.pkcs11_tool(
            "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "0b", "-i", message, "-o", signature,
        )
    else:
        (tmp_path / "digest").write_bytes(hashlib.sha256(MESSAGE).digest())
        token.pkcs11_tool(
            "--sign", "--mechanism", "ECDSA", "--signature-format", "openssl", "--id", "0b",
            "-i", tmp_path / "digest", "-o", signature,
        )
    token.pkcs11_tool("--read-object", "--type", "cert", "--id", "0b", "-o", tmp_path / "read.der")
    assert (tmp_path / "read.der").read_bytes() == (tmp_path / "certificate.der").read_bytes()
    token.run("openssl", "x509", "-inform", "DER", "-in", tmp_path / "read.der", "-noout", "-pubkey", "-out",
              tmp_path / "public.pem")
    openssl_verify(token, tmp_path / "public.pem", "sha256", signature, message)


def test_data_object(token, tmp_path):
    (tmp_path / "data").write_bytes(b"some data")
    write = [
        "--write-object", tmp_path / "data", "--type", "data", "--label", "note", "--application-label",
        "app",
    ]
    token.pkcs11_tool(*write, "--private")
    token.pkcs11_tool("--read-object", "--type", "data", "--label", "note", "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"some data"
    command = ["pkcs11-tool", "--module", token.module.path, "--token-label", token.label, "--list-objects"]
    assert b"note" not in token.run(*command).stdout, "a private object is seen without a login"


def test_list_and_delete(token):
    for index in range(3):
        token.pkcs11_tool(
            "--keygen", "--key-type", "AES:16", "--label", f"key-{index}", "--id", f"{index:02}",
        )
    assert re.findall(r"label:\s+(key-\d)", token.pkcs11_tool("--list-objects")) is not None
    token.pkcs11_tool("--delete-object", "--type", "secrkey", "--label", "key-1")
    left = set(re.findall(r"label:\s+(key-\d)", token.pkcs11_tool("--list-objects")))
    assert left == {"key-0", "key-2"}


def test_a_key_survives_its_process(token, message, tmp_path):
    """What one process made, another signs with: each call here is a process of its own."""
    token.pkcs11_tool(
        "--keypairgen", "--key-type", "EC:prime256v1", "--label", "e", "--id", "02", "--usage-sign",
    )
    before = token.pkcs11_tool("--list-objects", "--type", "pubkey")
    after = token.pkcs11_tool("--list-objects", "--type", "pubkey")
    assert before == after and "EC_POINT" in before


def test_always_authenticate(token, message, tmp_path):
    """A key that wants its PIN for each use signs when the context-specific login is right."""
    token.pkcs11_tool(
        "--keypairgen", "--key-type", "rsa:2048", "--label", "r", "--id", "01", "--always-auth",
        "--usage-sign",
    )
    assert "always authenticate" in token.pkcs11_tool("--list-objects", "--type", "privkey").lower()
    pem = read_public_key(token, "r", tmp_path / "public")
    signature = tmp_path / "signature"
    token.pkcs11_tool(
        "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "01", "-i", message, "-o", signature,
    )
    openssl_verify(token, pem, "sha256", signature, message)


def test_random(token):
    command = [
        "pkcs11-tool", "--module", token.module.path, "--token-label", token.label, "--generate-random",
        "64",
    ]
    first, second = (token.run(*command).stdout for _ in range(2))
    assert len(first) >= 64 and first != second


def test_mechanisms_and_interfaces(token):
    mechanisms = token.pkcs11_tool("--list-mechanisms")
    for name in ("RSA-PKCS-KEY-PAIR-GEN", "ECDSA", "AES-CBC-PAD", "SHA256-HMAC", "SHA256-RSA-PKCS-PSS"):
        assert f"\n  {name}" in mechanisms
    if token.module.ours:
        listing = token.run("pkcs11-tool", "--module", token.module.path, "--list-interfaces").stdout.decode()
        for version in ("2.40", "3.0", "3.2"):
            assert f"Interface 'PKCS 11'\n  version: {version}\n" in listing


def test_self_test(token):
    """``pkcs11-tool --test`` runs through without an error, with keys of each kind on the token."""
    if not token.module.ours:
        pytest.skip("SoftHSM 2.6 fails it, for OAEP with SHA-256")
    token.pkcs11_tool("--keypairgen", "--key-type", "rsa:2048", "--label", "r", "--id", "01", "--usage-sign",
                      "--usage-decrypt")
    token.pkcs11_tool(
        "--keypairgen", "--key-type", "EC:prime256v1", "--label", "e", "--id", "02", "--usage-sign",
    )
    output = token.pkcs11_tool("--test", timeout=300)
    assert "No errors" in output, output
    assert "ERR" not in output, output


def test_self_test_of_ec(token):
    if not token.module.ours:
        pytest.skip("SoftHSM 2.6 has no ECDSA-SHA1, which this test uses")
    output = token.pkcs11_tool(
        "--session-rw", "--test-ec", "--key-type", "EC:prime256v1", "--id", "0c", timeout=300,
    )
    assert output.count("OK") >= 1 and "ERR" not in output, output


def test_fork(token):
    """``--test-fork`` initializes the module in a child of the process that uses it."""
    if not token.module.ours:
        pytest.skip("SoftHSM 2.6 tells the child that it is already initialized")
    output = token.pkcs11_tool("--test-fork")
    assert "error" not in output.lower(), output


def test_threads(token):
    """Threads of one process race for C_Initialize, then list slots and read token information at once."""
    if not token.module.ours:
        pytest.skip("SoftHSM 2.6 crashes when two threads initialize it")
    command = ["pkcs11-tool", "--module", token.module.path, "--use-locking"]
    for _ in range(8):
        command += ["--test-threads", "INILSLGISLT0GI"]
    result = token.run(*command, timeout=120)
    output = (result.stdout + result.stderr).decode()
    answers = re.findall(r"(C_\w+)[^\n]* returned (CKR_\w+)", output)
    assert len(answers) >= 8 * 5, output
    for function, answer in answers:
        allowed = {"CKR_OK", "CKR_CRYPTOKI_ALREADY_INITIALIZED"} if function == "C_Initialize" else {"CKR_OK"}
        assert answer in allowed, output
