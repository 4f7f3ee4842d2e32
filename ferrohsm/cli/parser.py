"""The tree of nouns and verbs; each noun's module adds its own branch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ferrohsm import __version__

Run = Callable[[argparse.Namespace], int | None]
Nouns = Any  # argparse's own class for subparsers is private

_DESCRIPTION = """\
FerroHSM is a software HSM that any program can use through PKCS#11.
This command makes tokens and keys, looks after them, and says where the module is."""

_EXAMPLES = (
    ("ferrohsm demo", "see it work, and leave nothing behind"),
    ("ferrohsm token init --label web", "make a token; asks for both PINs"),
    ("ferrohsm key generate ec --curve P-256 --label tls", "make a key pair on it"),
    ("ferrohsm object list --json", "what is on it, for a script"),
    ("pkcs11-tool --module $(ferrohsm paths module) -L", "use it from any PKCS#11 program"),
    ("ferrohsm doctor", "what is wrong, and what to do about it"),
)

_EPILOG = """\
exit codes:
  0  done
  1  refused or failed; doctor found something broken
  2  wrong usage
  3  no such token or object, or more than one
  4  wrong or locked PIN
  130  interrupted

environment:
  FERROHSM_CONF   the configuration file to use
  FERROHSM_DEBUG  show the traceback of an error"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and name the help that answers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*arguments, **options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse what is unknown in the command that does not know it, whose help then is the one named."""
        known, extra = super().parse_known_args(args, namespace)
        if extra:
            self.error(f"unrecognized arguments: {' '.join(extra)}")
        return known, extra

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"ferrohsm: {message}; see {self.prog} --help\n")


def build() -> Parser:
    """Return the whole tree."""
    from ferrohsm.cli import (
        adapter,
        audit,
        bench,
        completion,
        config,
        demo,
        doctor,
        key,
        mechanism,
        migrate,
        object,
        p11_kit,
        paths,
        token,
        version,
    )

    parser = Parser(prog="ferrohsm", description=_DESCRIPTION, epilog=_examples(_EXAMPLES) + "\n\n" + _EPILOG)
    parser.add_argument("--version", action="version", version=f"ferrohsm {__version__}")
    nouns = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (
        token,
        object,
        key,
        mechanism,
        adapter,
        migrate,
        audit,
        paths,
        p11_kit,
        config,
        doctor,
        demo,
        bench,
        completion,
        version,
    ):
        module.register(nouns)
    return parser


def noun(nouns: Nouns, name: str, text: str) -> Nouns:
    """Add a noun and return what its verbs are added to."""
    parser = nouns.add_parser(name, help=text, description=sentence(text))
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def verb(
    parent: Nouns,
    name: str,
    text: str,
    run: Run,
    *,
    more: str = "",
    examples: Sequence[tuple[str, str]] = (),
    json_file: bool = False,
) -> argparse.ArgumentParser:
    """Add a command that runs `run`; every one has ``--json``; a file's where `json_file` is set."""
    description = sentence(text) + (f"\n\n{more}" if more else "")
    parser: argparse.ArgumentParser = parent.add_parser(
        name, help=text, description=description, epilog=_examples(examples)
    )
    if json_file:
        text = "write JSON to a file, or print it; errors are JSON too"
        parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help=text)
    else:
        parser.add_argument("--json", action="store_true", help="print JSON; errors too, on stderr")
    parser.add_argument("--config", metavar="FILE", help="use this configuration file")
    parser.set_defaults(run=run)
    return parser


def sentence(text: str) -> str:
    """Return a help line as a sentence."""
    return text[:1].upper() + text[1:] + "."


def choose_token(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which token is meant."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--token", metavar="LABEL", help="the token's label or serial number")
    which.add_argument("--slot", metavar="ID", type=int, help="the token's slot id")


def destructive(parser: argparse.ArgumentParser) -> None:
    """Add ``--yes``."""
    parser.add_argument("--yes", action="store_true", help="do it without asking")


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    if not examples:
        return ""
    return "examples:\n" + "\n".join(f"  {line}\n      {text}" for line, text in examples)
