"""Parameters that cannot be, for every mechanism and each of its functions, through the C functions.

The lengths are wrong, pointers are NULL or misaligned, numbers inside are zero or as large as they get. A
mechanism of a known kind of parameter needs no line here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
from cases import DATA
from cryptoki import CkMechanism, template
from keys import OPEN, usable
from known_use import good_parameter, keys_for
from sides import Side

from ferrohsm import constants as ck
from ferrohsm.mechanisms import HASHES, ROWS, Row

ULONG_MAX = ctypes.c_ulong(-1).value
INVALID = "CKR_MECHANISM_PARAM_INVALID"
GENERIC = ck.CKK_GENERIC_SECRET
# Kinds of parameters that may be absent.
OPTIONAL = {"none", "eddsa", "sign_context", "iv4", "iv8", "otp"}


Try = Callable[[Side, Any, tuple[int, int]], str]


def _begins(function: str, half: int) -> Try:
    def attempt(side: Side, how: Any, keys: tuple[int, int]) -> str:
        answer = side.p11.rv(f"C_{function}Init", side.session, how, keys[half])
        side.p11.rv("C_SessionCancel", side.session, ULONG_MAX)
        return answer

    return attempt


def _digests(side: Side, how: Any, keys: tuple[int, int]) -> str:
    answer = side.p11.rv("C_DigestInit", side.session, how)
    side.p11.rv("C_SessionCancel", side.session, ULONG_MAX)
    return answer


def _call(function: str, *arguments: Any, side: Side) -> str:
    return side.p11.rv(function, side.session, *arguments)


def _generates(side: Side, how: Any, keys: tuple[int, int]) -> str:
    pairs = template(*usable(ck.CKK_AES), (ck.CKA_VALUE_LEN, 32))
    if ROWS[how.mechanism].family == "pbe":  # which says what key it is
        pairs = template(*OPEN)
    return _call("C_GenerateKey", how, pairs, len(pairs), ctypes.c_ulong(), side=side)


def _generates_pair(side: Side, how: Any, keys: tuple[int, int]) -> str:
    places = ctypes.c_ulong(), ctypes.c_ulong()
    public = template((ck.CKA_MODULUS_BITS, 1024))
    return _call("C_GenerateKeyPair", how, public, 1, template(*OPEN), len(OPEN), *places, side=side)


def _wraps(side: Side, how: Any, keys: tuple[int, int]) -> str:
    target, out = side.secret(GENERIC, DATA[:32]), (ctypes.c_ubyte * 4096)()
    return _call("C_WrapKey", how, keys[0], target, out, ctypes.c_ulong(len(out)), side=side)


def _derives(side: Side, how: Any, keys: tuple[int, int]) -> str:
    length = {"tls12_master": 48, "tls12_extended_master": 48, "ike_prf": 32}
    pairs = template(*usable(GENERIC), (ck.CKA_VALUE_LEN, length.get(ROWS[how.mechanism].parameter, 16)))
    if ROWS[how.mechanism].object_class == ck.CKO_DATA:
        pairs = template((ck.CKA_CLASS, ck.CKO_DATA), (ck.CKA_VALUE_LEN, 16))
    return _call("C_DeriveKey", how, keys[1], pairs, len(pairs), ctypes.c_ulong(), side=side)


def _encapsulates(side: Side, how: Any, keys: tuple[int, int]) -> str:
    pairs, out = template(*usable(GENERIC)), (ctypes.c_ubyte * 4096)()
    length = ctypes.c_ulong(len(out))
    return _call(
        "C_EncapsulateKey", how, keys[0], pairs, len(pairs), out, length, ctypes.c_ulong(), side=side
    )


FUNCTIONS: dict[int, Try] = {
    ck.CKF_ENCRYPT: _begins("Encrypt", 0),
    ck.CKF_DECRYPT: _begins("Decrypt", 1),
    ck.CKF_SIGN: _begins("Sign", 1),
    ck.CKF_VERIFY: _begins("Verify", 0),
    ck.CKF_DIGEST: _digests,
    ck.CKF_GENERATE: _generates,
    ck.CKF_GENERATE_KEY_PAIR: _generates_pair,
    ck.CKF_WRAP: _wraps,
    ck.CKF_DERIVE: _derives,
    ck.CKF_ENCAPSULATE: _encapsulates,
}


def functions_of(side: Side, type_: int) -> list[Try]:
    return [attempt for flag, attempt in FUNCTIONS.items() if side.offered[type_] & flag]


def at(type_: int, memory: Any, length: int | None = None, offset: int = 0) -> CkMechanism:
    """Return a CK_MECHANISM whose parameter is that memory, with another length or moved by `offset`."""
    made = CkMechanism(type_, None, 0)
    if memory is not None:
        made.pParameter = ctypes.addressof(memory) + offset
        made.ulParameterLen = ctypes.sizeof(memory) if length is None else length
        made.kept = memory  # type: ignore[attr-defined]
    return made


def in_memory(parameter: Any) -> Any:
    """Return ctypes memory of a parameter, with room behind it for a length that is too long."""
    content = parameter if isinstance(parameter, bytes) else bytes(parameter)
    memory = (ctypes.c_ubyte * (len(content) + 64)).from_buffer_copy(content + bytes(64))
    memory.kept = parameter
    return memory


BYTES = {
    "none",
    "iv4",
    "iv8",
    "iv16",
    "iv64",
    "ctr",
    "bytes",
    "cbc_encrypt_data",
    "des_cbc_encrypt_data",
    "ike1_prf",
}


def every(without: set[str]) -> list[Any]:
    """Return the mechanisms but for those with some kinds of parameters."""
    return [
        pytest.param(type_, id=ck.name("CKM", type_).removeprefix("CKM_"))
        for type_, row in ROWS.items()
        if row.parameter not in without
    ]


# Numbers that nothing depends on: GCM's bits of the vector, which its length says; how long the key is that
# CCM wraps, which is known; keys that another field says are not there; to a verifier, how one signs.
IGNORED = {
    ("gcm", "f2"),
    ("ccm", "f0"),
    ("hkdf", "f6"),
    ("ike_prf", "f7"),
    ("ike2_prf_plus", "f2"),
    ("sign_context", "f0"),
    ("hash_sign_context", "f0"),
}
# IVs that are never made (PKCS#11 3.2, "Key derivation for TLS 1.2, safe").
IGNORED_BY = {(ck.CKM_TLS12_KEY_SAFE_DERIVE, "iv_bits")}
# Where the version of a pre-master secret is written, if somebody wants to know.
OPTIONAL_POINTERS = {("tls12_master", "version"), ("tls12_extended_master", "f3")}
# Numbers that are handles.
HANDLES = {("key", "f0"), ("ike1_extended", "f2")}


def cases_of(side: Side, type_: int) -> tuple[Row, Any, Any, int, list[Try], tuple[int, int]]:
    """Return the row, a good parameter, its memory and length, the functions and the keys; or skip."""
    if type_ not in side.offered:
        pytest.skip("the slot does not offer it")
    row = ROWS[type_]
    parameter = good_parameter(side, row)
    memory = in_memory(b"" if parameter is None else parameter)
    length = ctypes.sizeof(memory) - 64
    return row, parameter, memory, length, functions_of(side, type_), keys_for(side, row)


@pytest.mark.parametrize("type_", every(set()))
def test_lengths_and_pointers(side: Side, type_: int) -> None:
    row, _, memory, length, attempts, keys = cases_of(side, type_)
    wrong = [at(type_, memory, size) for size in (length + 1, length + 16, 1 << 40, ULONG_MAX)]
    wrong += [CkMechanism(type_, None, size) for size in (1, length or 8, ULONG_MAX)]
    if length and row.parameter != "bytes":
        wrong += [at(type_, memory, size) for size in {1, length - 1} if size != length]
    if row.parameter == "bytes":  # of any length; this one is larger than the prime
        wrong = wrong[1:]
    if row.parameter not in OPTIONAL:
        wrong += [at(type_, memory, 0), CkMechanism(type_, None, 0)]
    for attempt in attempts:
        for how in wrong:
            assert attempt(side, how, keys) == INVALID, f"{how.ulParameterLen} at {how.pParameter}"


@pytest.mark.parametrize("type_", every({"none", "eddsa"}))
def test_a_misaligned_pointer_is_read(side: Side, type_: int) -> None:
    row, _, memory, length, attempts, keys = cases_of(side, type_)
    if not length:  # an initial value that may be absent
        memory = in_memory({"iv8": b"\xa6" * 8, "iv4": b"\xa6\x59\x59\xa6"}[row.parameter])
        length = ctypes.sizeof(memory) - 64
    moved = (ctypes.c_ubyte * (length + 1))()
    ctypes.memmove(ctypes.addressof(moved) + 1, ctypes.addressof(memory), length)
    for attempt in attempts:
        assert attempt(side, at(type_, memory, length), keys) == "CKR_OK"
        assert attempt(side, at(type_, moved, length, 1), keys) == "CKR_OK"


@pytest.mark.parametrize("type_", every(BYTES | {"eddsa"}))
def test_what_stands_inside(side: Side, type_: int) -> None:
    """Pointers that are NULL beside a length, and numbers that are larger than anything."""
    row, parameter, _, length, attempts, keys = cases_of(side, type_)
    fields = dict(parameter._fields_)
    for name, kind in fields.items():
        place = getattr(type(parameter), name)
        if kind is ctypes.c_ulong:
            values: tuple[int, ...] = (ULONG_MAX, 1 << 63)
        elif (row.parameter, name) in OPTIONAL_POINTERS:
            continue
        elif kind is ctypes.c_void_p and getattr(parameter, name) and _has_length(parameter, name):
            values = (0,)
        else:
            continue
        for value in values:
            changed = in_memory(parameter)
            changed[place.offset : place.offset + 8] = value.to_bytes(8, "little")
            for attempt in attempts:
                answer = attempt(side, at(type_, changed, length), keys)
                if (row.parameter, name) in HANDLES:
                    assert answer == "CKR_KEY_HANDLE_INVALID", name
                elif (row.parameter, name) in IGNORED or (type_, name) in IGNORED_BY:
                    assert answer in ("CKR_OK", INVALID), name
                else:
                    assert answer == INVALID, f"{name} = {value:#x}"


def _has_length(parameter: Any, name: str) -> bool:
    """Tell whether the field before or after a pointer is the length of what it names."""
    names = [field for field, _ in parameter._fields_]
    place = names.index(name)
    beside = names[max(0, place - 1) : place] + names[place + 1 : place + 2]
    return any(isinstance(number := getattr(parameter, field), int) and number for field in beside)


TAGS = {
    "gcm": (0, 8, 24, 31, 33, 127, 129, 136),  # bits
    "ccm": (0, 1, 2, 3, 5, 15, 17),  # bytes
    "ulong": (0,),
}


@pytest.mark.parametrize("type_", every({row.parameter for row in ROWS.values()} - set(TAGS)))
def test_tags_that_are_too_short(side: Side, type_: int) -> None:
    """Also tags of a length between two, and such as are longer than there is."""
    row, parameter, _, length, attempts, keys = cases_of(side, type_)
    if row.family == "rearrange" or not row.functions & (ck.CKF_SIGN | ck.CKF_ENCRYPT):
        assert row.type in (ck.CKM_EXTRACT_KEY_FROM_KEY, ck.CKM_SHA512_T, ck.CKM_SHA512_T_KEY_DERIVATION)
        return  # the number is no length of a tag
    name = {"gcm": "f5", "ccm": "f5", "ulong": "f0"}[row.parameter]
    place = getattr(type(parameter), name).offset
    whole = 64 if row.hash is None else HASHES[row.hash].length
    for tag in (*TAGS[row.parameter], *((whole + 1,) if row.parameter == "ulong" else ())):
        changed = in_memory(parameter)
        changed[place : place + 8] = tag.to_bytes(8, "little")
        for attempt in attempts:
            assert attempt(side, at(type_, changed, length), keys) == INVALID, tag
