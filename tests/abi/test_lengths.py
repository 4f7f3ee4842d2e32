"""Section 5.2: a query consumes nothing, a buffer too small keeps the operation alive, an error ends it."""

from __future__ import annotations

import hashlib
from ctypes import c_ubyte, c_ulong

import pytest
from cryptoki import PIN, CkMechanism, Cryptoki, mechanism, template

from ferrohsm import constants as ck

ONE_TOKEN = True

IV = bytes(16)
DATA = b"The quick brown fox jumps"


def too_small_then_right(p11: Cryptoki, function: str, session: int, *arguments: object) -> bytes:
    """Query, fail with one byte less, then succeed with exactly as much; return the output."""
    length = c_ulong(0)
    p11(function, session, *arguments, None, length)
    needed = length.value
    if needed:
        memory, length = (c_ubyte * needed)(), c_ulong(needed - 1)
        assert p11.rv(function, session, *arguments, memory, length) == "CKR_BUFFER_TOO_SMALL"
        assert length.value == needed
        assert not any(memory)
    memory, length = (c_ubyte * max(needed, 1))(), c_ulong(needed)
    p11(function, session, *arguments, memory, length)
    assert length.value == needed
    return bytes(memory[:needed])


def ended(p11: Cryptoki, function: str, session: int) -> bool:
    return p11.rv(function, session, (c_ubyte * 64)(), c_ulong(64)) == "CKR_OPERATION_NOT_INITIALIZED"


def test_digest_in_one_and_in_parts(p11: Cryptoki, session: int) -> None:
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    digest = too_small_then_right(p11, "C_Digest", session, DATA, len(DATA))
    assert digest == hashlib.sha256(DATA).digest()
    assert ended(p11, "C_DigestFinal", session)
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    p11("C_DigestUpdate", session, DATA[:5], 5)
    p11("C_DigestUpdate", session, None, 0)
    p11("C_DigestUpdate", session, DATA[5:], len(DATA) - 5)
    assert too_small_then_right(p11, "C_DigestFinal", session) == digest
    assert ended(p11, "C_DigestFinal", session)


def test_digest_of_nothing(p11: Cryptoki, session: int) -> None:
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA_1))
    assert p11.whole("C_Digest", session, None, 0) == hashlib.sha1(b"", usedforsecurity=False).digest()


def test_digest_key(p11: Cryptoki, session: int) -> None:
    key = p11.generic_secret(session, b"key material", (ck.CKA_EXTRACTABLE, True), (ck.CKA_SENSITIVE, False))
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    p11("C_DigestUpdate", session, b"before ", 7)
    p11("C_DigestKey", session, key)
    assert p11.whole("C_DigestFinal", session) == hashlib.sha256(b"before key material").digest()
    assert p11.rv("C_DigestKey", session, key) == "CKR_OPERATION_NOT_INITIALIZED"
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    assert p11.rv("C_DigestKey", session, 12345) == "CKR_KEY_HANDLE_INVALID"


def test_encrypt_in_one_and_in_parts(p11: Cryptoki, session: int) -> None:
    key, how = p11.aes(session), mechanism(ck.CKM_AES_CBC_PAD, IV)
    p11("C_EncryptInit", session, how, key)
    whole = too_small_then_right(p11, "C_Encrypt", session, DATA, len(DATA))
    assert len(whole) == 32
    p11("C_EncryptInit", session, how, key)
    parts = too_small_then_right(p11, "C_EncryptUpdate", session, DATA, len(DATA))
    parts += too_small_then_right(p11, "C_EncryptFinal", session)
    assert parts == whole
    assert ended(p11, "C_EncryptFinal", session)


def test_decrypt_delivers_into_a_buffer_below_the_bound(p11: Cryptoki, session: int) -> None:
    key, how = p11.aes(session), mechanism(ck.CKM_AES_CBC_PAD, IV)
    secret = p11.transform("Encrypt", session, how, key, DATA)
    p11("C_DecryptInit", session, how, key)
    memory, length = (c_ubyte * len(DATA))(), c_ulong(0)
    p11("C_Decrypt", session, secret, len(secret), None, length)
    assert length.value >= len(DATA)
    length.value = len(DATA)
    p11("C_Decrypt", session, secret, len(secret), memory, length)
    assert bytes(memory) == DATA


