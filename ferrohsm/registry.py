"""The adapters that the configuration names, loaded when they are named and not before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ferrohsm import log
from ferrohsm.errors import HsmError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferrohsm.adapters import Adapter
    from ferrohsm.config import Config, SlotSection

GROUP = "ferrohsm.adapters"


class UnknownAdapterError(Exception):
    """No installed package offers an adapter of that name."""


class IsolationError(Exception):
    """The adapter cannot run where its section says."""


class Member:
    """A slot section and its adapter; `adapter` is None when it could not be loaded or opened.

    `problem` says what is wrong, in words for the log and for ``ferrohsm doctor``.
    """

    __slots__ = ("adapter", "problem", "section")

    def __init__(self, section: SlotSection) -> None:
        self.section = section
        self.adapter: Adapter | None = None
        self.problem: str | None = None

    def fail(self, problem: str, error: BaseException) -> None:
        """Go on without it: the other slots work."""
        self.adapter = None
        self.problem = problem
        if isinstance(error, HsmError):
            log.event("error", problem, slot=self.section.name, adapter=self.section.adapter, why=str(error))
        else:
            log.failure(problem, error, slot=self.section.name, adapter=self.section.adapter)


def load(config: Config) -> list[Member]:
    """Make the adapters of all slot sections; a broken one is noted and costs only its slot."""
    members = []
    for section in config.slots:
        member = Member(section)
        try:
            member.adapter = make(section)
        except UnknownAdapterError as error:
            member.fail("the slot's adapter is not installed", error)
        except Exception as error:
            member.fail("the slot's adapter cannot be loaded", error)
        members.append(member)
    return members


def make(section: SlotSection) -> Adapter:
    """Make the section's adapter, in this process or apart as it says; nothing is opened.

    Raises `UnknownAdapterError`, `IsolationError` and whatever the plugin raises.
    """
    if section.isolation == "process":
        from ferrohsm.isolation.adapter import IsolatedAdapter

        return IsolatedAdapter(section)
    return _factory(section.adapter)(section)


def _factory(name: str) -> Callable[[SlotSection], Adapter]:
    """Return what makes the adapter; our own is imported without a look at the installed packages."""
    if name == "software":
        from ferrohsm_adapters.software import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            Adapter as Software,
        )

        factory: Callable[[SlotSection], Adapter] = Software
        return factory
    for entry in _entry_points():
        if entry.name == name:
            found: Callable[[SlotSection], Adapter] = entry.load()
            return found
    raise UnknownAdapterError(name)


def _entry_points() -> list[Any]:
    """Return the entry points of our group, ours first.

    A host that embeds us may not have our own directory on its path, so it is looked at by name.
    """
    import sys
    from importlib.metadata import distributions

    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = [own, *(entry for entry in sys.path if entry != own)]
    return [
        entry
        for distribution in distributions(path=path)
        for entry in distribution.entry_points
        if entry.group == GROUP
    ]
