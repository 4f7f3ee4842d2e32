"""A service's world: no home, no passwd entry, a read-only root, two configurations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NOBODY = 54321  # a user id without a passwd entry

root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def slots(home, need, environment, *, prefix=()):
    """Return what pkcs11-tool says of the slots."""
    tool = need("pkcs11-tool", package="opensc")
    clean = {key: value for key, value in home.environment.items() if key not in ("FERROHSM_CONF", "HOME")}
    done = subprocess.run(
        [*prefix, tool, "--module", str(home.module.path), "--list-slots"],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def reachable_by_others(home):
    """Say whether another user can get at the installation, which may stand in a private directory."""
    probe = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "test", "-r"]
    return subprocess.run([*probe, str(home.module.path)], check=False).returncode == 0


@pytest.mark.parametrize("directory", ["/nonexistent", "relative/path", "/dev/null"])
def test_a_missing_home(ferrohsm, home, need, directory):
    environment = {"HOME": directory}
    assert "(empty)" in slots(home, need, environment)
    environment = {**environment, "FERROHSM_CONF": ""}
    (view,) = ferrohsm.json("token", "list", environment=environment)["tokens"]
    assert view["present"] is False
    assert (
        "set data_dir in /etc/ferrohsm/ferrohsm.toml"
        in ferrohsm("token", "list", environment=environment).stdout
    )
    said = ferrohsm.error(
        "token", "init", "--label", "x", "--no-pin", "--so-pin-env", "SO", environment=environment
    )
    assert "set data_dir" in said
    ferrohsm("paths", "data", environment=environment, code=1)
    assert not Path("/nonexistent").exists()


@root
def test_no_home_and_no_passwd_entry(ferrohsm, home, need):
    setpriv = need("setpriv", package="util-linux")
    if not reachable_by_others(home):
        pytest.skip("the installation cannot be reached by another user")
    prefix = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    assert "(empty)" in slots(home, need, {}, prefix=prefix)
    done = subprocess.run(
        [*prefix, ferrohsm.program, "doctor", "--json"],
        capture_output=True,
        text=True,
        env={"PATH": home.environment["PATH"]},
        cwd="/",
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["healthy"] is False
    broken = [check for check in report["checks"] if check["state"] == "broken"]
    assert [check["check"] for check in broken] == ["store of slot software"]
    assert "set data_dir" in broken[0]["remedy"]


@root
def test_a_directory_of_somebody_else(ferrohsm, home, need):
    setpriv = need("setpriv", package="util-linux")
    if not reachable_by_others(home):
        pytest.skip("the installation cannot be reached by another user")
    directory = Path("/tmp") / f"ferrohsm-test-{os.getpid()}"
    directory.mkdir(mode=0o755)
    try:
        (directory / "ferrohsm.toml").write_text('data_dir = "data"\n')
        (directory / "data").mkdir(mode=0o700)
        prefix = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        environment = {"FERROHSM_CONF": str(directory / "ferrohsm.toml")}
        assert "(empty)" in slots(home, need, environment, prefix=prefix)
    finally:
        shutil.rmtree(directory)


@root
def test_a_read_only_root(ferrohsm, home, need):
    """A directory that cannot be made is no token; one that is there is a write-protected token."""
    unshare = need("unshare", package="util-linux")
    probe = subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("mounts are not allowed here")
    made = ferrohsm.make()
    ferrohsm("key", "generate", "aes", "--label", "k", "--pin-env", "PIN")
    freeze = (
        f"mount --bind {home.directory} {home.directory} && mount -o remount,bind,ro {home.directory} && "
    )
    words = f"exec {ferrohsm.program}"

    def frozen(line, environment=None, code=0):
        done = subprocess.run(
            [unshare, "--mount", "sh", "-c", freeze + line],
            capture_output=True,
            text=True,
            env={**home.environment, "PIN": "user-pin-0815", "NEW": "another-pin-42", **(environment or {})},
            cwd="/",
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    (view,) = [v for v in json.loads(frozen(f"{words} token list --json").stdout)["tokens"] if not v["free"]]
    assert view == {**made, "write_protected": True}
    closed = frozen(f"{words} object list --pin-env PIN", code=1).stderr
    assert "the audit cannot be written" in closed
    with (home.directory / "ferrohsm.toml").open("a") as file:
        file.write('\n[audit]\non_failure = "open"\n')
    listed = json.loads(frozen(f"{words} object list --pin-env PIN --json").stdout)
    assert [shape["label"] for shape in listed["objects"]] == ["k"]
    said = frozen(f"{words} key generate aes --pin-env PIN", code=1).stderr
    assert "CKR_TOKEN_WRITE_PROTECTED" in said and said.count("\n") == 1
    health = json.loads(frozen(f"{words} doctor --json").stdout)
    state = {check["check"]: check["state"] for check in health["checks"]}
    assert state["store of slot software"] == "warning"

    empty = home.directory / "empty.toml"
    empty.write_text('data_dir = "nowhere"\n')
    nowhere = {"FERROHSM_CONF": str(empty)}
    tool = need("pkcs11-tool", package="opensc")
    assert "(empty)" in frozen(f"exec {tool} --module {home.module.path} -L", nowhere).stdout
    report = json.loads(frozen(f"{words} doctor --json", nowhere, code=1).stdout)
    broken = [check for check in report["checks"] if check["state"] == "broken"]
    assert any("set data_dir in the configuration" in check["remedy"] for check in broken)


def test_one_log_line_names_the_remedy(ferrohsm, home, need):
    """The configuration that has no place for tokens says so once, where the log goes."""
    events = home.directory / "events"
    config = home.directory / "log-only.toml"
    config.write_text(f'[log]\ntarget = "{events}"\n')
    slots(home, need, {"HOME": "/nonexistent", "FERROHSM_CONF": str(config)})
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert len([line for line in lines if "data_dir" in json.dumps(line)]) == 1


def test_an_openssl_configuration_that_takes_algorithms_away_costs_no_try(ferrohsm, home, need):
    """The host's OPENSSL_CONF is not ours, but the library that derives keys from PINs obeys it."""
    log = home.directory / "events"
    with open(home.directory / "ferrohsm.toml", "a") as file:
        file.write(f'[log]\ntarget = "{log}"\n[pin]\ntries = 3\n')
    made = ferrohsm.make()
    hostile = home.directory / "hostile.cnf"
    hostile.write_text(
        "openssl_conf = init\n[init]\nproviders = providers\nalg_section = properties\n"
        "[providers]\nbase = base\n[base]\nactivate = 1\n[properties]\ndefault_properties = fips=yes\n"
    )
    tool = [need("pkcs11-tool", package="opensc"), "--module", home.module.path]
    login = [*tool, "--token-label", made["label"], "--login", "--pin", "user-pin-0815", "--list-objects"]
    for _ in range(4):
        done = home.run(*login, environment={"OPENSSL_CONF": str(hostile)}, check=False)
        assert b"CKR_DEVICE_ERROR" in done.stdout + done.stderr
    assert "OPENSSL_CONF" in log.read_text()
    home.run(*login)


