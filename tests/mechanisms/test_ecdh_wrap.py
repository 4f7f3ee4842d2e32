"""Keys wrapped under elliptic curve keys, put together once more from the library's parts."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding
from engine_support import Driver, private_template, secret_template
from ferrohsm_adapters.software import ec_material

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Key
from ferrohsm.parameters import EcdhAesKeyWrap

P256, P521 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06052b81040023")
X25519, X448 = bytes.fromhex("06032b656e"), bytes.fromhex("06032b656f")
EC, X = ck.CKK_EC, ck.CKK_EC_MONTGOMERY
FORMS = [
    (ck.CKM_ECDH_AES_KEY_WRAP, EC, P256, 65),
    (ck.CKM_ECDH_AES_KEY_WRAP, X, X25519, 32),
    (ck.CKM_ECDH_COF_AES_KEY_WRAP, EC, P521, 133),
    (ck.CKM_ECDH_X_AES_KEY_WRAP, X, X448, 56),
]
PLAIN = EcdhAesKeyWrap(256, ck.CKD_NULL, b"")
HASHED = EcdhAesKeyWrap(192, ck.CKD_SHA384_KDF, b"shared")


def pair(driver: Driver, key_type: int, curve: bytes) -> tuple[Key, Key]:
    generator = ck.CKM_EC_KEY_PAIR_GEN if key_type == EC else ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN
    return driver.pair(generator, key_type, EC_PARAMS=curve)


def opened(private: Key, wrapped: bytes, size: int, parameter: EcdhAesKeyWrap) -> bytes:
    """Unwrap as the specification says, without the engine."""
    key, point = ec_material.private_key(private), wrapped[:size]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        secret = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point))
    else:
        secret = key.exchange((X25519PublicKey if size == 32 else X448PublicKey).from_public_bytes(point))
    if parameter is HASHED:
        secret = X963KDF(hashes.SHA384(), 24, b"shared").derive(secret)
    return aes_key_unwrap_with_padding(secret[: parameter.aes_key_bits // 8], wrapped[size:])


@pytest.mark.parametrize("parameter", [PLAIN, HASHED], ids=["plain", "hashed"])
@pytest.mark.parametrize(("mechanism", "key_type", "curve", "size"), FORMS)
def test_both_ways(
    driver: Driver, mechanism: int, key_type: int, curve: bytes, size: int, parameter: EcdhAesKeyWrap
) -> None:
    public, private = pair(driver, key_type, curve)
    target = driver.secret(b"a secret of some length")
    wrapped = driver.wrap(mechanism, public, target, parameter)
    assert opened(private, wrapped, size, parameter) == b"a secret of some length"
    assert driver.wrap(mechanism, public, target, parameter)[:size] != wrapped[:size]
    back = driver.unwrap(mechanism, private, wrapped, secret_template(), parameter)
    assert back[ck.CKA_VALUE] == b"a secret of some length"
    signer = driver.ec_pair(P256)[1]
    wrapped = driver.wrap(mechanism, public, signer, parameter)
    back = driver.unwrap(mechanism, private, wrapped, private_template(EC), parameter)
    assert back[ck.CKA_VALUE] == signer.attributes[ck.CKA_VALUE]


def test_refusals(driver: Driver) -> None:
    mechanism = ck.CKM_ECDH_AES_KEY_WRAP
    public, private = pair(driver, EC, P256)
    target = driver.secret(bytes(20))
    for parameter in (
        EcdhAesKeyWrap(127, ck.CKD_NULL, b""),
        EcdhAesKeyWrap(256, ck.CKD_NULL, b"shared"),
        EcdhAesKeyWrap(256, 0x777, b""),
    ):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.wrap(mechanism, public, target, parameter)
        with pytest.raises(errors.MechanismParamInvalid):
            driver.unwrap(mechanism, private, bytes(65 + 32), secret_template(), parameter)
    wrapped = driver.wrap(mechanism, public, target, PLAIN)
    for place in range(len(wrapped)):
        damaged = bytearray(wrapped)
        damaged[place] ^= 1
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(mechanism, private, bytes(damaged), secret_template(), PLAIN)
    for length in (0, 65, 65 + 8, len(wrapped) - 1, len(wrapped) - 9):
        with pytest.raises(errors.WrappedKeyLenRange):
            driver.unwrap(mechanism, private, wrapped[:length], secret_template(), PLAIN)
