"""What a migration takes for the same object: only what is proved to be; anything else could lose a key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ferrohsm import constants as ck
from ferrohsm.migration.moving import MOVED, PRESENT, Migration, Outcome
from ferrohsm.migration.proof import Proof


@pytest.mark.parametrize("same", [True, None, False])
def test_only_what_is_proved_to_be_the_same_is_taken_for_it(same: bool | None) -> None:
    each: Any = SimpleNamespace(kind=ck.CKO_SECRET_KEY, values={ck.CKA_LABEL: b"kek"})
    source: Any = SimpleNamespace(objects=list)
    target: Any = SimpleNamespace(find=lambda wanted: [7])
    migration = Migration(source, target, dry_run=False)
    prover: Any = SimpleNamespace(compare=lambda each, oid: Proof(same, "as they say"))
    migration._prover = prover
    outcome = Outcome(each, MOVED)
    assert migration._find_present(outcome) is (same is True)
    assert outcome.status == (PRESENT if same else MOVED)
    assert bool(outcome.changes) is (same is None)
