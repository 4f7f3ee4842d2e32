"""Adapters: found by name, loaded only when named, and each broken alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from house import House

import ferrohsm
from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.config import Config, SlotSection
from ferrohsm.core import Core
from ferrohsm.errors import DeviceRemoved, SlotIdInvalid, TokenNotPresent
from ferrohsm.runtime import step
from ferrohsm.settings import LogSettings
from ferrohsm.testing.memory import MemorySlot

PLUGIN = """
from ferrohsm_adapters.software.engine import Engine
from ferrohsm.testing.memory import MemoryAdapter, MemorySlot

def adapter(section):
    return MemoryAdapter([MemorySlot(section.options["slot"], Engine())])

def broken(section):
    raise RuntimeError("a secret: hush-hush")

class Closed:
    name, version, inline = "closed", "1", True
    def __init__(self, section): pass
    async def open(self): raise OSError("no such device")
    async def slots(self): return []
    async def close(self): raise OSError("never")
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution of plugins on the path; importing `never_named` fails the test."""
    (tmp_path / "some_plugin.py").write_text(PLUGIN)
    (tmp_path / "never_named.py").write_text("raise SystemExit('this plugin was imported')")
    info = tmp_path / "some_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[ferrohsm.adapters]\n"
        "good = some_plugin:adapter\n"
        "broken = some_plugin:broken\n"
        "closed = some_plugin:Closed\n"
        "missing = some_plugin:nothing\n"
        "never = never_named:Adapter\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def section(name: str, adapter: str, **options: object) -> SlotSection:
    return SlotSection(name, adapter, dict(options))


def start(*sections: SlotSection, logged: Path | None = None) -> Core:
    config = Config(slots=list(sections))
    if logged is not None:
        config.log = LogSettings(target=str(logged))
    core = Core(config)
    step(core.start())
    return core


@pytest.mark.parametrize("bad", ["broken", "closed", "missing", "nowhere"])
def test_broken_adapter_costs_its_slot(plugins: Path, tmp_path: Path, bad: str) -> None:
    written = tmp_path / "log"
    core = start(section("bad", bad), section("good", "good", slot=5), logged=written)
    views = step(core.slots())
    assert [view.token_present for view in views] == [False, True]
    assert "ferrohsm doctor" in views[0].description and views[0].description.endswith(" bad")
    assert views[1].description == "memory"
    empty = views[0].id
    assert 0 < empty < 2**31 and step(core.slots())[0].id == empty
    with pytest.raises(TokenNotPresent):
        step(core.token_info(empty))
    with pytest.raises(TokenNotPresent):
        core.open_session(empty, 1, False)
    assert step(core.mechanism_list(5))
    assert core.inline(empty)
    step(core.stop())
    lines = written.read_text().splitlines()
    assert any('"slot": "bad"' in line and bad in line for line in lines)
    assert "hush-hush" not in written.read_text()
    log.close()


def test_start_imports_only_what_is_named(plugins: Path) -> None:
    core = start(section("good", "good", slot=5))
    assert "never_named" not in sys.modules
    step(core.stop())


def test_core_starts_small(tmp_path: Path) -> None:
    """What the design forbids at the start is not imported by the time the slots are listed."""
    forbidden = ["asyncio", "logging", "dataclasses", "inspect", "pathlib", "json", "threading", "argparse"]
    forbidden += ["re", "enum", "importlib.metadata", "cryptography", "typing", "contextlib", "tomllib"]
    forbidden += ["hashlib", "_hashlib", "hmac", "sqlite3", "datetime", "weakref", "heapq"]
    ours = str(Path(ferrohsm.__file__).parents[1])
    configuration = tmp_path / "ferrohsm.toml"
    configuration.write_text(f'data_dir = "{tmp_path / "data"}"\n')
    code = f"""\
import sys
sys.path.append({ours!r})
import pkcs11_abi.module
from ferrohsm import config
from ferrohsm.core import Core
from ferrohsm.runtime import step
core = Core(config.load({{"FERROHSM_CONF": {str(configuration)!r}}}))
step(core.start())
assert len(step(core.slots())) == 1
step(core.stop())
assert "ferrohsm.store.token" in sys.modules
print(*[name for name in {forbidden!r} if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_slots_come_and_go(house: House) -> None:
    adapter = house.core.members[-1].adapter
    assert adapter is not None
    second = MemorySlot(3, house.slot.signer)
    second.free = True
    adapter.members[:0] = [second]  # type: ignore[attr-defined]
    assert [view.id for view in step(house.core.slots())] == [7, 3]  # the free one last
    session = house.open()
    house.login(session)
    adapter.members.remove(house.slot)  # type: ignore[attr-defined]
    assert [view.id for view in step(house.core.slots())] == [3]
    with pytest.raises(SlotIdInvalid):
        house.open()
    with pytest.raises(DeviceRemoved):
        house.get(session, 1, ck.CKA_CLASS)
    assert house.store.logged_in is None
    adapter.members.append(house.slot)  # type: ignore[attr-defined]


def test_two_slots_with_one_id(plugins: Path, tmp_path: Path) -> None:
    core = start(section("a", "good", slot=5), section("b", "good", slot=5), logged=tmp_path / "log")
    assert [view.id for view in step(core.slots())] == [5]
    assert '"slot": "b"' in (tmp_path / "log").read_text()
    step(core.stop())


def test_no_place_for_tokens(tmp_path: Path) -> None:
    software = section("software", "software", data_dir=None, free_slot=True, ec_point="der")
    config = Config(slots=[software], data_problem="there is no home; set data_dir")
    config.log = LogSettings(target=str(tmp_path / "log"))
    core = Core(config)
    step(core.start())
    [view] = step(core.slots())
    assert not view.token_present
    with pytest.raises(TokenNotPresent):
        step(core.token_info(view.id))
    with pytest.raises(TokenNotPresent):
        core.open_session(view.id, 1, True)
    assert "set data_dir" in (tmp_path / "log").read_text()
    step(core.stop())


def test_slot_without_a_token(house: House) -> None:
    house.slot.store = None  # type: ignore[assignment]
    [view] = step(house.core.slots())
    assert not view.token_present and view.flags == 0
    for refused in (house.core.token_info(7), house.core.mechanism_list(7), house.core.random(7, 1)):
        with pytest.raises(TokenNotPresent):
            step(refused)  # type: ignore[arg-type]
    house.slot.store = house.store
