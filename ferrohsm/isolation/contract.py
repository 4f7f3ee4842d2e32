"""What may be asked of an object in the other process: the methods and attributes of the contract.

The protocols of `ferrohsm.adapters` are read here, so that what is added there can be told at once. What
stands on memory that only one process has (kernels, shared generations) stays at home: the core does without.
"""

from __future__ import annotations

import inspect
from typing import Any

from ferrohsm import adapters

_AT_HOME = frozenset({"kernel", "kernel_key", "generation_words"})


class Shape:
    """What an object offers: its methods, each with whether it is a coroutine's, and attributes."""

    __slots__ = ("attributes", "methods", "name")

    def __init__(self, name: str, methods: dict[str, bool], attributes: tuple[str, ...]) -> None:
        self.name = name
        self.methods = methods
        self.attributes = attributes


def _methods(protocol: type[Any]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for cls in protocol.__mro__:
        if getattr(cls, "_is_protocol", False):
            for name, value in vars(cls).items():
                if inspect.isfunction(value) and not name.startswith("_"):
                    found.setdefault(name, inspect.iscoroutinefunction(value))
    return found


def _attributes(protocol: type[Any]) -> set[str]:
    return {
        name
        for cls in protocol.__mro__
        if getattr(cls, "_is_protocol", False)
        for name in vars(cls).get("__annotations__", {})
        if not name.startswith("_")
    }


PROTOCOLS = [
    value
    for value in vars(adapters).values()
    if isinstance(value, type)
    and value.__module__ == adapters.__name__
    and getattr(value, "_is_protocol", False)
]
METHODS = {name for protocol in PROTOCOLS for name in _methods(protocol)} - _AT_HOME
ATTRIBUTES = {name for protocol in PROTOCOLS for name in _attributes(protocol)} - METHODS

_shapes: dict[type[Any], Shape] = {}


def shape_of(thing: object) -> Shape:
    """Return the shape of an object of this process."""
    cls = type(thing)
    shape = _shapes.get(cls)
    if shape is None:
        promised: dict[str, bool] = {}
        for protocol in PROTOCOLS:
            methods = _methods(protocol)
            if methods and all(callable(getattr(thing, name, None)) for name in methods):
                promised.update(methods)
        methods = {}
        for name in sorted(METHODS):
            method = getattr(thing, name, None)
            if callable(method):
                methods[name] = promised.get(name, False) or inspect.iscoroutinefunction(method)
        attributes = tuple(sorted(name for name in ATTRIBUTES if _plain(thing, name)))
        shape = _shapes[cls] = Shape(cls.__name__, methods, attributes)
    return shape


def _plain(thing: object, name: str) -> bool:
    return hasattr(thing, name) and not callable(getattr(thing, name))
