"""Published answers of tests/vectors/published: each file names its source, each case its mechanism.

The documentation's table is made of these files too (tools/gen_mechanism_table.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_support import Driver, secret_template, ulong

from ferrohsm import constants as ck
from ferrohsm import errors, parameters
from ferrohsm.adapters import Key

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


def derives(driver: Driver, mechanism: int, case: Case, parameter: Any) -> None:
    expected = bytes.fromhex(case["derived"])
    template = secret_template(length=len(expected))
    if case.get("data"):
        template = {ck.CKA_CLASS: ulong(ck.CKO_DATA), ck.CKA_VALUE_LEN: ulong(len(expected))}
    made = driver.derive(mechanism, secret(driver, case), template, parameter)
    assert made[ck.CKA_VALUE] == expected


KINDS: dict[str, Callable[[Driver, int, Case, Any], None]] = {
    "derived": derives,
}


@pytest.mark.parametrize("file", FILES)
def test_published_answers(driver: Driver, file: str) -> None:
    made = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    assert made["source"] and made["from"] and made["cases"]
    for number, case in enumerate(made["cases"]):
        mechanism = getattr(ck, case["mechanism"])
        (kind,) = set(case) & set(KINDS)
        try:
            KINDS[kind](driver, mechanism, case, read(driver, case.get("parameter")))
        except (AssertionError, errors.HsmError) as error:
            raise AssertionError(f"{file}, case {number}, {case['mechanism']}: {error}") from error
