"""One configuration, three keepers of keys: our software token, a TPM, AWS KMS. Programs use them alike."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import initialize_token
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptoki import PIN, Cryptoki, mechanism

from ferrohsm import constants as ck
from ferrohsm.testing.subject import in_threads

CONFIGURATION = """\
data_dir = "{home}/data"

[kdf]
memory_kib = 7168
passes = 1

[slots.ours]
adapter = "software"
free_slot = true

[slots.chip]
adapter = "tpm2"
tcti = "{tcti}"
exclusive = true

[slots.cloud]
adapter = "aws_kms"
endpoint = "{endpoint}"
region = "eu-central-1"
prefix = "mixed/"
"""
DATA = b"signed by three"


def client(kms: Any) -> Any:
    """Return KMS as its administrator has it."""
    import boto3

    return boto3.client("kms", endpoint_url=kms.endpoint, region_name="eu-central-1")


@pytest.fixture
def home(tpm: Any, kms: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the configuration, and a key that somebody made in KMS."""
    file = tmp_path / "ferrohsm.toml"
    file.write_text(CONFIGURATION.format(home=tmp_path, tcti=tpm.tcti, endpoint=kms.endpoint))
    monkeypatch.setenv("FERROHSM_CONF", str(file))
    admin = client(kms)
    key = admin.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    admin.create_alias(AliasName="alias/mixed/release-key", TargetKeyId=key)
    yield tmp_path
    admin.delete_alias(AliasName="alias/mixed/release-key")


@pytest.fixture
def p11(home: Path, module_path: Path) -> Iterator[Cryptoki]:
    """The module in this process, with tokens in our slot and in the TPM's."""
    library = Cryptoki(str(module_path))
    library("C_Initialize", None)
    try:
        for label in (b"ours", b"chip"):
            initialize_token(library, named_slots(library)[label], label)
        yield library
    finally:
        library("C_Finalize", None)


def named_slots(p11: Cryptoki) -> dict[bytes, int]:
    """Return the first slot of each section, by the section's name: it ends the description."""
    from cryptoki import buffer

    found: dict[bytes, int] = {}
    for slot in p11.slots():
        info = buffer(bytes(112))
        p11("C_GetSlotInfo", slot, info)
        found.setdefault(bytes(info)[:64].rstrip().rsplit(b" ", 1)[-1], slot)
    return found


def verify(public: bytes, signature: bytes, data: bytes = DATA) -> None:
    """Check a signature outside of the module."""
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    key = load_der_public_key(public)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))


def test_one_process_signs_with_all_three(p11: Cryptoki) -> None:
    keys = []
    for name, slot in named_slots(p11).items():
        session = p11.open(slot)
        if name != b"cloud":
            p11.login(session)
            on_token = (ck.CKA_TOKEN, True)
            p11.key_pair(
                session,
                ck.CKM_EC_KEY_PAIR_GEN,
                [(ck.CKA_EC_PARAMS, bytes.fromhex("06082a8648ce3d030107")), on_token],
                [on_token, (ck.CKA_SIGN, True), (ck.CKA_LABEL, name)],
            )
        (private,) = p11.find(session, (ck.CKA_CLASS, ck.CKO_PRIVATE_KEY))
        keys.append((slot, name, session, private, p11.get(session, private, ck.CKA_PUBLIC_KEY_INFO)))
    assert {name for _, name, *_ in keys} == {b"ours", b"chip", b"cloud"}
    how = mechanism(ck.CKM_ECDSA_SHA256)
    for _, _, session, private, public in keys:
        verify(public, p11.transform("Sign", session, how, private, DATA))

    def work(number: int) -> None:
        slot, _, _, private, public = keys[number % 3]
        session = p11.open(slot)
        for call in range(3):
            data = bytes([number, call])
            verify(public, p11.transform("Sign", session, how, private, data), data)

    assert in_threads(9, work) == []


def test_programs_use_all_three(
    p11: Cryptoki, home: Path, kms: Any, module_path: Path, need: Callable[..., str]
) -> None:
    p11("C_Finalize", None)
    tool = [need("pkcs11-tool", package="opensc"), "--module", str(module_path)]
    openssl = need("openssl", package="openssl")

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=home,
            env={**os.environ, **kms.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    (home / "data.bin").write_bytes(DATA)
    pin = ["--login", "--pin", PIN.decode()]
    try:
        for label, login in (("ours", pin), ("chip", pin), ("cloud", [])):
            token = [*tool, "--token-label", label, *login]
            if login:
                run(
                    *token,
                    "--keypairgen",
                    "--key-type",
                    "EC:prime256v1",
                    "--label",
                    "release-key",
                    "--id",
                    "07",
                )
            sign = ["--sign", "-m", "ECDSA-SHA256", "--signature-format", "openssl"]
            run(*token, *sign, "--input-file", "data.bin", "--output-file", f"{label}.sig")
            run(
                *token,
                "--read-object",
                "--type",
                "pubkey",
                "--label",
                "release-key",
                "--output-file",
                f"{label}.der",
            )
            check = ["dgst", "-sha256", "-verify", f"{label}.der", "-keyform", "DER", "-signature"]
            assert "Verified OK" in run(openssl, *check, f"{label}.sig", "data.bin")
    finally:
        p11("C_Initialize", None)
