"""Runs the test cases of the PKCS#11 profiles ("PKCS #11 Profiles", "Conformance Test Cases").

A case is a list of calls, each with what it must answer. Identifiers like ``${Session}`` are filled in by
the first answer that has them. What may differ is listed in the same chapter ("Variable Items": `VARIABLE`);
beyond that `PROVIDER` are fields with which a provider describes its own limits: they must be there and well
formed, not equal.
"""

from __future__ import annotations

import ctypes
import re
import xml.etree.ElementTree as ElementTree
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from typing import Any

from cryptoki import UNAVAILABLE, Cryptoki, TokenInfo, encoded, mechanism, template

from ferrohsm import constants as ck

VARIABLE = {
    *("LibraryDescription", "LibraryVersion", "ManufacturerID", "SlotDescription", "HardwareVersion"),
    *("FirmwareVersion", "serialNumber", "label", "model", "utcTime", "SlotID", "Object", "Session", "Data"),
}
PROVIDER = {"TotalPublicMemory", "FreePublicMemory", "TotalPrivateMemory", "FreePrivateMemory"}
# Sizes of keys a provider is free to bound; a case's range is what its authors' token has.
SIZES = {"MinKeySize", "MaxKeySize"}
_NAME = re.compile(r"\$\{(.+)\}")


class Version(ctypes.Structure):
    """CK_VERSION."""

    _fields_ = [("major", c_ubyte), ("minor", c_ubyte)]


class Info(ctypes.Structure):
    """CK_INFO."""

    _fields_ = [
        ("CryptokiVersion", Version), ("ManufacturerID", c_ubyte * 32), ("Flags", c_ulong),
        ("LibraryDescription", c_ubyte * 32), ("LibraryVersion", Version),
    ]  # fmt: skip


class SlotInfo(ctypes.Structure):
    """CK_SLOT_INFO."""

    _fields_ = [
        ("SlotDescription", c_ubyte * 64), ("ManufacturerID", c_ubyte * 32), ("Flags", c_ulong),
        ("HardwareVersion", Version), ("FirmwareVersion", Version),
    ]  # fmt: skip


class MechanismInfo(ctypes.Structure):
    """CK_MECHANISM_INFO."""

    _fields_ = [("MinKeySize", c_ulong), ("MaxKeySize", c_ulong), ("Flags", c_ulong)]


