"""Events: where they go, what they say, and what they never say."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from ferrohsm import log
from ferrohsm.settings import LogSettings


@pytest.fixture(autouse=True)
def quiet():
    yield
    log.close()


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events"
    log.configure(LogSettings(target=str(path), level="debug"))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_off_by_default(capfd):
    log.event("error", "something")
    assert not log.enabled("error")
    assert capfd.readouterr() == ("", "")


def test_nothing_heavy_is_imported():
    script = (
        "from ferrohsm import config, log; log.configure(config.load().log); log.event('error', 'x');"
        "heavy = ('logging', 'json', 'tomllib', 'socket', 'syslog', 'asyncio', 'inspect');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {script}"],
        capture_output=True,
        text=True,
        env={"HOME": "/nonexistent"},
        check=True,
    )
    assert done.stdout == "[]\n"


def test_a_line_is_one_json_object(events):
    log.event("info", "slot opened", slot=3, label="a\nb", ratio=0.5, ok=True, nothing=None)
    (event,) = events()
    assert event["time"].endswith("Z")
    assert (event["level"], event["event"], event["pid"]) == ("info", "slot opened", os.getpid())
    assert (event["slot"], event["label"], event["ratio"], event["ok"]) == (3, "a\nb", 0.5, True)


def test_what_sounds_secret_or_is_no_plain_value_is_not_written(events):
    secret = bytearray(b"5up3r-5ecret")
    text = secret.decode()
    log.event("info", "careless", pin=text, so_pin=text, password=text, key_value=text, data=secret, x=[text])
    log.event(
        "info", "careless", view=memoryview(secret), raw=bytes(secret), seed=47110815_47110815, pin_set=True
    )
    first, second = events()
    assert text not in json.dumps([first, second]) and "4711081547110815" not in json.dumps([first, second])
    assert first["pin"] == first["so_pin"] == first["key_value"] == "<redacted>"
    assert (first["data"], first["x"], second["raw"]) == ("<bytearray>", "<list>", "<bytes>")
    assert second["pin_set"] is True


def test_long_texts_are_cut(events):
    log.event("info", "long", label="x" * 10000)
    assert len(events()[0]["label"]) < 300


def test_an_exception_is_its_type_and_places(events):
    def inner():
        raise ValueError("5up3r-5ecret")

    try:
        try:
            inner()
        except ValueError as error:
            raise KeyError("5up3r-5ecret") from error
    except KeyError as error:
        log.failure("unexpected", error, slot=1)
    (event,) = events()
    assert event["error"] == "builtins.KeyError from builtins.ValueError"
    assert "test_log.py" in event["where"]
    assert "5up3r" not in json.dumps(event)


def test_levels(tmp_path):
    path = tmp_path / "events"
    log.configure(LogSettings(target=str(path), level="warning", format="text"))
    log.event("info", "no")
    log.event("warning", "yes", slot=1, text='a "b"')
    assert path.read_text().endswith(f' warning [{os.getpid()}] yes slot=1 text="a \\"b\\""\n')
    assert path.read_text().count("\n") == 1


def test_the_file_is_its_owners_whatever_the_umask(tmp_path):
    path = tmp_path / "events"
    before = os.umask(0)
    try:
        log.configure(LogSettings(target=str(path)))
        log.event("info", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "missing"])
def test_what_is_no_file_is_left_alone(tmp_path, kind):
    """The event is lost, and the call that made it goes on."""
    path, victim = tmp_path / "events", tmp_path / "victim"
    victim.write_text("precious")
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path = tmp_path / "no" / "events"
    log.configure(LogSettings(target=str(path)))
    log.event("info", "x")
    assert victim.read_text() == "precious"


def test_a_host_that_closed_all_descriptors_keeps_its_own_files(tmp_path):
    log.configure(LogSettings(target=str(tmp_path / "events")))
    log.event("info", "one")
    before = len(os.listdir("/proc/self/fd"))
    log.event("info", "two")
    assert len(os.listdir("/proc/self/fd")) == before
    os.rename(tmp_path / "events", tmp_path / "events.1")
    log.event("info", "three")
    assert "three" in (tmp_path / "events").read_text()


def test_stderr(capfd):
    log.configure(LogSettings(target="stderr"))
    log.event("info", "here")
    assert json.loads(capfd.readouterr().err)["event"] == "here"


def test_syslog(tmp_path, monkeypatch):
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(5)
        monkeypatch.setattr(log, "_SYSLOG_SOCKETS", (str(tmp_path / "none"), path))
        log.configure(LogSettings(target="syslog"))
        log.event("error", "broken", slot=1)
        said = receiver.recv(4096).decode()
    assert said.startswith("<83>")  # authpriv.err
    assert f"ferrohsm[{os.getpid()}]: " in said
    assert json.loads(said[said.index("{") :])["event"] == "broken"


def test_no_syslog_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "_SYSLOG_SOCKETS", (str(tmp_path / "none"),))
    log.configure(LogSettings(target="syslog"))
    log.event("error", "lost")


def test_the_log_of_a_whole_life_holds_no_pin(ferrohsm, home):
    """Right and wrong PINs, keys made and read, at the most talkative level."""
    events = home.directory / "events"
    with open(home.directory / "ferrohsm.toml", "a") as file:
        file.write(f'[log]\ntarget = "{events}"\nlevel = "debug"\n[pin]\ndelay = 0\n')
    ferrohsm.make()
    ferrohsm("key", "generate", "aes", "--extractable", "--label", "k", "--pin-env", "PIN")
    ferrohsm("object", "list", "--pin-env", "NEW", code=4)
    exported = ferrohsm(
        "object", "export", "--label", "k", "--plain", "--format", "hex", "--out", "-", "--pin-env", "PIN"
    )
    ferrohsm("token", "set-pin", "--pin-env", "PIN", "--new-pin-env", "NEW")
    content = events.read_text() if events.exists() else ""
    for line in content.splitlines():
        json.loads(line)
    for pin in home.pins:
        assert pin not in content
    assert exported.stdout.strip() not in content
