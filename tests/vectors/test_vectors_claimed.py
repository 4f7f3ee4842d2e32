"""The documentation's table claims no known answer that no test runs through the C functions."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ferrohsm import constants as ck
from ferrohsm.mechanisms import ROWS

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "tools" / "facts"
PUBLISHED = "test_vectors_published.py::test_published_answers"
# Answers that are run in other places than here, by a pattern of the mechanisms.
ELSEWHERE = {
    r"CKM_HOTP": "tests/abi/test_one_time_passwords.py",
    r"CKM_SLH_DSA|CKM_HASH_SLH_DSA\w*": "tests/abi/test_postquantum.py",
    r"CKM_TLS12_MASTER_KEY_DERIVE|CKM_TLS12_KEY_AND_MAC_DERIVE": "tests/abi/test_protocol_keys.py",
    r"CKM_TLS_MAC|CKM_TLS_KDF": "tests/abi/test_protocol_keys.py",
    r"CKM_PBE_SHA1_DES3_EDE_CBC|CKM_PBA_SHA1_WITH_SHA1_HMAC": "tests/mechanisms/test_passwords.py",
    r"CKM_AES_CFB1|CKM_ARIA_ECB|CKM_CAMELLIA_CTR": "tests/mechanisms/test_lent.py",
}


def test_what_is_claimed_is_run() -> None:
    names = {ck.name("CKM", type_) for type_ in ROWS}
    published = {
        case["mechanism"]
        for path in (Path(__file__).parent / "published").glob("*.json")
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]
    }
    patterns = json.loads((FACTS / "known-answers.json").read_text(encoding="utf-8"))
    run = json.loads((FACTS / "answers-run.json").read_text(encoding="utf-8"))
    assert set(run) <= names
    claimed = {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}
    claimed |= published
    assert published == {name for name, tests in run.items() if PUBLISHED in tests}
    elsewhere = {name for name in names if any(re.fullmatch(pattern, name) for pattern in ELSEWHERE)}
    assert claimed - set(run) == elsewhere
    assert all((ROOT / place).is_file() for place in ELSEWHERE.values())
