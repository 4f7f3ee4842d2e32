"""``ferrohsm adapter list``, ``show`` and ``check``: which adapters there are, and whether a slot's works."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ferrohsm import config as configuration
from ferrohsm import constants as ck
from ferrohsm import registry
from ferrohsm.cli.doctor import BROKEN, OK, WARNING, Finding, not_installed
from ferrohsm.cli.parser import Nouns, verb
from ferrohsm.cli.service import not_seen
from ferrohsm.cli.terminal import NotFoundError, show, table
from ferrohsm.core import Core
from ferrohsm.errors import GeneralError, HsmError, MechanismInvalid
from ferrohsm.runtime import step

if TYPE_CHECKING:
    from ferrohsm.adapter_info import AdapterInfo
    from ferrohsm.config import SlotSection
    from ferrohsm.views import SlotView

_FLAGS = {
    ck.CKF_ENCRYPT: "encrypt",
    ck.CKF_DECRYPT: "decrypt",
    ck.CKF_DIGEST: "digest",
    ck.CKF_SIGN: "sign",
    ck.CKF_SIGN_RECOVER: "sign-recover",
    ck.CKF_VERIFY: "verify",
    ck.CKF_VERIFY_RECOVER: "verify-recover",
    ck.CKF_GENERATE: "generate",
    ck.CKF_GENERATE_KEY_PAIR: "generate-pair",
    ck.CKF_WRAP: "wrap",
    ck.CKF_UNWRAP: "unwrap",
    ck.CKF_DERIVE: "derive",
    ck.CKF_ENCAPSULATE: "encapsulate",
    ck.CKF_DECAPSULATE: "decapsulate",
}
_LOOKED_AT = 100  # objects that a check reads
_SEE = "see the slot's section, and whether what is behind it works: its own configuration, rights, device"


def register(verbs: Nouns) -> None:
    """Add the verbs."""
    verb(
        verbs,
        "list",
        "list the installed adapters and the slots that use them",
        run_list,
        more="Nothing is loaded: what is shown stands in the packages' metadata and in the configuration.",
    )
    shown = verb(
        verbs,
        "show",
        "show what a slot's adapter says about itself: version, limits, mechanisms",
        run_show,
        examples=[("ferrohsm adapter show web", "the adapter of [slots.web]")],
    )
    shown.add_argument("name", metavar="SLOT", nargs="?", help="a slot's name in the configuration")
    checked = verb(
        verbs,
        "check",
        "load a slot's adapter, try it without changing anything, and say what is wrong",
        run_check,
        more="Without a name every slot is checked. Exit code 1 when something is broken.",
    )
    checked.add_argument("name", metavar="SLOT", nargs="?", help="a slot's name in the configuration")


def run_list(arguments: argparse.Namespace) -> None:
    """Print what is installed; import nothing."""
    used: dict[str, list[str]] = {}
    for section in configuration.load().slots:
        used.setdefault(section.adapter, []).append(section.name)
    found: list[dict[str, Any]] = [
        {**row, "slots": used.pop(str(row["name"]), []), "installed": True} for row in registry.installed()
    ]
    found += [
        {"name": name, "package": "", "version": "", "entry_point": "", "slots": slots, "installed": False}
        for name, slots in used.items()
    ]
    rows = [
        (row["name"], _package(row), ", ".join(str(slot) for slot in row["slots"]) or "-") for row in found
    ]
    show(arguments, {"adapters": found}, table(("ADAPTER", "PACKAGE", "SLOTS"), rows))


def _package(row: dict[str, Any]) -> str:
    return f"{row['package']} {row['version']}" if row["installed"] else "not installed"


def _sections(config: configuration.Config, name: str | None) -> list[SlotSection]:
    sections = [section for section in config.slots if name in (None, section.name)]
    if not sections:
        names = ", ".join(section.name for section in config.slots)
        raise NotFoundError(f"there is no [slots.{name}]", f"the configuration has: {names}")
    return sections


class Opened:
    """A core with one slot's section only, started; the other slots are left alone."""

    def __init__(self, config: configuration.Config, section: SlotSection) -> None:
        one = configuration.Config(**{name: getattr(config, name) for name in config.__slots__})
        one.slots = [section]
        self.core = Core(one)
        self.views: list[SlotView] = []

    def __enter__(self) -> Opened:
        step(self.core.start())
        try:
            self.views = step(self.core.slots())
        except BaseException:
            step(self.core.stop())
            raise
        return self

    def __exit__(self, *_: object) -> None:
        step(self.core.stop())

    @property
    def problem(self) -> str | None:
        """What keeps the adapter from being used."""
        [member] = self.core.members
        return member.problem or not_seen(member)

    @property
    def info(self) -> AdapterInfo | None:
        """What the adapter says about itself."""
        return self.core.members[0].info

    def mechanisms(self, slot: int) -> dict[int, tuple[int, int, int]]:
        """Return what a slot offers."""
        return {
            type: step(self.core.mechanism_info(slot, type)) for type in step(self.core.mechanism_list(slot))
        }


