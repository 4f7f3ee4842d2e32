"""Where the file is found, what it may say, and how a wrong one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

import pytest

from ferrohsm import config
from ferrohsm import constants as ck
from ferrohsm.errors import ArgumentsBad, GeneralError
from ferrohsm.settings import SETTINGS, KdfSettings, PinPolicy, StoreSettings


def write(tmp_path, text):
    path = tmp_path / "given.toml"
    path.write_text(text)
    return {"FERROHSM_CONF": str(path), "HOME": str(tmp_path)}


def test_nothing_at_all_is_a_configuration(tmp_path):
    loaded = config.load({"HOME": str(tmp_path)})
    assert loaded.data_dir == str(tmp_path / ".local/share/ferrohsm")
    assert [(slot.name, slot.adapter) for slot in loaded.slots] == [("software", "software")]
    assert loaded.slots[0].options == {"data_dir": loaded.data_dir, "free_slot": True, "ec_point": "der"}
    assert (loaded.pin.min_length, loaded.pin.max_length, loaded.pin.tries) == (4, 255, 10)
    assert (loaded.kdf.memory_kib, loaded.kdf.passes) == (19456, 2)
    assert (loaded.store.mode, loaded.log.target, loaded.allow_init_string) == (0o600, "off", False)
    assert not (tmp_path / ".local").exists()


def test_order_of_places(tmp_path):
    xdg, home = tmp_path / "xdg", tmp_path / "home"
    for base in (xdg / "ferrohsm", home / ".config/ferrohsm"):
        base.mkdir(parents=True)
        (base / "ferrohsm.toml").write_text(f'data_dir = "{base}"\n')
    given = write(tmp_path, 'data_dir = "here"\n')["FERROHSM_CONF"]
    everything = {"HOME": str(home), "XDG_CONFIG_HOME": str(xdg), "FERROHSM_CONF": given}
    assert config.load(everything).data_dir == str(tmp_path / "here")
    del everything["FERROHSM_CONF"]
    assert config.load(everything).path == str(xdg / "ferrohsm/ferrohsm.toml")
    everything["XDG_CONFIG_HOME"] = "relative"
    assert config.load(everything).path == str(home / ".config/ferrohsm/ferrohsm.toml")
    assert config.candidates({"HOME": str(home)})[-1] == config.SYSTEM_FILE


def test_everything_can_be_set(tmp_path):
    environment = write(
        tmp_path,
        """
        data_dir = "~/tokens"
        free_slot = false
        allow_init_string = true
        ec_point = "raw"
        memory_lock = "require"
        [pin]
        min_length = 6
        max_length = 64
        tries = 3
        delay = 1
        delay_cap = 2.5
        [kdf]
        memory_kib = 65536
        passes = 3
        [store]
        mode = 0o660
        group = 0
        busy_timeout = 3
        [log]
        target = "log/events"
        level = "debug"
        format = "text"
        [mechanisms]
        allow = ["CKM_AES_GCM", "CKM_SHA_1"]
        deny = ["CKM_SHA_1"]
        [slots.one]
        adapter = "software"
        [slots.two]
        adapter = "software"
        data_dir = "two"
        free_slot = true
        [slots.cloud]
        adapter = "somebody-elses"
        region = { name = "x" }
        """,
    )
    loaded = config.load(environment)
    assert loaded.data_dir == str(tmp_path / "tokens")
    assert loaded.pin.delay_after(0) == 0
    assert [loaded.pin.delay_after(failures) for failures in (1, 2, 3, 4000)] == [1, 2, 2.5, 2.5]
    assert (loaded.store.mode, loaded.store.directory_mode, loaded.store.group) == (0o660, 0o770, 0)
    assert loaded.log.target == str(tmp_path / "log/events")
    assert loaded.mechanisms.offers(ck.CKM_AES_GCM)
    assert not loaded.mechanisms.offers(ck.CKM_SHA_1)
    assert not loaded.mechanisms.offers(ck.CKM_SHA256)
    one, two, cloud = loaded.slots
    assert one.options == {"data_dir": loaded.data_dir, "free_slot": False, "ec_point": "raw"}
    assert two.options == {"data_dir": str(tmp_path / "two"), "free_slot": True, "ec_point": "raw"}
    assert (cloud.adapter, cloud.options) == ("somebody-elses", {"region": {"name": "x"}})
    assert cloud.config is loaded


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is not TOML"),
        ("data_dri = 'x'", "data_dri: unknown; did you mean data_dir?"),
        ("[pni]\nx = 1", "pni: unknown; did you mean pin?"),
        ("[pin]\ntires = 3", "pin.tires: unknown; did you mean tries?"),
        ("[pin]\nxyzzy = 3", "allowed are delay, delay_cap, max_length, min_length, tries"),
        ("pin = 4", "pin: must be a table: [pin]"),
        ("[pin]\ntries = 0", "pin.tries: must be an integer from 1 to 1000"),
        ("[pin]\ntries = true", "pin.tries: must be an integer"),
        ("[pin]\ntries = 2.5", "pin.tries: must be an integer"),
        ("[pin]\ndelay = 'x'", "pin.delay: must be a number from 0 to 60"),
        ("[pin]\ndelay = nan", "pin.delay: must be a number"),
        ("[pin]\nmin_length = 9\nmax_length = 8", "pin.min_length: 9 is more than pin.max_length"),
        ("[kdf]\nmemory_kib = 64", "kdf.memory_kib: must be an integer from 7168"),
        ("free_slot = 'yes'", "free_slot: must be true or false"),
        ("ec_point = 'x'", 'ec_point: must be "der" or "raw"'),
        ("[store]\nmode = 0o666", "store.mode: must be 0o600 or 0o640 or 0o660"),
        ("[store]\nmode = 'rw'", "store.mode: must be 0o600"),
        ("[store]\ngroup = 'no such group'", "store.group: there is no group 'no such group'"),
        ("data_dir = ''", "data_dir: must be text that is not empty"),
        ("data_dir = 3", "data_dir: must be text"),
        ("[mechanisms]\ndeny = ['CKM_AES_GCN']", "'CKM_AES_GCN' is no mechanism; did you mean CKM_AES_G"),
        ("[mechanisms]\nallow = 'CKM_AES_GCM'", "mechanisms.allow: must be a list of names"),
        ("slots = 3", "slots: must hold tables"),
        ("[slots.a]\ndata_dir = 'x'", "slots.a.adapter: must name an adapter"),
        ("[slots.a]\nadapter = 'software'\ndata = 'x'", "slots.a.data: unknown; did you mean data_dir?"),
        (
            "[slots.a]\nadapter='software'\n[slots.b]\nadapter='software'",
            "slots.b.data_dir: is the same as slots.a's",
        ),
    ],
)
def test_a_wrong_file_is_a_clear_error(tmp_path, text, said):
    environment = write(tmp_path, text)
    with pytest.raises(GeneralError) as caught:
        config.load(environment)
    assert str(caught.value).startswith(environment["FERROHSM_CONF"] + ": ")
    assert said in str(caught.value)


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(GeneralError, match="cannot be read: No such file"):
        config.load({"FERROHSM_CONF": str(tmp_path / "none"), "HOME": str(tmp_path)})


def test_not_utf8(tmp_path):
    environment = write(tmp_path, "")
    (tmp_path / "given.toml").write_bytes(b'data_dir = "\xff"')
    with pytest.raises(GeneralError, match="is not UTF-8"):
        config.load(environment)


@pytest.mark.parametrize(
    "environment", [{"HOME": "/nonexistent"}, {"HOME": "relative"}, {"HOME": "/dev/null"}]
)
def test_a_missing_home_is_no_error(environment):
    loaded = config.load(environment)
    assert loaded.data_dir is None
    assert "set data_dir in /etc/ferrohsm/ferrohsm.toml" in (loaded.data_problem or "")
    assert loaded.slots[0].options["data_dir"] is None


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        PinPolicy().tries = 1
    with pytest.raises(TypeError, match="no nonsense"):
        KdfSettings(nonsense=1)
    assert StoreSettings(mode=0o640).directory_mode == 0o750


INIT = "allow_init_string = true\n"


def test_an_init_string_must_be_allowed(tmp_path):
    with pytest.raises(ArgumentsBad, match="allow_init_string"):
        config.load(write(tmp_path, ""), "data_dir=/x")
    loaded = config.load(write(tmp_path, INIT), "data_dir=/x\tpin.tries=3  free_slot=false store.mode=0640")
    assert (loaded.data_dir, loaded.pin.tries, loaded.free_slot, loaded.store.mode) == ("/x", 3, False, 0o640)
    loaded = config.load(write(tmp_path, INIT), """data_dir="/a b" mechanisms.deny=CKM_RC4,CKM_DES_CBC""")
    assert loaded.data_dir == "/a b"
    assert loaded.mechanisms.deny == {ck.CKM_RC4, ck.CKM_DES_CBC}
    assert config.load(write(tmp_path, INIT), " ").allow_init_string


def test_an_init_string_may_name_another_file(tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("[pin]\ntries = 7\n")
    loaded = config.load(write(tmp_path, INIT), f"config={other} data_dir=/y")
    assert (loaded.path, loaded.pin.tries, loaded.data_dir) == (str(other), 7, "/y")


@pytest.mark.parametrize(
    "text",
    ["x", "=x", "data_dir", 'data_dir="x', 'data_dir="x"y', "a b=c", "data_dir=/x data_dir=/y", "nonsense=1"]
    + ["data_dir=relative", "pin.tries=x", "allow_init_string=false", "free_slot=1", "config=/nonexistent"],
)
def test_a_wrong_init_string_is_arguments_bad(tmp_path, text):
    with pytest.raises(ArgumentsBad):
        config.load(write(tmp_path, INIT), text)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to take other rights")
def test_the_environment_is_not_trusted_with_other_rights(tmp_path):
    """Real and effective user differ, and once more with all the same but file capabilities' mark set."""
    script = "from ferrohsm import config; import json; print(json.dumps(config.candidates()))"
    environment = {**os.environ, "FERROHSM_CONF": "/evil", "HOME": "/evil", "XDG_CONFIG_HOME": "/evil"}

    def candidates(rights):
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=environment,
            preexec_fn=rights,
            cwd=tmp_path,
            check=True,
        )
        return json.loads(done.stdout)

    assert candidates(None) == ["/evil"]
    for rights in (lambda: os.setresuid(65534, 0, 0), lambda: os.setresgid(65534, 0, 0)):
        found = candidates(rights)
        assert found[-1] == config.SYSTEM_FILE
        assert not any(path.startswith("/evil") for path in found)


