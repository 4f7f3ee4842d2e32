"""Wrapping and unwrapping keys through the engine."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from engine_support import Driver, private_template, secret_template, ulong

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Key
from ferrohsm.parameters import Ccm, Ctr, Gcm, RsaAesKeyWrap, RsaOaep

IV = os.urandom(16)
WRAPPING = os.urandom(32)
OAEP = RsaOaep(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, ck.CKZ_DATA_SPECIFIED, b"")
P256 = bytes.fromhex("06082a8648ce3d030107")

SYMMETRIC: list[tuple[int, Any]] = [
    (ck.CKM_AES_ECB, None),
    (ck.CKM_AES_CBC, IV),
    (ck.CKM_AES_CBC_PAD, IV),
    (ck.CKM_AES_CTR, Ctr(128, IV)),
    (ck.CKM_AES_GCM, Gcm(IV[:12], 96, b"aad", 128)),
    (ck.CKM_AES_CCM, Ccm(0, IV[:12], b"aad", 16)),
    (ck.CKM_AES_KEY_WRAP, None),
    (ck.CKM_AES_KEY_WRAP_PAD, None),
    (ck.CKM_AES_KEY_WRAP_KWP, None),
    (ck.CKM_AES_KEY_WRAP_PKCS7, None),
]
FOR_PRIVATE_KEYS = SYMMETRIC[2:]
NEEDS_LENGTH = (ck.CKM_AES_ECB, ck.CKM_AES_CBC, ck.CKM_AES_KEY_WRAP)


@pytest.fixture(scope="module")
def wrapping(driver: Driver) -> Key:
    return driver.aes(WRAPPING)


def pairs(driver: Driver, rsa: tuple[Key, Key]) -> list[tuple[int, Key]]:
    found = [(ck.CKK_RSA, rsa[1]), (ck.CKK_EC, driver.ec_pair(P256)[1])]
    for mechanism, key_type, oids in (
        (ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, ck.CKK_EC_EDWARDS, ("06032b6570", "06032b6571")),
        (ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN, ck.CKK_EC_MONTGOMERY, ("06032b656e", "06032b656f")),
    ):
        for oid in oids:
            found.append((key_type, driver.pair(mechanism, key_type, EC_PARAMS=bytes.fromhex(oid))[1]))
    return found


@pytest.mark.parametrize(("mechanism", "parameter"), SYMMETRIC)
@pytest.mark.parametrize("length", [9, 16, 17, 24, 32, 100])
def test_secret_keys(driver: Driver, wrapping: Key, mechanism: int, parameter: Any, length: int) -> None:
    value = os.urandom(length)
    wrapped = driver.wrap(mechanism, wrapping, driver.secret(value), parameter)
    template = secret_template(length=length if mechanism in NEEDS_LENGTH else None)
    key = driver.unwrap(mechanism, wrapping, wrapped, template, parameter)
    assert key[ck.CKA_VALUE] == value
    assert key[ck.CKA_VALUE_LEN] == ulong(length)
    assert isinstance(key[ck.CKA_VALUE], bytearray)
    assert value not in wrapped


@pytest.mark.parametrize(("mechanism", "parameter"), SYMMETRIC)
@pytest.mark.parametrize("length", [16, 32])
def test_aes_keys_need_no_length_in_the_template(
    driver: Driver, wrapping: Key, mechanism: int, parameter: Any, length: int
) -> None:
    value = os.urandom(length)
    wrapped = driver.wrap(mechanism, wrapping, driver.aes(value), parameter)
    key = driver.unwrap(mechanism, wrapping, wrapped, secret_template(ck.CKK_AES), parameter)
    assert key[ck.CKA_VALUE] == value
    assert key[ck.CKA_CHECK_VALUE] == driver.aes(value).attributes[ck.CKA_CHECK_VALUE]


@pytest.mark.parametrize(("mechanism", "parameter"), FOR_PRIVATE_KEYS)
def test_private_keys(
    driver: Driver, rsa: tuple[Key, Key], wrapping: Key, mechanism: int, parameter: Any
) -> None:
    for key_type, target in pairs(driver, rsa):
        wrapped = driver.wrap(mechanism, wrapping, target, parameter)
        key = driver.unwrap(mechanism, wrapping, wrapped, private_template(key_type), parameter)
        assert key == target.attributes


def test_private_key_info_is_what_others_read(driver: Driver, rsa: tuple[Key, Key], wrapping: Key) -> None:
    for _, target in pairs(driver, rsa):
        wrapped = driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, target)
        info = keywrap.aes_key_unwrap_with_padding(WRAPPING, wrapped)
        public = load_der_private_key(info, None).public_key()
        assert target.attributes[ck.CKA_PUBLIC_KEY_INFO] == public.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )


@pytest.mark.parametrize("mechanism", [ck.CKM_AES_ECB, ck.CKM_AES_CBC])
def test_modes_without_padding_take_secrets_only(
    driver: Driver, rsa: tuple[Key, Key], wrapping: Key, mechanism: int
) -> None:
    parameter = IV if mechanism == ck.CKM_AES_CBC else None
    with pytest.raises(errors.KeyNotWrappable):
        driver.wrap(mechanism, wrapping, rsa[1], parameter)
    with pytest.raises(errors.TemplateInconsistent):
        driver.unwrap(mechanism, wrapping, bytes(32), private_template(ck.CKK_RSA), parameter)


def test_zeros_behind_a_private_key(driver: Driver, rsa: tuple[Key, Key], wrapping: Key) -> None:
    """SoftHSM 2 fills a private key up to eight bytes before it wraps it with padding; more is no padding."""
    exact = driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, rsa[1])
    info = keywrap.aes_key_unwrap_with_padding(WRAPPING, exact)
    for behind in (b"", bytes(7)):
        wrapped = keywrap.aes_key_wrap_with_padding(WRAPPING, info + behind)
        key = driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, wrapped, private_template(ck.CKK_RSA))
        assert key[ck.CKA_MODULUS] == rsa[1].attributes[ck.CKA_MODULUS]
    for behind in (bytes(8), b"\x01", bytes(6) + b"\x01"):
        wrapped = keywrap.aes_key_wrap_with_padding(WRAPPING, info + behind)
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, wrapped, private_template(ck.CKK_RSA))


def test_public_keys_are_not_wrapped(driver: Driver, rsa: tuple[Key, Key], wrapping: Key) -> None:
    with pytest.raises(errors.KeyNotWrappable):
        driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, rsa[0])
    with pytest.raises(errors.TemplateInconsistent):
        driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, bytes(32), {ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY)})


@pytest.mark.parametrize(("mechanism", "parameter"), SYMMETRIC[4:])
def test_a_changed_byte_is_noticed(driver: Driver, wrapping: Key, mechanism: int, parameter: Any) -> None:
    wrapped = driver.wrap(mechanism, wrapping, driver.aes(os.urandom(32)), parameter)
    for index in range(len(wrapped)):
        bad = bytearray(wrapped)
        bad[index] ^= 0x80
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(mechanism, wrapping, bytes(bad), secret_template(ck.CKK_AES), parameter)


@pytest.mark.parametrize(("mechanism", "parameter"), [*SYMMETRIC[:3], *SYMMETRIC[4:]])
def test_wrong_lengths(driver: Driver, wrapping: Key, mechanism: int, parameter: Any) -> None:
    for length in (1, 15):
        with pytest.raises(errors.WrappedKeyLenRange):
            driver.unwrap(mechanism, wrapping, bytes(length), secret_template(ck.CKK_AES), parameter)


def test_template_and_wrapped_key_must_agree(driver: Driver, wrapping: Key) -> None:
    wrapped = driver.wrap(ck.CKM_AES_KEY_WRAP, wrapping, driver.secret(bytes(20)))
    for length in (16, 25):
        with pytest.raises(errors.WrappedKeyLenRange):
            driver.unwrap(ck.CKM_AES_KEY_WRAP, wrapping, wrapped, secret_template(length=length))
    padded = driver.wrap(ck.CKM_AES_CBC_PAD, wrapping, driver.secret(bytes(20)), IV)
    with pytest.raises(errors.WrappedKeyLenRange):
        driver.unwrap(ck.CKM_AES_CBC_PAD, wrapping, padded, secret_template(length=19), IV)
    with pytest.raises(errors.WrappedKeyLenRange):
        driver.unwrap(ck.CKM_AES_CBC_PAD, wrapping, padded, secret_template(ck.CKK_AES), IV)
    # What is cut off must be the padding.
    full = driver.wrap(ck.CKM_AES_KEY_WRAP, wrapping, driver.secret(b"\x01" * 24))
    with pytest.raises(errors.WrappedKeyInvalid):
        driver.unwrap(ck.CKM_AES_KEY_WRAP, wrapping, full, secret_template(length=20))


def test_a_short_key_does_not_fit_key_wrap(driver: Driver, wrapping: Key) -> None:
    with pytest.raises(errors.KeySizeRange):
        driver.wrap(ck.CKM_AES_KEY_WRAP, wrapping, driver.secret(bytes(8)))
    wrapped = driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, driver.secret(b"x"))
    assert driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, wrapped, secret_template())[ck.CKA_VALUE] == b"x"


def test_a_private_key_of_another_kind_is_refused(
    driver: Driver, rsa: tuple[Key, Key], wrapping: Key
) -> None:
    wrapped = driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, rsa[1])
    for key_type in (ck.CKK_EC, ck.CKK_EC_EDWARDS):
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, wrapped, private_template(key_type))
    curve = driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, driver.ec_pair(P256)[1])
    other = {**private_template(ck.CKK_EC), ck.CKA_EC_PARAMS: bytes.fromhex("06052b81040022")}
    with pytest.raises(errors.WrappedKeyInvalid):
        driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, curve, other)
    for key_type in (ck.CKK_RSA, ck.CKK_EC_MONTGOMERY):
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, curve, private_template(key_type))
    unsupported = ec.generate_private_key(ec.SECP224R1()).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(errors.CurveNotSupported):
        driver.unwrap(
            ck.CKM_AES_KEY_WRAP_KWP,
            wrapping,
            keywrap.aes_key_wrap_with_padding(WRAPPING, unsupported),
            private_template(ck.CKK_EC),
        )
    for junk in (b"junk", b"\x30\x82\xff\xff", bytes(100), b"\x30\x03\x02\x01\x00"):
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(
                ck.CKM_AES_KEY_WRAP_KWP,
                wrapping,
                keywrap.aes_key_wrap_with_padding(WRAPPING, junk),
                private_template(ck.CKK_EC),
            )


@pytest.mark.parametrize(
    ("mechanism", "parameter", "overhead"),
    [(ck.CKM_RSA_PKCS, None, 11), (ck.CKM_RSA_PKCS_OAEP, OAEP, 2 + 64)],
)
def test_rsa(driver: Driver, rsa: tuple[Key, Key], mechanism: int, parameter: Any, overhead: int) -> None:
    public, private = rsa
    for length in (1, 32, 256 - overhead):
        value = os.urandom(length)
        wrapped = driver.wrap(mechanism, public, driver.secret(value), parameter)
        assert driver.decrypt(mechanism, private, wrapped, parameter) == value
        key = driver.unwrap(mechanism, private, wrapped, secret_template(), parameter)
        assert key[ck.CKA_VALUE] == value
    with pytest.raises(errors.KeySizeRange):
        driver.wrap(mechanism, public, driver.secret(bytes(257 - overhead)), parameter)
    with pytest.raises(errors.KeyNotWrappable):
        driver.wrap(mechanism, public, private, parameter)
    with pytest.raises(errors.WrappedKeyLenRange):
        driver.unwrap(mechanism, private, bytes(255), secret_template(), parameter)


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_rsa_aes_key_wrap(driver: Driver, rsa: tuple[Key, Key], bits: int) -> None:
    public, private = rsa
    parameter = RsaAesKeyWrap(bits, OAEP)
    for key_type, target in pairs(driver, rsa):
        wrapped = driver.wrap(ck.CKM_RSA_AES_KEY_WRAP, public, target, parameter)
        key = driver.unwrap(ck.CKM_RSA_AES_KEY_WRAP, private, wrapped, private_template(key_type), parameter)
        assert key == target.attributes
    secret = driver.wrap(ck.CKM_RSA_AES_KEY_WRAP, public, driver.aes(bytes(32)), parameter)
    # By its own rules: OAEP around the AES key, RFC 5649 around the target.
    temporary = driver.decrypt(ck.CKM_RSA_PKCS_OAEP, private, secret[:256], OAEP)
    assert len(temporary) * 8 == bits
    assert keywrap.aes_key_unwrap_with_padding(temporary, secret[256:]) == bytes(32)
    for index in (0, 255, 256, len(secret) - 1):
        bad = bytearray(secret)
        bad[index] ^= 1
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(
                ck.CKM_RSA_AES_KEY_WRAP, private, bytes(bad), secret_template(ck.CKK_AES), parameter
            )
    for length in (0, 255, 256, 264, 271):
        with pytest.raises(errors.WrappedKeyLenRange):
            driver.unwrap(
                ck.CKM_RSA_AES_KEY_WRAP, private, bytes(length), secret_template(ck.CKK_AES), parameter
            )
    with pytest.raises(errors.MechanismParamInvalid):
        driver.wrap(ck.CKM_RSA_AES_KEY_WRAP, public, driver.aes(bytes(32)), RsaAesKeyWrap(129, OAEP))


def test_wrapping_wipes_nothing_of_the_target(driver: Driver, wrapping: Key) -> None:
    value = os.urandom(32)
    target = driver.aes(value)
    for mechanism, parameter in SYMMETRIC:
        driver.wrap(mechanism, wrapping, target, parameter)
    assert target.attributes[ck.CKA_VALUE] == value
    assert wrapping.attributes[ck.CKA_VALUE] == WRAPPING
