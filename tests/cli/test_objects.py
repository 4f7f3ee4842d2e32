"""Keys and certificates: made, listed, brought in, taken out; another program says whether they are right."""

from __future__ import annotations

import argparse
import errno
import json
import os
import stat

import pytest

from ferrohsm.cli import exporting, key, view

USER = ("--pin-env", "PIN")
KEY_SHAPE = {"object", "class", "type", "label", "id", "private", "size", "curve", "use"}
SECRET_SHAPE = KEY_SHAPE | {"sensitive", "extractable"}
MESSAGE = b"a message\n"

GENERATED = [
    (["rsa", "--bits", "2048"], "rsa", 2048, None, ["decrypt", "sign"]),
    (["ec"], "ec", None, "P-256", ["sign", "derive"]),
    (["ec", "--curve", "brainpoolP384r1", "--use", "sign"], "ec", None, "brainpoolP384r1", ["sign"]),
    (["ed25519"], "ec_edwards", None, "ed25519", ["sign"]),
    (["ed448"], "ec_edwards", None, "ed448", ["sign"]),
    (["x25519"], "ec_montgomery", None, "x25519", ["derive"]),
    (["x448"], "ec_montgomery", None, "x448", ["derive"]),
]


def objects(ferrohsm, *words):
    return ferrohsm.json("object", "list", *USER, *words)["objects"]


@pytest.mark.parametrize(("words", "kind", "size", "curve", "use"), GENERATED, ids=lambda value: str(value))
def test_generate_a_pair(ferrohsm, token, words, kind, size, curve, use):
    made = ferrohsm.json("key", "generate", *words, "--label", "web", *USER)
    public, private = made["public"], made["private"]
    assert set(public) == KEY_SHAPE and set(private) == SECRET_SHAPE
    for half in (public, private):
        assert (half["type"], half["size"], half["curve"], half["label"]) == (kind, size, curve, "web")
    assert private["use"] == use
    assert (private["private"], private["sensitive"], private["extractable"]) == (True, True, False)
    assert public["private"] is False
    assert public["id"] == private["id"] and len(public["id"]) == 40
    assert objects(ferrohsm) == sorted((public, private), key=lambda shape: shape["object"])
    assert ferrohsm.json("object", "list", "--public")["objects"] == [public]


@pytest.mark.parametrize(
    ("words", "kind", "size"),
    [
        (["aes"], "aes", 256),
        (["aes", "--bits", "128", "--use", "wrap,unwrap"], "aes", 128),
        (["generic", "--bits", "512"], "generic_secret", 512),
        (["hmac"], "sha256_hmac", 256),
        (["hmac", "--hash", "sha1"], "sha_1_hmac", 160),
        (["hmac", "--hash", "sha512", "--bits", "256"], "sha512_hmac", 256),
    ],
)
def test_generate_a_secret(ferrohsm, token, words, kind, size):
    made = ferrohsm.json("key", "generate", *words, "--id", "0a:1b", *USER)["secret"]
    assert set(made) == SECRET_SHAPE
    assert (made["type"], made["size"], made["id"], made["class"]) == (kind, size, "0a1b", "secret")
    if "--use" in words:
        assert made["use"] == ["wrap", "unwrap"]
    assert objects(ferrohsm) == [made]


def test_curves_are_those_of_the_specification():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    named = {
        "P-224": ec.SECP224R1, "P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1,
        "secp256k1": ec.SECP256K1, "brainpoolP256r1": ec.BrainpoolP256R1,
        "brainpoolP384r1": ec.BrainpoolP384R1, "brainpoolP512r1": ec.BrainpoolP512R1,
    }  # fmt: skip
    for name, curve in named.items():
        der = ec.generate_private_key(curve()).public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )  # fmt: skip
        assert bytes.fromhex(view.CURVES[name]) in der


@pytest.mark.parametrize("curve", key._EC_CURVES)
def test_every_curve_that_is_offered(ferrohsm, token, curve):
    made = ferrohsm.json("key", "generate", "ec", "--curve", curve, *USER)
    assert {made[half]["curve"] for half in ("public", "private")} == {curve}


