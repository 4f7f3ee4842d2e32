"""What annotations and records need, without the price of `typing` and `contextlib` at the start.

Both import `re`, `enum`, `functools` and more: a third of what ``C_Initialize`` cost in a process without
Python. Modules that are loaded there take these names from here. A type checker sees the library's own.
"""

from __future__ import annotations

from _collections_abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)

TYPE_CHECKING = False

if TYPE_CHECKING:
    from contextlib import contextmanager
    from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, cast, final, runtime_checkable
else:
    from abc import ABCMeta

    try:
        from _collections import _tuplegetter as _getter
    except ImportError:  # an interpreter that has it elsewhere, or not at all

        def _getter(index, doc):
            return property(lambda record: tuple.__getitem__(record, index), doc=doc)

    Any = NoReturn = object

    def cast(_type, value):
        """Return the value."""
        return value

    def final(thing):
        """Return the class or function."""
        return thing

    def TypeVar(name, *_, **__):  # noqa: N802 - the library's name
        """Return something that stands in annotations, which nobody evaluates."""
        return name

    class _Records(type):
        """Makes the classes of records: tuples whose fields are the annotated names, in their order."""

        def __new__(cls, name, bases, space):
            """Make one class; fields with a value in the class have it as their default."""
            if not bases or bases != (NamedTuple,):  # a class of a record class has its fields
                return super().__new__(cls, name, bases, space)
            fields = tuple(space.get("__annotations__", ()))
            defaults = {field: space.pop(field) for field in fields if field in space}
            space.setdefault("__slots__", ())
            for index, field in enumerate(fields):
                space[field] = _getter(index, field)
            if fields:
                space.update(_fields=fields, _field_defaults=defaults, _tail=tuple(defaults.values()))
                space["__match_args__"] = fields
            return super().__new__(cls, name, (*bases, tuple), space)

    class NamedTuple(metaclass=_Records):
        """The base of records, as `typing.NamedTuple`, but nothing is compiled for a class of them."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}
        _tail = ()  # the defaults, which the last fields have

        def __new__(cls, /, *values, **named):
            """Make a record of values in their order, by name, or both."""
            missing = len(cls._fields) - len(values)
            if named or missing < 0 or missing > len(cls._tail):
                values = cls._completed(values, named)
            elif missing:
                values += cls._tail[-missing:]
            return tuple.__new__(cls, values)

        @classmethod
        def _completed(cls, values, named):
            rest = cls._fields[len(values) :]
            given = {**cls._field_defaults, **named}
            if len(values) > len(cls._fields) or any(name not in rest for name in named):
                raise TypeError(f"{cls.__name__} is given a value that it has no field for")
            if missing := [name for name in rest if name not in given]:
                raise TypeError(f"{cls.__name__} lacks {', '.join(missing)}")
            return (*values, *(given[name] for name in rest))

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, /, **named):
            return type(self)(**{**self._asdict(), **named})

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({fields})"

        def __getnewargs__(self):
            return tuple(self)

    class _Checked(ABCMeta):
        """Lets `isinstance` look at what an object has, for protocols that are `runtime_checkable`."""

        def __instancecheck__(cls, thing):
            """Say whether an object is of the class, or has all that the protocol names."""
            if not cls.__dict__.get("_is_checked"):
                return super().__instancecheck__(thing)
            return all(hasattr(thing, name) for name in cls._names())

        def _names(cls):
            names = set()
            for base in cls.__mro__:
                if base.__dict__.get("_is_protocol") and base is not Protocol:
                    names.update(base.__dict__, base.__dict__.get("__annotations__", ()))
            return [name for name in names if not name.startswith("_")]

    class Protocol(metaclass=ABCMeta):  # noqa: B024 - what is abstract is what a checker finds missing
        """The base of protocols; with its metaclass a class may be one of the library's protocols, too."""

        __slots__ = ()
        _is_protocol = True

        def __init_subclass__(cls, **_):
            """Mark what lists `Protocol` itself as one, as the library does."""
            cls._is_protocol = Protocol in cls.__bases__

    def runtime_checkable(protocol):
        """Let `isinstance` look for the protocol's names."""
        protocol._is_checked, protocol.__class__ = True, _Checked
        return protocol

    class _Managed:
        """A block of a generator: what stands before its ``yield``, and after."""

        __slots__ = ("_generator",)

        def __init__(self, generator):
            self._generator = generator

        def __enter__(self):
            return next(self._generator)

        def __exit__(self, kind, error, trace):
            if kind is None:
                try:
                    next(self._generator)
                except StopIteration:
                    return False
                raise RuntimeError("a block's generator yields twice")
            if error is None:
                error = kind()
            try:
                self._generator.throw(error)
            except BaseException as raised:
                if raised is error:
                    error.__traceback__ = trace  # without the generator's own frames
                    return False
                if isinstance(raised, StopIteration):
                    return True
                raise
            raise RuntimeError("a block's generator yields again after an exception")

    def contextmanager(function):
        """Make a function that yields once a block for ``with``; a StopIteration must not pass through it."""

        def managed(*values, **named):
            return _Managed(function(*values, **named))

        managed.__name__, managed.__qualname__ = function.__name__, function.__qualname__
        managed.__doc__, managed.__module__ = function.__doc__, function.__module__
        managed.__wrapped__ = function
        return managed


__all__ = [
    "TYPE_CHECKING",
    "Any",
    "Awaitable",
    "Callable",
    "Coroutine",
    "Iterable",
    "Iterator",
    "Mapping",
    "NamedTuple",
    "NoReturn",
    "Protocol",
    "Sequence",
    "TypeVar",
    "cast",
    "contextmanager",
    "final",
    "runtime_checkable",
]
