"""Every test here runs over both engines: the library's families and the native kernels."""

from __future__ import annotations

import pytest
from engine_support import ENGINES, Driver

from ferrohsm.adapters import Key


@pytest.fixture(scope="session", params=ENGINES)
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(native=request.param == "kernels")


@pytest.fixture(scope="session")
def rsa(driver: Driver) -> tuple[Key, Key]:
    """One RSA-2048 pair for all tests that only need some pair."""
    return driver.rsa_pair()
