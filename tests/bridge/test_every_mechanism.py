"""What SoftHSM does, it does through the bridge with the same result: every mechanism of its own list."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from bridge_support import PIN, Backend

from ferrohsm import constants as ck

SCRIPT = Path(__file__).with_name("every_mechanism.py")
SINGLE = ("CKM_RSA_PKCS", "CKM_RSA_X_509", "CKM_RSA_PKCS_PSS", "CKM_DSA", "CKM_ECDSA")
NAMED_CURVE, IDENTIFIED_CURVE = "130c656477617264733235353139", "06032b6570"

MESSAGES = ck.CKF_MESSAGE_SIGN | ck.CKF_MESSAGE_VERIFY | ck.CKF_MULTI_MESSAGE

# What differs, and why it may: (answer, SoftHSM's, ours).
KNOWN_TO_DIFFER = {
    # Both refuse to sign in parts; our own rule comes first, and says so in its own words.
    f"{name} sign in parts": ("CKR_OPERATION_NOT_INITIALIZED", "CKR_FUNCTION_NOT_SUPPORTED")
    for name in SINGLE
}


def answers(backend: Backend, module: str | Path, label: str, earlier: Path | None = None) -> dict[str, Any]:
    command = [sys.executable, SCRIPT, module, label, PIN, *([] if earlier is None else [earlier])]
    result: dict[str, Any] = json.loads(backend.run(*command).stdout)
    return result


@pytest.fixture(scope="module")
def direct(shared_backend: Backend) -> dict[str, Any]:
    return answers(shared_backend, shared_backend.module, "direct")


WAYS = {
    "fallback": "",
    "prefer": 'software = "prefer"',
    "never": 'software = "never"',
    "process": 'isolation = "process"',
}


@pytest.fixture(scope="module", params=WAYS)
def bridged(
    request: pytest.FixtureRequest, shared_backend: Backend, direct: dict[str, Any], module_path: Path
) -> dict[str, Any]:
    """The same through us, with each way to use the software engine, and in a process of its own."""
    shared_backend.configure(WAYS[request.param])
    earlier = shared_backend.directory / "earlier.json"
    earlier.write_text(json.dumps(direct))
    return answers(shared_backend, module_path, "bridged", earlier)


def with_one_name(value: Any) -> Any:
    """Return an answer with the curve's name, which SoftHSM writes in two ways, in the one that we keep."""
    if isinstance(value, dict):
        return {name: with_one_name(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_one_name(inner) for inner in value]
    return IDENTIFIED_CURVE if value == NAMED_CURVE else value


def test_the_list_is_long_enough_to_mean_something(direct: dict[str, Any]) -> None:
    refused = [
        name
        for name, answer in direct["answers"].items()
        if str(answer).startswith("CKR_") and answer != "CKR_OK"
    ]
    assert len(direct["mechanisms"]) > 50 and len(direct["answers"]) > 250
    assert len(refused) < 120, refused


def test_everything_has_the_same_result(direct: dict[str, Any], bridged: dict[str, Any]) -> None:
    differ = {}
    for name, expected in direct["answers"].items():
        got = bridged["answers"].get(name)
        if name.startswith("CKM_") and " " not in name:
            # Our own engine may add what needs no private key, and the core signatures of many
            # messages; nothing that the backend does is missing.
            added = got[2] & ~expected[2] & ~MESSAGES
            assert got[:2] == expected[:2] and not expected[2] & ~got[2], name
            assert not added & ~(ck.CKF_DIGEST | ck.CKF_VERIFY | ck.CKF_VERIFY_RECOVER | ck.CKF_ENCRYPT), name
        elif KNOWN_TO_DIFFER.get(name) == (expected, got):
            continue
        elif with_one_name(expected) != got:
            differ[name] = (expected, got)
    assert not differ
    assert set(bridged["answers"]) == set(direct["answers"])
    assert len(bridged["crossed"]) > 40 and all(good is True for good in bridged["crossed"].values())
