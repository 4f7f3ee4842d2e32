"""Published answers of an algorithm, through the other mechanisms that are defined by it.

A key that is a digest, the ciphertext or the expansion of another; data objects; DES as Triple DES with one
key thrice; the public key of a private one.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from engine_support import Driver, secret_template, ulong
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.parameters import CbcEncryptData, Ecdh1, Hkdf

ROOT = root()
CIPHERS = ROOT / "ciphers"


def derived(
    driver: Driver, mechanism: int, base: Key, parameter: Any = None, length: int | None = None
) -> bytes:
    made = driver.derive(mechanism, base, secret_template(length=length), parameter)
    return bytes(made[ck.CKA_VALUE])


DIGESTS = {
    "SHA1/SHA1ShortMsg.rsp": "SHA1",
    **{f"SHA2/SHA{n}ShortMsg.rsp": f"SHA{n}" for n in ("224", "256", "384", "512", "512_224", "512_256")},
    **{f"SHA3/SHA3_{n}ShortMsg.rsp": f"SHA3_{n}" for n in ("224", "256", "384", "512")},
    "MD5/rfc-1321.txt": "MD5",
}


@pytest.mark.parametrize("path", DIGESTS)
def test_keys_that_are_digests(driver: Driver, path: str) -> None:
    """NIST CAVP, SHAVS and SHA3VS, and RFC 1321: the message is the value of the base key."""
    mechanism = getattr(ck, f"CKM_{DIGESTS[path]}_KEY_DERIVATION")
    bits = {"SHA512_224": 224, "SHA512_256": 256}.get(DIGESTS[path])
    count = 0
    for record in islice(records(ROOT / "hashes" / path, "Len"), 12):
        if int(record["Len"]) == 0:
            continue
        message, digest = bytes.fromhex(record["Msg"]), bytes.fromhex(record["MD"])
        base = driver.secret(message)
        assert derived(driver, mechanism, base) == digest
        if bits is not None:
            assert derived(driver, ck.CKM_SHA512_T_KEY_DERIVATION, base, bits) == digest
            assert driver.once(Function.DIGEST, ck.CKM_SHA512_T, None, message, bits) == digest
        count += 1
    assert count > 5


def test_keys_that_are_digests_of_blake2b(driver: Driver) -> None:
    """The vectors of `cryptography_vectors` (from the BLAKE2 project's implementation)."""
    path = ROOT / "hashes" / "blake2" / "blake2b.txt"
    found = [record for record in records(path, "Len") if int(record["Len"])]
    assert found
    for record in found:
        base = driver.secret(bytes.fromhex(record["Msg"]))
        assert derived(driver, ck.CKM_BLAKE2B_512_KEY_DERIVE, base).hex() == record["MD"]


def sequence(length: int, seed: int) -> bytes:
    """RFC 7693, appendix E: what the self-test hashes."""
    mask, made = 0xFFFFFFFF, bytearray()
    a, b = 0xDEAD4BAD * seed & mask, 1
    for _ in range(length):
        a, b = b, a + b & mask
        made.append(b >> 24)
    return bytes(made)


def test_blake2b_of_every_length(driver: Driver) -> None:
    """RFC 7693, appendix E: the digest of many digests, of which those with a key are Python's own."""
    digests, keys = b"", b""
    for size in (20, 32, 48, 64):
        name = f"CKM_BLAKE2B_{8 * size}"
        for length in (0, 3, 128, 129, 255, 1024):
            data, key = sequence(length, length), sequence(size, size)
            digest = driver.once(Function.DIGEST, getattr(ck, name), None, data)
            keyed = hashlib.blake2b(data, key=key, digest_size=size).digest()
            digests += digest + keyed
            if length:
                digest = derived(driver, getattr(ck, f"{name}_KEY_DERIVE"), driver.secret(data))
            keys += digest + keyed
    expected = "c23a7800d98123bd10f506c61e29da5603d763b8bbad2e737f5e765a7bccd475"
    for data in (digests, keys):
        assert driver.once(Function.DIGEST, ck.CKM_BLAKE2B_256, None, data).hex() == expected


def multi_block(folder: str, pattern: str) -> list[Any]:
    found = sorted((CIPHERS / folder).glob(pattern))
    assert found
    return [pytest.param(path, id=path.name) for path in found]


@pytest.mark.parametrize(
    "path", [*multi_block("AES/ECB", "ECBMMT*.rsp"), *multi_block("AES/CBC", "CBCMMT*.rsp")]
)
def test_keys_that_are_ciphertext_of_aes(driver: Driver, path: Path) -> None:
    """NIST CAVP, AESVS: messages of several blocks."""
    for record in records(path, "COUNT"):
        key, plain = driver.aes(bytes.fromhex(record["KEY"])), bytes.fromhex(record["PLAINTEXT"])
        mechanism, parameter = ck.CKM_AES_ECB_ENCRYPT_DATA, plain
        if "IV" in record:
            mechanism, parameter = (
                ck.CKM_AES_CBC_ENCRYPT_DATA,
                CbcEncryptData(bytes.fromhex(record["IV"]), plain),
            )
        assert derived(driver, mechanism, key, parameter).hex() == record["CIPHERTEXT"]


def des_key(driver: Driver, record: dict[str, str]) -> tuple[str, Key]:
    """Return the key of a record: "KEYs" is one key thrice."""
    if "KEYs" in record:
        return "DES", driver.secret(bytes.fromhex(record["KEYs"]), ck.CKK_DES)
    first, second, third = (bytes.fromhex(record[f"KEY{number}"]) for number in (1, 2, 3))
    if first == second == third:
        return "DES", driver.secret(first, ck.CKK_DES)
    if first == third:
        return "DES3", driver.secret(first + second, ck.CKK_DES2)
    return "DES3", driver.secret(first + second + third, ck.CKK_DES3)


@pytest.mark.parametrize(
    "path", [*multi_block("3DES/ECB", "TECBMMT*.rsp"), *multi_block("3DES/CBC", "TCBCMMT*.rsp")]
)
def test_des_and_keys_that_are_its_ciphertext(driver: Driver, path: Path) -> None:
    """NIST CAVP, TMOVS: messages of several blocks, with three keys, two and one."""
    for record in records(path, "COUNT"):
        name, key = des_key(driver, record)
        plain, cipher = bytes.fromhex(record["PLAINTEXT"]), bytes.fromhex(record["CIPHERTEXT"])
        parameter: Any = plain
        if "IV" in record:
            parameter = CbcEncryptData(bytes.fromhex(record["IV"]), plain)
        else:
            assert driver.encrypt(getattr(ck, f"CKM_{name}_ECB"), key, plain) == cipher
            assert driver.decrypt(getattr(ck, f"CKM_{name}_ECB"), key, cipher) == plain
        mode = "CBC" if "IV" in record else "ECB"
        assert derived(driver, getattr(ck, f"CKM_{name}_{mode}_ENCRYPT_DATA"), key, parameter) == cipher


@pytest.mark.parametrize(
    ("file", "mechanism"),
    [
        ("ECB/TECBvarkey.rsp", ck.CKM_DES_ECB),
        ("ECB/TECBvartext.rsp", ck.CKM_DES_ECB),
        ("OFB/TOFBvarkey.rsp", ck.CKM_DES_OFB64),
        ("OFB/TOFBsubtab.rsp", ck.CKM_DES_OFB64),
        ("CFB/TCFB64vartext.rsp", ck.CKM_DES_CFB64),
        ("CFB/TCFB64subtab.rsp", ck.CKM_DES_CFB64),
        ("CFB/TCFB8varkey.rsp", ck.CKM_DES_CFB8),
        ("CFB/TCFB8subtab.rsp", ck.CKM_DES_CFB8),
    ],
)
def test_des_is_triple_des_with_one_key(driver: Driver, file: str, mechanism: int) -> None:
    """NIST CAVP, TMOVS; every fifth record."""
    count = 0
    for record in islice(records(CIPHERS / "3DES" / file, "COUNT"), 0, None, 5):
        name, key = des_key(driver, record)
        iv = bytes.fromhex(record["IV"]) if "IV" in record else None
        plain, cipher = bytes.fromhex(record["PLAINTEXT"]), bytes.fromhex(record["CIPHERTEXT"])
        assert name == "DES"
        assert driver.encrypt(mechanism, key, plain, iv) == cipher
        assert driver.decrypt(mechanism, key, cipher, iv) == plain
        count += 1
    assert count > 3


def test_keys_that_are_ciphertext_of_camellia(driver: Driver) -> None:
    """The OpenSSL project's vectors of CBC, and of ECB NTT's with a key of 128 bits."""
    for record in records(CIPHERS / "Camellia" / "camellia-cbc.txt", "COUNT"):
        key = driver.secret(bytes.fromhex(record["KEY"]), ck.CKK_CAMELLIA)
        parameter = CbcEncryptData(bytes.fromhex(record["IV"]), bytes.fromhex(record["PLAINTEXT"]))
        made = derived(driver, ck.CKM_CAMELLIA_CBC_ENCRYPT_DATA, key, parameter)
        assert made == bytes.fromhex(record["CIPHERTEXT"])
    lines = (CIPHERS / "Camellia" / "camellia-128-ecb.txt").read_text().splitlines()
    values = {
        line.partition(" No.")[0]: bytes.fromhex(line.partition(":")[2])
        for line in lines
        if ":" in line and " No." in line
    }
    key = driver.secret(values["K"], ck.CKK_CAMELLIA)
    assert derived(driver, ck.CKM_CAMELLIA_ECB_ENCRYPT_DATA, key, values["P"]) == values["C"]


@pytest.mark.parametrize(("file", "hash"), [("SHA1", ck.CKM_SHA_1), ("SHA256", ck.CKM_SHA256)])
def test_hkdf_data(driver: Driver, file: str, hash: int) -> None:
    """RFC 5869, appendix A."""
    for record in records(ROOT / "KDF" / f"rfc-5869-HKDF-{file}.txt", "COUNT"):
        base = driver.secret(bytes.fromhex(record["IKM"]), ck.CKK_HKDF)
        salt, info = bytes.fromhex(record["salt"]), bytes.fromhex(record["info"])
        template = {ck.CKA_CLASS: ulong(ck.CKO_DATA), ck.CKA_VALUE_LEN: ulong(int(record["L"]))}
        how = Hkdf(True, True, hash, salt or None, info)
        made = driver.derive(ck.CKM_HKDF_DATA, base, template, how)
        assert made[ck.CKA_VALUE] == bytes.fromhex(record["OKM"])


def test_a_cut_hmac_of_md5(driver: Driver) -> None:
    """RFC 2202, section 2, case 5: the first 96 bits."""
    key, message = driver.secret(b"\x0c" * 16), b"Test With Truncation"
    made = driver.sign(ck.CKM_MD5_HMAC_GENERAL, key, message, 12)
    assert made.hex() == "56461ef2342edc00f9bab995"


CURVES = {
    "P-256": ("06082a8648ce3d030107", 32),
    "P-384": ("06052b81040022", 48),
    "P-521": ("06052b81040023", 66),
}


def private_of(driver: Driver, key_type: int, **attributes: bytes) -> Key:
    kind = {ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY), ck.CKA_KEY_TYPE: ulong(key_type)}
    return driver.bring_in(
        {**kind, **{getattr(ck, f"CKA_{name}"): value for name, value in attributes.items()}}
    )


