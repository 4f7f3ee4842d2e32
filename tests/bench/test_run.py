"""Runs with modules that work."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

import pytest
from ferrohsm_adapters.software._kernels import serves
from peer_modules import LIBRARIES, NSS

from ferrohsm import constants as ck

from .conftest import QUICK, Bench, row

OURS, RAW, SOFTHSM, LIBRARY = "FerroHSM", "raw engine", "SoftHSM 2", "cryptography"


def measured(found: dict[str, Any]) -> bool:
    return "trouble" not in found and 0 < found["low"] <= found["median"] <= found["high"]


def test_ours_and_the_raw_engine(bench: Bench, module_path: Any) -> None:
    document = bench.run(
        "--only", "--module", f"mine={module_path}", "--case", "random-32", "--case", "sha256-64"
    )
    assert [one["name"] for one in document["contestants"]] == ["mine", RAW]
    for case in ("random-32", "sha256-64"):
        for name in ("mine", RAW):
            assert measured(row(document, case, name)), row(document, case, name)
            assert row(document, case, name)["samples"] == 2


def test_a_peer_takes_part_by_itself(bench: Bench, need: Any) -> None:
    need("/usr/lib/softhsm/libsofthsm2.so", package="softhsm2")
    document = bench.run("--case", "session-info")
    assert measured(row(document, "session-info", OURS))
    assert measured(row(document, "session-info", SOFTHSM))
    assert not any(one["contestant"] == RAW for one in document["results"])  # it has no sessions


def test_nss_gets_its_database_from_the_init_string(bench: Bench, need: Any) -> None:
    path = need(NSS[0], package="libnss3", places=NSS)
    document = bench.run(
        "--only", "--module", f"NSS={path}", "--case", "ecdsa-p256-sign", "--case", "read-100"
    )
    assert measured(row(document, "ecdsa-p256-sign", "NSS"))
    assert measured(row(document, "read-100", "NSS"))


# Every operation of the driver once, with the module and, where it has one, the engine.
@pytest.mark.parametrize(
    "glob",
    [
        "load-initialize",
        "open-login",
        "session-*",
        "hmac-sha256-64",
        "aes-*-16K*",
        "rsa-2048-*",
        "ecdsa-p256-*",
        "ed25519-*",
        "ecdh-p256",
        "slh-dsa-*",
        "generate-*",
        "token-object",
        "sessions-100",
        "find-*-100",
        "read-100",
        "memory-process",
        "memory-session",
        "memory-session-object",
    ],
)
def test_every_operation(bench: Bench, module_path: Any, glob: str) -> None:
    document = bench.run("--only", "--module", f"mine={module_path}", "--case", glob)
    assert document["results"]
    older = () if serves(ck.CKF_SIGN, ck.CKM_SLH_DSA) else ("lacks CKM_SLH_",)
    for found in document["results"]:
        lacking = ("lacks CKM_ML_", "lacks CKM_SLH_") if found["contestant"] == RAW else older
        if found.get("trouble", "").startswith(lacking):
            continue  # a libcrypto of before 3.5
        assert "trouble" not in found, found
        assert found["median"] >= 0


def test_lattices_have_an_engine_to_compare_with(bench: Bench, module_path: Any) -> None:
    document = bench.run(
        "--only", "--module", f"mine={module_path}", "--case", "ml-*", "--threads", "1,2", "--rounds", "1"
    )
    cases = {found["case"] for found in document["results"]}
    assert len(cases) == 4
    for case in cases:
        for threads in (1, 2):
            assert measured(row(document, case, "mine", threads))
            assert measured(row(document, case, LIBRARY, threads))


def test_a_profile_says_how_much(bench: Bench, module_path: Any) -> None:
    module = ("--only", "--module", f"mine={module_path}", "--case", "session-info")
    file = bench.home.directory / "profile.json"
    bench("run", "--profile", "report", *module, "--rounds", "1", "--batch", "1", "--json", file)
    document = json.loads(file.read_text())
    assert document["settings"]["threads"] == [1, 2, 4]
    assert "--profile report" in document["command"] and "--full" not in document["command"]


def test_threads(bench: Bench, module_path: Any) -> None:
    document = bench.run(
        "--only", "--module", f"mine={module_path}", "--case", "sha256-1K", "--threads", "1,2,4"
    )
    for threads in (1, 2, 4):
        assert measured(row(document, "sha256-1K", "mine", threads))
        assert measured(row(document, "sha256-1K", RAW, threads))


def test_the_table(bench: Bench, module_path: Any) -> None:
    done = bench("run", *QUICK, "--only", "--module", f"mine={module_path}", "--case", "random-4K")
    head, line, *_ = done.stdout.decode().splitlines()
    assert head.split()[:3] == ["case", "threads", "mine"]
    assert line.split()[0] == "random-4K"
    assert b"[1/1] random-4K" in done.stderr  # nobody looks at a terminal: plain lines


def test_a_named_token_is_left_as_it_was(bench: Bench, token: Any) -> None:
    name = f"mine={token.module.path}"
    configuration = token.home.environment["FERROHSM_CONF"]
    before = token.pkcs11_tool("--list-objects")
    document = bench.run(
        "--only", "--module", name, "--env", f"mine:FERROHSM_CONF={configuration}",
        "--token", f"mine:{token.label}",
        "--pin-env", "mine:THE_PIN", "--case", "read-100", "--case", "session-object",
        environment={"THE_PIN": token.pin},
    )  # fmt: skip
    assert measured(row(document, "read-100", "mine"))
    assert token.pkcs11_tool("--list-objects") == before


def test_tls(bench: Bench, module_path: Any, need: Any) -> None:
    need("openssl", package="openssl")
    need(f"{LIBRARIES}/engines-3/pkcs11.so", package="libengine-pkcs11-openssl")
    document = bench.run(
        "--only", "--module", f"mine={module_path}", "--case", "tls-handshake", "--rounds", "1"
    )
    assert measured(row(document, "tls-handshake", "mine")), row(document, "tls-handshake", "mine")
    assert measured(row(document, "tls-handshake", RAW))


def test_the_document(bench: Bench, module_path: Any) -> None:
    document = bench.run("--only", "--module", f"mine={module_path}", "--case", "session-info")
    assert document["format"] == 1
    assert set(document) == {
        "format", "made", "ferrohsm", "command", "kernels", "machine", "settings", "contestants", "results"
    }  # fmt: skip
    assert str(module_path.parent) not in str(document)
    [found] = document["results"]
    assert set(found) == {"case", "contestant", "threads", "unit", "median", "best", "low", "high", "samples"}


def test_a_run_that_is_broken_off_leaves_what_there_is(bench: Bench, module_path: Any) -> None:
    file = bench.home.directory / "broken-off.json"
    arguments = ("run", *QUICK, "--only", "--module", f"mine={module_path}", "--json", file)
    command = [
        bench.program,
        "bench",
        *map(str, arguments),
        "--case",
        "session-info",
        "--case",
        "generate-rsa-2048",
    ]
    process = subprocess.Popen(
        [*command, "--rounds", "1000"],
        env=bench.home.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # A job in the background is started with SIGINT ignored, and would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            for _ in range(600):
                if file.exists():
                    break
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    document = json.loads(file.read_text())
    assert {found["case"] for found in document["results"]} == {"session-info"}
