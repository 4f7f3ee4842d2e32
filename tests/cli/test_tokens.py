"""Tokens: made, listed, renamed, unlocked, backed up, restored, deleted."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

SHAPE = {
    "slot", "label", "serial", "free", "present", "user_pin_set", "user_pin_count_low", "user_pin_final_try",
    "user_pin_locked", "so_pin_count_low", "so_pin_final_try", "so_pin_locked", "write_protected",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_delay(home):
    """Wrong PINs are told at once here."""
    with open(home.directory / "ferrohsm.toml", "a") as file:
        file.write("[pin]\ndelay = 0\ntries = 3\n")


def listed(ferrohsm):
    return ferrohsm.json("token", "list")["tokens"]


def test_the_free_slot_becomes_the_token(ferrohsm):
    (free,) = listed(ferrohsm)
    assert set(free) == SHAPE
    assert (free["free"], free["label"]) == (True, "")
    made = ferrohsm.make()
    assert (made["slot"], made["serial"]) == (free["slot"], free["serial"])
    assert (made["label"], made["user_pin_set"], made["free"]) == ("alpha", True, False)
    first, last = listed(ferrohsm)
    assert first == made
    assert last["free"] and last["slot"] != made["slot"]
    text = ferrohsm("token", "list").stdout
    assert "ready" in text and "free: the next token is made here" in text


def test_labels_may_be_any_text(ferrohsm):
    assert ferrohsm.make("Schlüssel № 1 🔑")["label"] == "Schlüssel № 1 🔑"
    assert "🔑" in ferrohsm("token", "list").stdout
    ferrohsm.error("token", "init", "--label", "a\nb", code=2)


def test_pins_from_files_and_descriptors(ferrohsm, home):
    so_file = home.directory / "so"
    so_file.write_text("so-pin-4711\r\nmore\n")
    so_file.chmod(0o600)
    done = ferrohsm(
        "token", "init", "--label", "x", "--so-pin-file", so_file, "--pin-fd", "0",
        input="user-pin-0815\nrest\n",
    )  # fmt: skip
    assert done.stderr == ""
    ferrohsm("object", "list", "--pin-env", "PIN")
    so_file.chmod(0o644)
    warned = ferrohsm("token", "unlock", "--so-pin-file", so_file, "--new-pin-env", "NEW")
    assert "can be read by others; chmod 600" in warned.stderr
    empty = home.directory / "empty"
    empty.write_text("")
    empty.chmod(0o600)
    assert "there is nothing to read" in ferrohsm.error("object", "list", "--pin-file", empty)
    assert "NONE is not set" in ferrohsm.error("object", "list", "--pin-env", "NONE")


def test_pins_from_a_terminal(ferrohsm):
    """Asked twice, not shown, and two different ones are no PIN."""
    script = """
import os, pty, sys, select
answers = sys.argv[1].split(",")
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said = b""
try:
    while True:
        said += os.read(terminal, 1000)
        if answers and said.endswith(b": "):
            os.write(terminal, answers.pop(0).encode() + b"\\n")
except OSError:
    pass
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

    def talk(answers):
        command = [sys.executable, "-c", script, answers, ferrohsm.program, "token", "init", "--label", "x"]
        return subprocess.run(
            command, capture_output=True, text=True, env=ferrohsm.home.environment, timeout=60, check=False
        )

    done = talk("so-pin-4711,so-pin-4712")
    assert done.returncode == 1 and "the two are not the same" in done.stdout
    assert len(listed(ferrohsm)) == 1
    done = talk("so-pin-4711,so-pin-4711,user-pin-0815,user-pin-0815")
    assert done.returncode == 0, done.stdout
    assert "so-pin-4711" not in done.stdout
    ferrohsm("object", "list", "--pin-env", "PIN")


def test_a_pin_that_is_too_short_makes_no_token(ferrohsm):
    said = ferrohsm.error(
        "token", "init", "--label", "x", "--so-pin-env", "SO", "--pin-env", "SHORT",
        environment={"SHORT": "123"},
    )  # fmt: skip
    assert "the user PIN must have 4 to 255 bytes (CKR_PIN_LEN_RANGE)" in said
    assert [view["free"] for view in listed(ferrohsm)] == [True]


def test_choosing_between_tokens(ferrohsm):
    alpha, beta = ferrohsm.make("alpha"), ferrohsm.make("beta")
    said = ferrohsm.error("object", "list", code=3)
    assert alpha["serial"] in said and "--token SERIAL" in said
    for words in (["--token", "beta"], ["--token", beta["serial"]], ["--slot", str(beta["slot"])]):
        assert ferrohsm.json("object", "list", *words, "--pin-env", "PIN")["serial"] == beta["serial"]
    assert "there is no token 'gamma'" in ferrohsm.error("object", "list", "--token", "gamma", code=3)
    ferrohsm.error("object", "list", "--slot", "1", code=3)
    twin = ("token", "init", "--label", "beta", "--no-pin", "--so-pin-env", "SO")
    assert f"beta is also the label of {beta['serial']}" in ferrohsm(*twin).stderr


def test_made_anew(ferrohsm, token):
    ferrohsm("key", "generate", "aes", "--label", "k", "--pin-env", "PIN")
    again = [
        "token",
        "init",
        "--label",
        "again",
        "--token",
        "alpha",
        "--so-pin-env",
        "SO",
        "--pin-env",
        "PIN",
    ]
    assert "say --yes" in ferrohsm.error(*again)
    wrong = [
        "token",
        "init",
        "--label",
        "again",
        "--token",
        "alpha",
        "--so-pin-env",
        "NEW",
        "--no-pin",
        "--yes",
    ]
    assert "CKR_PIN_INCORRECT" in ferrohsm.error(*wrong, code=4)
    assert len(ferrohsm.json("object", "list", "--pin-env", "PIN")["objects"]) == 1
    made = ferrohsm.json(*again, "--yes")
    assert (made["slot"], made["serial"], made["label"]) == (token["slot"], token["serial"], "again")
    assert ferrohsm.json("object", "list", "--pin-env", "PIN")["objects"] == []


