"""The page about mechanisms lists what the table has, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

from ferrohsm import constants as ck
from ferrohsm.mechanisms import HASHES, ROWS

PAGE = Path(__file__).parents[2] / "docs" / "mechanisms.md"


def test_the_page_lists_the_table() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Where")[0]
    listed = {getattr(ck, name) for name in re.findall(r"\bCKM_\w+", table)}
    for name in HASHES:
        stem = "SHA_1" if name == "sha1" else name.upper()
        listed |= {getattr(ck, f"CKM_{stem}{suffix}") for suffix in ("_HMAC", "_HMAC_GENERAL", "_KEY_GEN")}
    assert listed == set(ROWS)
