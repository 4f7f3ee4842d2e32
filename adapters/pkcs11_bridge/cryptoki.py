"""The C structures of PKCS#11 2.40 as a backend reads them, and its function list.

A call through `FunctionList` gives up the interpreter's lock until the backend returns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    addressof,
    c_ubyte,
    c_ulong,
    c_void_p,
    cast,
    memset,
    sizeof,
)
from typing import Any

ULONG = c_ulong
UNAVAILABLE = (1 << 8 * sizeof(c_ulong)) - 1
_PACK = {"_pack_": 1} if sys.platform == "win32" else {}


def _structure(name: str, *fields: tuple[str, Any]) -> Any:
    return type(name, (Structure,), {**_PACK, "_fields_": list(fields)})


Version = _structure("Version", ("major", c_ubyte), ("minor", c_ubyte))
Attribute = _structure("Attribute", ("type", ULONG), ("value", c_void_p), ("length", ULONG))
MechanismStructure = _structure(
    "MechanismStructure", ("type", ULONG), ("parameter", c_void_p), ("length", ULONG)
)
MechanismInfo = _structure("MechanismInfo", ("min_key", ULONG), ("max_key", ULONG), ("flags", ULONG))
SessionInfo = _structure(
    "SessionInfo", ("slot", ULONG), ("state", ULONG), ("flags", ULONG), ("device_error", ULONG)
)
InitializeArguments = _structure(
    "InitializeArguments",
    *((name, c_void_p) for name in ("create", "destroy", "lock", "unlock")),
    ("flags", ULONG),
    # NSS reads its parameters where PKCS#11 has pReserved, and has a reserved pointer of its own after it.
    ("reserved", c_void_p),
    ("reserved_of_nss", c_void_p),
)
Info = _structure(
    "Info",
    ("version", Version),
    ("manufacturer", c_ubyte * 32),
    ("flags", ULONG),
    ("description", c_ubyte * 32),
    ("library", Version),
)
SlotInfo = _structure(
    "SlotInfo",
    ("description", c_ubyte * 64),
    ("manufacturer", c_ubyte * 32),
    ("flags", ULONG),
    ("hardware", Version),
    ("firmware", Version),
)
TokenInfo = _structure(
    "TokenInfo",
    ("label", c_ubyte * 32),
    ("manufacturer", c_ubyte * 32),
    ("model", c_ubyte * 16),
    ("serial", c_ubyte * 16),
    ("flags", ULONG),
    *(
        (name, ULONG)
        for name in (
            *("max_sessions", "sessions", "max_rw_sessions", "rw_sessions", "max_pin", "min_pin"),
            *("total_public", "free_public", "total_private", "free_private"),
        )
    ),
    ("hardware", Version),
    ("firmware", Version),
    ("time", c_ubyte * 16),
)

DerivedKey = _structure("DerivedKey", ("template", c_void_p), ("count", ULONG), ("handle", c_void_p))

# Every function's arguments, in the order of CK_FUNCTION_LIST: u a number, p a pointer, - is not called.
_SIGNATURES = """
Initialize p/Finalize p/GetInfo p/GetFunctionList -/GetSlotList upp/GetSlotInfo up/GetTokenInfo up/
GetMechanismList upp/GetMechanismInfo uup/InitToken upup/InitPIN upu/SetPIN upupu/OpenSession uuppp/
CloseSession u/CloseAllSessions u/GetSessionInfo up/GetOperationState -/SetOperationState -/Login uupu/
Logout u/CreateObject upup/CopyObject uupup/DestroyObject uu/GetObjectSize uup/GetAttributeValue uupu/
SetAttributeValue uupu/FindObjectsInit upu/FindObjects upup/FindObjectsFinal u/
EncryptInit upu/Encrypt upupp/EncryptUpdate upupp/EncryptFinal upp/
DecryptInit upu/Decrypt upupp/DecryptUpdate upupp/DecryptFinal upp/
DigestInit up/Digest upupp/DigestUpdate upu/DigestKey uu/DigestFinal upp/
SignInit upu/Sign upupp/SignUpdate upu/SignFinal upp/SignRecoverInit upu/SignRecover upupp/
VerifyInit upu/Verify upupu/VerifyUpdate upu/VerifyFinal upu/VerifyRecoverInit upu/VerifyRecover upupp/
DigestEncryptUpdate -/DecryptDigestUpdate -/SignEncryptUpdate -/DecryptVerifyUpdate -/
GenerateKey uppup/GenerateKeyPair uppupupp/WrapKey upuupp/UnwrapKey upupupup/DeriveKey upupup/
SeedRandom upu/GenerateRandom upu/GetFunctionStatus -/CancelFunction -/WaitForSlotEvent -
"""
_ARGUMENTS = {"u": ULONG, "p": c_void_p}


def _rows() -> list[tuple[str, str]]:
    pairs = (row.split() for row in _SIGNATURES.replace("\n", "").split("/"))
    return [(name, arguments) for name, arguments in pairs]


FunctionListStructure = _structure(
    "FunctionListStructure", ("version", Version), *((name, c_void_p) for name, _ in _rows())
)


class FunctionList:
    """The functions of a module, each as an attribute named without its ``C_``."""

    def __init__(self, address: int) -> None:
        table = cast(address, POINTER(FunctionListStructure)).contents
        self.version = (table.version.major, table.version.minor)
        self.addresses: dict[str, int] = {}
        for name, arguments in _rows():
            place = getattr(table, name)
            if arguments == "-" or not place:
                continue
            self.addresses[name] = place
            prototype = CFUNCTYPE(ULONG, *(_ARGUMENTS[letter] for letter in arguments))
            setattr(self, name, prototype(place))

    def __getattr__(self, name: str) -> Any:
        """Stand for a function that the module does not have: ``CKR_FUNCTION_NOT_SUPPORTED``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return _not_supported


def _not_supported(*_: Any) -> int:
    return 0x54


def text(field: Any) -> str:
    """Return a padded text of a structure; a module that writes something else than UTF-8 is read too."""
    return bytes(field).rstrip(b" \0").decode("utf-8", "replace")


def buffer_of(data: bytes | bytearray | memoryview) -> Any:
    """Return a copy of `data` that C can read; `wipe` it when it was a secret."""
    if not len(data):
        return (c_ubyte * 1)()
    return (c_ubyte * len(data)).from_buffer_copy(data)


def wipe(buffer: Any) -> None:
    """Overwrite a buffer."""
    memset(addressof(buffer), 0, sizeof(buffer))


class Template:
    """A ``CK_ATTRIBUTE`` array with its values; a value that is a sequence of pairs is an array inside it."""

    def __init__(self, pairs: Sequence[tuple[int, Any]]) -> None:
        self.count = len(pairs)
        self.array = (Attribute * max(self.count, 1))()
        self._kept: list[Any] = []
        for place, (type_, value) in zip(self.array, pairs, strict=False):
            place.type = type_
            if isinstance(value, tuple | list):
                inner = Template(value)
                place.value = cast(inner.array, c_void_p)
                place.length = inner.count * sizeof(Attribute)
                self._kept.append(inner)
            else:
                buffer = buffer_of(value)
                place.value = cast(buffer, c_void_p) if len(value) else None
                place.length = len(value)
                self._kept.append(buffer)

    def wipe(self) -> None:
        """Overwrite the values."""
        for kept in self._kept:
            if isinstance(kept, Template):
                kept.wipe()
            else:
                wipe(kept)