def test_pins_change(ferrohsm, token):
    ferrohsm("token", "set-pin", "--pin-env", "PIN", "--new-pin-env", "NEW")
    assert "CKR_PIN_INCORRECT" in ferrohsm.error("object", "list", "--pin-env", "PIN", code=4)
    ferrohsm("object", "list", "--pin-env", "NEW")
    ferrohsm("token", "set-pin", "--so", "--pin-env", "SO", "--new-pin-env", "PIN")
    ferrohsm.error("token", "unlock", "--so-pin-env", "SO", "--new-pin-env", "PIN", code=4)
    ferrohsm("token", "unlock", "--so-pin-env", "PIN", "--new-pin-env", "PIN")
    ferrohsm("object", "list", "--pin-env", "PIN")


def test_locked_and_unlocked(ferrohsm, token):
    ferrohsm("key", "generate", "aes", "--label", "k", "--pin-env", "PIN")
    for _ in range(3):
        ferrohsm.error("object", "list", "--pin-env", "NEW", code=4)
    said = ferrohsm.error("object", "list", "--pin-env", "PIN", code=4)
    assert "CKR_PIN_LOCKED" in said and "ferrohsm token unlock" in said
    assert listed(ferrohsm)[0]["user_pin_locked"] is True
    assert "user PIN locked" in ferrohsm("token", "list").stdout
    ferrohsm("token", "unlock", "--so-pin-env", "SO", "--new-pin-env", "NEW")
    assert listed(ferrohsm)[0]["user_pin_locked"] is False
    assert len(ferrohsm.json("object", "list", "--pin-env", "NEW")["objects"]) == 1


def test_a_token_without_a_user_pin(ferrohsm):
    made = ferrohsm.json("token", "init", "--label", "x", "--so-pin-env", "SO", "--no-pin")
    assert made["user_pin_set"] is False
    assert "no user PIN" in ferrohsm("token", "list").stdout
    assert "token unlock" in ferrohsm.error("token", "set-pin", "--pin-env", "PIN", "--new-pin-env", "NEW")
    assert ferrohsm.json("object", "list")["objects"] == []
    assert (
        ferrohsm.json("token", "unlock", "--so-pin-env", "SO", "--new-pin-env", "PIN")["user_pin_set"] is True
    )


def test_rename(ferrohsm, token):
    ferrohsm.error("token", "rename", "beta", "--so-pin-env", "NEW", code=4)
    renamed = ferrohsm.json("token", "rename", "beta", "--so-pin-env", "SO")
    assert renamed == {**token, "label": "beta"}
    assert listed(ferrohsm)[0] == renamed


def test_delete(ferrohsm, token):
    assert "say --yes" in ferrohsm.error("token", "delete", "--so-pin-env", "SO")
    ferrohsm.error("token", "delete", "--yes", "--so-pin-env", "NEW", code=4)
    assert len(listed(ferrohsm)) == 2
    other = ferrohsm.make("other")
    ferrohsm("token", "delete", "--yes", "--token", "alpha", "--so-pin-env", "SO")
    views = listed(ferrohsm)
    assert [view["slot"] for view in views if not view["free"]] == [other["slot"]]
    ferrohsm("token", "delete", "--yes", "--force", "--token", "other")
    assert [view["free"] for view in listed(ferrohsm)] == [True]


def test_backup_and_restore(ferrohsm, token, home):
    file = home.directory / "alpha.backup"
    ferrohsm("key", "generate", "ec", "--label", "k", "--pin-env", "PIN")
    before = ferrohsm.json("object", "list", "--pin-env", "PIN")
    assert ferrohsm.json("token", "backup", file)["serial"] == token["serial"]
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    content = file.read_bytes()
    ferrohsm.error("token", "backup", file)
    assert file.read_bytes() == content
    ferrohsm.error("token", "restore", file)
    ferrohsm("key", "generate", "aes", "--label", "later", "--pin-env", "PIN")
    ferrohsm("token", "delete", "--yes", "--force")
    assert ferrohsm.json("token", "restore", file) == token
    assert ferrohsm.json("object", "list", "--pin-env", "PIN") == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "nonsense", "none"])
def test_a_damaged_backup_is_refused(ferrohsm, token, home, damage):
    file = home.directory / "alpha.backup"
    ferrohsm("token", "backup", file)
    ferrohsm("token", "delete", "--yes", "--force")
    content = bytearray(file.read_bytes())
    if damage == "cut":
        del content[-100:]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "nonsense":
        content = bytearray(b"nonsense\n" * 100)
    file.unlink()
    if damage != "none":
        file.write_bytes(content)
    told = ferrohsm.error("token", "restore", file)
    assert ("No such file" in told and "CKR_" not in told) == (damage == "none")
    assert [view["free"] for view in listed(ferrohsm)] == [True]


def test_a_hidden_free_slot(ferrohsm, home):
    config = home.directory / "ferrohsm.toml"
    config.write_text("free_slot = false\n" + config.read_text())
    assert listed(ferrohsm) == []
    assert ferrohsm("token", "list").stdout == "no slots\n"
    assert "free_slot" in ferrohsm.error("token", "init", "--label", "x", code=3)
