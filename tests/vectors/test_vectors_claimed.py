"""The documentation's table claims no known answer that no test runs through the C functions.

A claim of tools/facts/known-answers.json names its tests. Those of this folder note what they ran
(answers-run.json, which every run compares); of the others their text is read.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ferrohsm import constants as ck
from ferrohsm.mechanisms import ROWS

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "tools" / "facts"
HERE = "tests/vectors/"
PUBLISHED = "test_vectors_published.py::test_published_answers"
NAMES = {ck.name("CKM", type_) for type_ in ROWS}
CLAIMS: dict[str, dict[str, Any]] = json.loads((FACTS / "known-answers.json").read_text(encoding="utf-8"))
RUN: dict[str, list[str]] = json.loads((FACTS / "answers-run.json").read_text(encoding="utf-8"))


def claimed(pattern: str) -> set[str]:
    return {name for name in NAMES if re.fullmatch(pattern, name)}


def cases(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return found


def names_in(test: str) -> set[str]:
    """Return the mechanisms that a test names, itself or in what it uses of its module and of files."""
    file, _, function = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    parts: dict[str, list[ast.stmt]] = {}
    for part in tree.body:
        for name in _defined(part):
            parts.setdefault(name, []).append(part)
    assert function in parts, f"there is no {test}"
    seen: set[str] = set()
    waiting, found = [function], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for part in parts.get(name, ()):
            for node in ast.walk(part):
                if isinstance(node, ast.Attribute) and node.attr.startswith("CKM_"):
                    found.add(node.attr)
                elif isinstance(node, ast.Name):
                    waiting.append(node.id)
                elif isinstance(node, ast.Constant) and str(node.value).endswith(".json"):
                    data = next((ROOT / HERE).glob(str(node.value)))
                    found |= {case["mechanism"] for case in cases(data)}
    return found


def _defined(part: ast.stmt) -> list[str]:
    if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
        return [part.name]
    if isinstance(part, (ast.Assign, ast.AnnAssign)):
        targets = part.targets if isinstance(part, ast.Assign) else [part.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return []


@pytest.mark.parametrize("pattern", CLAIMS)
def test_what_is_claimed_is_run(pattern: str) -> None:
    tests, names = CLAIMS[pattern]["tests"], claimed(pattern)
    assert names and tests and CLAIMS[pattern]["source"]
    run: set[str] = set()
    for test in tests:
        module, _, function = test.partition("::")
        if module.startswith(HERE):
            did = {name for name in names if f"{Path(module).name}::{function}" in RUN.get(name, ())}
        else:
            did = names & names_in(test)
        assert did, f"{test} runs nothing of {pattern}"
        run |= did
    assert run == names


def test_the_rest_has_a_reason() -> None:
    reasons: dict[str, str] = json.loads((FACTS / "no-known-answers.json").read_text(encoding="utf-8"))
    answered = set(_published()).union(*map(claimed, CLAIMS))
    reasoned = [name for pattern in reasons for name in claimed(pattern)]
    assert sorted(NAMES - answered) == sorted(reasoned)


def _published() -> set[str]:
    folder = Path(__file__).parent
    return {case["mechanism"] for path in folder.glob("published/*.json") for case in cases(path)}


def test_what_is_published_is_run() -> None:
    assert _published() == {name for name, tests in RUN.items() if PUBLISHED in tests}
    assert set(RUN) <= NAMES
