"""C_EncapsulateKey and C_DecapsulateKey: lengths, rights, what the keys are."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from cryptoki import Cryptoki, mechanism, template
from engine_support import POSTQUANTUM

from ferrohsm import constants as ck

ONE_TOKEN = True
LENGTH = 1088  # of an ML-KEM-768 ciphertext
OPEN = (ck.CKA_SENSITIVE, False)


def pair(p11: Cryptoki, session: int, *public: tuple[int, Any], private: Any = ()) -> tuple[int, int]:
    parameters = (ck.CKA_PARAMETER_SET, ck.CKP_ML_KEM_768)
    return p11.key_pair(session, ck.CKM_ML_KEM_KEY_PAIR_GEN, [parameters, *public], list(private))


class Sent:
    """A call of C_EncapsulateKey and what came of it."""

    def __init__(
        self,
        p11: Cryptoki,
        session: int,
        key: int,
        *pairs: Any,
        room: int | None = LENGTH,
        type: int = ck.CKM_ML_KEM,
    ) -> None:
        self.length, self.handle = ctypes.c_ulong(room or 0), ctypes.c_ulong(0)
        memory = None if room is None else (ctypes.c_ubyte * (room + 1))()
        how, array = mechanism(type), template(*pairs)
        self.rv = p11.rv(
            "C_EncapsulateKey", session, how, key, array, len(pairs), memory, self.length, self.handle
        )
        self.ciphertext = bytes(memory or b"")[: self.length.value]


def test_lengths(p11: Cryptoki, session: int) -> None:
    public, private = pair(p11, session)
    before = len(p11.find(session))
    asked = Sent(p11, session, public, room=None)
    assert (asked.rv, asked.length.value, asked.handle.value) == ("CKR_OK", LENGTH, 0)
    small = Sent(p11, session, public, room=LENGTH - 1)
    assert (small.rv, small.length.value, small.handle.value) == ("CKR_BUFFER_TOO_SMALL", LENGTH, 0)
    assert len(p11.find(session)) == before  # neither made a key
    sent = Sent(p11, session, public, OPEN)
    assert (sent.rv, sent.length.value) == ("CKR_OK", LENGTH)
    assert len(p11.find(session)) == before + 1
    for length in (0, LENGTH - 1):
        answer = p11.rv(
            "C_DecapsulateKey",
            session,
            mechanism(ck.CKM_ML_KEM),
            private,
            template(),
            0,
            sent.ciphertext,
            length,
            ctypes.c_ulong(0),
        )
        assert answer == "CKR_ENCRYPTED_DATA_LEN_RANGE"


def test_what_the_keys_are(p11: Cryptoki, session: int) -> None:
    public, private = pair(p11, session)
    sent = Sent(p11, session, public, OPEN)
    pairs = (OPEN, (ck.CKA_KEY_TYPE, ck.CKK_AES), (ck.CKA_VALUE_LEN, 16))
    arguments = (template(*pairs), len(pairs), sent.ciphertext, LENGTH)
    agreed = p11.made("C_DecapsulateKey", session, mechanism(ck.CKM_ML_KEM), private, *arguments)
    value = p11.get(session, sent.handle.value, ck.CKA_VALUE)
    assert len(value) == 32
    assert p11.get(session, agreed, ck.CKA_VALUE) == value[:16]
    for handle in (sent.handle.value, agreed):
        for attribute in (ck.CKA_LOCAL, ck.CKA_ALWAYS_SENSITIVE, ck.CKA_NEVER_EXTRACTABLE):
            assert p11.get(session, handle, attribute) == b"\0"
        assert p11.get(session, handle, ck.CKA_EXTRACTABLE) == b"\1"  # unless the template says otherwise
    kept = Sent(p11, session, public, (ck.CKA_EXTRACTABLE, False))
    assert p11.get(session, kept.handle.value, ck.CKA_EXTRACTABLE) == b"\0"


def test_refusals(p11: Cryptoki, session: int) -> None:
    public, private = pair(p11, session)
    mute = pair(p11, session, (ck.CKA_ENCAPSULATE, False), private=[(ck.CKA_DECAPSULATE, False)])
    assert Sent(p11, session, mute[0]).rv == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    assert Sent(p11, session, private).rv == "CKR_KEY_TYPE_INCONSISTENT"
    assert Sent(p11, session, 4711).rv == "CKR_KEY_HANDLE_INVALID"
    assert Sent(p11, session, public, type=ck.CKM_AES_ECB).rv == "CKR_MECHANISM_INVALID"
    assert Sent(p11, session, public, (ck.CKA_VALUE, bytes(32))).rv == "CKR_ATTRIBUTE_READ_ONLY"
    assert Sent(p11, session, public, (ck.CKA_CLASS, ck.CKO_DATA)).rv == "CKR_TEMPLATE_INCONSISTENT"
    assert Sent(p11, session, public, (ck.CKA_VALUE_LEN, 33)).rv == "CKR_KEY_SIZE_RANGE"
    how, place = mechanism(ck.CKM_ML_KEM), ctypes.c_ulong(0)
    for key, expected in (
        (mute[1], "CKR_KEY_FUNCTION_NOT_PERMITTED"),
        (public, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT"),
        (4711, "CKR_UNWRAPPING_KEY_HANDLE_INVALID"),
    ):
        arguments = (template(), 0, bytes(LENGTH), LENGTH, place)
        assert p11.rv("C_DecapsulateKey", session, how, key, *arguments) == expected
    none = (session, how, public, None, 0, bytes(LENGTH))
    assert p11.rv("C_EncapsulateKey", *none, None, place) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_EncapsulateKey", *none, ctypes.c_ulong(LENGTH), None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_DecapsulateKey", session, how, private, None, 0, None, 5, place) == "CKR_ARGUMENTS_BAD"


def test_the_keys_template(p11: Cryptoki, session: int) -> None:
    inner = [(ck.CKA_KEY_TYPE, ck.CKK_AES), (ck.CKA_EXTRACTABLE, False)]
    public, _ = pair(p11, session, (ck.CKA_ENCAPSULATE_TEMPLATE, inner))
    sent = Sent(p11, session, public)
    assert p11.get(session, sent.handle.value, ck.CKA_EXTRACTABLE) == b"\0"
    assert p11.get(session, sent.handle.value, ck.CKA_KEY_TYPE) == ck.CKK_AES.to_bytes(8, "little")
    assert Sent(p11, session, public, (ck.CKA_EXTRACTABLE, True)).rv == "CKR_KEY_HANDLE_INVALID"


@pytest.mark.parametrize("chosen", [77] if POSTQUANTUM else [ck.CKP_ML_KEM_512, 77])
def test_parameter_sets_that_are_not_there(p11: Cryptoki, session: int, chosen: int) -> None:
    array, private = template((ck.CKA_PARAMETER_SET, chosen)), template()
    places = ctypes.c_ulong(0), ctypes.c_ulong(0)
    how = mechanism(ck.CKM_ML_KEM_KEY_PAIR_GEN)
    answer = p11.rv("C_GenerateKeyPair", session, how, array, 1, private, 0, *places)
    assert answer == "CKR_PARAMETER_SET_NOT_SUPPORTED"
