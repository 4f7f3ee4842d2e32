"""Random calls with hostile arguments, from a C host in its own process (fuzz_host.c).

FERROHSM_FUZZ_CALLS says how many, FERROHSM_FUZZ_SEED where they start; FERROHSM_SANITIZE=address builds the
host for a module that was built with AddressSanitizer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = int(os.environ.get("FERROHSM_FUZZ_CALLS", "20000"))
SEED = int(os.environ.get("FERROHSM_FUZZ_SEED", "20261124"))

CONFIGURATION = """\
data_dir = "{data}"

[pin]
delay = 0
tries = 1000

[kdf]
memory_kib = 7168
passes = 1

[log]
target = "{log}"
level = "error"
format = "text"
"""


@pytest.fixture(scope="session")
def fuzz_host(module_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_host"
    source = Path(__file__).with_name("fuzz_host.c")
    command = [os.environ.get("CC", "cc"), "-g", "-O1", "-Wall", "-Wextra", "-Werror"]
    if sanitize := os.environ.get("FERROHSM_SANITIZE"):
        command.append(f"-fsanitize={sanitize}")
    include = Path(module_path).parent / "include"
    subprocess.run([*command, f"-I{include}", source, "-o", program, "-ldl", "-lpthread"], check=True)
    return program


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.skipif(sys.platform == "win32", reason="the host program loads the module with dlopen")
def test_every_call_gets_an_answer_with_a_reason(
    fuzz_host: Path, module_path: Path, tmp_path: Path, threads: int
) -> None:
    data, log, conf = tmp_path / "data", tmp_path / "log", tmp_path / "ferrohsm.toml"
    data.mkdir()
    conf.write_text(CONFIGURATION.format(data=data, log=log))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FERROHSM_CONF": str(conf)}
    environment["ASAN_OPTIONS"] = "detect_leaks=0"  # CPython keeps what it allocates for its modules
    result = subprocess.run(
        [fuzz_host, module_path, str(CALLS // threads), str(SEED), str(threads)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=120 + CALLS / 50,
        check=False,
    )
    unexpected = log.read_text() if log.exists() else ""
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{unexpected[-4000:]}"
    assert not unexpected, unexpected[-4000:]
    succeeded = dict(re.findall(r"^succeeded (\w+): (\d+)$", result.stdout, re.MULTILINE))
    assert len(succeeded) == 10
    if CALLS >= 20000:
        assert all(int(count) > 0 for count in succeeded.values()), succeeded