def test_two_configurations_do_not_meet(ferrohsm, home):
    for name in ("one", "two"):
        (home.directory / f"{name}.toml").write_text(
            f'data_dir = "{name}"\n[kdf]\nmemory_kib = 7168\npasses = 1\n'
        )
        ferrohsm(
            "token", "init", "--label", name, "--no-pin", "--so-pin-env", "SO",
            "--config", home.directory / f"{name}.toml",
        )  # fmt: skip
    for name in ("one", "two"):
        views = ferrohsm.json("token", "list", "--config", home.directory / f"{name}.toml")["tokens"]
        assert [view["label"] for view in views if not view["free"]] == [name]


def test_the_module_and_the_command_see_the_same(ferrohsm, home, need, token):
    listing = slots(
        home, need, {"FERROHSM_CONF": home.environment["FERROHSM_CONF"], "HOME": str(home.directory)}
    )
    assert "alpha" in listing and token["serial"] in listing
    assert f"0x{token['slot']:x}" in listing


@root
@pytest.mark.parametrize("wanted", ["try", "require"])
def test_memory_that_cannot_be_locked(ferrohsm, home, need, wanted):
    """With ``try`` there is a warning, with ``require`` there is no token; one line tells the remedy."""
    setpriv = need("setpriv", package="util-linux")
    prlimit = need("prlimit", package="util-linux")
    log = home.directory / "log"
    file = home.directory / "lock.toml"
    file.write_text(
        f'data_dir = "{home.directory}/data"\nmemory_lock = "{wanted}"\n[log]\ntarget = "{log}"\n'
    )
    environment = {"FERROHSM_CONF": str(file)}
    prefix = [setpriv, "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", prlimit, "--memlock=0"]
    tool = need("pkcs11-tool", package="opensc")
    listed = home.run(*prefix, tool, "--module", home.module.path, "-L", environment=environment)
    assert ("(empty)" in listed.stdout.decode()) == (wanted == "require")
    lines = [line for line in log.read_text().splitlines() if "locked" in line]
    assert len(lines) == 1 and "LimitMEMLOCK" in lines[0]
    if wanted == "require":
        listed = home.run(tool, "--module", home.module.path, "-L", environment=environment)
        assert "uninitialized" in listed.stdout.decode(), "root may lock memory without a limit"
