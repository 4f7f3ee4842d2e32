"""Known answers for key derivation, through the engine."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from engine_support import Driver, secret_template, step, ulong
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Key
from ferrohsm.mechanisms import HASHES
from ferrohsm.parameters import (
    DkmLength,
    Hkdf,
    IntegerFormat,
    KeyReference,
    Mechanism,
    Pbkd2,
    PrfData,
    Sp800108,
)

ROOT = root()
KDF = ROOT / "KDF"
ITERATION = ck.CK_SP800_108_ITERATION_VARIABLE
BYTES = ck.CK_SP800_108_BYTE_ARRAY


def derived(driver: Driver, type: int, base: Key, length: int | None, parameter: Any = None) -> bytes:
    made = driver.derive(type, base, secret_template(length=length), parameter)
    value = made[ck.CKA_VALUE]
    assert isinstance(value, bytearray)
    assert made[ck.CKA_VALUE_LEN] == ulong(len(value))
    return bytes(value)


@pytest.mark.parametrize(("file", "hash"), [("SHA1", ck.CKM_SHA_1), ("SHA256", ck.CKM_SHA256)])
def test_hkdf(driver: Driver, file: str, hash: int) -> None:
    """RFC 5869, appendix A: both steps, and each by itself."""
    count = 0
    for record in records(KDF / f"rfc-5869-HKDF-{file}.txt", "COUNT"):
        base = driver.secret(bytes.fromhex(record["IKM"]), ck.CKK_HKDF)
        salt, info = bytes.fromhex(record["salt"]), bytes.fromhex(record["info"])
        first, last, length = bytes.fromhex(record["PRK"]), bytes.fromhex(record["OKM"]), int(record["L"])
        type = ck.CKM_HKDF_DERIVE
        assert derived(driver, type, base, length, Hkdf(True, True, hash, salt or None, info)) == last
        assert derived(driver, type, base, None, Hkdf(True, False, hash, salt or None, b"")) == first
        middle = driver.secret(first, ck.CKK_HKDF)
        assert derived(driver, type, middle, length, Hkdf(False, True, hash, None, info)) == last
        if salt:
            reference = KeyReference(driver.secret(salt))
            assert derived(driver, type, base, length, Hkdf(True, True, hash, reference, info)) == last
        count += 1
    assert count


def test_hkdf_refusals(driver: Driver) -> None:
    base = driver.secret(bytes(32), ck.CKK_HKDF)
    for parameter, length, error in (
        (Hkdf(False, False, ck.CKM_SHA256, None, b""), 32, errors.MechanismParamInvalid),
        (Hkdf(True, True, ck.CKM_AES_ECB, None, b""), 32, errors.MechanismParamInvalid),
        (Hkdf(True, True, ck.CKM_MD5, None, b""), 32, errors.MechanismParamInvalid),
        (Hkdf(True, True, ck.CKM_SHA256, None, b""), None, errors.TemplateIncomplete),
        (Hkdf(True, True, ck.CKM_SHA256, None, b""), 255 * 32 + 1, errors.AttributeValueInvalid),
        (Hkdf(True, False, ck.CKM_SHA256, None, b""), 31, errors.AttributeValueInvalid),
        (Hkdf(False, True, ck.CKM_SHA512, None, b""), 32, errors.MechanismParamInvalid),
    ):
        with pytest.raises(error):
            derived(driver, ck.CKM_HKDF_DERIVE, base, length, parameter)
    longest = Hkdf(True, True, ck.CKM_SHA256, None, b"")
    assert len(derived(driver, ck.CKM_HKDF_DERIVE, base, 255 * 32, longest)) == 255 * 32


def prf_of(name: str) -> tuple[int, int]:
    if name.startswith("CMAC_AES"):
        return ck.CKM_AES_CMAC, ck.CKK_AES
    if name == "CMAC_TDES3":
        return ck.CKM_DES3_CMAC, ck.CKK_DES3
    if name.startswith("CMAC"):
        return 0, 0
    hash = name.removeprefix("HMAC_")
    return getattr(ck, "CKM_SHA_1_HMAC" if hash == "SHA1" else f"CKM_{hash}_HMAC"), ck.CKK_GENERIC_SECRET


def counter_mode_records() -> Iterator[dict[str, str]]:
    """Yield the records without the indented lines, which show how each block came about."""
    header: dict[str, str] = {}
    record: dict[str, str] = {}
    for line in (KDF / "nist-800-108-KBKDF-CTR.txt").read_text().splitlines():
        name, mark, value = (part.strip() for part in line.strip("[]").partition("="))
        if not mark or line.startswith(("\t", "#")):
            continue
        if line.startswith("["):
            header[name] = value
            continue
        if name == "COUNT":
            record = dict(header)
        record[name] = value
        if name == "KO":
            yield record


def test_counter_mode(driver: Driver) -> None:
    """NIST CAVP, KBKDFVS, counter mode: the counter before, after and in the middle of the data."""
    seen = set()
    for record in counter_mode_records():
        prf, key_type = prf_of(record["PRF"])
        if not prf or int(record["COUNT"]) >= 5:
            continue
        place, bits = record["CTRLOCATION"], int(record["RLEN"].partition("_")[0])
        counter = PrfData(ITERATION, IntegerFormat(False, bits))
        if place == "MIDDLE_FIXED":
            before, after = record["DataBeforeCtrData"], record["DataAfterCtrData"]
        else:
            before, after = "", record["FixedInputData"]
            if place == "AFTER_FIXED":
                before, after = after, before
        data = (PrfData(BYTES, bytes.fromhex(before)), counter, PrfData(BYTES, bytes.fromhex(after)))
        base = driver.secret(bytes.fromhex(record["KI"]), key_type)
        expected = bytes.fromhex(record["KO"])
        parameter = Sp800108(prf, data)
        assert derived(driver, ck.CKM_SP800_108_COUNTER_KDF, base, len(expected), parameter) == expected
        seen.add((record["PRF"], place, bits))
    assert {place for _, place, _ in seen} == {"BEFORE_FIXED", "AFTER_FIXED", "MIDDLE_FIXED"}
    assert {bits for _, _, bits in seen} == {8, 16, 24, 32}
    assert {"CMAC_AES128", "CMAC_TDES3", "HMAC_SHA1", "HMAC_SHA512"} <= {name for name, _, _ in seen}


def kbkdf_data(method: int = ck.CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS) -> tuple[PrfData, ...]:
    """Return what OpenSSL feeds its KBKDF: label, zero, context, length."""
    return (
        PrfData(BYTES, b"label" + b"\0" + b"context"),
        PrfData(ck.CK_SP800_108_DKM_LENGTH, DkmLength(method, False, 32)),
    )


@pytest.mark.parametrize("length", [16, 32, 75])
def test_feedback_mode_as_openssl_does(driver: Driver, length: int) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command")
    seed = bytes(range(32))
    options = ["mac:HMAC", "digest:SHA256", "mode:feedback", "key:a key of some length", "salt:label"]
    options += ["info:context", f"hexseed:{seed.hex()}"]
    command = [openssl, "kdf", "-keylen", str(length), "-binary"]
    for option in options:
        command += ["-kdfopt", option]
    theirs = subprocess.run([*command, "KBKDF"], capture_output=True, check=False)
    if theirs.returncode:
        pytest.skip("this openssl command has no KBKDF")
    base = driver.secret(b"a key of some length")
    counter = PrfData(ck.CK_SP800_108_COUNTER, IntegerFormat(False, 32))
    parameter = Sp800108(ck.CKM_SHA256_HMAC, (PrfData(ITERATION, None), counter, *kbkdf_data()), seed)
    assert derived(driver, ck.CKM_SP800_108_FEEDBACK_KDF, base, length, parameter) == theirs.stdout


def test_double_pipeline_mode(driver: Driver) -> None:
    """SP 800-108, section 5.3, written down once more."""
    value, length = b"key", 80
    fixed = b"label\0context" + (length * 8).to_bytes(4, "big")

    def prf(data: bytes) -> bytes:
        return hmac.digest(value, data, "sha256")

    chained, expected = fixed, b""
    for number in range(1, 4):
        chained = prf(chained)
        expected += prf(chained + bytes((0, number)) + fixed)
    counter = PrfData(ck.CK_SP800_108_COUNTER, IntegerFormat(False, 16))
    parameter = Sp800108(ck.CKM_SHA256_HMAC, (PrfData(ITERATION, None), counter, *kbkdf_data()))
    type = ck.CKM_SP800_108_DOUBLE_PIPELINE_KDF
    assert derived(driver, type, driver.secret(value), length, parameter) == expected[:length]


def test_pieces_of_the_parameter(driver: Driver) -> None:
    """A key among the data, little-endian numbers, the length counted in segments."""
    base, other = driver.secret(b"key"), driver.secret(b"another")
    segments = ck.CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS
    data = (
        PrfData(ck.CK_SP800_108_KEY_HANDLE, KeyReference(other)),
        PrfData(ITERATION, IntegerFormat(True, 16)),
        PrfData(ck.CK_SP800_108_DKM_LENGTH, DkmLength(segments, True, 24)),
    )
    expected = b"".join(
        hmac.digest(b"key", b"another" + bytes((number, 0)) + (512).to_bytes(3, "little"), "sha256")
        for number in (1, 2)
    )
    type, parameter = ck.CKM_SP800_108_COUNTER_KDF, Sp800108(ck.CKM_SHA256_HMAC, data)
    assert derived(driver, type, base, 40, parameter) == expected[:40]


def test_sp800_108_refusals(driver: Driver) -> None:
    secret, aes = driver.secret(bytes(32)), driver.aes(bytes(16))
    counter, chained = PrfData(ITERATION, IntegerFormat(False, 8)), PrfData(ITERATION, None)
    extra = PrfData(ck.CK_SP800_108_COUNTER, IntegerFormat(False, 8))
    counting, feedback = ck.CKM_SP800_108_COUNTER_KDF, ck.CKM_SP800_108_FEEDBACK_KDF
    hmac_prf, invalid = ck.CKM_SHA256_HMAC, errors.MechanismParamInvalid
    tall = PrfData(ck.CK_SP800_108_DKM_LENGTH, DkmLength(ck.CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS, False, 8))
    for type, prf, base, data, length, error in (
        (counting, hmac_prf, secret, (), 16, invalid),
        (counting, hmac_prf, secret, (counter, counter), 16, invalid),
        (counting, hmac_prf, secret, (counter, extra), 16, invalid),
        (counting, hmac_prf, secret, (chained,), 16, invalid),
        (feedback, hmac_prf, secret, (counter,), 16, invalid),
        (counting, hmac_prf, secret, (PrfData(ITERATION, IntegerFormat(False, 7)),), 16, invalid),
        (counting, hmac_prf, secret, (counter, tall), 32, invalid),
        (counting, ck.CKM_SHA256, secret, (counter,), 16, invalid),
        (counting, ck.CKM_MD5_HMAC, secret, (counter,), 16, invalid),
        (counting, ck.CKM_AES_CMAC_GENERAL, aes, (counter,), 16, invalid),
        (counting, hmac_prf, aes, (counter,), 16, errors.KeyTypeInconsistent),
        (counting, ck.CKM_AES_CMAC, secret, (counter,), 16, errors.KeyTypeInconsistent),
        (counting, hmac_prf, secret, (counter,), 256 * 32, errors.KeySizeRange),
        (counting, hmac_prf, secret, (counter,), None, errors.TemplateIncomplete),
    ):
        with pytest.raises(error):
            derived(driver, type, base, length, Sp800108(prf, data))


def test_pbkdf2(driver: Driver) -> None:
    """RFC 6070, but for the case of 16777216 iterations."""
    for record in records(KDF / "rfc-6070-PBKDF2-SHA1.txt", "COUNT"):
        if int(record["ITERATIONS"]) > 10000:
            continue
        password, salt = (
            record[name].encode().decode("unicode_escape").encode() for name in ("PASSWORD", "SALT")
        )
        kept = bytearray(password)
        prf = ck.CKP_PKCS5_PBKD2_HMAC_SHA1
        parameter = Pbkd2(salt, int(record["ITERATIONS"]), prf, kept)
        template = secret_template(length=int(record["LENGTH"]))
        made = step(driver.engine.generate_key(Mechanism(ck.CKM_PKCS5_PBKD2, parameter), template))
        assert made[ck.CKA_VALUE] == bytes.fromhex(record["DERIVED_KEY"])
        assert not any(kept)  # the password is wiped
    assert "pass" not in repr(Pbkd2(b"salt", 1, 1, bytearray(b"password")))


@pytest.mark.parametrize("name", ["sha224", "sha256", "sha384", "sha512", "sha512_224", "sha512_256"])
def test_pbkdf2_of_other_hashes(driver: Driver, name: str) -> None:
    prf = getattr(ck, f"CKP_PKCS5_PBKD2_HMAC_{name.upper()}")
    parameter = Pbkd2(b"salt", 3, prf, bytearray(b"password"))
    made = step(
        driver.engine.generate_key(Mechanism(ck.CKM_PKCS5_PBKD2, parameter), secret_template(ck.CKK_AES, 32))
    )
    assert made[ck.CKA_VALUE] == hashlib.pbkdf2_hmac(name, b"password", b"salt", 3, 32)


def test_the_simple_derivations(driver: Driver) -> None:
    """The examples of PKCS#11 3.2, "Miscellaneous simple key derivation mechanisms"."""
    base, data = driver.secret(bytes.fromhex("01234567")), bytes.fromhex("89abcdef")
    other = KeyReference(driver.secret(data))
    assert derived(driver, ck.CKM_CONCATENATE_BASE_AND_KEY, base, None, other).hex() == "0123456789abcdef"
    assert derived(driver, ck.CKM_CONCATENATE_BASE_AND_DATA, base, None, data).hex() == "0123456789abcdef"
    assert derived(driver, ck.CKM_CONCATENATE_DATA_AND_BASE, base, None, data).hex() == "89abcdef01234567"
    assert derived(driver, ck.CKM_XOR_BASE_AND_DATA, base, None, data).hex() == "88888888"
    assert derived(driver, ck.CKM_XOR_BASE_AND_DATA, base, 2, data[:3]).hex() == "8888"
    extracted = driver.secret(bytes.fromhex("329f84a9"))
    assert derived(driver, ck.CKM_EXTRACT_KEY_FROM_KEY, extracted, 2, 21).hex() == "9526"
    assert derived(driver, ck.CKM_EXTRACT_KEY_FROM_KEY, extracted, 4, 0).hex() == "329f84a9"
    assert derived(driver, ck.CKM_EXTRACT_KEY_FROM_KEY, extracted, 4, 8).hex() == "9f84a932"
    for length, bit, error in (
        (5, 0, errors.KeySizeRange),
        (1, 32, errors.MechanismParamInvalid),
        (None, 0, errors.TemplateIncomplete),
    ):
        with pytest.raises(error):
            derived(driver, ck.CKM_EXTRACT_KEY_FROM_KEY, extracted, length, bit)
    with pytest.raises(errors.KeySizeRange):
        derived(driver, ck.CKM_CONCATENATE_BASE_AND_DATA, base, 9, data)


