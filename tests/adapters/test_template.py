"""``ferrohsm adapter new``: what it writes installs, passes its own tests, and signs for a real program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from environment import Environment

CONFIGURATION = """\
data_dir = "{home}/data"

[kdf]
memory_kib = 7168
passes = 1

[slots.first]
adapter = "first-try"
device = "device"
"""


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ferrohsm")
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def plugin(environment: Environment, tmp_path: Path) -> Path:
    """A plugin that was just written and installed."""
    environment.run(tmp_path, "ferrohsm", "adapter", "new", "first-try")
    made = tmp_path / "ferrohsm-first-try"
    environment.run(tmp_path, "pip", "install", "-q", made)
    return made


def test_the_plugin(
    plugin: Path, environment: Environment, tmp_path: Path, module_path: Path, need: Callable[..., str]
) -> None:
    # The tutorial runs all of them, on the same files.
    assert " passed" in environment.run(plugin, "pytest", "-q", "-p", "no:cacheprovider", "-k", "device")
    (tmp_path / "ferrohsm.toml").write_text(CONFIGURATION.format(home=tmp_path))
    module = environment.run(tmp_path, "ferrohsm", "paths", "module").strip()
    assert Path(module) != module_path
    tool = [need("pkcs11-tool", package="opensc"), "--module", module]

    def run(*arguments: str | Path) -> str:
        return environment.run(tmp_path, *tool, *arguments)

    run("--slot-index", "0", "--init-token", "--label", "first", "--so-pin", "87654321")
    so = ("--token-label", "first", "--login", "--login-type", "so", "--so-pin", "87654321")
    run(*so, "--init-pin", "--new-pin", "123456")
    user = ("--token-label", "first", "--login", "--pin", "123456")
    run(*user, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "key", "--id", "01")
    assert len(list((tmp_path / "device").iterdir())) == 1
    (tmp_path / "data.txt").write_text("what is signed")
    sign = ("-m", "ECDSA-SHA256", "--id", "01", "--input-file", "data.txt")
    run(*user, "--sign", *sign, "--signature-format", "openssl", "--output-file", "signature")
    run(*user, "--read-object", "--type", "pubkey", "--id", "01", "--output-file", "public.der")
    openssl = (need("openssl", package="openssl"), "dgst", "-sha256", "-verify", "public.der")
    said = environment.run(tmp_path, *openssl, "-keyform", "DER", "-signature", "signature", "data.txt")
    assert "Verified OK" in said


def test_what_the_command_says(tmp_path: Path) -> None:
    done = command("adapter", "new", "my_device", "--directory", "here", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["directory"] == str(tmp_path / "here") and "pyproject.toml" in told["files"]
    assert {
        str(path.relative_to(tmp_path / "here"))
        for path in (tmp_path / "here").rglob("*.*")
        if path.is_file()
    } == set(told["files"])
    assert (tmp_path / "here" / "ferrohsm_my_device" / "signer.py").exists()


@pytest.mark.parametrize("name", ["", "Acme", "9lives", "a b", "../x", "x;y", "a--b"])
def test_bad_names_are_refused(name: str, tmp_path: Path) -> None:
    done = command("adapter", "new", name, cwd=tmp_path)
    assert done.returncode == 2 and "is no name" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_is_there_is_touched(tmp_path: Path) -> None:
    (tmp_path / "ferrohsm-acme").mkdir()
    done = command("adapter", "new", "acme", cwd=tmp_path)
    assert done.returncode == 1 and "is there already" in done.stderr
    assert list((tmp_path / "ferrohsm-acme").iterdir()) == []
