"""Known answers for AES, key wrap, digests and MACs, all through the engine."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from engine_support import Driver
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Function
from ferrohsm.mechanisms import HASHES
from ferrohsm.parameters import Ccm, Ctr, Gcm

ROOT = root()
AES = ROOT / "ciphers" / "AES"


def files(folder: Path, pattern: str) -> list[Any]:
    found = sorted(folder.glob(pattern))
    assert found, f"no {pattern} in {folder}"
    return [pytest.param(path, id=path.name) for path in found]


@pytest.mark.parametrize("path", files(AES / "ECB", "*.rsp") + files(AES / "CBC", "*.rsp"))
def test_ecb_and_cbc(driver: Driver, path: Path) -> None:
    """NIST CAVP, AESVS."""
    count = 0
    for record in records(path, "COUNT"):
        key = driver.aes(bytes.fromhex(record["KEY"]))
        plain, cipher = bytes.fromhex(record["PLAINTEXT"]), bytes.fromhex(record["CIPHERTEXT"])
        mechanism = ck.CKM_AES_CBC if "IV" in record else ck.CKM_AES_ECB
        iv = bytes.fromhex(record["IV"]) if "IV" in record else None
        assert driver.encrypt(mechanism, key, plain, iv) == cipher
        assert driver.decrypt(mechanism, key, cipher, iv) == plain
        count += 1
    assert count


@pytest.mark.parametrize("path", files(AES / "CTR", "*.txt"))
def test_counter(driver: Driver, path: Path) -> None:
    """RFC 3686."""
    for record in records(path, "COUNT"):
        key, plain = driver.aes(bytes.fromhex(record["KEY"])), bytes.fromhex(record["PLAINTEXT"])
        parameter = Ctr(32, bytes.fromhex(record["IV"]))
        assert driver.encrypt(ck.CKM_AES_CTR, key, plain, parameter).hex().upper() == record["CIPHERTEXT"]


@pytest.mark.parametrize("path", files(AES / "GCM", "*.rsp"))
def test_gcm(driver: Driver, path: Path) -> None:
    """NIST CAVP, GCMVS; IVs shorter than 8 bytes are refused."""
    right = wrong = refused = 0
    for record in islice(records(path, "Count"), 0, None, driver.stride):
        key = driver.aes(bytes.fromhex(record["Key"]))
        iv, aad = bytes.fromhex(record["IV"]), bytes.fromhex(record["AAD"])
        cipher = bytes.fromhex(record["CT"] + record["Tag"])
        parameter = Gcm(iv, len(iv) * 8, aad, int(record["Taglen"]))
        if len(iv) < 8:
            with pytest.raises(errors.MechanismParamInvalid):
                driver.decrypt(ck.CKM_AES_GCM, key, cipher, parameter)
            refused += 1
        elif record.get("Result") == "Fail":
            with pytest.raises(errors.EncryptedDataInvalid):
                driver.decrypt(ck.CKM_AES_GCM, key, cipher, parameter)
            wrong += 1
        else:
            plain = bytes.fromhex(record["PT"])
            assert driver.decrypt(ck.CKM_AES_GCM, key, cipher, parameter) == plain
            assert driver.encrypt(ck.CKM_AES_GCM, key, plain, parameter) == cipher
            right += 1
    assert min(right, refused) > 1000 // driver.stride
    assert bool(wrong) == ("Decrypt" in path.name)


@pytest.mark.parametrize("path", files(AES / "CCM", "V*.rsp"))
def test_ccm(driver: Driver, path: Path) -> None:
    """NIST CAVP, CCMVS: encryption."""
    first = "Count"
    count = 0
    for record in records(path, first):
        data_length, aad_length = int(record["Plen"]), int(record["Alen"])
        plain = bytes.fromhex(record["Payload"])[:data_length]
        aad = bytes.fromhex(record["Adata"])[:aad_length]
        parameter = Ccm(data_length, bytes.fromhex(record["Nonce"]), aad, int(record["Tlen"]))
        key, cipher = driver.aes(bytes.fromhex(record["Key"])), bytes.fromhex(record["CT"])
        assert driver.encrypt(ck.CKM_AES_CCM, key, plain, parameter) == cipher
        assert driver.decrypt(ck.CKM_AES_CCM, key, cipher, parameter) == plain
        count += 1
    assert count


@pytest.mark.parametrize("path", files(AES / "CCM", "DVPT*.rsp"))
def test_ccm_decryption(driver: Driver, path: Path) -> None:
    """NIST CAVP, CCMVS: decryption and verification."""
    results = set()
    for record in records(path, "Count"):
        data_length, aad_length = int(record["Plen"]), int(record["Alen"])
        aad = bytes.fromhex(record["Adata"])[:aad_length]
        parameter = Ccm(data_length, bytes.fromhex(record["Nonce"]), aad, int(record["Tlen"]))
        key, cipher = driver.aes(bytes.fromhex(record["Key"])), bytes.fromhex(record["CT"])
        results.add(record["Result"])
        if record["Result"] == "Fail":
            with pytest.raises(errors.EncryptedDataInvalid):
                driver.decrypt(ck.CKM_AES_CCM, key, cipher, parameter)
        else:
            plain = bytes.fromhex(record["Payload"])[:data_length]
            assert driver.decrypt(ck.CKM_AES_CCM, key, cipher, parameter) == plain
    assert results == {"Pass", "Fail"}


@pytest.mark.parametrize("path", files(ROOT / "keywrap" / "kwtestvectors", "KW*_[12]*[0-9].txt") or [])
def test_key_wrap(driver: Driver, path: Path) -> None:
    """NIST CAVP, KWVS (forward cipher)."""
    count = 0
    mechanism = ck.CKM_AES_KEY_WRAP_KWP if path.name.startswith("KWP") else ck.CKM_AES_KEY_WRAP
    for record in records(path, "COUNT"):
        key, cipher = driver.aes(bytes.fromhex(record["K"])), bytes.fromhex(record["C"])
        if record.get("Result") == "Fail":
            with pytest.raises(errors.EncryptedDataInvalid):
                driver.decrypt(mechanism, key, cipher)
        else:
            plain = bytes.fromhex(record["P"])
            assert driver.decrypt(mechanism, key, cipher) == plain
            assert driver.encrypt(mechanism, key, plain) == cipher
        count += 1
    assert count


def test_key_wrap_of_rfc_5649(driver: Driver) -> None:
    for record in records(ROOT / "keywrap" / "kwp_botan.txt", "COUNT"):
        key, plain = driver.aes(bytes.fromhex(record["Key"])), bytes.fromhex(record["Input"])
        expected = record["Output"].lower()
        assert driver.encrypt(ck.CKM_AES_KEY_WRAP_KWP, key, plain).hex() == expected
        assert driver.encrypt(ck.CKM_AES_KEY_WRAP_PAD, key, plain).hex() == expected


DIGESTS = {
    "SHA1": "sha1",
    **{f"SHA{n}": f"sha{n}" for n in ("224", "256", "384", "512", "512_224", "512_256")},
    **{f"SHA3_{n}": f"sha3_{n}" for n in ("224", "256", "384", "512")},
}


@pytest.mark.parametrize(
    "path",
    [
        path
        for family in ("SHA1", "SHA2", "SHA3")
        for pattern in ("*ShortMsg.rsp", "*LongMsg.rsp")
        for path in files(ROOT / "hashes" / family, pattern)
    ],
)
def test_digests(driver: Driver, path: Path) -> None:
    """NIST CAVP, SHAVS and SHA3VS."""
    name = DIGESTS[path.name.removesuffix(".rsp").removesuffix("ShortMsg").removesuffix("LongMsg")]
    count = 0
    for record in records(path, "Len"):
        message = bytes.fromhex(record["Msg"])[: int(record["Len"]) // 8]
        digest = driver.once(Function.DIGEST, HASHES[name].type, None, message)
        assert digest.hex() == record["MD"]
        count += 1
    assert count > 50


@pytest.mark.parametrize("path", files(ROOT / "HMAC", "rfc-*sha*.txt"))
def test_hmac(driver: Driver, path: Path) -> None:
    """RFC 2202 and RFC 4231."""
    name = path.stem.rpartition("-")[2]
    mechanism = getattr(ck, "CKM_SHA_1_HMAC" if name == "sha1" else f"CKM_{name.upper()}_HMAC")
    count = 0
    for record in records(path, "Len"):
        key = driver.secret(bytes.fromhex(record["Key"]))
        message, tag = bytes.fromhex(record["Msg"]), bytes.fromhex(record["MD"])
        assert driver.sign(mechanism, key, message)[: len(tag)] == tag
        count += 1
    assert count > 3


@pytest.mark.parametrize("path", files(ROOT / "CMAC", "nist-800-38b-aes*.txt"))
def test_cmac(driver: Driver, path: Path) -> None:
    """NIST SP 800-38B."""
    count = 0
    for record in records(path, "COUNT"):
        key, message = driver.aes(bytes.fromhex(record["KEY"])), bytes.fromhex(record["MESSAGE"])
        assert driver.sign(ck.CKM_AES_CMAC, key, message).hex() == record["OUTPUT"]
        count += 1
    assert count == 4
