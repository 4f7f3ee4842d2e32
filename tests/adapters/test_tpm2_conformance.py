"""The TPM adapter passes the conformance suite, against a software TPM."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrohsm.testing.conformance import *  # noqa: F403
from ferrohsm.testing.subject import Subject


@pytest.fixture(scope="module")
def adapter_under_test(tpm: object, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    data: Path = tmp_path_factory.mktemp("tokens")
    return Subject("tpm2", tpm.options, data_dir=data)  # type: ignore[attr-defined]
