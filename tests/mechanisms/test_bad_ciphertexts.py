"""Wrapped keys and ciphertexts with every byte changed, cut at every length, padded wrongly, through the ABI.

What has a tag or a check of its own must say so; the rest gives another key or text, or always the same code.
A mechanism of a known kind needs no line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mechanism_parameters as parameters
import pytest
from cases import DATA
from cryptoki import RefusedError, answer
from keys import OPEN, PAIRS, usable
from known_use import good_parameter, keys_for
from sides import Side

from ferrohsm import constants as ck
from ferrohsm.mechanisms import ROWS, Row

GENERIC = ck.CKK_GENERIC_SECRET
INVALID, RANGE = "CKR_WRAPPED_KEY_INVALID", "CKR_WRAPPED_KEY_LEN_RANGE"
DATA_INVALID, DATA_RANGE = "CKR_ENCRYPTED_DATA_INVALID", "CKR_ENCRYPTED_DATA_LEN_RANGE"
# Families that notice every change.
CHECKED = {"rsa_aes_key_wrap", "ecdh_aes_key_wrap", "aes_key_wrap"}
CHECKED_TYPES = {ck.CKM_RSA_PKCS_OAEP, ck.CKM_AES_GCM, ck.CKM_AES_CCM, ck.CKM_CHACHA20_POLY1305}
TARGETS = ("secret", "P-256", "RSA")


def checks(row: Row) -> bool:
    return row.family in CHECKED or row.type in CHECKED_TYPES


def having(flag: int) -> list[Any]:
    return [
        pytest.param(type_, id=ck.name("CKM", type_).removeprefix("CKM_"))
        for type_, row in ROWS.items()
        if row.functions & flag
    ]


def how_for(side: Side, row: Row, length: int) -> Any:
    if row.parameter == "ccm":
        return side.how(row.type, parameters.ccm(length, bytes(12), b"header"))
    return side.how(row.type, good_parameter(side, row))


def changes(blob: bytes, step: int = 1) -> list[bytes]:
    """Return the blob with the lowest and the highest bit of each byte changed."""
    return [
        blob[:place] + bytes((blob[place] ^ mask,)) + blob[place + 1 :]
        for place in range(0, len(blob), step)
        for mask in (1, 0x80)
    ]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("type_", having(ck.CKF_UNWRAP))
def test_wrapped_keys(side: Side, type_: int, target: str) -> None:
    row = ROWS[type_]
    if type_ not in side.offered:
        pytest.skip("the slot does not offer it")
    public, private = keys_for(side, row)
    how = how_for(side, row, 32)
    if target == "secret":
        handle, pairs = side.secret(GENERIC, DATA[:32]), usable(GENERIC)
    else:
        handle = side.known(target, private=True)
        key_type = (ck.CKA_KEY_TYPE, PAIRS[target].key_type)
        pairs = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), key_type, *OPEN]
    try:
        wrapped = side.wrap(how, public, handle)
    except RefusedError as refused:
        # Modes of whole blocks have nothing that says where a private key ends.
        assert target != "secret" and refused.rv == "CKR_KEY_NOT_WRAPPABLE"
        return

    def unwrap(blob: bytes) -> str:
        return answer(side.unwrap, how, private, blob, pairs)

    assert unwrap(wrapped) == "CKR_OK"
    # An RSA key's parts are compared with each other, which takes 30 ms when the beginning is sound.
    step = 1 if len(wrapped) < 300 else 97
    answers = {unwrap(blob) for blob in changes(wrapped, step)}
    shorter = {unwrap(wrapped[:length]) for length in range(0, len(wrapped), step)}
    longer = {unwrap(wrapped + bytes(count)) for count in (1, 8, 16, 1000)}
    if checks(row):
        # The highest bit of X25519's coordinate counts for nothing (RFC 7748, section 5).
        ignored = {"CKR_OK"} if row.type == ck.CKM_ECDH_X_AES_KEY_WRAP else set()
        assert answers - ignored == {INVALID}
        assert shorter | longer <= {INVALID, RANGE}
    elif target != "secret":
        assert answers == {INVALID}
        assert shorter | longer <= {INVALID, RANGE}
    else:
        assert answers | shorter | longer <= {"CKR_OK", INVALID, RANGE}


@pytest.mark.parametrize("type_", having(ck.CKF_DECRYPT))
def test_ciphertexts(side: Side, type_: int) -> None:
    row = ROWS[type_]
    if type_ not in side.offered:
        pytest.skip("the slot does not offer it")
    public, private = keys_for(side, row)
    data = DATA.rjust(256, b"\0") if type_ == ck.CKM_RSA_X_509 else DATA
    sealed = side.transform("Encrypt", how_for(side, row, len(data)), public, data)

    def decrypt(blob: bytes) -> str:
        length = max(0, len(blob) - 16)
        return answer(side.transform, "Decrypt", how_for(side, row, length), private, blob)

    answers = {decrypt(blob) for blob in changes(sealed)}
    others = {decrypt(sealed[:length]) for length in range(len(sealed))}
    others |= {decrypt(sealed + bytes(count)) for count in (1, 8, 16, 1000)}
    if checks(row):
        assert answers == {DATA_INVALID}
        assert others <= {DATA_INVALID, DATA_RANGE}
    elif type_ == ck.CKM_RSA_PKCS:  # a wrong padding gives another text, so that nobody learns of it
        modulus = side.p11.get(side.session, public, ck.CKA_MODULUS)
        # A number that is no smaller than the modulus is no ciphertext, which anybody can see.
        possible = [blob for blob in changes(sealed) if blob < modulus]
        assert {decrypt(blob) for blob in possible} == {"CKR_OK"} and others == {DATA_RANGE}
        assert answers <= {"CKR_OK", DATA_INVALID}
    elif type_ == ck.CKM_RSA_X_509:
        assert answers <= {"CKR_OK", DATA_INVALID} and others <= {DATA_RANGE, DATA_INVALID}
    else:
        assert answers | others <= {"CKR_OK", DATA_INVALID, DATA_RANGE}


PADDED = [
    (ck.CKM_AES_CBC_PAD, ck.CKM_AES_CBC, 16),
    (ck.CKM_CAMELLIA_CBC_PAD, ck.CKM_CAMELLIA_CBC, 16),
    (ck.CKM_DES_CBC_PAD, ck.CKM_DES_CBC, 8),
    (ck.CKM_DES3_CBC_PAD, ck.CKM_DES3_CBC, 8),
]


@pytest.mark.parametrize(("padding", "bare", "block"), PADDED, ids=lambda value: str(value)[:6])
def test_paddings_that_are_none(side: Side, padding: int, bare: int, block: int) -> None:
    """One code for all that is wrong with a padding, by whatever function: who asks learns yes or no only."""
    key = keys_for(side, ROWS[bare])[0]
    iv = bytes(range(block))

    def encrypted(plain: bytes) -> bytes:
        return side.transform("Encrypt", side.how(bare, iv), key, plain)

    def in_parts(blob: bytes) -> None:
        side.p11("C_DecryptInit", side.session, side.how(padding, iv), key)
        side.p11.whole("C_DecryptUpdate", side.session, blob[:3], 3)
        side.p11.whole("C_DecryptUpdate", side.session, blob[3:], len(blob) - 3)
        side.p11.whole("C_DecryptFinal", side.session)

    ways: list[tuple[Callable[[bytes], Any], str]] = [
        (lambda blob: side.transform("Decrypt", side.how(padding, iv), key, blob), DATA_INVALID),
        (in_parts, DATA_INVALID),
        (lambda blob: side.unwrap(side.how(padding, iv), key, blob, usable(GENERIC)), INVALID),
    ]
    for last in range(256):
        plain = DATA[: 2 * block - 1] + bytes((last,))
        right = last == 1
        for work, expected in ways:
            assert answer(work, encrypted(plain)) == ("CKR_OK" if right else expected), last
    for count in range(2, block + 1):  # each byte of a padding is looked at
        for wrong in range(1, count):
            filled = bytearray(DATA[: 2 * block - count] + bytes((count,)) * count)
            filled[-1 - wrong] ^= 1
            assert answer(ways[0][0], encrypted(bytes(filled))) == DATA_INVALID, (count, wrong)
            assert answer(ways[2][0], encrypted(bytes(filled))) == INVALID, (count, wrong)
