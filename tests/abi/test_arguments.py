"""Arguments that cannot be, for every function that takes them."""

from __future__ import annotations

import ctypes
import json
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from typing import Any

import pytest
from cryptoki import (
    ULONG_MAX,
    CkMechanism,
    Cryptoki,
    GcmParameters,
    OaepParameters,
    buffer,
    mechanism,
    template,
)

from ferrohsm import constants as ck

ONE_TOKEN = True

FACTS = Path(__file__).resolve().parents[2] / "tools" / "facts" / "abi-3.2.json"
FUNCTIONS = json.loads(FACTS.read_text())["functions"]
IN_SESSION = [row for row in FUNCTIONS if row["args"][0]["name"] == "hSession"]
FAMILIES = ["Encrypt", "Decrypt", "Digest", "Sign", "Verify", "SignRecover", "VerifyRecover"]
ABSURD = (1 << 31, 1 << 32, 1 << 63, ULONG_MAX)


def nothing(type_: str) -> Any:
    """Return NULL or 0 for an argument."""
    return None if type_.endswith("_PTR") else 0


@pytest.mark.parametrize("row", IN_SESSION, ids=lambda row: row["name"])
@pytest.mark.parametrize("handle", [0, ULONG_MAX, 1 << 62], ids=["0", "max", "wild"])
def test_a_session_that_is_none_is_found_out_first(p11: Cryptoki, row: dict[str, Any], handle: int) -> None:
    arguments = [nothing(argument["type"]) for argument in row["args"][1:]]
    if row["name"] in ("C_Login", "C_LoginUser"):
        arguments[0] = 99
    assert p11.rv(row["name"], handle, *arguments) == "CKR_SESSION_HANDLE_INVALID"


NULLS: dict[str, list[tuple[Any, ...]]] = {
    "C_CreateObject": [(None, 0, None), (None, 3, c_ulong(0))],
    "C_FindObjectsInit": [(None, 1)],
    "C_GenerateKey": [(None, None, 0, c_ulong(0)), (mechanism(ck.CKM_AES_KEY_GEN), None, 0, None)],
    "C_GenerateKeyPair": [
        (mechanism(ck.CKM_EC_KEY_PAIR_GEN), None, 0, None, 0, None, c_ulong(0)),
        (mechanism(ck.CKM_EC_KEY_PAIR_GEN), None, 0, None, 0, c_ulong(0), None),
        (mechanism(ck.CKM_EC_KEY_PAIR_GEN), None, 2, None, 0, c_ulong(0), c_ulong(0)),
        (mechanism(ck.CKM_EC_KEY_PAIR_GEN), None, 0, None, 2, c_ulong(0), c_ulong(0)),
        (None, None, 0, None, 0, c_ulong(0), c_ulong(0)),
    ],
    "C_WrapKeyAuthenticated": [
        (None, 1, 1, None, 0, None, c_ulong(0)),
        (mechanism(ck.CKM_AES_GCM), 1, 1, None, 0, None, None),
        (mechanism(ck.CKM_AES_GCM), 1, 1, None, 1, None, c_ulong(0)),
    ],
    "C_UnwrapKeyAuthenticated": [
        (None, 1, b"x", 1, None, 0, None, 0, c_ulong(0)),
        (mechanism(ck.CKM_AES_GCM), 1, None, 1, None, 0, None, 0, c_ulong(0)),
        (mechanism(ck.CKM_AES_GCM), 1, b"x", 1, None, 0, None, 1, c_ulong(0)),
        (mechanism(ck.CKM_AES_GCM), 1, b"x", 1, None, 1, None, 0, c_ulong(0)),
        (mechanism(ck.CKM_AES_GCM), 1, b"x", 1, None, 0, None, 0, None),
    ],
    "C_WrapKey": [(None, 1, 1, None, c_ulong(0)), (mechanism(ck.CKM_AES_KEY_WRAP), 1, 1, None, None)],
    "C_UnwrapKey": [
        (None, 1, b"12345678", 8, None, 0, c_ulong(0)),
        (mechanism(ck.CKM_AES_KEY_WRAP), 1, None, 8, None, 0, c_ulong(0)),
        (mechanism(ck.CKM_AES_KEY_WRAP), 1, b"12345678", ULONG_MAX, None, 0, c_ulong(0)),
        (mechanism(ck.CKM_AES_KEY_WRAP), 1, b"12345678", 8, None, 0, None),
    ],
    "C_DeriveKey": [(None, 1, None, 0, c_ulong(0)), (mechanism(ck.CKM_ECDH1_DERIVE), 1, None, 1, c_ulong(0))],
    "C_EncryptInit": [(None, 1)],
    "C_SignInit": [(None, 1)],
    "C_GenerateRandom": [(None, 1), (None, ULONG_MAX)],
    "C_SeedRandom": [(None, 1)],
    "C_InitPIN": [(None, 4)],
    "C_GetSessionInfo": [(None,)],
    "C_GetObjectSize": [(1, None)],
}


