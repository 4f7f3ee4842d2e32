"""``ferrohsm doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ferrohsm import config as configuration
from ferrohsm.cli.parser import Nouns, verb
from ferrohsm.cli.terminal import show
from ferrohsm.errors import HsmError

if TYPE_CHECKING:
    from ferrohsm.config import SlotSection

OK, WARNING, BROKEN, UNKNOWN = "ok", "warning", "broken", "unknown"

_SUPPORTED = ((3, 11), (3, 13))
_ENOUGH_LOCKED = 1 << 20
_TIMEOUT = 30  # seconds for a program that loads the module
_AUDIT = "let the programs write there, or in [audit] set directory to a place where they can"
_STORE = "store of slot "


class Finding(NamedTuple):
    """One check: `state` is ok, warning, broken or unknown; `remedy` says what to do."""

    check: str
    state: str
    detail: str
    remedy: str = ""


def register(nouns: Nouns) -> None:
    """Add the command."""
    verb(
        nouns,
        "doctor",
        "check the installation, the configuration and the store, with the remedy for what is wrong",
        run,
        more="Exit code 1 when something is broken; a warning is not.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run every check."""
    findings = [finding for check in _CHECKS for finding in check()]
    broken = any(finding.state == BROKEN for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8} {finding.check}: {finding.detail}")
        if finding.remedy and finding.state != OK:
            lines.append(f"{'':9}→ {finding.remedy}")
    show(
        arguments,
        {"healthy": not broken, "checks": [finding._asdict() for finding in findings]},
        "\n".join(lines),
    )
    return 1 if broken else 0


def check_python() -> Iterator[Finding]:
    """Say which Python it is and whether it is one that we build for."""
    name = f"{platform.python_implementation()} {platform.python_version()} in {sys.prefix}"
    low, high = _SUPPORTED
    if not low <= sys.version_info[:2] <= high:
        versions = f"{low[0]}.{low[1]} to {high[0]}.{high[1]}"
        yield Finding("python", BROKEN, name, f"install with CPython {versions}")
    elif sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield Finding("python", BROKEN, f"{name}, free-threaded", "install with an ordinary build of CPython")
    else:
        yield Finding("python", OK, name)


def check_libpython() -> Iterator[Finding]:
    """Look for the shared libpython that a process without Python needs."""
    path = libpython()
    if path is not None:
        yield Finding("libpython", OK, path)
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield Finding(
        "libpython",
        BROKEN,
        "this Python has no shared library, so the module cannot start in a program without Python",
        f"Debian, Ubuntu: apt install libpython{version}; Fedora: dnf install python{version}-libs; "
        "pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install",
    )


