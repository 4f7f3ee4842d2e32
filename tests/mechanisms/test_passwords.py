"""Keys of passwords by PKCS#12: known answers, their vectors, and what is refused, through the module."""

from __future__ import annotations

import ctypes
from typing import Any

import mechanism_parameters as parameters
import pytest
from bench import Bench
from cryptoki import mechanism, template
from engine_support import KERNELS, Driver

from ferrohsm import constants as ck

pytestmark = pytest.mark.skipif(KERNELS is None, reason="the kernels are not built")

SMEG, QUEEG = bytes.fromhex("0073006d006500670000"), bytes.fromhex("007100750065006500670000")
DES3, DES2, MAC = ck.CKM_PBE_SHA1_DES3_EDE_CBC, ck.CKM_PBE_SHA1_DES2_EDE_CBC, ck.CKM_PBA_SHA1_WITH_SHA1_HMAC
# The OpenSSL project's vectors (evpkdf_pkcs12.txt): password, salt, iterations, identifier, output.
KEYS = [
    (SMEG, "0a58cf64530d823f", 1, "8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3"),
    (SMEG, "642b99ab44fb4b1f", 1, "f3a95fec48d7711e985cfe67908c5ab79fa3d7c5caa5d966"),
    (QUEEG, "05dec959acff72f7", 1000, "ed2034e36328830ff09df1e1a07dd357185dac0d4f9eb3d4"),
]
VECTORS = [
    (SMEG, "0a58cf64530d823f", 1, "79993dfe048d3b76"),
    (SMEG, "642b99ab44fb4b1f", 1, "c0a38d64a79bea1d"),
    (QUEEG, "05dec959acff72f7", 1000, "11dedad7758d4860"),
]
MACS = [
    (SMEG, "3d83c0e4546ac140", 1, "8d967d88f6caa9d714800ab3d48051d63f73a312"),
    (QUEEG, "263216fcc2fab31c", 1000, "5ec4c7a80df652294c3925b6489a7ab857c83476"),
]
OPEN = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))


@pytest.fixture
def session(bench: Bench) -> int:
    made = bench.p11.open(bench.slot)
    bench.p11.rv("C_Login", made, ck.CKU_USER, b"user-pin", 8)
    return made


def generated(bench: Bench, session: int, type: int, parameter: Any, *pairs: tuple[int, Any]) -> bytes:
    whole = (*OPEN, *pairs)
    key = bench.p11.made("C_GenerateKey", session, mechanism(type, parameter), template(*whole), len(whole))
    return bench.p11.get(session, key, ck.CKA_VALUE)


def refusal(bench: Bench, session: int, type: int, parameter: Any, *pairs: tuple[int, Any]) -> str:
    place = ctypes.c_ulong(0)
    how = mechanism(type, parameter)
    return bench.p11.rv("C_GenerateKey", session, how, template(*pairs), len(pairs), place)


def odd(value: bytes) -> bytes:
    """Return a DES key with the parity that it has to have."""
    return bytes(byte & 0xFE | 1 ^ (byte >> 1).bit_count() & 1 for byte in value)


@pytest.mark.parametrize("which", range(3))
def test_keys_and_vectors(bench: Bench, session: int, which: int) -> None:
    password, salt, iterations, expected = KEYS[which]
    vector = VECTORS[which][3]
    for type, length in ((DES3, 24), (DES2, 16)):
        iv = ctypes.create_string_buffer(b"\xee" * 9, 9)
        parameter = parameters.pbe(password, bytes.fromhex(salt), iterations, iv)
        value = generated(bench, session, type, parameter)
        assert value == odd(bytes.fromhex(expected)[:length])
        assert iv.raw == bytes.fromhex(vector) + b"\xee"
        # Whoever does not ask for the vector gets the same key.
        assert (
            generated(bench, session, type, parameters.pbe(password, bytes.fromhex(salt), iterations))
            == value
        )


@pytest.mark.parametrize(("password", "salt", "iterations", "expected"), MACS)
def test_keys_of_macs(
    bench: Bench, session: int, password: bytes, salt: str, iterations: int, expected: str
) -> None:
    iv = ctypes.create_string_buffer(b"\xee" * 8, 8)
    parameter = parameters.pbe(password, bytes.fromhex(salt), iterations, iv)
    assert generated(bench, session, MAC, parameter) == bytes.fromhex(expected)
    assert generated(bench, session, MAC, parameter, (ck.CKA_VALUE_LEN, 20)) == bytes.fromhex(expected)
    assert iv.raw == b"\xee" * 8


