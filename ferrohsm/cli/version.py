"""``ferrohsm version``."""

from __future__ import annotations

import argparse
import platform

from ferrohsm import __version__
from ferrohsm.cli.parser import Nouns, verb
from ferrohsm.cli.terminal import show


def register(nouns: Nouns) -> None:
    """Add the command."""
    verb(nouns, "version", "print the versions of FerroHSM, PKCS#11 and Python", run)


def run(arguments: argparse.Namespace) -> None:
    """Print them."""
    versions = {"ferrohsm": __version__, "pkcs11": "3.2", "python": platform.python_version()}
    show(arguments, versions, "\n".join(f"{name} {number}" for name, number in versions.items()))
