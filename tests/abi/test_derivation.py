"""What a derived key has of the keys it is made of, through the C functions."""

from __future__ import annotations

import hashlib
from typing import Any

import mechanism_parameters as parameters
import pytest
from cryptoki import Cryptoki, RefusedError, mechanism, template

from ferrohsm import constants as ck

ONE_TOKEN = True
DERIVE, OPEN = (ck.CKA_DERIVE, True), (ck.CKA_SENSITIVE, False)
EXTRACTABLE = (ck.CKA_EXTRACTABLE, True)
LENGTH = (ck.CKA_VALUE_LEN, 16)


class Bed:
    """A session to derive in."""

    def __init__(self, p11: Cryptoki, session: int) -> None:
        self.p11 = p11
        self.session = session

    def secret(self, *pairs: tuple[int, Any], value: bytes = bytes(range(32))) -> int:
        return self.p11.generic_secret(self.session, value, *pairs)

    def derive(self, type: int, base: int, parameter: Any, *pairs: tuple[int, Any]) -> int:
        array = template(*pairs)
        return self.p11.made("C_DeriveKey", self.session, mechanism(type, parameter), base, array, len(pairs))

    def refusal(self, type: int, base: int, parameter: Any, *pairs: tuple[int, Any]) -> str:
        with pytest.raises(RefusedError) as refused:
            self.derive(type, base, parameter, *pairs)
        return refused.value.rv

    def flag(self, handle: int, attribute: int) -> bool:
        return self.p11.get(self.session, handle, attribute) == b"\1"

    def flags(self, handle: int) -> tuple[bool, bool, bool, bool]:
        """Return sensitive, extractable, always sensitive, never extractable."""
        names = (ck.CKA_SENSITIVE, ck.CKA_EXTRACTABLE, ck.CKA_ALWAYS_SENSITIVE, ck.CKA_NEVER_EXTRACTABLE)
        sensitive, extractable, always, never = (self.flag(handle, name) for name in names)
        return sensitive, extractable, always, never


@pytest.fixture
def bed(p11: Cryptoki, session: int) -> Bed:
    return Bed(p11, session)


REARRANGING = [
    ck.CKM_CONCATENATE_BASE_AND_DATA,
    ck.CKM_CONCATENATE_DATA_AND_BASE,
    ck.CKM_XOR_BASE_AND_DATA,
    ck.CKM_EXTRACT_KEY_FROM_KEY,
]


