"""C_GetOperationState and C_SetOperationState: digests, MACs and hashed signatures, continued elsewhere."""

from __future__ import annotations

import hashlib
import hmac
from ctypes import c_ulong

import pytest
from bench import Bench
from cryptoki import Cryptoki, mechanism, template

from ferrohsm import constants as ck

ONE_TOKEN = True
HEAD, TAIL = b"h" * 300, b"t" * 77
LENGTH = 36

DIGESTS = {
    ck.CKM_SHA_1: hashlib.sha1,
    ck.CKM_SHA256: hashlib.sha256,
    ck.CKM_SHA512: hashlib.sha512,
    ck.CKM_SHA3_384: hashlib.sha3_384,
    ck.CKM_BLAKE2B_256: lambda data: hashlib.blake2b(data, digest_size=32),
}


def state(p11: Cryptoki, session: int) -> bytes:
    return p11.whole("C_GetOperationState", session)


def restore(p11: Cryptoki, session: int, saved: bytes, *keys: int) -> str:
    encryption, authentication = keys or (0, 0)
    return p11.rv("C_SetOperationState", session, saved, len(saved), encryption, authentication)


def hmac_key(p11: Cryptoki, session: int, *pairs: tuple[int, object], value: bytes = b"k" * 32) -> int:
    uses = ((ck.CKA_SIGN, True), (ck.CKA_VERIFY, True))
    return p11.generic_secret(session, value, *uses, *pairs)


@pytest.mark.parametrize("type_", DIGESTS, ids=lambda type_: ck.name("CKM", type_))
@pytest.mark.parametrize("again", [False, True], ids=["asked", "remembered"])
def test_digests(bench: Bench, type_: int, again: bool) -> None:
    p11, session, other = bench.p11, bench.p11.open(bench.slot), bench.p11.open(bench.slot)
    if again:  # the second one begins in the kernel, without the core
        p11("C_DigestInit", session, mechanism(type_))
        p11.whole("C_Digest", session, b"x", 1)
    p11("C_DigestInit", session, mechanism(type_))
    fresh = state(p11, session)
    p11("C_DigestUpdate", session, HEAD, len(HEAD))
    middle = state(p11, session)
    assert len(middle) == LENGTH
    p11("C_DigestUpdate", session, TAIL, len(TAIL))
    assert p11.whole("C_DigestFinal", session) == DIGESTS[type_](HEAD + TAIL).digest()
    for _ in range(2):  # as often as one likes, in any session of the same state
        assert restore(p11, other, middle) == "CKR_OK"
        p11("C_DigestUpdate", other, b"other", 5)
        assert p11.whole("C_DigestFinal", other) == DIGESTS[type_](HEAD + b"other").digest()
    assert restore(p11, session, fresh) == "CKR_OK"
    assert p11.whole("C_Digest", session, TAIL, len(TAIL)) == DIGESTS[type_](TAIL).digest()


