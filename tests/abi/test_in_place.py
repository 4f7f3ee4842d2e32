"""Input and output may be one buffer (Section 5.2): the result is that of what the buffer held."""

from __future__ import annotations

import ctypes
from ctypes import c_ubyte, c_ulong

import pytest
from cryptoki import CkMechanism, Cryptoki, GcmParameters, buffer, mechanism

from ferrohsm import constants as ck

ONE_TOKEN = True

EDWARDS = {"Ed25519": (bytes.fromhex("06032b6570"), 64), "Ed448": (bytes.fromhex("06032b6571"), 114)}
MESSAGE = bytes(range(64))


def in_place(
    p11: Cryptoki, family: str, session: int, how: CkMechanism, key: int, data: bytes, shift: int = 0
) -> bytes:
    """Do C_<family> with the result `shift` bytes behind the data, which it overwrites."""
    memory = (c_ubyte * 1024)(*data)
    out, length = ctypes.addressof(memory) + shift, c_ulong(1024 - shift)
    place = (c_ubyte * (1024 - shift)).from_address(out)
    p11(f"C_{family}Init", session, how, key)
    p11(f"C_{family}", session, memory, len(data), place, length)
    return bytes(place[: length.value])


@pytest.mark.parametrize("begun", ["for the first time", "again"])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("curve", EDWARDS)
def test_eddsa_in_place(p11: Cryptoki, session: int, curve: str, shift: int, begun: str) -> None:
    """One nonce for two challenges would give the private key away, so the two must be equal."""
    parameters, size = EDWARDS[curve]
    how, message = mechanism(ck.CKM_EDDSA), bytes(range(size + 20))
    template = [(ck.CKA_EC_PARAMS, parameters)]
    public, private = p11.key_pair(session, ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, template, [])
    if begun == "again":
        p11.transform("Sign", session, how, private, b"before")
    signature = in_place(p11, "Sign", session, how, private, message, shift)
    assert signature == p11.transform("Sign", session, how, private, message)
    p11("C_VerifyInit", session, how, public)
    p11("C_Verify", session, message, len(message), signature, len(signature))


def gcm() -> CkMechanism:
    iv = buffer(bytes(12))
    how = mechanism(ck.CKM_AES_GCM, GcmParameters(ctypes.addressof(iv), 12, 96, None, 0, 128))
    how.iv = iv  # type: ignore[attr-defined]
    return how


CIPHERS = {
    "ECB": mechanism(ck.CKM_AES_ECB),
    "CBC": mechanism(ck.CKM_AES_CBC, bytes(16)),
    "CBC with padding": mechanism(ck.CKM_AES_CBC_PAD, bytes(16)),
    "CTR": mechanism(ck.CKM_AES_CTR, bytes(c_ulong(128)) + bytes(16)),
    "GCM": gcm(),
    "key wrap": mechanism(ck.CKM_AES_KEY_WRAP),
    "key wrap with padding": mechanism(ck.CKM_AES_KEY_WRAP_KWP),
}


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("mode", CIPHERS)
def test_ciphers_in_place(p11: Cryptoki, session: int, mode: str, shift: int) -> None:
    key, how = p11.aes(session), CIPHERS[mode]
    for _ in range(2):  # asked of the core, and remembered
        apart = p11.transform("Encrypt", session, how, key, MESSAGE)
        assert in_place(p11, "Encrypt", session, how, key, MESSAGE, shift) == apart
        assert in_place(p11, "Decrypt", session, how, key, apart, shift) == MESSAGE


def test_signatures_in_place(p11: Cryptoki, session: int) -> None:
    """Those that are the same each time are compared, the others verified."""
    key = p11.generic_secret(session, bytes(32), (ck.CKA_SIGN, True))
    rsa = [(ck.CKA_MODULUS_BITS, 2048)]
    public, private = p11.key_pair(session, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, rsa, [])
    for how, signer in (
        (mechanism(ck.CKM_SHA256_HMAC), key),
        (mechanism(ck.CKM_RSA_PKCS), private),
        (mechanism(ck.CKM_SHA256_RSA_PKCS), private),
    ):
        for _ in range(2):
            apart = p11.transform("Sign", session, how, signer, MESSAGE)
            assert in_place(p11, "Sign", session, how, signer, MESSAGE) == apart
    for _ in range(2):
        encrypted = in_place(p11, "Encrypt", session, mechanism(ck.CKM_RSA_PKCS), public, MESSAGE)
        assert in_place(p11, "Decrypt", session, mechanism(ck.CKM_RSA_PKCS), private, encrypted) == MESSAGE
    public, private = p11.ec(session)
    for name in (ck.CKM_ECDSA, ck.CKM_ECDSA_SHA256):
        for _ in range(2):
            how = mechanism(name)
            signature = in_place(p11, "Sign", session, how, private, MESSAGE)
            p11("C_VerifyInit", session, how, public)
            p11("C_Verify", session, MESSAGE, len(MESSAGE), signature, len(signature))
