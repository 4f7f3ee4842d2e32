"""Write the table of profiles into docs/bridge.md.

python tools/gen_bridge_docs.py          # write
python tools/gen_bridge_docs.py --check  # fail when it is stale
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ferrohsm import constants as ck  # noqa: E402

PAGE = ROOT / "docs" / "bridge.md"
PLACE = re.compile(r"(<!-- profiles: .*? -->\n).*?(<!-- end of profiles -->)", re.DOTALL)


def profiles() -> list[Any]:
    """Return the profiles of the tree, not of an installed package."""
    path = ROOT / "adapters" / "pkcs11_bridge" / "profiles.py"
    spec = importlib.util.spec_from_file_location("profiles_of_the_tree", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return list(module.PROFILES.values())


def row(profile: Any) -> str:
    """Return a section about one backend."""
    quirks = []
    if profile.init:
        quirks.append(f"`init`: `{profile.init}`")
    if profile.pin != "any text":
        quirks.append(f"PIN: {profile.pin}")
    if not profile.os_locking:
        quirks.append("calls come one by one")
    if profile.sessions:
        quirks.append(f"at most {profile.sessions} sessions")
    if profile.edwards_point != "der":
        quirks.append("`CKA_EC_POINT` of Edwards keys is raw")
    if profile.one_by_one:
        quirks.append("attributes are asked for one by one")
    if profile.silent:
        names = ", ".join(f"`{ck.name('CKA', number)}`" for number in sorted(profile.silent))
        quirks.append(f"not told: {names}")
    parts = [*quirks, profile.notes]
    sources = ", ".join(f"[{number}]({url})" for number, url in enumerate(profile.sources, 1))
    place = f"`{profile.module}`" if profile.module else ""
    verified = "yes" if profile.verified else "no"
    text = "; ".join(part.rstrip(".") for part in parts if part) + "."
    return f"| `{profile.name}` | {profile.product} | {verified} | {place} | {text} | {sources} |"


def page() -> str:
    """Return the page with the table as it should be."""
    head = (
        "| profile | backend | verified | usual place | particulars | sources |\n|---|---|---|---|---|---|\n"
    )
    table = head + "\n".join(row(profile) for profile in profiles()) + "\n"
    text, count = PLACE.subn(lambda match: match[1] + table + match[2], PAGE.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{PAGE} has no place for the table")
    return text


def main() -> int:
    """Write the page or compare it."""
    text = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.read_text(encoding="utf-8") != text:
            where = PAGE.relative_to(ROOT)
            print(f"{where} is stale: run python tools/gen_bridge_docs.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
