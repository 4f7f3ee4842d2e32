"""What goes wrong stands in its row, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .conftest import Bench, row

BAD = ("--token", "bad:bad", "--pin-env", "bad:THE_PIN")
PIN = {"environment": {"THE_PIN": "good"}}


def trouble(document: dict[str, Any], case: str, name: str = "bad") -> str:
    return str(row(document, case, name)["trouble"])


def with_ours(module_path: Any) -> tuple[str, ...]:
    return ("--only", "--module", f"mine={module_path}")


def test_a_path_that_does_not_load(bench: Bench, module_path: Any) -> None:
    document = bench.run(
        *with_ours(module_path),
        "--module",
        "bad=/nowhere/module.so",
        "--case",
        "session-info",
        "--case",
        "load-*",
    )
    assert trouble(document, "session-info").startswith("does not load")
    assert trouble(document, "load-initialize").startswith("does not load")
    assert "median" in row(document, "session-info", "mine")
    assert "median" in row(document, "load-initialize", "mine")


def test_a_library_that_is_no_module(bench: Bench, module_path: Any) -> None:
    document = bench.run(*with_ours(module_path), "--module", "bad=libcrypto.so.3", "--case", "session-info")
    assert trouble(document, "session-info") == "does not load: it has no C_GetFunctionList"
    assert "median" in row(document, "session-info", "mine")


def test_a_token_that_is_missing(bench: Bench, module_path: Any) -> None:
    document = bench.run(
        "--only", "--module", f"bad={module_path}", "--token", "bad:nobody", "--pin-env", "bad:THE_PIN",
        "--case", "session-info", "--case", "random-32", **PIN,
    )  # fmt: skip
    assert trouble(document, "session-info") == "no token labelled nobody"
    assert trouble(document, "random-32") == "no token labelled nobody"
    assert "median" in row(document, "random-32", "raw engine")


def test_a_wrong_pin_is_tried_once(bench: Bench, token: Any) -> None:
    configuration = token.home.environment["FERROHSM_CONF"]
    document = bench.run(
        "--only", "--module", f"bad={token.module.path}", "--env", f"bad:FERROHSM_CONF={configuration}",
        "--token", f"bad:{token.label}", "--pin-env", "bad:THE_PIN", "--case", "session-*",
        "--case", "random-*", environment={"THE_PIN": "not the PIN"},
    )  # fmt: skip
    for case in ("session-info", "session-object", "random-32", "random-4K"):
        assert trouble(document, case) == "C_Login CKR_PIN_INCORRECT"
    token.pkcs11_tool("--list-objects")  # the right one still works


def test_a_mechanism_that_is_missing(bench: Bench, bad_module: Callable[[str], str]) -> None:
    document = bench.run(
        "--only",
        "--module",
        f"bad={bad_module('BAD')}",
        *BAD,
        "--case",
        "sha256-64",
        "--case",
        "random-32",
        **PIN,
    )
    assert trouble(document, "sha256-64") == "lacks CKM_SHA256"
    assert "median" in row(document, "random-32", "bad")


def test_a_module_that_dies_while_it_is_loaded(
    bench: Bench, module_path: Any, bad_module: Callable[[str], str]
) -> None:
    document = bench.run(
        *with_ours(module_path), "--module", f"bad={bad_module('ABORTS_IN_INITIALIZE')}", *BAD,
        "--case", "load-initialize", "--case", "random-32", **PIN,
    )  # fmt: skip
    assert trouble(document, "load-initialize") == "the process died of SIGABRT"
    assert trouble(document, "random-32") == "the process died of SIGABRT"
    assert "median" in row(document, "random-32", "mine")


def test_a_module_that_dies_is_started_again(
    bench: Bench, module_path: Any, bad_module: Callable[[str], str]
) -> None:
    document = bench.run(
        *with_ours(module_path), "--module", f"bad={bad_module('ABORTS_IN_RANDOM')}", *BAD,
        "--case", "session-info", "--case", "random-*", "--case", "session-open-close", **PIN,
    )  # fmt: skip
    assert trouble(document, "random-32") == "the process died of SIGABRT"
    assert trouble(document, "random-4K") == "the process died of SIGABRT"
    assert "median" in row(document, "session-open-close", "bad")
    assert "median" in row(document, "random-32", "mine")


def test_a_module_that_hangs(bench: Bench, module_path: Any, bad_module: Callable[[str], str]) -> None:
    document = bench.run(
        *with_ours(module_path), "--module", f"bad={bad_module('HANGS_IN_RANDOM')}", *BAD, "--timeout", "5",
        "--case", "random-32", "--case", "session-info", **PIN,
    )  # fmt: skip
    assert trouble(document, "random-32") == "no answer within 5 s"
    assert "median" in row(document, "random-32", "mine")
    assert "median" in row(document, "session-info", "bad")


def test_usage(bench: Bench) -> None:
    for arguments, words in (
        (["--case", "nothing-*"], b"no case has such a name"),
        (["--module", "no-path"], b"NAME="),
        (["--env", "who:A=B"], b"no module is named who"),
        (["--threads", "two"], b"--threads"),
        (["--rounds", "0"], b"above 0"),
        (["--only"], b"--module"),
        (["--module", "a=/x", "--token", "a:b"], b"--pin-env"),
    ):
        assert words in bench("run", *arguments, code=2).stderr
