"""Known answers for ML-KEM and ML-DSA, through the engine."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

import pytest
from abi_driver import AbiDriver
from engine_support import POSTQUANTUM, Driver, private_template, secret_template, step, ulong
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Attributes, Function, Key
from ferrohsm.parameters import Mechanism, SignContext

ASYMMETRIC = root() / "asymmetric"
ML_KEM = {768: ck.CKP_ML_KEM_768, 1024: ck.CKP_ML_KEM_1024}
ML_DSA = {44: ck.CKP_ML_DSA_44, 65: ck.CKP_ML_DSA_65, 87: ck.CKP_ML_DSA_87}


def private_of(key_type: int, parameter_set: int, seed: bytes, **more: bytes) -> Attributes:
    return {
        **private_template(key_type),
        ck.CKA_PARAMETER_SET: ulong(parameter_set),
        ck.CKA_SEED: bytearray(seed),
        **{getattr(ck, f"CKA_{name}"): bytearray(value) for name, value in more.items()},
    }


def public_of(key_type: int, parameter_set: int, value: bytes) -> Attributes:
    return {
        ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY),
        ck.CKA_KEY_TYPE: ulong(key_type),
        ck.CKA_PARAMETER_SET: ulong(parameter_set),
        ck.CKA_VALUE: value,
    }


def decapsulated(driver: Driver, private: Key, ciphertext: bytes) -> bytes:
    mechanism = Mechanism(ck.CKM_ML_KEM)
    made = step(driver.engine.decapsulate(mechanism, private, memoryview(ciphertext), secret_template()))
    return bytes(made[ck.CKA_VALUE])


@pytest.mark.parametrize("size", ML_KEM)
def test_ml_kem(driver: Driver, size: int) -> None:
    """The known answers of post-quantum-cryptography/KAT: keys, shared secrets, implicit rejection."""
    file = ASYMMETRIC / "MLKEM" / f"kat_MLKEM_{size}.rsp"
    for record in islice(records(file, "count"), 20):
        seed = bytes.fromhex(record["d"] + record["z"])
        public, expanded = bytes.fromhex(record["pk"]), bytes.fromhex(record["sk"])
        private = driver.bring_in(private_of(ck.CKK_ML_KEM, ML_KEM[size], seed, VALUE=expanded))
        from_seed = driver.bring_in(private_of(ck.CKK_ML_KEM, ML_KEM[size], seed))
        key = driver.bring_in(public_of(ck.CKK_ML_KEM, ML_KEM[size], public))
        assert key.attributes[ck.CKA_PUBLIC_KEY_INFO] == private.attributes[ck.CKA_PUBLIC_KEY_INFO]
        assert decapsulated(driver, private, bytes.fromhex(record["ct"])).hex() == record["ss"]
        assert decapsulated(driver, from_seed, bytes.fromhex(record["ct_n"])).hex() == record["ss_n"]
        mechanism = Mechanism(ck.CKM_ML_KEM)
        ciphertext, made = step(driver.engine.encapsulate(mechanism, key, secret_template()))
        assert driver.engine.encapsulated_length(mechanism, key) == len(ciphertext)
        assert decapsulated(driver, private, ciphertext) == made[ck.CKA_VALUE]


def test_ml_kem_refusals(driver: Driver) -> None:
    record = next(records(ASYMMETRIC / "MLKEM" / "kat_MLKEM_768.rsp", "count"))
    seed, expanded = bytes.fromhex(record["d"] + record["z"]), bytes.fromhex(record["sk"])
    private = driver.bring_in(private_of(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, seed))
    for length in (0, 1087, 1089):
        with pytest.raises(errors.EncryptedDataLenRange):
            decapsulated(driver, private, bytes(length))
    for attributes, error in (
        (private_of(ck.CKK_ML_KEM, 77, seed), errors.ParameterSetNotSupported),
        (private_of(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, seed[:-1]), errors.AttributeValueInvalid),
        (private_of(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, b""), errors.TemplateIncomplete),
        (
            private_of(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, seed, VALUE=expanded[:-1]),
            errors.AttributeValueInvalid,
        ),
        (
            private_of(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, seed, VALUE=expanded[:-1] + b"\0"),
            errors.AttributeValueInvalid,
        ),
        (public_of(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, bytes(1183)), errors.AttributeValueInvalid),
        # Coefficients that are not reduced (FIPS 203, section 7.2).
        (public_of(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, b"\xff" * 1184), errors.AttributeValueInvalid),
    ):
        with pytest.raises(error):
            driver.bring_in(attributes)


@pytest.mark.parametrize("size", ML_DSA)
def test_ml_dsa(driver: Driver, size: int) -> None:
    """The known answers of post-quantum-cryptography/KAT, with their contexts."""
    file = ASYMMETRIC / "MLDSA" / f"kat_MLDSA_{size}_det_pure.rsp"
    for record in islice(records(file, "count"), 15):
        seed, message = bytes.fromhex(record["xi"]), bytes.fromhex(record["msg"])
        public, expanded = bytes.fromhex(record["pk"]), bytes.fromhex(record["sk"])
        private = driver.bring_in(private_of(ck.CKK_ML_DSA, ML_DSA[size], seed, VALUE=expanded))
        key = driver.bring_in(public_of(ck.CKK_ML_DSA, ML_DSA[size], public))
        assert key.attributes[ck.CKA_PUBLIC_KEY_INFO] == private.attributes[ck.CKA_PUBLIC_KEY_INFO]
        signature = bytes.fromhex(record["sm"])[: -len(message)]
        context = SignContext(ck.CKH_HEDGE_PREFERRED, bytes.fromhex(record["ctx"]))
        driver.verify(ck.CKM_ML_DSA, key, message, signature, context)
        driver.verify_parts(ck.CKM_ML_DSA, key, [message[:5], message[5:]], signature, context)
        ours = driver.parts(Function.SIGN, ck.CKM_ML_DSA, private, [message[:9], message[9:]], context)
        assert len(ours) == len(signature)
        driver.verify(ck.CKM_ML_DSA, key, message, ours, context)
        with pytest.raises(errors.SignatureInvalid):
            driver.verify(ck.CKM_ML_DSA, key, message, ours, SignContext(0, context.context + b"x"))
        with pytest.raises(errors.SignatureLenRange):
            driver.verify(ck.CKM_ML_DSA, key, message, ours[:-1], context)
        damaged = bytearray(expanded)
        damaged[70] ^= 1
        with pytest.raises(errors.AttributeValueInvalid):
            driver.bring_in(private_of(ck.CKK_ML_DSA, ML_DSA[size], seed, VALUE=bytes(damaged)))


@pytest.fixture(scope="module")
def pair(driver: Driver) -> tuple[Key, Key]:
    return driver.pair(ck.CKM_ML_DSA_KEY_PAIR_GEN, ck.CKK_ML_DSA, PARAMETER_SET=ulong(ck.CKP_ML_DSA_44))


def shake(name: str, length: int) -> Any:
    return lambda data: hashlib.new(name, data).digest(length)


PREHASHES: dict[str, tuple[int, Any]] = {
    "SHA224": (4, lambda data: hashlib.sha224(data).digest()),
    "SHA256": (1, lambda data: hashlib.sha256(data).digest()),
    "SHA384": (2, lambda data: hashlib.sha384(data).digest()),
    "SHA512": (3, lambda data: hashlib.sha512(data).digest()),
    "SHA3_224": (7, lambda data: hashlib.sha3_224(data).digest()),
    "SHA3_256": (8, lambda data: hashlib.sha3_256(data).digest()),
    "SHA3_384": (9, lambda data: hashlib.sha3_384(data).digest()),
    "SHA3_512": (10, lambda data: hashlib.sha3_512(data).digest()),
    "SHAKE128": (11, shake("shake_128", 32)),
    "SHAKE256": (12, shake("shake_256", 64)),
}


@pytest.mark.parametrize("name", PREHASHES)
def test_prehashed(driver: Driver, pair: tuple[Key, Key], name: str) -> None:
    """FIPS 204, algorithm 4, written down once more; checked against the library's own verification of mu."""
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

    public, private = pair
    message, context = b"a message in parts", b"some context"
    mechanism, parameter = getattr(ck, f"CKM_HASH_ML_DSA_{name}"), SignContext(0, context)
    signature = driver.parts(Function.SIGN, mechanism, private, [message[:4], message[4:]], parameter)
    driver.verify(mechanism, public, message, signature, parameter)
    raw = bytes(public.attributes[ck.CKA_VALUE])
    arc, digest = PREHASHES[name]
    identifier = bytes((6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, arc))
    formatted = bytes((1, len(context))) + context + identifier + digest(message)
    mu = hashlib.shake_256(hashlib.shake_256(raw).digest(64) + formatted).digest(64)
    MLDSA44PublicKey.from_public_bytes(raw).verify_mu(signature, mu)
    if not name.startswith("SHAKE"):
        given = SignContext(0, context, getattr(ck, f"CKM_{name}"))
        driver.verify(ck.CKM_HASH_ML_DSA, public, digest(message), signature, given)
        with pytest.raises(errors.DataLenRange):
            driver.verify(ck.CKM_HASH_ML_DSA, public, digest(message)[:-1], signature, given)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify(ck.CKM_ML_DSA, public, message, signature, parameter)


