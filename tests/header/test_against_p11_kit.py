"""pkcs11.h beside p11-kit's: the same program is compiled with each, and what they print is compared.

Constants that both define, sizes of structures and offsets of their members. p11-kit's header is that of
2.40 with parts of 3.x; where it is known to be wrong or to go its own way, a list below has the difference.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FACTS = json.loads((ROOT / "tools" / "facts" / "abi-3.2.json").read_text())
OTHER = Path("/usr/include/p11-kit-1/p11-kit/pkcs11.h")

# What p11-kit 0.24 has differently. OASIS's values are ours.
KNOWN_CONSTANTS = {
    # Its version is that of the header it started from.
    "CRYPTOKI_VERSION_MAJOR",
    "CRYPTOKI_VERSION_MINOR",
    # Five results with numbers of their own.
    "CKR_EXCEEDED_MAX_ITERATIONS",
    "CKR_FIPS_SELF_TEST_FAILED",
    "CKR_LIBRARY_LOAD_FAILED",
    "CKR_PIN_TOO_WEAK",
    "CKR_PUBLIC_KEY_INVALID",
}
# NSS's vendor attributes have names that 3.2 gave to attributes of CKO_TRUST.
KNOWN_PREFIXES = ("CKA_TRUST_",)

# Members that p11-kit 0.25 calls otherwise; 0.24 does not have the structure.
KNOWN_MEMBERS = {("CK_SALSA20_CHACHA20_POLY1305_PARAMS", "ulNonceLen"): "ulNonceBits"}

SKIPPED_STRUCTURES = {
    "CK_FUNCTION_LIST",
    "CK_FUNCTION_LIST_3_0",
    "CK_FUNCTION_LIST_3_2",
    # Of 3.0; p11-kit 0.25 has a member less than OASIS.
    "CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS",
}


@pytest.fixture(scope="module", autouse=True)
def _other_header(need: Callable[..., str]) -> None:
    need(str(OTHER), package="libp11-kit-dev")


def defined(text: str) -> set[str]:
    """Return the names that a header defines as macros with a value."""
    return set(re.findall(r"^#define\s+((?:CK|CRYPTOKI)\w*)[ \t]+\S", text, re.MULTILINE))


def program(
    include: str,
    constants: list[str],
    members: dict[str, list[str]],
    called: dict[tuple[str, str], str] | None = None,
) -> str:
    """Return a program that prints the constants, the sizes and the offsets.

    `called` has the names of members there, by structure and our name, where they are others.
    """
    called = called or {}
    lines = ["#include <stddef.h>", "#include <stdio.h>", f'#include "{include}"', "int main(void) {"]
    lines.extend(f'    printf("{name} %lx\\n", (unsigned long)({name}));' for name in constants)
    for structure, names in members.items():
        lines.append(f'    printf("{structure} %lu\\n", (unsigned long)sizeof({structure}));')
        lines.extend(
            f'    printf("{structure}.{name} %lu\\n", (unsigned long)offsetof({structure}, {there}));'
            for name in names
            for there in (called.get((structure, name), name),)
        )
    lines.append("    return 0;\n}")
    return "\n".join(lines)


def values(output: str) -> dict[str, str]:
    return dict(line.split(" ") for line in output.splitlines())


def shared_constants() -> list[str]:
    ours = defined((ROOT / "include" / "pkcs11.h").read_text())
    theirs = defined(OTHER.read_text())
    numbers = {name for group in FACTS["constants"].values() for name in group}
    return sorted(ours & theirs & numbers)


def structure_members(text: str) -> dict[str, list[str]]:
    """Return the structures of ours that p11-kit has as well, with their members in our order."""
    return {
        name: [member["name"] for member in members]
        for name, members in FACTS["structs"].items()
        if name not in SKIPPED_STRUCTURES and re.search(rf"\b{name}\b", text)
    }


def compare(
    compile_and_run: Callable[..., str], constants: list[str], members: dict[str, list[str]]
) -> dict[str, str]:
    """Return what differs, by name."""
    ours = values(compile_and_run(program("pkcs11.h", constants, members), f"-I{ROOT / 'include'}"))
    there = program(str(OTHER), constants, members, KNOWN_MEMBERS)
    theirs = values(compile_and_run(there, "-DCRYPTOKI_COMPAT=1"))
    assert ours.keys() == theirs.keys()
    return {name: f"{ours[name]} here, {theirs[name]} there" for name in ours if ours[name] != theirs[name]}


def test_shared_constants(compile_and_run: Callable[..., str]) -> None:
    constants = shared_constants()
    assert len(constants) > 500
    found = compare(compile_and_run, constants, {})
    unknown = {
        n: v for n, v in found.items() if n not in KNOWN_CONSTANTS and not n.startswith(KNOWN_PREFIXES)
    }
    assert not unknown
    # A known difference that has gone is to be taken off the list; later versions have mended some.
    if re.search(r"^#define\s+CRYPTOKI_VERSION_MAJOR\s+2$", OTHER.read_text(), re.MULTILINE):
        assert set(found) >= KNOWN_CONSTANTS & set(constants)


def test_sizes_and_offsets(compile_and_run: Callable[..., str]) -> None:
    members = structure_members(OTHER.read_text())
    assert {
        "CK_INFO",
        "CK_TOKEN_INFO",
        "CK_ATTRIBUTE",
        "CK_MECHANISM",
        "CK_C_INITIALIZE_ARGS",
    } <= members.keys()
    assert not compare(compile_and_run, [], members)


@pytest.mark.parametrize(
    ("structure", "version", "count"),
    [
        ("CK_FUNCTION_LIST", "2.40", 68),
        ("CK_FUNCTION_LIST_3_0", "3.0", 92),
        ("CK_FUNCTION_LIST_3_2", "3.2", 104),
    ],
)
def test_function_lists(
    compile_and_run: Callable[..., str], structure: str, version: str, count: int
) -> None:
    versions = ["2.40", "3.0", "3.2"]
    included = versions[: versions.index(version) + 1]
    names = [f["name"] for f in FACTS["functions"] if f["since"] in included]
    assert len(names) == count
    ours = values(compile_and_run(program("pkcs11.h", [], {structure: names}), f"-I{ROOT / 'include'}"))
    assert int(ours[structure]) == 8 * (count + 1)
    if version == "2.40":  # p11-kit 0.24 has no later list
        assert not compare(compile_and_run, [], {structure: names})


def test_both_headers_serve_two_units_of_one_program(tmp_path: Path) -> None:
    """A program may be built of parts that use the one and the other: the prototypes fit together."""
    (tmp_path / "one.c").write_text(
        '#include "pkcs11.h"\n'
        "CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) { *list = 0; return CKR_OK; }\n"
    )
    (tmp_path / "two.c").write_text(
        f'#define CRYPTOKI_COMPAT 1\n#include "{OTHER}"\n'
        "int main(void) { CK_FUNCTION_LIST *list; return (int)C_GetFunctionList(&list); }\n"
    )
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}"]
    subprocess.run(["cc", *flags, "one.c", "two.c", "-o", "program"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "program")], check=True)
