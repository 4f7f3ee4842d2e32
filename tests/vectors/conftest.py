from __future__ import annotations

import pytest
from engine_support import Driver

from ferrohsm.adapters import Key


@pytest.fixture(scope="session")
def driver() -> Driver:
    return Driver()


@pytest.fixture(scope="session")
def rsa(driver: Driver) -> tuple[Key, Key]:
    """One RSA-2048 pair for all tests that only need some pair."""
    return driver.rsa_pair()
