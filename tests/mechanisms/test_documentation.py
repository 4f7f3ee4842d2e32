"""The page about mechanisms lists what the table has, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

from ferrohsm import constants as ck
from ferrohsm.mechanisms import HASHES, ROWS

# The page says "and the same with DES3" of these.
WITH_TRIPLE = [
    f"CKM_DES_{name}"
    for name in ("ECB", "CBC", "CBC_PAD", "MAC", "MAC_GENERAL", "ECB_ENCRYPT_DATA", "CBC_ENCRYPT_DATA")
]

PAGE = Path(__file__).parents[2] / "docs" / "mechanisms.md"


def test_the_page_lists_the_table() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Where")[0]
    listed = {getattr(ck, name) for name in re.findall(r"\bCKM_\w+", table)}
    listed |= {getattr(ck, name.replace("DES_", "DES3_")) for name in WITH_TRIPLE}
    for name in HASHES.keys() - {"md5"}:
        stem = "SHA_1" if name == "sha1" else name.upper()
        listed |= {getattr(ck, f"CKM_{stem}{suffix}") for suffix in ("_HMAC", "_HMAC_GENERAL", "_KEY_GEN")}
        derivation = "_KEY_DERIVE" if name.startswith("blake2b") else "_KEY_DERIVATION"
        listed.add(getattr(ck, f"CKM_{name.upper()}{derivation}"))
    assert listed == {type for type, row in ROWS.items() if row.family != "vendor"}
