"""``ferrohsm mechanism``: what a token can, and which engine does it."""

from __future__ import annotations

import argparse
from typing import Any

from ferrohsm.adapters import Function
from ferrohsm.cli.parser import Nouns, choose_token, noun, verb
from ferrohsm.cli.terminal import show, table

_FUNCTIONS = {
    value: name.lower().replace("_", " ")
    for name, value in vars(Function).items()
    if name.isupper() and isinstance(value, int)
}


def register(nouns: Nouns) -> None:
    """Add the noun and its verb."""
    verbs = noun(nouns, "mechanism", "what a token can")
    parser = verb(
        verbs,
        "list",
        "list a token's mechanisms, their functions and where each runs",
        run_list,
        more="A token behind the PKCS#11 bridge computes what it can itself (backend); what needs no\n"
        "private key and what it lacks is done here (software).",
        examples=[("ferrohsm mechanism list --token production", "where does each run?")],
    )
    choose_token(parser)


def run_list(arguments: argparse.Namespace) -> None:
    """List the mechanisms."""
    from ferrohsm.cli.service import service

    with service() as opened:
        chosen = opened.chosen(arguments)
        token = opened.core.token(chosen.slot)
        engines = getattr(token.signer, "engines", None)
        found = [
            _described(type_, info, engines(type_) if engines is not None else None)
            for type_, info in sorted(token.mechanisms().items())
        ]
    rows = [[m["name"], m["keys"], ", ".join(m["functions"]), _engine(m)] for m in found]
    text = table(["mechanism", "keys", "functions", "engine"], rows)
    show(arguments, {"token": chosen.label, "mechanisms": found}, text)


def _described(type_: int, info: tuple[int, int, int], engines: dict[str, int] | None) -> dict[str, Any]:
    from ferrohsm.cli.view import name_of

    smallest, largest, flags = info
    return {
        "name": name_of("CKM", type_),
        "type": type_,
        "keys": "" if largest == 0 else f"{smallest}-{largest}",
        "functions": _names(flags),
        "engines": {name: _names(part) for name, part in ({} if engines is None else engines).items()}
        or {"slot": _names(flags)},
    }


def _names(flags: int) -> list[str]:
    return [name for flag, name in sorted(_FUNCTIONS.items()) if flags & flag]


def _engine(mechanism: dict[str, Any]) -> str:
    """Return the one engine, or each with its functions."""
    engines = mechanism["engines"]
    if len(engines) == 1:
        return str(next(iter(engines)))
    return "; ".join(f"{name}: {', '.join(functions)}" for name, functions in engines.items())
