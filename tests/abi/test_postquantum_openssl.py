"""ML-DSA, ML-KEM and SLH-DSA against the ``openssl`` command, in both directions, keys going both ways."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding, aes_key_wrap_with_padding
from cryptoki import CkMechanism, Cryptoki, mechanism, template
from engine_support import POSTQUANTUM
from mechanism_parameters import structure

from ferrohsm import constants as ck

if not POSTQUANTUM:
    pytest.skip("the kernels' libcrypto is older than 3.5", allow_module_level=True)
OPENSSL = shutil.which("openssl") or ""
if "SLH-DSA" not in subprocess.run(
    [OPENSSL or "false", "list", "-signature-algorithms"], capture_output=True, text=True, check=False
).stdout:  # fmt: skip
    pytest.skip("the openssl command is older than 3.5", allow_module_level=True)

ONE_TOKEN = True
OPEN = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
MESSAGE, CONTEXT = b"a message", b"a context"
SIGNATURES = {
    "ML-DSA-44": (ck.CKK_ML_DSA, ck.CKP_ML_DSA_44),
    "ML-DSA-65": (ck.CKK_ML_DSA, ck.CKP_ML_DSA_65),
    "ML-DSA-87": (ck.CKK_ML_DSA, ck.CKP_ML_DSA_87),
    "SLH-DSA-SHA2-128f": (ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHA2_128F),
    "SLH-DSA-SHAKE-128f": (ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHAKE_128F),
    "SLH-DSA-SHA2-128s": (ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHA2_128S),
    "SLH-DSA-SHA2-192f": (ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHA2_192F),
    "SLH-DSA-SHAKE-192f": (ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHAKE_192F),
    "SLH-DSA-SHA2-256f": (ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHA2_256F),
    "SLH-DSA-SHAKE-256f": (ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHAKE_256F),
}
MECHANISMS = {ck.CKK_ML_DSA: ck.CKM_ML_DSA, ck.CKK_SLH_DSA: ck.CKM_SLH_DSA}
KEMS = {"ML-KEM-512": ck.CKP_ML_KEM_512, "ML-KEM-768": ck.CKP_ML_KEM_768, "ML-KEM-1024": ck.CKP_ML_KEM_1024}
FORMATS = ("seed-only", "priv-only", "seed-priv")


def openssl(*arguments: Any) -> bytes:
    done = subprocess.run([OPENSSL, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class Exchange:
    """A session with an AES key that both sides know, and a directory for what goes between them."""

    def __init__(self, p11: Cryptoki, session: int, directory: Path) -> None:
        self.p11, self.session, self.directory = p11, session, directory
        self.value = bytes(range(32))
        pairs = [(ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES), (ck.CKA_VALUE, self.value)]
        self.wrapping = p11.create(session, *pairs, (ck.CKA_WRAP, True), (ck.CKA_UNWRAP, True))

    def file(self, name: str, content: bytes = b"") -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def bring_in(self, key_type: int, info: bytes) -> int:
        """Unwrap a PrivateKeyInfo."""
        wrapped = aes_key_wrap_with_padding(self.value, info)
        pairs = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), (ck.CKA_KEY_TYPE, key_type), *OPEN]
        how = mechanism(ck.CKM_AES_KEY_WRAP_KWP)
        arguments = (wrapped, len(wrapped), template(*pairs), len(pairs))
        return self.p11.made("C_UnwrapKey", self.session, how, self.wrapping, *arguments)

    def bring_out(self, key: int) -> Path:
        how = mechanism(ck.CKM_AES_KEY_WRAP_KWP)
        wrapped = self.p11.whole("C_WrapKey", self.session, how, self.wrapping, key)
        return self.file("ours.der", aes_key_unwrap_with_padding(self.value, wrapped))

    def half(self, key: int) -> tuple[int, Path]:
        """Return the public half of a private key, and its file."""
        derive = mechanism(ck.CKM_PUB_KEY_FROM_PRIV_KEY)
        made = self.p11.made("C_DeriveKey", self.session, derive, key, template(), 0)
        info = self.p11.get(self.session, made, ck.CKA_PUBLIC_KEY_INFO)
        return made, self.file("public.der", info)


@pytest.fixture
def exchange(p11: Cryptoki, session: int, tmp_path: Path) -> Exchange:
    return Exchange(p11, session, tmp_path)


def generated(exchange: Exchange, name: str, format: str) -> bytes:
    path = exchange.directory / "theirs.der"
    kind = name.rpartition("-")[0].lower()
    form = [] if name.startswith("SLH") else ["-provparam", f"{kind}.output_formats={format}"]
    openssl("genpkey", "-algorithm", name, *form, "-outform", "DER", "-out", path)
    return path.read_bytes()


def how(type: int, *more: int) -> CkMechanism:
    return mechanism(type, structure(ck.CKH_DETERMINISTIC_REQUIRED, CONTEXT, len(CONTEXT), *more))


OPTIONS = ("-pkeyopt", f"context-string:{CONTEXT.decode()}")
ALWAYS = ("-pkeyopt", "deterministic:1")


@pytest.mark.parametrize("name", SIGNATURES)
@pytest.mark.parametrize("format", FORMATS)
def test_signatures(exchange: Exchange, name: str, format: str) -> None:
    key_type, _ = SIGNATURES[name]
    if key_type == ck.CKK_SLH_DSA and format != FORMATS[0]:
        return  # it has one form only
    p11, session = exchange.p11, exchange.session
    key = exchange.bring_in(key_type, generated(exchange, name, format))
    half, public = exchange.half(key)
    message, signed = exchange.file("message", MESSAGE), exchange.directory / "signature"
    way = how(MECHANISMS[key_type])
    ours = p11.transform("Sign", session, way, key, MESSAGE)
    theirs = exchange.directory / "theirs.der"
    sign = ("pkeyutl", "-sign", "-rawin", "-in", message, *OPTIONS, *ALWAYS, "-out", signed)
    for private in (theirs, exchange.bring_out(key)):
        openssl(*sign, "-inkey", private)
        assert signed.read_bytes() == ours
    verify = ("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-in", message, "-sigfile", signed)
    openssl(*verify, *OPTIONS)
    hedged = mechanism(MECHANISMS[key_type], structure(ck.CKH_HEDGE_REQUIRED, CONTEXT, len(CONTEXT)))
    signed.write_bytes(p11.transform("Sign", session, hedged, key, MESSAGE))
    openssl(*verify, *OPTIONS)
    openssl("pkeyutl", "-sign", "-rawin", "-in", message, *OPTIONS, "-out", signed, "-inkey", theirs)
    signature = signed.read_bytes()
    p11("C_VerifyInit", session, way, half)
    p11("C_Verify", session, MESSAGE, len(MESSAGE), signature, len(signature))


def test_what_we_make_they_read(exchange: Exchange) -> None:
    p11, session = exchange.p11, exchange.session
    for name, (key_type, chosen) in SIGNATURES.items():
        generator = ck.CKM_ML_DSA_KEY_PAIR_GEN if key_type == ck.CKK_ML_DSA else ck.CKM_SLH_DSA_KEY_PAIR_GEN
        _, key = p11.key_pair(session, generator, [(ck.CKA_PARAMETER_SET, chosen)], list(OPEN))
        private = exchange.bring_out(key)
        described = openssl("pkey", "-in", private, "-noout", "-text").decode()
        assert name.lower() in described.lower()
        assert openssl("pkey", "-in", private, "-pubout", "-outform", "DER") == p11.get(
            session, key, ck.CKA_PUBLIC_KEY_INFO
        )


def test_a_hash_that_is_signed(exchange: Exchange) -> None:
    """The command has no HashSLH-DSA, but it signs FIPS 205's M' just as it is."""
    p11, session = exchange.p11, exchange.session
    info = generated(exchange, "SLH-DSA-SHA2-128f", "")
    key = exchange.bring_in(ck.CKK_SLH_DSA, info)
    identifier = bytes.fromhex("0609608648016503040203")
    whole = bytes((1, len(CONTEXT))) + CONTEXT + identifier + hashlib.sha512(MESSAGE).digest()
    message, signed = exchange.file("message", whole), exchange.directory / "signature"
    options = ("-pkeyopt", "message-encoding:0", *ALWAYS)
    private = exchange.directory / "theirs.der"
    openssl("pkeyutl", "-sign", "-rawin", "-in", message, *options, "-out", signed, "-inkey", private)
    ours = p11.transform("Sign", session, how(ck.CKM_HASH_SLH_DSA_SHA512), key, MESSAGE)
    assert signed.read_bytes() == ours


@pytest.mark.parametrize("name", KEMS)
@pytest.mark.parametrize("format", FORMATS)
def test_kem(exchange: Exchange, name: str, format: str) -> None:
    p11, session = exchange.p11, exchange.session
    key = exchange.bring_in(ck.CKK_ML_KEM, generated(exchange, name, format))
    half, public = exchange.half(key)
    ciphertext, secret = exchange.directory / "ciphertext", exchange.directory / "secret"
    openssl("pkeyutl", "-encap", "-pubin", "-inkey", public, "-out", ciphertext, "-secret", secret)
    sent = ciphertext.read_bytes()
    pairs = [(ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), *OPEN]
    arguments = (template(*pairs), len(pairs))
    way = mechanism(ck.CKM_ML_KEM)
    made = p11.made("C_DecapsulateKey", session, way, key, *arguments, sent, len(sent))
    assert p11.get(session, made, ck.CKA_VALUE) == secret.read_bytes()
    room, length, handle = (ctypes.c_ubyte * 2048)(), ctypes.c_ulong(2048), ctypes.c_ulong(0)
    p11("C_EncapsulateKey", session, way, half, *arguments, room, length, handle)
    ciphertext.write_bytes(bytes(room[: length.value]))
    for private in (exchange.directory / "theirs.der", exchange.bring_out(key)):
        openssl("pkeyutl", "-decap", "-inkey", private, "-in", ciphertext, "-secret", secret)
        assert secret.read_bytes() == p11.get(session, handle.value, ck.CKA_VALUE)
