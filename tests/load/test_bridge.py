"""The same load on two slots at once: our own tokens, and SoftHSM behind the bridge."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import (
    BRIDGE_CONFIGURATION,
    CONFIGURATION,
    SOFTHSM2_CONFIGURATION,
    Home,
    Module,
    Token,
    make_token,
    slot_of,
    softhsm2_path,
)
from tests.load.conftest import Ledger
from tests.load.test_load import contents

GENERAL_ERROR = "0x5"  # what SoftHSM 2.6 says to one of several processes that write at once


@pytest.fixture
def both(home: Home) -> Iterator[tuple[Token, Token]]:
    """A token of ours and one of SoftHSM, in two slots of one configuration, each with a key to sign with."""
    module, backend = home.module, softhsm2_path()
    tokens = home.directory / "softhsm"
    tokens.mkdir()
    file = home.directory / "softhsm2.conf"
    file.write_text(SOFTHSM2_CONFIGURATION.format(data=tokens))
    home.environment["SOFTHSM2_CONF"] = str(file)
    behind = Home(Module("softhsm2", backend), home.directory)
    behind.environment["SOFTHSM2_CONF"] = str(file)
    make_token(behind, label="bridged", pin="123456", so_pin="87654321")
    text = CONFIGURATION.format(data=home.directory / "tokens") + BRIDGE_CONFIGURATION.format(module=backend)
    (home.directory / "ferrohsm.toml").write_text(
        text + 'free_slot = false\n[slots.own]\nadapter = "software"\n'
    )
    software = make_token(home, label="software")
    bridged = Token(home, "bridged", "123456", "87654321", slot_of(home, "bridged"))
    for token in (software, bridged):
        token.pkcs11_tool("--keygen", "--key-type", "GENERIC:32", "--label", "signing key", "--usage-sign")
    assert module.ours
    yield software, bridged


def start(token: Token, worker: Path, name: str, seconds: float, *more: str) -> subprocess.Popen[str]:
    command = [worker, token.module.path, token.label, token.pin, name, "4", seconds, *more]
    return subprocess.Popen(
        [str(part) for part in command],
        env=token.home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def load_both(both: tuple[Token, Token], worker: Path, seconds: float) -> tuple[int, int]:
    """Run four processes on each slot, all with both slots open; return how many objects were made."""
    software, bridged = both
    running = [start(software, worker, f"s{i}", seconds) for i in range(4)]
    running += [start(bridged, worker, f"b{i}", seconds, GENERAL_ERROR) for i in range(4)]
    outputs = [process.communicate(timeout=seconds * 4 + 120) for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors
    made = []
    for token, part in ((software, outputs[:4]), (bridged, outputs[4:])):
        ledger = Ledger()
        for output, _ in part:
            ledger.read(output.splitlines())
        ledger.check(contents(token))
        made.append(sum(line.startswith("+") for output, _ in part for line in output.splitlines()))
    return made[0], made[1]


def test_two_slots_share_the_load(both: tuple[Token, Token], worker: Path) -> None:
    software, bridged = load_both(both, worker, 2)
    assert software >= 16 and bridged >= 8


@pytest.mark.soak
def test_two_slots_share_the_load_for_a_minute(both: tuple[Token, Token], worker: Path) -> None:
    software, bridged = load_both(both, worker, 60)
    assert software >= 160 and bridged >= 80
