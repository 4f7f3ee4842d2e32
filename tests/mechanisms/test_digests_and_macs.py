"""Digests, HMAC and CMAC through the engine, against `hashlib`, `hmac` and `cryptography`."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from engine_support import Driver, step

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Function, Key
from ferrohsm.mechanisms import HASHES, ROWS

PARTS = [b"", b"a", os.urandom(200), b"end"]
DATA = b"".join(PARTS)


def stem(name: str) -> str:
    return "SHA_1" if name == "sha1" else name.upper()


def new(name: str, data: bytes = b"") -> Any:
    if name.startswith("blake2b"):
        return hashlib.blake2b(data, digest_size=HASHES[name].length)
    return hashlib.new(name, data)


@pytest.mark.parametrize("name", HASHES)
def test_digest(driver: Driver, name: str) -> None:
    mechanism = HASHES[name].type
    expected = new(name, DATA).digest()
    assert len(expected) == HASHES[name].length
    assert driver.once(Function.DIGEST, mechanism, None, DATA) == expected
    assert driver.parts(Function.DIGEST, mechanism, None, PARTS) == expected
    assert driver.parts(Function.DIGEST, mechanism, None, []) == new(name).digest()


@pytest.mark.parametrize("name", HASHES)
def test_hmac(driver: Driver, name: str) -> None:
    mechanism = getattr(ck, f"CKM_{stem(name)}_HMAC")
    specific = ROWS[mechanism].key_types[-1]
    for value, key_type in ((b"k", ck.CKK_GENERIC_SECRET), (os.urandom(300), specific)):
        key = driver.secret(value, key_type)
        expected = hmac.digest(value, DATA, lambda data=b"": new(name, data))  # type: ignore[arg-type]
        assert driver.sign(mechanism, key, DATA) == expected
        assert driver.parts(Function.SIGN, mechanism, key, PARTS) == expected
        driver.verify(mechanism, key, DATA, expected)
        driver.verify_parts(mechanism, key, PARTS, expected)
        with pytest.raises(errors.SignatureInvalid):
            driver.verify(mechanism, key, DATA, expected[:-1] + bytes((expected[-1] ^ 1,)))
        for wrong in (b"", expected[:-1], expected + b"\0"):
            with pytest.raises(errors.SignatureLenRange):
                driver.verify(mechanism, key, DATA, wrong)
            with pytest.raises(errors.SignatureLenRange):
                driver.verify_parts(mechanism, key, PARTS, wrong)
        general = getattr(ck, f"CKM_{stem(name)}_HMAC_GENERAL")
        for length in (1, 10, len(expected)):
            assert driver.sign(general, key, DATA, length) == expected[:length]
            driver.verify_parts(general, key, PARTS, expected[:length], length)
        for length in (0, len(expected) + 1, 2**63):
            with pytest.raises(errors.MechanismParamInvalid):
                driver.begin(Function.SIGN, general, key, length)


@pytest.mark.parametrize("size", [16, 24, 32])
def test_cmac(driver: Driver, size: int) -> None:
    value = os.urandom(size)
    key, context = driver.aes(value), CMAC(algorithms.AES(value))
    context.update(DATA)
    expected = context.finalize()
    assert driver.sign(ck.CKM_AES_CMAC, key, DATA) == expected
    assert driver.parts(Function.SIGN, ck.CKM_AES_CMAC, key, PARTS) == expected
    driver.verify_parts(ck.CKM_AES_CMAC, key, PARTS, expected)
    assert driver.sign(ck.CKM_AES_CMAC_GENERAL, key, DATA, 4) == expected[:4]
    driver.verify(ck.CKM_AES_CMAC_GENERAL, key, DATA, expected[:4], 4)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify(ck.CKM_AES_CMAC, key, DATA + b"x", expected)
    for length in (0, 17):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.begin(Function.SIGN, ck.CKM_AES_CMAC_GENERAL, key, length)


@pytest.mark.parametrize("mechanism", [ck.CKM_SHA256_HMAC, ck.CKM_AES_CMAC])
def test_a_mac_outlives_the_wiping_of_its_key(driver: Driver, mechanism: int) -> None:
    value = os.urandom(16)
    expected = driver.sign(mechanism, driver.aes(value), DATA)
    key = driver.aes(value)
    operation = driver.begin(Function.SIGN, mechanism, key)
    key.wipe()
    assert step(operation.once(memoryview(DATA))) == expected


def test_empty_keys_are_refused(driver: Driver) -> None:
    with pytest.raises(errors.KeySizeRange):
        driver.begin(Function.SIGN, ck.CKM_SHA256_HMAC, Key(1, {ck.CKA_VALUE: bytearray()}))


def test_an_operation_ends_with_its_first_error(driver: Driver) -> None:
    key = driver.secret(b"key")
    operation = driver.begin(Function.VERIFY, ck.CKM_SHA256_HMAC, key)
    with pytest.raises(errors.SignatureLenRange):
        step(operation.verify(memoryview(DATA), memoryview(b"short")))
    with pytest.raises(errors.OperationNotInitialized):
        step(operation.update(memoryview(DATA)))
    operation.close()
    operation.close()
