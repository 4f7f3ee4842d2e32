"""Read the return values that the specification lists for each function: tools/facts/return-values-3.2.json.

    python tools/read_return_values.py SPECIFICATION

SPECIFICATION is the folder of the standard's text (`working/doc/spec` of oasis-tcs/pkcs11).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

FACTS = Path(__file__).parent / "facts"
TARGET = FACTS / "return-values-3.2.json"


def functions() -> list[str]:
    """Return the functions of the standard in their order."""
    facts = json.loads((FACTS / "abi-3.2.json").read_text())
    return [row["name"] for row in facts["functions"]]


def listed(text: str) -> dict[str, list[str]]:
    """Return the return values that one file of the text lists, by function."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        name = section.split()[0].strip("*\\")
        match = re.search(r"Return [Vv]alues?:(.*?)(?:\n\n|\Z)", section, re.DOTALL)
        if name.startswith("C_") and match:
            found[name] = sorted(set(re.findall(r"CKR_[A-Z0-9_]+", match[1])))
    return found


def main() -> int:
    """Write the file; say which functions have no list."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(sys.argv[1]).glob("*.md")):
        found.update(listed(path.read_text()))
    names = functions()
    table = {name: found.get(name, []) for name in names}
    TARGET.write_text(json.dumps(table, indent=1) + "\n")
    print("without a list:", *(name for name, values in table.items() if not values))
    print("pairs:", sum(map(len, table.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
