"""The installed module in this very interpreter, with a token of its own for each test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench import Bench, initialize_token
from configurations import QUICK
from cryptoki import SEEN, Cryptoki

CONFIGURATION = f"""\
data_dir = "{{data}}"

{QUICK}
[log]
target = "{{log}}"
level = "warning"
"""


CLAIMS_FILE = Path(__file__).with_name("return_values.json")
RECORD = os.environ.get("FERROHSM_RECORD_RETURNS")
RECORDED: dict[str, dict[str, list[str]]] = {}


def claims() -> dict[str, list[tuple[str, str]]]:
    """Return what each test is said to provoke: its name, and functions with return values."""
    found: dict[str, list[tuple[str, str]]] = {}
    for function, values in json.loads(CLAIMS_FILE.read_text()).items():
        for value, test in values.items():
            found.setdefault(test, []).append((function, value))
    return found


CLAIMS = claims()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Check that a test provokes the return values that `return_values.json` says it does."""
    SEEN.clear()
    yield
    name = f"{item.path.name}::{item.name}"
    if RECORD:
        for function, value in SEEN:
            RECORDED.setdefault(function, {}).setdefault(value, []).append(name)
    else:
        assert not [pair for pair in CLAIMS.get(name, ()) if pair not in SEEN]


def pytest_sessionfinish() -> None:
    """Write down what was provoked, for tools/write_return_coverage.py."""
    if RECORD:
        Path(RECORD).write_text(json.dumps(RECORDED))


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


@contextmanager
def running(library: Cryptoki, directory: Path) -> Iterator[Bench]:
    """Start the library with a token; afterwards prove that no call failed in a way that nobody foresaw."""
    log, file, before = directory / "log", directory / "ferrohsm.toml", os.environ.get("FERROHSM_CONF")
    (directory / "data").mkdir()
    file.write_text(CONFIGURATION.format(data=directory / "data", log=log))
    os.environ["FERROHSM_CONF"] = str(file)
    library("C_Initialize", None)
    try:
        slot = library.slots()[0]
        initialize_token(library, slot)
        yield Bench(library, slot, log)
    finally:
        library.rv("C_Finalize", None)
        os.environ.pop("FERROHSM_CONF")
        if before is not None:
            os.environ["FERROHSM_CONF"] = before
    unexpected = log.read_text() if log.exists() else ""
    assert "nobody expected" not in unexpected, unexpected


@pytest.fixture
def bench(request: pytest.FixtureRequest, library: Cryptoki, tmp_path: Path) -> Iterator[Bench]:
    """A token for one test, or for all tests of a module that says ``ONE_TOKEN = True``."""
    if getattr(request.module, "ONE_TOKEN", False):
        shared = request.getfixturevalue("shared_bench")
        yield shared
        shared.p11("C_CloseAllSessions", shared.slot)
    else:
        with running(library, tmp_path) as made:
            yield made


@pytest.fixture(scope="module")
def shared_bench(library: Cryptoki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A token for tests that leave nothing behind but session objects."""
    with running(library, tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture
def p11(bench: Bench) -> Cryptoki:
    return bench.p11


@pytest.fixture
def session(bench: Bench) -> int:
    """A read/write session with the user logged in."""
    return bench.user()
