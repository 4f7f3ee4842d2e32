"""Known answers for the other ciphers and modes, MACs and hash functions, through the engine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from engine_support import Driver
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Function
from ferrohsm.mechanisms import HASHES
from ferrohsm.parameters import ChaCha20, ChaCha20Poly1305, Gcm

ROOT = root()
CIPHERS = ROOT / "ciphers"


def files(folder: Path, pattern: str) -> list[Any]:
    found = sorted(folder.glob(pattern))
    assert found, f"no {pattern} in {folder}"
    return [pytest.param(path, id=path.name) for path in found]


@pytest.mark.parametrize(
    "path",
    files(CIPHERS / "AES" / "OFB", "OFB*.rsp")
    + files(CIPHERS / "AES" / "CFB", "CFB8*.rsp")
    + files(CIPHERS / "AES" / "CFB", "CFB128*.rsp"),
)
def test_feedback_modes(driver: Driver, path: Path) -> None:
    """NIST CAVP, AESVS."""
    mechanism = ck.CKM_AES_OFB
    if path.name.startswith("CFB"):
        mechanism = ck.CKM_AES_CFB8 if path.name.startswith("CFB8") else ck.CKM_AES_CFB128
    count = 0
    for record in records(path, "COUNT"):
        key, iv = driver.aes(bytes.fromhex(record["KEY"])), bytes.fromhex(record["IV"])
        plain, cipher = bytes.fromhex(record["PLAINTEXT"]), bytes.fromhex(record["CIPHERTEXT"])
        assert driver.encrypt(mechanism, key, plain, iv) == cipher
        assert driver.decrypt(mechanism, key, cipher, iv) == plain
        assert driver.parts(Function.DECRYPT, mechanism, key, [cipher[:7], cipher[7:]], iv) == plain
        count += 1
    assert count


@pytest.mark.parametrize("path", files(CIPHERS / "AES" / "XTS" / "tweak-128hexstr", "*.rsp"))
def test_xts(driver: Driver, path: Path) -> None:
    """NIST CAVP, XTSVS; data units of whole bytes."""
    count = 0
    for record in records(path, "COUNT"):
        if int(record["DataUnitLen"]) % 8:
            continue
        key = driver.secret(bytes.fromhex(record["Key"]), ck.CKK_AES_XTS)
        tweak, plain, cipher = (bytes.fromhex(record[name]) for name in ("i", "PT", "CT"))
        assert driver.encrypt(ck.CKM_AES_XTS, key, plain, tweak) == cipher
        assert driver.parts(Function.DECRYPT, ck.CKM_AES_XTS, key, [cipher[:5], cipher[5:]], tweak) == plain
        count += 1
    assert count


# RFC 3962, appendix B. Kerberos changes the last two blocks (CBC-CS3); here they stand in their order.
RFC3962_KEY = bytes.fromhex("636869636b656e207465726979616b69")
RFC3962_INPUT = b"I would like the General Gau's Chicken, please, and wonton soup."
RFC3962 = {
    17: "c6353568f2bf8cb4d8a580362da7ff7f97",
    31: "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5",
    32: "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584",
}


@pytest.mark.parametrize("length", RFC3962)
def test_ciphertext_stealing(driver: Driver, length: int) -> None:
    key, plain, swapped = driver.aes(RFC3962_KEY), RFC3962_INPUT[:length], bytes.fromhex(RFC3962[length])
    cut = (length - 1) // 16 * 16 - 16
    cipher = swapped[:cut] + swapped[cut + 16 :] + swapped[cut : cut + 16]
    assert driver.encrypt(ck.CKM_AES_CTS, key, plain, bytes(16)) == cipher
    assert driver.decrypt(ck.CKM_AES_CTS, key, cipher, bytes(16)) == plain


def test_stealing_needs_a_block(driver: Driver) -> None:
    key = driver.aes(bytes(16))
    for length in (0, 1, 15):
        with pytest.raises(errors.DataLenRange):
            driver.encrypt(ck.CKM_AES_CTS, key, bytes(length), bytes(16))
        with pytest.raises(errors.EncryptedDataLenRange):
            driver.decrypt(ck.CKM_AES_CTS, key, bytes(length), bytes(16))
    for length in range(16, 70):
        plain = bytes(range(length))
        cipher = driver.encrypt(ck.CKM_AES_CTS, key, plain, bytes(16))
        assert (
            driver.parts(Function.DECRYPT, ck.CKM_AES_CTS, key, [cipher[:9], cipher[9:]], bytes(16)) == plain
        )


def test_xts_refuses_equal_halves(driver: Driver) -> None:
    key = driver.secret(bytes(range(16)) * 2, ck.CKK_AES_XTS)
    with pytest.raises(errors.KeySizeRange):
        driver.encrypt(ck.CKM_AES_XTS, key, bytes(16), bytes(16))


def test_camellia_cbc(driver: Driver) -> None:
    """The OpenSSL project's vectors."""
    for record in records(CIPHERS / "Camellia" / "camellia-cbc.txt", "COUNT"):
        key = driver.secret(bytes.fromhex(record["KEY"]), ck.CKK_CAMELLIA)
        iv = bytes.fromhex(record["IV"])
        plain, cipher = bytes.fromhex(record["PLAINTEXT"]), bytes.fromhex(record["CIPHERTEXT"])
        assert driver.encrypt(ck.CKM_CAMELLIA_CBC, key, plain, iv) == cipher
        assert driver.decrypt(ck.CKM_CAMELLIA_CBC, key, cipher, iv) == plain


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_camellia_ecb(driver: Driver, bits: int) -> None:
    """NTT's vectors (t_camellia.txt); every tenth key."""
    key, plain, count = None, b"", 0
    for line in (CIPHERS / "Camellia" / f"camellia-{bits}-ecb.txt").read_text().splitlines():
        kind, _, digits = line.partition(" No.")
        value = bytes.fromhex(digits.partition(":")[2]) if digits else b""
        if kind == "K":
            key = driver.secret(value, ck.CKK_CAMELLIA)
        elif kind == "P":
            plain = value
        elif kind == "C" and key is not None:
            count += 1
            if count % 10 == 1:
                assert driver.encrypt(ck.CKM_CAMELLIA_ECB, key, plain) == value
                assert driver.decrypt(ck.CKM_CAMELLIA_ECB, key, value) == plain
    assert count


