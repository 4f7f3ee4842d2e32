"""Every test here runs over the library's families by themselves, and through the C functions of the module.

What the module answers there is compared with tools/facts/answers-run.json, so that the documentation's table
claims no answer that is not run; ``FERROHSM_RECORD_ANSWERS=1`` writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from abi_driver import AbiDriver
from engine_support import KERNELS, Driver
from sides import ours

from ferrohsm import constants as ck
from ferrohsm.adapters import Key

FACTS = Path(__file__).parents[2] / "tools" / "facts" / "answers-run.json"
RECORD = os.environ.get("FERROHSM_RECORD_ANSWERS")
ANSWERED: dict[str, set[str]] = {}
"""What worked, by test."""


@pytest.fixture(scope="module", params=["library", "module"])
def driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver | AbiDriver]:
    if request.param == "library":
        yield Driver()
        return
    path: Path = request.getfixturevalue("module_path")
    before = os.environ.get("FERROHSM_CONF")
    side = ours(str(path), tmp_path_factory.mktemp("vectors"))
    try:
        yield AbiDriver(side)
    finally:
        side.p11.rv("C_Finalize", None)
        os.environ.pop("FERROHSM_CONF")
        if before is not None:
            os.environ["FERROHSM_CONF"] = before


@pytest.fixture(autouse=True)
def answered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Note which mechanisms worked in a test through the module."""
    driver: Any = request.getfixturevalue("driver") if "driver" in request.fixturenames else None
    if not isinstance(driver, AbiDriver):
        yield
        return
    driver.answered.clear()
    yield
    name = f"{request.path.name}::{request.function.__name__}"
    ANSWERED.setdefault(name, set()).update(ck.name("CKM", type_) for type_ in driver.answered)


def _of_module(facts: dict[str, list[str]], module: str) -> dict[str, set[str]]:
    """Return by test of a module the mechanisms that it is said to answer for."""
    made: dict[str, set[str]] = {}
    for mechanism, tests in facts.items():
        for test in tests:
            if test.startswith(f"{module}::"):
                made.setdefault(test, set()).add(mechanism)
    return made


@pytest.fixture(scope="module", autouse=True)
def claims(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare what the tests of a module answered with what the documentation says, when all of them ran."""
    yield
    config, module = request.config, request.path.name
    chosen = config.option.keyword or getattr(config.option, "lf", False)
    partly = chosen or any("::" in argument for argument in config.args)
    # The library's turn may come first, with all modules.
    begun = any(test.startswith(f"{module}::") for test in ANSWERED)
    # What only kernels have is not there without them.
    if RECORD or partly or not begun or KERNELS is None or request.session.testsfailed:
        return
    claimed = _of_module(json.loads(FACTS.read_text(encoding="utf-8")), module)
    missing = {
        test: sorted(mechanisms - ANSWERED.get(test, set()))
        for test, mechanisms in claimed.items()
        if mechanisms - ANSWERED.get(test, set())
    }
    assert not missing, "run FERROHSM_RECORD_ANSWERS=1 pytest tests/vectors"


def pytest_sessionfinish() -> None:
    """Write down what was answered."""
    if not RECORD:
        return
    made: dict[str, list[str]] = {}
    for test, mechanisms in sorted(ANSWERED.items()):
        for mechanism in mechanisms:
            made.setdefault(mechanism, []).append(test)
    lines = [f" {json.dumps(name)}: {json.dumps(tests)}" for name, tests in sorted(made.items())]
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def rsa(driver: Driver) -> tuple[Key, Key]:
    """One RSA-2048 pair for all tests of a file that only need some pair."""
    return driver.rsa_pair()
