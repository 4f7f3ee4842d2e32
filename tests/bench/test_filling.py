"""Very many objects are made in one commit, and the driver takes them for its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from ferrohsm_bench import runner as runner_module
from ferrohsm_bench.cases import Case
from ferrohsm_bench.contestants import OURS, Module, base_environment, known
from ferrohsm_bench.runner import Runner, Settings


@pytest.fixture
def ours(module_path: Path, tmp_path: Path) -> Module:
    environment, init, mode = known(str(module_path), tmp_path / "ours")
    if mode != "fresh" or module_path.parent.name != "pkcs11_abi":
        pytest.skip("only our own module is filled")
    (tmp_path / "home").mkdir()
    environment = {**base_environment(tmp_path / "home"), **environment}
    return Module(OURS, str(module_path), environment, 60.0, init=init, mode=mode)


def test_a_case_among_many(ours: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "_BY_ONES", 100)
    runner = Runner([ours], Settings(rounds=1, batch=0.001, threads=(1,)))
    try:
        runner.run(Case("find-label-50", "find-label", 50, objects=50, threads=False))
        assert ours.ask("count", 1000) == ["50"]
        for what in ("find-label", "find-same-label", "find-id", "read"):
            runner.run(Case(f"{what}-300", what, 300, objects=300, threads=False))
        assert ours.ask("count", 10_000) == ["300"]
        assert [row.get("trouble") for row in runner.rows] == [None] * 5
    finally:
        runner.quit()