def des_key(driver: Driver, record: dict[str, str]) -> Any:
    value = b"".join(bytes.fromhex(record[name]) for name in ("KEY1", "KEY2", "KEY3"))
    if value[:8] == value[8:16] == value[16:]:
        return driver.secret(value[:8], ck.CKK_DES), "DES"
    if value[:8] == value[16:]:
        return driver.secret(value[:16], ck.CKK_DES2), "DES3"
    return driver.secret(value, ck.CKK_DES3), "DES3"


@pytest.mark.parametrize("path", files(CIPHERS / "3DES" / "CBC", "TCBCMMT*.rsp"))
def test_triple_des_cbc(driver: Driver, path: Path) -> None:
    """NIST CAVP, TMOVS: with one key thrice it is DES, with the first one again two-key Triple DES."""
    for record in records(path, "COUNT"):
        key, name = des_key(driver, record)
        mechanism, iv = getattr(ck, f"CKM_{name}_CBC"), bytes.fromhex(record["IV"])
        plain, cipher = bytes.fromhex(record["PLAINTEXT"]), bytes.fromhex(record["CIPHERTEXT"])
        assert driver.encrypt(mechanism, key, plain, iv) == cipher
        assert driver.decrypt(mechanism, key, cipher, iv) == plain
        padded = driver.encrypt(getattr(ck, f"CKM_{name}_CBC_PAD"), key, plain, iv)
        assert padded[: len(cipher)] == cipher and len(padded) == len(cipher) + 8
        assert driver.decrypt(getattr(ck, f"CKM_{name}_CBC_PAD"), key, padded, iv) == plain


def test_cbc_mac(driver: Driver) -> None:
    """FIPS 113, appendix: four bytes of it; the spaces at the end become a whole block with zeros."""
    key = driver.secret(bytes.fromhex("0123456789abcdef"), ck.CKK_DES)
    data = b"7654321 Now is the time for "
    assert driver.sign(ck.CKM_DES_MAC, key, data).hex() == "f1d30f68"
    assert driver.sign(ck.CKM_DES_MAC_GENERAL, key, data, 8).hex() == "f1d30f6849312ca4"
    parts = [data[:8], data[8:16], b"", data[16:]]
    assert driver.parts(Function.SIGN, ck.CKM_DES_MAC, key, parts).hex() == "f1d30f68"


@pytest.mark.parametrize("length", [1, 15, 16, 17, 32, 100])
def test_aes_cbc_mac_is_the_last_block_of_cbc(driver: Driver, length: int) -> None:
    key, data = driver.aes(bytes(range(16))), bytes(range(length))
    cipher = driver.encrypt(ck.CKM_AES_CBC, key, data + bytes(-length % 16), bytes(16))
    assert driver.sign(ck.CKM_AES_MAC, key, data) == cipher[-16:-8]
    assert driver.parts(Function.SIGN, ck.CKM_AES_MAC_GENERAL, key, [data[:3], data[3:]], 16) == cipher[-16:]


