"""After a logout, an object's end and C_Finalize no key is left in the process, used by kernels or not."""

from __future__ import annotations

import os
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
            begin = bytes((backwards[15], backwards[14], backwards[13]))
            mine = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data)) - start
            at = data.find(begin)
            while 0 <= at <= len(data) - 16:
                # What was read may stand in the area that is being read.
                known = mine <= at < mine + len(data)
                count += not known and all(data[at + i] == backwards[15 - i] for i in range(16))
                at = data.find(begin, at + 1)
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


def brought_in(session, on_token):
    # Larger than what is soon overwritten by chance; the allocator writes into its beginning, so its end is
    # looked for. Nothing may be left of one that is refused either.
    size = 5000
    memory = (ctypes.c_ubyte * size)()
    pairs = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET))
    pairs += ((ck.CKA_PRIVATE, True), (ck.CKA_TOKEN, on_token), (ck.CKA_SIGN, True))

    def tried(session, *more):
        p11("C_GenerateRandom", session, memory, size)
        place, handle = template(*more, (ck.CKA_VALUE, None)), ctypes.c_ulong(0)
        place[len(more)].pValue, place[len(more)].ulValueLen = ctypes.addressof(memory), size
        rv = p11.rv("C_CreateObject", session, place, len(more) + 1, handle)
        backwards = bytes(reversed(memory[size - 16 :]))
        ctypes.memset(memory, 0, size)
        return rv, handle.value, backwards

    rv, _, backwards = tried(session, *pairs, (ck.CKA_MODULUS_BITS, 5))
    assert (rv, found(backwards)) == ("CKR_TEMPLATE_INCONSISTENT", 0)
    if on_token:
        rv, _, backwards = tried(p11.open({slot}, read_write=False), *pairs)
        assert (rv, found(backwards)) == ("CKR_SESSION_READ_ONLY", 0)
    rv, key, backwards = tried(session, *pairs)
    assert rv == "CKR_OK"
    p11("C_GenerateRandom", session, memory, size)
    place = template((ck.CKA_VALUE, None))
    place[0].pValue, place[0].ulValueLen = ctypes.addressof(memory), size
    rv = p11.rv("C_SetAttributeValue", session, key, place, 1)
    refused = bytes(reversed(memory[size - 16 :]))
    ctypes.memset(memory, 0, size)
    assert (rv, found(refused)) == ("CKR_ATTRIBUTE_READ_ONLY", 0)
    return key, backwards


def draft(session, on_token):
    # The third one of its kind is kept by the kernel, and nobody looks at it.
    pairs = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET))
    pairs += ((ck.CKA_PRIVATE, True),)
    memory = (ctypes.c_ubyte * 16)()
    for _ in range(3):
        p11("C_GenerateRandom", session, memory, 16)
        place, handle = template(*pairs, (ck.CKA_VALUE, None)), ctypes.c_ulong(0)
        place[3].pValue, place[3].ulValueLen = ctypes.addressof(memory), 16
        p11("C_CreateObject", session, place, 4, handle)
    backwards = bytes(reversed(memory))
    ctypes.memset(memory, 0, 16)
    return handle.value, backwards


def use(session, key):
    how, function = mechanism(*HOW), FUNCTION
    for _ in range(3):
        p11.transform(function, session, how, key, bytes(16))


p11("C_Initialize", None)
session, other = p11.open({slot}), p11.open({slot})
p11.login(session)
HOW, FUNCTION = {use}
key, backwards = {way}(session, {on_token})
if HOW is not None:
    use(session, key)
    use(other, key)
    p11(f"C_{{FUNCTION}}Init", other, mechanism(*HOW), key)
assert found(backwards) > 0, "the search finds nothing"
{end}
left = found(backwards)
assert left == 0, f"{{left}} copies are left"
"""
PASSWORD = """
import mechanism_parameters as parameters
p11("C_Initialize", None)
session = p11.open({slot})
p11.login(session)
key = p11.generic_secret(session, bytes(32))
size = 5000
memory, handle = (ctypes.c_ubyte * size)(), ctypes.c_ulong(0)
new = template((ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), (ck.CKA_VALUE_LEN, 32))
bad = template((ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), (ck.CKA_MODULUS_BITS, 5))
for name, arguments, expected in (
    ("C_GenerateKey", (new, 2, handle), "CKR_OK"),
    ("C_GenerateKey", (bad, 2, handle), "CKR_TEMPLATE_INCONSISTENT"),
    ("C_GenerateKeyPair", (new, 2, new, 2, handle, handle), "CKR_MECHANISM_INVALID"),
    ("C_DeriveKey", (key, new, 2, handle), "CKR_MECHANISM_INVALID"),
    ("C_SignInit", (key,), "CKR_MECHANISM_INVALID"),
    ("C_WrapKey", (key, key, None, handle), "CKR_MECHANISM_INVALID"),
):
    with open("/dev/urandom", "rb", buffering=0) as source:
        source.readinto(memory)
    backwards = bytes(reversed(memory[size - 16 :]))
    salt, prf = b"salt", ck.CKP_PKCS5_PBKD2_HMAC_SHA256
    parameter = parameters.structure(ck.CKZ_SALT_SPECIFIED, salt, 4, 2, prf, None, 0, memory, size)
    how = mechanism(ck.CKM_PKCS5_PBKD2, parameter)
    assert found(backwards) > 0, "the search finds nothing"
    rv = p11.rv(name, session, how, *arguments)
    ctypes.memset(memory, 0, size)
    assert (rv, found(backwards)) == (expected, 0), (name, rv, found(backwards))
"""
ENDS = {
    "logout": 'p11("C_Logout", session)',
    "destroyed": 'p11("C_DestroyObject", session, key)',
    "closed": 'p11("C_CloseAllSessions", {slot})',
    "finalized": 'p11("C_Finalize", None)',
}


USES = {
    "made": '(ck.CKM_AES_CBC, bytes(16)), "Encrypt"',
    "brought_in": '(ck.CKM_SHA256_HMAC, None), "Sign"',
    "draft": "None, None",
}


@pytest.mark.skipif(
    bool(os.environ.get("FERROHSM_SANITIZE")), reason="a sanitizer keeps what was freed, and maps terabytes"
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/mem")
@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
@pytest.mark.parametrize("way", USES)
@pytest.mark.parametrize("end", ENDS)
def test_no_key_is_left(bench: Bench, module_path: Path, end: str, way: str, on_token: bool) -> None:
    if way == "draft" and on_token:
        pytest.skip("drafts are session objects")
    text = PROGRAM.format(
        paths=[str(Path(__file__).parent)],
        library=str(module_path),
        slot=bench.slot,
        on_token=on_token,
        way=way,
        use=USES[way],
        end=ENDS[end].format(slot=bench.slot),
    )
    command, where = [sys.executable, "-c", text], bench.log.parent
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=where)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@pytest.mark.skipif(
    bool(os.environ.get("FERROHSM_SANITIZE")), reason="a sanitizer keeps what was freed, and maps terabytes"
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/mem")
def test_no_password_is_left(bench: Bench, module_path: Path) -> None:
    """Of a mechanism's parameter, whatever function it was given to and whatever that said."""
    here = Path(__file__).parent
    values = {"paths": [str(here), str(here.parent)], "library": str(module_path), "slot": bench.slot}
    begin = PROGRAM.partition("def made(")[0]
    text = begin.format(**values) + PASSWORD.format(slot=bench.slot)
    command, where = [sys.executable, "-c", text], bench.log.parent
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=where)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