def ec_private(driver: Driver, curve: str, value: str) -> Key:
    oid, size = CURVES[curve]
    number = int(value, 16).to_bytes(size, "big")
    return private_of(driver, ck.CKK_EC, EC_PARAMS=bytes.fromhex(oid), VALUE=bytearray(number))


def public_of(driver: Driver, private: Key, key_type: int) -> Any:
    template = {ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY), ck.CKA_KEY_TYPE: ulong(key_type)}
    return driver.derive(ck.CKM_PUB_KEY_FROM_PRIV_KEY, private, template, None)


def test_public_keys_of_private_ones(driver: Driver) -> None:
    """NIST CAVP, ECDSA2VS: KeyPair; and the examples that come with Ed25519's reference implementation."""
    lines = (ROOT / "asymmetric" / "ECDSA" / "FIPS_186-3" / "KeyPair.rsp").read_text().splitlines()
    for curve, (_, size) in CURVES.items():
        begin = lines.index(f"[{curve}]")
        values = [line.partition(" = ")[2] for line in lines[begin : begin + 40] if line[:1] in ("d", "Q")]
        assert len(values) >= 9
        for d, x, y in zip(values[:9:3], values[1:9:3], values[2:9:3], strict=True):
            point = public_of(driver, ec_private(driver, curve, d), ck.CKK_EC)[ck.CKA_EC_POINT]
            assert bytes(point).endswith(b"\x04" + bytes.fromhex(x).rjust(size, b"\0") + bytes.fromhex(y))
    for line in (ROOT / "asymmetric" / "Ed25519" / "sign.input").read_text().splitlines()[:5]:
        secret, public = (bytes.fromhex(part) for part in line.split(":")[:2])
        oid = bytes.fromhex("06032b6570")
        private = private_of(driver, ck.CKK_EC_EDWARDS, EC_PARAMS=oid, VALUE=bytearray(secret[:32]))
        made = public_of(driver, private, ck.CKK_EC_EDWARDS)
        assert bytes(made[ck.CKA_EC_POINT])[-32:] == public


def test_cofactor_agreement(driver: Driver) -> None:
    """NIST CAVP, KASVS, static unified model: its primitive is that with the cofactor, which is one."""
    sections = {"EC": "P-256", "ED": "P-384", "EE": "P-521"}
    path = ROOT / "asymmetric" / "ECDH" / "KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_init.fax"
    count = dict.fromkeys(CURVES, 0)
    for record in records(path, "COUNT"):
        curve = sections.get(record["section"][:2])
        if curve is None or record.get("Result", "F")[0] != "P" or count[curve] == 3:
            continue
        x, y = (int(record[f"QsCAVS{of}"], 16).to_bytes(CURVES[curve][1], "big") for of in "xy")
        how = Ecdh1(ck.CKD_NULL, b"", b"\x04" + x + y)
        made = derived(driver, ck.CKM_ECDH1_COFACTOR_DERIVE, ec_private(driver, curve, record["dsIUT"]), how)
        assert made == bytes.fromhex(record["Z"]).rjust(len(made), b"\0")
        count[curve] += 1
    assert set(count.values()) == {3}