def test_always_authenticate(ferrohsm, token):
    ferrohsm("key", "generate", "ec", "--always-authenticate", *USER)
    (shown,) = ferrohsm.json("object", "show", "--class", "private", *USER)["objects"]
    assert shown["attributes"]["CKA_ALWAYS_AUTHENTICATE"] is True


def test_show(ferrohsm, token):
    ferrohsm("key", "generate", "rsa", "--bits", "2048", "--label", "r", *USER)
    (shown,) = ferrohsm.json("object", "show", "--label", "r", "--class", "private", *USER)["objects"]
    attributes = shown["attributes"]
    assert attributes["CKA_KEY_TYPE"] == "CKK_RSA"
    assert attributes["CKA_KEY_GEN_MECHANISM"] == "CKM_RSA_PKCS_KEY_PAIR_GEN"
    assert attributes["CKA_PUBLIC_EXPONENT"] == "010001"
    assert attributes["CKA_LOCAL"] is True
    for name in ("CKA_PRIVATE_EXPONENT", "CKA_PRIME_1", "CKA_COEFFICIENT"):
        assert attributes[name] == "(sensitive)"
    assert "CKA_PRIME_1 (sensitive)" in ferrohsm("object", "show", "--class", "private", *USER).stdout


def test_text_from_a_token_does_not_act_on_the_terminal(ferrohsm, token, home):
    """A label may hold anything; what is printed of it is printable."""
    home.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "k.pem")
    ferrohsm("object", "import", "k.pem", "--label", "a\x1b[2Jb\nc", *USER)
    text = ferrohsm("object", "list", *USER).stdout
    assert "\x1b" not in text and text.count("\n") == 3
    assert objects(ferrohsm)[0]["label"] == "a\x1b[2Jb\nc"


def test_delete(ferrohsm, token):
    for label in ("keep", "drop"):
        ferrohsm("key", "generate", "aes", "--label", label, *USER)
    ferrohsm("object", "delete", "--label", "drop", *USER, code=1)
    assert len(objects(ferrohsm)) == 2
    assert len(ferrohsm.json("object", "delete", "--label", "drop", "--yes", *USER)["deleted"]) == 1
    assert [shape["label"] for shape in objects(ferrohsm)] == ["keep"]
    ferrohsm("object", "delete", "--label", "drop", "--yes", *USER, code=3)


