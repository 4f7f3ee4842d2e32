"""What stands in for `typing` at the start behaves as the library's own where plugins can tell."""

from __future__ import annotations

import copy
import pickle
import typing

from ferrohsm.adapters import Adapter, Operation
from ferrohsm.parameters import Ctr


class Named(typing.Protocol):
    """A protocol of the library's."""

    def called(self) -> str:
        """Return a name."""


class Device(Adapter, Named):
    """An adapter that is of both kinds."""

    def called(self) -> str:
        return "device"


class Mine(Ctr):
    """A class of a record class, whose annotation is no field."""

    note: str = "mine"


def test_a_class_may_be_one_of_the_librarys_protocols_too() -> None:
    assert Device().called() == "device" and issubclass(Device, Adapter)


def test_what_is_checked_at_run_time_has_all_names() -> None:
    class Whole:
        def __init__(self) -> None:
            for name in (*typing.get_type_hints(Operation), *vars(Operation)):
                if not name.startswith("_"):
                    setattr(self, name, True)

    assert isinstance(Whole(), Operation) and not isinstance(object(), Operation)


def test_a_class_of_a_record_class_has_its_fields() -> None:
    made = Mine(128, bytes(16))
    assert made.note == "mine" and made == Ctr(128, bytes(16)) and made._fields == Ctr._fields
    for record in (made, Ctr(64, b"x" * 16)):
        assert pickle.loads(pickle.dumps(record)) == copy.deepcopy(record) == record
        assert type(copy.copy(record)) is type(record)
