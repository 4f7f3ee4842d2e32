"""After a logout, an object's end and C_Finalize no key is left in the process, used by kernels or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench import Bench

PROGRAM = """
import ctypes, sys
sys.path[:0] = {paths!r}
from cryptoki import Attribute, Cryptoki, mechanism, template
from ferrohsm import constants as ck

p11 = Cryptoki({library!r})


def found(backwards):
    # How often a key stands in the memory of this process; it is given backwards, so as not to find itself.
    count, last = 0, backwards[:1]
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps.read().splitlines():
            area, mode = line.split()[:2]
            if mode[0] != "r" or "[v" in line:
                continue
            start, end = (int(x, 16) for x in area.split("-"))
            data = bytearray(end - start)
            memory.seek(start)
            try:
                memory.readinto(data)
            except OSError:
                continue
            at = data.find(backwards[-1:])
            while at >= 0:
                if all(data[at + i] == backwards[15 - i] for i in range(16) if at + i < len(data)):
                    count += 1
                at = data.find(backwards[-1:], at + 1)
            data[:] = bytes(len(data))
    return count


def made(session, on_token):
    pairs = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True), (ck.CKA_PRIVATE, True))
    pairs += ((ck.CKA_TOKEN, on_token),)
    key = p11.aes(session, *pairs, length=16)
    memory = (ctypes.c_ubyte * 16)()
    place = (Attribute * 1)(Attribute(ck.CKA_VALUE, ctypes.addressof(memory), 16))
    p11("C_GetAttributeValue", session, key, place, 1)
    backwards = bytes(reversed(memory))
    ctypes.memset(memory, 0, 16)
    return key, backwards


def use(session, key):
    how = mechanism(ck.CKM_AES_CBC, bytes(16))
    for _ in range(3):
        p11.transform("Encrypt", session, how, key, bytes(16))


p11("C_Initialize", None)
session, other = p11.open({slot}), p11.open({slot})
p11.login(session)
key, backwards = made(session, {on_token})
use(session, key)
use(other, key)
p11("C_EncryptInit", other, mechanism(ck.CKM_AES_CBC, bytes(16)), key)
assert found(backwards) > 0, "the search finds nothing"
{end}
left = found(backwards)
assert left == 0, f"{{left}} copies are left"
"""
ENDS = {
    "logout": 'p11("C_Logout", session)',
    "destroyed": 'p11("C_DestroyObject", session, key)',
    "closed": 'p11("C_CloseAllSessions", {slot})',
    "finalized": 'p11("C_Finalize", None)',
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/mem")
@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
@pytest.mark.parametrize("end", ENDS)
def test_no_key_is_left(bench: Bench, module_path: Path, end: str, on_token: bool) -> None:
    text = PROGRAM.format(
        paths=[str(Path(__file__).parent)],
        library=str(module_path),
        slot=bench.slot,
        on_token=on_token,
        end=ENDS[end].format(slot=bench.slot),
    )
    command, where = [sys.executable, "-c", text], bench.log.parent
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=where)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
