"""Fixtures: a house without and with a token, and a session of its user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from house import House

from ferrohsm.runtime import step
from ferrohsm.sessions import Session


@pytest.fixture
def empty_house() -> Iterator[House]:
    house = House()
    yield house
    step(house.core.stop())
    assert house.store.closed


@pytest.fixture
def house(empty_house: House) -> House:
    empty_house.initialize()
    return empty_house


@pytest.fixture
def session(house: House) -> Session:
    """A read-write session with the user logged in."""
    session = house.open()
    house.login(session)
    return session
