"""A backend that takes its time holds up its own caller, and nobody else."""

from __future__ import annotations

import sys
from pathlib import Path

from bridge_support import PIN, Backend

# A key pair of RSA is made in the backend while another thread of the same process uses another slot, through
# Python in each call.
SCRIPT = """\
import sys, threading, time
sys.path[:0] = {path!r}
from cryptoki import Cryptoki, TokenInfo
from ferrohsm import constants as ck
p11 = Cryptoki({module!r})
p11("C_Initialize", None)

def label(slot):
    info = TokenInfo()
    return bytes(info.label).decode().rstrip() if p11.rv("C_GetTokenInfo", slot, info) == "CKR_OK" else ""

alpha = next(slot for slot in p11.slots() if label(slot) == "alpha")
own = next(slot for slot in p11.slots() if slot != alpha)
session = p11.open(alpha)
p11.login(session, pin=b"{pin}")
p11("C_InitToken", own, b"87654321", 8, b"own".ljust(32))
other = p11.open(own)
spent = []

def make():
    begun = time.monotonic()
    public = [(ck.CKA_MODULUS_BITS, 4096), (ck.CKA_PUBLIC_EXPONENT, b"\\1\\0\\1")]
    p11.key_pair(session, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, public, [(ck.CKA_PRIVATE, True)])
    spent.append(time.monotonic() - begun)

thread = threading.Thread(target=make)
thread.start()
gaps, last = [], time.monotonic()
while thread.is_alive():
    handle = p11.data_object(other, (ck.CKA_LABEL, b"x" * (len(gaps) % 50)))
    p11("C_GetAttributeValue", other, handle, None, 0)
    p11("C_DestroyObject", other, handle)
    gaps.append(time.monotonic() - last)
    last = time.monotonic()
thread.join()
p11("C_Finalize", None)
print(spent[0], max(gaps[:-1] or [0.0]), len(gaps))
"""


def test_a_slow_call_holds_up_nobody_else(backend: Backend, module_path: Path) -> None:
    backend.configure('free_slot = false\n[slots.own]\nadapter = "software"')
    path = [str(Path(__file__).parent.parent / "abi")]
    script = SCRIPT.format(path=path, module=str(module_path), pin=PIN)
    for _ in range(5):  # chance may find the primes at once
        spent, longest, calls = (
            float(word) for word in backend.run(sys.executable, "-c", script).stdout.split()
        )
        if spent > 0.5:
            break
    assert spent > 0.5, "no key took long enough to tell"
    assert longest < spent / 2 and calls > 20, (spent, longest, calls)
