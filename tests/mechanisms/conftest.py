"""Tests with `driver` run over both engines, the library's and the native kernels; `side` is the C ABI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_support import ENGINES, Driver
from sides import Side, ours

from ferrohsm.adapters import Key


@pytest.fixture(scope="session", params=ENGINES)
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(native=request.param == "kernels")


@pytest.fixture(scope="session")
def rsa(driver: Driver) -> tuple[Key, Key]:
    """One RSA-2048 pair for all tests that only need some pair."""
    return driver.rsa_pair()


@pytest.fixture(scope="module")
def side(module_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    """The installed module in this process with weak mechanisms and known keys, for a whole file of tests."""
    before = os.environ.get("FERROHSM_CONF")
    made = ours(str(module_path), tmp_path_factory.mktemp("bad"))
    try:
        yield made
    finally:
        made.p11.rv("C_Finalize", None)
        os.environ.pop("FERROHSM_CONF")
        if before is not None:
            os.environ["FERROHSM_CONF"] = before
