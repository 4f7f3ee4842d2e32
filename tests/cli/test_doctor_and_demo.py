"""The doctor finds what is broken and says what to do; the demo leaves nothing behind."""

from __future__ import annotations

import os

import pytest


def states(ferrohsm, code=0, **options):
    report = ferrohsm.json("doctor", code=code, **options)
    assert report["healthy"] is (code == 0)
    assert all(set(check) == {"check", "state", "detail", "remedy"} for check in report["checks"])
    for check in report["checks"]:
        assert check["remedy"] or check["state"] == "ok", check
    return {check["check"]: check for check in report["checks"]}


def test_a_healthy_installation(ferrohsm, token, need):
    need("cc", package="gcc")
    checks = states(ferrohsm)
    assert {check["state"] for check in checks.values()} <= {"ok", "warning"}
    assert checks["module in a C program"]["detail"] == "starts and stops"
    assert checks["tokens"]["detail"] == "1 initialized, alpha"
    assert checks["libpython"]["state"] == "ok"
    assert "ok       module in a C program: starts and stops" in ferrohsm("doctor").stdout


def test_a_broken_configuration(ferrohsm, home):
    (home.directory / "ferrohsm.toml").write_text("[pin]\ntires = 3\n")
    checks = states(ferrohsm, code=1)
    assert "did you mean tries?" in checks["configuration"]["detail"]
    assert checks["module in a C program"]["state"] == "broken"
    assert "→ correct the file" in ferrohsm("doctor", code=1).stdout


def test_a_directory_that_is_a_file(ferrohsm, home):
    (home.directory / "file").write_text("")
    (home.directory / "ferrohsm.toml").write_text('data_dir = "file"\n')
    checks = states(ferrohsm, code=1)
    assert "is no directory" in checks["store of slot software"]["detail"]


def test_no_home(ferrohsm):
    environment = {"HOME": "/nonexistent", "FERROHSM_CONF": ""}
    checks = states(ferrohsm, code=1, environment=environment)
    assert "set data_dir in /etc/ferrohsm/ferrohsm.toml" in checks["store of slot software"]["remedy"]


def test_a_directory_open_to_others(ferrohsm, home, token):
    os.chmod(home.directory / "tokens", 0o755)
    check = states(ferrohsm)["store of slot software"]
    assert (check["state"], check["remedy"]) == ("warning", f"chmod 700 {home.directory / 'tokens'}")


def test_a_locked_pin_is_a_warning(ferrohsm, home, token):
    with open(home.directory / "ferrohsm.toml", "a") as file:
        file.write("[pin]\ntries = 1\n")
    ferrohsm("object", "list", "--pin-env", "NEW", code=4)
    remedy = states(ferrohsm)["token alpha"]["remedy"]
    assert remedy == f"ferrohsm token unlock --token {token['serial']}"


SLOTS = """
[slots.typo]
adapter = "sofware"
[slots.absent]
adapter = "pkcs11_bridge"
module = "/nonexistent/module.so"
[slots.unknown]
adapter = "pkcs11_bridge"
module = "/nonexistent/module.so"
profil = "nss"
"""


def test_a_slot_that_does_not_work_is_named_everywhere(ferrohsm, home, need):
    file = home.directory / "ferrohsm.toml"
    file.write_text(SLOTS)
    checks = states(ferrohsm, code=1)
    assert "no installed package offers an adapter 'sofware'" in checks["slot typo"]["detail"]
    assert "did you mean software?" in checks["slot typo"]["remedy"]
    assert "/nonexistent/module.so cannot be loaded" in checks["slot absent"]["detail"]
    assert "slots.unknown.profil: is not known" in checks["slot unknown"]["detail"]
    assert "ferrohsm adapter check unknown" in checks["slot unknown"]["remedy"]
    listed = ferrohsm("token", "list").stdout
    assert "slot absent: the slot's adapter cannot be opened: /nonexistent/module.so" in listed
    for command in (("object", "list"), ("token", "init", "--label", "new", "--no-pin")):
        assert "slot typo: the slot's adapter is not installed: " in ferrohsm.error(*command, code=3)
    tool = need("pkcs11-tool", package="opensc")
    shown = home.run(tool, "--module", home.module.path, "--list-slots").stdout
    assert b"no token, ferrohsm doctor says why: typo" in shown


def test_an_audit_that_cannot_be_written_is_named(ferrohsm, home, token):
    file = home.directory / "ferrohsm.toml"
    before = file.read_text()
    assert states(ferrohsm)["audit"]["state"] == "ok"
    (home.directory / "file").write_text("")
    file.write_text(before + '[audit]\ndirectory = "file"\n')
    assert "logins, uses of keys" in states(ferrohsm, code=1)["audit"]["detail"]
    file.write_text(before + '[audit]\ndirectory = "file"\non_failure = "open"\n')
    assert states(ferrohsm)["audit"]["state"] == "warning"
    file.write_text(before + "[audit]\nenabled = false\n")
    assert "audit" not in states(ferrohsm)


def test_a_log_that_cannot_be_written_is_a_warning(ferrohsm, home):
    (home.directory / "ferrohsm.toml").write_text('[log]\ntarget = "no/such/folder/log"\n')
    assert "events are lost" in states(ferrohsm)["log"]["detail"]
    (home.directory / "ferrohsm.toml").write_text('[log]\ntarget = "log"\n')
    assert states(ferrohsm)["log"]["state"] == "ok"


def test_without_a_compiler(ferrohsm, need, home):
    """Then pkcs11-tool is asked, and without that too nobody knows."""
    tool = need("pkcs11-tool", package="opensc")
    place = home.directory / "bin"
    place.mkdir()
    environment = {"PATH": str(place)}
    check = states(ferrohsm, environment=environment)["module in a C program"]
    assert check["state"] == "unknown" and "install opensc" in check["remedy"]
    (place / "pkcs11-tool").symlink_to(tool)
    check = states(ferrohsm, environment=environment)["module in a C program"]
    assert (check["state"], check["detail"]) == ("ok", "pkcs11-tool lists the slots")


@pytest.mark.parametrize("clients", [True, False])
def test_demo(ferrohsm, home, need, clients):
    environment = {}
    if clients:
        need("pkcs11-tool", package="opensc")
    else:
        environment["PATH"] = "/nonexistent"
    before = ferrohsm.json("token", "list")
    text = ferrohsm("demo", environment=environment).stdout
    for word in ("token", "key", "sign", "verify", "the signature is good", "the token is gone"):
        assert word in text
    assert ("pkcs11-tool through" in text) is clients
    report = ferrohsm.json("demo", environment=environment)
    assert report["verified"] is True
    assert [step["step"] for step in report["steps"]] == ["token", "key", "sign", "verify", "clean up"]
    assert list((home.directory / "tmp").iterdir()) == []
    assert ferrohsm.json("token", "list") == before


def test_a_demo_that_fails_says_so_and_cleans_up(ferrohsm, home):
    place = home.directory / "bin"
    place.mkdir()
    for name in ("pkcs11-tool", "openssl"):
        (place / name).write_text("#!/bin/sh\necho no luck today >&2\nexit 1\n")
        (place / name).chmod(0o755)
    done = ferrohsm("demo", environment={"PATH": f"{place}:{home.environment['PATH']}"}, code=1)
    assert "ferrohsm: pkcs11-tool: no luck today" in done.stderr
    assert list((home.directory / "tmp").iterdir()) == []
