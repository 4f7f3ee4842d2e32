"""SP 800-108's further keys through the bridge: another FerroHSM behind it makes them, NSS too."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bridge_support import PIN, SO_PIN, Backend
from ferrohsm_adapters.pkcs11_bridge.profiles import PROFILES
from ferrohsm_adapters.pkcs11_bridge.records import Records
from ferrohsm_adapters.pkcs11_bridge.signer import BridgeSigner

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Key
from ferrohsm.attribute_kinds import ulong
from ferrohsm.errors import MechanismParamInvalid
from ferrohsm.parameters import Mechanism, Sp800108
from ferrohsm.runtime import step

ABI = Path(__file__).resolve().parents[1] / "abi"

BEHIND = """\
data_dir = "{data}"

[kdf]
memory_kib = 7168
passes = 1
"""

PROGRAM = """\
import json, sys
sys.path[:0] = [{abi!r}, {tests!r}]
import ctypes
from cryptoki import Cryptoki
from ferrohsm import constants as ck
from test_several_keys import COUNTER, FEEDBACK, Several, length, pieces_of, stream

p11 = Cryptoki({library!r})
p11("C_Initialize", None)
(slot,) = p11.slots()
session = p11.open(slot)
p11("C_Login", session, ck.CKU_USER, {pin!r}, len({pin!r}))
mark, open_ = (ck.CKA_LABEL, b"derived together"), ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
base = p11.generic_secret(session, bytes(range(32)), (ck.CKA_DERIVE, True), *open_)
found = {{}}
for name, type, where in (("session", COUNTER, False), ("token", FEEDBACK, True)):
    place = (ck.CKA_TOKEN, where)
    several = Several(p11, session, base, *([mark, place, length(n), *open_] for n in (48, 16, 33)))
    found[name] = several.rv(type, several.parameter(type, *pieces_of(type)))
    made = stream(type, 5, 8 * (48 + 16 + 33))
    found[name + " values"] = several.values() == [made[:48], made[64:80], made[96:129]]
    found[name + " found"] = len(set(several.handles()) & set(p11.find(session, mark)))
    for handle in several.handles():
        p11("C_DestroyObject", session, handle)
for name, wrong in (("no length", []), ("no key", [length(16), (ck.CKA_KEY_TYPE, ck.CKK_AES), length(17)])):
    several = Several(p11, session, base, [mark, length(16)], [mark, length(16)], [mark, *wrong])
    found[name] = several.rv(COUNTER, several.parameter(COUNTER, *pieces_of(COUNTER)))
    found[name + " places"] = several.handles()
found["left"] = p11.find(session, mark)
p11("C_Finalize", None)
print(json.dumps(found))
"""


@pytest.fixture
def behind(tmp_path: Path, module_path: Path) -> Backend:
    """Our own module, in a process of its own, with a token of its own behind the bridge."""
    backend = Backend(tmp_path, str(module_path))
    inner = tmp_path / "behind.toml"
    inner.write_text(BEHIND.format(data=tmp_path / "behind"))
    pins = ["--so-pin-env", "SO", "--pin-env", "PIN"]
    command = Path(sys.executable).with_name("ferrohsm")
    backend.environment |= {"SO": SO_PIN, "PIN": PIN}
    backend.run(command, "token", "init", "--config", inner, "--label", "behind", *pins)
    backend.configure(
        f'isolation = "process"\ninit = "config={inner}"\nfree_slot = false\ntoken_label = "behind"\n',
        profile="generic",
    )
    file = tmp_path / "ferrohsm.toml"
    file.write_text("allow_init_string = true\n" + file.read_text())
    return backend


def test_another_ferrohsm_makes_them(behind: Backend, module_path: Path) -> None:
    program = PROGRAM.format(abi=str(ABI), tests=str(ABI.parent), library=str(module_path), pin=PIN.encode())
    found: dict[str, Any] = json.loads(behind.run(sys.executable, "-c", program).stdout)
    untouched = 0x1234567
    assert found == {
        "session": "CKR_OK",
        "session values": True,
        "session found": 3,
        "token": "CKR_OK",
        "token values": True,
        "token found": 3,
        "no length": "CKR_TEMPLATE_INCOMPLETE",
        "no length places": [untouched, untouched, 0],
        "no key": "CKR_TEMPLATE_INCONSISTENT",
        "no key places": [untouched, untouched, 0],
        "left": [],
    }


class Silent:
    """A backend that derives one key and does not look at the others' templates."""

    epoch = 1

    def __init__(self) -> None:
        self.destroyed: list[int] = []

    async def run(self, work: Any, undo: Any) -> Any:
        return work()

    @contextmanager
    def session(self) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(handle=1, objects=0, epoch=0)

    def call(self, name: str, session: int, *arguments: Any) -> None:
        if name == "DeriveKey":
            arguments[-1]._obj.value = 77
        else:
            assert name == "DestroyObject"
            self.destroyed.append(arguments[0])


def test_a_backend_that_does_not_know_of_further_keys() -> None:
    backend: Any = Silent()
    records = Records(backend, "serial")
    base = Key(1, {CKA_REFERENCE: records.of_handle(5).reference})
    options: Any = SimpleNamespace(profile=PROFILES["generic"], software="never")
    signer = BridgeSigner(backend, records, options, {})
    asked: Any = {ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY), ck.CKA_VALUE_LEN: ulong(16)}
    parameter = Sp800108(ck.CKM_SHA256_HMAC, (), b"")
    with pytest.raises(MechanismParamInvalid):
        step(signer.derive_several(Mechanism(ck.CKM_SP800_108_COUNTER_KDF, parameter), base, (asked, asked)))
    assert backend.destroyed == [77]
