"""The installed module in this very interpreter, with a token of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench import Bench, initialize_token
from cryptoki import Cryptoki

CONFIGURATION = """\
data_dir = "{data}"

[pin]
delay = 0

[kdf]
memory_kib = 7168
passes = 1

[log]
target = "{log}"
level = "warning"
"""


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Write a configuration and name it in the environment of this process."""
    before = os.environ.get("FERROHSM_CONF")

    def write(text: str) -> None:
        file = tmp_path / "ferrohsm.toml"
        file.write_text(text)
        os.environ["FERROHSM_CONF"] = str(file)

    yield write
    if before is None:
        os.environ.pop("FERROHSM_CONF", None)
    else:
        os.environ["FERROHSM_CONF"] = before


@pytest.fixture(scope="session")
def library(module_path: Path) -> Cryptoki:
    return Cryptoki(str(module_path))


@pytest.fixture
def bench(library: Cryptoki, configure: Callable[[str], None], tmp_path: Path) -> Iterator[Bench]:
    """A token, and afterwards the proof that no call has failed in a way that nobody foresaw."""
    log = tmp_path / "log"
    (tmp_path / "data").mkdir()
    configure(CONFIGURATION.format(data=tmp_path / "data", log=log))
    library("C_Initialize", None)
    try:
        slot = library.slots()[0]
        initialize_token(library, slot)
        yield Bench(library, slot, log)
    finally:
        library.rv("C_Finalize", None)
    unexpected = log.read_text() if log.exists() else ""
    assert "nobody expected" not in unexpected, unexpected


@pytest.fixture
def p11(bench: Bench) -> Cryptoki:
    return bench.p11


@pytest.fixture
def session(bench: Bench) -> int:
    """A read/write session with the user logged in."""
    return bench.user()