def test_ml_dsa_parameters(driver: Driver, pair: tuple[Key, Key]) -> None:
    public, private = pair
    driver.verify(ck.CKM_ML_DSA, public, b"data", driver.sign(ck.CKM_ML_DSA, private, b"data"))
    deterministic = SignContext(ck.CKH_DETERMINISTIC_REQUIRED, b"")
    if driver.native and POSTQUANTUM:
        made = [driver.sign(ck.CKM_ML_DSA, private, b"data", deterministic) for _ in range(2)]
        assert made[0] == made[1]
        driver.verify(ck.CKM_ML_DSA, public, b"data", made[0])
    else:
        with pytest.raises(errors.MechanismParamInvalid):
            driver.sign(ck.CKM_ML_DSA, private, b"data", deterministic)
    for parameter in (
        SignContext(99, b""),
        SignContext(ck.CKH_HEDGE_REQUIRED, bytes(256)),
    ):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.sign(ck.CKM_ML_DSA, private, b"data", parameter)
    for hash in (ck.CKM_SHA_1, ck.CKM_MD5, ck.CKM_AES_ECB, 0):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.sign(ck.CKM_HASH_ML_DSA, private, bytes(32), SignContext(0, b"", hash))
    assert not driver.begin(
        Function.SIGN, ck.CKM_HASH_ML_DSA, private, SignContext(0, b"", ck.CKM_SHA256)
    ).multi_part


