"""``ferrohsm migrate``: a token of SoftHSM 2's, filled by its own tools, becomes one of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from peer_modules import NSS, SOFTHSM2

from tests.cli.conftest import PIN

OTHER_PIN = "old-pin-77"


class Old:
    """A token of SoftHSM 2's."""

    def __init__(self, home: Any, module: str) -> None:
        self.home = home
        self.module = module
        self.environment = {"SOFTHSM2_CONF": str(home.directory / "softhsm2.conf")}
        (home.directory / "softhsm2").mkdir()
        (home.directory / "softhsm2.conf").write_text(
            f"directories.tokendir = {home.directory / 'softhsm2'}\nlog.level = ERROR\n"
        )
        self.util("--init-token", "--free", "--label", "old", "--so-pin", "87654321", "--pin", OTHER_PIN)

    def util(self, *arguments: str | Path) -> None:
        self.home.run("softhsm2-util", *arguments, environment=self.environment)

    def tool(self, *arguments: str | Path, **options: Any) -> bytes:
        command = [
            "pkcs11-tool",
            "--module",
            self.module,
            "--token-label",
            "old",
            "--login",
            "--pin",
            OTHER_PIN,
        ]
        output: bytes = self.home.run(*command, *arguments, environment=self.environment, **options).stdout
        return output

    def fill(self) -> None:
        """Make one of everything: what may be read, what may only be wrapped, what may never leave."""
        for kind, label, identity in (
            ("rsa:2048", "rsa", "01"),
            ("EC:prime256v1", "ec", "02"),
            ("EC:secp384r1", "ec384", "03"),
        ):
            self.tool("--keypairgen", "--key-type", kind, "--label", label, "--id", identity, "--extractable")
        self.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "stays", "--id", "04")
        for kind, label, identity, *more in (
            ("aes:32", "open", "10", "--extractable"),
            ("aes:16", "closed", "11", "--extractable", "--sensitive"),
            ("GENERIC:21", "odd", "12", "--extractable", "--sensitive", "--usage-sign"),
            ("aes:32", "fixed", "13", "--sensitive"),
        ):
            self.tool("--keygen", "--key-type", kind, "--label", label, "--id", identity, *more)
        data, key = self.home.directory / "data", self.home.directory / "key.pem"
        data.write_text("a note")
        for label in ("note", "again"):
            self.tool("--write-object", data, "--type", "data", "--label", label, "--private")
        made = rsa.generate_private_key(65537, 2048)
        key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.util("--import", key, "--token", "old", "--label", "brought", "--id", "20", "--pin", OTHER_PIN)


@pytest.fixture
def old(home: Any, need: Callable[..., str]) -> Old:
    pytest.importorskip("PyKCS11", reason="PyKCS11 is a test dependency")
    need("softhsm2-util", package="softhsm2")
    need("pkcs11-tool", package="opensc")
    made = Old(home, need(SOFTHSM2[0], package="softhsm2", places=SOFTHSM2))
    home.pins.append(OTHER_PIN)
    return made


@pytest.fixture
def migrate(ferrohsm: Any, old: Old, token: dict[str, Any]) -> Callable[..., Any]:
    """Migrate and return the report; `token` is where to."""

    def run(*arguments: str, code: int) -> Any:
        command = [
            "migrate",
            "--from",
            "softhsm2",
            "--module",
            old.module,
            "--token-label",
            "old",
            "--to",
            "alpha",
        ]
        pins = ["--from-pin-env", "OLD", "--pin-env", "PIN"]
        environment = {**old.environment, "OLD": OTHER_PIN}
        done = ferrohsm(*command, *pins, *arguments, "--json", code=code, environment=environment)
        assert OTHER_PIN not in done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


def by_name(report: Any, status: str) -> set[tuple[str, str]]:
    return {(each["class"], each["label"]) for each in report["objects"] if each["status"] == status}


LEFT = {("private", "stays"), ("secret", "fixed"), ("private", "brought")}
MOVED = {
    *((kind, label) for kind in ("public", "private") for label in ("rsa", "ec", "ec384")),
    ("public", "stays"),
    ("public", "brought"),
    *(("secret", label) for label in ("open", "closed", "odd")),
    *(("data", label) for label in ("note", "again")),
}