def run_show(arguments: argparse.Namespace) -> int:
    """Open each chosen slot's adapter and print what it says."""
    config = configuration.load()
    described, texts, failed = [], [], False
    for section in _sections(config, arguments.name):
        with Opened(config, section) as opened:
            row = _described(section, opened)
        described.append(row)
        failed = failed or row["problem"] is not None
        texts.append(_as_text(row))
    show(arguments, {"slots": described}, "\n\n".join(texts))
    return 1 if failed else 0


def _described(section: SlotSection, opened: Opened) -> dict[str, Any]:
    info = opened.info
    row: dict[str, Any] = {
        "slot": section.name,
        "adapter": section.adapter,
        "isolation": section.isolation,
        "problem": opened.problem,
    }
    if info is None or opened.problem is not None:
        return row
    limits = info.limits
    row |= {
        "name": info.name,
        "version": info.version,
        "inline": info.inline,
        "login": info.login,
        "deadline": None if info.inline else _first(section.deadline, info.deadline),
        "concurrency": None if info.inline else _first(section.concurrency, info.concurrency),
        "limits": {name: getattr(limits, name) for name in limits.__slots__},
        "object_classes": None
        if info.object_classes is None
        else sorted(ck.name("CKO", number) for number in info.object_classes),
        "slots": [_slot(opened, view) for view in opened.views],
    }
    return row


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _slot(opened: Opened, view: SlotView) -> dict[str, Any]:
    mechanisms = opened.mechanisms(view.id) if view.token_present else {}
    return {
        "id": view.id,
        "description": view.description,
        "token_present": view.token_present,
        "free": view.free,
        "mechanisms": [
            {
                "name": ck.name("CKM", type),
                "smallest_key": smallest,
                "largest_key": largest,
                "functions": [word for flag, word in _FLAGS.items() if flags & flag],
            }
            for type, (smallest, largest, flags) in mechanisms.items()
        ],
    }


def _as_text(row: dict[str, Any]) -> str:
    lines = [f"slot {row['slot']}: adapter {row['adapter']}"]
    if row["problem"] is not None or "name" not in row:
        return "\n".join([*lines, f"  broken: {row['problem']}"])
    lines.append(f"  {row['name']} {row['version']}, {'inline' if row['inline'] else 'dispatched'}")
    lines.append(f"  isolation: {row['isolation']}; login: {row['login']}")
    if not row["inline"]:
        lines.append(
            f"  deadline: {row['deadline'] or 'default'} s; calls at once: {row['concurrency'] or 'default'}"
        )
    known = {name: value for name, value in row["limits"].items() if value is not None}
    if known:
        lines.append("  limits: " + ", ".join(f"{name} {value}" for name, value in known.items()))
    for slot in row["slots"]:
        state = "free" if slot["free"] else "token" if slot["token_present"] else "no token"
        lines.append(f"  slot id {slot['id']} ({state}): {len(slot['mechanisms'])} mechanisms")
        rows = [
            (
                entry["name"],
                f"{entry['smallest_key']}-{entry['largest_key']}" if entry["largest_key"] else "",
                " ".join(entry["functions"]),
            )
            for entry in slot["mechanisms"]
        ]
        if rows:
            text = table(("MECHANISM", "KEYS", "FUNCTIONS"), rows)
            lines += ["    " + line for line in text.splitlines()]
    return "\n".join(lines)


def run_check(arguments: argparse.Namespace) -> int:
    """Check the chosen slots, each alone, and print what was found."""
    config = configuration.load()
    found: list[dict[str, Any]] = []
    lines = []
    for section in _sections(config, arguments.name):
        for finding in _check(config, section):
            found.append({"slot": section.name, **finding._asdict()})
            lines.append(f"{finding.state:8} {section.name}: {finding.check}: {finding.detail}")
            if finding.remedy and finding.state != OK:
                lines.append(f"{'':9}→ {finding.remedy}")
    broken = any(row["state"] == BROKEN for row in found)
    show(arguments, {"healthy": not broken, "checks": found}, "\n".join(lines))
    return 1 if broken else 0


