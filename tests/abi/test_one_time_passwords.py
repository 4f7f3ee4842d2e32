"""One-time passwords: the values of RFC 4226, the counter, and parameters that cannot be."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from cryptoki import CkMechanism, mechanism, template
from mechanism_parameters import gcm, otp_parameters, structure

from ferrohsm import constants as ck

# RFC 4226, appendix D: the secret and its first ten values.
SECRET = b"12345678901234567890"
VALUES = (
    *(b"755224", b"287082", b"359152", b"969429", b"338314"),
    *(b"254676", b"287922", b"162583", b"399871", b"520489"),
)
CLASS = ((ck.CKA_CLASS, ck.CKO_OTP_KEY), (ck.CKA_KEY_TYPE, ck.CKK_HOTP))
TOKEN = (ck.CKA_TOKEN, True)


def counted(number: int) -> tuple[int, bytes]:
    """Return a counter as a parameter."""
    return ck.CK_OTP_COUNTER, number.to_bytes(8, "big")


def how(*given: tuple[int, Any]) -> CkMechanism:
    return mechanism(ck.CKM_HOTP, otp_parameters(*given))


def key(bench: Bench, session: int, *pairs: tuple[int, Any], value: bytes = SECRET) -> int:
    return bench.p11.create(session, *CLASS, (ck.CKA_VALUE, value), *pairs)


def pieces(memory: Any, length: int) -> dict[int, bytes]:
    """Read a CK_OTP_SIGNATURE_INFO; everything it points at must lie in its own block."""
    block = bytes(memory[:length])
    base = ctypes.addressof(memory)
    start, count = (int.from_bytes(block[at : at + 8], "little") for at in (0, 8))
    found = {}
    for place in range(count):
        at = start - base + 24 * place
        type, value, size = (int.from_bytes(block[at + 8 * i : at + 8 * i + 8], "little") for i in range(3))
        assert 0 <= value - base <= value - base + size <= length
        found[type] = block[value - base : value - base + size]
    return found


def password(bench: Bench, session: int, handle: int, *given: tuple[int, Any]) -> tuple[bytes, int]:
    """Return a password and its counter."""
    p11 = bench.p11
    p11("C_SignInit", session, how(*given), handle)
    length = ctypes.c_ulong(0)
    p11("C_Sign", session, None, 0, None, length)
    memory = (ctypes.c_ubyte * length.value)()
    p11("C_Sign", session, None, 0, memory, length)
    found = pieces(memory, length.value)
    assert set(found) == {ck.CK_OTP_VALUE, ck.CK_OTP_COUNTER}
    return found[ck.CK_OTP_VALUE], int.from_bytes(found[ck.CK_OTP_COUNTER], "big")


def test_the_values_of_rfc_4226(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    for place in ((ck.CKA_TOKEN, False), TOKEN):
        handle = key(bench, session, place)
        assert p11.get(session, handle, ck.CKA_OTP_COUNTER) == bytes(8)
        for number, value in enumerate(VALUES):
            assert password(bench, session, handle) == (value, number)
            assert p11.get(session, handle, ck.CKA_OTP_COUNTER) == (number + 1).to_bytes(8, "big")
        # A counter that is given leaves the key's own where it is.
        assert password(bench, session, handle, counted(3)) == (VALUES[3], 3)
        assert p11.get(session, handle, ck.CKA_OTP_COUNTER) == (10).to_bytes(8, "big")
        for number, value in enumerate(VALUES):
            p11("C_VerifyInit", session, how(counted(number)), handle)
            p11("C_Verify", session, None, 0, value, 6)
        p11("C_VerifyInit", session, how(counted(1)), handle)
        assert p11.rv("C_Verify", session, None, 0, VALUES[0], 6) == "CKR_SIGNATURE_INVALID"
        p11("C_VerifyInit", session, how(counted(1)), handle)
        assert p11.rv("C_Verify", session, None, 0, VALUES[0], 5) == "CKR_SIGNATURE_LEN_RANGE"
        p11("C_VerifySignatureInit", session, how(counted(1)), handle, VALUES[1], 6)
        p11("C_VerifySignature", session, None, 0)


def test_more_digits_and_parts(bench: Bench) -> None:
    """RFC 4226, appendix D, gives the truncated values in full: the last digits of each."""
    p11, session = bench.p11, bench.user()
    handle = key(bench, session, (ck.CKA_OTP_LENGTH, 8))
    assert password(bench, session, handle) == (b"84755224", 0)  # 1284755224
    assert password(bench, session, handle, (ck.CK_OTP_OUTPUT_LENGTH, 7)) == (b"4287082", 1)  # 1094287082
    p11("C_SignInit", session, how(), handle)
    memory, length = (ctypes.c_ubyte * 200)(), ctypes.c_ulong(200)
    p11("C_SignFinal", session, memory, length)
    assert pieces(memory, length.value)[ck.CK_OTP_VALUE] == b"37359152"  # 137359152
    p11("C_VerifyInit", session, how(counted(2)), handle)
    p11("C_VerifyFinal", session, b"37359152", 8)


def test_the_library_makes_and_accepts_the_same(bench: Bench) -> None:
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.twofactor.hotp import HOTP

    p11, session = bench.p11, bench.user()
    value = bytes(range(64))
    handle = key(bench, session, value=value)
    for number in (0, 77, 2**40 + 5, 2**63):
        theirs = HOTP(value, 8, SHA1())
        long = (ck.CK_OTP_OUTPUT_LENGTH, 8)
        theirs.verify(password(bench, session, handle, counted(number), long)[0], number)
        p11("C_VerifyInit", session, how(counted(number), long), handle)
        p11("C_Verify", session, None, 0, theirs.generate(number), 8)


def test_a_short_buffer_and_unaligned_memory(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    handle = key(bench, session)
    p11("C_SignInit", session, how(), handle)
    room = (ctypes.c_ubyte * 201)()
    length = ctypes.c_ulong(77)
    assert p11.rv("C_Sign", session, None, 0, room, length) == "CKR_BUFFER_TOO_SMALL"
    assert length.value == 16 + 2 * 24 + 6 + 8 and not any(room)
    odd = (ctypes.c_ubyte * 200).from_buffer(room, 1)
    p11("C_Sign", session, None, 0, odd, length)
    assert pieces(odd, length.value)[ck.CK_OTP_VALUE] == VALUES[0]
    assert not any(room[1 + length.value :])


def test_a_generated_key(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    made = p11.made("C_GenerateKey", session, mechanism(ck.CKM_HOTP_KEY_GEN), template(), 0)
    expected = {
        ck.CKA_CLASS: ck.CKO_OTP_KEY.to_bytes(8, "little"),
        ck.CKA_KEY_TYPE: ck.CKK_HOTP.to_bytes(8, "little"),
        ck.CKA_VALUE_LEN: (20).to_bytes(8, "little"),
        ck.CKA_OTP_FORMAT: bytes(8),
        ck.CKA_OTP_LENGTH: (6).to_bytes(8, "little"),
        ck.CKA_OTP_COUNTER_REQUIREMENT: ck.CK_OTP_PARAM_OPTIONAL.to_bytes(8, "little"),
        ck.CKA_OTP_COUNTER: bytes(8),
        ck.CKA_OTP_TIME: b"",
        ck.CKA_LOCAL: b"\1",
        ck.CKA_KEY_GEN_MECHANISM: ck.CKM_HOTP_KEY_GEN.to_bytes(8, "little"),
        ck.CKA_ALWAYS_SENSITIVE: b"\1",
    }
    assert {attribute: p11.get(session, made, attribute) for attribute in expected} == expected
    assert len(p11.get(session, made, ck.CKA_CHECK_VALUE)) == 3
    value = template((ck.CKA_VALUE, None))
    assert p11.rv("C_GetAttributeValue", session, made, value, 1) == "CKR_ATTRIBUTE_SENSITIVE"
    counter = template((ck.CKA_OTP_COUNTER, bytes(8)))
    assert p11.rv("C_SetAttributeValue", session, made, counter, 1) == "CKR_ATTRIBUTE_READ_ONLY"
    assert p11.find(session, (ck.CKA_CLASS, ck.CKO_OTP_KEY)) == [made]
    assert len(password(bench, session, made)[0]) == 6


def test_a_key_is_wrapped_as_the_secret_key_that_it_holds(bench: Bench) -> None:
    """CKA_VALUE of a HOTP key "MUST not be specified when object is unwrapped": unwrapped it can be."""
    p11, session = bench.p11, bench.user()
    closed, handle = key(bench, session), key(bench, session, (ck.CKA_EXTRACTABLE, True))
    wrapping = p11.aes(session, (ck.CKA_WRAP, True), (ck.CKA_UNWRAP, True))
    length = ctypes.c_ulong(0)
    answer = p11.rv("C_WrapKey", session, mechanism(ck.CKM_AES_KEY_WRAP_KWP), wrapping, closed, None, length)
    assert answer == "CKR_KEY_UNEXTRACTABLE"
    assert [password(bench, session, handle)[1] for _ in range(3)] == [0, 1, 2]
    counter = (ck.CKA_OTP_COUNTER, p11.get(session, handle, ck.CKA_OTP_COUNTER))
    sealed = mechanism(ck.CKM_AES_GCM, gcm(b"n" * 12))
    for how_wrapped in (mechanism(ck.CKM_AES_KEY_WRAP_KWP), mechanism(ck.CKM_AES_CBC_PAD, bytes(16)), sealed):
        wrapped = p11.whole("C_WrapKey", session, how_wrapped, wrapping, handle)
        head = (session, how_wrapped, wrapping, wrapped, len(wrapped))
        made = p11.made("C_UnwrapKey", *head, template(*CLASS, TOKEN, counter), 4)
        assert p11.get(session, made, ck.CKA_LOCAL) == b"\0"
        assert password(bench, session, made) == (VALUES[3], 3)
        p11("C_DestroyObject", session, made)
    # Without the counter it begins anew, as one that is brought in; the value may be any secret key's.
    made = p11.made("C_UnwrapKey", *head, template(*CLASS), 2)
    assert password(bench, session, made) == (VALUES[0], 0)
    for pairs, refusal in (
        ((*CLASS, (ck.CKA_VALUE, SECRET)), "CKR_ATTRIBUTE_READ_ONLY"),
        (CLASS[:1], "CKR_TEMPLATE_INCOMPLETE"),
        ((*CLASS, (ck.CKA_OTP_COUNTER, bytes(7))), "CKR_ATTRIBUTE_VALUE_INVALID"),
        ((*CLASS, (ck.CKA_VALUE_LEN, 19)), "CKR_WRAPPED_KEY_LEN_RANGE"),
    ):
        assert p11.rv("C_UnwrapKey", *head, template(*pairs), len(pairs), ctypes.c_ulong(0)) == refusal, pairs
    short = p11.generic_secret(session, SECRET[:15], (ck.CKA_EXTRACTABLE, True))
    wrapped = p11.whole("C_WrapKey", session, how_wrapped, wrapping, short)
    answer = p11.rv("C_UnwrapKey", *head[:3], wrapped, len(wrapped), template(*CLASS), 2, ctypes.c_ulong(0))
    assert answer == "CKR_WRAPPED_KEY_LEN_RANGE"


@pytest.mark.parametrize(
    ("pairs", "answer"),
    [
        ([(ck.CKA_VALUE, SECRET[:15])], "CKR_ATTRIBUTE_VALUE_INVALID"),
        ([(ck.CKA_VALUE, bytes(65))], "CKR_ATTRIBUTE_VALUE_INVALID"),
        ([], "CKR_TEMPLATE_INCOMPLETE"),
        ([(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_COUNTER, bytes(7))], "CKR_ATTRIBUTE_VALUE_INVALID"),
        ([(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_COUNTER, b"")], "CKR_ATTRIBUTE_VALUE_INVALID"),
        ([(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_LENGTH, 5)], "CKR_ATTRIBUTE_VALUE_INVALID"),
        ([(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_LENGTH, 9)], "CKR_ATTRIBUTE_VALUE_INVALID"),
        (
            [(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_FORMAT, ck.CK_OTP_FORMAT_BINARY)],
            "CKR_ATTRIBUTE_VALUE_INVALID",
        ),
        (
            [(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_PIN_REQUIREMENT, ck.CK_OTP_PARAM_MANDATORY)],
            "CKR_ATTRIBUTE_VALUE_INVALID",
        ),
        ([(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_COUNTER_REQUIREMENT, 3)], "CKR_ATTRIBUTE_VALUE_INVALID"),
        ([(ck.CKA_VALUE, SECRET), (ck.CKA_OTP_TIME, b"20261124120000")], "CKR_ATTRIBUTE_VALUE_INVALID"),
    ],
)
def test_a_key_that_cannot_be(bench: Bench, pairs: list[tuple[int, Any]], answer: str) -> None:
    session = bench.user()
    whole = [*CLASS, *pairs]
    place = ctypes.c_ulong(0)
    assert bench.p11.rv("C_CreateObject", session, template(*whole), len(whole), place) == answer


def test_the_requirements_of_a_counter(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    mandatory = key(bench, session, (ck.CKA_OTP_COUNTER_REQUIREMENT, ck.CK_OTP_PARAM_MANDATORY))
    ignored = key(bench, session, (ck.CKA_OTP_COUNTER_REQUIREMENT, ck.CK_OTP_PARAM_IGNORED))
    assert p11.rv("C_SignInit", session, how(), mandatory) == "CKR_MECHANISM_PARAM_INVALID"
    assert password(bench, session, mandatory, counted(2)) == (VALUES[2], 2)
    assert password(bench, session, ignored, counted(2)) == (VALUES[0], 0)
    # Who checks a password says of which counter.
    assert p11.rv("C_VerifyInit", session, how(), ignored) == "CKR_MECHANISM_PARAM_INVALID"
    p11("C_VerifyInit", session, how(counted(2)), ignored)
    p11("C_Verify", session, None, 0, VALUES[2], 6)


def test_a_counter_at_its_end(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    handle = key(bench, session, (ck.CKA_OTP_COUNTER, b"\xff" * 8))
    p11("C_SignInit", session, how(), handle)
    memory, length = (ctypes.c_ubyte * 200)(), ctypes.c_ulong(200)
    assert p11.rv("C_Sign", session, None, 0, memory, length) == "CKR_ACTION_PROHIBITED"
    assert not any(memory) and p11.get(session, handle, ck.CKA_OTP_COUNTER) == b"\xff" * 8


@pytest.mark.parametrize(
    "given",
    [
        [(ck.CK_OTP_COUNTER, bytes(7))],
        [(ck.CK_OTP_COUNTER, b"")],
        [counted(1), counted(2)],
        [(ck.CK_OTP_VALUE, b"755224")],
        [(ck.CK_OTP_OUTPUT_LENGTH, 5)],
        [(ck.CK_OTP_OUTPUT_LENGTH, b"\6")],
        [(ck.CK_OTP_OUTPUT_FORMAT, ck.CK_OTP_FORMAT_HEXADECIMAL)],
        [(ck.CK_OTP_FLAGS, ck.CKF_NEXT_OTP)],
        [(ck.CK_OTP_FLAGS, ck.CKF_EXCLUDE_COUNTER)],
        [(ck.CK_OTP_FLAGS, 0x40)],
        [(ck.CK_OTP_FLAGS, None)],
    ],
)
def test_a_parameter_that_cannot_be(bench: Bench, given: list[tuple[int, Any]]) -> None:
    session = bench.user()
    answer = bench.p11.rv("C_SignInit", session, how(*given), key(bench, session))
    assert answer == "CKR_MECHANISM_PARAM_INVALID"


def test_pointers_that_cannot_be(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    handle = key(bench, session)
    one = otp_parameters(counted(0))
    for parameter in (
        structure(None, 1),  # no array
        structure(one.inner[0], 1 << 40),  # an array without end
        structure([structure(ck.CK_OTP_COUNTER, None, 8)], 1),  # no value
        structure([structure(ck.CK_OTP_CHALLENGE, b"x", 1 << 40)], 1),  # a value without end
        structure(None),  # half a structure
    ):
        answer = p11.rv("C_SignInit", session, mechanism(ck.CKM_HOTP, parameter), handle)
        assert answer == "CKR_MECHANISM_PARAM_INVALID"
    # What HOTP has no use for is left alone, as is a parameter that says nothing.
    flags = ck.CKF_EXCLUDE_PIN | ck.CKF_EXCLUDE_TIME | ck.CKF_EXCLUDE_CHALLENGE | ck.CKF_USER_FRIENDLY_OTP
    foreign = [(ck.CK_OTP_PIN, b"1234"), (ck.CK_OTP_CHALLENGE, b"x"), (ck.CK_OTP_TIME, b""), (99, b"x")]
    assert password(bench, session, handle, *foreign, (ck.CK_OTP_FLAGS, flags))[0] == VALUES[0]
    p11("C_SignInit", session, mechanism(ck.CKM_HOTP), handle)
    assert len(p11.whole("C_Sign", session, None, 0)) == 78


def test_what_the_key_is_not_for(bench: Bench) -> None:
    p11, session = bench.p11, bench.user()
    handle = key(bench, session, (ck.CKA_EXTRACTABLE, True), (ck.CKA_DERIVE, True), (ck.CKA_ENCRYPT, True))
    for function, type in (("Sign", ck.CKM_SHA_1_HMAC), ("Encrypt", ck.CKM_AES_ECB)):
        answer = p11.rv(f"C_{function}Init", session, mechanism(type), handle)
        assert answer == "CKR_KEY_TYPE_INCONSISTENT"
    generic = p11.generic_secret(session, SECRET)
    assert p11.rv("C_SignInit", session, how(), generic) == "CKR_KEY_TYPE_INCONSISTENT"
    length = ctypes.c_ulong(0)
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA256))
    assert p11.rv("C_DigestKey", session, handle) == "CKR_KEY_INDIGESTIBLE"
    p11("C_SignInit", session, how(), handle)
    memory = (ctypes.c_ubyte * 200)()
    answer = p11.rv("C_Sign", session, b"data", 4, memory, ctypes.c_ulong(200))
    assert answer == "CKR_DATA_LEN_RANGE"
    p11("C_SignInit", session, how(), handle)
    assert p11.rv("C_SignUpdate", session, b"data", 4) == "CKR_DATA_LEN_RANGE"
    p11("C_SignInit", session, how(), handle)
    answer = p11.rv("C_GetOperationState", session, None, length)
    assert answer == "CKR_STATE_UNSAVEABLE"
    assert p11.rv("C_MessageSignInit", session, how(), handle) == "CKR_MECHANISM_INVALID"
    p11("C_SignInit", session, None, 0)
    never = key(bench, session, (ck.CKA_SIGN, False))
    assert p11.rv("C_SignInit", session, how(), never) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    # Nothing of all this was a password.
    assert password(bench, session, handle) == (VALUES[0], 0)


def test_a_session_that_only_reads_moves_the_counter(bench: Bench) -> None:
    writing = bench.user()
    handle = key(bench, writing, TOKEN, (ck.CKA_MODIFIABLE, False))
    reading = bench.p11.open(bench.slot, read_write=False)
    assert [password(bench, reading, handle)[1] for _ in range(2)] == [0, 1]


PROGRAM = """
import ctypes, json, sys
from bench import Bench
from cryptoki import Cryptoki
from pathlib import Path
from test_one_time_passwords import password
from ferrohsm import constants as ck
p11 = Cryptoki(sys.argv[1])
p11("C_Initialize", None)
bench = Bench(p11, int(sys.argv[2]), Path())
session = bench.user()
handle, = p11.find(session, (ck.CKA_CLASS, ck.CKO_OTP_KEY))
print(json.dumps([password(bench, session, handle)[1] for _ in range(25)]))
p11("C_Finalize", None)
"""


def test_processes_never_get_the_same_password(bench: Bench, module_path: Path) -> None:
    session = bench.user()
    handle = key(bench, session, TOKEN)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    command = [sys.executable, "-c", PROGRAM, str(module_path), str(bench.slot)]
    others = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=here)
        for _ in range(2)
    ]
    counters = [password(bench, session, handle)[1] for _ in range(25)]
    for other in others:
        out, _ = other.communicate(timeout=60)
        counters += json.loads(out)
    assert sorted(counters) == list(range(75))
    assert bench.p11.get(session, handle, ck.CKA_OTP_COUNTER) == (75).to_bytes(8, "big")
