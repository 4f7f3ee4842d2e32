"""``ferrohsm p11-kit``: registers the module, so that programs that use p11-kit find it by themselves."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess

from ferrohsm import config as configuration
from ferrohsm.cli.parser import Nouns, noun, verb
from ferrohsm.cli.terminal import CommandError, note, show

FILE_NAME = "ferrohsm.module"
_MARK = '# Written by "ferrohsm p11-kit install"; "ferrohsm p11-kit remove" takes it away.\n'
_SYSTEM_FALLBACK = "/usr/share/p11-kit/modules"


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "p11-kit", "register the module with p11-kit (GnuTLS, OpenSSH, browsers …)")
    install = verb(
        verbs,
        "install",
        "register the module for this user or for the system",
        run_install,
        examples=[
            ("ferrohsm p11-kit install", "for this user"),
            ("p11-kit list-modules", "see that it is there"),
        ],
    )
    remove = verb(verbs, "remove", "take the registration away", run_remove)
    for parser in (install, remove):
        place = parser.add_mutually_exclusive_group()
        place.add_argument("--user", action="store_true", help="for this user (the default)")
        place.add_argument("--system", action="store_true", help="for every user of this machine")


def run_install(arguments: argparse.Namespace) -> None:
    """Write the ``.module`` file."""
    from ferrohsm import paths

    module = str(paths.module())
    if not os.path.exists(module):
        raise CommandError(f"{module} is not there", "reinstall the package")
    path = _path(arguments)
    if os.path.lexists(path) and not _ours(path):
        raise CommandError(f"{path} is there and was not written by this command", "move it away first")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(temporary, flags, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{_MARK}module: {module}\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    show(arguments, {"file": path, "module": module}, f"{path} names {module}")
    if not arguments.system and hasattr(os, "geteuid") and os.geteuid() == 0:
        note("p11-kit reads no user's files in programs of root; --system is for those")


def run_remove(arguments: argparse.Namespace) -> None:
    """Delete the ``.module`` file if it is ours; not being there is done already."""
    path = _path(arguments)
    there = os.path.lexists(path)
    if there:
        if not _ours(path):
            raise CommandError(f"{path} was not written by this command", "delete it by hand if it should go")
        os.unlink(path)
    show(arguments, {"file": path, "removed": there}, f"{path} {'is removed' if there else 'was not there'}")


def _path(arguments: argparse.Namespace) -> str:
    return os.path.join(_system_directory() if arguments.system else _user_directory(), FILE_NAME)


def _user_directory() -> str:
    environment = configuration.trusted_environment()
    base = environment.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(base):  # p11-kit looks there too
        return os.path.join(base, "pkcs11", "modules")
    home = configuration.home(environment)
    if home is None:
        raise CommandError("there is no home directory", "register it for the system with --system")
    return os.path.join(home, ".config", "pkcs11", "modules")


def _system_directory() -> str:
    """Ask p11-kit itself where it looks; Debian's place if it cannot be asked."""
    program = shutil.which("pkg-config") or shutil.which("pkgconf")
    if program is not None:
        command = [program, "--variable=p11_module_configs", "p11-kit-1"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if os.path.isabs(answer):
            return answer
    return _SYSTEM_FALLBACK


def _ours(path: str) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline() == _MARK