def test_everything_that_may_leave_is_moved(
    ferrohsm: Any, old: Old, migrate: Callable[..., Any], tmp_path: Path
) -> None:
    old.fill()
    message, before, after = tmp_path / "message", tmp_path / "before", tmp_path / "after"
    message.write_bytes(b"a message that was signed")
    sign = ("--mechanism", "SHA256-RSA-PKCS", "--id", "01")
    old.tool("--sign", *sign, "--input-file", message, "--output-file", before)

    tried = migrate("--dry-run", code=1)
    assert by_name(tried, "moved") == MOVED
    assert ferrohsm.json("object", "list", "--token", "alpha", "--pin-env", "PIN")["objects"] == []

    report = migrate(code=1)
    assert by_name(report, "moved") == MOVED
    assert by_name(report, "left") == LEFT
    assert report["counts"] == {"moved": len(MOVED), "present": 0, "left": len(LEFT)}
    for each in report["objects"]:
        if each["status"] == "left":
            assert "CKA_EXTRACTABLE is false" in each["why"]
        else:
            assert each["verified"], each
    ways = {(each["class"], each["label"]): each["way"] for each in report["objects"]}
    assert ways["private", "ec"].startswith("CKM_AES_KEY_WRAP")
    assert ways["secret", "odd"] == "CKM_RSA_PKCS_OAEP"  # 21 bytes: SoftHSM would pad it
    assert ways["secret", "open"] == "read"
    changes = next(each["changes"] for each in report["objects"] if each["label"] == "closed")
    assert "CKA_ALWAYS_SENSITIVE: true → false" in changes

    ours = ["pkcs11-tool", "--module", ferrohsm.home.module.path, "--token-label", "alpha", "--login"]
    ours += ["--pin", "user-pin-0815"]
    home = ferrohsm.home
    home.run(*ours, "--verify", *sign, "--input-file", message, "--signature-file", before)
    home.run(*ours, "--sign", *sign, "--input-file", message, "--output-file", after)
    old.tool("--verify", *sign, "--input-file", message, "--signature-file", after)
    shown = ferrohsm.json("object", "show", "--label", "closed", "--token", "alpha", "--pin-env", "PIN")
    attributes = shown["objects"][0] if "objects" in shown else shown
    assert "(sensitive)" in json.dumps(attributes)

    again = migrate(code=1)
    assert by_name(again, "present") == MOVED
    assert by_name(again, "left") == LEFT


def test_keys_that_look_alike_are_told_apart(migrate: Callable[..., Any], ferrohsm: Any, old: Old) -> None:
    """One of ours with the same label and id is another key: it stays, and the others come beside it."""
    for _ in range(2):
        old.tool(
            "--keygen", "--key-type", "aes:32", "--label", "kek", "--id", "01", "--extractable", "--sensitive"
        )
    make = ("key", "generate", "aes", "--label", "kek", "--id", "01", "--token", "alpha", "--pin-env", "PIN")
    ferrohsm(*make)
    report = migrate(code=0)
    assert report["counts"] == {"moved": 2, "present": 0, "left": 0}
    assert len({each["object"] for each in report["objects"]}) == 2
    assert len(ferrohsm.json("object", "list", "--token", "alpha", "--pin-env", "PIN")["objects"]) == 3
    assert migrate(code=0)["counts"] == {"moved": 0, "present": 2, "left": 0}


def test_what_is_wrong_is_said(ferrohsm: Any, old: Old, token: dict[str, Any]) -> None:
    def error(*arguments: str, code: int) -> str:
        environment = {**old.environment, "OLD": OTHER_PIN, "WRONG": "wrong-pin"}
        said: str = ferrohsm.error("migrate", *arguments, code=code, environment=environment)
        return said

    ours = ("--to", "alpha", "--pin-env", "PIN", "--from-pin-env", "OLD")
    module = ("--module", old.module)
    assert "which module" in error("--from", "pkcs11", *ours, code=2)
    assert "very module" in error(
        "--from", "pkcs11", "--module", str(ferrohsm.home.module.path), *ours, code=2
    )
    assert "no such token" in error("--from", "softhsm2", *module, "--token-label", "x", *ours, code=3)
    wrong = ("--to", "alpha", "--pin-env", "PIN", "--from-pin-env", "WRONG")
    assert "CKR_PIN_INCORRECT" in error("--from", "softhsm2", *module, *wrong, code=4)
    assert "no token 'other'" in error(
        "--from", "softhsm2", *module, "--to", "other", "--pin-env", "PIN", "--from-pin-env", "OLD", code=3
    )