def test_decrypt_holds_what_did_not_fit(p11: Cryptoki, session: int) -> None:
    key, how = p11.aes(session), mechanism(ck.CKM_AES_CBC_PAD, IV)
    secret = p11.transform("Encrypt", session, how, key, DATA)
    p11("C_DecryptInit", session, how, key)
    memory, length = (c_ubyte * 64)(), c_ulong(len(DATA) - 1)
    assert p11.rv("C_Decrypt", session, secret, len(secret), memory, length) == "CKR_BUFFER_TOO_SMALL"
    assert length.value == len(DATA)
    length.value = 0
    p11("C_Decrypt", session, secret, len(secret), None, length)
    assert length.value == len(DATA)
    p11("C_Decrypt", session, secret, len(secret), memory, length)
    assert bytes(memory[: length.value]) == DATA
    assert ended(p11, "C_DecryptFinal", session)


def test_a_held_result_is_not_given_for_another_input(p11: Cryptoki, session: int) -> None:
    key, how = p11.aes(session), mechanism(ck.CKM_AES_CBC_PAD, IV)
    secret = p11.transform("Encrypt", session, how, key, DATA)
    p11("C_DecryptInit", session, how, key)
    p11.rv("C_Decrypt", session, secret, len(secret), (c_ubyte * 1)(), c_ulong(1))
    refused = p11.rv("C_Decrypt", session, bytes(32), 32, (c_ubyte * 64)(), c_ulong(64))
    assert refused == "CKR_OPERATION_NOT_INITIALIZED"


def test_decrypt_final_holds_too(p11: Cryptoki, session: int) -> None:
    key, how = p11.aes(session), mechanism(ck.CKM_AES_CBC_PAD, IV)
    secret = p11.transform("Encrypt", session, how, key, DATA)
    p11("C_DecryptInit", session, how, key)
    plain = p11.whole("C_DecryptUpdate", session, secret, len(secret))
    memory, length = (c_ubyte * 64)(), c_ulong(1)
    assert p11.rv("C_DecryptFinal", session, memory, length) == "CKR_BUFFER_TOO_SMALL"
    assert p11.rv("C_DecryptFinal", session, memory, length) == "CKR_OK"
    assert plain + bytes(memory[: length.value]) == DATA


def test_input_and_output_may_be_the_same_memory(p11: Cryptoki, session: int) -> None:
    key, how = p11.aes(session), mechanism(ck.CKM_AES_CBC, IV)
    data = bytes(range(64))
    expected = p11.transform("Encrypt", session, how, key, data)
    memory, length = (c_ubyte * 64)(*data), c_ulong(64)
    p11("C_EncryptInit", session, how, key)
    p11("C_Encrypt", session, memory, 64, memory, length)
    assert bytes(memory) == expected
    p11("C_DecryptInit", session, how, key)
    p11("C_Decrypt", session, memory, 64, memory, length)
    assert bytes(memory) == data


@pytest.mark.parametrize(
    "how", [mechanism(ck.CKM_ECDSA), mechanism(ck.CKM_ECDSA_SHA256)], ids=["ECDSA", "ECDSA_SHA256"]
)
def test_sign_and_verify(p11: Cryptoki, session: int, how: CkMechanism) -> None:
    public, private = p11.ec(session)
    data = bytes(32)
    p11("C_SignInit", session, how, private)
    signature = too_small_then_right(p11, "C_Sign", session, data, len(data))
    p11("C_VerifyInit", session, how, public)
    p11("C_Verify", session, data, len(data), signature, len(signature))
    p11("C_VerifyInit", session, how, public)
    wrong = bytes([signature[0] ^ 1]) + signature[1:]
    assert p11.rv("C_Verify", session, data, len(data), wrong, len(wrong)) == "CKR_SIGNATURE_INVALID"
    again = p11.rv("C_Verify", session, data, len(data), signature, len(signature))
    assert again == "CKR_OPERATION_NOT_INITIALIZED"
    p11("C_VerifyInit", session, how, public)
    assert p11.rv("C_Verify", session, data, len(data), signature, 3) == "CKR_SIGNATURE_LEN_RANGE"


def test_sign_in_parts(p11: Cryptoki, session: int) -> None:
    public, private = p11.ec(session)
    how = mechanism(ck.CKM_ECDSA_SHA256)
    p11("C_SignInit", session, how, private)
    p11("C_SignUpdate", session, DATA, len(DATA))
    signature = too_small_then_right(p11, "C_SignFinal", session)
    p11("C_VerifyInit", session, how, public)
    p11("C_VerifyUpdate", session, DATA, len(DATA))
    p11("C_VerifyFinal", session, signature, len(signature))
    assert p11.rv("C_VerifyFinal", session, signature, len(signature)) == "CKR_OPERATION_NOT_INITIALIZED"


