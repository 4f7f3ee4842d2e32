"""The conformance suite with an adapter in a process of its own: its proxy keeps what it promises."""

from __future__ import annotations

import sys

import pytest

from ferrohsm.testing.conformance import *  # noqa: F403
from ferrohsm.testing.subject import Subject

if not sys.platform.startswith("linux"):
    pytest.skip("processes apart are for Linux", allow_module_level=True)


@pytest.fixture(scope="module")
def adapter_under_test(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject("software", data_dir=tmp_path_factory.mktemp("tokens"), isolation="process")
