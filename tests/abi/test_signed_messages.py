"""C_MessageSignInit … C_MessageVerifyFinal: messages signed and verified one after the other."""

from __future__ import annotations

import hmac
from ctypes import c_ubyte, c_ulong

import pytest
from bench import Bench
from cryptoki import PIN, Cryptoki, mechanism

from ferrohsm import constants as ck

ONE_TOKEN = True
HMAC = ck.CKM_SHA256_HMAC
PARTS = [b"a" * 10, b"", b"b" * 200]
WHOLE = b"".join(PARTS)
TAG = hmac.digest(b"k" * 32, WHOLE, "sha256")


@pytest.fixture
def key(p11: Cryptoki, session: int) -> int:
    return p11.generic_secret(session, b"k" * 32, (ck.CKA_SIGN, True), (ck.CKA_VERIFY, True))


def sign(p11: Cryptoki, session: int, data: bytes = WHOLE) -> bytes:
    return p11.whole("C_SignMessage", session, None, 0, data, len(data))


def verify(p11: Cryptoki, session: int, data: bytes = WHOLE, tag: bytes = TAG) -> str:
    return p11.rv("C_VerifyMessage", session, None, 0, data, len(data), tag, len(tag))


def test_whole_messages(p11: Cryptoki, session: int, key: int) -> None:
    p11("C_MessageSignInit", session, mechanism(HMAC), key)
    p11("C_MessageVerifyInit", session, mechanism(HMAC), key)  # beside it
    for data in (WHOLE, b"", b"x"):
        tag = sign(p11, session, data)
        assert tag == hmac.digest(b"k" * 32, data, "sha256")
        assert verify(p11, session, data, tag) == "CKR_OK"
        assert verify(p11, session, data + b"x", tag) == "CKR_SIGNATURE_INVALID"
        assert verify(p11, session, data, tag[1:]) == "CKR_SIGNATURE_LEN_RANGE"
    # Ordinary operations go on beside the processes.
    assert p11.transform("Sign", session, mechanism(HMAC), key, WHOLE) == TAG
    p11("C_MessageSignFinal", session)
    p11("C_MessageVerifyFinal", session)
    assert p11.rv("C_MessageSignFinal", session) == "CKR_OPERATION_NOT_INITIALIZED"
    assert p11.rv("C_MessageVerifyFinal", session) == "CKR_OPERATION_NOT_INITIALIZED"


def next_part(p11: Cryptoki, session: int, part: bytes) -> str:
    return p11.rv("C_SignMessageNext", session, None, 0, part, len(part), None, None)


def test_messages_in_parts(p11: Cryptoki, session: int, key: int) -> None:
    p11("C_MessageSignInit", session, mechanism(HMAC), key)
    p11("C_MessageVerifyInit", session, mechanism(HMAC), key)
    for _ in range(2):
        p11("C_SignMessageBegin", session, None, 0)
        for part in PARTS[:-1]:
            assert next_part(p11, session, part) == "CKR_OK"
        last = (session, None, 0, PARTS[-1], len(PARTS[-1]))
        length = c_ulong(0)
        p11("C_SignMessageNext", *last, None, length)
        assert length.value == 32
        assert p11.rv("C_SignMessageNext", *last, bytes(32), c_ulong(31)) == "CKR_BUFFER_TOO_SMALL"
        assert p11.whole("C_SignMessageNext", *last) == TAG
        p11("C_VerifyMessageBegin", session, None, 0)
        for part in PARTS:
            p11("C_VerifyMessageNext", session, None, 0, part, len(part), None, 0)
        p11("C_VerifyMessageNext", session, None, 0, None, 0, TAG, 32)
        p11("C_VerifyMessageBegin", session, None, 0)
        wrong = p11.rv("C_VerifyMessageNext", session, None, 0, b"x", 1, TAG, 32)
        assert wrong == "CKR_SIGNATURE_INVALID"


