"""The section of a bridged slot, checked: every message names the key and what it may be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ferrohsm.errors import GeneralError
from ferrohsm_adapters.pkcs11_bridge.profiles import PROFILES, Profile

if TYPE_CHECKING:
    from ferrohsm.config import SlotSection

SOFTWARE = ("fallback", "prefer", "never")
_KNOWN = (
    *("module", "profile", "init", "slot", "token_label", "serial", "sessions", "refresh", "software"),
    *("edwards_point", "free_slot", "ec_point"),
)


class Options:
    """What ``[slots.NAME]`` says: the module, which of its slots, and how it is spoken to.

    `module` is an absolute path. `slot`, `token_label` and `serial` choose slots: all that are given must
    fit. `sessions` is the most that are opened with the backend. `refresh`: seconds for which what was read
    of an object, and of the token's state, is believed. `software`: what the software engine does that needs
    no private key: what the backend cannot ("fallback"), all it can ("prefer"), nothing ("never").
    """

    def __init__(self, section: SlotSection) -> None:
        self._name = section.name
        given = section.options
        for key in given:
            if key not in _KNOWN:
                raise self._wrong(key, f"is not known; there are {', '.join(_KNOWN)}")
        profile = PROFILES.get(given.get("profile", "generic"))
        if profile is None:
            raise self._wrong("profile", f"must be one of {', '.join(PROFILES)}")
        point = given.get("edwards_point", profile.edwards_point)
        if point not in ("der", "raw"):
            raise self._wrong("edwards_point", 'must be "der" or "raw"')
        self.profile: Profile = profile._replace(edwards_point=point)
        self.module = self._module(given.get("module", profile.module))
        self.init = self._text(given, "init")
        self.slot = self._number(given, "slot", None, 0, 2**64 - 1)
        self.token_label = self._text(given, "token_label")
        self.serial = self._text(given, "serial")
        sessions = self._number(given, "sessions", profile.sessions or 4096, 2, 1_000_000)
        self.sessions: int = 4096 if sessions is None else sessions
        refresh = given.get("refresh", 1.0)
        if not isinstance(refresh, int | float) or isinstance(refresh, bool) or not 0 <= refresh <= 3600:
            raise self._wrong("refresh", "must be a number of seconds from 0 to 3600")
        self.refresh = float(refresh)
        self.software: str = given.get("software", "fallback")
        if self.software not in SOFTWARE:
            raise self._wrong("software", f"must be one of {', '.join(SOFTWARE)}")
        self.free_slot = given.get("free_slot", True)
        if not isinstance(self.free_slot, bool):
            raise self._wrong("free_slot", "must be true or false")

    def wants(self, slot: int, label: str, serial: str, *, initialized: bool) -> bool:
        """Say whether a slot of the backend is one of ours."""
        if self.slot is not None and slot != self.slot:
            return False
        if self.token_label is not None or self.serial is not None:
            return initialized and self.token_label in (None, label) and self.serial in (None, serial)
        return initialized or self.free_slot

    def _module(self, path: Any) -> str:
        if not isinstance(path, str) or not path:
            raise self._wrong("module", "must be the path of a PKCS#11 module")
        path = os.path.expanduser(path)
        if not os.path.isabs(path):
            raise self._wrong("module", f"must be an absolute path: {path}")
        return os.path.realpath(path)

    def _text(self, given: dict[str, Any], key: str) -> str | None:
        value = given.get(key)
        if value is not None and (not isinstance(value, str) or "\0" in value):
            raise self._wrong(key, "must be a text")
        return value

    def _number(
        self, given: dict[str, Any], key: str, default: int | None, least: int, most: int
    ) -> int | None:
        value = given.get(key, default)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(key, f"must be a whole number from {least} to {most}")
        return value

    def _wrong(self, key: str, what: str) -> GeneralError:
        return GeneralError(f"slots.{self._name}.{key}: {what}")
