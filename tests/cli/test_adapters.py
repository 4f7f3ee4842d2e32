"""``ferrohsm adapter list``, ``show`` and ``check``, with a plugin that is right and others that are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLUGIN = """
from ferrohsm_adapters.software.engine import Engine
from ferrohsm.adapters import AdapterInfo, Limits
from ferrohsm.testing.memory import MemoryAdapter, MemorySlot, MemoryStore


class Adapter(MemoryAdapter):
    name, version = "acme", "2.5"

    def __init__(self, section):
        super().__init__([MemorySlot(9, Engine(), MemoryStore())], inline=False)
        self.options = section.options

    def info(self):
        return AdapterInfo("acme", "2.5", deadline=7, concurrency=3, limits=Limits(sessions=5))

    async def open(self):
        if self.options.get("fail"):
            raise OSError("a secret: hush-hush")


class Idle(Adapter):
    def __init__(self, section):
        super().__init__(section)
        self.members[0].signer.random = self.random

    async def random(self, length):
        return bytes(length)


class Apart(Adapter):
    def info(self):
        return AdapterInfo("acme", "2.5", isolation=["process"])


def not_one(section):
    return object()
"""


@pytest.fixture
def acme(tmp_path: Path, ferrohsm: Any) -> Callable[..., Any]:
    """Run the command with the plugin's distribution on the path and a configuration of these slots."""
    site = tmp_path / "site"
    folder = site / "acme-2.5.dist-info"
    folder.mkdir(parents=True)
    (site / "acme_plugin.py").write_text(PLUGIN)
    (site / "acme_never.py").write_text("raise SystemExit('imported')")
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 2.5\n")
    (folder / "entry_points.txt").write_text(
        "[ferrohsm.adapters]\nacme = acme_plugin:Adapter\nidle = acme_plugin:Idle\n"
        "apart = acme_plugin:Apart\n"
        "none = acme_plugin:not_one\nnever = acme_never:Adapter\n"
    )

    def run(slots: str, *words: str, code: int = 0) -> Any:
        file = tmp_path / "acme.toml"
        file.write_text(slots)
        environment = {"PYTHONPATH": str(site), "FERROHSM_CONF": str(file)}
        return ferrohsm("adapter", *words, code=code, environment=environment)

    return run


def test_list_shows_what_is_installed_and_used(acme: Callable[..., Any]) -> None:
    slots = '[slots.web]\nadapter = "acme"\n[slots.far]\nadapter = "nowhere"\n'
    text = acme(slots, "list").stdout
    assert "acme" in text and "web" in text and "not installed" in text
    rows = {row["name"]: row for row in json.loads(acme(slots, "list", "--json").stdout)["adapters"]}
    assert rows["acme"] == {
        "name": "acme",
        "package": "acme",
        "version": "2.5",
        "entry_point": "acme_plugin:Adapter",
        "slots": ["web"],
        "installed": True,
    }
    assert rows["never"]["slots"] == [] and not rows["nowhere"]["installed"]
    assert rows["software"]["package"] == "ferrohsm"


def test_show_says_what_the_adapter_says(acme: Callable[..., Any]) -> None:
    slots = '[slots.web]\nadapter = "acme"\ndeadline = 2.5\n'
    text = acme(slots, "show", "web").stdout
    assert "acme 2.5, dispatched" in text and "deadline: 2.5 s; calls at once: 3" in text
    assert "CKM_AES_GCM" in text and "sessions 5" in text
    (row,) = json.loads(acme(slots, "show", "--json").stdout)["slots"]
    assert row["problem"] is None and row["limits"]["sessions"] == 5
    mechanisms = {entry["name"]: entry for entry in row["slots"][0]["mechanisms"]}
    assert mechanisms["CKM_AES_GCM"]["largest_key"] == 32
    assert "encrypt" in mechanisms["CKM_AES_GCM"]["functions"]


def test_check_of_one_that_is_right(acme: Callable[..., Any]) -> None:
    slots = '[slots.web]\nadapter = "acme"\n'
    found = json.loads(acme(slots, "check", "--json").stdout)
    assert found["healthy"] and all(row["slot"] == "web" for row in found["checks"])
    assert {row["state"] for row in found["checks"]} == {"ok"}
    assert "0 public objects read" in acme(slots, "check", "web").stdout


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('adapter = "nowhere"', "no installed package offers an adapter 'nowhere'"),
        ('adapter = "none"', "must say inline"),
        ('adapter = "never"', "SystemExit"),
        ('adapter = "acme"\nfail = true', "cannot be opened: OSError"),
        ('adapter = "apart"', 'does not run with isolation = "thread"'),
        ('adapter = "idle"', "no random bytes"),
    ],
)
def test_check_says_what_is_wrong(acme: Callable[..., Any], section: str, said: str) -> None:
    done = acme(f"[slots.web]\n{section}\n", "check", code=1)
    assert said in done.stdout and "broken" in done.stdout
    assert "hush-hush" not in done.stdout + done.stderr


def test_a_slot_that_is_not_there(acme: Callable[..., Any]) -> None:
    done = acme('[slots.web]\nadapter = "acme"\n', "check", "mail", code=3)
    assert "there is no [slots.mail]" in done.stderr and "web" in done.stderr


def test_the_configuration_shows_what_every_slot_may_have(
    acme: Callable[..., Any], ferrohsm: Any, tmp_path: Path
) -> None:
    acme('[slots.web]\nadapter = "acme"\ndeadline = 2.5\nconcurrency = 7\nvault = "x"\n', "list")
    environment = {"FERROHSM_CONF": str(tmp_path / "acme.toml")}
    text = ferrohsm("config", "show", environment=environment).stdout
    assert "deadline = 2.5" in text and "concurrency = 7" in text and 'vault = "x"' in text
    (tmp_path / "acme.toml").write_text('[slots.web]\nadapter = "acme"\ndeadline = 0\n')
    assert "slots.web.deadline" in ferrohsm.error("config", "check", environment=environment)