def test_an_empty_password_or_an_empty_salt(bench: Bench, session: int) -> None:
    made = {
        generated(bench, session, MAC, parameters.pbe(password, salt, 2))
        for password, salt in ((b"", b"salt"), (SMEG, b""), (SMEG, b"salt"))
    }
    assert len(made) == 3
    assert refusal(bench, session, MAC, parameters.pbe(b"", b"", 2)) == "CKR_MECHANISM_PARAM_INVALID"


@pytest.mark.parametrize("type", [DES3, DES2, MAC])
def test_what_is_refused(bench: Bench, session: int, type: int) -> None:
    good = parameters.pbe(SMEG, b"salt", 1)
    for iterations in (0, 1 << 40):
        answer = refusal(bench, session, type, parameters.pbe(SMEG, b"salt", iterations))
        assert answer == "CKR_MECHANISM_PARAM_INVALID"
    for parameter in (
        None,
        bytes(good)[:-1],
        parameters.structure(None, None, 10, b"salt", 4, 1),  # no password
        parameters.structure(None, SMEG, 1 << 40, b"salt", 4, 1),  # one without end
        parameters.structure(None, SMEG, 10, None, 4, 1),  # no salt
    ):
        assert refusal(bench, session, type, parameter) == "CKR_MECHANISM_PARAM_INVALID"
    wrong = (ck.CKA_KEY_TYPE, ck.CKK_AES)
    assert refusal(bench, session, type, good, wrong) == "CKR_TEMPLATE_INCONSISTENT"
    if type == MAC:
        answer = refusal(bench, session, type, good, (ck.CKA_VALUE_LEN, 16))
        assert answer == "CKR_TEMPLATE_INCONSISTENT"


def test_no_vector_without_a_key(bench: Bench, session: int) -> None:
    iv = ctypes.create_string_buffer(b"\xee" * 8, 8)
    parameter = parameters.pbe(SMEG, b"salt", 1, iv)
    reading = bench.p11.open(bench.slot, read_write=False)
    assert refusal(bench, reading, DES3, parameter, (ck.CKA_TOKEN, True)) == "CKR_SESSION_READ_ONLY"
    assert iv.raw == b"\xee" * 8


def test_a_pair_of_new_x9_42_parameters_agrees(bench: Bench, session: int) -> None:
    p11 = bench.p11
    how, wanted = (
        mechanism(ck.CKM_X9_42_DH_PARAMETER_GEN),
        ((ck.CKA_PRIME_BITS, 1024), (ck.CKA_SUBPRIME_BITS, 160)),
    )
    made = p11.made("C_GenerateKey", session, how, template(*wanted), 2)
    domain = [(type, p11.get(session, made, type)) for type in (ck.CKA_PRIME, ck.CKA_BASE, ck.CKA_SUBPRIME)]
    derive = [*OPEN, (ck.CKA_DERIVE, True)]
    pairs = [p11.key_pair(session, ck.CKM_X9_42_DH_KEY_PAIR_GEN, domain, derive) for _ in range(2)]
    secrets = set()
    for (public, _), (_, private) in (pairs, pairs[::-1]):
        peer = p11.get(session, public, ck.CKA_VALUE)
        parameter = parameters.structure(ck.CKD_NULL, 0, None, len(peer), peer)
        agree = mechanism(ck.CKM_X9_42_DH_DERIVE, parameter)
        key = p11.made("C_DeriveKey", session, agree, private, template(*OPEN, (ck.CKA_VALUE_LEN, 128)), 3)
        secrets.add(p11.get(session, key, ck.CKA_VALUE))
    assert len(secrets) == 1


@pytest.mark.parametrize(("bits", "sub"), [(1024, 256), (2048, 160), (1088, 160), (512, 160)])
def test_x9_42_parameters_that_are_not_there(bench: Bench, session: int, bits: int, sub: int) -> None:
    wanted = ((ck.CKA_PRIME_BITS, bits), (ck.CKA_SUBPRIME_BITS, sub))
    assert refusal(bench, session, ck.CKM_X9_42_DH_PARAMETER_GEN, None, *wanted) == "CKR_KEY_SIZE_RANGE"


def test_without_kernels_they_are_not_offered() -> None:
    assert not {DES3, DES2, MAC} & set(Driver(native=False).engine.mechanisms())