@pytest.mark.parametrize("again", [False, True], ids=["asked", "remembered"])
def test_macs(bench: Bench, again: bool) -> None:
    p11, session, other = bench.p11, bench.user(), bench.p11.open(bench.slot)
    key, wrong = hmac_key(p11, session), hmac_key(p11, session)
    how, expected = mechanism(ck.CKM_SHA256_HMAC), hmac.digest(b"k" * 32, HEAD + TAIL, "sha256")
    if again:
        p11.transform("Sign", session, how, key, b"x")
    p11("C_SignInit", session, how, key)
    p11("C_SignUpdate", session, HEAD, len(HEAD))
    saved = state(p11, session)
    assert restore(p11, other, saved) == "CKR_KEY_NEEDED"
    assert restore(p11, other, saved, 0, wrong) == "CKR_KEY_CHANGED"
    assert restore(p11, other, saved, 0, 4711) == "CKR_KEY_CHANGED"
    assert restore(p11, other, saved, key, key) == "CKR_KEY_NOT_NEEDED"
    assert restore(p11, other, saved, 0, key) == "CKR_OK"
    p11("C_SignUpdate", other, TAIL, len(TAIL))
    assert p11.whole("C_SignFinal", other) == expected
    p11("C_SignInit", session, None, 0)
    # Verification, with the signature at the end and at the beginning.
    p11("C_VerifyInit", session, how, key)
    p11("C_VerifyUpdate", session, HEAD, len(HEAD))
    saved = state(p11, session)
    assert restore(p11, other, saved, 0, key) == "CKR_OK"
    p11("C_VerifyUpdate", other, TAIL, len(TAIL))
    assert p11.rv("C_VerifyFinal", other, expected, len(expected)) == "CKR_OK"
    assert restore(p11, other, saved, 0, key) == "CKR_OK"
    assert p11.rv("C_VerifyFinal", other, expected, len(expected)) == "CKR_SIGNATURE_INVALID"
    p11("C_VerifyInit", session, None, 0)
    p11("C_VerifySignatureInit", session, how, key, expected, len(expected))
    p11("C_VerifySignatureUpdate", session, HEAD, len(HEAD))
    saved = state(p11, session)
    p11("C_DestroyObject", session, wrong)
    assert restore(p11, other, saved, 0, key) == "CKR_OK"
    p11("C_VerifySignatureUpdate", other, TAIL, len(TAIL))
    p11("C_VerifySignatureFinal", other)


@pytest.mark.parametrize("hashed", ["ecdsa", "rsa"])
def test_hashed_signatures(bench: Bench, hashed: str) -> None:
    p11, session, other = bench.p11, bench.user(), bench.p11.open(bench.slot)
    if hashed == "ecdsa":
        (public, private), how = p11.ec(session), mechanism(ck.CKM_ECDSA_SHA256)
    else:
        parts = [(ck.CKA_MODULUS_BITS, 2048)]
        public, private = p11.key_pair(session, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, parts, [])
        how = mechanism(ck.CKM_SHA256_RSA_PKCS)
    for _ in range(2):
        p11("C_SignInit", session, how, private)
        p11("C_SignUpdate", session, HEAD, len(HEAD))
        assert restore(p11, other, state(p11, session), 0, private) == "CKR_OK"
        p11("C_SignUpdate", other, TAIL, len(TAIL))
        signature = p11.whole("C_SignFinal", other)
        p11("C_VerifyInit", session, how, public)
        p11("C_Verify", session, HEAD + TAIL, len(HEAD + TAIL), signature, len(signature))
        p11("C_SessionCancel", session, ck.CKF_SIGN)