@pytest.mark.parametrize("type_", [ck.CKM_ECDSA_SHA256, ck.CKM_EDDSA, ck.CKM_ECDSA])
def test_signatures(p11: Cryptoki, session: int, type_: int) -> None:
    if type_ == ck.CKM_EDDSA:
        curve = [(ck.CKA_EC_PARAMS, bytes.fromhex("06032b6570"))]
        public, private = p11.key_pair(session, ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, curve, [])
    else:
        public, private = p11.ec(session)
    data, how = bytes(range(32)), mechanism(type_)
    p11("C_MessageSignInit", session, how, private)
    p11("C_SignMessageBegin", session, None, 0)  # the mechanism takes its data in one part: it is gathered
    assert next_part(p11, session, data[:20]) == "CKR_OK"
    signature = p11.whole("C_SignMessageNext", session, None, 0, data[20:], 12)
    p11("C_VerifyInit", session, how, public)
    p11("C_Verify", session, data, 32, signature, len(signature))
    p11("C_MessageVerifyInit", session, how, public)
    other = sign(p11, session, data)
    for one in (signature, other):
        assert verify(p11, session, data, one) == "CKR_OK"
        p11("C_VerifyMessageBegin", session, None, 0)
        p11("C_VerifyMessageNext", session, None, 0, data, 16, None, 0)
        p11("C_VerifyMessageNext", session, None, 0, data[16:], 16, one, len(one))


def test_the_order_of_calls(p11: Cryptoki, session: int, key: int) -> None:
    how, begin = mechanism(HMAC), ("C_SignMessageBegin", session, None, 0)
    assert p11.rv(*begin) == "CKR_OPERATION_NOT_INITIALIZED"
    assert p11.rv("C_MessageSignInit", session, None, key) == "CKR_ARGUMENTS_BAD"
    p11("C_MessageSignInit", session, how, key)
    assert p11.rv("C_MessageSignInit", session, how, key) == "CKR_OPERATION_ACTIVE"
    assert next_part(p11, session, b"x") == "CKR_OPERATION_NOT_INITIALIZED"
    p11(*begin)
    assert p11.rv(*begin) == "CKR_OPERATION_ACTIVE"
    whole = (session, None, 0, b"x", 1, bytes(32), c_ulong(32))
    assert p11.rv("C_SignMessage", *whole) == "CKR_OPERATION_ACTIVE"
    assert p11.rv("C_MessageSignFinal", session) == "CKR_OPERATION_ACTIVE"
    # An error ends the message, not the process.
    assert p11.rv("C_SignMessageNext", session, None, 0, None, 5, None, None) == "CKR_ARGUMENTS_BAD"
    assert next_part(p11, session, b"x") == "CKR_OPERATION_NOT_INITIALIZED"
    assert sign(p11, session) == TAG
    p11(*begin)
    p11("C_SessionCancel", session, ck.CKF_MESSAGE_SIGN)
    assert next_part(p11, session, b"x") == "CKR_OPERATION_NOT_INITIALIZED"
    p11("C_MessageSignInit", session, how, key)
    p11("C_MessageSignInit", session, None, 0)
    assert p11.rv("C_MessageSignFinal", session) == "CKR_OPERATION_NOT_INITIALIZED"


