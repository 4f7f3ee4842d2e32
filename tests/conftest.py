"""Fixtures that every test of the installed module shares.

The module under test is the one that was installed beside this interpreter (``ferrohsm paths module``),
never a build directory. ``--module-under-test`` runs the client tests against another module instead, to tell
a wrong test from a wrong module. ``--slot-under-test=bridge`` runs them against the installed module with a
slot behind which SoftHSM stands.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from peer_modules import SOFTHSM2

# Where it is used: tests/adapters. Only a conftest of the whole suite may name a plugin.
pytest_plugins = ["ferrohsm.testing.adapter"]

# The key derivation is made cheap here, or a run of some hundred logins would mostly measure Argon2id.
# It is the only setting that differs from the default.
CONFIGURATION = """\
data_dir = "{data}"

[kdf]
memory_kib = 7168
passes = 1
"""

BRIDGE_CONFIGURATION = """\

[slots.backend]
adapter = "pkcs11_bridge"
module = "{module}"
profile = "softhsm2"
"""

SOFTHSM2_CONFIGURATION = """\
directories.tokendir = {data}
objectstore.backend = file
log.level = ERROR
slots.removable = false
"""


SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--module-under-test",
        default="ferrohsm",
        choices=["ferrohsm", "softhsm2"],
        help="which PKCS#11 module the client tests use (the default is the installed one)",
    )
    parser.addoption(
        "--slot-under-test",
        default="software",
        choices=["software", "bridge", "bridge-apart"],
        help="what stands behind the slot of the client tests: our own tokens, or SoftHSM (perhaps apart)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: takes minutes; run with `-m soak` (tox -e soak)")
    config.addinivalue_line("markers", "clients: needs a PKCS#11 application of the operating system")


class Module:
    """A PKCS#11 module: its name, its library and how a directory becomes its configuration.

    `backend` is the module that stands behind its slot, None for our own tokens; `isolation` is where.
    """

    def __init__(self, name: str, path: Path, backend: Path | None = None) -> None:
        self.isolation = "thread"
        self.name = name
        self.path = path
        self.backend = backend

    def __str__(self) -> str:
        return str(self.path)

    @property
    def ours(self) -> bool:
        """Whether the tokens are our own: SoftHSM's do not more through us than they do by themselves."""
        return self.name == "ferrohsm" and self.backend is None

    def configure(self, directory: Path) -> dict[str, str]:
        """Write a configuration whose tokens live under `directory`; return the variables that name it."""
        data = directory / "tokens"
        data.mkdir(parents=True, exist_ok=True)
        if self.ours:
            file = directory / "ferrohsm.toml"
            file.write_text(CONFIGURATION.format(data=data))
            return {"FERROHSM_CONF": str(file)}
        file = directory / "softhsm2.conf"
        file.write_text(SOFTHSM2_CONFIGURATION.format(data=data))
        variables = {"SOFTHSM2_CONF": str(file)}
        if self.backend is not None:
            ours = directory / "ferrohsm.toml"
            text = BRIDGE_CONFIGURATION.format(module=self.backend)
            ours.write_text(f'{text}isolation = "{self.isolation}"\n')
            variables["FERROHSM_CONF"] = str(ours)
        return variables