def _check(config: configuration.Config, section: SlotSection) -> Iterator[Finding]:
    try:
        adapter = registry.make(section)
    except registry.UnknownAdapterError as error:
        yield Finding("load", BROKEN, str(error), not_installed(section))
        return
    except GeneralError as error:
        yield Finding("load", BROKEN, str(error), f"correct [slots.{section.name}] in {config.path}")
        return
    except (Exception, SystemExit) as error:
        yield Finding("load", BROKEN, _words(error), "ask the adapter's author, with FERROHSM_DEBUG=1 set")
        if os.environ.get("FERROHSM_DEBUG"):
            raise
        return
    yield Finding("load", OK, f"{adapter.name} {adapter.version}")
    with Opened(config, section) as opened:
        yield from _check_opened(opened)


def _check_opened(opened: Opened) -> Iterator[Finding]:
    if opened.problem is not None:
        why = opened.core.members[0].why
        detail = opened.problem + (f": {why}" if why else "")
        yield Finding("open", BROKEN, detail, _SEE)
        return
    info = opened.info
    yield Finding("open", OK, "" if info is None else f"login by {info.login}")
    for view in opened.views:
        yield from _check_slot(opened, view)


def _check_slot(opened: Opened, view: SlotView) -> Iterator[Finding]:
    """Try what changes nothing: the token's description, its mechanisms, random bytes, public objects."""
    core, check = opened.core, f"slot {view.id}"
    if not view.token_present:
        yield Finding(check, WARNING, "there is no token in it", "see whether the device is plugged in")
        return
    if view.free:
        yield Finding(check, OK, "free: a new token is made here")
        return
    try:
        info = core.run(view.id, core.token_info(view.id))
        yield Finding(f"{check} token", OK, f"{info.label.rstrip() or 'no label'} {info.serial_number}")
        yield from _check_mechanisms(opened, view.id, check)
        random = core.run(view.id, core.random(view.id, 32))
        fine = len(random) == 32 and random != bytes(32)
        yield Finding(
            f"{check} random", OK if fine else BROKEN, "32 bytes" if fine else "these are no random bytes"
        )
        yield Finding(f"{check} objects", OK, f"{_read_objects(core, view.id)} public objects read")
    except Exception as error:
        yield Finding(check, BROKEN, _words(error), "the log has more, with [log] target set")


def _check_mechanisms(opened: Opened, slot: int, check: str) -> Iterator[Finding]:
    from ferrohsm.mechanisms import ROWS

    offered = opened.mechanisms(slot)
    if not offered:
        yield Finding(
            f"{check} mechanisms", WARNING, "it offers none", "see [mechanisms] in the configuration"
        )
        return
    unknown = [ck.name("CKM", type) for type in offered if type not in ROWS]
    idle = [
        ck.name("CKM", type) for type, (_, _, flags) in offered.items() if not any(f & flags for f in _FLAGS)
    ]
    if unknown:
        remedy = "the adapter has to register its own mechanisms"
        yield Finding(f"{check} mechanisms", WARNING, f"not known here: {', '.join(unknown)}", remedy)
    elif idle:
        yield Finding(
            f"{check} mechanisms", WARNING, f"of no use: {', '.join(idle)}", "their flags say nothing"
        )
    else:
        yield Finding(f"{check} mechanisms", OK, f"{len(offered)}")


def _read_objects(core: Core, slot: int) -> int:
    session = core.open_session(slot, 1, False)
    try:
        cursor = core.run(slot, core.find(session, [(ck.CKA_TOKEN, b"\x01")]))
        found = core.run(slot, cursor.take(_LOOKED_AT))
        for oid in found:
            core.run(slot, core.get_attributes(session, oid, [ck.CKA_CLASS, ck.CKA_LABEL]))
        return len(found)
    finally:
        core.run(slot, core.close_session(session))


def _words(error: BaseException) -> str:
    """Say what went wrong; of an error that nobody expected the kind only, its words may hold anything."""
    if isinstance(error, MechanismInvalid):
        return "a mechanism that it lists is refused"
    if isinstance(error, HsmError):
        return f"{error} ({ck.name('CKR', error.rv)})" if str(error) else ck.name("CKR", error.rv)
    if isinstance(error, TypeError | ValueError) and type(error).__module__ == "builtins":
        return f"{type(error).__name__}: {error}"[:200]
    if isinstance(error, ImportError):
        return f"{type(error).__name__}: {error}"[:200]
    return type(error).__name__
