"""``ferrohsm object``: what is on a token, brought in and taken out."""

from __future__ import annotations

import argparse
import sys

from ferrohsm.cli import exporting, importing, pins, view
from ferrohsm.cli.parser import Nouns, choose_token, destructive, noun, verb
from ferrohsm.cli.terminal import NotFoundError, Progress, UsageError, confirm, printable, show


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "object", "list, show, delete, import and export keys, certificates and data")
    importing.register(verbs)
    exporting.register(verbs)
    listed = verb(
        verbs,
        "list",
        "list the objects of a token",
        run_list,
        examples=[
            ("ferrohsm object list", "everything; asks for the user PIN"),
            ("ferrohsm object list --public --json", "what is seen without a PIN, for a script"),
        ],
    )
    shown = verb(
        verbs,
        "show",
        "show all attributes of objects",
        run_show,
        examples=[("ferrohsm object show --label web --class private", "one key")],
    )
    deleted = verb(
        verbs,
        "delete",
        "delete objects",
        run_delete,
        more="A deleted key cannot be brought back, except from a backup.",
        examples=[("ferrohsm object delete --label old", "everything with that label, after a question")],
    )
    for parser in (listed, shown, deleted):
        view.add_filter(parser)
        choose_token(parser)
        parser.add_argument("--public", action="store_true", help="don't log in; private objects stay unseen")
        pins.add(parser, "pin", "user PIN")
    destructive(deleted)


def run_list(arguments: argparse.Namespace) -> None:
    """List."""
    from ferrohsm.cli.service import work

    with work(arguments) as opened:
        shapes = view.describe_all(opened, view.find(opened, arguments))
        where = {"slot": opened.token.slot, "serial": opened.token.serial}
    show(arguments, {**where, "objects": shapes}, view.lines(shapes))


def run_show(arguments: argparse.Namespace) -> None:
    """Show every attribute that there is."""
    from ferrohsm.cli.service import work

    with work(arguments) as opened:
        found = view.find(opened, arguments)
        if not found:
            raise NotFoundError("there is no such object", view.hint(opened, arguments))
        all_values = {oid: view.attributes(opened, oid) for oid in found}
    text = "\n\n".join(
        f"object {oid}\n" + "\n".join(f"  {name} {printable(str(value))}" for name, value in values.items())
        for oid, values in all_values.items()
    )
    shapes = [{"object": oid, "attributes": values} for oid, values in all_values.items()]
    show(arguments, {"objects": shapes}, text)


def run_delete(arguments: argparse.Namespace) -> None:
    """Delete what matches, after a question."""
    from ferrohsm.cli.service import work

    if all(value is None for value in (arguments.object, arguments.kind, arguments.label, arguments.id)):
        raise UsageError("which objects?", "say --object N, or --label, --id and --class")
    with work(arguments, read_write=True) as opened:
        found = view.find(opened, arguments)
        if not found:
            raise NotFoundError("there is no such object", view.hint(opened, arguments))
        shapes = view.describe_all(opened, found)
        if not arguments.yes:
            print(view.lines(shapes), file=sys.stderr)
        confirm(arguments, f"Delete {len(found)} object{'s' * (len(found) > 1)} for good?")
        with Progress("deleting object") as progress:
            for done, oid in enumerate(found, 1):
                opened.run(opened.core.destroy_object(opened.session, oid))
                progress.step(done, len(found))
    show(arguments, {"deleted": shapes}, f"deleted {len(found)}")
