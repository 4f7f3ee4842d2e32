"""``ferrohsm adapter new``: a plugin that works, to be filled with a device of one's own."""

from __future__ import annotations

import argparse
import os
import re
from string import Template

from ferrohsm.cli.parser import Nouns, verb
from ferrohsm.cli.terminal import CommandError, UsageError, show

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_TEMPLATE = (
    "adapter_template"  # the folder beside this module; `NAME` in a file's name is the plugin's module
)


def register(verbs: Nouns) -> None:
    """Add the verb."""
    new = verb(
        verbs,
        "new",
        "write an adapter plugin that works, as a start for your own",
        run_new,
        more="It makes a folder with a package, its entry point, a stand-in for the device and the\n"
        "conformance tests, which pass. docs/tutorial-adapter.md goes on from there.",
        examples=[
            ("ferrohsm adapter new acme", "write ferrohsm-acme/ here"),
            ("pip install -e ferrohsm-acme && pytest ferrohsm-acme", "install it and see its tests pass"),
        ],
    )
    new.add_argument("name", metavar="NAME", help="the adapter's name: lower-case letters, digits, - and _")
    new.add_argument("--directory", metavar="DIR", help="the folder to make (default: ferrohsm-NAME)")


def run_new(arguments: argparse.Namespace) -> None:
    """Write the files; nothing that is there is touched."""
    name: str = arguments.name
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for an adapter", "for example: ferrohsm adapter new acme")
    directory = os.path.abspath(arguments.directory or f"ferrohsm-{name.replace('_', '-')}")
    if os.path.lexists(directory):
        raise CommandError(f"{directory} is there already", "choose another one with --directory")
    written = [_write(directory, path, text) for path, text in files(name).items()]
    text = f"{directory} is an adapter plugin; next: pip install -e {directory} && pytest {directory}"
    show(arguments, {"directory": directory, "name": name, "files": written}, text)


def files(name: str) -> dict[str, str]:
    """Return the plugin's files by their paths in it."""
    module = "ferrohsm_" + name.replace("-", "_")
    words = {"name": name, "module": module, "package": "ferrohsm-" + name.replace("_", "-")}
    source = os.path.join(os.path.dirname(__file__), _TEMPLATE)
    made = {}
    for folder, _, names in os.walk(source):
        for file in sorted(names):
            if not file.endswith(".template"):
                continue
            path = os.path.join(folder, file)
            with open(path, encoding="utf-8") as text:
                content = Template(text.read()).substitute(words)
            relative = os.path.relpath(path, source).removesuffix(".template").replace("NAME", module)
            made[relative.replace(os.sep, "/")] = content
    return dict(sorted(made.items()))


def _write(directory: str, path: str, text: str) -> str:
    whole = os.path.join(directory, *path.split("/"))
    os.makedirs(os.path.dirname(whole), exist_ok=True)
    with open(whole, "x", encoding="utf-8") as file:
        file.write(text)
    return path
