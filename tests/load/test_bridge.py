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


def ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Wait until a worker has logged in."""
    assert process.stdout is not None
    if process.stdout.readline() != "r eady\n":
        raise AssertionError(process.communicate()[1])
    return process


def load_both(both: tuple[Token, Token], worker: Path, seconds: float) -> tuple[int, int, int]:
    """Run eight processes, each with both slots open: four on ours, four on SoftHSM's.

    SoftHSM loses track when several processes write to one token (or one opens it meanwhile), with no bridge
    before it too: there one writes, the others sign. Returns the objects made on both, and the signatures.
    """
    software, bridged = both
    signers = [ready(start(bridged, worker, f"b{i}", seconds + 1, "sign")) for i in range(3)]
    own = [start(software, worker, f"s{i}", seconds) for i in range(4)]
    writer = start(bridged, worker, "w", seconds)
    running = [*own, writer, *signers]
    outputs = [process.communicate(timeout=seconds * 4 + 120) for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors
    made = []
    for token, part in ((software, outputs[:4]), (bridged, outputs[4:5])):
        ledger = Ledger()
        for output, _ in part:
            ledger.read(output.splitlines())
        ledger.check(contents(token))
        made.append(sum(line.startswith("+") for output, _ in part for line in output.splitlines()))
    lines = [line for output, _ in outputs[5:] for line in output.splitlines()]
    return made[0], made[1], sum(int(line[2:]) for line in lines if line.startswith("s "))


def test_two_slots_share_the_load(both: tuple[Token, Token], worker: Path) -> None:
    software, bridged, signatures = load_both(both, worker, 2)
    assert software >= 16 and bridged >= 4 and signatures >= 48


@pytest.mark.soak
def test_two_slots_share_the_load_for_a_minute(both: tuple[Token, Token], worker: Path) -> None:
    software, bridged, signatures = load_both(both, worker, 60)
    assert software >= 160 and bridged >= 40 and signatures >= 1000
