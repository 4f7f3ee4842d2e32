"""Keys that are none: points off a curve, exponents and groups that give secrets away; through the C ABI."""

from __future__ import annotations

from typing import Any

import mechanism_parameters as parameters
import pytest
from cryptoki import answer
from keys import CURVES, OPEN, PAIRS, usable
from known_keys import DH_P, DSA_G, DSA_P, DSA_Q, RSA_P, RSA_Q, octets
from sides import Side
from vector_files import records, root

from ferrohsm import constants as ck

GENERIC = ck.CKK_GENERIC_SECRET
ATTRIBUTE, PARAMETER = "CKR_ATTRIBUTE_VALUE_INVALID", "CKR_MECHANISM_PARAM_INVALID"
WRAPPED = ("CKR_WRAPPED_KEY_INVALID", "CKR_WRAPPED_KEY_LEN_RANGE")


def changed(name: str, *, private: bool = False, **values: bytes | None) -> list[tuple[int, Any]]:
    """Return the template of a known key with other attributes, or without those that are None."""
    half = PAIRS[name].private if private else PAIRS[name].public
    new = {getattr(ck, f"CKA_{attribute}"): value for attribute, value in values.items()}
    pairs = [(type_, new.get(type_, value)) for type_, value in half]
    return [pair for pair in pairs if pair[1] is not None]


def string(raw: bytes) -> bytes:
    """Return an octet string in DER."""
    return b"\4" + (bytes((len(raw),)) if len(raw) < 128 else bytes((0x81, len(raw)))) + raw


# Points.


def derive(side: Side, name: str, point: bytes) -> str:
    parameter = parameters.structure(ck.CKD_NULL, 0, None, len(point), point)
    pairs = [*usable(GENERIC), (ck.CKA_VALUE_LEN, 16)]
    return answer(
        side.derive, side.how(ck.CKM_ECDH1_DERIVE, parameter), side.known(name, private=True), pairs
    )


def unwrap(side: Side, name: str, point: bytes) -> str:
    how = side.how(ck.CKM_ECDH_AES_KEY_WRAP, parameters.structure(256, ck.CKD_SHA256_KDF, 0, None))
    return answer(side.unwrap, how, side.known(name, private=True), point + bytes(40), usable(GENERIC))


def bad_points(name: str) -> dict[str, bytes]:
    good = PAIRS[name].point()
    length = (len(good) - 1) // 2
    x, y = good[1 : 1 + length], good[1 + length :]
    return {
        "off the curve": good[:-1] + bytes((good[-1] ^ 1,)),
        "at infinity": b"\0",
        "at infinity, filled up": bytes(len(good)),
        "zeros": b"\4" + bytes(2 * length),
        "short": good[:-1],
        "long": good + b"\0",
        "a hybrid of the other sign": bytes((6 + (y[-1] & 1 ^ 1),)) + x + y,
        "a format that there is not": b"\5" + x + y,
        "not reduced": b"\2" + b"\xff" * length,
        "of another curve": PAIRS["P-384" if name != "P-384" else "P-256"].point(),
    }


@pytest.mark.parametrize("name", CURVES)
def test_points_that_are_none(side: Side, name: str) -> None:
    for what, point in bad_points(name).items():
        assert derive(side, name, point) == PARAMETER, what
        assert unwrap(side, name, point) in WRAPPED, what
        assert answer(side.create, changed(name, EC_POINT=string(point))) == ATTRIBUTE, what
    assert derive(side, name, b"") == PARAMETER
    assert derive(side, name, PAIRS[name].point()) == "CKR_OK"


_P25519, _P448 = 2**255 - 19, 2**448 - 2**224 - 1
SMALL = {
    # RFC 7748, section 6.1, and https://cr.yp.to/ecdh.html: 0, 1, the points of order eight, p - 1, p, p + 1.
    "X25519": [
        *(number.to_bytes(32, "little") for number in (0, 1, _P25519 - 1, _P25519, _P25519 + 1)),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    ],
    "X448": [number.to_bytes(56, "little") for number in (0, 1, _P448 - 1, _P448, _P448 + 1)],
    # Of orders 1, 2, 4 and 8, with either sign, and what is not reduced.
    "Ed25519": [
        bytes((*point[:31], point[31] | sign))
        for sign in (0, 0x80)
        for point in (
            *(number.to_bytes(32, "little") for number in (0, 1, _P25519 - 1, _P25519, _P25519 + 1)),
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        )
    ],
    "Ed448": [
        number.to_bytes(56, "little") + sign
        for sign in (b"\0", b"\x80")
        for number in (0, 1, _P448 - 1, _P448)
    ],
}


