"""Registration with p11-kit: p11-kit itself finds the module, and only what is ours is touched."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest


@pytest.fixture
def list_modules(home, need):
    """Ask p11-kit as a user who is not root, for whom it reads the user's files."""
    program = need("p11-kit", package="p11-kit")
    rights = "+dac_override,+dac_read_search"
    somebody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    ways = [
        ["unshare", "--user", "--map-user=1000", "--map-group=1000"],
        [*somebody, f"--inh-caps={rights}", f"--ambient-caps={rights}"],
    ]
    way = []
    if os.geteuid() == 0:
        way = next(
            w for w in ways if subprocess.run([*w, "true"], capture_output=True, check=False).returncode == 0
        )

    def ask(**options):
        return home.run(*way, program, "list-modules", **options).stdout.decode()

    return ask


@pytest.fixture
def registered(home):
    return home.directory / ".config" / "pkcs11" / "modules" / "ferrohsm.module"


def test_installed_for_the_user(ferrohsm, home, list_modules, registered):
    assert "libpkcs11.so" not in list_modules()
    before = os.umask(0o077)
    try:
        answer = ferrohsm.json("p11-kit", "install")
    finally:
        os.umask(before)
    assert answer == {"file": str(registered), "module": str(home.module.path)}
    assert stat.S_IMODE(registered.stat().st_mode) == 0o644
    listing = list_modules()
    assert str(home.module.path) in listing and "FerroHSM" in listing
    ferrohsm("p11-kit", "install", "--user")
    assert ferrohsm.json("p11-kit", "remove")["removed"] is True
    assert not registered.exists()
    assert ferrohsm.json("p11-kit", "remove")["removed"] is False
    assert list(registered.parent.iterdir()) == []


def test_somebody_elses_file_stays(ferrohsm, registered):
    registered.parent.mkdir(parents=True)
    registered.write_text("module: /other.so\n")
    ferrohsm.error("p11-kit", "install")
    ferrohsm.error("p11-kit", "remove")
    assert registered.read_text() == "module: /other.so\n"


def test_xdg_config_home(ferrohsm, home, list_modules):
    environment = {"XDG_CONFIG_HOME": str(home.directory / "xdg")}
    answer = ferrohsm.json("p11-kit", "install", environment=environment)
    assert answer["file"] == str(home.directory / "xdg" / "pkcs11" / "modules" / "ferrohsm.module")
    assert str(home.module.path) in list_modules(environment=environment)


def test_no_home(ferrohsm):
    assert "--system" in ferrohsm.error("p11-kit", "install", environment={"HOME": "/nonexistent"})


def test_where_the_system_keeps_them(ferrohsm, home):
    """pkg-config is asked; a stand-in answers here, so that this machine stays as it is."""
    place = home.directory / "system-modules"
    answers = home.directory / "bin" / "pkg-config"
    answers.parent.mkdir()
    answers.write_text(f'#!/bin/sh\n[ "$*" = "--variable=p11_module_configs p11-kit-1" ] && echo "{place}"\n')
    answers.chmod(0o755)
    environment = {"PATH": f"{answers.parent}:{home.environment['PATH']}"}
    ferrohsm("p11-kit", "install", "--system", environment=environment)
    assert f"module: {home.module.path}\n" in (place / "ferrohsm.module").read_text()
    ferrohsm("p11-kit", "remove", "--system", environment=environment)
    assert list(place.iterdir()) == []