KEYS = {
    "rsa": ["-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ec": ["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "ed25519": ["-algorithm", "ed25519"],
    "x25519": ["-algorithm", "x25519"],
}


@pytest.mark.parametrize("form", ["pem", "der", "encrypted", "openssh"])
@pytest.mark.parametrize("kind", KEYS)
def test_import_and_export_give_the_same_key(ferrohsm, token, home, openssl, kind, form):
    openssl("genpkey", *KEYS[kind], "-out", "key.pem")
    source = "key.pem"
    if form == "der":
        openssl("pkey", "-in", "key.pem", "-outform", "der", "-out", "key.der")
        source = "key.der"
    elif form == "encrypted":
        openssl("pkcs8", "-topk8", "-in", "key.pem", "-out", "key.enc", "-passout", "pass:file-password-7")
        source = "key.enc"
    elif form == "openssh":
        if kind == "x25519":
            pytest.skip("OpenSSH has no such keys")
        source = "key.ssh"
        write_openssh(home.directory / "key.pem", home.directory / source)
    made = ferrohsm.json(
        "object", "import", source, "--label", "k", "--extractable", "--password-env", "PW", *USER
    )
    assert [shape["class"] for shape in made["objects"]] == ["private", "public"]
    ferrohsm("object", "export", "--label", "k", "--class", "private", "--out", "out.pem", "--plain", *USER)
    assert stat.S_IMODE(os.stat(home.directory / "out.pem").st_mode) == 0o600
    text = ["pkey", "-text", "-noout", "-in"]
    assert openssl(*text, "out.pem") == openssl(*text, "key.pem")
    public = ferrohsm("object", "export", "--label", "k", "--class", "public", "--public").stdout
    assert public.encode() == openssl("pkey", "-in", "key.pem", "-pubout")


def write_openssh(source, target):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(source.read_bytes(), None)
    target.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )


def test_what_was_exported_is_encrypted_unless_plain_is_said(ferrohsm, token, home, openssl):
    ferrohsm("key", "generate", "ec", "--label", "k", "--extractable", *USER)
    choose = ["object", "export", "--label", "k", "--class", "private", *USER]
    ferrohsm(*choose, "--out", "k.pem", "--password-env", "PW")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (home.directory / "k.pem").read_bytes()
    private = openssl("pkey", "-in", "k.pem", "-passin", "pass:file-password-7", "-pubout")
    assert (
        private.decode()
        == ferrohsm("object", "export", "--label", "k", "--class", "public", "--public").stdout
    )
    assert "--force replaces it" in ferrohsm.error(*choose, "--out", "k.pem", "--plain")
    ferrohsm(*choose, "--out", "k.pem", "--plain", "--force")
    assert b"BEGIN PRIVATE KEY" in (home.directory / "k.pem").read_bytes()
    ferrohsm.error(*choose, code=2)
    ferrohsm.error(*choose, "--out", "x", "--plain", "--password-env", "PW", code=2)
    assert sorted(path.name for path in home.directory.glob("k.pem*")) == ["k.pem"]


def test_pkcs12_both_ways(ferrohsm, token, home, openssl):
    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "k.pem",
        "-out",
        "c.pem",
        "-subj",
        "/CN=web",
    )
    bundle = ["-inkey", "k.pem", "-in", "c.pem", "-out", "b.p12", "-name", "friendly"]
    openssl("pkcs12", "-export", *bundle, "-passout", "pass:file-password-7")
    assert "the password is wrong" in ferrohsm.error(
        "object", "import", "b.p12", "--password-env", "NEW", *USER
    )
    made = ferrohsm.json("object", "import", "b.p12", "--extractable", "--password-env", "PW", *USER)[
        "objects"
    ]
    assert [shape["class"] for shape in made] == ["private", "public", "certificate"]
    assert {shape["label"] for shape in made} == {"friendly"}
    assert len({shape["id"] for shape in made}) == 1
    assert made[2]["subject"] == "CN=web"
    choose = ["--class", "private", "--format", "pkcs12", "--out", "o.p12", "--password-env", "PW"]
    ferrohsm("object", "export", *choose, *USER)
    opened = openssl("pkcs12", "-in", "o.p12", "-nodes", "-passin", "pass:file-password-7")
    key = openssl("pkey", input=opened)
    assert key == openssl("pkey", "-in", "k.pem")
    assert openssl("x509", input=opened) == openssl("x509", "-in", "c.pem")


def test_certificates(ferrohsm, token, home, openssl):
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ("one", "two"):
        openssl(*request, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
    chain = (
        (home.directory / "one.crt").read_bytes() + b"comment\n" + (home.directory / "two.crt").read_bytes()
    )
    made = ferrohsm.json("object", "import", "-", *USER, input=chain)["objects"]
    assert [shape["label"] for shape in made] == ["one", "two"]
    out = ferrohsm("object", "export", "--label", "two", "--public").stdout
    assert out.encode() == openssl("x509", "-in", "two.crt")
    ferrohsm("object", "export", "--label", "one", "--format", "der", "--out", "one.der", "--public")
    assert (home.directory / "one.der").read_bytes() == openssl("x509", "-in", "one.crt", "-outform", "der")
    key = ferrohsm.json("object", "import", "one.key", "--no-public", *USER)["objects"]
    assert [shape["id"] for shape in key] == [made[0]["id"]]


def test_raw_secrets(ferrohsm, token, home):
    value = bytes(range(32))
    (home.directory / "k.bin").write_bytes(value)
    made = ferrohsm.json("object", "import", "k.bin", "--type", "aes", "--label", "k", "--extractable", *USER)
    assert (made["objects"][0]["type"], made["objects"][0]["size"]) == ("aes", 256)
    choose = ["object", "export", "--label", "k", *USER, "--out"]
    ferrohsm.error(*choose, "o.bin", code=2)
    ferrohsm(*choose, "o.bin", "--plain")
    assert (home.directory / "o.bin").read_bytes() == value
    assert ferrohsm(*choose, "-", "--plain", "--format", "hex").stdout == value.hex() + "\n"
    hexed = ["object", "import", "-", "--type", "sha256-hmac", "--hex", "--label", "h", *USER]
    assert ferrohsm.json(*hexed, input=value.hex())["objects"][0]["type"] == "sha256_hmac"
    assert "is not hexadecimal" in ferrohsm.error(*hexed, input="xyz")
    ferrohsm.error("object", "import", "k.bin", "--hex", *USER, code=2)
    (home.directory / "bad.bin").write_bytes(b"x" * 17)
    ferrohsm.error("object", "import", "bad.bin", "--type", "aes", *USER)


@pytest.mark.parametrize("words", [["rsa", "--bits", "2048"], ["ec"], ["aes"]], ids=lambda words: words[0])
def test_what_is_not_extractable_stays(ferrohsm, token, home, words):
    ferrohsm("key", "generate", *words, "--label", "k", *USER)
    kind = "secret" if words == ["aes"] else "private"
    said = ferrohsm.error("object", "export", "--label", "k", "--class", kind, "--out", "k", "--plain", *USER)
    assert "CKR_KEY_UNEXTRACTABLE" in said
    assert not (home.directory / "k").exists()


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\x30\x03\x02\x01\x00", b"\x30\x80", b"-----BEGIN X", b"\x30"]
)
def test_nonsense_is_refused(ferrohsm, token, home, content):
    (home.directory / "f").write_bytes(content)
    ferrohsm.error("object", "import", "f", "--password-env", "PW", *USER)
    (home.directory / "g").write_bytes(
        b"-----BEGIN PRIVATE KEY-----\n" + content + b"\n-----END PRIVATE KEY-----\n"
    )
    ferrohsm.error("object", "import", "g", "--password-env", "PW", *USER)
    assert objects(ferrohsm) == []