@pytest.mark.parametrize("name", SMALL)
def test_points_of_small_order(side: Side, name: str) -> None:
    """An agreement with one gives everybody the same secret; for one as a public key anybody can sign."""
    for point in SMALL[name]:
        assert answer(side.create, changed(name, EC_POINT=string(point))) == ATTRIBUTE, point.hex()
        if name.startswith("X"):
            assert derive(side, name, point) == PARAMETER, point.hex()
            assert unwrap(side, name, point) in WRAPPED, point.hex()
    for point in (b"", PAIRS[name].point()[:-1], PAIRS[name].point() + b"\0"):
        assert answer(side.create, changed(name, EC_POINT=string(point))) == ATTRIBUTE
    assert answer(side.create, changed(name)) == "CKR_OK"


# RSA.

N = RSA_P * RSA_Q
D = int.from_bytes(dict(PAIRS["RSA"].private)[ck.CKA_PRIVATE_EXPONENT], "big")
NO_PARTS = dict.fromkeys(("PRIME_1", "PRIME_2", "EXPONENT_1", "EXPONENT_2", "COEFFICIENT"))


@pytest.mark.parametrize(
    "exponent",
    [b"", b"\0", b"\1", b"\2", b"\4", b"\1\0\0", octets(N), octets(N - 1), octets(N + 2), b"\xff" * 300],
    ids=["empty", "0", "1", "2", "4", "65536", "n", "n-1", "n+2", "2^2400-1"],
)
def test_public_exponents_that_are_none(side: Side, exponent: bytes) -> None:
    assert answer(side.create, changed("RSA", PUBLIC_EXPONENT=exponent)) == ATTRIBUTE
    size = (ck.CKA_MODULUS_BITS, 1024)
    pairs = [size, (ck.CKA_PUBLIC_EXPONENT, exponent)]
    assert (
        answer(side.generate_pair, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, pairs, OPEN) == "CKR_TEMPLATE_INCONSISTENT"
    )


@pytest.mark.parametrize(
    ("modulus", "expected"),
    [
        (b"", "CKR_KEY_SIZE_RANGE"),
        (octets(N - 1), ATTRIBUTE),
        (b"\x80" + bytes(62) + b"\1", "CKR_KEY_SIZE_RANGE"),
        (b"\x80" + bytes(3000) + b"\1", "CKR_KEY_SIZE_RANGE"),
    ],
    ids=["none", "even", "512 bits", "24000 bits"],
)
def test_moduli_that_are_none(side: Side, modulus: bytes, expected: str) -> None:
    assert answer(side.create, changed("RSA", MODULUS=modulus)) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"PRIVATE_EXPONENT": b"\0"},
        {"PRIVATE_EXPONENT": b"\1"},
        {"PRIVATE_EXPONENT": octets(D + 1)},
        {"PRIVATE_EXPONENT": octets(D + 2), **NO_PARTS},
        {"PRIVATE_EXPONENT": octets(N)},
        {"PRIVATE_EXPONENT": b"\1" * 5000},
        {"PRIME_1": b"\0"},
        {"PRIME_1": b"\1", "PRIME_2": octets(N)},
        {"PRIME_1": octets(RSA_P + 2)},
        {"PRIME_1": octets(RSA_Q), "PRIME_2": octets(RSA_P)},
        {"EXPONENT_1": b"\7"},
        {"COEFFICIENT": b"\5"},
        {"PUBLIC_EXPONENT": b"\1\0\0"},
        {"PUBLIC_EXPONENT": b"\1"},
        {"MODULUS": octets(N - 1), **NO_PARTS},
    ],
    ids=lambda values: "-".join(values)[:40],
)
def test_private_keys_that_are_none(side: Side, values: dict[str, bytes | None]) -> None:
    assert answer(side.create, changed("RSA", private=True, **values)) == ATTRIBUTE


# Groups of a finite field.