def test_from_nss(ferrohsm: Any, home: Any, need: Callable[..., str], token: dict[str, Any]) -> None:
    pytest.importorskip("PyKCS11", reason="PyKCS11 is a test dependency")
    module = need(NSS[0], package="libnss3", places=NSS)
    certutil = need("certutil", package="libnss3-tools")
    database, password, noise = home.directory / "nss", home.directory / "password", home.directory / "noise"
    database.mkdir()
    password.write_text(OTHER_PIN + "\n")
    password.chmod(0o600)
    noise.write_bytes(bytes(range(256)) * 2)
    where = ["-d", f"sql:{database}", "-f", password]
    home.run(certutil, "-N", *where)
    home.run(
        certutil, "-S", *where, "-z", noise, "-n", "server", "-s", "CN=server", "-x", "-t", "u,u,u",
        "-k", "ec", "-q", "nistp256",
    )  # fmt: skip
    init = f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=readOnly"
    command = [
        "migrate",
        "--from",
        "pkcs11",
        "--module",
        module,
        "--init",
        init,
        "--from-slot",
        "2",
        "--json",
    ]
    done = ferrohsm(
        *command, "--to", "alpha", "--from-pin-env", "OLD", "--pin-env", "PIN",
        environment={"OLD": OTHER_PIN},
    )  # fmt: skip
    report = json.loads(done.stdout)
    moved = {each["class"]: each for each in report["objects"] if each["status"] == "moved"}
    assert {"private", "public", "certificate"} <= moved.keys(), report
    assert all(each["verified"] for each in moved.values())


ONE_TIME = """
import ctypes, sys
sys.path[:0] = [{abi!r}]
from cryptoki import Cryptoki
from ferrohsm import constants as ck

p11 = Cryptoki({library!r})
p11("C_Initialize", None)
about = ctypes.create_string_buffer(256)
for slot in p11.slots():
    p11("C_GetTokenInfo", slot, about)
    if about.raw[:32].rstrip() != b"old":
        continue
    session = p11.open(slot)
    p11("C_Login", session, ck.CKU_USER, {pin!r}, {length})
    for label, sensitive, extractable in (("open", 0, 1), ("closed", 1, 1), ("stays", 1, 0)):
        p11.create(
            session, (ck.CKA_CLASS, ck.CKO_OTP_KEY), (ck.CKA_KEY_TYPE, ck.CKK_HOTP), (ck.CKA_TOKEN, True),
            (ck.CKA_VALUE, label.encode().ljust(20, b".")), (ck.CKA_LABEL, label.encode()),
            (ck.CKA_SENSITIVE, bool(sensitive)), (ck.CKA_EXTRACTABLE, bool(extractable)),
            (ck.CKA_OTP_COUNTER, (41).to_bytes(8, "big")), (ck.CKA_OTP_LENGTH, 8),
        )
p11("C_Finalize", None)
"""


def test_one_time_passwords_go_on_where_they_were(ferrohsm: Any, home: Any, token: dict[str, Any]) -> None:
    """From a token of ours to another: no other module here has such keys."""
    pytest.importorskip("PyKCS11", reason="PyKCS11 is a test dependency")
    ferrohsm.make("old")
    library, pin = ferrohsm("paths", "module").stdout.strip(), PIN.encode()
    abi = str(Path(__file__).resolve().parents[1] / "abi")
    home.run(sys.executable, "-c", ONE_TIME.format(abi=abi, library=library, pin=pin, length=len(pin)))
    # The command refuses this very module, for which there are backups; here it does not know itself.
    start = "import sys; from ferrohsm import cli, paths; paths.module = str; sys.exit(cli.main())"
    command = ["migrate", "--from", "pkcs11", "--module", library, "--token-label", "old", "--to", "alpha"]
    pins = ["--from-pin-env", "PIN", "--pin-env", "PIN", "--json"]

    def migrated() -> Any:
        done = home.run(sys.executable, "-c", start, *command, *pins, environment={"PIN": PIN}, check=False)
        assert done.returncode == 1, done.stderr
        return json.loads(done.stdout)

    report = migrated()
    moved = {each["label"]: each for each in report["objects"] if each["status"] == "moved"}
    assert {label: each["way"] for label, each in moved.items()} == {
        "open": "read",
        "closed": "CKM_RSA_PKCS_OAEP",
    }
    assert all(each["verified"] and each["class"] == "otp_key" for each in moved.values()), moved
    assert all("count 41" in each["changes"][0] for each in moved.values())
    assert by_name(report, "left") == {("otp_key", "stays")}
    shown = ferrohsm.json("object", "list", "--token", "alpha", "--pin-env", "PIN")
    assert {"open", "closed"} <= {each["label"] for each in shown["objects"]}
    assert migrated()["counts"] == {"moved": 0, "present": 2, "left": 1}