@pytest.mark.parametrize("start", range(32))
def test_extraction_of_every_bit(driver: Driver, start: int) -> None:
    value = bytes.fromhex("329f84a9")
    bits = f"{int.from_bytes(value, 'big'):032b}" * 2
    expected = int(bits[start : start + 24], 2).to_bytes(3, "big")
    assert derived(driver, ck.CKM_EXTRACT_KEY_FROM_KEY, driver.secret(value), 3, start) == expected


@pytest.mark.parametrize("name", HASHES)
def test_the_digest_of_a_key(driver: Driver, name: str) -> None:
    suffix = "_KEY_DERIVE" if name.startswith("blake2b") else "_KEY_DERIVATION"
    type = getattr(ck, f"CKM_{name.upper()}{suffix}")
    base = driver.secret(b"the value of a key")
    if name.startswith("blake2b"):
        whole = hashlib.blake2b(b"the value of a key", digest_size=HASHES[name].length).digest()
    else:
        whole = hashlib.new(name, b"the value of a key").digest()
    assert derived(driver, type, base, None) == whole
    assert derived(driver, type, base, 10) == whole[:10]
    with pytest.raises(errors.KeySizeRange):
        derived(driver, type, base, len(whole) + 1)


@pytest.mark.parametrize("bits", [128, 256])
def test_the_extendable_digest_of_a_key(driver: Driver, bits: int) -> None:
    """NIST CAVP, SHA3VS: SHAKE of short messages."""
    type = getattr(ck, f"CKM_SHAKE_{bits}_KEY_DERIVATION")
    count = 0
    for record in records(ROOT / "hashes" / "SHAKE" / f"SHAKE{bits}ShortMsg.rsp", "Len"):
        if int(record["Len"]):
            base, out = driver.secret(bytes.fromhex(record["Msg"])), bytes.fromhex(record["Output"])
            assert derived(driver, type, base, len(out)) == out
            count += 1
    assert count
    assert len(derived(driver, type, driver.secret(b"x"), None)) == bits // 4


def test_parity_and_fixed_lengths(driver: Driver) -> None:
    base = driver.secret(bytes(64))
    made = driver.derive(ck.CKM_SHA256_KEY_DERIVATION, base, secret_template(ck.CKK_DES3), None)
    value = made[ck.CKA_VALUE]
    assert len(value) == 24 and ck.CKA_VALUE_LEN not in made
    assert all(int(byte).bit_count() % 2 for byte in value)
    made = driver.derive(ck.CKM_SHA256_KEY_DERIVATION, base, secret_template(ck.CKK_CHACHA20), None)
    assert len(made[ck.CKA_VALUE]) == 32