@pytest.mark.parametrize("type", REARRANGING, ids=lambda type: ck.name("CKM", type))
def test_rearranged_bits_stay_as_protected_as_they_were(bed: Bed, type: int) -> None:
    extract = type == ck.CKM_EXTRACT_KEY_FROM_KEY
    parameter = parameters.structure(8) if extract else parameters.string(bytes(16))
    guarded = bed.secret(DERIVE, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    made = bed.derive(type, guarded, parameter, OPEN, EXTRACTABLE, LENGTH)
    assert bed.flags(made)[:2] == (True, False)
    with pytest.raises(RefusedError) as refused:
        bed.p11.get(bed.session, made, ck.CKA_VALUE)
    assert refused.value.rv == "CKR_ATTRIBUTE_SENSITIVE"
    free = bed.secret(DERIVE, OPEN, EXTRACTABLE)
    made = bed.derive(type, free, parameter, OPEN, EXTRACTABLE, LENGTH)
    assert bed.flags(made) == (False, True, False, False)
    assert len(bed.p11.get(bed.session, made, ck.CKA_VALUE)) == 16


def pieces(bed: Bed, base: int, length: int) -> list[tuple[int, Any, int]]:
    """Return the ways to a key with `length` bytes of a base key: mechanism, parameter, CKA_VALUE_LEN."""
    known = bed.secret(DERIVE, OPEN, EXTRACTABLE, value=bytes(20))
    return [
        (ck.CKM_EXTRACT_KEY_FROM_KEY, parameters.structure(3), length),
        (ck.CKM_CONCATENATE_BASE_AND_DATA, parameters.string(b"known"), length),
        (ck.CKM_CONCATENATE_DATA_AND_BASE, parameters.string(b"known"), length + 5),
        (ck.CKM_XOR_BASE_AND_DATA, parameters.string(bytes(length)), length),
        (ck.CKM_XOR_BASE_AND_DATA, parameters.string(bytes(32)), length),
        (ck.CKM_CONCATENATE_BASE_AND_KEY, parameters.structure(known), length),
    ]


@pytest.mark.parametrize(
    "guard",
    [(ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False)],
    ids=["sensitive", "not-extractable"],
)
def test_no_piece_of_a_protected_key_can_be_found_by_trying(bed: Bed, guard: tuple[int, bool]) -> None:
    """One byte as a key of its own would be found by 256 MACs, and the next one after it."""
    guarded, free = bed.secret(DERIVE, guard), bed.secret(DERIVE, OPEN, EXTRACTABLE)
    for length in (1, 8, 13):
        for type_, parameter, size in pieces(bed, guarded, length):
            asked = (ck.CKA_VALUE_LEN, size)
            assert bed.refusal(type_, guarded, parameter, asked) == "CKR_KEY_SIZE_RANGE"
            assert bed.derive(type_, free, parameter, asked)  # its bytes can be read anyway
    for type_, parameter, size in pieces(bed, guarded, 14):
        assert bed.derive(type_, guarded, parameter, (ck.CKA_VALUE_LEN, size))
    # The second key of a concatenation gives as many bytes, or none.
    join, other = ck.CKM_CONCATENATE_BASE_AND_KEY, parameters.structure(guarded)
    assert bed.refusal(join, free, other, (ck.CKA_VALUE_LEN, 33)) == "CKR_KEY_SIZE_RANGE"
    assert bed.derive(join, free, other, (ck.CKA_VALUE_LEN, 32))
    assert bed.derive(join, free, other, (ck.CKA_VALUE_LEN, 46))
    # A DES key has 8 bytes, whatever the template says.
    des = (ck.CKA_KEY_TYPE, ck.CKK_DES)
    extract = ck.CKM_EXTRACT_KEY_FROM_KEY
    assert bed.refusal(extract, guarded, parameters.structure(0), des) == "CKR_KEY_SIZE_RANGE"
    # What is shorter itself is used whole.
    short = bed.secret(DERIVE, guard, value=bytes(8))
    assert bed.refusal(extract, short, parameters.structure(0), (ck.CKA_VALUE_LEN, 7)) == "CKR_KEY_SIZE_RANGE"
    assert bed.derive(extract, short, parameters.structure(0), (ck.CKA_VALUE_LEN, 8))


@pytest.mark.parametrize("guarded_first", [True, False])
def test_either_key_protects_a_concatenation(bed: Bed, guarded_first: bool) -> None:
    guarded = bed.secret(DERIVE, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    free = bed.secret(DERIVE, OPEN, EXTRACTABLE)
    base, other = (guarded, free) if guarded_first else (free, guarded)
    made = bed.derive(ck.CKM_CONCATENATE_BASE_AND_KEY, base, parameters.structure(other), OPEN, EXTRACTABLE)
    assert bed.flags(made)[:2] == (True, False)


def test_always_sensitive_only_if_both_were(bed: Bed) -> None:
    pairs = (DERIVE, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False), (ck.CKA_VALUE_LEN, 32))
    array = template(*pairs)
    how = mechanism(ck.CKM_GENERIC_SECRET_KEY_GEN)
    born = [bed.p11.made("C_GenerateKey", bed.session, how, array, len(pairs)) for _ in range(2)]
    brought = bed.secret(DERIVE, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    join = ck.CKM_CONCATENATE_BASE_AND_KEY
    assert bed.flags(bed.derive(join, born[0], parameters.structure(born[1]))) == (True, False, True, True)
    for base, other in ((born[0], brought), (brought, born[0])):
        made = bed.derive(join, base, parameters.structure(other))
        assert bed.flags(made) == (True, False, False, False)


def test_the_other_key_must_be_one_to_derive_with(bed: Bed) -> None:
    base, mute = bed.secret(DERIVE), bed.secret()
    join = ck.CKM_CONCATENATE_BASE_AND_KEY
    assert bed.refusal(join, base, parameters.structure(mute)) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    assert bed.refusal(join, base, parameters.structure(4711)) == "CKR_KEY_HANDLE_INVALID"
    assert bed.refusal(join, base, parameters.structure(0)) == "CKR_KEY_HANDLE_INVALID"
    assert bed.refusal(join, base, b"short") == "CKR_MECHANISM_PARAM_INVALID"
    data = bed.p11.data_object(bed.session, (ck.CKA_VALUE, b"data"))
    assert bed.refusal(join, base, parameters.structure(data)) == "CKR_KEY_TYPE_INCONSISTENT"
    salted = parameters.hkdf(ck.CKM_SHA256, salt=mute)
    assert bed.refusal(ck.CKM_HKDF_DERIVE, base, salted, LENGTH) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    pieces = (
        parameters.piece(ck.CK_SP800_108_ITERATION_VARIABLE, parameters.counter()),
        parameters.piece(ck.CK_SP800_108_KEY_HANDLE, mute),
    )
    kdf = parameters.sp800_108(ck.CKM_SHA256_HMAC, *pieces)
    assert bed.refusal(ck.CKM_SP800_108_COUNTER_KDF, base, kdf, LENGTH) == "CKR_KEY_FUNCTION_NOT_PERMITTED"


def test_sp800_108_keys_are_as_the_base_key_unless_told(bed: Bed) -> None:
    kdf = ck.CKM_SP800_108_COUNTER_KDF
    iteration = parameters.piece(ck.CK_SP800_108_ITERATION_VARIABLE, parameters.counter())
    parameter = parameters.sp800_108(ck.CKM_SHA256_HMAC, iteration)
    free = bed.secret(DERIVE, OPEN, EXTRACTABLE)
    guarded = bed.secret(DERIVE, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    assert bed.flags(bed.derive(kdf, free, parameter, LENGTH))[:2] == (False, True)
    assert bed.flags(bed.derive(kdf, guarded, parameter, LENGTH))[:2] == (True, False)
    assert bed.flags(bed.derive(kdf, guarded, parameter, LENGTH, OPEN, EXTRACTABLE))[:2] == (False, True)


def test_hkdf_data_is_a_data_object(bed: Bed) -> None:
    base = bed.secret(DERIVE, (ck.CKA_SENSITIVE, True))
    parameter = parameters.hkdf(ck.CKM_SHA256, salt=b"salt", info=b"info")
    made = bed.derive(ck.CKM_HKDF_DATA, base, parameter, LENGTH, (ck.CKA_LABEL, b"label"))
    assert bed.p11.get(bed.session, made, ck.CKA_CLASS) == ck.CKO_DATA.to_bytes(8, "little")
    assert bed.p11.get(bed.session, made, ck.CKA_LABEL) == b"label"
    key = bed.derive(ck.CKM_HKDF_DERIVE, base, parameter, LENGTH, OPEN, EXTRACTABLE)
    assert bed.p11.get(bed.session, made, ck.CKA_VALUE) == bed.p11.get(bed.session, key, ck.CKA_VALUE)
    wrong = (ck.CKA_VALUE, b"value")
    assert bed.refusal(ck.CKM_HKDF_DATA, base, parameter, LENGTH, wrong) == "CKR_TEMPLATE_INCONSISTENT"
    assert bed.refusal(ck.CKM_HKDF_DATA, base, parameter) == "CKR_TEMPLATE_INCOMPLETE"


def test_the_public_key_of_a_private_key(bed: Bed) -> None:
    type, p11 = ck.CKM_PUB_KEY_FROM_PRIV_KEY, bed.p11
    private = p11.ec(bed.session, (ck.CKA_ID, b"id"), (ck.CKA_SIGN, True))[1]
    made = bed.derive(type, private, None)
    assert p11.get(bed.session, made, ck.CKA_ID) == b"id"
    assert bed.flag(made, ck.CKA_VERIFY) and not bed.flag(made, ck.CKA_LOCAL)
    assert not bed.flag(made, ck.CKA_PRIVATE) and not bed.flag(made, ck.CKA_TOKEN)
    assert p11.get(bed.session, made, ck.CKA_KEY_GEN_MECHANISM) == ck.CKM_EC_KEY_PAIR_GEN.to_bytes(
        8, "little"
    )
    signature = p11.transform("Sign", bed.session, mechanism(ck.CKM_ECDSA_SHA256), private, b"data")
    p11("C_VerifyInit", bed.session, mechanism(ck.CKM_ECDSA_SHA256), made)
    p11("C_Verify", bed.session, b"data", 4, signature, len(signature))
    other = bed.derive(type, private, None, (ck.CKA_LABEL, b"mine"), (ck.CKA_VERIFY, False))
    assert p11.get(bed.session, other, ck.CKA_LABEL) == b"mine"
    assert not bed.flag(other, ck.CKA_VERIFY)
    for wrong in ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_RSA)):
        assert bed.refusal(type, private, None, wrong) == "CKR_TEMPLATE_INCONSISTENT"
    assert bed.refusal(type, private, None, (ck.CKA_TRUSTED, True)) == "CKR_ATTRIBUTE_READ_ONLY"
    assert bed.refusal(type, bed.secret(DERIVE), None) == "CKR_KEY_TYPE_INCONSISTENT"


def test_broken_parameters(bed: Bed) -> None:
    base, invalid = bed.secret(DERIVE), "CKR_MECHANISM_PARAM_INVALID"
    iteration = parameters.piece(ck.CK_SP800_108_ITERATION_VARIABLE, parameters.counter())
    prf = ck.CKM_SHA256_HMAC
    for type, parameter in (
        (ck.CKM_HKDF_DERIVE, b"short"),
        (ck.CKM_HKDF_DERIVE, None),
        (ck.CKM_HKDF_DERIVE, parameters.structure(True, True, ck.CKM_SHA256, 9, None, 0, 0, None, 0)),
        (ck.CKM_HKDF_DERIVE, parameters.structure(True, True, ck.CKM_SHA256, 2, None, 5, 0, None, 0)),
        (ck.CKM_SP800_108_COUNTER_KDF, parameters.structure(prf, 1, None, 0, None)),
        (ck.CKM_SP800_108_COUNTER_KDF, parameters.structure(prf, 1 << 60, [iteration], 0, None)),
        (ck.CKM_SP800_108_COUNTER_KDF, parameters.structure(prf, 1, [iteration], 1, None)),
        (ck.CKM_SP800_108_COUNTER_KDF, parameters.sp800_108(prf, parameters.structure(9, None, 0))),
        (ck.CKM_SP800_108_COUNTER_KDF, parameters.sp800_108(prf, parameters.structure(2, None, 16))),
        (ck.CKM_SP800_108_FEEDBACK_KDF, parameters.structure(prf, 0, None, 5, None, 0, None)),
        (ck.CKM_XOR_BASE_AND_DATA, parameters.structure(None, 5)),
        (ck.CKM_XOR_BASE_AND_DATA, parameters.structure(None, 0)),
    ):
        assert bed.refusal(type, base, parameter, LENGTH) == invalid, (type, parameter)
    key = (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET)
    for parameter in (
        b"short",
        parameters.structure(2, None, 0, 1, 1, None, 0, b"p", 1),
        parameters.structure(1, None, 0, 1, 1, b"x", 1, b"p", 1),
        parameters.structure(1, None, 0, 0, 1, None, 0, b"p", 1),
        parameters.structure(1, None, 0, 1, 2, None, 0, b"p", 1),
        parameters.structure(1, None, 0, 1, 1, None, 0, None, 1),
        parameters.structure(1, None, 0, 1, 1, None, 0, b"p", 1 << 60),
        # A pointer to the length, as before 2.40: to no memory, and to a length that is too long.
        parameters.structure(1, None, 0, 1, 1, None, 0, b"p", 1 << 40),
        parameters.structure(1, None, 0, 1, 1, None, 0, b"p", (0x100001).to_bytes(8, "little")),
    ):
        array = template(key, LENGTH)
        answer = bed.p11.rv(
            "C_GenerateKey",
            bed.session,
            mechanism(ck.CKM_PKCS5_PBKD2, parameter),
            array,
            2,
            template((0, None)),
        )
        assert answer == invalid


def test_a_password_as_old_programs_give_it(bed: Bed) -> None:
    """CK_PKCS5_PBKD2_PARAMS of before 2.40: the length is behind a pointer (NSS)."""
    prf = ck.CKP_PKCS5_PBKD2_HMAC_SHA256
    length = len(b"password").to_bytes(8, "little")
    old = parameters.structure(ck.CKZ_SALT_SPECIFIED, b"salt", 4, 3, prf, None, 0, b"password", length)
    pairs = (
        (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), (ck.CKA_VALUE_LEN, 32),
        (ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True),
    )  # fmt: skip
    key = bed.p11.made(
        "C_GenerateKey", bed.session, mechanism(ck.CKM_PKCS5_PBKD2, old), template(*pairs), len(pairs)
    )
    value = bed.p11.get(bed.session, key, ck.CKA_VALUE)
    assert value == hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 3, 32)
