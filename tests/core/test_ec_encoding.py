"""Curve parameters and points: whichever form comes in, one is kept; which goes out is a setting."""

from __future__ import annotations

import pytest
from house import FALSE, P256, House

from ferrohsm import constants as ck
from ferrohsm.attribute_kinds import ulong
from ferrohsm.config import Config
from ferrohsm.ec_encoding import normal_parameters, normal_point, raw_point
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step

ED25519 = bytes.fromhex("06032b6570")
X25519 = bytes.fromhex("06032b656e")


def octets(value: bytes) -> bytes:
    head = bytes((4, len(value))) if len(value) < 128 else bytes((4, 0x81, len(value)))
    return head + value


# Raw points, and among them those that look most like an OCTET STRING.
POINTS = [
    b"\x04" + bytes(64),
    b"\x04\x3f" + bytes(63),
    b"\x04" + bytes(96),
    b"\x04" + bytes(132),
    b"\x04\x81\x82" + bytes(130),
    b"\x02" + bytes(32),
    b"\x03" + bytes(66),
    bytes(32),
    b"\x04\x1e" + bytes(30),
    b"\x04\x36" + bytes(54),
    b"\x04\x37" + bytes(55),
    bytes(57),
    bytes(56),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{len(point)}-{point[:2].hex()}")
def test_points(point: bytes) -> None:
    assert normal_point(point) == octets(point)
    assert normal_point(octets(point)) == octets(point)
    assert raw_point(octets(point)) == point


@pytest.mark.parametrize("value", [b"", b"\x04", b"\x04\x05abc", bytes(10), b"\x04\x81", b"\x05" * 65])
def test_no_points(value: bytes) -> None:
    assert normal_point(value) == value


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"\x13\x0cedwards25519", ED25519),
        (b"\x13\x0acurve25519", X25519),
        (b"\x13\x09secp256r1", P256),
        (b"\x0c\x09secp256r1", P256),
        (bytes.fromhex("06092b06010401da470f01"), ED25519),
        (bytes.fromhex("060a2b060104019755010501"), X25519),
        (P256, P256),
        (b"\x13\x07unknown", b"\x13\x07unknown"),
        (b"\x13\xff", b"\x13\xff"),
        (b"", b""),
    ],
)
def test_parameters(given: bytes, kept: bytes) -> None:
    assert normal_parameters(given) == kept


@pytest.mark.parametrize("form", ["der", "raw"])
@pytest.mark.parametrize("curve", [ED25519, X25519])
def test_setting(form: str, curve: bytes) -> None:
    house = House(config=Config(ec_point=form))
    house.initialize()
    session = house.open()
    house.login(session)
    kind = ck.CKM_EC_EDWARDS_KEY_PAIR_GEN if curve == ED25519 else ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN
    template = [(ck.CKA_EC_PARAMS, curve), (ck.CKA_TOKEN, b"\x01")]
    public, _ = step(house.core.generate_key_pair(session, Mechanism(kind), template, []))
    shown = house.one(session, public, ck.CKA_EC_POINT)
    assert isinstance(shown, bytes)
    assert len(shown) == (34 if form == "der" else 32)
    raw = shown[-32:]
    for point in (raw, octets(raw)):
        assert house.find(session, [(ck.CKA_EC_POINT, point)]) == [public]
        imported = house.create(
            session,
            (ck.CKA_CLASS, ulong(ck.CKO_PUBLIC_KEY)),
            (ck.CKA_KEY_TYPE, ulong(ck.CKK_EC_EDWARDS if curve == ED25519 else ck.CKK_EC_MONTGOMERY)),
            (ck.CKA_EC_PARAMS, curve),
            (ck.CKA_EC_POINT, point),
            (ck.CKA_PRIVATE, FALSE),
        )
        assert house.one(session, imported, ck.CKA_EC_POINT) == shown
        step(house.core.destroy_object(session, imported))
    p256, _ = house.ec(session)
    point = house.one(session, p256, ck.CKA_EC_POINT)
    assert isinstance(point, bytes) and point[:3] == b"\x04\x41\x04"  # EC is DER whatever is set
    step(house.core.stop())
