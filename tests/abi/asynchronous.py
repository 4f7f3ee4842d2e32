"""Asynchronous sessions through ctypes: opened, and their pending calls completed."""

from __future__ import annotations

import ctypes
import time
from ctypes import c_ulong, c_void_p
from typing import Any

from cryptoki import Cryptoki, RefusedError

from ferrohsm import constants as ck

ASYNC = ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION | ck.CKF_ASYNC_SESSION
NONE = "CKR_OPERATION_NOT_INITIALIZED"


class Data(ctypes.Structure):
    """CK_ASYNC_DATA."""

    _fields_ = [
        ("ulVersion", c_ulong),
        ("pValue", c_void_p),
        ("ulValue", c_ulong),
        ("hObject", c_ulong),
        ("hAdditionalObject", c_ulong),
    ]


def open_async(p11: Cryptoki, slot: int) -> int:
    return p11.made("C_OpenSession", slot, ASYNC, None, None)


def complete(p11: Cryptoki, session: int, name: bytes, seconds: float = 30) -> tuple[str, Data]:
    """Ask until the call is over."""
    end = time.monotonic() + seconds
    while True:
        data = Data(0, 0x1234, 77, 88, 99)
        rv = p11.rv("C_AsyncComplete", session, name, data)
        if rv != "CKR_PENDING":
            return rv, data
        assert (data.pValue, data.ulValue, data.hObject, data.hAdditionalObject) == (0x1234, 77, 88, 99)
        assert time.monotonic() < end
        time.sleep(0.002)


class Patient(Cryptoki):
    """The library for one who waits for every pending call, and has its results where they always are."""

    def __init__(self, p11: Cryptoki) -> None:
        self.library = p11.library

    def __call__(self, function: str, *arguments: Any) -> None:
        """Call and wait; raise `RefusedError` for anything but CKR_OK."""
        rv = self.rv(function, *arguments)
        if rv == "CKR_PENDING":
            rv, data = complete(self, arguments[0], function.encode())
            handles = [handle for handle in (data.hObject, data.hAdditionalObject) if handle]
            places = [place for place in arguments if isinstance(place, c_ulong)]
            for place, result in zip(reversed(places), reversed(handles or [data.ulValue]), strict=False):
                place.value = result
        if rv != "CKR_OK":
            raise RefusedError(function, rv)
