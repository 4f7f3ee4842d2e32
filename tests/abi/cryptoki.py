"""The module through ctypes: structures, calls that give the return value's name, and shorthands."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_ubyte, c_ulong, c_void_p
from typing import Any

from ferrohsm import constants as ck

ULONG_MAX = c_ulong(-1).value
UNAVAILABLE = ck.CK_UNAVAILABLE_INFORMATION
SO_PIN = b"so-pin-1"
SEEN: set[tuple[str, str]] = set()
"""What functions have answered in the test that runs."""
PIN = b"user-pin"


class Attribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_ = [("type", c_ulong), ("pValue", c_void_p), ("ulValueLen", c_ulong)]


class CkMechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = [("mechanism", c_ulong), ("pParameter", c_void_p), ("ulParameterLen", c_ulong)]


class SessionInfo(ctypes.Structure):
    """CK_SESSION_INFO."""

    _fields_ = [("slotID", c_ulong), ("state", c_ulong), ("flags", c_ulong), ("ulDeviceError", c_ulong)]


class InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = [
        ("CreateMutex", c_void_p),
        ("DestroyMutex", c_void_p),
        ("LockMutex", c_void_p),
        ("UnlockMutex", c_void_p),
        ("flags", c_ulong),
        ("pReserved", c_void_p),
    ]


class TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO."""

    _fields_ = [
        ("label", c_ubyte * 32),
        ("manufacturerID", c_ubyte * 32),
        ("model", c_ubyte * 16),
        ("serialNumber", c_ubyte * 16),
        ("flags", c_ulong),
        ("ulMaxSessionCount", c_ulong),
        ("ulSessionCount", c_ulong),
        ("ulMaxRwSessionCount", c_ulong),
        ("ulRwSessionCount", c_ulong),
        ("ulMaxPinLen", c_ulong),
        ("ulMinPinLen", c_ulong),
        ("memory", c_ulong * 4),
        ("versions", c_ubyte * 4),
        ("utcTime", c_ubyte * 16),
    ]


class GcmParameters(ctypes.Structure):
    """CK_GCM_PARAMS."""

    _fields_ = [
        ("pIv", c_void_p),
        ("ulIvLen", c_ulong),
        ("ulIvBits", c_ulong),
        ("pAAD", c_void_p),
        ("ulAADLen", c_ulong),
        ("ulTagBits", c_ulong),
    ]


class OaepParameters(ctypes.Structure):
    """CK_RSA_PKCS_OAEP_PARAMS."""

    _fields_ = [
        ("hashAlg", c_ulong),
        ("mgf", c_ulong),
        ("source", c_ulong),
        ("pSourceData", c_void_p),
        ("ulSourceDataLen", c_ulong),
    ]


class RefusedError(Exception):
    """A call that did not return CKR_OK."""

    def __init__(self, function: str, rv: str) -> None:
        super().__init__(f"{function}: {rv}")
        self.rv = rv


def answer(call: Any, *arguments: Any) -> str:
    """Return what a call that makes something answers."""
    try:
        call(*arguments)
    except RefusedError as refused:
        return refused.rv
    return "CKR_OK"


def buffer(data: bytes) -> ctypes.Array[Any]:
    """Return memory that holds `data` and no byte more."""
    return (c_ubyte * len(data)).from_buffer_copy(data) if data else (c_ubyte * 0)()


def encoded(value: Any) -> bytes:
    """Return an attribute's value: a bool, a number or bytes."""
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if isinstance(value, int):
        return bytes(c_ulong(value))
    return bytes(value)


def template(*pairs: tuple[int, Any]) -> ctypes.Array[Attribute]:
    """Return a CK_ATTRIBUTE array; None is a NULL pointer, a list a template of its own."""
    array = (Attribute * len(pairs))()
    array.kept = []  # type: ignore[attr-defined]
    for place, (type_, value) in zip(array, pairs, strict=True):
        place.type = type_
        if value is None:
            continue
        memory = template(*value) if isinstance(value, list) else buffer(encoded(value))
        array.kept.append(memory)  # type: ignore[attr-defined]
        place.pValue = ctypes.addressof(memory)
        place.ulValueLen = ctypes.sizeof(memory)
    return array


def mechanism(type_: int, parameter: Any = None) -> CkMechanism:
    """Return a CK_MECHANISM with a parameter of bytes or a structure."""
    made = CkMechanism(type_, None, 0)
    if parameter is not None:
        memory = buffer(parameter) if isinstance(parameter, bytes) else parameter
        made.kept = memory  # type: ignore[attr-defined]
        made.pParameter = ctypes.addressof(memory)
        made.ulParameterLen = ctypes.sizeof(memory)
    return made


