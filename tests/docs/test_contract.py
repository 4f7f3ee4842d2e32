"""Every public name of the adapters' contract and of their kit is explained where its authors look."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import ferrohsm_adapters.kit
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = "".join((ROOT / "docs" / name).read_text() for name in ("adapters.md", "tutorial-adapter.md"))
KIT = [
    f"ferrohsm_adapters.kit.{found.name}" for found in pkgutil.iter_modules(ferrohsm_adapters.kit.__path__)
]


def names(module: str) -> list[str]:
    """Return the classes and functions that a module itself makes public."""
    return [
        name
        for name, value in vars(importlib.import_module(module)).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module
    ]


@pytest.mark.parametrize("module", ["ferrohsm.adapters", *KIT])
def test_every_public_name_is_in_the_documentation(module: str) -> None:
    said = set(re.findall(r"`(\w+)", PAGES))
    public = names(module)
    assert public, module
    assert [name for name in public if name not in said] == []


def test_every_protocol_that_the_table_names_is_there() -> None:
    rows = re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \| (?:the|a|an) ", PAGES, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"\w+", row)}
    assert len(named) > 15 and named <= set(names("ferrohsm.adapters"))
