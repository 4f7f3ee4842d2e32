"""Asynchronous sessions with an adapter that is not inline: every function that may take long is pending."""

from __future__ import annotations

import ctypes
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from typing import Any

import mechanism_parameters as parameters
import pytest
import slow_adapter
from asynchronous import NONE, Data, Patient, complete, open_async
from bench import Bench, initialize_token
from cryptoki import Cryptoki, buffer, mechanism, template
from scenes import EVERY, SCENES, Stage
from test_dispatch import CONFIGURATION, plugin
from test_protocol_keys import CLIENT, PRE_MASTER, SERVER, prf

from ferrohsm import constants as ck

__all__ = ["plugin"]
KEPT: list[Any] = []
ACTIVE = "CKR_OPERATION_ACTIVE"


@pytest.fixture
def slow(
    plugin: None, library: Cryptoki, configure: Callable[[str], None], tmp_path: Path
) -> Iterator[tuple[Cryptoki, int]]:
    """An asynchronous session with the slow adapter, its user logged in."""
    configure(CONFIGURATION.format(inline="false", log=tmp_path / "log"))
    library("C_Initialize", None)
    try:
        (slot,) = library.slots()
        initialize_token(library, slot)
        session = open_async(library, slot)
        library.login(session)
        slow_adapter.RELEASE.clear()
        yield Patient(library), session
    finally:
        slow_adapter.RELEASE.set()
        slow_adapter.HELD.clear()
        library.rv("C_Finalize", None)


def begin_digest(p11: Cryptoki, session: int, type_: int = ck.CKM_SHA384) -> tuple[Any, c_ulong]:
    room, length = (c_ubyte * 64)(), c_ulong(64)
    KEPT.append(room)  # "the buffer … remains available to the module for the duration of the operation"
    p11("C_DigestInit", session, mechanism(type_))
    assert p11.rv("C_Digest", session, b"data", 4, room, length) == "CKR_PENDING"
    return room, length


