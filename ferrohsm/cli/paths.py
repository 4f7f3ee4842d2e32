"""``ferrohsm paths``: one path, and nothing else, for scripts."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ferrohsm.cli.parser import Nouns, noun, verb
from ferrohsm.cli.terminal import CommandError, show

_TEXTS = {
    "module": "print where libpkcs11.so is",
    "include": "print the directory of pkcs11.h",
    "config": "print the configuration file in use, or where one would be looked for first",
    "data": "print the directory that keeps the tokens",
}


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "paths", "print where the module, the header, the configuration or the tokens are")
    examples = {
        "module": [("pkcs11-tool --module $(ferrohsm paths module) -L", "list the slots")],
        "include": [("cc -I$(ferrohsm paths include) program.c", "compile against the header")],
    }
    for name, text in _TEXTS.items():
        verb(verbs, name, text, _runner(name), examples=examples.get(name, ()))


def _runner(name: str) -> Callable[[argparse.Namespace], None]:
    def run(arguments: argparse.Namespace) -> None:
        from ferrohsm import paths

        path = getattr(paths, name)()
        if path is None:
            from ferrohsm import config

            raise CommandError("there is no such path", config.load().data_problem or "")
        show(arguments, {name: str(path)}, str(path))

    return run
