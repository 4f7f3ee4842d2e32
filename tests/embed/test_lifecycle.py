"""Start, stop, and what a host finds changed: nothing."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_initialize_and_finalize(run_host: Callable[..., Any]) -> None:
    result = run_host("lifecycle", silent=False)
    # The one thing that is worth a word: an init string that the configuration doesn't allow.
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("ferrohsm: ")


@pytest.mark.parametrize("state", ["plain", "handlers", "ignored", "locale", "closed", "directory"])
def test_the_process_is_left_alone(run_host: Callable[..., Any], state: str) -> None:
    run_host("untouched", state)


@pytest.mark.parametrize(("rounds", "kind"), [(1000, "plain"), (1000, "work"), (300, "reload")])
def test_a_thousand_lives(run_host: Callable[..., Any], rounds: int, kind: str) -> None:
    run_host("repeat", rounds, kind, timeout=300)


def test_sessions_need_no_interpreter(run_host: Callable[..., Any]) -> None:
    run_host("without_gil")


def test_threads_come_and_go(run_host: Callable[..., Any]) -> None:
    run_host("threads", 4000, timeout=300)


@pytest.mark.parametrize(
    "way",
    [
        "plain",
        "dlclose",
        "threads",
        "waiting",
        "pthread_exit",
        "atexit",
        "atexit early",
        "atexit threads",
        "atexit dlclose",
    ],
)
def test_the_end_of_a_process(run_host: Callable[..., Any], way: str) -> None:
    result = run_host("exits", way, silent=False, timeout=30)
    assert result.stderr == ("finalized\n" if "atexit" in way else "")


def test_hostile_environment(run_host: Callable[..., Any], tmp_path: Path) -> None:
    """No PYTHON* variable reaches the interpreter, nor does a module in the working directory."""
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in (
        "sitecustomize",
        "usercustomize",
        "site",
        "os",
        "ferrohsm",
        "pkcs11_abi",
        "sqlite3",
        "_signal",
    ):
        (hostile / f"{name}.py").write_text("import sys\nsys.stderr.write('hijacked\\n')\nsys.exit(3)\n")
        (tmp_path / f"{name}.py").write_text((hostile / f"{name}.py").read_text())
    environment = {
        "PYTHONHOME": "/nonexistent",
        "PYTHONPATH": str(hostile),
        "PYTHONSTARTUP": str(hostile / "site.py"),
        "PYTHONUSERBASE": str(hostile),
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONDEVMODE": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONMALLOC": "debug",
        "PYTHONPLATLIBDIR": "nowhere",
        "PYTHONEXECUTABLE": "/nonexistent/python",
        "__PYVENV_LAUNCHER__": "/nonexistent/python",
    }
    result = run_host("lifecycle", environment=environment, silent=False)
    assert "hijacked" not in result.stderr and len(result.stderr.splitlines()) == 1


def test_call_trace(run_host: Callable[..., Any], tmp_path: Path) -> None:
    """Functions, handles, mechanisms and results by name; never a PIN or data."""
    file = tmp_path / "trace"
    run_host("exits", "plain", environment={"FERROHSM_TRACE": str(file)})
    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [line.split(" ", 2)[2] for line in text.splitlines()]
    assert any(line.startswith("C_Initialize() = CKR_OK ") for line in lines)
    sign_init = next(line for line in lines if line.startswith("C_SignInit("))
    assert (
        "pMechanism=CKM_SHA256_HMAC" in sign_init and ") = CKR_OK " in sign_init and sign_init.endswith(" us")
    )
    assert any(line.startswith("C_Login(hSession=") and "userType=1" in line for line in lines)
    for secret in ("2468-user", "1357-officer", "Hi There"):
        assert secret not in text


def test_call_trace_on_the_standard_error(run_host: Callable[..., Any]) -> None:
    result = run_host("lists", environment={"FERROHSM_TRACE": "stderr"}, silent=False)
    assert "C_GetInterface(flags=0x1) = CKR_ARGUMENTS_BAD" in result.stderr


def test_call_trace_never_follows_a_link(run_host: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    link = tmp_path / "link"
    link.symlink_to(target)
    result = run_host("lists", environment={"FERROHSM_TRACE": str(link)}, silent=False)
    assert "FERROHSM_TRACE" in result.stderr and target.read_text() == ""