def test_show_prints_a_file_that_loads_to_the_same(ferrohsm, tmp_path):
    text = ferrohsm("config", "show").stdout
    tomllib.loads(text)
    before = ferrohsm.json("config", "show")
    copy = tmp_path / "copy.toml"
    copy.write_text(text)
    after = ferrohsm.json("config", "show", "--config", copy)
    assert before.pop("path") == str(tmp_path / "ferrohsm.toml")
    assert after.pop("path") == str(copy)
    assert before == after
    for row in SETTINGS:
        assert row.key in (before[row.section] if row.section else before)


def test_check(ferrohsm, tmp_path):
    assert ferrohsm.json("config", "check")["valid"] is True
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[pin]\ntires = 3\n")
    assert f"{wrong}: pin.tires: unknown; did you mean tries? (CKR_GENERAL_ERROR)" in ferrohsm.error(
        "config", "check", wrong
    )
    assert "pin.tires" in ferrohsm.error("token", "list", "--config", wrong)
    wrong.write_text('[slots.web]\nadapter = "sofware"\n')
    assert f"{wrong}: slots.web.adapter: no installed" in ferrohsm.error("config", "check", wrong)
    wrong.write_text('[slots.web]\nadapter = "pkcs11_bridge"\nprofil = "nss"\n')
    assert f"{wrong}: slots.web.profil: is not known" in ferrohsm.error("config", "check", wrong)
