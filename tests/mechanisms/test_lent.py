"""What the families borrow of the kernels' libcrypto: known answers, refusals, through the module."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from bench import Bench
from cryptoki import mechanism, template
from engine_support import KERNELS, Driver
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm import errors

pytestmark = pytest.mark.skipif(KERNELS is None, reason="the kernels are not built")

VECTORS = root() / "ciphers" / "AES" / "CFB"
# RFC 5794, appendix A.
ARIA = {16: "d718fbd6ab644c739da95f3be6451778", 24: "26449c1805dbe7aa25a468ce263a9e79"}
ARIA[32] = "f92bd7c79fb72e2f2b8f80c1972d24fc"
# RFC 5528, section 4: keys, counter blocks, plaintexts, ciphertexts.
CAMELLIA_CTR = [
    (
        "ae6852f8121067cc4bf7a5765577f39e",
        "00000030000000000000000000000001",
        "53696e676c6520626c6f636b206d7367",
        "d09dc29a8214619a20877c76db1f0b3f",
    ),
    (
        "7e24067817fae0d743d6ce1f32539163",
        "006cb6dbc0543b59da48d90b00000001",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "dbf3c78dc08396d4da7c907765bbcb442b8e8e0f31f0dca72c7417e35360e048",
    ),
]


def key(bench: Bench, session: int, key_type: int, value: bytes) -> int:
    head = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, key_type))
    return bench.p11.create(session, *head, (ck.CKA_VALUE, value))


def both_ways(bench: Bench, session: int, how: Any, handle: int, plain: bytes, cipher: bytes) -> None:
    assert bench.p11.transform("Encrypt", session, how, handle, plain) == cipher
    assert bench.p11.transform("Decrypt", session, how, handle, cipher) == plain


@pytest.fixture
def session(bench: Bench) -> int:
    made = bench.p11.open(bench.slot)
    bench.p11.rv("C_Login", made, ck.CKU_USER, b"user-pin", 8)
    return made


@pytest.mark.parametrize("length", ARIA)
def test_aria(bench: Bench, session: int, length: int) -> None:
    handle = key(bench, session, ck.CKK_ARIA, bytes(range(length)))
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    both_ways(bench, session, mechanism(ck.CKM_ARIA_ECB), handle, plain, bytes.fromhex(ARIA[length]))
    # The check value: of a zero block enciphered.
    zero = bench.p11.transform("Encrypt", session, mechanism(ck.CKM_ARIA_ECB), handle, bytes(16))
    assert bench.p11.get(session, handle, ck.CKA_CHECK_VALUE) == zero[:3]


@pytest.mark.parametrize(("value", "block", "plain", "cipher"), CAMELLIA_CTR)
def test_camellia_ctr(
    bench: Bench,
    session: int,
    value: str,
    block: str,
    plain: str,
    cipher: str,
) -> None:
    handle = key(bench, session, ck.CKK_CAMELLIA, bytes.fromhex(value))
    counter = (32).to_bytes(8, "little") + bytes.fromhex(block)
    how = mechanism(ck.CKM_CAMELLIA_CTR, counter)
    both_ways(bench, session, how, handle, bytes.fromhex(plain), bytes.fromhex(cipher))


def test_a_counter_does_not_begin_anew(bench: Bench, session: int) -> None:
    handle = key(bench, session, ck.CKK_CAMELLIA, bytes(16))
    how = mechanism(ck.CKM_CAMELLIA_CTR, (8).to_bytes(8, "little") + bytes(15) + b"\xff")
    assert len(bench.p11.transform("Encrypt", session, how, handle, bytes(16))) == 16
    bench.p11("C_EncryptInit", session, how, handle)
    out, length = (ctypes.c_ubyte * 64)(), ctypes.c_ulong(64)
    answer = bench.p11.rv("C_Encrypt", session, bytes(17), 17, out, length)
    assert answer == "CKR_DATA_LEN_RANGE"


@pytest.mark.parametrize("path", sorted(VECTORS.glob("CFB1[A-Z]*.rsp")), ids=lambda path: path.stem)
def test_cfb1(bench: Bench, session: int, path: Any) -> None:
    """NIST CAVP, AESVS: strings of bits, of which the last byte's rest says nothing."""
    count = 0
    for record in records(path, "COUNT"):
        count += 1
        if count > 40:
            break
        handle = key(bench, session, ck.CKK_AES, bytes.fromhex(record["KEY"]))
        how = mechanism(ck.CKM_AES_CFB1, bytes.fromhex(record["IV"]))
        for function, given, expected in (
            ("Encrypt", record["PLAINTEXT"], record["CIPHERTEXT"]),
            ("Decrypt", record["CIPHERTEXT"], record["PLAINTEXT"]),
        ):
            filled = given + "0" * (-len(given) % 8)
            data = int(filled, 2).to_bytes(len(filled) // 8, "big")
            out = bench.p11.transform(function, session, how, handle, data)
            assert f"{int.from_bytes(out, 'big'):0{len(filled)}b}"[: len(given)] == expected
        bench.p11("C_DestroyObject", session, handle)
    assert count


@pytest.mark.parametrize(
    ("type", "parameter", "answer"),
    [
        (ck.CKM_ARIA_ECB, bytes(16), "CKR_MECHANISM_PARAM_INVALID"),
        (ck.CKM_ARIA_CBC, None, "CKR_MECHANISM_PARAM_INVALID"),
        (ck.CKM_ARIA_CBC, bytes(15), "CKR_MECHANISM_PARAM_INVALID"),
        (ck.CKM_AES_CBC, bytes(16), "CKR_KEY_TYPE_INCONSISTENT"),
    ],
)
def test_what_aria_refuses(bench: Bench, session: int, type: int, parameter: Any, answer: str) -> None:
    handle = key(bench, session, ck.CKK_ARIA, bytes(16))
    assert bench.p11.rv("C_EncryptInit", session, mechanism(type, parameter), handle) == answer


@pytest.mark.parametrize("bits", [0, 129])
def test_what_camellia_ctr_refuses(bench: Bench, session: int, bits: int) -> None:
    handle = key(bench, session, ck.CKK_CAMELLIA, bytes(16))
    how = mechanism(ck.CKM_CAMELLIA_CTR, bits.to_bytes(8, "little") + bytes(16))
    assert bench.p11.rv("C_EncryptInit", session, how, handle) == "CKR_MECHANISM_PARAM_INVALID"
    how = mechanism(ck.CKM_CAMELLIA_CTR, bytes(23))
    assert bench.p11.rv("C_EncryptInit", session, how, handle) == "CKR_MECHANISM_PARAM_INVALID"


def test_wrong_lengths(bench: Bench, session: int) -> None:
    pairs = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_ARIA), (ck.CKA_VALUE, bytes(17)))
    place = ctypes.c_ulong(0)
    answer = bench.p11.rv("C_CreateObject", session, template(*pairs), 3, place)
    assert answer == "CKR_ATTRIBUTE_VALUE_INVALID"
    handle = key(bench, session, ck.CKK_ARIA, bytes(16))
    out, length = (ctypes.c_ubyte * 64)(), ctypes.c_ulong(64)
    bench.p11("C_EncryptInit", session, mechanism(ck.CKM_ARIA_CBC, bytes(16)), handle)
    assert bench.p11.rv("C_Encrypt", session, bytes(15), 15, out, length) == "CKR_DATA_LEN_RANGE"
    bench.p11("C_DecryptInit", session, mechanism(ck.CKM_ARIA_CBC_PAD, bytes(16)), handle)
    length.value = 64
    answer = bench.p11.rv("C_Decrypt", session, bytes(32), 32, out, length)
    assert answer == "CKR_ENCRYPTED_DATA_INVALID"


