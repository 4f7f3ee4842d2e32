"""Where known answers come from and how their files are read.

`cryptography_vectors` (PyPI) carries NIST's CAVP responses, the RFCs' and PKCS#1's examples. Wycheproof is
read from a checkout of https://github.com/C2SP/wycheproof that ``WYCHEPROOF`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def root() -> Path:
    """Return the folder of the vectors; without them a developer's tests are skipped and CI fails."""
    try:
        import cryptography_vectors
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("the package cryptography_vectors is not installed", allow_module_level=True)
    return Path(cryptography_vectors.__file__).parent


def records(path: Path, first: str) -> Iterator[dict[str, str]]:
    """Yield the records of a file in NIST's style; `first` is the field that begins one.

    Fields and bracketed headers before it hold for all records that follow, as the files mean it. A bare
    FAIL is the field ``Result``; ``section`` is the last header that is no assignment.
    """
    common: dict[str, str] = {"section": ""}
    record: dict[str, str] | None = None
    with open(path, encoding="utf-8", errors="replace") as file:
        for raw in file:
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("["):
                if record is not None:
                    yield record
                    record = None
                for part in line.strip("[]").split(","):
                    name, mark, value = part.partition("=")
                    if mark:
                        common[name.strip()] = value.strip()
                    else:
                        common["section"] = line.strip("[]")
                continue
            if line == "FAIL":
                line = "Result = Fail"
            name, mark, value = line.partition("=")
            name, value = name.strip(), value.strip()
            if not mark:
                continue
            if name == first:
                if record is not None:
                    yield record
                record = {**common, name: value}
            elif record is not None and name in record:
                # A field again without a new beginning: it is common to what follows.
                yield record
                record = None
                common[name] = value
            elif record is not None:
                record[name] = value
            else:
                common[name] = value
    if record is not None:
        yield record


def pkcs1_examples(path: Path) -> Iterator[tuple[dict[str, int], dict[str, bytes]]]:
    """Yield key and example of the files that come with PKCS#1.

    They have a name ("# Prime 1:") on one line, then lines of hexadecimal.
    """
    key: dict[str, int] = {}
    example: dict[str, bytes] = {}
    for name, value in _named_values(path):
        if name == "modulus":
            if example:
                yield key, example
            # The public part comes first and again with the private one.
            key, example = {"n": int.from_bytes(value, "big")}, {}
        elif name in _KEY_PARTS or name == "exponent":
            part = _KEY_PARTS.get(name) or ("d" if "e" in key else "e")
            key[part] = int.from_bytes(value, "big")
        else:
            if name.startswith("message") and example:
                yield key, example
                example = {}
            example[name.split()[0]] = value
    yield key, example


def _named_values(path: Path) -> Iterator[tuple[str, bytes]]:
    name, digits = "", ""
    with open(path, encoding="utf-8", errors="replace") as file:
        for raw in [*file, "# end:"]:
            line = raw.strip().lower()
            if line.startswith("#"):
                if name and digits:
                    yield name, bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, "0"))
                    name = ""
                if line.endswith(":"):
                    name, digits = line.strip("# :"), ""
            elif name:
                digits += "".join(line.split())


_KEY_PARTS = {
    "public exponent": "e",
    "prime 1": "p",
    "prime 2": "q",
    "prime exponent 1": "dmp1",
    "prime exponent 2": "dmq1",
    "coefficient": "iqmp",
}
