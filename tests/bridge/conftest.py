"""SoftHSM2 as a backend, with tokens of a test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bridge_support import Backend
from peer_modules import SOFTHSM2


@pytest.fixture(scope="session")
def softhsm2(need: Callable[..., str]) -> str:
    """The path of SoftHSM's module."""
    need("softhsm2-util", package="softhsm2")
    return need("libsofthsm2.so", package="libsofthsm2", places=SOFTHSM2)


@pytest.fixture(scope="module")
def shared_backend(tmp_path_factory: pytest.TempPathFactory, softhsm2: str) -> Backend:
    """Two tokens that the tests of a module share."""
    backend = Backend(tmp_path_factory.mktemp("bridge"), softhsm2)
    backend.token("direct")
    backend.token("bridged")
    return backend


@pytest.fixture
def backend(tmp_path: Path, softhsm2: str) -> Backend:
    """A token "alpha" of a test's own."""
    backend = Backend(tmp_path, softhsm2)
    backend.token("alpha")
    return backend
