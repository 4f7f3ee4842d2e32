"""Fixtures: an empty directory of tokens, and a token that the user is logged in to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_support import Token


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Token]:
    token = Token(tmp_path / "data")
    yield token
    token.close()


@pytest.fixture
def token(free: Token) -> Token:
    return free.make().login()
