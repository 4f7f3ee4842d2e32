"""Templates of one shape, which differ in name, id and value only, are checked once.

A program that makes many objects makes them all alike. What `compose` says of a template follows from its
types and values; of the label, the id and the value it looks only at whether they are well formed and empty.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Template, Value
from ferrohsm.attribute_kinds import BYTES, SENSITIVE, STRING
from ferrohsm.attributes import Rules, compose, normal, rules_of, sensitive_types

_FREE = frozenset((ck.CKA_LABEL, ck.CKA_ID, ck.CKA_VALUE))
_MOST = 64  # shapes that are kept
_LARGEST = 32  # bytes of a value that is part of a shape

_made: dict[tuple[object, ...], tuple[Attributes, Rules]] = {}


def compose_alike(origin: int, template: Template, implied: Attributes, *, so: bool = False) -> Attributes:
    """Return and raise what `ferrohsm.attributes.compose` does."""
    shape, free = _shape_of(origin, template, implied, so)
    known = None if shape is None else _made.get(shape)
    if known is None:
        attributes = compose(origin, template, implied, so=so)
        if shape is not None:
            _keep(shape, attributes, free)
        return attributes
    fixed, rules = known
    made = dict(fixed)
    try:
        for attribute, value in free:
            made[attribute] = normal(rules[attribute], value)
    except BaseException:
        from ferrohsm.entries import wipe

        wipe(made)
        raise
    return made


def _shape_of(
    origin: int, template: Template, implied: Attributes, so: bool
) -> tuple[tuple[object, ...] | None, list[tuple[int, Value]]]:
    """Return what the outcome follows from, without secrets; None when that is nothing to keep."""
    shape: list[object] = [origin, so, *implied.items()]
    free = []
    for pair in template:
        attribute, value = pair
        if attribute in _FREE:
            shape.append((attribute, not value))
            free.append(pair)
        elif type(value) is bytes and len(value) <= _LARGEST:
            shape.append(pair)
        else:
            return None, free
    return tuple(shape), free


def _keep(shape: tuple[object, ...], attributes: Attributes, free: list[tuple[int, Value]]) -> None:
    """Keep what is the same for all templates of this shape."""
    rules = rules_of(attributes)
    names = {attribute for attribute, _ in free}
    if len(names) != len(free):  # one stands twice: whether with one value is to be looked at each time
        return
    if any(rules[attribute].kind not in (BYTES, STRING) for attribute in names):
        return
    secret = sensitive_types()
    if any(attribute in secret and attribute not in names for attribute in attributes):
        return
    fixed = {attribute: value for attribute, value in attributes.items() if attribute not in names}
    if len(_made) >= _MOST:
        _made.pop(next(iter(_made)), None)
    _made[shape] = fixed, rules


def secrets_in(attributes: Attributes) -> list[int]:
    """Return which of an object's attributes are sensitive."""
    rules = rules_of(attributes)
    return [
        attribute
        for attribute in sensitive_types() & attributes.keys()
        if (rule := rules.get(attribute)) is not None and rule.flags & SENSITIVE
    ]
