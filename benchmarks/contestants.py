"""Who takes part: modules with their environment and a token, and the raw engine."""

from __future__ import annotations

import ctypes.util
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ferrohsm_bench.cases import Case
from ferrohsm_bench.driver_process import DeadError, Driver, TroubleError

OURS, RAW, LIBRARY = "FerroHSM", "raw engine", "cryptography"
LABEL = "ferrohsm-bench"
_LIBRARIES = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib",
)
_DEATHS = 10


class Contestant:
    """One that is measured. It lives in a process of its own, started anew after it died or was ended."""

    raw = False

    def __init__(self, name: str, environment: Mapping[str, str], timeout: float) -> None:
        self.name = name
        self.environment = dict(environment)
        self.timeout = timeout
        self.description = ""
        self.given_up = ""
        self.most_objects = 0  # more than these take too long to make, when above 0
        self._driver: Driver | None = None
        self._deaths = 0

    def driver(self) -> Driver:
        """Return the running process, ready to prepare cases; `TroubleError` when there can be none."""
        if self.given_up:
            raise TroubleError(self.given_up)
        if self._driver is None:
            if self._deaths > _DEATHS:
                self.given_up = f"given up: it died {self._deaths} times"
                raise TroubleError(self.given_up)
            driver = self._process()
            try:
                self._start(driver)
            except TroubleError as trouble:
                # What does not start does not start for the next case either.
                self.given_up = str(trouble)
                if not isinstance(trouble, DeadError):
                    driver.quit()
                raise
            self._driver = driver
        return self._driver

    def ask(self, *fields: object, timeout: float | None = None) -> list[str]:
        """Ask the running process; one that is gone is forgotten."""
        driver = self.driver()
        try:
            return driver.ask(*fields, timeout=timeout)
        except DeadError:
            self._driver = None
            self._deaths += 1
            raise

    def leave(self) -> None:
        """End the process for good."""
        self.quit()

    def prepare(self, case: Case) -> None:
        """Make ready what a case needs."""
        self.ask("prepare", case.operation, case.size, case.parts, hex(case.mechanism))

    def quit(self) -> None:
        """End the process."""
        if self._driver is not None:
            self._driver.quit()
            self._driver = None

    def _process(self) -> Driver:
        return Driver(self.environment, self.timeout)

    def _start(self, driver: Driver) -> None:
        raise NotImplementedError


class Module(Contestant):
    """A PKCS#11 module with a token that the driver may use."""

    def __init__(
        self,
        name: str,
        path: str,
        environment: Mapping[str, str],
        timeout: float,
        *,
        init: str = "",
        mode: str = "fresh",
        label: str = LABEL,
        pin: str = "",
        directory: Path | None = None,
    ) -> None:
        super().__init__(name, environment, timeout)
        self.directory = directory
        self.path, self.init, self.mode, self.label = path, init, mode, label
        self.pin, self.so_pin = pin or secrets.token_hex(6), secrets.token_hex(6)

    def leave(self) -> None:
        """Leave nothing on a token that was there before."""
        if self.mode == "named" and not self.given_up:
            try:
                self.ask("shrink", timeout=3600)
            except TroubleError:
                pass  # nothing more can be done from here
        self.quit()

    def load(self) -> float:
        """Return the microseconds that a new process takes to load and initialize the module."""
        driver = Driver(self.environment, self.timeout)
        try:
            return int(driver.ask("load", self.path, self.init)[0]) / 1000
        finally:
            driver.quit()

    def memory(self) -> float:
        """Return the bytes that a process has in RAM when the module is initialized, before any login."""
        driver = Driver(self.environment, self.timeout)
        try:
            driver.ask("load", self.path, self.init)
            return int(driver.ask("memory", "process", 0)[0])
        finally:
            driver.quit()

    def fill(self, first: int, count: int, tell: Callable[[int], None]) -> bool:
        """Make the objects from `first` on in one commit, if this is our own module and token."""
        if self.mode != "fresh" or Path(self.path).parent.name != "pkcs11_abi":
            return False
        from ferrohsm_bench.filling import fill

        self.driver()  # so that the token is there
        self.quit()
        fill(self.environment, self.label, self.pin, range(first, count), tell)
        return True

    def read_files(self) -> None:
        """Read what the module keeps in its directory here, so that a search is not a measure of the disk.

        A system gives up the memory of files that nobody reads, and a token of a million objects takes
        minutes to make: a search would find a part of its pages on the disk, another part each time.
        """
        for path in self.directory.rglob("*") if self.directory is not None else ():
            if path.is_file():
                with open(path, "rb", buffering=0) as file:
                    while file.read(1 << 20):
                        pass

    def _start(self, driver: Driver) -> None:
        driver.ask("load", self.path, self.init)
        self.description = " ".join(" ".join(driver.ask("info")).split())
        driver.ask("token", self.mode, self.label, self.so_pin, self.pin)


class Engine(Contestant):
    """The raw engine: a libcrypto."""

    raw = True

    def __init__(self, name: str, path: str, environment: Mapping[str, str], timeout: float) -> None:
        super().__init__(name, environment, timeout)
        self.path = path

    def _start(self, driver: Driver) -> None:
        self.description = " ".join(driver.ask("engine", self.path))


class Library(Engine):
    """`cryptography`, the raw engine of what an older libcrypto lacks: lattices."""

    def __init__(self, environment: Mapping[str, str], timeout: float) -> None:
        super().__init__(LIBRARY, LIBRARY, environment, timeout)

    def _process(self) -> Driver:
        return Driver(self.environment, self.timeout, [sys.executable, "-m", "ferrohsm_bench.library"])


def base_environment(home: Path) -> dict[str, str]:
    """Return an environment that says nothing about anybody's modules."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH", "TZ") if name in os.environ
    }
    return {**kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


def known(path: str, directory: Path) -> tuple[dict[str, str], str, str]:
    """Return environment, init string and token mode with which a known module keeps to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    name = Path(path).name
    if "softhsm" in name:
        (directory / "tokens").mkdir(exist_ok=True)
        file = directory / "softhsm2.conf"
        file.write_text(
            f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        return {"SOFTHSM2_CONF": str(file)}, "", "fresh"
    if "softokn" in name:
        return {}, f"configdir='sql:{directory}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", "nss"
    if Path(path).parent.name == "pkcs11_abi":
        file = directory / "ferrohsm.toml"
        file.write_text(f'data_dir = "{directory}/data"\n')
        return {"FERROHSM_CONF": str(file)}, "", "fresh"
    return {}, "", "fresh"


def built_in() -> list[tuple[str, str]]:
    """Return the names and paths of the installed module and of the peers that are found here."""
    from ferrohsm import paths

    found = [(OURS, str(paths.module()))]
    for name, file in (
        ("SoftHSM 2", "softhsm/libsofthsm2.so"),
        ("NSS", "libsoftokn3.so"),
        ("NSS", "nss/libsoftokn3.so"),
    ):
        for folder in _LIBRARIES:
            path = os.path.join(folder, file)
            if os.path.exists(path) and name not in dict(found):
                found.append((name, path))
    return found


def libcrypto() -> str:
    """Return the system's libcrypto."""
    return ctypes.util.find_library("crypto") or "libcrypto.so.3"
