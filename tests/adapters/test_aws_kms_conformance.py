"""The AWS KMS adapter passes the conformance suite, against a server that answers like KMS."""

from __future__ import annotations

import pytest

from ferrohsm.testing.conformance import *  # noqa: F403
from ferrohsm.testing.subject import Subject


@pytest.fixture(scope="module")
def adapter_under_test(kms: object) -> Subject:
    return Subject("aws_kms", kms.options, initialize=False)  # type: ignore[attr-defined]