_RFC5114 = next(records(root() / "asymmetric" / "DH" / "RFC5114.txt", "COUNT"))
P, Q, G = (int(_RFC5114[part], 16) for part in "PQG")  # of 1024 bits, as checking is slow
# Prime, subprime and base of a sound group, and the mechanism that makes pairs in it.
GROUPS = {
    "DSA": (DSA_P, DSA_Q, DSA_G, ck.CKM_DSA_KEY_PAIR_GEN),
    "DH": (P, None, G, ck.CKM_DH_PKCS_KEY_PAIR_GEN),
    "X9.42 DH": (P, Q, G, ck.CKM_X9_42_DH_KEY_PAIR_GEN),
}
PRIMES = {"DSA": (DSA_P, DSA_Q), "DH": (DH_P, None), "X9.42 DH": (DH_P, DH_P // 2)}


def in_group(name: str, *, private: bool = False, **values: bytes | None) -> list[tuple[int, Any]]:
    """Return the template of a key in the group, with other attributes."""
    p, q, g, _ = GROUPS[name]
    sound: dict[str, bytes | None] = {"PRIME": octets(p), "BASE": octets(g)}
    if q is not None:
        sound["SUBPRIME"] = octets(q)
    sound["VALUE"] = octets(77 if private else pow(g, 77, p))
    return changed(name, private=private, **{**sound, **values})


def bad_groups(name: str) -> dict[str, dict[str, bytes | None]]:
    p, q, _, _ = GROUPS[name]
    made: dict[str, dict[str, bytes | None]] = {
        "a composite prime": {"PRIME": octets(p - 2)},
        "an even prime": {"PRIME": octets(p - 1)},
        "a power of two": {"PRIME": octets(1 << (p.bit_length() - 1))},
        "a base of 0": {"BASE": b"\0"},
        "a base of 1": {"BASE": b"\1"},
        "a base of order two": {"BASE": octets(p - 1)},
        "a base of 0 again": {"BASE": octets(p)},
        "a base that is not reduced": {"BASE": octets(p + 2)},
    }
    if q is not None:
        made |= {
            "a subprime of 0": {"SUBPRIME": b"\0"},
            "a subprime of 1": {"SUBPRIME": b"\1"},
            "another subprime": {"SUBPRIME": octets(q + 2)},
            "the prime as subprime": {"SUBPRIME": octets(p)},
        }
    return made


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_are_none(side: Side, name: str) -> None:
    """With a base of 1 anybody could sign for the key; with others a private key is given away in parts."""
    domain = (ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE)
    for what, values in bad_groups(name).items():
        assert answer(side.create, in_group(name, **values)) == ATTRIBUTE, what
        assert answer(side.create, in_group(name, private=True, **values)) == ATTRIBUTE, what
        public = [pair for pair in in_group(name, **values) if pair[0] in domain]
        made = answer(side.generate_pair, GROUPS[name][3], public, OPEN)
        assert made == "CKR_DOMAIN_PARAMS_INVALID", what
    assert (
        answer(side.create, in_group(name)) == answer(side.create, in_group(name, private=True)) == "CKR_OK"
    )


@pytest.mark.parametrize("name", GROUPS)
def test_values_that_are_none(side: Side, name: str) -> None:
    p, q = PRIMES[name]
    for value in (b"\0", b"\1", octets(p - 1), octets(p), octets(p + 1), b"\2" * 2000):
        assert answer(side.create, changed(name, VALUE=value)) == ATTRIBUTE, value.hex()[:20]
        if name != "DSA":
            assert agree(side, name, value) == PARAMETER, value.hex()[:20]
    for value in (b"", b"\0", octets(q or p - 1), octets(p)):
        expected = answer(side.create, changed(name, private=True, VALUE=value))
        assert expected == ATTRIBUTE, value.hex()[:20]


def agree(side: Side, name: str, value: bytes) -> str:
    parameter: Any = value
    type_ = ck.CKM_DH_PKCS_DERIVE
    if name != "DH":
        parameter = parameters.structure(ck.CKD_NULL, 0, None, len(value), value)
        type_ = ck.CKM_X9_42_DH_DERIVE
    pairs = [*usable(GENERIC), (ck.CKA_VALUE_LEN, 16)]
    return answer(side.derive, side.how(type_, parameter), side.known(name, private=True), pairs)


def test_values_outside_the_subgroup(side: Side) -> None:
    """SP 800-56A, section 5.6.2.3.1: else the private key modulo the order of such a value is told."""
    p, q, g = P, Q, G
    domain = [(ck.CKA_PRIME, octets(p)), (ck.CKA_SUBPRIME, octets(q)), (ck.CKA_BASE, octets(g))]
    head = [(ck.CKA_KEY_TYPE, ck.CKK_X9_42_DH), *domain]
    secret = (ck.CKA_VALUE, octets(12345678901234567890))
    pair = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), *head, *OPEN, (ck.CKA_DERIVE, True), secret]
    private = side.create(pair)
    # The rest of p - 1 has small factors, and there is a value of each such order.
    small = [(f, v) for f in (2, 3, 5, 7, 11, 13) if (p - 1) % f == 0 and (v := pow(3, (p - 1) // f, p)) != 1]
    assert small
    pairs = [*usable(GENERIC), (ck.CKA_VALUE_LEN, 16)]
    for value in (3, *(value for _, value in small)):
        if pow(value, q, p) == 1:
            continue
        public = octets(value)
        how = side.how(
            ck.CKM_X9_42_DH_DERIVE, parameters.structure(ck.CKD_NULL, 0, None, len(public), public)
        )
        assert answer(side.derive, how, private, pairs) == PARAMETER
        new = [(ck.CKA_CLASS, ck.CKO_PUBLIC_KEY), *head, (ck.CKA_VALUE, public)]
        assert answer(side.create, new) == ATTRIBUTE
    right = octets(pow(g, 77, p))
    how = side.how(ck.CKM_X9_42_DH_DERIVE, parameters.structure(ck.CKD_NULL, 0, None, len(right), right))
    assert answer(side.derive, how, private, pairs) == "CKR_OK"