def test_verify_signature_is_given_first(p11: Cryptoki, session: int) -> None:
    public, private = p11.ec(session)
    how = mechanism(ck.CKM_ECDSA_SHA256)
    signature = p11.transform("Sign", session, how, private, DATA)
    p11("C_VerifySignatureInit", session, how, public, signature, len(signature))
    assert p11.rv("C_VerifyUpdate", session, DATA, len(DATA)) == "CKR_OPERATION_NOT_INITIALIZED"
    p11("C_VerifySignature", session, DATA, len(DATA))
    p11("C_VerifySignatureInit", session, how, public, signature, len(signature))
    p11("C_VerifySignatureUpdate", session, DATA, len(DATA))
    p11("C_VerifySignatureFinal", session)
    p11("C_VerifySignatureInit", session, how, public, signature, len(signature))
    assert p11.rv("C_VerifySignature", session, DATA, 3) == "CKR_SIGNATURE_INVALID"
    assert p11.rv("C_VerifySignature", session, DATA, 3) == "CKR_OPERATION_NOT_INITIALIZED"
    refused = p11.rv("C_VerifySignatureInit", session, how, public, None, len(signature))
    assert refused == "CKR_ARGUMENTS_BAD"
    p11("C_VerifyInit", session, how, public)
    assert p11.rv("C_VerifySignature", session, DATA, len(DATA)) == "CKR_OPERATION_NOT_INITIALIZED"


def test_wrap_follows_the_length_rule(p11: Cryptoki, session: int) -> None:
    wrapping = p11.aes(session, (ck.CKA_WRAP, True), (ck.CKA_UNWRAP, True))
    key = p11.aes(session, (ck.CKA_EXTRACTABLE, True), (ck.CKA_SENSITIVE, False))
    how = mechanism(ck.CKM_AES_KEY_WRAP)
    wrapped = too_small_then_right(p11, "C_WrapKey", session, how, wrapping, key)
    assert len(wrapped) == 24
    kind = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES))
    attributes = template(*kind, (ck.CKA_SENSITIVE, False))
    back = p11.made("C_UnwrapKey", session, how, wrapping, wrapped, len(wrapped), attributes, len(attributes))
    assert p11.get(session, back, ck.CKA_VALUE) == p11.get(session, key, ck.CKA_VALUE)


def test_dual_functions_feed_both_operations(p11: Cryptoki, session: int) -> None:
    key, how, data = p11.aes(session), mechanism(ck.CKM_AES_CBC, IV), bytes(range(32))
    p11("C_EncryptInit", session, how, key)
    assert (
        p11.rv("C_DigestEncryptUpdate", session, data, 32, (c_ubyte * 32)(), c_ulong(32))
        == "CKR_OPERATION_NOT_INITIALIZED"
    )
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    secret = too_small_then_right(p11, "C_DigestEncryptUpdate", session, data, 32)
    assert p11.whole("C_EncryptFinal", session) == b""
    assert p11.whole("C_DigestFinal", session) == hashlib.sha256(data).digest()
    assert secret == p11.transform("Encrypt", session, how, key, data)
    p11("C_DecryptInit", session, how, key)
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    memory, length = (c_ubyte * 32)(*secret), c_ulong(32)
    p11("C_DecryptDigestUpdate", session, memory, 32, memory, length)
    assert bytes(memory[: length.value]) + p11.whole("C_DecryptFinal", session) == data
    assert p11.whole("C_DigestFinal", session) == hashlib.sha256(data).digest()


def test_sign_encrypt_and_decrypt_verify(p11: Cryptoki, session: int) -> None:
    key, how, data = p11.aes(session), mechanism(ck.CKM_AES_CBC, IV), bytes(range(32))
    mac, hmac = p11.generic_secret(session, bytes(32), (ck.CKA_SIGN, True), (ck.CKA_VERIFY, True)), None
    how_mac = mechanism(ck.CKM_SHA256_HMAC)
    p11("C_EncryptInit", session, how, key)
    p11("C_SignInit", session, how_mac, mac)
    secret = p11.whole("C_SignEncryptUpdate", session, data, 32)
    hmac = p11.whole("C_SignFinal", session)
    p11.whole("C_EncryptFinal", session)
    assert hmac == p11.transform("Sign", session, how_mac, mac, data)
    p11("C_DecryptInit", session, how, key)
    p11("C_VerifyInit", session, how_mac, mac)
    plain = p11.whole("C_DecryptVerifyUpdate", session, secret, 32)
    assert plain + p11.whole("C_DecryptFinal", session) == data
    p11("C_VerifyFinal", session, hmac, len(hmac))


