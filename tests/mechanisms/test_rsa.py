"""RSA through the engine, against `cryptography` used directly."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from engine_support import Driver, step, ulong
from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS
from ferrohsm_adapters.software.rsa_material import private_key, public_key

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Function, Key
from ferrohsm.mechanisms import HASHES
from ferrohsm.parameters import Mechanism, RsaOaep, RsaPss

SIGNING = ["sha1", "sha224", "sha256", "sha384", "sha512", "sha3_224", "sha3_256", "sha3_384", "sha3_512"]
OAEP_HASHES = ["sha1", "sha224", "sha256", "sha384", "sha512"]
PARTS = [b"", b"a", b"bc" * 100, b"d"]
DATA = b"".join(PARTS)

Pair = tuple[Key, Key]


def constant(name: str, suffix: str) -> int:
    return int(getattr(ck, f"CKM_{name.upper()}{suffix}"))


@pytest.mark.parametrize("name", SIGNING)
def test_hashed_pkcs1_signatures_both_ways(driver: Driver, rsa: Pair, name: str) -> None:
    public, private = rsa
    mechanism, algorithm = constant(name, "_RSA_PKCS"), HASH_FUNCTIONS[name]
    signature = driver.sign(mechanism, private, DATA)
    assert signature == driver.parts(Function.SIGN, mechanism, private, PARTS)
    public_key(public).verify(signature, DATA, padding.PKCS1v15(), algorithm)
    theirs = private_key(private).sign(b"other", padding.PKCS1v15(), algorithm)
    driver.verify(mechanism, public, b"other", theirs)
    driver.verify_parts(mechanism, public, [b"ot", b"her"], theirs)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify(mechanism, public, DATA, theirs)


@pytest.mark.parametrize("name", SIGNING)
@pytest.mark.parametrize("salt", [0, 20])
def test_pss_both_ways(driver: Driver, rsa: Pair, name: str, salt: int) -> None:
    public, private = rsa
    mechanism, algorithm = constant(name, "_RSA_PKCS_PSS"), HASH_FUNCTIONS[name]
    parameter = RsaPss(HASHES[name].type, ck.CKG_MGF1_SHA256, salt)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    for signature in (
        driver.sign(mechanism, private, DATA, parameter),
        driver.parts(Function.SIGN, mechanism, private, PARTS, parameter),
    ):
        public_key(public).verify(signature, DATA, scheme, algorithm)
    digest = driver.once(Function.DIGEST, HASHES[name].type, None, DATA)
    raw = driver.sign(ck.CKM_RSA_PKCS_PSS, private, digest, parameter)
    public_key(public).verify(raw, digest, scheme, Prehashed(algorithm))
    driver.verify(mechanism, public, DATA, raw, parameter)
    driver.verify_parts(mechanism, public, PARTS, raw, parameter)
    driver.verify(ck.CKM_RSA_PKCS_PSS, public, digest, raw, parameter)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify(mechanism, public, DATA + b"x", raw, parameter)


def test_pss_refusals(driver: Driver, rsa: Pair) -> None:
    public, private = rsa
    room = 256 - 2 - 32
    fits = RsaPss(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, room)
    signature = driver.sign(ck.CKM_SHA256_RSA_PKCS_PSS, private, DATA, fits)
    driver.verify(ck.CKM_SHA256_RSA_PKCS_PSS, public, DATA, signature, fits)
    for wrong in (
        fits._replace(salt_length=room + 1),
        fits._replace(hash=ck.CKM_SHA_1),  # not the mechanism's
        fits._replace(mgf=0x77),
        fits._replace(hash=ck.CKM_AES_CBC),
        None,
    ):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.sign(ck.CKM_SHA256_RSA_PKCS_PSS, private, DATA, wrong)
    with pytest.raises(errors.DataLenRange):
        driver.sign(ck.CKM_RSA_PKCS_PSS, private, b"x" * 31, fits)


def test_raw_pkcs1_signs_what_it_is_given(driver: Driver, rsa: Pair) -> None:
    public, private = rsa
    for data in (b"", b"x", os.urandom(36), os.urandom(256 - 11)):
        signature = driver.sign(ck.CKM_RSA_PKCS, private, data)
        theirs = public_key(public).recover_data_from_signature(signature, padding.PKCS1v15(), NoDigestInfo())
        assert theirs == data
        driver.verify(ck.CKM_RSA_PKCS, public, data, signature)
        assert driver.once(Function.SIGN_RECOVER, ck.CKM_RSA_PKCS, private, data) == signature
        assert driver.once(Function.VERIFY_RECOVER, ck.CKM_RSA_PKCS, public, signature) == data
    with pytest.raises(errors.DataLenRange):
        driver.begin(Function.SIGN, ck.CKM_RSA_PKCS, private).once_length(256 - 10)
    operation = driver.begin(Function.SIGN, ck.CKM_RSA_PKCS, private)
    assert not operation.multi_part
    with pytest.raises(errors.DataLenRange):
        step(operation.once(memoryview(bytes(246))))


def test_signature_length_and_value_are_told_apart(driver: Driver, rsa: Pair) -> None:
    public, private = rsa
    signature = driver.sign(ck.CKM_SHA256_RSA_PKCS, private, DATA)
    for wrong in (b"", signature[:-1], signature + b"\0"):
        with pytest.raises(errors.SignatureLenRange):
            driver.verify(ck.CKM_SHA256_RSA_PKCS, public, DATA, wrong)
    for wrong in (bytes(256), b"\xff" * 256, bytes((signature[0] ^ 1,)) + signature[1:]):
        with pytest.raises(errors.SignatureInvalid):
            driver.verify(ck.CKM_SHA256_RSA_PKCS, public, DATA, wrong)
        with pytest.raises(errors.SignatureInvalid):
            driver.once(Function.VERIFY_RECOVER, ck.CKM_RSA_PKCS, public, wrong)
    with pytest.raises(errors.SignatureLenRange):
        driver.once(Function.VERIFY_RECOVER, ck.CKM_RSA_PKCS, public, signature[:-1])


def test_pkcs1_encryption_both_ways(driver: Driver, rsa: Pair) -> None:
    public, private = rsa
    for data in (b"", b"secret", os.urandom(245)):
        assert (
            private_key(private).decrypt(driver.encrypt(ck.CKM_RSA_PKCS, public, data), padding.PKCS1v15())
            == data
        )
        theirs = public_key(public).encrypt(data, padding.PKCS1v15())
        assert driver.decrypt(ck.CKM_RSA_PKCS, private, theirs) == data
    with pytest.raises(errors.DataLenRange):
        driver.encrypt(ck.CKM_RSA_PKCS, public, bytes(246))
    for length in (0, 255, 257):
        with pytest.raises(errors.EncryptedDataLenRange):
            driver.decrypt(ck.CKM_RSA_PKCS, private, bytes(length))


def test_bad_pkcs1_padding_is_rejected_implicitly(driver: Driver, rsa: Pair) -> None:
    """A block without padding decrypts, always to the same bytes: no oracle."""
    public, private = rsa
    numbers = public_key(public).public_numbers()
    block = pow(0x1234, numbers.e, numbers.n).to_bytes(256, "big")
    first = driver.decrypt(ck.CKM_RSA_PKCS, private, block)
    assert driver.decrypt(ck.CKM_RSA_PKCS, private, block) == first


@pytest.mark.parametrize(("version", "taken"), [(0x30000150, False), (0x1010107F, False), (0x30200000, True)])
def test_no_pkcs1_decryption_by_an_engine_that_is_an_oracle(
    rsa: Pair, monkeypatch: pytest.MonkeyPatch, version: int, taken: bool
) -> None:
    """OpenSSL before 3.2 and its forks tell bad padding from good."""
    from cryptography.hazmat.backends.openssl.backend import Backend

    monkeypatch.setattr(Backend, "openssl_version_number", lambda _: version)
    library = Driver()
    block = library.encrypt(ck.CKM_RSA_PKCS, rsa[0], b"message")
    if taken:
        assert library.decrypt(ck.CKM_RSA_PKCS, rsa[1], block) == b"message"
    else:
        with pytest.raises(errors.MechanismInvalid):
            library.decrypt(ck.CKM_RSA_PKCS, rsa[1], block)


@pytest.mark.parametrize("name", OAEP_HASHES)
@pytest.mark.parametrize("mask", ["sha1", "sha512"])
@pytest.mark.parametrize("label", [b"", b"label"])
def test_oaep_both_ways(driver: Driver, rsa: Pair, name: str, mask: str, label: bytes) -> None:
    public, private = rsa
    parameter = RsaOaep(HASHES[name].type, HASHES[mask].mgf, ck.CKZ_DATA_SPECIFIED, label)
    scheme = padding.OAEP(padding.MGF1(HASH_FUNCTIONS[mask]), HASH_FUNCTIONS[name], label or None)
    data = os.urandom(256 - 2 - 2 * HASHES[name].length)
    mine = driver.encrypt(ck.CKM_RSA_PKCS_OAEP, public, data, parameter)
    assert private_key(private).decrypt(mine, scheme) == data
    theirs = public_key(public).encrypt(data, scheme)
    assert driver.decrypt(ck.CKM_RSA_PKCS_OAEP, private, theirs, parameter) == data
    with pytest.raises(errors.DataLenRange):
        driver.encrypt(ck.CKM_RSA_PKCS_OAEP, public, data + b"x", parameter)
    with pytest.raises(errors.EncryptedDataInvalid):
        driver.decrypt(ck.CKM_RSA_PKCS_OAEP, private, theirs, parameter._replace(source_data=b"other"))


@pytest.mark.parametrize("name", ["sha3_224", "sha3_256", "sha3_384", "sha3_512", "sha512_256"])
def test_oaep_with_hashes_that_only_kernels_have(driver: Driver, rsa: Pair, name: str) -> None:
    public, private = rsa
    mask = HASHES[name].mgf or ck.CKG_MGF1_SHA256
    parameter = RsaOaep(HASHES[name].type, mask, ck.CKZ_DATA_SPECIFIED, b"label")
    if not driver.native:
        with pytest.raises(errors.MechanismParamInvalid):
            driver.encrypt(ck.CKM_RSA_PKCS_OAEP, public, b"secret", parameter)
        return
    encrypted = driver.encrypt(ck.CKM_RSA_PKCS_OAEP, public, b"secret", parameter)
    assert driver.decrypt(ck.CKM_RSA_PKCS_OAEP, private, encrypted, parameter) == b"secret"
    with pytest.raises(errors.EncryptedDataInvalid):
        driver.decrypt(ck.CKM_RSA_PKCS_OAEP, private, encrypted, parameter._replace(source_data=b""))
    # By hand, with the block that raw RSA gives: the label's hash stands in the masked data.
    block = driver.decrypt(ck.CKM_RSA_X_509, private, encrypted)
    size = HASHES[name].length
    seed = xored(block[1 : 1 + size], mgf1(mask, block[1 + size :], size))
    data = xored(block[1 + size :], mgf1(mask, seed, len(block) - 1 - size))
    assert data[:size] == driver.once(Function.DIGEST, HASHES[name].type, None, b"label")
    assert data.endswith(b"\x01secret")


def xored(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def mgf1(mask: int, seed: bytes, length: int) -> bytes:
    """RFC 8017, appendix B.2.1."""
    name = next(hash.name for hash in HASHES.values() if hash.mgf == mask)
    out = b""
    for counter in range(-(-length // HASHES[name].length)):
        out += hashlib.new(name, seed + counter.to_bytes(4, "big")).digest()
    return out[:length]


def test_oaep_refuses_what_the_engine_lacks(driver: Driver, rsa: Pair) -> None:
    good = RsaOaep(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, ck.CKZ_DATA_SPECIFIED, b"")
    for wrong in (
        good._replace(source=2),
        good._replace(source=0, source_data=b"label"),
        good._replace(mgf=99),
        good._replace(hash=ck.CKM_SHA256_RSA_PKCS),
        None,
    ):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.encrypt(ck.CKM_RSA_PKCS_OAEP, rsa[0], b"x", wrong)


def test_oaep_needs_a_modulus_that_it_fits(driver: Driver) -> None:
    public, private = driver.rsa_pair(1024)
    parameter = RsaOaep(ck.CKM_SHA512, ck.CKG_MGF1_SHA512, ck.CKZ_DATA_SPECIFIED, b"")
    for function, key in ((Function.ENCRYPT, public), (Function.DECRYPT, private)):
        with pytest.raises(errors.KeySizeRange):
            driver.begin(function, ck.CKM_RSA_PKCS_OAEP, key, parameter)
    with pytest.raises(errors.KeySizeRange):
        driver.wrap(ck.CKM_RSA_PKCS_OAEP, public, driver.aes(bytes(16)), parameter)


def test_raw_rsa_with_the_public_key(driver: Driver, rsa: Pair) -> None:
    public, private = rsa
    numbers = public_key(public).public_numbers()
    data = b"\x01" + os.urandom(200)
    encrypted = driver.encrypt(ck.CKM_RSA_X_509, public, data)
    assert int.from_bytes(encrypted, "big") == pow(int.from_bytes(data, "big"), numbers.e, numbers.n)
    signature = driver.sign(ck.CKM_RSA_PKCS, private, b"message")
    block = driver.once(Function.VERIFY_RECOVER, ck.CKM_RSA_X_509, public, signature)
    assert block == b"\x00\x01" + b"\xff" * (256 - 3 - 7) + b"\x00message"
    driver.verify(ck.CKM_RSA_X_509, public, block, signature)
    driver.verify(ck.CKM_RSA_X_509, public, block.lstrip(b"\0"), signature)
    with pytest.raises(errors.SignatureInvalid):
        driver.verify(ck.CKM_RSA_X_509, public, block[:-1] + b"x", signature)
    with pytest.raises(errors.DataInvalid):
        driver.encrypt(ck.CKM_RSA_X_509, public, b"\xff" * 256)
    with pytest.raises(errors.DataLenRange):
        driver.encrypt(ck.CKM_RSA_X_509, public, bytes(257))


def test_raw_rsa_with_the_private_key(driver: Driver, rsa: Pair) -> None:
    """Offered and done, or neither: never in Python, where it would not be constant-time."""
    public, private = rsa
    offered = driver.engine.mechanisms()[ck.CKM_RSA_X_509][2]
    data = b"\x01" + os.urandom(200)
    for function in (Function.SIGN, Function.DECRYPT, Function.SIGN_RECOVER):
        assert bool(offered & function) == (driver.engine.kernels is not None)
        if not offered & function:
            with pytest.raises(errors.MechanismInvalid):
                driver.begin(function, ck.CKM_RSA_X_509, private)
            continue
        block = driver.once(function, ck.CKM_RSA_X_509, private, data.rjust(256, b"\0"))
        assert driver.encrypt(ck.CKM_RSA_X_509, public, block) == data.rjust(256, b"\0")


@pytest.mark.parametrize("bits", [1024, 1032, 3072])
def test_generation(driver: Driver, bits: int) -> None:
    public, private = driver.rsa_pair(bits)
    assert public.attributes[ck.CKA_MODULUS_BITS] == ulong(bits)
    assert public.attributes[ck.CKA_PUBLIC_EXPONENT] == b"\x01\x00\x01"
    assert public.attributes[ck.CKA_MODULUS] == private.attributes[ck.CKA_MODULUS]
    assert public.attributes[ck.CKA_PUBLIC_KEY_INFO] == private.attributes[ck.CKA_PUBLIC_KEY_INFO]
    driver.verify(ck.CKM_SHA256_RSA_PKCS, public, DATA, driver.sign(ck.CKM_SHA256_RSA_PKCS, private, DATA))


def test_generation_refusals(driver: Driver) -> None:
    for bits in (0, 512, 1023, 8193, 2**62):
        with pytest.raises(errors.KeySizeRange):
            driver.rsa_pair(bits)
    with pytest.raises(errors.TemplateIncomplete):
        driver.pair(ck.CKM_RSA_PKCS_KEY_PAIR_GEN, ck.CKK_RSA)
    with pytest.raises(errors.TemplateInconsistent):
        driver.pair(
            ck.CKM_RSA_PKCS_KEY_PAIR_GEN, ck.CKK_RSA, MODULUS_BITS=ulong(1024), PUBLIC_EXPONENT=b"\x04"
        )
    public, _ = driver.pair(
        ck.CKM_RSA_PKCS_KEY_PAIR_GEN, ck.CKK_RSA, MODULUS_BITS=ulong(1024), PUBLIC_EXPONENT=b"\x00\x03"
    )
    assert public.attributes[ck.CKA_PUBLIC_EXPONENT] == b"\x03"


def test_generation_with_another_exponent(driver: Driver) -> None:
    """The library makes keys with 65537 and 3 only, the kernels with any that is odd."""
    if not driver.native:
        with pytest.raises(errors.TemplateInconsistent):
            driver.pair(
                ck.CKM_RSA_PKCS_KEY_PAIR_GEN,
                ck.CKK_RSA,
                MODULUS_BITS=ulong(1024),
                PUBLIC_EXPONENT=b"\x01\x01",
            )
        return
    public, private = driver.pair(
        ck.CKM_RSA_PKCS_KEY_PAIR_GEN, ck.CKK_RSA, MODULUS_BITS=ulong(1024), PUBLIC_EXPONENT=b"\x01\x01"
    )
    assert private.attributes[ck.CKA_PUBLIC_EXPONENT] == b"\x01\x01"
    signature = driver.sign(ck.CKM_SHA256_RSA_PKCS, private, DATA)
    driver.verify(ck.CKM_SHA256_RSA_PKCS, public, DATA, signature)


PRIVATE_PARTS = [
    ck.CKA_PRIME_1,
    ck.CKA_PRIME_2,
    ck.CKA_EXPONENT_1,
    ck.CKA_EXPONENT_2,
    ck.CKA_COEFFICIENT,
    ck.CKA_PUBLIC_KEY_INFO,
]


@pytest.mark.parametrize(
    "missing",
    [PRIVATE_PARTS, [ck.CKA_PUBLIC_EXPONENT, ck.CKA_COEFFICIENT], [ck.CKA_PRIME_2], [ck.CKA_EXPONENT_1]],
)
def test_import_completes_a_private_key(driver: Driver, rsa: Pair, missing: list[int]) -> None:
    whole = dict(rsa[1].attributes)
    some = {type: value for type, value in whole.items() if type not in missing}
    key = driver.bring_in(some)
    driver.verify(ck.CKM_SHA256_RSA_PKCS, rsa[0], DATA, driver.sign(ck.CKM_SHA256_RSA_PKCS, key, DATA))
    # The primes may have changed places; everything else is as it was.
    for type in (ck.CKA_MODULUS, ck.CKA_PUBLIC_EXPONENT, ck.CKA_PRIVATE_EXPONENT, ck.CKA_PUBLIC_KEY_INFO):
        assert key.attributes[type] == whole[type]
    assert {bytes(key.attributes[t]) for t in PRIVATE_PARTS[:2]} == {
        bytes(whole[t]) for t in PRIVATE_PARTS[:2]
    }


def test_import_refuses_parts_of_two_keys(driver: Driver, rsa: Pair) -> None:
    other = driver.rsa_pair()[1]
    for type in (*PRIVATE_PARTS, ck.CKA_PRIVATE_EXPONENT, ck.CKA_PUBLIC_EXPONENT):
        mixed = dict(rsa[1].attributes)
        mixed[type] = b"\x03" if type == ck.CKA_PUBLIC_EXPONENT else other.attributes[type]
        with pytest.raises(errors.AttributeValueInvalid):
            driver.bring_in(mixed)


def test_import_strips_leading_zeros(driver: Driver, rsa: Pair) -> None:
    padded = {
        type: b"\0\0" + bytes(value) if type in (ck.CKA_MODULUS, ck.CKA_PUBLIC_EXPONENT) else value
        for type, value in rsa[0].attributes.items()
    }
    del padded[ck.CKA_PUBLIC_KEY_INFO], padded[ck.CKA_MODULUS_BITS]
    key = driver.bring_in(padded)
    for type in (ck.CKA_MODULUS, ck.CKA_PUBLIC_EXPONENT, ck.CKA_MODULUS_BITS, ck.CKA_PUBLIC_KEY_INFO):
        assert key.attributes[type] == rsa[0].attributes[type]


def test_import_refuses_bad_public_keys(driver: Driver, rsa: Pair) -> None:
    base = {ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY), ck.CKA_KEY_TYPE: ulong(ck.CKK_RSA)}
    modulus = rsa[0].attributes[ck.CKA_MODULUS]
    with pytest.raises(errors.KeySizeRange):
        driver.bring_in({**base, ck.CKA_MODULUS: b"\xff" * 64, ck.CKA_PUBLIC_EXPONENT: b"\x03"})
    with pytest.raises(errors.KeySizeRange):
        driver.bring_in({**base, ck.CKA_MODULUS: b"\xff" * 1025, ck.CKA_PUBLIC_EXPONENT: b"\x03"})
    for exponent in (b"", b"\x00", b"\x01", b"\x04", modulus):
        with pytest.raises(errors.AttributeValueInvalid):
            driver.bring_in({**base, ck.CKA_MODULUS: modulus, ck.CKA_PUBLIC_EXPONENT: exponent})
    with pytest.raises(errors.TemplateIncomplete):
        driver.bring_in({**base, ck.CKA_MODULUS: modulus})
    even = bytes(modulus)[:-1] + b"\x02"
    with pytest.raises(errors.AttributeValueInvalid):
        driver.bring_in({**base, ck.CKA_MODULUS: even, ck.CKA_PUBLIC_EXPONENT: b"\x03"})


def test_the_engine_parses_a_key_once(driver: Driver) -> None:
    _, private = driver.rsa_pair(1024)
    driver.sign(ck.CKM_SHA256_RSA_PKCS, private, DATA)
    parsed = dict(private.cache)
    assert parsed
    driver.sign(ck.CKM_SHA256_RSA_PKCS, private, DATA)
    assert all(private.cache[name] is value for name, value in parsed.items())
    private.wipe()
    assert not private.cache
    assert not any(private.attributes[ck.CKA_PRIVATE_EXPONENT])


def test_refusals_of_begin(driver: Driver, rsa: Pair) -> None:
    with pytest.raises(errors.MechanismInvalid):
        driver.begin(Function.SIGN, ck.CKM_VENDOR_DEFINED + 1, rsa[1])
    with pytest.raises(errors.MechanismInvalid):
        driver.begin(Function.SIGN, ck.CKM_RSA_PKCS_OAEP, rsa[1])
    with pytest.raises(errors.MechanismParamInvalid):
        step(driver.engine.begin(Function.SIGN, Mechanism(ck.CKM_RSA_PKCS, b"x"), rsa[1]))


def test_an_operation_is_used_once(driver: Driver, rsa: Pair) -> None:
    operation = driver.begin(Function.SIGN, ck.CKM_SHA256_RSA_PKCS, rsa[1])
    step(operation.once(memoryview(DATA)))
    with pytest.raises(errors.OperationNotInitialized):
        step(operation.once(memoryview(DATA)))
    operation.close()


def test_foreign_rsa_key_from_cryptography(driver: Driver) -> None:
    key = rsa.generate_private_key(65537, 1536)
    numbers = key.private_numbers()

    def big(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8, "big")

    mine = driver.bring_in(
        {
            ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY),
            ck.CKA_KEY_TYPE: ulong(ck.CKK_RSA),
            ck.CKA_MODULUS: big(numbers.public_numbers.n),
            ck.CKA_PUBLIC_EXPONENT: big(numbers.public_numbers.e),
            ck.CKA_PRIVATE_EXPONENT: bytearray(big(numbers.d)),
        }
    )
    signature = driver.sign(ck.CKM_SHA512_RSA_PKCS, mine, DATA)
    key.public_key().verify(signature, DATA, padding.PKCS1v15(), hashes.SHA512())