class Home:
    """A directory that stands for a user's: HOME, the module's configuration and a clean environment."""

    def __init__(self, module: Module, directory: Path) -> None:
        self.module = module
        self.directory = directory
        self.pins: list[str] = []
        self.environment = {
            "PATH": SYSTEM_PATH,
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": str(directory / "run"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(directory / "tmp"),
            **module.configure(directory),
        }
        for name in ("run", "tmp"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)

    def run(
        self,
        *command: str | Path,
        input: str | bytes | None = None,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program in this home; its output stands in the failure when it does not exit with 0."""
        result = subprocess.run(
            [str(part) for part in command],
            input=input.encode() if isinstance(input, str) else input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            env={**self.environment, **(environment or {})},
            cwd=cwd or self.directory,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode != 0:
            pytest.fail(
                f"{' '.join(str(part) for part in command)}\nexit status {result.returncode}\n"
                f"{result.stdout.decode(errors='replace')}\n{result.stderr.decode(errors='replace')}",
                pytrace=False,
            )
        return result


class Token:
    """An initialized token with a user PIN, in a home of its own."""

    def __init__(self, home: Home, label: str, pin: str, so_pin: str, slot: int) -> None:
        self.home = home
        self.label = label
        self.pin = pin
        self.so_pin = so_pin
        self.slot = slot

    @property
    def module(self) -> Module:
        return self.home.module

    @property
    def directory(self) -> Path:
        return self.home.directory

    def uri(self, **attributes: str) -> str:
        """Return a PKCS#11 URI for something on this token, PIN included (RFC 7512)."""
        path = "".join(f";{name}={value}" for name, value in attributes.items())
        return f"pkcs11:token={self.label}{path}?pin-value={self.pin}"

    def run(self, *command: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
        return self.home.run(*command, **options)  # type: ignore[arg-type]

    def pkcs11_tool(self, *arguments: str | Path, **options: object) -> str:
        """Run ``pkcs11-tool`` on this token, logged in as the user, and return what it printed."""
        command = ["pkcs11-tool", "--module", self.module.path, "--token-label", self.label]
        result = self.run(*command, "--login", "--pin", self.pin, *arguments, **options)
        return (result.stdout + result.stderr).decode(errors="replace")


def ferrohsm_command() -> list[str]:
    """Return the installed command of this interpreter's environment."""
    script = Path(sys.executable).with_name("ferrohsm")
    return [str(script)] if script.exists() else [sys.executable, "-m", "ferrohsm.cli"]


@pytest.fixture(scope="session")
def module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Module:
    """The module under test, as it was installed."""
    if request.config.getoption("--module-under-test") == "softhsm2":
        return Module("softhsm2", softhsm2_path())
    slot = request.config.getoption("--slot-under-test")
    backend = None if slot == "software" else softhsm2_path()
    made = installed_module(tmp_path_factory.mktemp("elsewhere"), backend)
    made.isolation = "process" if slot == "bridge-apart" else "thread"
    return made


def softhsm2_path() -> Path:
    """Return where SoftHSM's module is; skip or fail where it is not."""
    for candidate in SOFTHSM2:
        if os.path.exists(candidate):
            return Path(candidate)
    missing("libsofthsm2.so", "softhsm2")
    raise AssertionError("not reached")


def installed_module(elsewhere: Path, backend: Path | None = None) -> Module:
    """Return the module installed beside this interpreter, as the command tells it from `elsewhere`."""
    result = subprocess.run(
        [*ferrohsm_command(), "paths", "module"],
        capture_output=True,
        text=True,
        check=True,
        cwd=elsewhere,
    )
    path = Path(result.stdout.rstrip("\n"))
    assert path.is_file(), f"`ferrohsm paths module` printed {result.stdout!r}"
    return Module("ferrohsm", path, backend)


@pytest.fixture(scope="session")
def module_path(module: Module) -> Path:
    return module.path


@pytest.fixture
def home(module: Module, tmp_path: Path) -> Iterator[Home]:
    """A fresh configuration without a token. After the test, no file of the module holds a PIN."""
    home = Home(module, tmp_path)
    yield home
    for file in (tmp_path / "tokens").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for pin in home.pins:
                assert pin.encode() not in content, f"{file} holds a PIN"


def make_token(home: Home, label: str = "alpha", pin: str = "user-pin-6", so_pin: str = "so-pin-87") -> Token:
    """Initialize a token through the C ABI alone, as an administrator would."""
    tool = ["pkcs11-tool", "--module", home.module.path]
    home.pins += [pin, so_pin]
    slots = home.run(*tool, "--list-slots").stdout.decode()
    free = [line.split() for line in slots.splitlines() if line.startswith("Slot ")][-1]
    index = free[1]
    home.run(*tool, "--slot-index", index, "--init-token", "--label", label, "--so-pin", so_pin)
    home.run(
        *tool, "--token-label", label, "--login", "--login-type", "so", "--so-pin", so_pin, "--init-pin",
        "--new-pin", pin,
    )  # fmt: skip
    return Token(home, label, pin, so_pin, slot_of(home, label))


def slot_of(home: Home, label: str) -> int:
    """Return the id of the slot whose token has `label`."""
    listing = home.run("pkcs11-tool", "--module", home.module.path, "--list-token-slots").stdout.decode()
    slot = -1
    for line in listing.splitlines():
        if line.startswith("Slot "):
            slot = int(line.split("(")[1].split(")")[0], 16)
        elif line.split(":")[0].strip() == "token label" and line.split(":", 1)[1].strip() == label:
            return slot
    raise AssertionError(f"no slot has a token {label!r}:\n{listing}")


@pytest.fixture
def token(home: Home, need: Callable[..., str]) -> Token:
    """A fresh token, initialized through ``pkcs11-tool``, with a user PIN."""
    need("pkcs11-tool", package="opensc")
    return make_token(home)


@pytest.fixture
def another_token(home: Home, token: Token) -> Token:
    """A second token of the same configuration."""
    return make_token(home, label="beta", pin="user-pin-b", so_pin="so-secret-2")


def missing(program: str, package: str) -> None:
    """Skip for want of a client on somebody's machine, fail in CI, where it must be there."""
    reason = f"{program} is not installed (Debian package {package})"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need() -> Callable[..., str]:
    """Return the path of a client; without it the test is skipped, or fails when ``CI`` is set."""

    def find(program: str, package: str, places: Sequence[str] = ()) -> str:
        if program.startswith("/"):
            found = program if os.path.exists(program) else None
        else:
            found = shutil.which(program, path=SYSTEM_PATH)
        for place in places:
            found = found or (place if os.path.exists(place) else None)
        if found is None:
            missing(program, package)
        return str(found)

    return find


@pytest.fixture
def background() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start programs that are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Home, *command: str | Path, **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**home.environment, **options.pop("environment", {})},  # type: ignore[dict-item]
            cwd=home.directory,
            **options,  # type: ignore[arg-type]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            pytest.fail(f"{process.args!r} did not end when it was told to", pytrace=False)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
