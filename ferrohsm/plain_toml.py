"""Configuration files of the plain kind, read without `tomllib` and what that imports: expressions, dates.

Plain is a file of tables in brackets, of bare keys, and of strings without escapes, decimal numbers and
booleans on one line. Everything else, what is wrong included, is left to `tomllib`; what both read, both read
alike.
"""

from __future__ import annotations

from ferrohsm.typed import Any

_DIGITS = 18  # of a number; more may not fit into 64 bits
_BOOLEANS = {"true": True, "false": False}


def parse(text: str) -> dict[str, Any] | None:
    """Return the document, None when it is not plain."""
    document: dict[str, Any] = {}
    table = document
    for line in text.replace("\r\n", "\n").split("\n"):
        line = line.strip(" \t")
        if not line.replace("\t", " ").isprintable():
            return None
        if not line or line[0] == "#":
            continue
        if line[0] == "[":
            path, bracket, rest = line[1:].partition("]")
            opened = _opened(document, path) if bracket and _is_over(rest) else None
            if opened is None:
                return None
            table = opened
            continue
        key, sign, rest = line.partition("=")
        key = key.rstrip(" \t")
        value = _value(rest.lstrip(" \t")) if sign else None
        if value is None or key in table or not _is_bare(key):
            return None
        table[key] = value
    return document


def _is_bare(key: str) -> bool:
    return key.isascii() and key.replace("-", "0").replace("_", "0").isalnum()


def _is_over(rest: str) -> bool:
    rest = rest.lstrip(" \t")
    return not rest or rest[0] == "#"


def _opened(document: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Return a new table; None when there is something under its name, or its name is not plain."""
    *parents, last = path.split(".")
    table = document
    for parent in parents:
        below = table.setdefault(parent, {})
        if not _is_bare(parent) or not isinstance(below, dict):
            return None
        table = below
    if last in table or not _is_bare(last):
        return None
    new: dict[str, Any] = {}
    table[last] = new
    return new


def _value(text: str) -> Any:
    """Return a value, None when it is not plain."""
    if text[:1] in ('"', "'"):
        quote = text[0]
        inner, end, rest = text[1:].partition(quote)
        if not end or not _is_over(rest) or (quote == '"' and "\\" in inner):
            return None
        return inner
    word = text.partition("#")[0].rstrip(" \t")
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    if word.isascii() and word.isdigit() and len(word) <= _DIGITS and (word[0] != "0" or word == "0"):
        return int(word)
    return None