def test_lengths_and_arguments(p11: Cryptoki, session: int, key: int) -> None:
    p11("C_MessageSignInit", session, mechanism(HMAC), key)
    p11("C_MessageVerifyInit", session, mechanism(HMAC), key)
    length, room = c_ulong(5), (c_ubyte * 64)()
    p11("C_SignMessage", session, None, 0, WHOLE, len(WHOLE), None, length)
    assert length.value == 32
    length.value = 31
    assert p11.rv("C_SignMessage", session, None, 0, b"x", 1, room, length) == "CKR_BUFFER_TOO_SMALL"
    assert length.value == 32
    assert p11.rv("C_SignMessage", session, None, 0, b"x", 1, room, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_SignMessage", session, None, 0, None, 1, room, length) == "CKR_ARGUMENTS_BAD"
    invalid = "CKR_MECHANISM_PARAM_INVALID"
    assert p11.rv("C_SignMessage", session, b"p", 1, b"x", 1, room, length) == invalid
    assert p11.rv("C_SignMessageBegin", session, b"p", 1) == invalid
    assert p11.rv("C_VerifyMessage", session, b"p", 1, b"x", 1, TAG, 32) == invalid
    assert p11.rv("C_VerifyMessage", session, None, 0, b"x", 1, None, 32) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_VerifyMessage", session, None, 0, b"x", 1 << 62, TAG, 32) == "CKR_ARGUMENTS_BAD"
    assert sign(p11, session) == TAG
    assert verify(p11, session) == "CKR_OK"


def test_rights(p11: Cryptoki, session: int, key: int) -> None:
    def refusal(type_: int, handle: int, parameter: bytes | None = None) -> str:
        return p11.rv("C_MessageSignInit", session, mechanism(type_, parameter), handle)

    assert refusal(ck.CKM_AES_ECB, key) == "CKR_MECHANISM_INVALID"
    assert refusal(0x4321, key) == "CKR_MECHANISM_INVALID"
    assert refusal(HMAC, 4711) == "CKR_KEY_HANDLE_INVALID"
    assert refusal(ck.CKM_ECDSA, key) == "CKR_KEY_TYPE_INCONSISTENT"
    assert refusal(HMAC, key, b"p") == "CKR_MECHANISM_PARAM_INVALID"
    mute = p11.generic_secret(session, b"k" * 32, (ck.CKA_SIGN, False), (ck.CKA_VERIFY, True))
    assert refusal(HMAC, mute) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    # Keys and vectors that are for one message.
    poly = p11.create(
        session,
        (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
        (ck.CKA_KEY_TYPE, ck.CKK_POLY1305),
        (ck.CKA_VALUE, bytes(32)),
        (ck.CKA_SIGN, True),
    )
    assert refusal(ck.CKM_POLY1305, poly) == "CKR_MECHANISM_INVALID"
    p11("C_MessageSignInit", session, mechanism(HMAC), key)
    p11("C_DestroyObject", session, key)
    arguments = (session, None, 0, b"x", 1, bytes(32), c_ulong(32))
    assert p11.rv("C_SignMessage", *arguments) == "CKR_OPERATION_NOT_INITIALIZED"


def test_a_key_that_wants_the_pin_wants_it_for_each_message(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    _, private = p11.ec(session, (ck.CKA_ALWAYS_AUTHENTICATE, True), (ck.CKA_PRIVATE, True))
    arguments = (session, None, 0, b"x", 1, bytes(64), c_ulong(64))
    p11("C_MessageSignInit", session, mechanism(ck.CKM_ECDSA_SHA256), private)
    for _ in range(2):
        assert p11.rv("C_SignMessage", *arguments) == "CKR_USER_NOT_LOGGED_IN"
        p11("C_Login", session, ck.CKU_CONTEXT_SPECIFIC, PIN, len(PIN))
        p11("C_SignMessage", *arguments)
    assert p11.rv("C_SignMessageBegin", session, None, 0) == "CKR_USER_NOT_LOGGED_IN"


def test_a_logout_ends_the_process(p11: Cryptoki, session: int) -> None:
    pairs = ((ck.CKA_SIGN, True), (ck.CKA_PRIVATE, True))
    p11("C_MessageSignInit", session, mechanism(HMAC), p11.generic_secret(session, b"k" * 32, *pairs))
    p11("C_SignMessageBegin", session, None, 0)
    p11("C_Logout", session)
    assert next_part(p11, session, b"x") == "CKR_OPERATION_NOT_INITIALIZED"
    p11.login(session)
