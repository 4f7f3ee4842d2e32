"""pkcs11.h stands alone in C99, C17 and C++, without a warning."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FACTS = json.loads((ROOT / "tools" / "facts" / "abi-3.2.json").read_text())
VENDORS = json.loads((ROOT / "tools" / "facts" / "vendors.json").read_text())
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


@pytest.mark.parametrize(
    ("compiler", "standard", "suffix"),
    [("cc", "c99", "c"), ("cc", "c17", "c"), ("c++", "c++98", "cc"), ("c++", "c++17", "cc")],
)
def test_compiles_without_a_warning(
    tmp_path: Path, need: Callable[..., str], compiler: str, standard: str, suffix: str
) -> None:
    need(compiler, package="g++")
    source = tmp_path / f"program.{suffix}"
    # Twice, and after a macro that other headers define too.
    source.write_text('#include "pkcs11.h"\n#include "pkcs11.h"\nint main(void) { return (int)CKR_OK; }\n')
    flags = [f"-std={standard}", *WARNINGS, f"-I{ROOT / 'include'}"]
    result = subprocess.run(
        [compiler, *flags, str(source), "-o", str(tmp_path / "program")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_wrong_signature_does_not_compile(tmp_path: Path) -> None:
    """The header is what keeps an implementation's signatures right."""
    source = tmp_path / "wrong.c"
    source.write_text(
        '#include "pkcs11.h"\nCK_RV C_Logout(CK_SLOT_ID_PTR slot) { (void)slot; return CKR_OK; }\n'
    )
    command = ["cc", "-c", f"-I{ROOT / 'include'}", str(source), "-o", str(tmp_path / "wrong.o")]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_windows_packing_is_asked_for() -> None:
    """Structures are packed to one byte there and only there."""
    text = (ROOT / "include" / "pkcs11.h").read_text()
    assert re.search(r"#if defined\(_WIN32\)\n#pragma pack\(push, 1\)\n#endif", text)
    assert re.search(r"#if defined\(_WIN32\)\n#pragma pack\(pop\)\n#endif", text)


def test_it_has_every_fact() -> None:
    text = (ROOT / "include" / "pkcs11.h").read_text()
    defined = set(re.findall(r"^#define (\w+) ", text, re.MULTILINE))
    assert {name for group in FACTS["constants"].values() for name in group} <= defined
    prototypes = re.findall(r"^extern CK_DECLARE_FUNCTION\(CK_RV, (\w+)\)", text, re.MULTILINE)
    assert prototypes == [function["name"] for function in FACTS["functions"]]
    assert set(FACTS["structs"]) <= set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE))


def test_what_a_vendor_defined_is_as_he_did(compile_and_run: Callable[..., str]) -> None:
    """Kryoptic's number, and its structure as its compiler lays it out (``repr(C)``)."""
    names = [member["name"] for member in VENDORS["Kryoptic"]["structs"]["CK_KRYOPTIC_SSHKDF_PARAMS"]]
    offsets = ", ".join(f"(unsigned long)offsetof(CK_KRYOPTIC_SSHKDF_PARAMS, {name})" for name in names)
    source = (
        '#include <stddef.h>\n#include <stdio.h>\n#include "pkcs11.h"\nint main(void) {\n'
        '    printf("%lx %lu", CKM_KRYOPTIC_SSHKDF_DERIVE - CKM_VENDOR_DEFINED,\n'
        "        (unsigned long)sizeof(CK_KRYOPTIC_SSHKDF_PARAMS));\n"
        f'    printf("{" %lu" * len(names)}", {offsets});\n    return 0;\n}}\n'
    )
    word = struct.calcsize("P")
    printed = compile_and_run(source, f"-I{ROOT / 'include'}").split()
    assert int(printed[0], 16) == 485259 + 1
    assert [int(text) for text in printed[1:]] == [6 * word, *range(0, 6 * word, word)]
