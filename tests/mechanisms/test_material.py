"""Generated secrets, check values, certificates and derivation by encryption."""

from __future__ import annotations

import datetime
import hashlib
import os
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from engine_support import POSTQUANTUM, POSTQUANTUM_ONLY, Driver, secret_template, step, ulong
from ferrohsm_adapters.software import parameter_sets, postquantum_info, postquantum_material
from ferrohsm_adapters.software.engine import _LENT

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Attributes, Function
from ferrohsm.mechanisms import HMAC_KEY_TYPES, ROWS, parameter_kind
from ferrohsm.parameters import CbcEncryptData, Mechanism


def encrypted(value: bytes, data: bytes, mode: object) -> bytes:
    return Cipher(algorithms.AES(value), mode).encryptor().update(data)  # type: ignore[arg-type]


def generate(driver: Driver, mechanism: int, template: Attributes) -> Attributes:
    added: Attributes = step(driver.engine.generate_key(Mechanism(mechanism), template))
    return added


@pytest.mark.parametrize("length", [16, 24, 32])
def test_aes_keys(driver: Driver, length: int) -> None:
    key = generate(driver, ck.CKM_AES_KEY_GEN, {ck.CKA_VALUE_LEN: ulong(length)})
    value = key[ck.CKA_VALUE]
    assert isinstance(value, bytearray)
    assert len(value) == length
    assert key[ck.CKA_CHECK_VALUE] == encrypted(bytes(value), bytes(16), modes.ECB())[:3]
    assert value != generate(driver, ck.CKM_AES_KEY_GEN, {ck.CKA_VALUE_LEN: ulong(length)})[ck.CKA_VALUE]


def test_generic_keys(driver: Driver) -> None:
    for mechanism, row in ROWS.items():
        generic = row.produces == ck.CKK_GENERIC_SECRET and row.family == "secret"
        if row.produces in HMAC_KEY_TYPES or generic:
            for length in (1, 64, 1000):
                key = generate(driver, mechanism, {ck.CKA_VALUE_LEN: ulong(length)})
                assert len(key[ck.CKA_VALUE]) == length
                assert key[ck.CKA_CHECK_VALUE] == hashlib.sha1(key[ck.CKA_VALUE]).digest()[:3]


def test_generation_refusals(driver: Driver) -> None:
    for mechanism, lengths in (
        (ck.CKM_AES_KEY_GEN, (0, 1, 15, 33, 2**63)),
        (ck.CKM_GENERIC_SECRET_KEY_GEN, (0, 65537, 2**63)),
    ):
        with pytest.raises(errors.TemplateIncomplete):
            generate(driver, mechanism, {})
        for length in lengths:
            with pytest.raises(errors.KeySizeRange):
                generate(driver, mechanism, {ck.CKA_VALUE_LEN: ulong(length)})
    with pytest.raises(errors.MechanismInvalid):
        generate(driver, ck.CKM_SHA256_HMAC, {ck.CKA_VALUE_LEN: ulong(16)})


def test_secret_keys_on_import(driver: Driver) -> None:
    key = driver.aes(bytes(16))
    assert key.attributes[ck.CKA_VALUE_LEN] == ulong(16)
    for length in (0, 15, 17, 33):
        with pytest.raises(errors.AttributeValueInvalid):
            driver.aes(bytes(length))
    with pytest.raises(errors.AttributeValueInvalid):
        driver.secret(b"")
    with pytest.raises(errors.AttributeValueInvalid):
        driver.secret(bytes(24), ck.CKK_SEED)
    with pytest.raises(errors.TemplateIncomplete):
        driver.bring_in(secret_template())


def test_check_values_are_checked(driver: Driver) -> None:
    template = {**secret_template(ck.CKK_AES), ck.CKA_VALUE: bytearray(16)}
    right = encrypted(bytes(16), bytes(16), modes.ECB())[:3]
    assert driver.bring_in({**template, ck.CKA_CHECK_VALUE: right}).attributes[ck.CKA_CHECK_VALUE] == right
    assert driver.bring_in({**template, ck.CKA_CHECK_VALUE: b""}).attributes[ck.CKA_CHECK_VALUE] == b""
    with pytest.raises(errors.AttributeValueInvalid):
        driver.bring_in({**template, ck.CKA_CHECK_VALUE: b"\0\0\0"})


def test_a_certificate_gets_check_value_and_public_key(driver: Driver) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    day = datetime.datetime(2024, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, day, day + datetime.timedelta(1))
    value = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    template: Attributes = {
        ck.CKA_CLASS: ulong(ck.CKO_CERTIFICATE),
        ck.CKA_CERTIFICATE_TYPE: ulong(ck.CKC_X_509),
        ck.CKA_VALUE: value,
    }
    added = step(driver.engine.complete(template))
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert added == {ck.CKA_CHECK_VALUE: hashlib.sha1(value).digest()[:3], ck.CKA_PUBLIC_KEY_INFO: info}
    # What is no certificate is kept as it is: a cut at any place must neither crash nor invent a key.
    for end in range(1, len(value)):
        cut = step(driver.engine.complete({**template, ck.CKA_VALUE: value[:end]}))
        assert ck.CKA_PUBLIC_KEY_INFO not in cut
    url_only = {ck.CKA_CLASS: ulong(ck.CKO_CERTIFICATE), ck.CKA_CERTIFICATE_TYPE: ulong(ck.CKC_X_509)}
    assert step(driver.engine.complete(url_only)) == {}