def test_a_remote_operation(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    expected = hashlib.sha384(b"data").digest()
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA384))
    short = c_ulong(47)
    assert p11.rv("C_Digest", session, b"data", 4, bytes(48), short) == "CKR_BUFFER_TOO_SMALL"
    assert short.value == 48
    p11("C_Digest", session, b"data", 4, None, short)  # a query is answered at once
    p11("C_DigestInit", session, None)
    room, length = begin_digest(p11, session)
    assert slow_adapter.WAITING.wait(5)
    for call in (
        ("C_DigestInit", session, mechanism(ck.CKM_SHA384)),
        ("C_Digest", session, b"data", 4, room, length),
        ("C_DigestUpdate", session, b"data", 4),
        ("C_DigestFinal", session, room, length),
        ("C_DigestKey", session, 1),
    ):
        assert p11.rv(*call) == "CKR_OPERATION_ACTIVE"
    assert p11.rv("C_AsyncComplete", session, b"C_Digest", Data()) == "CKR_PENDING"
    assert p11.rv("C_GetOperationState", session, None, c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    slow_adapter.RELEASE.set()
    time.sleep(0.05)
    assert (bytes(room), length.value) == (bytes(64), 64)  # nothing before the caller comes for it
    rv, data = complete(p11, session, b"C_Digest")
    assert (rv, data.pValue, data.ulValue) == ("CKR_OK", ctypes.addressof(room), 48)
    assert (bytes(room), length.value) == (expected + bytes(16), 64)
    assert complete(p11, session, b"C_Digest")[0] == NONE
    begin_digest(p11, session)  # the place is free again
    assert complete(p11, session, b"C_Digest")[0] == "CKR_OK"


def test_another_session_joins_a_remote_operation(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    room, _ = begin_digest(p11, session)
    number = p11.made("C_AsyncGetID", session, b"C_Digest")
    other = open_async(p11, p11.slots()[0])
    p11("C_CloseSession", session)
    target = (c_ubyte * 48)()
    join = ("C_AsyncJoin", other, b"C_Digest", number)
    assert p11.rv(*join, target, 47) == "CKR_BUFFER_TOO_SMALL"
    assert p11.rv(*join, None, 48) == "CKR_ARGUMENTS_BAD"
    p11(*join, target, 48)
    assert p11.rv("C_AsyncComplete", other, b"C_Digest", Data()) == "CKR_PENDING"
    slow_adapter.RELEASE.set()
    rv, data = complete(p11, other, b"C_Digest")
    assert (rv, data.pValue, data.ulValue) == ("CKR_OK", ctypes.addressof(target), 48)
    assert any(target) and not any(room)


def test_a_remote_operation_is_cancelled(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    for end in (
        lambda: p11("C_SessionCancel", session, ck.CKF_DIGEST),
        lambda: p11("C_DigestInit", session, None),
    ):
        slow_adapter.WAITING.clear()
        slow_adapter.ENDED.clear()
        room, _ = begin_digest(p11, session)
        assert slow_adapter.WAITING.wait(5)
        end()
        assert slow_adapter.ENDED.wait(5)
        assert complete(p11, session, b"C_Digest")[0] == NONE
        assert not any(room)
    slow_adapter.WAITING.clear()
    slow_adapter.ENDED.clear()
    begin_digest(p11, session)
    assert slow_adapter.WAITING.wait(5)
    p11("C_CloseSession", session)
    assert slow_adapter.ENDED.wait(5)


def test_finalize_ends_remote_operations(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    begin_digest(p11, session)
    assert slow_adapter.WAITING.wait(5)
    p11("C_Finalize", None)
    assert slow_adapter.ENDED.wait(5)


def test_a_remote_operation_outlives_finalize(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    begin_digest(p11, session)
    number = p11.made("C_AsyncGetID", session, b"C_Digest")
    threading.Timer(0.1, slow_adapter.RELEASE.set).start()
    p11("C_Finalize", None)
    p11("C_Initialize", None)
    (slot,) = p11.slots()
    initialize_token(p11, slot)
    session, target = open_async(p11, slot), (c_ubyte * 48)()
    p11.login(session)
    p11("C_AsyncJoin", session, b"C_Digest", number, target, 48)
    rv, data = complete(p11, session, b"C_Digest")
    assert (rv, data.ulValue) == ("CKR_OK", 48)
    assert any(target)


def test_remote_keys_and_signatures(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    slow_adapter.RELEASE.set()
    pairs = template((ck.CKA_VALUE_LEN, 16), (ck.CKA_EXTRACTABLE, True), (ck.CKA_SENSITIVE, False))
    keys = []
    for _ in range(2):
        how = mechanism(ck.CKM_AES_KEY_GEN)
        assert p11.rv("C_GenerateKey", session, how, pairs, len(pairs), c_ulong(0)) == "CKR_PENDING"
        rv, data = complete(p11, session, b"C_GenerateKey")
        assert rv == "CKR_OK"
        keys.append(data.hObject)
    how, room = mechanism(ck.CKM_AES_KEY_WRAP), (c_ubyte * 64)()
    assert p11.rv("C_WrapKey", session, how, *keys, room, c_ulong(23)) == "CKR_BUFFER_TOO_SMALL"
    assert p11.rv("C_WrapKey", session, how, *keys, room, c_ulong(64)) == "CKR_PENDING"
    rv, data = complete(p11, session, b"C_WrapKey")
    assert (rv, data.ulValue) == ("CKR_OK", 24)
    new = template((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES))
    wrapped = bytes(room[:24])
    arguments = (session, how, keys[0], wrapped, 24, new, 2, c_ulong(0))
    assert p11.rv("C_UnwrapKey", *arguments) == "CKR_PENDING"
    assert complete(p11, session, b"C_UnwrapKey")[0] == "CKR_OK"
    # Encryption is exact; of decryption only a bound is known, and that much room is needed.
    cbc = mechanism(ck.CKM_AES_CBC_PAD, bytes(16))
    p11("C_EncryptInit", session, cbc, keys[0])
    assert p11.rv("C_Encrypt", session, b"plain", 5, room, c_ulong(16)) == "CKR_PENDING"
    assert complete(p11, session, b"C_Encrypt")[0] == "CKR_OK"
    sealed, number = bytes(room[:16]), c_ulong(14)
    p11("C_DecryptInit", session, cbc, keys[0])
    assert p11.rv("C_Decrypt", session, sealed, 16, room, number) == "CKR_BUFFER_TOO_SMALL"
    number.value = 16
    assert p11.rv("C_Decrypt", session, sealed, 16, room, number) == "CKR_PENDING"
    assert p11.rv("C_AsyncGetID", session, b"C_Decrypt", c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    rv, data = complete(p11, session, b"C_Decrypt")
    assert (rv, data.ulValue, bytes(room[:5])) == ("CKR_OK", 5, b"plain")
    secret = p11.generic_secret(session, b"k" * 32, (ck.CKA_SIGN, True), (ck.CKA_VERIFY, True))
    hmac = mechanism(ck.CKM_SHA256_HMAC)
    p11("C_SignInit", session, hmac, secret)
    p11("C_SignUpdate", session, b"data", 4)
    assert p11.rv("C_SignFinal", session, room, c_ulong(32)) == "CKR_PENDING"
    assert complete(p11, session, b"C_SignFinal")[1].ulValue == 32
    tag = bytes(room[:32])
    for signed, expected in ((b"data", "CKR_OK"), (b"date", "CKR_SIGNATURE_INVALID")):
        p11("C_VerifyInit", session, hmac, secret)
        assert p11.rv("C_Verify", session, signed, 4, tag, 32) == "CKR_PENDING"
        assert complete(p11, session, b"C_Verify")[0] == expected
        p11("C_VerifyInit", session, hmac, secret)
        p11("C_VerifyUpdate", session, signed, 4)
        assert p11.rv("C_VerifyFinal", session, tag, 32) == "CKR_PENDING"
        rv = "CKR_PENDING"
        while rv == "CKR_PENDING":
            rv = p11.rv("C_AsyncComplete", session, b"C_VerifyFinal", None)  # nothing to receive
        assert rv == expected


def test_errors_of_remote_operations(slow: tuple[Cryptoki, int]) -> None:
    p11, session = slow
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA224))
    assert p11.rv("C_Digest", session, b"data", 4, bytes(28), c_ulong(28)) == "CKR_PENDING"
    assert complete(p11, session, b"C_Digest")[0] == "CKR_DEVICE_ERROR"
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA224))  # the operation is over


FAMILIES = ("Encrypt", "Decrypt", "Sign", "Verify")
PENDING = [
    *("C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey", "C_DeriveKey"),
    *("C_EncapsulateKey", "C_DecapsulateKey", "C_WrapKeyAuthenticated", "C_UnwrapKeyAuthenticated"),
    *("C_CreateObject", "C_CopyObject"),
    *(f"C_{family}{step}" for family in (*FAMILIES, "Digest") for step in ("Init", "", "Update", "Final")),
    *("C_SignRecoverInit", "C_SignRecover", "C_VerifyRecoverInit", "C_VerifyRecover", "C_DigestKey"),
    *(f"C_VerifySignature{step}" for step in ("Init", "", "Update", "Final")),
    *(f"C_Message{family}Init" for family in FAMILIES),
    *(f"C_{family}Message{step}" for family in FAMILIES for step in ("", "Begin", "Next")),
]
FAILS = {  # with the scenes' arguments
    "C_VerifyFinal": "CKR_SIGNATURE_INVALID",
    "C_VerifySignatureFinal": "CKR_SIGNATURE_INVALID",
    "C_UnwrapKeyAuthenticated": "CKR_WRAPPED_KEY_INVALID",
    "C_DecryptMessage": "CKR_AEAD_DECRYPT_FAILED",
}
OBJECTS = (*PENDING[:2], "C_UnwrapKey", "C_DeriveKey", "C_EncapsulateKey", "C_DecapsulateKey", *PENDING[9:11])


def memory_of(arguments: tuple[Any, ...], stage: Stage) -> list[bytes]:
    """Return what stands in all memory that a call was given, also behind its parameter."""
    own = [part for part in arguments if isinstance(part, (ctypes.Array, ctypes.Structure, c_ulong))]
    return [bytes(part) for part in (*own, *stage.kept)]


def test_every_function_that_may_be_pending_is(slow: tuple[Patient, int]) -> None:
    p11, session = slow
    slow_adapter.RELEASE.set()
    stage = Stage(p11, p11.slots()[0])  # its keys are made in a session that waits
    stage.session = session
    for name in PENDING:
        p11("C_SessionCancel", session, EVERY)
        stage.kept.clear()
        arguments = SCENES[name](stage)
        before = memory_of(arguments, stage)
        slow_adapter.HELD.set()
        assert p11.rv(name, *arguments) == "CKR_PENDING", name
        assert p11.rv(name, *arguments) == ACTIVE, name  # one at a time
        slow_adapter.HELD.clear()
        other = threading.Event()
        other.wait(0.003)  # long enough for most to be over
        assert memory_of(arguments, stage) == before, name
        rv, data = complete(p11, session, name.encode())
        assert rv == FAILS.get(name, "CKR_OK"), name
        if name in OBJECTS:
            assert p11.get(session, data.hObject, ck.CKA_CLASS), name
        assert p11.rv("C_AsyncComplete", session, name.encode(), Data()) == NONE, name


def test_what_the_engine_has_not_done_is_pending(slow: tuple[Patient, int]) -> None:
    """While the adapter works nothing is written, the operation is taken, and the call can be given up."""
    p11, session = slow
    stage = Stage(p11, p11.slots()[0])
    stage.session = session
    engine = [name for name in PENDING if name in OBJECTS or name.endswith("Init")]
    for name in (*engine, "C_WrapKey", "C_WrapKeyAuthenticated", "C_UnwrapKeyAuthenticated"):
        p11("C_SessionCancel", session, EVERY)
        stage.kept.clear()
        arguments = SCENES[name](stage)
        before = memory_of(arguments, stage)
        slow_adapter.HELD.set()
        held = name != "C_CopyObject"  # which the engine has no part in
        assert p11.rv(name, *arguments) == "CKR_PENDING", name
        if held:
            assert p11.rv("C_AsyncComplete", session, name.encode(), Data()) == "CKR_PENDING", name
        assert memory_of(arguments, stage) == before, name
        if name == "C_SignInit":
            assert p11.rv("C_Sign", session, b"data", 4, bytes(32), c_ulong(32)) == ACTIVE
        p11("C_SessionCancel", session, EVERY)
        cancelled = name not in ("C_CreateObject", "C_CopyObject")  # they have no flag
        slow_adapter.HELD.clear()
        assert complete(p11, session, name.encode())[0] == (NONE if cancelled else "CKR_OK"), name
        assert memory_of(arguments, stage) == before, name


def test_operations_begun_in_the_background(slow: tuple[Patient, int]) -> None:
    p11, session = slow
    stage = Stage(p11, p11.slots()[0])
    stage.session = session
    hmac = mechanism(ck.CKM_SHA256_HMAC)
    assert p11.rv("C_SignInit", session, hmac, stage.aes) == "CKR_PENDING"
    assert complete(p11, session, b"C_SignInit")[0] == "CKR_KEY_TYPE_INCONSISTENT"
    assert p11.rv("C_Sign", session, b"data", 4, *stage.out()) == NONE
    assert p11.rv("C_SignInit", session, hmac, stage.hmac) == "CKR_PENDING"
    number = c_ulong(0)
    assert p11.rv("C_AsyncGetID", session, b"C_SignInit", number) == "CKR_STATE_UNSAVEABLE"
    rv = "CKR_PENDING"
    while rv == "CKR_PENDING":
        rv = p11.rv("C_AsyncComplete", session, b"C_SignInit", None)  # there is nothing to receive
    assert rv == "CKR_OK"
    for part in (bytes(8), bytes(8)):
        assert p11.rv("C_SignUpdate", session, part, 8) == "CKR_PENDING"
        assert complete(p11, session, b"C_SignUpdate")[0] == "CKR_OK"
    assert p11.whole("C_SignFinal", session) == stage.tag
    # A failed part ends the operation, a failed message does not end its process.
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    assert p11.rv("C_DigestKey", session, stage.private) == "CKR_PENDING"
    assert complete(p11, session, b"C_DigestKey")[0] == "CKR_KEY_INDIGESTIBLE"
    assert p11.rv("C_DigestUpdate", session, b"data", 4) == NONE
    p11("C_MessageVerifyInit", session, hmac, stage.hmac)
    for data, expected in ((b"other", "CKR_SIGNATURE_INVALID"), (bytes(16), "CKR_OK")):
        call = (session, None, 0, data, len(data), stage.tag, len(stage.tag))
        assert p11.rv("C_VerifyMessage", *call) == "CKR_PENDING"
        assert complete(p11, session, b"C_VerifyMessage")[0] == expected
    p11("C_MessageVerifyFinal", session)


def test_messages_in_the_background(slow: tuple[Patient, int]) -> None:
    p11, session = slow
    stage = Stage(p11, p11.slots()[0])
    aes, gcm = stage.aes, mechanism(ck.CKM_AES_GCM)
    vector, tag, room = buffer(bytes(12)), buffer(bytes(16)), (c_ubyte * 32)()
    made = parameters.structure(vector, 12, 0, ck.CKG_GENERATE, tag, 128)
    size = ctypes.sizeof(made)
    p11("C_MessageEncryptInit", session, gcm, aes)
    text = b"a message of two"
    message = (session, made, size, b"aad", 3, text, 16, room, c_ulong(32))
    assert p11.rv("C_EncryptMessage", *message) == "CKR_PENDING"
    assert p11.rv("C_MessageEncryptFinal", session) == ACTIVE
    assert not any(bytes(vector) + bytes(tag) + bytes(room))
    assert p11.rv("C_AsyncGetID", session, b"C_EncryptMessage", c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    rv, data = complete(p11, session, b"C_EncryptMessage")
    assert (rv, data.ulValue, data.pValue) == ("CKR_OK", 16, ctypes.addressof(room))
    assert any(vector) and any(tag)
    p11("C_MessageEncryptFinal", session)
    p11("C_MessageDecryptInit", session, gcm, aes)
    p11("C_DecryptMessageBegin", session, made, size, b"aad", 3)
    plain = (c_ubyte * 32)()
    for part, last in ((slice(0, 8), 0), (slice(8, 16), ck.CKF_END_OF_MESSAGE)):
        piece = bytes(room[part])  # no text is given out before the tag is checked
        p11("C_DecryptMessageNext", session, made, size, piece, 8, plain, c_ulong(32), last)
    p11("C_MessageDecryptFinal", session)
    assert bytes(plain[:16]) == text


def test_the_keys_of_a_connection_in_the_background(slow: tuple[Patient, int]) -> None:
    p11, session = slow
    pairs = ((ck.CKA_DERIVE, True), (ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
    base, version = p11.generic_secret(session, PRE_MASTER, *pairs), ctypes.create_string_buffer(2)
    how = mechanism(ck.CKM_TLS12_MASTER_KEY_DERIVE, parameters.tls_master(CLIENT, SERVER, version))
    new = template(*pairs)
    assert p11.rv("C_DeriveKey", session, how, base, new, 3, c_ulong(0)) == "CKR_PENDING"
    assert version.raw == b"\0\0"
    assert p11.rv("C_AsyncGetID", session, b"C_DeriveKey", c_ulong(0)) == "CKR_STATE_UNSAVEABLE"
    rv, data = complete(p11, session, b"C_DeriveKey")
    assert (rv, version.raw) == ("CKR_OK", b"\3\3")
    secret = prf(PRE_MASTER, b"master secret", CLIENT + SERVER, 48)
    assert p11.get(session, data.hObject, ck.CKA_VALUE) == secret
    made, out, ivs = parameters.key_material((160, 128, 96), CLIENT, SERVER)
    how = mechanism(ck.CKM_TLS12_KEY_AND_MAC_DERIVE, made)
    call = ("C_DeriveKey", session, how, data.hObject, template((ck.CKA_KEY_TYPE, ck.CKK_AES)), 1, None)
    assert p11.rv(*call) == "CKR_PENDING"
    assert not any(bytes(out)[:32]) and not any(ivs[0].raw + ivs[1].raw)
    assert complete(p11, session, b"C_DeriveKey")[0] == "CKR_OK"
    block = prf(secret, b"key expansion", SERVER + CLIENT, 96)
    handles = (out.client_mac, out.server_mac, out.client_key, out.server_key)
    assert b"".join(p11.get(session, handle, ck.CKA_VALUE) for handle in handles) == block[:72]
    assert (ivs[0].raw[:12], ivs[1].raw[:12]) == (block[72:84], block[84:])
    # What is given up leaves no key and no vector.
    made, out, ivs = parameters.key_material((160, 128, 96), CLIENT, SERVER)
    call = (*call[:2], mechanism(ck.CKM_TLS12_KEY_AND_MAC_DERIVE, made), *call[3:])
    before = len(p11.find(session))
    assert p11.rv(*call) == "CKR_PENDING"
    p11("C_SessionCancel", session, ck.CKF_DERIVE)
    assert complete(p11, session, b"C_DeriveKey")[0] == NONE
    assert not any(bytes(out)[:32]) and not any(ivs[0].raw + ivs[1].raw)
    end = time.monotonic() + 10
    while len(p11.find(session)) > before and time.monotonic() < end:
        time.sleep(0.005)
    assert len(p11.find(session)) == before


def test_another_session_joins_an_encapsulation(slow: tuple[Patient, int]) -> None:
    p11, session = slow
    stage = Stage(p11, p11.slots()[0])
    new = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), (ck.CKA_TOKEN, True))
    how, room = mechanism(ck.CKM_ML_KEM), (c_ubyte * 1088)()
    slow_adapter.HELD.set()
    call = (session, how, stage.kem, template(*new), 3, room, c_ulong(1088), c_ulong(0))
    assert p11.rv("C_EncapsulateKey", *call) == "CKR_PENDING"
    number = p11.made("C_AsyncGetID", session, b"C_EncapsulateKey")
    other, target = open_async(p11, p11.slots()[0]), (c_ubyte * 1088)()
    p11("C_CloseSession", session)
    join = ("C_AsyncJoin", other, b"C_EncapsulateKey", number)
    assert p11.rv(*join, target, 1087) == "CKR_BUFFER_TOO_SMALL"
    p11(*join, target, 1088)
    slow_adapter.HELD.clear()
    rv, data = complete(p11, other, b"C_EncapsulateKey")
    assert (rv, data.ulValue, data.pValue) == ("CKR_OK", 1088, ctypes.addressof(target))
    assert any(target) and not any(room)
    opened = p11.made("C_DecapsulateKey", other, how, stage.opener, template(*new), 3, target, 1088)
    values = [p11.get(other, key, ck.CKA_CHECK_VALUE) for key in (data.hObject, opened)]
    assert values[0] == values[1]


def test_a_logout_frees_the_places_of_what_was_pending(slow: tuple[Patient, int]) -> None:
    p11, session = slow
    stage = Stage(p11, p11.slots()[0])
    begin_digest(p11, session)
    assert slow_adapter.WAITING.wait(5)
    p11("C_Logout", session)
    room, length = stage.out()
    assert p11.rv("C_Digest", session, b"data", 4, room, length) == NONE
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    assert p11.whole("C_Digest", session, b"data", 4) == hashlib.sha256(b"data").digest()


def test_a_join_frees_the_place_of_what_it_takes(slow: tuple[Patient, int]) -> None:
    p11, session = slow
    begin_digest(p11, session)
    number = p11.made("C_AsyncGetID", session, b"C_Digest")
    other, target = open_async(p11, p11.slots()[0]), (c_ubyte * 48)()
    p11("C_AsyncJoin", other, b"C_Digest", number, target, 48)
    slow_adapter.RELEASE.set()
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    assert p11.whole("C_Digest", session, b"data", 4) == hashlib.sha256(b"data").digest()
    assert complete(p11, other, b"C_Digest")[0] == "CKR_OK"
    assert bytes(target) == hashlib.sha384(b"data").digest()


def test_an_inline_slot_does_all_but_what_takes_long_at_once(bench: Bench) -> None:
    p11 = bench.p11
    stage = Stage(p11, bench.slot)
    stage.session = open_async(p11, bench.slot)
    for name in PENDING:
        p11("C_SessionCancel", stage.session, EVERY)
        expected = "CKR_PENDING" if name == "C_GenerateKeyPair" else FAILS.get(name, "CKR_OK")  # RSA
        assert p11.rv(name, *SCENES[name](stage)) == expected, name
    assert complete(p11, stage.session, b"C_GenerateKeyPair")[0] == NONE
