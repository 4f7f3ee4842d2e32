"""``ferrohsm migrate``: the objects of another module's token into one of ours."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ferrohsm import constants as ck
from ferrohsm import paths
from ferrohsm.cli import pins
from ferrohsm.cli.parser import Nouns, verb
from ferrohsm.cli.terminal import (
    EXIT_FAILED,
    CommandError,
    NotFoundError,
    Progress,
    UsageError,
    note,
    printable,
    show,
    table,
)
from ferrohsm.cli.view import CLASSES, name_of

if TYPE_CHECKING:
    from ferrohsm.cli.service import Work
    from ferrohsm.migration.moving import Migration, Outcome
    from ferrohsm.migration.source import Source, SourceToken

_SOFTHSM2 = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
_WORDS = {"moved": "moved", "present": "there already", "left": "LEFT BEHIND"}
_CLASS_NAMES = {number: name for name, number in CLASSES.items()}

_MORE = """\
Keys that may be read are read; sensitive ones that may leave are wrapped there and unwrapped here under
temporary keys; those that may never leave are reported. Each moved key is compared with the one it came from.
The other token is only read. Run it again as often as you like: what is there already is left alone.

Exit code 0: everything is on our token (with --dry-run: would be); 1: something is left behind."""


def register(nouns: Nouns) -> None:
    """Add the command."""
    parser = verb(
        nouns,
        "migrate",
        "move another module's token into one of ours",
        run_migrate,
        more=_MORE,
        examples=[
            ("ferrohsm migrate --from softhsm2 --token-label web --to web --dry-run", "what would be moved"),
            ("ferrohsm migrate --from softhsm2 --token-label web --to web", "move it; asks for both PINs"),
            (
                "ferrohsm migrate --from pkcs11 --module /usr/lib/vendor.so --to web --json",
                "any module, with a report for a script",
            ),
        ],
    )
    parser.add_argument(
        "--from",
        dest="source",
        choices=("softhsm2", "pkcs11"),
        required=True,
        help="softhsm2, or pkcs11 for any module",
    )
    parser.add_argument("--module", metavar="FILE", help="the other module (default: SoftHSM's usual places)")
    parser.add_argument(
        "--init", metavar="TEXT", help="what the other module wants at its start (NSS: configdir=…)"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--token-label", metavar="LABEL", help="the other token's label or serial number")
    other.add_argument("--from-slot", metavar="ID", type=int, help="the other token's slot id")
    ours = parser.add_mutually_exclusive_group()
    ours.add_argument("--to", dest="token", metavar="LABEL", help="our token's label or serial number")
    ours.add_argument("--to-slot", dest="slot", metavar="ID", type=int, help="our token's slot id")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    pins.add(parser, "from-pin", "user PIN of the other token")
    pins.add(parser, "pin", "user PIN of our token")


def run_migrate(arguments: argparse.Namespace) -> int:
    """Move, and report."""
    from ferrohsm.cli.service import work

    _keep_out_of_core_dumps()
    with (
        _source(arguments) as (source, token),
        work(arguments, read_write=not arguments.dry_run) as opened,
    ):
        outcomes = _move(arguments, source, opened)
        ours = opened.token
    counts = {word: sum(each.status == word for each in outcomes) for word in _WORDS}
    value = {
        "from": {"module": source.path, "label": token.label, "serial": token.serial},
        "to": {"slot": ours.slot, "label": ours.label, "serial": ours.serial},
        "dry_run": arguments.dry_run,
        "counts": counts,
        "objects": [_shape(each) for each in outcomes],
    }
    show(arguments, value, _report(arguments, outcomes, counts))
    return EXIT_FAILED if counts["left"] else 0


def _move(arguments: argparse.Namespace, source: Source, opened: Work) -> list[Outcome]:
    from ferrohsm.migration.moving import Migration
    from ferrohsm.migration.target import Target

    migration: Migration = Migration(source, Target(opened), dry_run=arguments.dry_run)
    outcomes: list[Outcome] = []
    with Progress("looking at object" if arguments.dry_run else "moving object") as progress:
        for outcome in migration.run():
            outcomes.append(outcome)
            progress.step(len(outcomes), len(migration.objects))
    return outcomes


def _keep_out_of_core_dumps() -> None:
    """Let no core be dumped: keys that may be read pass through this process's memory."""
    try:
        from ferrohsm.isolation import _start  # type: ignore[attr-defined]

        _start.harden()
    except (ImportError, OSError) as error:
        note(f"a crash of this process could leave keys in a core dump ({type(error).__name__})")


