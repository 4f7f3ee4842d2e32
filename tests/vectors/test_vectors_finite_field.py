"""Known answers for DSA and for Diffie-Hellman over finite fields, through the engine."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

import pytest
from engine_support import Driver, secret_template, step, ulong
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Function, Key
from ferrohsm.parameters import Ecdh1, Mechanism

ROOT = root() / "asymmetric"


def key_of(driver: Driver, kind: int, key_type: int, **numbers: Any) -> Key:
    named = {int(getattr(ck, "CKA_" + name)): value for name, value in numbers.items()}
    return driver.bring_in({ck.CKA_CLASS: ulong(kind), ck.CKA_KEY_TYPE: ulong(key_type), **named})


def number(record: dict[str, str], name: str) -> bytes:
    text = record[name]
    return bytes.fromhex(text.rjust(len(text) + len(text) % 2, "0")).lstrip(b"\0")


def group(record: dict[str, str], subprime: bool = True) -> dict[str, bytes]:
    made = {"PRIME": number(record, "P"), "BASE": number(record, "G")}
    return {**made, "SUBPRIME": number(record, "Q")} if subprime else made


def test_dsa(driver: Driver) -> None:
    """NIST CAVP, FIPS 186-3 SigVer: signatures of all sizes and hashes, good and altered."""
    results = {"P": 0, "F": 0}
    # A stride of 7 comes by all kinds of results, of which there are five.
    for record in islice(records(ROOT / "DSA" / "FIPS_186-3" / "SigVer.rsp", "Msg"), 0, None, driver.stride):
        name = record["section"].rpartition(" ")[2].replace("-", "")
        mechanism = Mechanism(int(getattr(ck, f"CKM_DSA_{name}")))
        try:
            key = key_of(driver, ck.CKO_PUBLIC_KEY, ck.CKK_DSA, **group(record), VALUE=number(record, "Y"))
        except errors.AttributeValueInvalid:
            assert "Y changed" in record["Result"]
            results["F"] += 1
            continue
        length = len(number(record, "Q"))
        signature = b"".join(bytes.fromhex(record[part].rjust(2 * length, "0")) for part in "RS")
        operation = step(driver.engine.begin(Function.VERIFY, mechanism, key))
        data = memoryview(bytes.fromhex(record["Msg"]))
        result = record["Result"][0]
        results[result] += 1
        if result == "P":
            step(operation.verify(data, memoryview(signature)))
            digest = hashlib.new(name.lower(), data).digest()
            driver.verify(ck.CKM_DSA, key, digest, signature)
        else:
            with pytest.raises(errors.SignatureInvalid):
                step(operation.verify(data, memoryview(signature)))
    assert min(results.values()) > 50 // driver.stride


def test_dsa_keys_fit(driver: Driver) -> None:
    """NIST CAVP, FIPS 186-3 KeyPair: the public key that a private one has, and signatures both ways."""
    for count, record in enumerate(records(ROOT / "DSA" / "FIPS_186-3" / "KeyPair.rsp", "X")):
        if count % 10:
            continue
        parts = group(record)
        private = key_of(
            driver, ck.CKO_PRIVATE_KEY, ck.CKK_DSA, **parts, VALUE=bytearray(number(record, "X"))
        )
        public = key_of(driver, ck.CKO_PUBLIC_KEY, ck.CKK_DSA, **parts, VALUE=number(record, "Y"))
        assert private.attributes[ck.CKA_PUBLIC_KEY_INFO] == public.attributes[ck.CKA_PUBLIC_KEY_INFO]
        for length in (20, 28, 32, 48, 64):
            digest = memoryview(bytes(length))
            operation = step(driver.engine.begin(Function.SIGN, Mechanism(ck.CKM_DSA), private))
            signature = step(operation.once(digest))
            operation = step(driver.engine.begin(Function.VERIFY, Mechanism(ck.CKM_DSA), public))
            step(operation.verify(digest, memoryview(signature)))


@pytest.mark.parametrize("type", [ck.CKK_DH, ck.CKK_X9_42_DH])
def test_diffie_hellman(driver: Driver, type: int) -> None:
    """RFC 5114, appendix A: both sides agree on the secret that is printed there."""
    count = 0
    for record in records(ROOT / "DH" / "RFC5114.txt", "COUNT"):
        parts = group(record, type == ck.CKK_X9_42_DH)
        expected = number(record, "Z")
        for own, other in (("XstatCAVS", "YstatIUT"), ("XstatIUT", "YstatCAVS")):
            key = key_of(driver, ck.CKO_PRIVATE_KEY, type, **parts, VALUE=bytearray(number(record, own)))
            peer = number(record, other)
            parameter: Any = peer if type == ck.CKK_DH else Ecdh1(ck.CKD_NULL, b"", peer)
            mechanism = ck.CKM_DH_PKCS_DERIVE if type == ck.CKK_DH else ck.CKM_X9_42_DH_DERIVE
            made = driver.derive(mechanism, key, secret_template(), parameter)
            assert bytes(made[ck.CKA_VALUE]).lstrip(b"\0") == expected
            assert len(made[ck.CKA_VALUE]) == len(parts["PRIME"])
            short = driver.derive(mechanism, key, secret_template(length=16), parameter)
            assert short[ck.CKA_VALUE] == expected[-16:]
            count += 1
            p = int.from_bytes(parts["PRIME"], "big")
            for bad in (0, 1, p - 1, p, p + 2):
                value = bad.to_bytes(len(parts["PRIME"]) + 1, "big")
                wrong: Any = value if type == ck.CKK_DH else Ecdh1(ck.CKD_NULL, b"", value)
                with pytest.raises(errors.MechanismParamInvalid):
                    driver.derive(mechanism, key, secret_template(), wrong)
    assert count == 6


def test_parameters(driver: Driver) -> None:
    """New parameters have the size asked for and make keys."""
    for type, key_type, pair in (
        (ck.CKM_DSA_PARAMETER_GEN, ck.CKK_DSA, ck.CKM_DSA_KEY_PAIR_GEN),
        (ck.CKM_DH_PKCS_PARAMETER_GEN, ck.CKK_DH, ck.CKM_DH_PKCS_KEY_PAIR_GEN),
    ):
        made = step(driver.engine.generate_key(Mechanism(type), {ck.CKA_PRIME_BITS: ulong(1024)}))
        assert int.from_bytes(made[ck.CKA_PRIME], "big").bit_length() == 1024
        public, private = driver._pair(Mechanism(pair), key_type, dict(made))
        assert public.attributes[ck.CKA_PUBLIC_KEY_INFO] == private.attributes[ck.CKA_PUBLIC_KEY_INFO]
        for bits in (512, 1000, 16384):
            with pytest.raises(errors.KeySizeRange):
                step(driver.engine.generate_key(Mechanism(type), {ck.CKA_PRIME_BITS: ulong(bits)}))
        with pytest.raises(errors.TemplateIncomplete):
            step(driver.engine.generate_key(Mechanism(type), {}))


def test_bad_material(driver: Driver) -> None:
    record = next(records(ROOT / "DH" / "RFC5114.txt", "COUNT"))
    parts, value = group(record), number(record, "YstatIUT")
    for key_type in (ck.CKK_DSA, ck.CKK_X9_42_DH):
        with pytest.raises(errors.KeySizeRange):
            key_of(driver, ck.CKO_PUBLIC_KEY, key_type, **{**parts, "PRIME": b"\x0b"}, VALUE=value)
        for wrong in ({"VALUE": bytearray()}, {"VALUE": bytearray(b"\0")}):
            with pytest.raises(errors.AttributeValueInvalid):
                key_of(driver, ck.CKO_PRIVATE_KEY, key_type, **parts, **wrong)
    private = key_of(driver, ck.CKO_PRIVATE_KEY, ck.CKK_DSA, **parts, VALUE=bytearray(b"\5"))
    wrong_signature = memoryview(bytes(39))
    public = key_of(driver, ck.CKO_PUBLIC_KEY, ck.CKK_DSA, **parts, VALUE=value)
    operation = step(driver.engine.begin(Function.VERIFY, Mechanism(ck.CKM_DSA), public))
    with pytest.raises(errors.SignatureLenRange):
        step(operation.verify(memoryview(bytes(20)), wrong_signature))
    operation = step(driver.engine.begin(Function.SIGN, Mechanism(ck.CKM_DSA), private))
    with pytest.raises(errors.DataLenRange):
        step(operation.once(memoryview(bytes(21))))
