"""What an adapter says about itself is checked where it says it."""

from __future__ import annotations

from typing import Any

import pytest

from ferrohsm import constants as ck
from ferrohsm.adapters import AdapterInfo, Limits

AES = {ck.CKM_AES_GCM: (16, 32, ck.CKF_ENCRYPT)}


def test_what_is_right_stays() -> None:
    info = AdapterInfo(
        "far", "1.2", mechanisms=AES, object_classes=[ck.CKO_SECRET_KEY], deadline=3, concurrency=4
    )
    assert (info.name, info.version, info.inline, info.login) == ("far", "1.2", False, "pin")
    assert info.mechanisms == AES and info.mechanisms is not AES
    assert info.object_classes == {ck.CKO_SECRET_KEY}
    assert (info.deadline, info.concurrency, info.isolation) == (3.0, 4, ("thread", "process"))
    assert (info.limits.sessions, info.limits.data) == (None, None)
    assert repr(Limits(sessions=3)) == "Limits(sessions=3)"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": 7},
        {"version": "1\n2"},
        {"inline": 1},
        {"isolation": ["nowhere"]},
        {"isolation": []},
        {"login": "face"},
        {"mechanisms": [1]},
        {"mechanisms": {"CKM_AES_GCM": (1, 2, 3)}},
        {"mechanisms": {-1: (1, 2, 3)}},
        {"mechanisms": {2**64: (1, 2, 3)}},
        {"mechanisms": {1: (1, 2)}},
        {"mechanisms": {1: (2, 1, 0)}},
        {"mechanisms": {1: (1, True, 0)}},
        {"object_classes": ["secret"]},
        {"limits": {"sessions": 3}},
        {"deadline": 0},
        {"deadline": float("nan")},
        {"deadline": 1e9},
        {"deadline": "soon"},
        {"concurrency": 0},
        {"concurrency": 1.5},
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any]) -> None:
    given = {"name": "far", "version": "1", **wrong}
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        AdapterInfo(**given)


@pytest.mark.parametrize("wrong", [{"sessions": -1}, {"data": 1.0}, {"min_pin": 9, "max_pin": 8}])
def test_limits_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        Limits(**wrong)