@contextmanager
def _source(arguments: argparse.Namespace) -> Iterator[tuple[Source, SourceToken]]:
    from ferrohsm.migration.source import NoBindingError, Source

    try:
        source = Source(_module(arguments), arguments.init)
    except NoBindingError:
        raise CommandError("PyKCS11 is not installed", "pip install 'ferrohsm[migrate]'") from None
    token = _chosen(arguments, source.tokens())
    if token.needs_login:
        with pins.secret(arguments, "from-pin", f"User PIN of {printable(token.label)} there") as pin:
            source.open(token, pin)
    else:
        source.open(token, None)
    try:
        yield source, token
    finally:
        source.close()


def _module(arguments: argparse.Namespace) -> str:
    path: str | None = arguments.module
    if path is None:
        if arguments.source != "softhsm2":
            raise UsageError("which module?", "say --module FILE")
        path = next((place for place in _SOFTHSM2 if os.path.exists(place)), None)
        if path is None:
            raise NotFoundError("SoftHSM 2 is in none of its usual places", "say --module FILE")
    if not os.path.exists(path):
        raise NotFoundError(f"there is no {path}")
    if os.path.exists(paths.module()) and os.path.samefile(path, paths.module()):
        raise UsageError("that is this very module", "token backup and token restore move our own tokens")
    return os.path.abspath(path)


def _chosen(arguments: argparse.Namespace, tokens: list[SourceToken]) -> SourceToken:
    found = tokens
    if arguments.from_slot is not None:
        found = [token for token in tokens if token.slot == arguments.from_slot]
    elif arguments.token_label is not None:
        wanted = arguments.token_label
        found = [token for token in tokens if token.serial == wanted]
        found = found or [token for token in tokens if token.label == wanted]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{printable(token.label)} (slot {token.slot})" for token in tokens)
    if not tokens:
        raise NotFoundError("the other module has no token")
    if not found:
        raise NotFoundError("there is no such token in the other module", f"it has {names}")
    raise NotFoundError(f"more than one token there: {names}", "choose with --token-label or --from-slot")


def _shape(outcome: Outcome) -> dict[str, Any]:
    each = outcome.each
    kind = _CLASS_NAMES.get(each.kind) or name_of("CKO", each.kind).removeprefix("CKO_").lower()
    key_type = each.key_type
    return {
        "status": outcome.status,
        "class": kind,
        "type": "" if key_type is None else name_of("CKK", key_type).removeprefix("CKK_").lower(),
        "label": each.values.get(ck.CKA_LABEL, b"").decode("utf-8", "replace"),
        "id": each.values.get(ck.CKA_ID, b"").hex(),
        "object": outcome.oid,
        "way": outcome.way,
        "verified": outcome.verified,
        "proof": outcome.proof,
        "changes": outcome.changes,
        "why": outcome.why,
    }


def _report(arguments: argparse.Namespace, outcomes: list[Outcome], counts: dict[str, int]) -> str:
    if not outcomes:
        return "the other token holds nothing"
    rows: list[tuple[object, ...]] = []
    for outcome in outcomes:
        shape = _shape(outcome)
        word = _WORDS[outcome.status]
        if arguments.dry_run and outcome.status == "moved":
            word = "would be moved"
        remarks = [part for part in (outcome.way, outcome.proof, outcome.why) if part]
        if outcome.status != "left" and not outcome.verified and not arguments.dry_run:
            remarks.append("NOT VERIFIED")
        rows.append((word, shape["class"], shape["type"], shape["label"], shape["id"], "; ".join(remarks)))
        rows += [("", "", "", "", "", f"  {change}") for change in outcome.changes]
    verb_ = "would be moved" if arguments.dry_run else "moved"
    summary = f"{counts['moved']} {verb_}, {counts['present']} there already, {counts['left']} left behind"
    return table(("RESULT", "CLASS", "TYPE", "LABEL", "ID", "HOW"), rows) + "\n\n" + summary
