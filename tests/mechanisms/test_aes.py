"""AES modes and key wrap through the engine, against `cryptography` used directly."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.padding import PKCS7
from engine_support import Driver, step

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Function, Key
from ferrohsm.parameters import Ccm, Ctr, Gcm, Mechanism

KEYS = [os.urandom(16), os.urandom(24), os.urandom(32)]
IV = os.urandom(16)
BLOCK = 16


def ways(data: bytes) -> list[list[bytes]]:
    """Some ways to cut `data` into parts."""
    return [
        [data],
        [b"", data, b""],
        [data[:1], data[1:]],
        [data[i : i + 7] for i in range(0, len(data), 7)],
        [data[i : i + 16] for i in range(0, len(data), 16)],
        [data[:16], data[16:17], data[17:]],
        [data[:33], data[33:]],
    ]


def reference(key: bytes, mode: Any, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), mode).encryptor()
    return encryptor.update(data) + encryptor.finalize()


@pytest.mark.parametrize("value", KEYS, ids=len)
@pytest.mark.parametrize("length", [0, 16, 48, 160])
@pytest.mark.parametrize("mechanism", [ck.CKM_AES_ECB, ck.CKM_AES_CBC])
def test_whole_blocks(driver: Driver, value: bytes, length: int, mechanism: int) -> None:
    key, data = driver.aes(value), os.urandom(length)
    parameter = IV if mechanism == ck.CKM_AES_CBC else None
    expected = reference(value, modes.CBC(IV) if parameter else modes.ECB(), data)
    assert driver.encrypt(mechanism, key, data, parameter) == expected
    assert driver.decrypt(mechanism, key, expected, parameter) == data
    for parts in ways(data):
        assert driver.parts(Function.ENCRYPT, mechanism, key, parts, parameter) == expected
    for parts in ways(expected):
        assert driver.parts(Function.DECRYPT, mechanism, key, parts, parameter) == data


@pytest.mark.parametrize("mechanism", [ck.CKM_AES_ECB, ck.CKM_AES_CBC])
def test_partial_blocks_are_refused(driver: Driver, mechanism: int) -> None:
    key = driver.aes(KEYS[0])
    parameter = IV if mechanism == ck.CKM_AES_CBC else None
    for function, refusal in (
        (Function.ENCRYPT, errors.DataLenRange),
        (Function.DECRYPT, errors.EncryptedDataLenRange),
    ):
        for length in (1, 15, 17):
            with pytest.raises(refusal):
                driver.begin(function, mechanism, key, parameter).once_length(length)
            with pytest.raises(refusal):
                step(driver.begin(function, mechanism, key, parameter).once(memoryview(bytes(length))))
            operation = driver.begin(function, mechanism, key, parameter)
            step(operation.update(memoryview(bytes(length))))
            with pytest.raises(refusal):
                operation.finish_length()
            with pytest.raises(refusal):
                step(operation.finish())


@pytest.mark.parametrize("value", KEYS, ids=len)
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 32, 100])
def test_padded_cbc(driver: Driver, value: bytes, length: int) -> None:
    key, data = driver.aes(value), os.urandom(length)
    padder = PKCS7(128).padder()
    expected = reference(value, modes.CBC(IV), padder.update(data) + padder.finalize())
    assert driver.encrypt(ck.CKM_AES_CBC_PAD, key, data, IV) == expected
    assert driver.decrypt(ck.CKM_AES_CBC_PAD, key, expected, IV) == data
    for parts in ways(data):
        assert driver.parts(Function.ENCRYPT, ck.CKM_AES_CBC_PAD, key, parts, IV) == expected
    for parts in ways(expected):
        assert driver.parts(Function.DECRYPT, ck.CKM_AES_CBC_PAD, key, parts, IV) == data


def test_bad_padding(driver: Driver) -> None:
    key = driver.aes(KEYS[0])
    for last in (b"\0", b"\x11", b"\x02", b"\x10"):
        encrypted = reference(KEYS[0], modes.CBC(IV), b"x" * 31 + last)
        with pytest.raises(errors.EncryptedDataInvalid):
            driver.decrypt(ck.CKM_AES_CBC_PAD, key, encrypted, IV)
        with pytest.raises(errors.EncryptedDataInvalid):
            driver.parts(Function.DECRYPT, ck.CKM_AES_CBC_PAD, key, [encrypted], IV)
    for length in (0, 15, 17):
        with pytest.raises(errors.EncryptedDataLenRange):
            driver.begin(Function.DECRYPT, ck.CKM_AES_CBC_PAD, key, IV).once_length(length)
        with pytest.raises(errors.EncryptedDataLenRange):
            driver.parts(Function.DECRYPT, ck.CKM_AES_CBC_PAD, key, [bytes(length)], IV)


@pytest.mark.parametrize("length", [0, 1, 16, 33, 100])
def test_counter_mode(driver: Driver, length: int) -> None:
    key, data = driver.aes(KEYS[1]), os.urandom(length)
    for bits, block in ((128, IV), (32, IV[:12] + bytes(4)), (8, bytes(16))):
        parameter = Ctr(bits, block)
        expected = reference(KEYS[1], modes.CTR(block), data)
        assert driver.encrypt(ck.CKM_AES_CTR, key, data, parameter) == expected
        for parts in ways(data):
            assert driver.parts(Function.DECRYPT, ck.CKM_AES_CTR, key, parts, parameter) == expected


def test_counter_never_overflows(driver: Driver) -> None:
    """The specification's example: two counter bits that start as 1 leave three blocks."""
    key, parameter = driver.aes(KEYS[0]), Ctr(2, bytes(15) + b"\x01")
    assert len(driver.encrypt(ck.CKM_AES_CTR, key, bytes(48), parameter)) == 48
    operation = driver.begin(Function.ENCRYPT, ck.CKM_AES_CTR, key, parameter)
    with pytest.raises(errors.DataLenRange):
        operation.once_length(49)
    step(operation.update(memoryview(bytes(47))))
    assert operation.update_length(1) == 1
    with pytest.raises(errors.DataLenRange):
        step(operation.update(memoryview(b"xx")))
    for bits in (0, 129, 2**63):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.begin(Function.ENCRYPT, ck.CKM_AES_CTR, key, Ctr(bits, bytes(16)))
    last = Ctr(128, b"\xff" * 16)
    assert len(driver.encrypt(ck.CKM_AES_CTR, key, bytes(16), last)) == 16
    with pytest.raises(errors.DataLenRange):
        driver.encrypt(ck.CKM_AES_CTR, key, bytes(17), last)