def test_a_key_without_a_seed(driver: Driver, pair: tuple[Key, Key]) -> None:
    """Kernels with libcrypto 3.5 take it; elsewhere it is kept, and refused for what it cannot do."""
    record = next(records(ASYMMETRIC / "MLDSA" / "kat_MLDSA_44_det_pure.rsp", "count"))
    value = bytes.fromhex(record["sk"])
    attributes = private_of(ck.CKK_ML_DSA, ck.CKP_ML_DSA_44, b"", VALUE=value)
    if driver.native and POSTQUANTUM:
        private = driver.bring_in(attributes)
        driver.sign(ck.CKM_ML_DSA, private, b"data")
        return
    if not POSTQUANTUM:
        with pytest.raises(errors.TemplateIncomplete):
            driver.bring_in(attributes)
    if isinstance(driver, AbiDriver):  # which makes no object that is not complete
        return
    private = driver.key(attributes)  # as a token has it that another build has written
    with pytest.raises(errors.KeyFunctionNotPermitted):
        driver.sign(ck.CKM_ML_DSA, private, b"data")
    wrapping = driver.aes(bytes(32))
    assert len(driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, private)) > len(value)


@pytest.mark.parametrize("key_type", [ck.CKK_ML_DSA, ck.CKK_ML_KEM])
def test_keys_are_wrapped_and_come_back(driver: Driver, key_type: int) -> None:
    dsa = key_type == ck.CKK_ML_DSA
    generator = ck.CKM_ML_DSA_KEY_PAIR_GEN if dsa else ck.CKM_ML_KEM_KEY_PAIR_GEN
    chosen = ck.CKP_ML_DSA_87 if dsa else ck.CKP_ML_KEM_1024
    public, private = driver.pair(generator, key_type, PARAMETER_SET=ulong(chosen))
    wrapping = driver.aes(bytes(32))
    wrapped = driver.wrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, private)
    back = driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, wrapped, private_template(key_type))
    assert back[ck.CKA_SEED] == private.attributes[ck.CKA_SEED]
    assert back[ck.CKA_PARAMETER_SET] == ulong(chosen)
    assert back[ck.CKA_PUBLIC_KEY_INFO] == public.attributes[ck.CKA_PUBLIC_KEY_INFO]
    other = ck.CKK_ML_KEM if dsa else ck.CKK_ML_DSA
    for wrong in (other, ck.CKK_RSA, ck.CKK_EC):
        with pytest.raises(errors.WrappedKeyInvalid):
            driver.unwrap(ck.CKM_AES_KEY_WRAP_KWP, wrapping, wrapped, private_template(wrong))