# RFC 3566, section 4.6: the messages are 00 01 02 … of these lengths.
XCBC = {
    0: "75f0251d528ac01c4573dfd584d79f29",
    3: "5b376580ae2f19afe7219ceef172756f",
    16: "d2a246fa349b68a79998a4394ff7a263",
    20: "47f51b4564966215b8985c63055ed308",
    32: "f54f0ec8d2b9f3d36807734bd5283fd4",
}


@pytest.mark.parametrize("length", XCBC)
def test_xcbc_mac(driver: Driver, length: int) -> None:
    key, data = driver.aes(bytes(range(16))), bytes(range(length))
    tag = bytes.fromhex(XCBC[length])
    assert driver.sign(ck.CKM_AES_XCBC_MAC, key, data) == tag
    assert driver.parts(Function.SIGN, ck.CKM_AES_XCBC_MAC_96, key, [data[:1], data[1:]]) == tag[:12]
    driver.verify(ck.CKM_AES_XCBC_MAC, key, data, tag)


@pytest.mark.parametrize("path", files(CIPHERS / "AES" / "GCM", "gcmEncryptExtIV*.rsp"))
def test_gmac(driver: Driver, path: Path) -> None:
    """NIST CAVP, GCMVS: the records without plaintext."""
    count = 0
    for record in records(path, "Count"):
        iv, tag = bytes.fromhex(record["IV"]), bytes.fromhex(record["Tag"])
        if record["PT"] or not 8 <= len(iv) <= 128 or count == 100:
            continue
        key, data = driver.aes(bytes.fromhex(record["Key"])), bytes.fromhex(record["AAD"])
        parameter = Gcm(iv, 8 * len(iv), b"", 8 * len(tag))
        assert driver.sign(ck.CKM_AES_GMAC, key, data, parameter) == tag
        driver.verify_parts(ck.CKM_AES_GMAC, key, [data[:3], data[3:]], tag, parameter)
        # What the parameter has comes first.
        split = Gcm(iv, 8 * len(iv), data[:5], 8 * len(tag))
        assert driver.sign(ck.CKM_AES_GMAC, key, data[5:], split) == tag
        count += 1
    assert count


def test_chacha20(driver: Driver) -> None:
    """RFC 7539, appendix A.2."""
    for record in records(CIPHERS / "ChaCha20" / "rfc7539.txt", "COUNT"):
        key = driver.secret(bytes.fromhex(record["KEY"]), ck.CKK_CHACHA20)
        counter = int(record["INITIAL_BLOCK_COUNTER"]).to_bytes(4, "little")
        parameter = ChaCha20(counter, bytes.fromhex(record["NONCE"]))
        plain, cipher = bytes.fromhex(record["PLAINTEXT"]), bytes.fromhex(record["CIPHERTEXT"])
        assert driver.encrypt(ck.CKM_CHACHA20, key, plain, parameter) == cipher
        assert driver.decrypt(ck.CKM_CHACHA20, key, cipher, parameter) == plain


def test_chacha20_limits(driver: Driver) -> None:
    key = driver.secret(bytes(32), ck.CKK_CHACHA20)
    last = ChaCha20(b"\xff" * 4, bytes(12))
    assert len(driver.encrypt(ck.CKM_CHACHA20, key, bytes(64), last)) == 64
    with pytest.raises(errors.DataLenRange):
        driver.encrypt(ck.CKM_CHACHA20, key, bytes(65), last)
    # The original form is the one of the RFC where the upper half of its counter is zero.
    wide = driver.encrypt(ck.CKM_CHACHA20, key, bytes(100), ChaCha20(bytes(8), b"nonce of"))
    assert wide == driver.encrypt(
        ck.CKM_CHACHA20, key, bytes(100), ChaCha20(bytes(4), bytes(4) + b"nonce of")
    )
    for counter, nonce in ((4, 8), (8, 12), (8, 24), (0, 12)):
        with pytest.raises(errors.MechanismParamInvalid):
            driver.encrypt(ck.CKM_CHACHA20, key, b"x", ChaCha20(bytes(counter), bytes(nonce)))


def quoted(text: str) -> bytes:
    return text[1:-1].encode() if text.startswith('"') else bytes.fromhex(text)


