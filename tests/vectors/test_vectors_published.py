"""Published answers of tests/vectors/published: each file names its source, each case its mechanism.

The documentation's table is made of these files too (tools/gen_mechanism_table.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from abi_driver import AbiDriver
from cryptoki import template
from engine_support import KERNELS, Driver, secret_template, step, ulong
from keys import usable
from mechanism_parameters import key_material

from ferrohsm import constants as ck
from ferrohsm import errors, parameters
from ferrohsm.adapters import Function, Key

FOLDER = Path(__file__).with_name("published")
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))
Case = dict[str, Any]


def read(driver: Driver, value: Any) -> Any:
    """Return what a file means: a constant by its name, a parameter as a list, else bytes in hexadecimal."""
    if isinstance(value, str):
        return getattr(ck, value) if value.startswith("CK") else bytes.fromhex(value)
    if not isinstance(value, list):
        return value
    if value[:1] == ["KeyReference"]:
        return parameters.KeyReference(driver.secret(bytes.fromhex(value[1])))
    if value and isinstance(value[0], str) and hasattr(parameters, value[0]):
        return getattr(parameters, value[0])(*(read(driver, part) for part in value[1:]))
    return tuple(read(driver, part) for part in value)


def secret(driver: Driver, case: Case) -> Key:
    return driver.secret(bytes.fromhex(case["key"]), read(driver, case.get("key type", "CKK_GENERIC_SECRET")))


def refused(call: Callable[..., Any], *arguments: Any) -> None:
    """Check that a case which the file says is wrong is found to be."""
    try:
        call(*arguments)
    except WRONG:
        return
    raise AssertionError("what is wrong is taken")


def digests(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    message = bytes.fromhex(case["message"])
    assert driver.once(Function.DIGEST, mechanism, None, message, parameter).hex() == case["digest"]


def authenticates(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    key, message, tag = secret(driver, case), bytes.fromhex(case["message"]), bytes.fromhex(case["tag"])
    if not case.get("good", True):
        refused(driver.verify, mechanism, key, message, tag, parameter)
        return
    assert driver.sign(mechanism, key, message, parameter) == tag
    driver.verify(mechanism, key, message, tag, parameter)


def encrypts(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    plain, cipher = bytes.fromhex(case["plain"]), bytes.fromhex(case["cipher"])
    if "private" in case:
        assert driver.decrypt(mechanism, rsa(driver, case), cipher, parameter) == plain
        return
    key = secret(driver, case)
    if not case.get("good", True):
        refused(driver.decrypt, mechanism, key, cipher, parameter)
        return
    assert driver.encrypt(mechanism, key, plain, parameter) == cipher
    assert driver.decrypt(mechanism, key, cipher, parameter) == plain


def signs(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    message, signature = bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])
    if "private" in case:
        assert driver.sign(mechanism, rsa(driver, case), message, parameter) == signature
        return
    material = {getattr(ck, name): read(driver, value) for name, value in case["public"].items()}
    material |= {ck.CKA_CLASS: ck.CKO_PUBLIC_KEY, ck.CKA_KEY_TYPE: getattr(ck, case["key type"])}
    key = driver.bring_in(
        {type_: ulong(value) if isinstance(value, int) else value for type_, value in material.items()}
    )
    if case.get("good", True):
        driver.verify(mechanism, key, message, signature, parameter)
    else:
        refused(driver.verify, mechanism, key, message, signature, parameter)


def rsa(driver: Driver, case: Case) -> Key:
    """Return the private key of its numbers."""
    n, e, d, p, q = (int(case["private"][name], 16) for name in "nedpq")
    numbers = {
        ck.CKA_MODULUS: n,
        ck.CKA_PUBLIC_EXPONENT: e,
        ck.CKA_PRIVATE_EXPONENT: d,
        ck.CKA_PRIME_1: p,
        ck.CKA_PRIME_2: q,
        ck.CKA_EXPONENT_1: d % (p - 1),
        ck.CKA_EXPONENT_2: d % (q - 1),
        ck.CKA_COEFFICIENT: pow(q, -1, p),
    }
    kind = {ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY), ck.CKA_KEY_TYPE: ulong(ck.CKK_RSA)}
    made = {
        type_: number.to_bytes((number.bit_length() + 7) // 8, "big") for type_, number in numbers.items()
    }
    return driver.bring_in({**kind, **made})


def generates(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    expected = bytes.fromhex(case["generated"])
    how = parameter._replace(password=bytearray(parameter.password))
    key_type = read(driver, case.get("key type", "CKK_GENERIC_SECRET"))
    template = secret_template(key_type, None if "key type" in case else len(expected))
    made = step(driver.engine.generate_key(parameters.Mechanism(mechanism, how), template))[ck.CKA_VALUE]
    if key_type in (ck.CKK_DES2, ck.CKK_DES3):  # the last bit of each byte is parity
        made, expected = (bytes(byte & 0xFE for byte in value) for value in (made, expected))
    assert made == expected


def derives(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    expected = bytes.fromhex(case["derived"])
    template = secret_template(length=len(expected))
    if case.get("data"):
        template = {ck.CKA_CLASS: ulong(ck.CKO_DATA), ck.CKA_VALUE_LEN: ulong(len(expected))}
    made = driver.derive(mechanism, secret(driver, case), template, parameter)
    assert made[ck.CKA_VALUE] == expected


def derives_key_block(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    """TLS: two MAC keys of 32 bytes, two keys and two vectors of 16, in the memory of the parameter."""
    if not isinstance(driver, AbiDriver):
        return
    side, (client, server) = driver.side, map(bytes.fromhex, case["randoms"])
    made, out, ivs = key_material((256, 128, 128), client, server, read(driver, case["hash"]))
    pairs = [*usable(ck.CKK_AES), (ck.CKA_VALUE_LEN, 16)]
    arguments = (side.how(mechanism, made), secret(driver, case).handle, template(*pairs), len(pairs), None)
    side.p11("C_DeriveKey", side.session, *arguments)
    driver.answered.add(mechanism)
    keys = map(side.value, (out.client_mac, out.server_mac, out.client_key, out.server_key))
    block = b"".join(keys) + b"".join(iv.raw[:16] for iv in ivs)
    expected = bytes.fromhex(case["block"])
    if mechanism == ck.CKM_TLS12_KEY_SAFE_DERIVE:  # which makes no vectors
        expected = expected[:96] + bytes(32)
    assert block == expected


KINDS: dict[str, Callable[[Driver, int, Case, Any], None]] = {
    "block": derives_key_block,
    "cipher": encrypts,
    "derived": derives,
    "digest": digests,
    "generated": generates,
    "signature": signs,
    "tag": authenticates,
}
WRONG = (
    errors.SignatureInvalid,
    errors.SignatureLenRange,
    errors.EncryptedDataInvalid,
    errors.EncryptedDataLenRange,
)


def lacks(driver: Driver, mechanism: int) -> bool:
    """Say whether only kernels have it and there are none."""
    if isinstance(driver, AbiDriver):
        return KERNELS is None and (mechanism == ck.CKM_RSA_X_509 or mechanism not in driver.side.offered)
    return mechanism == ck.CKM_RSA_X_509 or mechanism not in driver.engine.mechanisms()


@pytest.mark.parametrize("file", FILES)
def test_published_answers(driver: Driver, file: str) -> None:
    made = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    assert made["source"] and made["from"] and made["cases"]
    for number, case in enumerate(made["cases"]):
        mechanism = getattr(ck, case["mechanism"])
        if lacks(driver, mechanism):
            continue
        (kind,) = set(case) & set(KINDS)
        try:
            KINDS[kind](driver, mechanism, case, read(driver, case.get("parameter")))
        except (AssertionError, errors.HsmError) as error:
            raise AssertionError(f"{file}, case {number}, {case['mechanism']}: {error}") from error
