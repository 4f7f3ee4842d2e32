"""What programs do through the module is what the command shows."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_support import POSTQUANTUM

from ferrohsm import config
from ferrohsm.core import Core
from ferrohsm.runtime import step
from tests.audit.conftest import World


@pytest.mark.clients
def test_pkcs11_tool(world: World, need: Callable[..., str]) -> None:
    tool = [need("pkcs11-tool", package="opensc"), "--module", world.library]

    def run(*arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [*tool, *arguments], env=world.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr

    run("--init-token", "--slot-index", "0", "--label", "web", "--so-pin", "12345678")
    run("--init-pin", "--login", "--login-type", "so", "--so-pin", "12345678", "--pin", "1234")
    run(
        "--login",
        "--pin",
        "1234",
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--id",
        "01",
        "--label",
        "k",
    )
    message = world.directory / "message"
    message.write_text("text")
    run("--login", "--pin", "1234", "--sign", "--mechanism", "ECDSA-SHA256", "--id", "01",
        "--input-file", str(message), "--output-file", str(world.directory / "signature"))  # fmt: skip
    run("--login", "--pin", "1234", "--delete-object", "--type", "pubkey", "--id", "01")
    run("--login", "--pin", "wrong-pin", "-O", check=False)
    run("--login", "--pin", "1234", "--keygen", "--key-type", "AES:32", "--private", "--sensitive")
    said = [(r["event"], r["result"], r["user"]) for r in world.records("--token", "web")]
    for expected in (
        ("initialize-token", "CKR_OK", "so"),
        ("login", "CKR_OK", "so"),
        ("set-user-pin", "CKR_OK", "so"),
        ("login", "CKR_OK", "user"),
        ("create", "CKR_OK", "user"),
        ("sign", "CKR_OK", "user"),
        ("destroy", "CKR_OK", "user"),
        ("logout", "CKR_OK", "user"),
        ("login", "CKR_PIN_INCORRECT", "user"),
    ):
        assert expected in said, (expected, said)
    (signed,) = world.records("--event", "sign")
    made = world.records("--object", signed["object"])
    assert [record["event"] for record in made] == ["create", "sign"]
    assert (
        signed["mechanism"] == "CKM_ECDSA_SHA256" and signed["session"] and signed["pid"] and signed["slot"]
    )
    assert world.events("--failed") == [("login", "CKR_PIN_INCORRECT")]
    assert "wrong-pin" not in json.dumps(world.records()) and "1234" not in [
        r.get("detail") for r in world.records()
    ]
    assert world.audit("verify")["sound"]


PYKCS11 = """
import PyKCS11
from PyKCS11 import LowLevel as low
library = PyKCS11.PyKCS11Lib()
library.load({library!r})
slot = library.getSlotList(tokenPresent=True)[0]
session = library.openSession(slot, low.CKF_SERIAL_SESSION | low.CKF_RW_SESSION)
session.login("{pin}")
template = [(low.CKA_CLASS, low.CKO_SECRET_KEY), (low.CKA_KEY_TYPE, low.CKK_AES), (low.CKA_VALUE_LEN, 32),
    (low.CKA_TOKEN, True), (low.CKA_PRIVATE, True), (low.CKA_SIGN, False), (low.CKA_LABEL, "aes")]
key = session.generateKey(template, PyKCS11.MechanismAESGENERATEKEY)
for number in range(40):
    session.encrypt(key, bytes(16), PyKCS11.Mechanism(low.CKM_AES_CBC, bytes(16)))
try:
    session.sign(key, b"text", PyKCS11.Mechanism(low.CKM_AES_CMAC))
except PyKCS11.PyKCS11Error:
    pass
session.setAttributeValue(key, [(low.CKA_LABEL, "other")])
session.destroyObject(key)
session.logout()
"""


def test_pykcs11(token: World) -> None:
    program = PYKCS11.format(library=token.library, pin="PIN")
    text = f"import sys; sys.path[:0] = [{str(Path(__file__).resolve().parents[1] / 'abi')!r}]\n"
    text += "from cryptoki import PIN\n" + program.replace('"PIN"', "PIN.decode()")
    subprocess.run([sys.executable, "-c", text], env=token.environment, cwd=token.directory, check=True)
    records = token.records("--user", "user")
    kinds = [record["event"] for record in records]
    for kind in ("login", "create", "encrypt", "refused", "change", "destroy", "logout"):
        assert kind in kinds, kinds
    assert sum(r.get("count", 1) for r in records if r["event"] == "encrypt") == 40
    (refused,) = [record for record in records if record["event"] == "refused"]
    assert refused["result"] == "CKR_KEY_FUNCTION_NOT_PERMITTED" and refused["mechanism"] == "CKM_AES_CMAC"
    (made,) = [record for record in records if record["event"] == "create"]
    assert refused["object"] == made["object"] and made["mechanism"] == "CKM_AES_KEY_GEN"
    (changed,) = [record for record in records if record["event"] == "change"]
    assert changed["detail"] == "LABEL"


def test_session_objects_that_are_made_without_python_are_counted(token: World) -> None:
    token.run(
        """
session, _ = ready()
for _ in range(200):
    p11("C_DestroyObject", session, p11.aes(session))
"""
    )
    made = sum(
        r.get("count", 1) for r in token.records("--event", "create") if "AES" in r.get("mechanism", "")
    )
    assert made == 200
    assert sum(record.get("count", 1) for record in token.records("--event", "destroy")) >= 200


@pytest.mark.skipif(not POSTQUANTUM, reason="the kernels have an older libcrypto")
def test_keys_that_are_encapsulated_without_python_are_counted(token: World) -> None:
    token.run(
        """
sys.path.append(os.path.dirname(sys.path[0]))
from test_drafts import decapsulated, encapsulated, opening_pair