def test_chacha20_poly1305(driver: Driver) -> None:
    """RFC 7539, section 2.8, and the BoringSSL project's vectors."""
    mechanism, count = ck.CKM_CHACHA20_POLY1305, 0
    for record in records(CIPHERS / "ChaCha20Poly1305" / "boringssl.txt", "COUNT"):
        key = driver.secret(bytes.fromhex(record["KEY"]), ck.CKK_CHACHA20)
        parameter = ChaCha20Poly1305(bytes.fromhex(record["NONCE"]), quoted(record["AD"]))
        plain, cipher = quoted(record["IN"]), quoted(record["CT"]) + bytes.fromhex(record["TAG"])
        assert driver.encrypt(mechanism, key, plain, parameter) == cipher
        assert driver.parts(Function.DECRYPT, mechanism, key, [cipher[:3], cipher[3:]], parameter) == plain
        for place in (0, len(cipher) - 1):
            wrong = bytearray(cipher)
            wrong[place] ^= 1
            with pytest.raises(errors.EncryptedDataInvalid):
                driver.decrypt(mechanism, key, bytes(wrong), parameter)
        count += 1
    assert count


def test_poly1305(driver: Driver) -> None:
    """RFC 7539, appendix A.3."""
    for record in records(ROOT / "poly1305" / "rfc7539.txt", "COUNT"):
        key = driver.secret(bytes.fromhex(record["KEY"]), ck.CKK_POLY1305)
        data, tag = bytes.fromhex(record["MSG"]), bytes.fromhex(record["TAG"])
        assert driver.sign(ck.CKM_POLY1305, key, data) == tag
        driver.verify_parts(ck.CKM_POLY1305, key, [data[:11], data[11:]], tag)


def test_triple_des_cmac(driver: Driver) -> None:
    """NIST SP 800-38B, appendix D."""
    for record in records(ROOT / "CMAC" / "nist-800-38b-3des.txt", "COUNT"):
        key, _ = des_key(driver, record)
        data, tag = bytes.fromhex(record["MESSAGE"]), bytes.fromhex(record["OUTPUT"])
        assert driver.sign(ck.CKM_DES3_CMAC, key, data) == tag
        assert driver.sign(ck.CKM_DES3_CMAC_GENERAL, key, data, 4) == tag[:4]


def test_blake2b(driver: Driver) -> None:
    """The vectors of `cryptography_vectors` (from the BLAKE2 project's implementation)."""
    for record in records(ROOT / "hashes" / "blake2" / "blake2b.txt", "Len"):
        data = bytes.fromhex(record["Msg"]) if int(record["Len"]) else b""
        assert driver.once(Function.DIGEST, ck.CKM_BLAKE2B_512, None, data) == bytes.fromhex(record["MD"])


@pytest.mark.parametrize("bits", [160, 256, 384, 512])
@pytest.mark.parametrize("size", [1, 64, 128, 129, 500])
def test_hmac_of_blake2b_is_rfc2104(driver: Driver, bits: int, size: int) -> None:
    value, data = bytes(range(251))[:size] + bytes(max(0, size - 251)), b"some data"

    def digest(*parts: bytes) -> bytes:
        return hashlib.blake2b(b"".join(parts), digest_size=bits // 8).digest()

    block = (digest(value) if size > 128 else value).ljust(128, b"\0")
    inner = digest(bytes(byte ^ 0x36 for byte in block), data)
    expected = digest(bytes(byte ^ 0x5C for byte in block), inner)
    key = driver.secret(value, getattr(ck, f"CKK_BLAKE2B_{bits}_HMAC"))
    mechanism = getattr(ck, f"CKM_BLAKE2B_{bits}_HMAC")
    assert driver.parts(Function.SIGN, mechanism, key, [data[:2], data[2:]]) == expected
    assert HASHES[f"blake2b_{bits}"].length == len(expected)


def test_md5(driver: Driver) -> None:
    """RFC 1321 and RFC 2202."""
    for record in records(ROOT / "hashes" / "MD5" / "rfc-1321.txt", "Len"):
        data = bytes.fromhex(record["Msg"]) if int(record["Len"]) else b""
        assert driver.once(Function.DIGEST, ck.CKM_MD5, None, data) == bytes.fromhex(record["MD"])
    for record in records(ROOT / "HMAC" / "rfc-2202-md5.txt", "Len"):
        key = driver.secret(bytes.fromhex(record["Key"]))
        data, tag = bytes.fromhex(record["Msg"]), bytes.fromhex(record["MD"])
        assert driver.sign(ck.CKM_MD5_HMAC, key, data)[: len(tag)] == tag
