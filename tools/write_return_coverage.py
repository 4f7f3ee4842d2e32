"""Write down which test provokes which return value: tests/abi/return_values.json.

    FERROHSM_RECORD_RETURNS=recorded.json pytest tests/abi
    python tools/write_return_coverage.py recorded.json

Only what the specification lists (tools/facts/return-values-3.2.json) is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTED = ROOT / "tools" / "facts" / "return-values-3.2.json"
TARGET = ROOT / "tests" / "abi" / "return_values.json"

# Tests that were written for it first; those whose answers depend on the moment last.
FIRST, LAST = (
    ("test_return_values.py", "test_arguments.py"),
    ("test_fault", "test_dispatch", "test_isolation"),
)


def chosen(tests: list[str]) -> str:
    """Return the test that the table names."""
    return min(tests, key=lambda name: (name.startswith(LAST), not name.startswith(FIRST), tests.index(name)))


def main() -> int:
    """Write the file; say how much of the list it covers."""
    listed = json.loads(LISTED.read_text())
    recorded = json.loads(Path(sys.argv[1]).read_text())
    table = {
        function: {
            value: chosen(recorded[function][value])
            for value in values
            if value in recorded.get(function, {})
        }
        for function, values in listed.items()
    }
    TARGET.write_text(json.dumps({name: found for name, found in table.items() if found}, indent=1) + "\n")
    print(sum(map(len, table.values())), "of", sum(map(len, listed.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
