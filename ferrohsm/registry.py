"""The adapters that the configuration names, loaded when they are named and not before."""

from __future__ import annotations

import os

from ferrohsm import log
from ferrohsm.adapter_info import AdapterInfo
from ferrohsm.errors import HsmError
from ferrohsm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ferrohsm.adapters import Adapter
    from ferrohsm.config import Config, SlotSection
    from ferrohsm.lanes import Lane

GROUP = "ferrohsm.adapters"


class UnknownAdapterError(Exception):
    """No installed package offers an adapter of that name."""


class IsolationError(Exception):
    """The adapter cannot run where its section says."""


class Member:
    """A slot section and its adapter; `adapter` is None when it could not be loaded or opened.

    `problem` says what is wrong, in words for the log and for ``ferrohsm doctor``. `info` is what the
    adapter said when it was opened. `lane` is there for an adapter that is not inline, which comes and goes.
    """

    __slots__ = ("adapter", "info", "lane", "problem", "section", "why")

    def __init__(self, section: SlotSection) -> None:
        self.section = section
        self.adapter: Adapter | None = None
        self.info: AdapterInfo | None = None
        self.lane: Lane | None = None
        self.problem: str | None = None
        self.why: str | None = None  # what the adapter itself has said, for a person

    def fail(self, problem: str, error: BaseException) -> None:
        """Go on without it: the other slots work."""
        self.adapter = None
        self.problem = problem
        self.why = reason(error)
        if isinstance(error, HsmError | UnknownAdapterError):
            log.event("error", problem, slot=self.section.name, adapter=self.section.adapter, why=str(error))
        else:
            log.failure(problem, error, slot=self.section.name, adapter=self.section.adapter)


def reason(error: BaseException) -> str:
    """Return an error for a person: a refusal's words, of any other its kind."""
    told = isinstance(error, HsmError | IsolationError | UnknownAdapterError)
    return str(error) if told else type(error).__name__


def installed() -> list[dict[str, str]]:
    """Return the installed adapters by name, from the packages' metadata: nothing is imported."""
    found: dict[str, dict[str, str]] = {}
    for entry in _entry_points():
        package = entry.dist
        found.setdefault(
            entry.name,
            {
                "name": entry.name,
                "package": "" if package is None else package.name,
                "version": "" if package is None else package.version,
                "entry_point": entry.value,
            },
        )
    return [found[name] for name in sorted(found)]


def load(config: Config) -> list[Member]:
    """Make the adapters of all slot sections; a broken one is noted and costs only its slot."""
    members = []
    for section in config.slots:
        member = Member(section)
        try:
            member.adapter = make(section)
        except UnknownAdapterError as error:
            member.fail("the slot's adapter is not installed", error)
        except (Exception, SystemExit) as error:
            member.fail("the slot's adapter cannot be loaded", error)
        members.append(member)
    return members


def make(section: SlotSection) -> Adapter:
    """Make the section's adapter, in this process or apart as it says; nothing is opened.

    Raises `UnknownAdapterError` and whatever the plugin raises.
    """
    if section.isolation == "process":
        from ferrohsm.isolation.adapter import IsolatedAdapter

        return IsolatedAdapter(section)
    return _checked(_factory(section.adapter)(section), section.adapter)


def describe(adapter: Any, isolation: str = "thread") -> AdapterInfo:
    """Return what an adapter says of itself. `TypeError` and `ValueError` say what is wrong with it.

    Raises `IsolationError` when it does not run where its section wants it to.
    """
    given = getattr(adapter, "info", None)
    if given is None:
        return AdapterInfo(adapter.name, adapter.version, inline=adapter.inline)
    info = given() if callable(given) else given
    if not isinstance(info, AdapterInfo):
        raise TypeError("info() must return an AdapterInfo")
    if info.inline != adapter.inline:
        raise ValueError("info() says another inline than the adapter")
    if isolation not in info.isolation:
        raise IsolationError(f'the adapter does not run with isolation = "{isolation}"')
    return info


def _checked(adapter: Any, name: str) -> Adapter:
    """Return what an entry point gave if it can be an adapter."""
    if not isinstance(getattr(adapter, "inline", None), bool):
        raise TypeError(f"the adapter {name} must say inline = True or False")
    for method in ("open", "slots", "close"):
        if not callable(getattr(adapter, method, None)):
            raise TypeError(f"the adapter {name} has no {method}()")
    for field in ("name", "version"):
        if not isinstance(getattr(adapter, field, None), str):
            raise TypeError(f"the adapter {name} must have a {field}")
    checked: Adapter = adapter
    return checked


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
    raise UnknownAdapterError(f"no installed package offers an adapter {name!r}")


def _entry_points() -> Iterator[Any]:
    """Give the entry points of our group, ours first; some may come twice.

    A host that embeds us may not have our own directory on its path, so it is looked at by name.
    """
    from importlib.metadata import DistributionFinder, distributions

    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # The second list is asked for only when the first has not had what is looked for.
    for context in (DistributionFinder.Context(path=[own]), DistributionFinder.Context()):
        for distribution in distributions(context=context):
            for entry in distribution.entry_points:
                if entry.group == GROUP:
                    yield entry
