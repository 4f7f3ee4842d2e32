"""Every function is in the list of every interface that has it, and works through it."""

from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, c_char_p, c_ubyte, c_ulong, c_void_p
from pathlib import Path

import pytest
from cryptoki import Cryptoki

from ferrohsm import constants as ck

FACTS = Path(__file__).resolve().parents[2] / "tools" / "facts" / "abi-3.2.json"
NAMES = [row["name"] for row in json.loads(FACTS.read_text())["functions"]]
ARGUMENTS = {row["name"]: row["args"] for row in json.loads(FACTS.read_text())["functions"]}
LAST = {(2, 40): "C_WaitForSlotEvent", (3, 0): "C_MessageVerifyFinal", (3, 2): "C_UnwrapKeyAuthenticated"}
COUNT = {(2, 40): 68, (3, 0): 92, (3, 2): 104}


class Interface(ctypes.Structure):
    """CK_INTERFACE."""

    _fields_ = [("pInterfaceName", c_char_p), ("pFunctionList", c_void_p), ("flags", c_ulong)]


class Version(ctypes.Structure):
    """CK_VERSION, as the first member of a function list."""

    _fields_ = [("major", c_ubyte), ("minor", c_ubyte)]


@pytest.fixture
def lists(library: Cryptoki) -> dict[tuple[int, int], int]:
    """Return the function lists by their version."""
    count = c_ulong(0)
    library("C_GetInterfaceList", None, count)
    interfaces = (Interface * count.value)()
    library("C_GetInterfaceList", interfaces, count)
    found = {}
    for one in interfaces:
        version = Version.from_address(one.pFunctionList)
        assert one.pInterfaceName == b"PKCS 11"
        found[version.major, version.minor] = one.pFunctionList
    return found


@pytest.mark.parametrize("version", COUNT, ids=lambda version: "{}.{}".format(*version))
def test_every_function_of_a_list_is_there(
    library: Cryptoki, lists: dict[tuple[int, int], int], version: tuple[int, int]
) -> None:
    names = NAMES[: COUNT[version]]
    assert names[-1] == LAST[version] and len(names) == COUNT[version]
    start = lists[version] + ctypes.sizeof(c_void_p)
    places = (c_void_p * len(names)).from_address(start)
    assert all(places) and len(set(places)) == len(names)
    anytime = {"C_Initialize", "C_GetFunctionList", "C_GetInterfaceList", "C_GetInterface"}
    for name, place in zip(names, places, strict=True):
        if name in anytime:
            continue
        call = ctypes.CFUNCTYPE(c_ulong, *([c_ulong] * len(ARGUMENTS[name])))(place)
        assert ck.name("CKR", call(*([0] * len(ARGUMENTS[name])))) == "CKR_CRYPTOKI_NOT_INITIALIZED", name


def test_the_functions_by_themselves_are_those_of_the_list(
    library: Cryptoki, lists: dict[tuple[int, int], int]
) -> None:
    assert set(lists) == set(COUNT)
    place = POINTER(c_ubyte)()
    library("C_GetFunctionList", ctypes.byref(place))
    assert ctypes.cast(place, c_void_p).value == lists[2, 40]
    newest = (c_void_p * 104).from_address(lists[3, 2] + ctypes.sizeof(c_void_p))
    for name, address in zip(NAMES, newest, strict=True):
        exported = ctypes.cast(getattr(library.library, name), c_void_p).value
        assert exported == address, name