@pytest.mark.parametrize(
    ("function", "arguments"), [(name, arguments) for name, rows in NULLS.items() for arguments in rows]
)
def test_pointers_that_must_not_be_null(
    p11: Cryptoki, session: int, function: str, arguments: tuple[Any, ...]
) -> None:
    assert p11.rv(function, session, *arguments) == "CKR_ARGUMENTS_BAD"


def begun(p11: Cryptoki, session: int, family: str) -> None:
    """Begin an operation with a mechanism that has parts."""
    if family == "Digest":
        p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    elif family in ("Sign", "Verify"):
        key = p11.generic_secret(session, bytes(32), (ck.CKA_SIGN, True), (ck.CKA_VERIFY, True))
        p11(f"C_{family}Init", session, mechanism(ck.CKM_SHA256_HMAC), key)
    else:
        p11(f"C_{family}Init", session, mechanism(ck.CKM_AES_CBC_PAD, bytes(16)), p11.aes(session))


OUT = (c_ubyte * 64)()


@pytest.mark.parametrize("length", [1, *ABSURD], ids=["1", "2^31", "2^32", "2^63", "max"])
@pytest.mark.parametrize("family", ["Encrypt", "Decrypt", "Digest", "Sign", "Verify"])
def test_inputs_that_cannot_be_end_the_operation(
    p11: Cryptoki, session: int, family: str, length: int
) -> None:
    data = None if length == 1 else b"data"
    last = (b"signature", 9) if family == "Verify" else (OUT, c_ulong(64))
    update = (OUT, c_ulong(64)) if family in ("Encrypt", "Decrypt") else ()
    for function, arguments in ((f"C_{family}", last), (f"C_{family}Update", update)):
        begun(p11, session, family)
        assert p11.rv(function, session, data, length, *arguments) == "CKR_ARGUMENTS_BAD"
        assert p11.rv(function, session, b"x", 1, *arguments) == "CKR_OPERATION_NOT_INITIALIZED"


@pytest.mark.parametrize("family", ["Encrypt", "Decrypt", "Digest", "Sign"])
def test_a_length_that_has_no_place(p11: Cryptoki, session: int, family: str) -> None:
    begun(p11, session, family)
    assert p11.rv(f"C_{family}", session, b"x", 1, OUT, None) == "CKR_ARGUMENTS_BAD"
    begun(p11, session, family)
    assert p11.rv(f"C_{family}Final", session, OUT, None) == "CKR_ARGUMENTS_BAD"


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_was_begun(p11: Cryptoki, session: int, family: str) -> None:
    last: tuple[Any, ...] = (b"signature", 9) if family == "Verify" else (OUT, c_ulong(64))
    assert p11.rv(f"C_{family}", session, b"x", 1, *last) == "CKR_OPERATION_NOT_INITIALIZED"
    if "Recover" in family:
        return
    update = (OUT, c_ulong(64)) if family in ("Encrypt", "Decrypt") else ()
    assert p11.rv(f"C_{family}Update", session, b"x", 1, *update) == "CKR_OPERATION_NOT_INITIALIZED"
    assert p11.rv(f"C_{family}Final", session, *last) == "CKR_OPERATION_NOT_INITIALIZED"


def test_keys_that_are_none(p11: Cryptoki, session: int) -> None:
    key, how, data = p11.aes(session, (ck.CKA_WRAP, True)), mechanism(ck.CKM_AES_KEY_WRAP), bytes(24)
    ecb = mechanism(ck.CKM_AES_ECB)
    for function in ("C_EncryptInit", "C_DecryptInit", "C_SignInit", "C_VerifyInit"):
        assert p11.rv(function, session, ecb, 0) in ("CKR_KEY_HANDLE_INVALID", "CKR_MECHANISM_INVALID")
    assert p11.rv("C_EncryptInit", session, ecb, ULONG_MAX) == "CKR_KEY_HANDLE_INVALID"
    refused = p11.rv("C_WrapKey", session, how, 777777, key, None, c_ulong(0))
    assert refused == "CKR_WRAPPING_KEY_HANDLE_INVALID"
    assert p11.rv("C_WrapKey", session, how, key, 777777, None, c_ulong(0)) == "CKR_KEY_HANDLE_INVALID"
    refused = p11.rv("C_UnwrapKey", session, how, 777777, data, 24, None, 0, c_ulong(0))
    assert refused == "CKR_UNWRAPPING_KEY_HANDLE_INVALID"
    derive = mechanism(ck.CKM_AES_ECB_ENCRYPT_DATA)
    assert p11.rv("C_DeriveKey", session, derive, 777777, None, 0, c_ulong(0)) in (
        "CKR_KEY_HANDLE_INVALID",
        "CKR_MECHANISM_PARAM_INVALID",
    )


