"""A library with one token, and how it is set up."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from cryptoki import PIN, SO_PIN, Cryptoki

from ferrohsm import constants as ck


class Bench:
    """An initialized library with one token; `slot` is its slot, `free` the slot for the next one."""

    def __init__(self, p11: Cryptoki, slot: int, log: Path) -> None:
        self.p11 = p11
        self.slot = slot
        self.log = log

    def user(self, *, read_write: bool = True) -> int:
        """Return a session in which the user is logged in."""
        session = self.p11.open(self.slot, read_write=read_write)
        self.p11.login(session)
        return session


def initialize_token(p11: Cryptoki, slot: int, label: bytes = b"token") -> None:
    """Make a token with both PINs; nobody is logged in afterwards."""
    p11("C_InitToken", slot, SO_PIN, len(SO_PIN), label.ljust(32))
    session = p11.open(slot)
    p11.login(session, ck.CKU_SO)
    p11("C_InitPIN", session, PIN, len(PIN))
    p11("C_CloseSession", session)


def kept(thing: Any) -> int:
    """Return the address of a ctypes object."""
    return ctypes.addressof(thing)