session, _ = ready()
public, private = opening_pair(p11, session)
for _ in range(70):
    hidden, made = encapsulated(p11, session, public)
    for key in (made, decapsulated(p11, session, private, hidden)):
        p11("C_DestroyObject", session, key)
"""
    )
    for event in ("encapsulate", "decapsulate"):
        records = token.records("--event", event)
        assert sum(record.get("count", 1) for record in records) == 70
        assert {record["mechanism"] for record in records} == {"CKM_ML_KEM"}
        assert len({record["object"] for record in records}) == 1
    made = sum(record.get("count", 1) for record in token.records("--event", "create"))
    assert made == 2 * 70 + 3  # with the pair and the key that `ready` makes


def test_session_objects_leave_a_record_when_what_they_depend_on_ends(token: World) -> None:
    """The core tells of those that it knows, the others are the kernel's; public ones outlive a login."""
    token.run(
        """
def made(session):
    for _ in range(40):
        p11.aes(session, (ck.CKA_PRIVATE, True))
    for _ in range(3):
        p11.generic_secret(session, bytes(32), (ck.CKA_PRIVATE, True))
        p11.generic_secret(session, bytes(32), (ck.CKA_PRIVATE, False))

session, other = ready()[0], p11.open(slot)
made(other)
p11("C_CloseSession", other)
made(session)
p11("C_Logout", session)
p11("C_CloseAllSessions", slot)
session = p11.open(slot)
p11.login(session)
made(session)
p11("C_Finalize", None)
"""
    )
    ended: Counter[str] = Counter()
    for record in token.records("--event", "destroy"):
        count, _, how = record["detail"].partition(" session objects, with their ")
        ended[how] += int(count)
        assert how == "session" or record["user"] == "user"
    # `ready` makes one; what is private ends with the login, what is not with the session.
    assert ended == {"session": 46 + 3 + 46, "login": 44}


def test_export_tail_and_checkpoint(token: World) -> None:
    token.run("session, key = ready()\nsign(session, key)")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ferrohsm.cli", "audit", *arguments],
            env=token.environment, cwd=token.directory, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    lines = [json.loads(line) for line in run("export").splitlines()]
    rows = list(csv.DictReader(io.StringIO(run("export", "--format", "csv"))))
    assert [str(line["seq"]) for line in lines] == [row["seq"] for row in rows] and len(lines) > 4
    assert len(run("tail", "-n", "2").splitlines()) == 2
    (serial,) = {line["token"] for line in lines}
    file = token.directory / "kept"
    run("checkpoint", "--output", str(file))
    assert "and the checkpoint agree" in run("verify", "--token", serial, "--checkpoint", str(file))
    file.write_text(file.read_text().replace('"sequence": ', '"sequence": 1'))
    assert token.audit("verify", "--token", serial)["sound"]
    bad = subprocess.run(
        [sys.executable, "-m", "ferrohsm.cli", "audit", "verify", "--checkpoint", str(file)],
        env=token.environment, cwd=token.directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert bad.returncode == 1 and "signature is wrong" in bad.stderr


def test_a_log_that_was_removed_is_missed(token: World) -> None:
    token.run("session, key = ready()\nsign(session, key)")
    (serial,) = {record["token"] for record in token.records("--event", "sign")}
    shutil.rmtree(token.data / "audit" / serial)
    report = token.audit("verify", code=1)
    (log,) = [log for log in report["logs"] if log["chain"] == serial]
    assert not report["sound"] and [finding["kind"] for finding in log["findings"]] == ["cut"]


def test_a_log_that_has_lost_its_head_is_taken_for_good_by_a_checkpoint_only(token: World) -> None:
    token.run("session, key = ready()\nsign(session, key)")
    (head,) = token.data.glob("tokens/*/audit.head")
    head.unlink()
    token.run("session, key = ready()\nsign(session, key)")
    report = token.audit("verify", "--token", head.parent.name, code=1)
    assert [finding["kind"] for finding in report["logs"][0]["findings"]] == ["lost head"]
    file = token.directory / "kept"
    command = [sys.executable, "-m", "ferrohsm.cli", "audit", "checkpoint", "--token", head.parent.name]
    places: dict[str, Any] = {"env": token.environment, "cwd": token.directory, "capture_output": True}
    assert b"not sound" in subprocess.run(command, check=False, **places).stderr
    subprocess.run([*command, "--accept-lost-head", "--output", str(file)], check=True, **places)
    assert token.audit("verify", "--token", head.parent.name, "--checkpoint", str(file))["sound"]


def test_a_deleted_token_leaves_a_record(token: World) -> None:
    (record,) = token.records("--event", "initialize-token")
    command = [sys.executable, "-m", "ferrohsm.cli", "token", "delete", "--force", "--yes"]
    subprocess.run(command, env=token.environment, cwd=token.directory, check=True, capture_output=True)
    (deleted,) = token.records("--event", "delete-token")
    assert deleted["token"] == "module" and deleted["detail"] == record["token"]


def test_what_nobody_expected_and_what_an_adapter_fails_with(token: World) -> None:
    loaded = config.load(token.environment)
    core = Core(loaded)
    step(core.start())
    (view,) = [slot for slot in step(core.slots()) if not slot.free]
    try:
        try:
            raise KeyError("secret words")
        except KeyError as error:
            core.record_failure(view.id, 3, error)
            core.record_failure(view.id, 3, error)  # once is enough
    finally:
        step(core.stop())
    (record,) = token.records("--event", "unexpected-error")
    assert record["result"] == "CKR_FUNCTION_FAILED" and record["session"] == 3
    assert "KeyError" in record["detail"] and "test_front_door.py" in record["detail"]
    assert "secret" not in json.dumps(record)