@pytest.mark.parametrize("type", [ck.CKM_CAMELLIA_CBC, ck.CKM_ARIA_CBC, ck.CKM_ARIA_ECB, ck.CKM_CAMELLIA_ECB])
def test_a_wrapped_key_is_filled_up(bench: Bench, session: int, type: int) -> None:
    """ "padded on the trailing end with up to block size minus one null bytes"."""
    p11 = bench.p11
    name = ck.name("CKM", type)
    wrapping = key(bench, session, ck.CKK_ARIA if "ARIA" in name else ck.CKK_CAMELLIA, bytes(16))
    open_ = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
    target = p11.generic_secret(session, bytes(range(20)), *open_)
    how = mechanism(type, None if name.endswith("ECB") else bytes(16))
    wrapped = p11.whole("C_WrapKey", session, how, wrapping, target)
    assert len(wrapped) == 32
    pairs = (
        (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
        (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET),
        (ck.CKA_VALUE_LEN, 20),
        *open_,
    )
    array = template(*pairs)
    made = p11.made("C_UnwrapKey", session, how, wrapping, wrapped, 32, array, len(pairs))
    assert p11.get(session, made, ck.CKA_VALUE) == bytes(range(20))


def test_without_kernels_they_are_not_offered() -> None:
    offered = Driver(native=False).engine.mechanisms()
    lent = {ck.CKM_AES_CFB1, ck.CKM_CAMELLIA_CTR, ck.CKM_ARIA_KEY_GEN, ck.CKM_ARIA_CBC_ENCRYPT_DATA}
    assert not lent & set(offered) and ck.CKM_CAMELLIA_CBC in offered
    driver = Driver(native=False)
    with pytest.raises(errors.MechanismInvalid):
        driver.encrypt(ck.CKM_AES_CFB1, driver.aes(bytes(16)), bytes(16), bytes(16))