@pytest.mark.parametrize("value", KEYS, ids=len)
@pytest.mark.parametrize("length", [0, 1, 16, 100])
@pytest.mark.parametrize("aad", [b"", b"associated"])
@pytest.mark.parametrize("iv", [os.urandom(12), os.urandom(8), os.urandom(60)], ids=len)
def test_gcm_both_ways(driver: Driver, value: bytes, length: int, aad: bytes, iv: bytes) -> None:
    key, data = driver.aes(value), os.urandom(length)
    parameter = Gcm(iv, len(iv) * 8, aad, 128)
    expected = AESGCM(value).encrypt(iv, data, aad)
    assert driver.encrypt(ck.CKM_AES_GCM, key, data, parameter) == expected
    assert driver.decrypt(ck.CKM_AES_GCM, key, expected, parameter) == data
    for parts in ways(data):
        assert driver.parts(Function.ENCRYPT, ck.CKM_AES_GCM, key, parts, parameter) == expected
    for parts in ways(expected):
        assert driver.parts(Function.DECRYPT, ck.CKM_AES_GCM, key, parts, parameter) == data
    for tag in (32, 64, 96, 120):
        short = parameter._replace(tag_bits=tag)
        cut = expected[: length + tag // 8]
        assert driver.encrypt(ck.CKM_AES_GCM, key, data, short) == cut
        assert driver.decrypt(ck.CKM_AES_GCM, key, cut, short) == data


def test_gcm_gives_nothing_before_the_tag_is_right(driver: Driver) -> None:
    key, parameter = driver.aes(KEYS[2]), Gcm(IV[:12], 96, b"aad", 128)
    good = driver.encrypt(ck.CKM_AES_GCM, key, b"data" * 10, parameter)
    operation = driver.begin(Function.DECRYPT, ck.CKM_AES_GCM, key, parameter)
    assert operation.update_length(40) == 0
    assert step(operation.update(memoryview(good[:40]))) == b""
    operation.close()
    for index in range(0, len(good), 5):
        bad = good[:index] + bytes((good[index] ^ 1,)) + good[index + 1 :]
        with pytest.raises(errors.EncryptedDataInvalid):
            driver.decrypt(ck.CKM_AES_GCM, key, bad, parameter)
        with pytest.raises(errors.EncryptedDataInvalid):
            driver.parts(Function.DECRYPT, ck.CKM_AES_GCM, key, [bad[:20], bad[20:]], parameter)
    with pytest.raises(errors.EncryptedDataInvalid):
        driver.decrypt(ck.CKM_AES_GCM, key, good, parameter._replace(aad=b"other"))
    for short in (b"", good[:15]):
        with pytest.raises(errors.EncryptedDataLenRange):
            driver.decrypt(ck.CKM_AES_GCM, key, short, parameter)
        with pytest.raises(errors.EncryptedDataLenRange):
            driver.parts(Function.DECRYPT, ck.CKM_AES_GCM, key, [short], parameter)


def test_gcm_parameters_that_are_refused(driver: Driver) -> None:
    key, good = driver.aes(KEYS[0]), Gcm(IV[:12], 96, b"", 128)
    for wrong in (
        *(good._replace(tag_bits=bits) for bits in (0, 8, 31, 33, 136, 2**40)),
        *(good._replace(iv=iv) for iv in (b"", b"1234567", bytes(129))),
        None,
        b"x",
    ):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.begin(Function.ENCRYPT, ck.CKM_AES_GCM, key, wrong)


def test_gcm_decryption_keeps_a_bounded_amount(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    if driver.native:
        pytest.skip("the kernels have a limit of their own")
    monkeypatch.setattr("ferrohsm_adapters.software.operation.MAX_HELD_BYTES", 64)
    key, parameter = driver.aes(KEYS[0]), Gcm(IV[:12], 96, b"", 128)
    long = driver.encrypt(ck.CKM_AES_GCM, key, bytes(100), parameter)
    assert driver.decrypt(ck.CKM_AES_GCM, key, long, parameter) == bytes(100)
    operation = driver.begin(Function.DECRYPT, ck.CKM_AES_GCM, key, parameter)
    step(operation.update(memoryview(long[:64])))
    with pytest.raises(errors.DeviceMemory):
        step(operation.update(memoryview(long[64:])))


@pytest.mark.parametrize("length", [0, 1, 100])
@pytest.mark.parametrize("nonce", [7, 12, 13])
@pytest.mark.parametrize("mac", [4, 8, 16])
def test_ccm_both_ways(driver: Driver, length: int, nonce: int, mac: int) -> None:
    key, data = driver.aes(KEYS[2]), os.urandom(length)
    parameter = Ccm(length, IV[:nonce], b"aad", mac)
    expected = AESCCM(KEYS[2], mac).encrypt(IV[:nonce], data, b"aad")
    assert driver.encrypt(ck.CKM_AES_CCM, key, data, parameter) == expected
    assert driver.decrypt(ck.CKM_AES_CCM, key, expected, parameter) == data
    for parts in ways(data):
        assert driver.parts(Function.ENCRYPT, ck.CKM_AES_CCM, key, parts, parameter) == expected
    for parts in ways(expected):
        assert driver.parts(Function.DECRYPT, ck.CKM_AES_CCM, key, parts, parameter) == data
    bad = bytes((expected[0] ^ 1,)) + expected[1:]
    with pytest.raises(errors.EncryptedDataInvalid):
        driver.decrypt(ck.CKM_AES_CCM, key, bad, parameter)


def test_ccm_wipes_its_copy_of_the_key(driver: Driver) -> None:
    parameter = Ccm(3, IV[:12], b"", 16)
    mechanism = Mechanism(ck.CKM_AES_CCM, parameter)
    operation = step(driver.engine.begin(Function.ENCRYPT, mechanism, driver.aes(KEYS[0])))
    assert operation.secret == KEYS[0]
    step(operation.once(memoryview(b"abc")))
    assert operation.secret == bytes(len(KEYS[0]))


def test_ccm_refusals(driver: Driver) -> None:
    key, good = driver.aes(KEYS[0]), Ccm(10, IV[:12], b"", 16)
    for wrong in (
        good._replace(nonce=IV[:6]),
        good._replace(nonce=IV[:14]),
        good._replace(mac_length=3),
        good._replace(mac_length=18),
        good._replace(nonce=IV[:13], data_length=65536),
    ):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.begin(Function.ENCRYPT, ck.CKM_AES_CCM, key, wrong)
    with pytest.raises(errors.DataLenRange):
        driver.encrypt(ck.CKM_AES_CCM, key, bytes(9), good)
    with pytest.raises(errors.EncryptedDataLenRange):
        driver.decrypt(ck.CKM_AES_CCM, key, bytes(25), good)
    with pytest.raises(errors.DataLenRange):
        driver.parts(Function.ENCRYPT, ck.CKM_AES_CCM, key, [bytes(11)], good)


@pytest.mark.parametrize("value", KEYS, ids=len)
def test_key_wrap_as_encryption(driver: Driver, value: bytes) -> None:
    key = driver.aes(value)
    for length in (16, 24, 40):
        data = os.urandom(length)
        expected = keywrap.aes_key_wrap(value, data)
        for parameter in (None, b"", b"\xa6" * 8):
            assert driver.encrypt(ck.CKM_AES_KEY_WRAP, key, data, parameter) == expected
            assert driver.decrypt(ck.CKM_AES_KEY_WRAP, key, expected, parameter) == data
    for mechanism in (ck.CKM_AES_KEY_WRAP_KWP, ck.CKM_AES_KEY_WRAP_PAD):
        for length in (1, 7, 8, 9, 16, 33):
            data = os.urandom(length)
            expected = keywrap.aes_key_wrap_with_padding(value, data)
            assert driver.encrypt(mechanism, key, data) == expected
            assert driver.decrypt(mechanism, key, expected) == data
    for length in (8, 9, 16, 33):
        data = os.urandom(length)
        count = 8 - length % 8
        expected = keywrap.aes_key_wrap(value, data + bytes((count,)) * count)
        assert driver.encrypt(ck.CKM_AES_KEY_WRAP_PKCS7, key, data) == expected
        assert driver.decrypt(ck.CKM_AES_KEY_WRAP_PKCS7, key, expected) == data


def test_key_wrap_refusals(driver: Driver) -> None:
    key = driver.aes(KEYS[0])
    for mechanism, lengths in (
        (ck.CKM_AES_KEY_WRAP, (0, 8, 15, 17)),
        (ck.CKM_AES_KEY_WRAP_KWP, (0,)),
        (ck.CKM_AES_KEY_WRAP_PKCS7, (0, 7)),
    ):
        for length in lengths:
            with pytest.raises(errors.DataLenRange):
                driver.encrypt(mechanism, key, bytes(length))
        for length in (0, 8, 17):
            with pytest.raises(errors.EncryptedDataLenRange):
                driver.decrypt(mechanism, key, bytes(length))
        with pytest.raises(errors.EncryptedDataInvalid):
            driver.decrypt(mechanism, key, bytes(24))
        assert not driver.begin(Function.ENCRYPT, mechanism, key).multi_part
    with pytest.raises(errors.MechanismParamInvalid):
        driver.begin(Function.ENCRYPT, ck.CKM_AES_KEY_WRAP, key, bytes(8))
    with pytest.raises(errors.MechanismParamInvalid):
        driver.begin(Function.ENCRYPT, ck.CKM_AES_KEY_WRAP_KWP, key, b"\xa6" * 8)
    unpadded = keywrap.aes_key_wrap(KEYS[0], b"\x09" * 16)
    with pytest.raises(errors.EncryptedDataInvalid):
        driver.decrypt(ck.CKM_AES_KEY_WRAP_PKCS7, key, unpadded)


CASES = [
    (ck.CKM_AES_ECB, None),
    (ck.CKM_AES_CBC, IV),
    (ck.CKM_AES_CBC_PAD, IV),
    (ck.CKM_AES_CTR, Ctr(128, bytes(16))),
    (ck.CKM_AES_GCM, Gcm(IV[:12], 96, b"", 128)),
    (ck.CKM_AES_CCM, Ccm(32, IV[:12], b"", 16)),
    (ck.CKM_AES_KEY_WRAP, None),
]


@pytest.mark.parametrize(("mechanism", "parameter"), CASES)
def test_an_operation_outlives_the_wiping_of_its_key(driver: Driver, mechanism: int, parameter: Any) -> None:
    """The key goes (logout) while an operation runs: it ends with the key it began with, never with zeros."""
    expected = driver.encrypt(mechanism, driver.aes(KEYS[0]), b"d" * 32, parameter)
    key = driver.aes(KEYS[0])
    encryption = driver.begin(Function.ENCRYPT, mechanism, key, parameter)
    decryption = driver.begin(Function.DECRYPT, mechanism, key, parameter)
    key.wipe()
    assert bytes(key.attributes[ck.CKA_VALUE]) == bytes(16)
    assert step(encryption.once(memoryview(b"d" * 32))) == expected
    assert step(decryption.once(memoryview(expected))) == b"d" * 32


@pytest.mark.parametrize(("mechanism", "parameter"), CASES)
def test_wrong_key_sizes(driver: Driver, mechanism: int, parameter: Any) -> None:
    for length in (0, 1, 15, 17, 33):
        key = Key(1, {ck.CKA_VALUE: bytearray(length)})
        with pytest.raises(errors.KeySizeRange):
            driver.begin(Function.ENCRYPT, mechanism, key, parameter)


@pytest.mark.parametrize(("mechanism", "parameter"), CASES[1:6])
def test_a_parameter_is_needed(driver: Driver, mechanism: int, parameter: Any) -> None:
    for wrong in (None, b"", IV[:15], 7):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.begin(Function.ENCRYPT, mechanism, driver.aes(KEYS[0]), wrong)