def test_the_key_signs_for_another_program(ferrohsm, token, home, need, openssl):
    """Made by the command, used by pkcs11-tool, verified by OpenSSL."""
    tool = need("pkcs11-tool", package="opensc")
    ferrohsm("key", "generate", "ec", "--label", "web", "--id", "07", *USER)
    (home.directory / "m").write_bytes(MESSAGE)
    sign = ["--sign", "--mechanism", "ECDSA-SHA256", "--signature-format", "openssl", "--id", "07"]
    home.run(
        tool, "--module", home.module.path, "--login", "--pin", "env:PIN", *sign, "-i", "m", "-o", "s",
        environment={"PIN": "user-pin-0815"},
    )  # fmt: skip
    ferrohsm("object", "export", "--label", "web", "--class", "public", "--out", "p.pem", "--public")
    openssl("dgst", "-sha256", "-verify", "p.pem", "-signature", "s", "m")


def test_json_errors_leave_stdout_empty(ferrohsm, token):
    done = ferrohsm("object", "list", "--json", "--pin-env", "NEW", code=4)
    assert done.stdout == ""
    assert json.loads(done.stderr)["error"]["name"] == "CKR_PIN_INCORRECT"


@pytest.mark.parametrize("force", [False, True])
def test_nothing_of_an_export_that_failed_is_left(tmp_path, monkeypatch, force):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    place = tmp_path / "web.key"
    arguments = argparse.Namespace(out=str(place), force=force)
    with pytest.raises(OSError, match="no space left"):
        exporting._write(arguments, bytearray(b"a private key"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [words for words, *_ in GENERATED if words[0] not in ("x25519", "x448")])
def test_a_public_key_is_made_of_its_parts_where_the_module_has_only_those(words):
    """SoftHSM 2.6, behind a bridge, has no CKA_PUBLIC_KEY_INFO."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from ferrohsm import constants as ck
    from ferrohsm.cli import formats

    private = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ec": lambda: ec.generate_private_key(ec.BrainpoolP384R1() if "--curve" in words else ec.SECP256R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
    }[words[0]]()
    public = private.public_key()
    parts = formats.public(public).attributes
    made = formats.public_info(lambda attribute: bytes(parts.get(attribute, b"")))
    assert made == public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    parts.pop(ck.CKA_PUBLIC_EXPONENT, None)
    parts.pop(ck.CKA_EC_POINT, None)
    assert formats.public_info(lambda attribute: bytes(parts.get(attribute, b""))) == b""