def test_an_error_ends_the_operation(p11: Cryptoki, session: int) -> None:
    key, how = p11.aes(session), mechanism(ck.CKM_AES_CBC, IV)
    p11("C_EncryptInit", session, how, key)
    refused = p11.rv("C_Encrypt", session, DATA, len(DATA), (c_ubyte * 64)(), c_ulong(64))
    assert refused == "CKR_DATA_LEN_RANGE"
    assert ended(p11, "C_EncryptFinal", session)


def test_a_single_part_does_not_end_what_was_begun_in_parts(p11: Cryptoki, session: int) -> None:
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    p11("C_DigestUpdate", session, DATA, len(DATA))
    refused = p11.rv("C_Digest", session, DATA, len(DATA), (c_ubyte * 64)(), c_ulong(64))
    assert refused == "CKR_OPERATION_NOT_INITIALIZED"
    assert ended(p11, "C_DigestFinal", session)


def test_a_mechanism_of_one_part_refuses_parts(p11: Cryptoki, session: int) -> None:
    _, private = p11.ec(session)
    p11("C_SignInit", session, mechanism(ck.CKM_ECDSA), private)
    assert p11.rv("C_SignUpdate", session, DATA, len(DATA)) == "CKR_FUNCTION_NOT_SUPPORTED"
    assert ended(p11, "C_SignFinal", session)


def test_init_without_a_mechanism_ends_the_operation(p11: Cryptoki, session: int) -> None:
    assert p11.rv("C_DigestInit", session, None) == "CKR_ARGUMENTS_BAD"
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    assert p11.rv("C_DigestInit", session, mechanism(ck.CKM_SHA256)) == "CKR_OPERATION_ACTIVE"
    p11("C_DigestInit", session, None)
    assert ended(p11, "C_DigestFinal", session)


def test_a_key_that_asks_for_the_pin_at_each_use(p11: Cryptoki, session: int) -> None:
    _, private = p11.ec(session, (ck.CKA_ALWAYS_AUTHENTICATE, True), (ck.CKA_PRIVATE, True))
    how, data, context = mechanism(ck.CKM_ECDSA), bytes(32), ck.CKU_CONTEXT_SPECIFIC
    assert p11.rv("C_Login", session, context, PIN, len(PIN)) == "CKR_OPERATION_NOT_INITIALIZED"
    for _ in range(2):
        p11("C_SignInit", session, how, private)
        refused = p11.rv("C_Sign", session, data, 32, (c_ubyte * 64)(), c_ulong(64))
        assert refused == "CKR_USER_NOT_LOGGED_IN"
        assert p11.rv("C_Login", session, context, b"wrong pin", 9) == "CKR_PIN_INCORRECT"
        p11("C_Login", session, context, PIN, len(PIN))
        assert len(p11.whole("C_Sign", session, data, 32)) == 64


def test_an_operation_ends_with_its_login(p11: Cryptoki, session: int) -> None:
    _, private = p11.ec(session, (ck.CKA_PRIVATE, True))
    p11("C_SignInit", session, mechanism(ck.CKM_ECDSA), private)
    p11("C_Logout", session)
    refused = p11.rv("C_Sign", session, bytes(32), 32, (c_ubyte * 64)(), c_ulong(64))
    assert refused == "CKR_OPERATION_NOT_INITIALIZED"


def test_random(p11: Cryptoki, session: int) -> None:
    memory = (c_ubyte * 100_000)()
    p11("C_GenerateRandom", session, memory, 100_000)
    assert len(set(memory[-64:])) > 16
    p11("C_GenerateRandom", session, memory, 0)
    assert p11.rv("C_GenerateRandom", session, None, 8) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_SeedRandom", session, None, 8) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_SeedRandom", session, b"seed", 4) in ("CKR_OK", "CKR_RANDOM_SEED_NOT_SUPPORTED")