def test_other_objects_have_nothing_to_complete(driver: Driver) -> None:
    assert step(driver.engine.complete({ck.CKA_CLASS: ulong(ck.CKO_DATA), ck.CKA_VALUE: b"x"})) == {}
    for kind in (ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY):
        with pytest.raises(errors.AttributeValueInvalid):
            driver.bring_in({ck.CKA_CLASS: ulong(kind), ck.CKA_KEY_TYPE: ulong(ck.CKK_KEA)})
        with pytest.raises(errors.TemplateIncomplete):
            driver.bring_in({ck.CKA_CLASS: ulong(kind)})


def test_derivation_by_encryption(driver: Driver) -> None:
    value, iv, data = os.urandom(32), os.urandom(16), os.urandom(48)
    base = driver.aes(value)
    by_ecb = encrypted(value, data, modes.ECB())
    by_cbc = encrypted(value, data, modes.CBC(iv))
    for mechanism, parameter, expected in (
        (ck.CKM_AES_ECB_ENCRYPT_DATA, data, by_ecb),
        (ck.CKM_AES_CBC_ENCRYPT_DATA, CbcEncryptData(iv, data), by_cbc),
    ):
        whole = driver.derive(mechanism, base, secret_template(), parameter)
        assert whole[ck.CKA_VALUE] == expected
        aes = driver.derive(mechanism, base, secret_template(ck.CKK_AES, 16), parameter)
        assert aes[ck.CKA_VALUE] == expected[:16]
        with pytest.raises(errors.DataLenRange):
            driver.derive(mechanism, base, secret_template(length=49), parameter)
        with pytest.raises(errors.TemplateIncomplete):
            driver.derive(mechanism, base, secret_template(ck.CKK_AES), parameter)
    for wrong in (b"", data[:-1]):
        with pytest.raises(errors.DataLenRange):
            driver.derive(ck.CKM_AES_ECB_ENCRYPT_DATA, base, secret_template(), wrong)


def test_random(driver: Driver) -> None:
    assert len(step(driver.engine.random(0))) == 0
    first, second = step(driver.engine.random(32)), step(driver.engine.random(32))
    assert len(first) == 32
    assert first != second
    step(driver.engine.seed(memoryview(b"more")))


def test_every_row_is_served(driver: Driver) -> None:
    """A mechanism that is advertised begins: no row without an engine."""
    info = driver.engine.mechanisms()
    missing = frozenset() if driver.native and POSTQUANTUM else POSTQUANTUM_ONLY
    missing |= frozenset() if driver.native else frozenset(_LENT)
    assert set(info) == {type for type, row in ROWS.items() if row.family != "vendor"} - missing
    begun = (
        Function.ENCRYPT | Function.DECRYPT | Function.SIGN | Function.VERIFY | Function.DIGEST
        | Function.SIGN_RECOVER | Function.VERIFY_RECOVER
    )  # fmt: skip
    for type, (smallest, largest, flags) in info.items():
        row = ROWS[type]
        assert smallest <= largest
        # Raw RSA with the private key is there only with kernels that have it.
        assert flags & row.functions == row.functions or type == ck.CKM_RSA_X_509
        assert parameter_kind(type) == row.parameter
        if row.functions & begun and type not in POSTQUANTUM_ONLY:
            assert row.family in driver.engine._load
        # A password makes a key of any type.
        generates = row.functions & (Function.GENERATE | Function.GENERATE_KEY_PAIR)
        assert (row.produces is not None) == bool(generates) or type == ck.CKM_PKCS5_PBKD2
    assert parameter_kind(ck.CKM_VENDOR_DEFINED) is None


def ml_kem(z: bytes) -> tuple[bytes, Attributes]:
    """Return the seed of an ML-KEM key, and the attributes with an expanded key that ends with `z`."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

    seed = bytes(range(64))
    public = MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
    tail = public + hashlib.sha3_256(public).digest() + z
    return seed, {
        ck.CKA_KEY_TYPE: ck.CKK_ML_KEM.to_bytes(8, "little"),
        ck.CKA_PARAMETER_SET: ck.CKP_ML_KEM_768.to_bytes(8, "little"),
        ck.CKA_SEED: bytearray(seed),
        ck.CKA_VALUE: bytearray(2400 - len(tail)) + tail,
    }


def test_the_parts_of_an_expanded_key_that_follow_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where the kernels have no libcrypto 3.5."""
    monkeypatch.setattr(postquantum_material, "_kernels", lambda _: None)
    seed, right = ml_kem(bytes(range(32, 64)))
    assert ck.CKA_PUBLIC_KEY_INFO in postquantum_material.complete_private(ck.CKK_ML_KEM, right)
    _, wrong = ml_kem(bytes(range(33, 65)))
    other = {**right, ck.CKA_VALUE: bytearray(right[ck.CKA_VALUE])}  # type: ignore[arg-type]
    other[ck.CKA_VALUE][-33] ^= 1  # type: ignore[index, operator]
    for attributes in (wrong, other):
        with pytest.raises(errors.AttributeValueInvalid):
            postquantum_material.complete_private(ck.CKK_ML_KEM, attributes)


def test_a_seed_that_is_not_taken_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    row = parameter_sets.set_of(ml_kem(bytes(32))[1])
    info = postquantum_info.private_key_info(row, bytes(range(64)), None)
    seen = []

    def read(data: bytes) -> Any:
        seen.append(postquantum_info.read_private_key_info(data))
        return seen[-1]

    fake = SimpleNamespace(read_private_key_info=read, public_key_info=postquantum_info.public_key_info)
    monkeypatch.setattr(postquantum_material, "postquantum_info", fake)
    assert postquantum_material.unwrapped(info, ck.CKK_ML_KEM)[ck.CKA_SEED] == bytes(range(64))
    with pytest.raises(errors.WrappedKeyInvalid):
        postquantum_material.unwrapped(info, ck.CKK_ML_DSA)
    assert [bytes(each.seed) for each in seen] == [bytes(range(64)), bytes(64)]