class Runner:
    """One case and what was learned of the provider so far.

    `known` gives the identifiers that no answer does (the PIN) and attributes that are the provider's own.
    `objects` are the labels of the objects that the case speaks of, in its order: handles come in none.
    """

    def __init__(self, p11: Cryptoki, known: dict[str, Any], objects: tuple[bytes, ...] = ()) -> None:
        self.p11 = p11
        self.names = dict(known)
        self.objects = objects
        self.answer: dict[str, Any] = {}
        self.calls = 0

    def run(self, path: Path) -> None:
        """Make all calls of a file. Raises `AssertionError` where an answer is another one."""
        steps = iter(ElementTree.parse(path).getroot())
        for call in steps:
            expected = next(steps)
            assert call.tag == expected.tag and "rv" not in call.attrib, call.tag
            self.answer = {}
            rv = getattr(self, call.tag)(call)
            self.calls += 1
            assert rv == "CKR_" + expected.attrib["rv"], (self.calls, call.tag, rv)
            for element in expected:
                self._compare(call.tag, element)

    # What is said

    def _value(self, call: ElementTree.Element, name: str) -> Any:
        element = call.find(name)
        assert element is not None, (call.tag, name)
        return self._filled(element.attrib["value"])

    def _filled(self, text: str) -> Any:
        named = _NAME.fullmatch(text)
        return self.names[named[1]] if named else text

    def _room(self, call: ElementTree.Element, name: str) -> int | None:
        """Return the elements that the caller has room for, None for a query of the length."""
        element = call.find(name)
        assert element is not None
        text = element.attrib.get("length")
        return None if text is None else int(self._filled(text))

    def _template(self, call: ElementTree.Element) -> list[tuple[int, Any]]:
        return [
            (int(getattr(ck, "CKA_" + part.attrib["type"])), attribute_value(part))
            for part in call.findall("Template/Attribute")
        ]

    # What is answered

    def _compare(self, function: str, element: ElementTree.Element) -> None:
        name, answer = element.tag, self.answer.get(element.tag)
        if name in ("Info", "SlotInfo", "TokenInfo", "MechanismInfo"):
            for field in element:
                self._compare_field(field, answer[field.tag])
        elif name == "Template":
            for part, value in zip(element, answer, strict=True):
                self._compare_attribute(part, value)
        elif "length" in element.attrib:
            self._bind(element.attrib["length"], len(answer), name + ".length")
        elif name in ("SlotList", "MechanismList", "Object"):
            self._compare_list(element, answer)
        elif "value" in element.attrib:
            self._bind(element.attrib["value"], answer, name)

    def _bind(self, text: str, answer: Any, name: str) -> None:
        named = _NAME.fullmatch(text)
        if named:
            self.names[named[1]] = answer
        elif name == "Signature":
            self.names["Signature"] = answer  # of another key than the authors': checked by the test
        else:
            assert str(answer) == text, (name, answer, text)

    def _compare_list(self, element: ElementTree.Element, answer: list[int]) -> None:
        assert answer or not len(element), element.tag
        for place, part in enumerate(element):
            named = _NAME.fullmatch(part.attrib["value"])
            if named:
                self.names[named[1]] = answer[place]
            else:
                assert getattr(ck, "CKM_" + part.attrib["value"]) in answer, part.attrib

    def _compare_field(self, field: ElementTree.Element, answer: Any) -> None:
        name = field.tag
        if name in VARIABLE:
            return
        if isinstance(answer, Version):
            assert (str(answer.major), str(answer.minor)) == (field.attrib["major"], field.attrib["minor"])
        elif name in PROVIDER:
            assert answer in (0, UNAVAILABLE) or answer > 0
        elif name in SIZES:
            assert 0 <= answer <= 1 << 20 and (answer > 0) == (field.attrib["value"] != "0")
        elif name == "Flags":
            wanted = [flag for flag in field.attrib["value"].split("|") if flag not in ("0x0", *_NOT_OURS)]
            assert all(answer & getattr(ck, "CKF_" + flag) for flag in wanted), (wanted, answer)
        else:
            assert answer == int(field.attrib["value"]), (name, answer)

    def _compare_attribute(self, part: ElementTree.Element, value: bytes) -> None:
        own = self.names.get(part.attrib["type"])
        if "length" in part.attrib:
            assert len(value) == int(part.attrib["length"]), part.attrib["type"]
        elif own is not None:
            assert value == own, part.attrib["type"]
        else:
            assert value.rstrip(b"\0") == attribute_value(part), part.attrib["type"]

    # The functions

    def C_Initialize(self, call: ElementTree.Element) -> str:  # noqa: N802 - the specification's name
        return self.p11.rv("C_Initialize", None)

    def C_Finalize(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self.p11.rv("C_Finalize", None)

    def C_GetInfo(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self._fields("C_GetInfo", "Info", Info())

    def C_GetSlotInfo(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self._fields("C_GetSlotInfo", "SlotInfo", SlotInfo(), self._value(call, "SlotID"))

    def C_GetMechanismInfo(self, call: ElementTree.Element) -> str:  # noqa: N802
        type_ = int(getattr(ck, "CKM_" + self._value(call, "Type")))
        slot = self._value(call, "SlotID")
        return self._fields("C_GetMechanismInfo", "MechanismInfo", MechanismInfo(), slot, type_)

    def _fields(self, function: str, name: str, structure: ctypes.Structure, *arguments: int) -> str:
        rv = self.p11.rv(function, *arguments, structure)
        self.answer[name] = {field[0]: getattr(structure, field[0]) for field in structure._fields_}
        return rv

    def C_GetTokenInfo(self, call: ElementTree.Element) -> str:  # noqa: N802
        info = TokenInfo()
        rv = self.p11.rv("C_GetTokenInfo", self._value(call, "SlotID"), info)
        numbers = (
            "MaxSessionCount",
            "SessionCount",
            "MaxRwSessionCount",
            "RwSessionCount",
            "MaxPinLen",
            "MinPinLen",
        )
        self.answer["TokenInfo"] = {
            "Flags": info.flags,
            **{name: getattr(info, "ul" + name) for name in numbers},
            **dict.fromkeys(VARIABLE),
            **dict(zip(("TotalPublicMemory", "FreePublicMemory"), info.memory[:2], strict=True)),
            **dict(zip(("TotalPrivateMemory", "FreePrivateMemory"), info.memory[2:], strict=True)),
        }
        return rv

    def C_GetSlotList(self, call: ElementTree.Element) -> str:  # noqa: N802
        present = c_ubyte(self._value(call, "TokenPresent") == "true")
        return self._list(call, "SlotList", "C_GetSlotList", present)

    def C_GetMechanismList(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self._list(call, "MechanismList", "C_GetMechanismList", self._value(call, "SlotID"))

    def _list(self, call: ElementTree.Element, name: str, function: str, *arguments: Any) -> str:
        room = self._room(call, name)
        array, count = None if room is None else (c_ulong * room)(), c_ulong(room or 0)
        rv = self.p11.rv(function, *arguments, array, count)
        self.answer[name] = [0] * count.value if array is None else list(array[: count.value])
        return rv

    def C_OpenSession(self, call: ElementTree.Element) -> str:  # noqa: N802
        flags = 0
        for flag in self._value(call, "Flags").split("|"):
            flags |= int(getattr(ck, "CKF_" + flag))
        session = c_ulong(0)
        rv = self.p11.rv("C_OpenSession", self._value(call, "SlotID"), flags, None, None, session)
        self.answer["Session"] = session.value
        return rv

    def C_CloseSession(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self.p11.rv("C_CloseSession", self._value(call, "Session"))

    def C_CloseAllSessions(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self.p11.rv("C_CloseAllSessions", self._value(call, "SlotID"))

    def C_Login(self, call: ElementTree.Element) -> str:  # noqa: N802
        user, pin = getattr(ck, "CKU_" + self._value(call, "UserType")), self._value(call, "Pin")
        return self.p11.rv("C_Login", self._value(call, "Session"), user, pin, len(pin))

    def C_Logout(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self.p11.rv("C_Logout", self._value(call, "Session"))

    def C_FindObjectsInit(self, call: ElementTree.Element) -> str:  # noqa: N802
        pairs = self._template(call)
        return self.p11.rv("C_FindObjectsInit", self._value(call, "Session"), template(*pairs), len(pairs))

    def C_FindObjects(self, call: ElementTree.Element) -> str:  # noqa: N802
        session, room = self._value(call, "Session"), self._room(call, "Object")
        assert room is not None
        array, count = (c_ulong * room)(), c_ulong(0)
        rv = self.p11.rv("C_FindObjects", session, array, room, count)
        found = list(array[: count.value])
        self.answer["Object"] = self._in_order(session, found)
        return rv

    def _in_order(self, session: int, found: list[int]) -> list[int]:
        labels = [self.p11.get(session, handle, ck.CKA_LABEL) for handle in found]
        wanted = [found[labels.index(label)] for label in self.objects if label in labels]
        return wanted + [handle for handle in found if handle not in wanted]

    def C_FindObjectsFinal(self, call: ElementTree.Element) -> str:  # noqa: N802
        return self.p11.rv("C_FindObjectsFinal", self._value(call, "Session"))

    def C_GetAttributeValue(self, call: ElementTree.Element) -> str:  # noqa: N802
        parts = call.findall("Template/Attribute")
        array = template(*((int(getattr(ck, "CKA_" + part.attrib["type"])), None) for part in parts))
        rooms = [part.attrib.get("length") for part in parts]
        memory = [None if room is None else (c_ubyte * int(room))() for room in rooms]
        for place, room in zip(array, memory, strict=True):
            if room is not None:
                place.pValue, place.ulValueLen = ctypes.addressof(room), len(room)
        session, handle = self._value(call, "Session"), self._value(call, "Object")
        rv = self.p11.rv("C_GetAttributeValue", session, handle, array, len(array))
        self.answer["Template"] = [
            bytes(place.ulValueLen) if room is None else bytes(room[: place.ulValueLen])
            for place, room in zip(array, memory, strict=True)
        ]
        return rv

    def C_SignInit(self, call: ElementTree.Element) -> str:  # noqa: N802
        type_ = call.find("Mechanism/Type")
        assert type_ is not None
        how = mechanism(int(getattr(ck, "CKM_" + type_.attrib["value"])))
        return self.p11.rv("C_SignInit", self._value(call, "Session"), how, self._value(call, "Key"))

    def C_Sign(self, call: ElementTree.Element) -> str:  # noqa: N802
        data, room = bytes.fromhex(self._value(call, "Data")), self._room(call, "Signature")
        self.names["Data"] = data
        place, length = (c_ubyte * (room or 0))(), c_ulong(room or 0)
        rv = self.p11.rv("C_Sign", self._value(call, "Session"), data, len(data), place, length)
        self.answer["Signature"] = bytes(place[: length.value])
        return rv


# The case's token keeps keys inside saved operations; ours asks for them again, as the specification allows.
_NOT_OURS = ("RESTORE_KEY_NOT_NEEDED",)


def attribute_value(part: ElementTree.Element) -> bytes | None:
    """Return an attribute's value as bytes."""
    text, type_ = part.attrib.get("value"), part.attrib["type"]
    if text is None:
        return None
    if type_ == "TOKEN":
        return encoded(text == "TRUE")
    if type_ == "CLASS":
        return encoded(int(getattr(ck, "CKO_" + text)))
    return text.encode() if type_ == "LABEL" else bytes.fromhex(text)