def libpython() -> str | None:
    """Return the path of libpython, or None."""
    names = {sysconfig.get_config_var("INSTSONAME"), sysconfig.get_config_var("LDLIBRARY")}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    names |= {f"libpython{version}.so.1.0", f"libpython{version}.dylib"}
    folders = [sysconfig.get_config_var("LIBDIR"), os.path.join(sys.base_prefix, "lib")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [f"/usr/lib/{multiarch}"] if multiarch else []
    for folder in filter(None, folders):
        for name in filter(None, names):
            path: str = os.path.join(folder, name)
            if ".a" not in name and os.path.isfile(path):
                return path
    import ctypes.util

    return ctypes.util.find_library(f"python{version}")


def check_configuration() -> Iterator[Finding]:
    """Load the configuration."""
    try:
        config = configuration.load()
    except HsmError as error:
        yield Finding(
            "configuration", BROKEN, str(error), "correct the file; ferrohsm config check says if it is right"
        )
        return
    if config.path is None:
        looked = ", ".join(configuration.candidates())
        yield Finding("configuration", OK, f"no file, the defaults are in force (looked for {looked})")
        return
    status = os.stat(config.path)
    if status.st_mode & 0o002:
        yield Finding(
            "configuration", WARNING, f"{config.path} can be changed by anybody", f"chmod o-w {config.path}"
        )
    else:
        yield Finding("configuration", OK, config.path)


def check_store() -> Iterator[Finding]:
    """Say for each software slot whether its directory can be used."""
    try:
        config = configuration.load()
    except HsmError:
        return
    for section in config.slots:
        if section.adapter == "software":
            yield _directory(config, section.options["data_dir"], _STORE + section.name)


def _directory(config: configuration.Config, path: str | None, check: str) -> Finding:
    if path is None:
        return Finding(check, BROKEN, "no directory, so the token is not present", config.data_problem or "")
    existing = path
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    remedy = (
        f"make {path} a directory that uid {os.geteuid()} can write, or set data_dir in the configuration"
    )
    if not os.path.isdir(existing):
        return Finding(check, BROKEN, f"{existing} is no directory", remedy)
    writable = os.access(existing, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    if existing != path:
        if writable:
            return Finding(check, OK, f"{path} is made when it is first needed")
        return Finding(check, BROKEN, f"{path} is not there and {existing} cannot be written", remedy)
    if not os.access(path, os.R_OK | os.X_OK):
        return Finding(check, BROKEN, f"{path} cannot be read", remedy)
    if not writable:
        return Finding(check, WARNING, f"{path} cannot be written: its tokens are write-protected", remedy)
    if os.stat(path).st_mode & 0o077 & ~config.store.directory_mode:
        return Finding(
            check, WARNING, f"{path} is open to others", f"chmod {config.store.directory_mode:o} {path}"
        )
    free = shutil.disk_usage(path).free
    if free < 16 << 20:
        return Finding(check, WARNING, f"{path} has {free >> 10} KiB left", "free some space on its disk")
    return Finding(check, OK, path)


def check_tokens() -> Iterator[Finding]:
    """Start the core and read every token's state."""
    from ferrohsm import constants as ck
    from ferrohsm.cli.service import service

    try:
        with service() as opened:
            tokens = [view for view in opened.tokens() if not view.free]
            problems = opened.problems()
    except HsmError as error:
        yield Finding("tokens", BROKEN, str(error), "the message before this one says what is missing")
        return
    told = {finding.check for finding in check_store() if finding.state == BROKEN}
    for section, problem in problems:
        if _STORE + section.name not in told:
            yield Finding(f"slot {section.name}", BROKEN, problem, _slot_remedy(section))
    present = [view for view in tokens if view.present]
    yield Finding("tokens", OK, f"{len(present)} initialized" + "".join(f", {view.name}" for view in present))
    for view in present:
        if view.flags & ck.CKF_USER_PIN_LOCKED:
            remedy = f"ferrohsm token unlock --token {view.serial}"
            yield Finding(f"token {view.name}", WARNING, "its user PIN is locked", remedy)
        if view.flags & ck.CKF_SO_PIN_LOCKED:
            yield Finding(f"token {view.name}", WARNING, "its SO PIN is locked", "restore a backup")


def _slot_remedy(section: SlotSection) -> str:
    from ferrohsm import registry

    if section.adapter not in [row["name"] for row in registry.installed()]:
        return not_installed(section)
    return (
        f"correct [slots.{section.name}], or what is behind it; "
        f"ferrohsm adapter check {section.name} tries it alone"
    )


def not_installed(section: SlotSection) -> str:
    """Say what to do about a slot whose adapter is not there."""
    import difflib

    from ferrohsm import registry

    names = [row["name"] for row in registry.installed()]
    close = difflib.get_close_matches(section.adapter, names, 1)
    hint = f"did you mean {close[0]}? If not, " if close else ""
    return f"{hint}install its package beside FerroHSM; ferrohsm adapter list shows what there is"


def check_log() -> Iterator[Finding]:
    """Say whether the log of events can be written where the configuration wants it."""
    try:
        target = configuration.load().log.target
    except HsmError:
        return
    if target in ("off", "stderr", "syslog"):
        return
    folder = os.path.dirname(target)
    remedy = f"let uid {os.geteuid()} write there, or set target in [log]"
    effective = os.access in os.supports_effective_ids
    if os.path.islink(target) or (os.path.exists(target) and not os.path.isfile(target)):
        yield Finding("log", WARNING, f"{target} is no ordinary file", "set target in [log]")
    elif os.path.exists(target):
        if os.access(target, os.W_OK, effective_ids=effective):
            yield Finding("log", OK, target)
        else:
            yield Finding("log", WARNING, f"{target} cannot be written: events are lost", remedy)
    elif not os.path.isdir(folder):
        yield Finding("log", WARNING, f"there is no directory {folder}: events are lost", remedy)
    elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        yield Finding("log", WARNING, f"{target} cannot be made in {folder}: events are lost", remedy)
    else:
        yield Finding("log", OK, f"{target} is made with the first event")


def check_audit() -> Iterator[Finding]:
    """Say whether the audit can be written: without it nobody logs in."""
    from ferrohsm.audit import places
    from ferrohsm.store import files

    try:
        config = configuration.load()
    except HsmError:
        return
    for root in places.roots(config) if config.audit.enabled else ():
        path = os.path.join(root, places.RINGS)
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        if os.path.isdir(path) and files.writable(path):
            yield Finding("audit", OK, root)
        elif config.audit.on_failure == "open":
            yield Finding("audit", WARNING, f"{path} cannot be written: nothing is recorded", _AUDIT)
        else:
            what = f"{path} cannot be written, and what cannot be recorded is refused: logins, uses of keys"
            yield Finding("audit", BROKEN, what, f'{_AUDIT}, or on_failure = "open"')


def check_module() -> Iterator[Finding]:
    """Load the module in a process that has no Python of its own."""
    from ferrohsm import paths

    module = str(paths.module())
    if not os.path.isfile(module):
        yield Finding("module", BROKEN, f"{module} is not there", "reinstall the package")
        return
    yield Finding("module", OK, module)
    check = "module in a C program"
    for attempt in (_with_compiler, _with_client):
        finding = attempt(check, module)
        if finding is not None:
            yield finding
            return
    yield Finding(
        check,
        UNKNOWN,
        "there is neither a C compiler nor pkcs11-tool to try it with",
        "install opensc or a C compiler and ask again",
    )


_HOST = r"""
#include <dlfcn.h>
#include <stdio.h>
typedef unsigned long (*call)(void *);
int main(int count, char **words) {
    void *module = count == 2 ? dlopen(words[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (module == NULL) { fprintf(stderr, "%s\n", dlerror()); return 2; }
    call initialize = (call)dlsym(module, "C_Initialize"), finalize = (call)dlsym(module, "C_Finalize");
    if (initialize == NULL || finalize == NULL) { fprintf(stderr, "no C_Initialize\n"); return 2; }
    unsigned long rv = initialize(NULL);
    if (rv == 0) rv = finalize(NULL);
    printf("%lu\n", rv);
    return rv != 0;
}
"""


def _with_compiler(check: str, module: str) -> Finding | None:
    """Compile a program of a few lines that starts and stops the module."""
    from ferrohsm import constants as ck

    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="ferrohsm-") as folder:
        source, program = os.path.join(folder, "host.c"), os.path.join(folder, "host")
        with open(source, "w", encoding="ascii") as file:
            file.write(_HOST)
        built = subprocess.run([compiler, source, "-o", program, "-ldl"], capture_output=True, check=False)
        if built.returncode:
            return None
        try:
            ran = subprocess.run(
                [program, module], capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return Finding(check, BROKEN, f"it did not answer within {_TIMEOUT} seconds", _ASK_TRACE)
        except OSError:  # a temporary directory from which nothing may be run
            return None
    if ran.returncode == 0:
        return Finding(check, OK, "starts and stops")
    said = " ".join(ran.stderr.split())
    code = ran.stdout.strip()
    if code.isdigit():
        return Finding(
            check, BROKEN, f"C_Initialize: {ck.name('CKR', int(code))} {said}".rstrip(), _ASK_TRACE
        )
    return Finding(check, BROKEN, said or f"the program ended with {ran.returncode}", _ASK_TRACE)


_ASK_TRACE = "FERROHSM_TRACE=stderr shows the calls; the lines above name what is missing"


def _with_client(check: str, module: str) -> Finding | None:
    """Let a PKCS#11 program list the slots."""
    program = shutil.which("pkcs11-tool")
    if program is None:
        return None
    command = [program, "--module", module, "--list-slots"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return Finding(check, BROKEN, f"pkcs11-tool had no answer within {_TIMEOUT} seconds", _ASK_TRACE)
    if ran.returncode == 0:
        return Finding(check, OK, "pkcs11-tool lists the slots")
    return Finding(check, BROKEN, f"pkcs11-tool: {' '.join(ran.stderr.split())}", _ASK_TRACE)


def check_memory() -> Iterator[Finding]:
    """Say whether enough memory may be locked for the keys."""
    if sys.platform == "win32":
        return
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft >= _ENOUGH_LOCKED or os.geteuid() == 0:
        yield Finding("locked memory", OK, "enough")
        return
    yield Finding(
        "locked memory",
        WARNING,
        f"only {soft >> 10} KiB may be locked, so keys may reach the swap",
        "raise the limit: LimitMEMLOCK= in a systemd unit, --ulimit memlock= for a container",
    )


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_libpython,
    check_configuration,
    check_store,
    check_tokens,
    check_audit,
    check_log,
    check_module,
    check_memory,
)
