"""A pytest plugin that tests an adapter: ``pytest -p ferrohsm.testing.adapter --adapter NAME``.

The command alone runs the whole conformance suite against an adapter that is installed. To have the suite
among a plugin's own tests, say in its ``conftest.py`` ``pytest_plugins = ["ferrohsm.testing.adapter"]``,
define the fixture `adapter_under_test` there, and write one file with ``from ferrohsm.testing.conformance
import *``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("ferrohsm.testing.conformance")

from ferrohsm.testing.subject import Running, Subject  # noqa: E402 - after the line above, which must be first


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that describe the adapter."""
    group = parser.getgroup("ferrohsm", "FerroHSM adapters")
    group.addoption("--adapter", metavar="NAME", help="test this adapter with the conformance suite")
    group.addoption("--adapter-options", metavar="FILE", help="TOML: what the slot's section would say")
    group.addoption("--adapter-pin", metavar="PIN", default="123456", help="the user's PIN")
    group.addoption("--adapter-so-pin", metavar="PIN", default="12345678", help="the SO's PIN")
    group.addoption(
        "--adapter-keep-token",
        action="store_true",
        help="never initialize a token: one with that PIN is there",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Run the suite itself when an adapter is named and no test."""
    if config.getoption("adapter") and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(Path(__file__).with_name("conformance"))]


@pytest.fixture(scope="session")
def adapter_under_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Return the adapter that the command line names. Override it to describe your own."""
    config = request.config
    name = config.getoption("adapter")
    if not name:
        pytest.fail("name an adapter with --adapter, or define the fixture adapter_under_test", pytrace=False)
    return Subject(
        name,
        _options(config.getoption("adapter_options")),
        user_pin=config.getoption("adapter_pin"),
        so_pin=config.getoption("adapter_so_pin"),
        initialize=not config.getoption("adapter_keep_token"),
        data_dir=tmp_path_factory.mktemp("adapter"),
    )


def _options(path: str | None) -> dict[str, Any]:
    import tomllib

    return {} if path is None else tomllib.loads(Path(path).read_text())


@pytest.fixture
def running(adapter_under_test: Subject) -> Iterator[Running]:
    """Run the adapter in a core, with a token that has a user PIN."""
    with adapter_under_test.open() as running:
        yield running
