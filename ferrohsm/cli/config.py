"""``ferrohsm config``: what is in force, and whether a file is right."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ferrohsm import config as configuration
from ferrohsm import constants as ck
from ferrohsm.cli.parser import Nouns, noun, verb
from ferrohsm.cli.terminal import CommandError, show
from ferrohsm.errors import HsmError
from ferrohsm.settings import SETTINGS, SLOT_SETTINGS, Setting


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "config", "show or check the configuration")
    verb(
        verbs,
        "show",
        "print every setting as it is in force",
        run_show,
        more="The output is a configuration file: it can be saved as ferrohsm.toml and edited.",
        examples=[("ferrohsm config show > ~/.config/ferrohsm/ferrohsm.toml", "start a file of your own")],
    )
    check = verb(verbs, "check", "say whether a configuration file is right", run_check)
    check.add_argument("file", metavar="FILE", nargs="?", help="the file (default: the one that is in use)")


def run_show(arguments: argparse.Namespace) -> None:
    """Print the configuration in force as TOML or JSON."""
    config = configuration.load()
    show(arguments, as_json(config), as_toml(config).rstrip())


def run_check(arguments: argparse.Namespace) -> None:
    """Load a file; an error is the answer."""
    if arguments.file:
        os.environ["FERROHSM_CONF"] = os.path.abspath(arguments.file)
    config = configuration.load()
    for section in config.slots:
        _check_slot(config, section)
    text = f"{config.path} is right" if config.path else "there is no file; the defaults are in force"
    show(arguments, {"path": config.path, "valid": True}, text)


def _check_slot(config: configuration.Config, section: configuration.SlotSection) -> None:
    """Have the section's adapter read its own keys; nothing is opened. `CommandError` says what is wrong."""
    from ferrohsm import registry
    from ferrohsm.cli.doctor import not_installed

    where = f"{config.path}: slots.{section.name}"
    try:
        registry.make(section)
    except registry.UnknownAdapterError as error:
        raise CommandError(f"{where}.adapter: {error}", not_installed(section)) from None
    except HsmError as error:
        raise CommandError(f"{config.path}: {error}") from None
    except (Exception, SystemExit) as error:
        what = f"{where}: the adapter cannot be loaded: {registry.reason(error)}"
        raise CommandError(what, f"ferrohsm adapter check {section.name} says more") from error


def _plain(row: Setting, value: Any) -> Any:
    """Return a setting's value as a file would have it."""
    if value is None:
        return None
    if row.kind == "mode":
        return f"0{value:o}"
    if row.kind == "mechanisms":
        return sorted(ck.name("CKM", number) for number in value)
    return value


def as_json(config: configuration.Config) -> dict[str, Any]:
    """Return every setting by its table, with the file's path."""
    document: dict[str, Any] = {"path": config.path}
    for row in SETTINGS:
        holder = document.setdefault(row.section, {}) if row.section else document
        source = getattr(config, row.section) if row.section else config
        holder[row.key] = _plain(row, getattr(source, row.key))
    document["slots"] = {
        section.name: {"adapter": section.adapter, **_lane(section), **section.options}
        for section in config.slots
    }
    return document


def as_toml(config: configuration.Config) -> str:
    """Return the settings as a file, each with its comment; one that is not set is commented out."""
    lines = [f"# {config.path or 'no file: the defaults'}"]
    section = ""
    for row in SETTINGS:
        if row.section != section:
            section = row.section
            lines += ["", f"[{section}]"]
        value = _plain(row, getattr(getattr(config, section) if section else config, row.key))
        lines.append(f"# {row.text}")
        lines.append(f"# {row.key} =" if value is None else f"{row.key} = {_toml(value)}")
    for slot in config.slots:
        lines += ["", f"[slots.{_key(slot.name)}]", f"adapter = {_toml(slot.adapter)}"]
        options = {**_lane(slot), **slot.options}
        lines += [f"{_key(key)} = {_toml(value)}" for key, value in options.items() if value is not None]
    return "\n".join(lines) + "\n"


def _lane(section: configuration.SlotSection) -> dict[str, Any]:
    """Return what is set of the keys that every adapter's section may have."""
    return {
        row.key: getattr(section, row.key)
        for row in SLOT_SETTINGS
        if getattr(section, row.key) != row.default
    }


def _key(name: str) -> str:
    bare = name and all(
        character.isascii() and (character.isalnum() or character in "-_") for character in name
    )
    return name if bare else _toml(name)


def _toml(value: Any) -> str:
    """Write one value; TOML's and JSON's strings agree once DEL is escaped."""
    import json

    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
