"""ECDSA, EdDSA and ECDH through the engine, against `cryptography` used directly."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x448, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from engine_support import Driver, secret_template, step, ulong
from ferrohsm_adapters.software import ec_material
from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Function, Key
from ferrohsm.mechanisms import HASHES
from ferrohsm.parameters import Ecdh1, EdDsa

OIDS = {
    "secp256r1": "06082a8648ce3d030107",
    "secp384r1": "06052b81040022",
    "secp521r1": "06052b81040023",
    "secp256k1": "06052b8104000a",
    "brainpoolP256r1": "06092b2403030208010107",
    "brainpoolP384r1": "06092b240303020801010b",
    "brainpoolP512r1": "06092b240303020801010d",
}
EC_HASHES = ["sha1", "sha224", "sha256", "sha384", "sha512", "sha3_224", "sha3_256", "sha3_384", "sha3_512"]
DATA = b"data of some length"
ED25519, ED448 = bytes.fromhex("06032b6570"), bytes.fromhex("06032b6571")
X25519, X448 = bytes.fromhex("06032b656e"), bytes.fromhex("06032b656f")


def name_of(text: str) -> bytes:
    return bytes((0x13, len(text))) + text.encode()


@pytest.fixture(scope="module")
def p256(driver: Driver) -> tuple[Key, Key]:
    return driver.ec_pair(bytes.fromhex(OIDS["secp256r1"]))


def dss(signature: bytes) -> bytes:
    half = len(signature) // 2
    return encode_dss_signature(
        int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    )


@pytest.mark.parametrize("curve", OIDS)
def test_every_curve_both_ways(driver: Driver, curve: str) -> None:
    public, private = driver.ec_pair(bytes.fromhex(OIDS[curve]))
    theirs = load_der_public_key(bytes(public.attributes[ck.CKA_PUBLIC_KEY_INFO]))
    assert isinstance(theirs, ec.EllipticCurvePublicKey)
    assert theirs.curve.name == curve
    order = ec_material.key_curve(public).length
    assert len(private.attributes[ck.CKA_VALUE]) == order
    signature = driver.sign(ck.CKM_ECDSA_SHA256, private, DATA)
    assert len(signature) == 2 * order
    theirs.verify(dss(signature), DATA, ec.ECDSA(hashes.SHA256()))
    driver.verify(ck.CKM_ECDSA_SHA256, public, DATA, signature)
    r, s = decode_dss_signature(ec_material.private_key(private).sign(DATA, ec.ECDSA(hashes.SHA384())))
    driver.verify(ck.CKM_ECDSA_SHA384, public, DATA, r.to_bytes(order, "big") + s.to_bytes(order, "big"))
    by_name = driver.ec_pair(name_of(curve))[0]
    assert ec_material.public_key(by_name).curve.name == curve


@pytest.mark.parametrize("name", EC_HASHES)
def test_hashed_forms(driver: Driver, p256: tuple[Key, Key], name: str) -> None:
    public, private = p256
    mechanism = getattr(ck, f"CKM_ECDSA_{name.upper()}")
    signature = driver.parts(Function.SIGN, mechanism, private, [DATA[:3], b"", DATA[3:]])
    ec_material.public_key(public).verify(dss(signature), DATA, ec.ECDSA(HASH_FUNCTIONS[name]))
    driver.verify_parts(mechanism, public, [DATA[:9], DATA[9:]], signature)
    digest = driver.once(Function.DIGEST, HASHES[name].type, None, DATA)
    driver.verify(ck.CKM_ECDSA, public, digest, signature)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify_parts(mechanism, public, [DATA], driver.sign(mechanism, private, b"else"))


@pytest.mark.parametrize("length", [1, 20, 31, 32, 33, 64, 128])
def test_raw_ecdsa_takes_any_digest(driver: Driver, p256: tuple[Key, Key], length: int) -> None:
    public, private = p256
    digest = os.urandom(length)
    signature = driver.sign(ck.CKM_ECDSA, private, digest)
    driver.verify(ck.CKM_ECDSA, public, digest, signature)
    # Only the leftmost bits of a digest longer than the order count, zeros before a short one do not.
    driver.verify(ck.CKM_ECDSA, public, digest[:32].rjust(32, b"\0"), signature)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify(ck.CKM_ECDSA, public, bytes((digest[0] ^ 1,)) + digest[1:], signature)


def test_raw_ecdsa_refusals(driver: Driver, p256: tuple[Key, Key]) -> None:
    public, private = p256
    operation = driver.begin(Function.SIGN, ck.CKM_ECDSA, private)
    assert not operation.multi_part
    for length in (0, 129):
        with pytest.raises(errors.DataLenRange):
            operation.once_length(length)
    signature = driver.sign(ck.CKM_ECDSA, private, b"d" * 32)
    for wrong in (b"", signature[:-1], signature + b"\0\0"):
        with pytest.raises(errors.SignatureLenRange):
            driver.verify(ck.CKM_ECDSA, public, b"d" * 32, wrong)
    for wrong in (bytes(64), b"\xff" * 64, signature[:-2]):
        with pytest.raises(errors.SignatureInvalid):
            driver.verify(ck.CKM_ECDSA, public, b"d" * 32, wrong)


def test_a_shorter_signature_verifies(driver: Driver) -> None:
    """Halves without their leading zero; on P-521 every fourth signature has one in both."""
    public, private = driver.ec_pair(bytes.fromhex(OIDS["secp521r1"]))
    signature = b"\1"
    while signature[0] or signature[66]:
        signature = driver.sign(ck.CKM_ECDSA, private, b"d" * 64)
    driver.verify(ck.CKM_ECDSA, public, b"d" * 64, signature)
    driver.verify(ck.CKM_ECDSA, public, b"d" * 64, signature[1:66] + signature[67:])


def test_parameters_are_checked(driver: Driver) -> None:
    for bad in (b"\x06\x08", b"\x30\x00", b"\x05\x00", bytes.fromhex(OIDS["secp256r1"]) + b"\0", b"\xff"):
        with pytest.raises(errors.DomainParamsInvalid):
            driver.ec_pair(bad)
    for unknown in (bytes.fromhex("06052b81040021"), name_of("secp160r1"), ED25519, name_of("edwards25519")):
        with pytest.raises(errors.CurveNotSupported):
            driver.ec_pair(unknown)
    with pytest.raises(errors.CurveNotSupported):
        driver.pair(
            ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, ck.CKK_EC_EDWARDS, EC_PARAMS=bytes.fromhex(OIDS["secp256r1"])
        )
    with pytest.raises(errors.CurveNotSupported):
        driver.pair(ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN, ck.CKK_EC_MONTGOMERY, EC_PARAMS=ED25519)
    with pytest.raises(errors.TemplateIncomplete):
        driver.pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC)


def test_points_on_import(driver: Driver, p256: tuple[Key, Key]) -> None:
    """Raw, compressed and DER forms become the one that is stored; points off the curve are refused."""
    stored = bytes(p256[0].attributes[ck.CKA_EC_POINT])
    raw = stored[2:]
    compressed = bytes((2 + (raw[-1] & 1),)) + raw[1:33]
    base = {
        ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY),
        ck.CKA_KEY_TYPE: ulong(ck.CKK_EC),
        ck.CKA_EC_PARAMS: bytes.fromhex(OIDS["secp256r1"]),
    }
    for form in (stored, raw, compressed, b"\x04\x21" + compressed):
        key = driver.bring_in({**base, ck.CKA_EC_POINT: form})
        assert key.attributes[ck.CKA_EC_POINT] == stored
        assert key.attributes[ck.CKA_PUBLIC_KEY_INFO] == p256[0].attributes[ck.CKA_PUBLIC_KEY_INFO]
    for bad in (b"", b"\0", raw[:-1], raw[:-1] + bytes((raw[-1] ^ 1,)), b"\x04" + bytes(64), stored[:-1]):
        with pytest.raises(errors.AttributeValueInvalid):
            driver.bring_in({**base, ck.CKA_EC_POINT: bad})
    with pytest.raises(errors.AttributeValueInvalid):
        driver.bring_in({**base, ck.CKA_EC_POINT: stored, ck.CKA_PUBLIC_KEY_INFO: b"other"})
    with pytest.raises(errors.TemplateIncomplete):
        driver.bring_in(base)


def test_a_raw_point_that_looks_like_an_octet_string(driver: Driver) -> None:
    """0x04 and 0x3f at the start of 65 bytes: a point all the same."""
    private = ec.derive_private_key(1, ec.SECP256R1())
    scalar = 1
    while private.public_key().public_numbers().x >> 248 != 0x3F:
        scalar += 1
        private = ec.derive_private_key(scalar, ec.SECP256R1())
    raw = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = driver.bring_in(
        {
            ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY),
            ck.CKA_KEY_TYPE: ulong(ck.CKK_EC),
            ck.CKA_EC_PARAMS: bytes.fromhex(OIDS["secp256r1"]),
            ck.CKA_EC_POINT: raw,
        }
    )
    assert key.attributes[ck.CKA_EC_POINT] == b"\x04\x41" + raw


def test_private_values_on_import(driver: Driver, p256: tuple[Key, Key]) -> None:
    base = {
        ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY),
        ck.CKA_KEY_TYPE: ulong(ck.CKK_EC),
        ck.CKA_EC_PARAMS: bytes.fromhex(OIDS["secp256r1"]),
    }
    small = driver.bring_in({**base, ck.CKA_VALUE: bytearray(b"\x07")})
    assert bytes(small.attributes[ck.CKA_VALUE]) == bytes(31) + b"\x07"
    expected = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    assert load_der_public_key(bytes(small.attributes[ck.CKA_PUBLIC_KEY_INFO])) == expected
    padded = driver.bring_in(
        {**base, ck.CKA_VALUE: bytearray(b"\0" + bytes(p256[1].attributes[ck.CKA_VALUE]))}
    )
    assert padded.attributes[ck.CKA_VALUE] == p256[1].attributes[ck.CKA_VALUE]
    for bad in (b"", bytes(32), b"\xff" * 32, b"\0" * 33 + b"\x07"):
        with pytest.raises(errors.AttributeValueInvalid):
            driver.bring_in({**base, ck.CKA_VALUE: bytearray(bad)})


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        (ED25519, 32),
        (name_of("edwards25519"), 32),
        (bytes.fromhex("06092b06010401da470f01"), 32),
        (ED448, 57),
        (name_of("edwards448"), 57),
    ],
)
def test_eddsa_both_ways(driver: Driver, parameters: bytes, size: int) -> None:
    public, private = driver.pair(ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, ck.CKK_EC_EDWARDS, EC_PARAMS=parameters)
    assert private.attributes[ck.CKA_EC_PARAMS] == parameters
    assert bytes(public.attributes[ck.CKA_EC_POINT])[:2] == bytes((4, size))
    signature = driver.sign(ck.CKM_EDDSA, private, DATA)
    assert len(signature) == 2 * size
    theirs = load_der_public_key(bytes(public.attributes[ck.CKA_PUBLIC_KEY_INFO]))
    assert isinstance(theirs, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    theirs.verify(signature, DATA)
    assert driver.parts(Function.SIGN, ck.CKM_EDDSA, private, [DATA[:5], b"", DATA[5:]]) == signature
    driver.verify(ck.CKM_EDDSA, public, DATA, signature)
    driver.verify_parts(ck.CKM_EDDSA, public, [DATA[:1], DATA[1:]], signature)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify(ck.CKM_EDDSA, public, b"", signature)
    with pytest.raises(errors.SignatureLenRange):
        driver.verify(ck.CKM_EDDSA, public, DATA, signature[:-1])
    again = driver.bring_in({t: v for t, v in private.attributes.items() if t != ck.CKA_PUBLIC_KEY_INFO})
    assert again.attributes == private.attributes
    raw = {**public.attributes, ck.CKA_EC_POINT: bytes(public.attributes[ck.CKA_EC_POINT])[2:]}
    assert driver.bring_in(raw).attributes == public.attributes


def test_eddsa_variants_that_are_not_there(driver: Driver) -> None:
    _, ed25519_key = driver.pair(ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, ck.CKK_EC_EDWARDS, EC_PARAMS=ED25519)
    _, ed448_key = driver.pair(ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, ck.CKK_EC_EDWARDS, EC_PARAMS=ED448)
    plain = driver.sign(ck.CKM_EDDSA, ed448_key, DATA)
    assert driver.sign(ck.CKM_EDDSA, ed448_key, DATA, EdDsa(False, b"")) == plain
    for key in (ed25519_key, ed448_key):
        for parameter in (EdDsa(True, b""), EdDsa(False, b"context")):
            with pytest.raises(errors.MechanismParamInvalid):
                driver.begin(Function.SIGN, ck.CKM_EDDSA, key, parameter)
    with pytest.raises(errors.MechanismParamInvalid):
        driver.begin(Function.SIGN, ck.CKM_EDDSA, ed25519_key, EdDsa(False, b""))


def test_eddsa_keeps_a_bounded_amount(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    if driver.native:
        pytest.skip("the kernels have a limit of their own")
    monkeypatch.setattr("ferrohsm_adapters.software.operation.MAX_HELD_BYTES", 100)
    _, key = driver.pair(ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, ck.CKK_EC_EDWARDS, EC_PARAMS=ED25519)
    operation = driver.begin(Function.SIGN, ck.CKM_EDDSA, key)
    step(operation.update(memoryview(bytes(100))))
    with pytest.raises(errors.TokenResourceExceeded):
        step(operation.update(memoryview(b"x")))
    with pytest.raises(errors.OperationNotInitialized):
        step(operation.finish())


@pytest.mark.parametrize("curve", ["secp256r1", "secp521r1", "secp256k1", "brainpoolP384r1"])
@pytest.mark.parametrize("mechanism", [ck.CKM_ECDH1_DERIVE, ck.CKM_ECDH1_COFACTOR_DERIVE])
def test_ecdh_on_ec_curves(driver: Driver, curve: str, mechanism: int) -> None:
    _, private = driver.ec_pair(bytes.fromhex(OIDS[curve]))
    peer_public, peer_private = driver.ec_pair(bytes.fromhex(OIDS[curve]))
    secret = ec_material.private_key(peer_private).exchange(
        ec.ECDH(), ec_material.private_key(private).public_key()
    )
    point = bytes(peer_public.attributes[ck.CKA_EC_POINT])
    raw = ec_material.public_key(peer_public).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    for public_data in (point, raw):
        parameter = Ecdh1(ck.CKD_NULL, b"", public_data)
        got = driver.derive(mechanism, private, secret_template(), parameter)
        assert got[ck.CKA_VALUE] == secret
        assert got[ck.CKA_VALUE_LEN] == ulong(len(secret))
    # A shorter key keeps the trailing bytes.
    parameter = Ecdh1(ck.CKD_NULL, b"", raw)
    aes = driver.derive(mechanism, private, secret_template(ck.CKK_AES, 16), parameter)
    assert aes[ck.CKA_VALUE] == secret[-16:]
    with pytest.raises(errors.KeySizeRange):
        driver.derive(mechanism, private, secret_template(length=len(secret) + 1), parameter)


@pytest.mark.parametrize("name", EC_HASHES)
def test_ecdh_key_derivation_functions(driver: Driver, p256: tuple[Key, Key], name: str) -> None:
    public, private = p256
    secret = ec_material.private_key(private).exchange(ec.ECDH(), ec_material.public_key(public))
    point = bytes(public.attributes[ck.CKA_EC_POINT])
    for shared in (b"", b"shared data"):
        for kdf, reference in (
            (HASHES[name].kdf, X963KDF(HASH_FUNCTIONS[name], 77, shared or None)),
            (HASHES[name].kdf_sp800, ConcatKDFHash(HASH_FUNCTIONS[name], 77, shared or None)),
        ):
            got = driver.derive(
                ck.CKM_ECDH1_DERIVE, private, secret_template(length=77), Ecdh1(kdf, shared, point)
            )
            assert got[ck.CKA_VALUE] == reference.derive(secret)


@pytest.mark.parametrize(
    ("parameters", "engine"),
    [
        (X25519, x25519.X25519PrivateKey),
        (name_of("curve25519"), x25519.X25519PrivateKey),
        (X448, x448.X448PrivateKey),
    ],
)
def test_ecdh_on_montgomery_curves(driver: Driver, parameters: bytes, engine: type) -> None:
    public, private = driver.pair(
        ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN, ck.CKK_EC_MONTGOMERY, EC_PARAMS=parameters
    )
    other = engine.generate()  # type: ignore[attr-defined]
    secret = other.exchange(load_der_public_key(bytes(public.attributes[ck.CKA_PUBLIC_KEY_INFO])))
    raw = other.public_key().public_bytes_raw()
    for public_data in (raw, bytes((4, len(raw))) + raw):
        got = driver.derive(
            ck.CKM_ECDH1_DERIVE, private, secret_template(), Ecdh1(ck.CKD_NULL, b"", public_data)
        )
        assert got[ck.CKA_VALUE] == secret
    with pytest.raises(errors.MechanismParamInvalid):
        driver.derive(
            ck.CKM_ECDH1_DERIVE, private, secret_template(), Ecdh1(ck.CKD_NULL, b"", bytes(len(raw)))
        )


def test_ecdh_refusals(driver: Driver, p256: tuple[Key, Key]) -> None:
    public, private = p256
    point = bytes(public.attributes[ck.CKA_EC_POINT])
    for wrong in (
        Ecdh1(ck.CKD_NULL, b"shared", point),
        Ecdh1(0x99, b"", point),
        Ecdh1(ck.CKD_BLAKE2B_256_KDF, b"", point),
        Ecdh1(ck.CKD_NULL, b"", b""),
        Ecdh1(ck.CKD_NULL, b"", point[:-1] + bytes((point[-1] ^ 1,))),
    ):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.derive(ck.CKM_ECDH1_DERIVE, private, secret_template(), wrong)
    with pytest.raises(errors.AttributeValueInvalid):
        driver.derive(
            ck.CKM_ECDH1_DERIVE, private, secret_template(ck.CKK_AES, 17), Ecdh1(ck.CKD_NULL, b"", point)
        )