def test_what_cannot_be_saved(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_OPERATION_NOT_INITIALIZED"
    p11("C_FindObjectsInit", session, None, 0)
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_OPERATION_NOT_INITIALIZED"
    p11("C_FindObjectsFinal", session)
    key = p11.aes(session, (ck.CKA_ENCRYPT, True))
    p11("C_EncryptInit", session, mechanism(ck.CKM_AES_CBC, bytes(16)), key)
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    p11("C_EncryptInit", session, None, 0)
    length = template((ck.CKA_VALUE_LEN, 32), (ck.CKA_SIGN, True))
    how = mechanism(ck.CKM_POLY1305_KEY_GEN)
    poly = p11.made("C_GenerateKey", session, how, length, 2)  # the engine has no copy of that MAC
    p11("C_SignInit", session, mechanism(ck.CKM_POLY1305), poly)
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    p11("C_SignInit", session, None, 0)
    _, private = p11.ec(session, (ck.CKA_ALWAYS_AUTHENTICATE, True), (ck.CKA_PRIVATE, True))
    p11("C_SignInit", session, mechanism(ck.CKM_ECDSA_SHA256), private)
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_STATE_UNSAVEABLE"


def test_lengths_and_arguments(bench: Bench) -> None:
    p11, session = bench.p11, bench.p11.open(bench.slot)
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    length = c_ulong(0)
    p11("C_GetOperationState", session, None, length)
    assert length.value == LENGTH
    short = c_ulong(LENGTH - 1)
    assert p11.rv("C_GetOperationState", session, bytes(LENGTH), short) == "CKR_BUFFER_TOO_SMALL"
    assert short.value == LENGTH
    assert p11.rv("C_GetOperationState", session, None, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_SetOperationState", session, None, 5, 0, 0) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_GetOperationState", 0, None, length) == "CKR_SESSION_HANDLE_INVALID"
    assert p11.rv("C_SetOperationState", 0, b"x", 1, 0, 0) == "CKR_SESSION_HANDLE_INVALID"


def test_invalid_states(bench: Bench) -> None:
    p11, session, other = bench.p11, bench.user(), bench.p11.open(bench.slot)
    invalid = "CKR_SAVED_STATE_INVALID"
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    p11("C_DigestUpdate", session, HEAD, len(HEAD))
    saved = state(p11, session)
    assert HEAD[:8] not in saved
    for place in range(LENGTH):
        wrong = bytearray(saved)
        wrong[place] ^= 1
        assert restore(p11, other, bytes(wrong)) == invalid
    for wrong in (b"", b"state", saved[:-1], saved + b"x", bytes(1 << 16)):
        assert restore(p11, other, bytes(wrong)) == invalid
    read_only = p11.open(bench.slot, read_write=False)  # another session state
    assert restore(p11, read_only, saved) == invalid
    # A refused state leaves the session's operation alone, a good one replaces it.
    p11("C_DigestInit", other, mechanism(ck.CKM_SHA_1))
    assert restore(p11, other, b"state") == invalid
    assert restore(p11, other, saved, 0, hmac_key(p11, session)) == "CKR_KEY_NOT_NEEDED"
    assert len(p11.whole("C_DigestFinal", other)) == 20
    p11("C_FindObjectsInit", other, None, 0)
    assert restore(p11, other, saved) == "CKR_OK"
    assert p11.rv("C_FindObjectsFinal", other) == "CKR_OPERATION_NOT_INITIALIZED"
    assert p11.whole("C_DigestFinal", other) == hashlib.sha256(HEAD).digest()
    # The session that saved it may be gone.
    p11("C_CloseSession", session)
    assert restore(p11, other, saved) == "CKR_OK"


def test_a_state_ends_with_its_key_and_login(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    how = mechanism(ck.CKM_SHA256_HMAC)
    key = hmac_key(p11, session, (ck.CKA_PRIVATE, True))
    p11("C_SignInit", session, how, key)
    saved = state(p11, session)
    p11("C_Logout", session)
    p11.login(session)
    again = hmac_key(p11, session)
    assert restore(p11, session, saved, 0, again) == "CKR_SAVED_STATE_INVALID"
    p11("C_SignInit", session, None, 0)
    p11("C_SignInit", session, how, again)
    saved = state(p11, session)
    p11("C_DestroyObject", session, again)
    assert restore(p11, session, saved, 0, again) == "CKR_SAVED_STATE_INVALID"


def test_the_oldest_states_make_room(bench: Bench) -> None:
    p11, session = bench.p11, bench.p11.open(bench.slot)
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    first = state(p11, session)
    for _ in range(1023):
        last = state(p11, session)
    assert restore(p11, session, first) == "CKR_OK"
    state(p11, session)
    assert restore(p11, session, first) == "CKR_SAVED_STATE_INVALID"
    assert restore(p11, session, last) == "CKR_OK"


def test_two_operations_at_once(bench: Bench) -> None:
    p11, session, other = bench.p11, bench.user(), bench.p11.open(bench.slot)
    key = hmac_key(p11, session)
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    p11("C_SignInit", session, mechanism(ck.CKM_SHA256_HMAC), key)
    p11("C_DigestUpdate", session, HEAD, len(HEAD))
    p11("C_SignUpdate", session, TAIL, len(TAIL))
    assert restore(p11, other, state(p11, session), 0, key) == "CKR_OK"
    assert p11.whole("C_DigestFinal", other) == hashlib.sha256(HEAD).digest()
    assert p11.whole("C_SignFinal", other) == hmac.digest(b"k" * 32, TAIL, "sha256")
    p11("C_VerifyInit", session, mechanism(ck.CKM_SHA256_HMAC), key)  # a third: one key handle is too few
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