def gcm(**fields: Any) -> CkMechanism:
    iv = buffer(bytes(12))
    made = mechanism(ck.CKM_AES_GCM, GcmParameters(ctypes.addressof(iv), 12, 96, None, 0, 128))
    made.kept_too = iv  # type: ignore[attr-defined]
    for name, value in fields.items():
        setattr(made.kept, name, value)  # type: ignore[attr-defined]
    return made


def null_with_length(type_: int) -> CkMechanism:
    made = mechanism(type_)
    made.ulParameterLen = 16
    return made


def absurd_length(type_: int) -> CkMechanism:
    made = mechanism(type_, bytes(16))
    made.ulParameterLen = ULONG_MAX
    return made


@pytest.mark.parametrize(
    "how",
    [
        mechanism(ck.CKM_AES_CBC),
        mechanism(ck.CKM_AES_CBC, bytes(15)),
        mechanism(ck.CKM_AES_CBC, bytes(17)),
        null_with_length(ck.CKM_AES_CBC),
        absurd_length(ck.CKM_AES_CBC),
        mechanism(ck.CKM_AES_ECB, bytes(1)),
        mechanism(ck.CKM_AES_CTR, bytes(16)),
        mechanism(ck.CKM_AES_GCM),
        mechanism(ck.CKM_AES_GCM, bytes(40)),
        gcm(pIv=None),
        gcm(ulIvLen=ULONG_MAX),
        gcm(ulIvLen=1 << 31),
        gcm(ulAADLen=1),
        gcm(ulAADLen=1 << 63),
        gcm(ulTagBits=ULONG_MAX),
        gcm(ulTagBits=7),
        gcm(ulIvLen=0, ulIvBits=0),
    ],
)
def test_parameters_that_cannot_be(p11: Cryptoki, session: int, how: CkMechanism) -> None:
    key = p11.aes(session)
    assert p11.rv("C_EncryptInit", session, how, key) == "CKR_MECHANISM_PARAM_INVALID"
    assert p11.rv("C_Encrypt", session, b"x", 1, OUT, c_ulong(64)) == "CKR_OPERATION_NOT_INITIALIZED"


def test_the_right_parameters_are_taken(p11: Cryptoki, session: int) -> None:
    key = p11.aes(session)
    secret = p11.transform("Encrypt", session, gcm(), key, b"plain")
    assert len(secret) == 21
    assert p11.transform("Decrypt", session, gcm(), key, secret) == b"plain"
    wrong = secret[:-1] + bytes([secret[-1] ^ 1])
    p11("C_DecryptInit", session, gcm(), key)
    refused = p11.rv("C_Decrypt", session, wrong, len(wrong), OUT, c_ulong(64))
    assert refused in ("CKR_AEAD_DECRYPT_FAILED", "CKR_ENCRYPTED_DATA_INVALID")
    assert not any(OUT)


def test_parameters_with_pointers_for_rsa(p11: Cryptoki, session: int) -> None:
    public, private = p11.key_pair(
        session,
        ck.CKM_RSA_PKCS_KEY_PAIR_GEN,
        [(ck.CKA_MODULUS_BITS, 2048), (ck.CKA_ENCRYPT, True)],
        [(ck.CKA_DECRYPT, True)],
    )
    label = buffer(b"label")
    right = OaepParameters(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, 1, ctypes.addressof(label), 5)
    how = mechanism(ck.CKM_RSA_PKCS_OAEP, right)
    secret = p11.transform("Encrypt", session, how, public, b"plain")
    assert p11.transform("Decrypt", session, how, private, secret) == b"plain"
    for wrong in (
        OaepParameters(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, 1, None, 5),
        OaepParameters(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, 1, ctypes.addressof(label), ULONG_MAX),
        OaepParameters(0x7777, ck.CKG_MGF1_SHA256, 1, None, 0),
        OaepParameters(ck.CKM_SHA256, 0x7777, 1, None, 0),
    ):
        refused = p11.rv("C_EncryptInit", session, mechanism(ck.CKM_RSA_PKCS_OAEP, wrong), public)
        assert refused == "CKR_MECHANISM_PARAM_INVALID"


def test_mechanisms_that_are_none_or_do_something_else(p11: Cryptoki, session: int) -> None:
    key = p11.aes(session)
    for type_ in (ULONG_MAX, ck.CKM_VENDOR_DEFINED | 5, ck.CKM_SHA256):
        assert p11.rv("C_EncryptInit", session, mechanism(type_), key) == "CKR_MECHANISM_INVALID"
    refused = p11.rv("C_GenerateKey", session, mechanism(ck.CKM_AES_ECB), template(), 0, c_ulong(0))
    assert refused == "CKR_MECHANISM_INVALID"
    refused = p11.rv("C_SignInit", session, mechanism(ck.CKM_ECDSA), key)
    assert refused == "CKR_KEY_TYPE_INCONSISTENT"
    assert p11.rv("C_DigestInit", session, mechanism(ck.CKM_SHA256, b"x")) == "CKR_MECHANISM_PARAM_INVALID"
