"""A handle for which there is no memory: all that was made with it is gone, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench import Bench

PROGRAM = """
import ctypes, sys
sys.path[:0] = {paths!r}
from ctypes import c_ulong
from cryptoki import Cryptoki, mechanism, template
import mechanism_parameters as parameters
from ferrohsm import constants as ck

p11, fail = Cryptoki({library!r}), ctypes.CDLL({shim!r}).ferro_fail_calloc
p11("C_Initialize", None)
session = p11.open({slot})
p11.login(session)
names = [(ck.CKA_LABEL, b"few")]
public = [(ck.CKA_MODULUS_BITS, 1024), *names]
master = p11.generic_secret(session, bytes(48), (ck.CKA_DERIVE, True))
made, out, ivs = parameters.key_material((160, 128, 96), bytes(32), bytes(32))
kem = [(ck.CKA_PARAMETER_SET, ck.CKP_ML_KEM_768), (ck.CKA_ENCAPSULATE, True)]
kem = p11.key_pair(session, ck.CKM_ML_KEM_KEY_PAIR_GEN, kem, [])[0]
first, second, room = c_ulong(0), c_ulong(0), (ctypes.c_ubyte * 2000)()
aes = template((ck.CKA_VALUE_LEN, 16), *names)
few = template(*names)
CALLS = {{
    "C_GenerateKey": (1, (mechanism(ck.CKM_AES_KEY_GEN), aes, 2, first)),
    "C_GenerateKeyPair": (2, (
        mechanism(ck.CKM_RSA_PKCS_KEY_PAIR_GEN), template(*public), 2, few, 1, first, second
    )),
    "C_EncapsulateKey": (1, (mechanism(ck.CKM_ML_KEM), kem, few, 1, room, c_ulong(2000), first)),
    "C_DeriveKey": (4, (mechanism(ck.CKM_TLS12_KEY_AND_MAC_DERIVE, made), master, few, 1, None)),
}}
for name, (most, arguments) in CALLS.items():
    for number in range(1, most + 1):
        fail(number)
        rv = p11.rv(name, session, *arguments)
        assert (rv, fail(0)) == ("CKR_HOST_MEMORY", 0), (name, number, rv)
        assert (first.value, second.value) == (0, 0), name
        assert not any(bytes(out)[:32]) and not any(ivs[0].raw + ivs[1].raw) and not any(room), name
        left = p11.find(session, *names)
        assert left == [], (name, number, left)
    p11(name, session, *arguments)
    for handle in p11.find(session, *names):
        p11("C_DestroyObject", session, handle)
    first.value = second.value = 0
    ctypes.memset(room, 0, 2000)
assert out.client_key and out.server_mac
p11("C_Finalize", None)
"""


@pytest.mark.skipif(
    bool(os.environ.get("FERROHSM_SANITIZE")), reason="a sanitizer has an allocator of its own"
)
def test_a_handle_that_finds_no_memory(bench: Bench, module_path: Path, tmp_path: Path) -> None:
    compiler, shim = shutil.which(os.environ.get("CC", "cc")), tmp_path / "failing_calloc.so"
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs a C compiler and glibc")
    source = str(Path(__file__).with_name("failing_calloc.c"))
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", source, "-o", str(shim), "-ldl"], check=True)
    here = Path(__file__).parent
    text = PROGRAM.format(
        paths=[str(here), str(here.parent)], library=str(module_path), shim=str(shim), slot=bench.slot
    )
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, capture_output=True, timeout=120, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
