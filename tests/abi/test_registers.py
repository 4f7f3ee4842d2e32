"""Vector registers keep nothing that a call worked on: who saves them puts it onto the caller's stack."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from cryptoki import mechanism, template

from ferrohsm import constants as ck

WIDE = 64  # bytes of a register


@pytest.fixture(scope="module")
def registers_after(
    tmp_path_factory: pytest.TempPathFactory, module_path: Path
) -> Callable[..., list[bytes]]:
    """Return a function that calls one of the module's, and returns what the registers hold then."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("needs a C compiler for Linux on x86-64")
    library = tmp_path_factory.mktemp("registers") / "registers.so"
    source = Path(__file__).with_name("registers.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    call, module = ctypes.CDLL(str(library)).call, ctypes.CDLL(str(module_path))
    call.restype = ctypes.c_ulong
    call.argtypes = (ctypes.c_void_p,) * 3

    def after(name: str, *arguments: Any) -> list[bytes]:
        room = (ctypes.c_ubyte * (32 * WIDE))()
        plain = (one if isinstance(one, int) else ctypes.addressof(one) for one in arguments)
        given = (ctypes.c_ulong * 5)(*plain)
        function = ctypes.cast(getattr(module, name), ctypes.c_void_p)
        assert call(function, given, room) == ck.CKR_OK
        return [bytes(room[at : at + WIDE]) for at in range(0, len(room), WIDE)]

    return after


def left(registers: list[bytes], secret: bytes) -> list[int]:
    """Return which registers hold the secret, or of those that only ciphers use anything at all."""
    used = {n for n in (*range(8, 16), *range(25, 32)) if any(registers[n])}
    return sorted(used | {n for n, held in enumerate(registers) if secret in held})


@pytest.mark.skipif(bool(os.environ.get("FERROHSM_SANITIZE")), reason="a sanitizer works after the call too")
@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_no_register_holds_what_a_call_worked_on(
    bench: Bench, registers_after: Callable[..., list[bytes]], on_token: bool
) -> None:
    p11, session = bench.p11, bench.user()
    pairs = ((ck.CKA_VALUE_LEN, 16), (ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
    wanted = template(*pairs, (ck.CKA_PRIVATE, True), (ck.CKA_TOKEN, on_token))
    handle, length, data = ctypes.c_ulong(0), ctypes.c_ulong(64), (ctypes.c_ubyte * 64)(*os.urandom(64))
    value, out = (ctypes.c_ubyte * 16)(), (ctypes.c_ubyte * 64)()
    place = template((ck.CKA_VALUE, None))
    place[0].pValue, place[0].ulValueLen = ctypes.addressof(value), len(value)
    # The first ones of their kind go through the core, the later ones do not.
    for _ in range(4):
        made = registers_after(
            "C_GenerateKey", session, mechanism(ck.CKM_AES_KEY_GEN), wanted, len(wanted), handle
        )
        read = registers_after("C_GetAttributeValue", session, handle.value, place, 1)
        p11("C_EncryptInit", session, mechanism(ck.CKM_AES_CBC, bytes(16)), handle.value)
        used = registers_after("C_Encrypt", session, data, len(data), out, length)
        key, block = bytes(value), bytes(data[48:])
        assert (left(made, key), left(read, key), left(used, key), left(used, block)) == ([], [], [], [])