class Cryptoki:
    """The functions of the library. A pointer is a ctypes object, bytes or None; a number is a CK_ULONG."""

    def __init__(self, path: str, holding_lock: bool = False) -> None:
        self.library = (ctypes.PyDLL if holding_lock else ctypes.CDLL)(path)

    def rv(self, function: str, *arguments: Any) -> str:
        """Call and return the return value's name."""
        call = getattr(self.library, function)
        call.restype = c_ulong
        answer = ck.name("CKR", call(*(self._argument(argument) for argument in arguments)))
        SEEN.add((function, answer))
        return answer

    def __call__(self, function: str, *arguments: Any) -> None:
        """Call; raise `RefusedError` for anything but CKR_OK."""
        rv = self.rv(function, *arguments)
        if rv != "CKR_OK":
            raise RefusedError(function, rv)

    @staticmethod
    def _argument(value: Any) -> Any:
        if value is None:
            return c_void_p(None)
        if isinstance(value, int):
            return c_ulong(value)
        if isinstance(value, bytes):
            return c_char_p(value)
        if isinstance(value, (ctypes.Structure, ctypes.Array, c_ulong)):
            return byref(value)
        return value

    def made(self, function: str, *arguments: Any) -> int:
        """Call a function whose last argument receives a handle or a number; return that."""
        place = c_ulong(0)
        self(function, *arguments, place)
        return place.value

    def slots(self) -> list[int]:
        count = c_ulong(0)
        self("C_GetSlotList", c_ubyte(0), None, count)
        array = (c_ulong * count.value)()
        self("C_GetSlotList", c_ubyte(0), array, count)
        return list(array)

    def open(self, slot: int, *, read_write: bool = True) -> int:
        flags = ck.CKF_SERIAL_SESSION | (ck.CKF_RW_SESSION if read_write else 0)
        return self.made("C_OpenSession", slot, flags, None, None)

    def state(self, session: int) -> int:
        info = SessionInfo()
        self("C_GetSessionInfo", session, info)
        return int(info.state)

    def login(self, session: int, user: int = ck.CKU_USER, pin: bytes | None = None) -> None:
        pin = pin or (SO_PIN if user == ck.CKU_SO else PIN)
        self("C_Login", session, user, pin, len(pin))

    def create(self, session: int, *pairs: tuple[int, Any]) -> int:
        return self.made("C_CreateObject", session, template(*pairs), len(pairs))

    def data_object(self, session: int, *pairs: tuple[int, Any]) -> int:
        return self.create(session, (ck.CKA_CLASS, ck.CKO_DATA), *pairs)

    def generic_secret(self, session: int, value: bytes, *pairs: tuple[int, Any]) -> int:
        head = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET))
        return self.create(session, *head, (ck.CKA_VALUE, value), *pairs)

    def aes(self, session: int, *pairs: tuple[int, Any], length: int = 16) -> int:
        pairs = ((ck.CKA_VALUE_LEN, length), *pairs)
        return self.made(
            "C_GenerateKey", session, mechanism(ck.CKM_AES_KEY_GEN), template(*pairs), len(pairs)
        )

    def key_pair(
        self, session: int, type_: int, public: list[tuple[int, Any]], private: list[tuple[int, Any]]
    ) -> tuple[int, int]:
        first, second = c_ulong(0), c_ulong(0)
        arguments = (template(*public), len(public), template(*private), len(private), first, second)
        self("C_GenerateKeyPair", session, mechanism(type_), *arguments)
        return first.value, second.value

    def ec(self, session: int, *private: tuple[int, Any]) -> tuple[int, int]:
        """Make a P-256 key pair."""
        curve = bytes.fromhex("06082a8648ce3d030107")
        return self.key_pair(session, ck.CKM_EC_KEY_PAIR_GEN, [(ck.CKA_EC_PARAMS, curve)], list(private))

    def find(self, session: int, *pairs: tuple[int, Any]) -> list[int]:
        self("C_FindObjectsInit", session, template(*pairs), len(pairs))
        array, count = (c_ulong * 100)(), c_ulong(0)
        self("C_FindObjects", session, array, 100, count)
        self("C_FindObjectsFinal", session)
        return list(array[: count.value])

    def get(self, session: int, handle: int, type_: int) -> bytes:
        place = template((type_, None))
        self("C_GetAttributeValue", session, handle, place, 1)
        memory = (c_ubyte * place[0].ulValueLen)()
        place[0].pValue = ctypes.addressof(memory)
        self("C_GetAttributeValue", session, handle, place, 1)
        return bytes(memory)

    def whole(self, function: str, session: int, *arguments: Any, room: int = 65536) -> bytes:
        """Call a function that puts out bytes, with room enough."""
        memory, length = (c_ubyte * room)(), c_ulong(room)
        self(function, session, *arguments, memory, length)
        return bytes(memory[: length.value])

    def transform(self, family: str, session: int, how: CkMechanism, key: int, data: bytes) -> bytes:
        """Do C_<family>Init and C_<family>."""
        self(f"C_{family}Init", session, how, key)
        return self.whole(f"C_{family}", session, data, len(data))


__all__ = ["POINTER", "Attribute", "Cryptoki", "buffer", "byref", "mechanism", "template"]
