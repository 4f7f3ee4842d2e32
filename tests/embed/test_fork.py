"""fork without exec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_quiet_process(run_host: Callable[..., Any]) -> None:
    run_host("forks", "quiet")


def test_forks_by_other_threads(run_host: Callable[..., Any]) -> None:
    run_host("forks", "others")


def test_raw_clone(run_host: Callable[..., Any]) -> None:
    run_host("forks", "clone")


def test_while_four_threads_sign(run_host: Callable[..., Any]) -> None:
    run_host("forks", "busy", 60, timeout=300)


@pytest.mark.soak
def test_while_four_threads_sign_for_long(run_host: Callable[..., Any]) -> None:
    run_host("forks", "busy", 1000, timeout=3600)
