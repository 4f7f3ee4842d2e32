"""`driver` is an engine, the library's families and the native kernels; `side` and `bench` are the C ABI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import Bench, initialize_token
from cryptoki import Cryptoki
from engine_support import ENGINES, Driver
from sides import Side, ours

from ferrohsm.adapters import Key

CONFIGURATION = """\
data_dir = "{data}"
[kdf]
memory_kib = 7168
passes = 1
[mechanisms]
weak = true
"""


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


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, module_path: Path) -> Iterator[Bench]:
    """The installed module with a token, weak mechanisms offered."""
    directory = tmp_path_factory.mktemp("every")
    (directory / "data").mkdir()
    (directory / "ferrohsm.toml").write_text(CONFIGURATION.format(data=directory / "data"))
    before = os.environ.get("FERROHSM_CONF")
    os.environ["FERROHSM_CONF"] = str(directory / "ferrohsm.toml")
    library = Cryptoki(str(module_path))
    library("C_Initialize", None)
    try:
        slot = library.slots()[0]
        initialize_token(library, slot)
        yield Bench(library, slot, directory / "log")
    finally:
        library.rv("C_Finalize", None)
        os.environ.pop("FERROHSM_CONF")
        if before is not None:
            os.environ["FERROHSM_CONF"] = before
