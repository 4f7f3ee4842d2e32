"""One of two PKCS#11 modules that exchange something: ours or a peer, with a session that may do all."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import initialize_token
from cryptoki import Cryptoki, InitializeArguments, RefusedError, mechanism, template
from ferrohsm_adapters.pkcs11_bridge.cryptoki import FunctionList
from keys import NO_PRIVACY, PAIRS, SECRETS, usable
from peer_modules import NSS, SOFTHSM2

from ferrohsm import constants as ck

# The functions that PKCS#11 3.0 put behind those of 2.40, as far as a peer is asked for them.
_ADDED = (
    *("GetInterfaceList", "GetInterface", "LoginUser", "SessionCancel"),
    *("MessageEncryptInit", "EncryptMessage", "EncryptMessageBegin", "EncryptMessageNext"),
    *("MessageEncryptFinal", "MessageDecryptInit", "DecryptMessage", "DecryptMessageBegin"),
    *("DecryptMessageNext", "MessageDecryptFinal"),
)
_OF_2_40 = 68
_NSS = ck.CKM_VENDOR_DEFINED | 0x4E534350
# Mechanisms that NSS 3.87 has under numbers of its own, from before they were standard.
# Its AES_KEY_WRAP_PAD is padding as PKCS#7 has it, then RFC 3394: what 3.2 calls AES_KEY_WRAP_PKCS7.
NSS_NUMBERS = {
    ck.CKM_AES_KEY_WRAP_PKCS7: ck.CKM_AES_KEY_WRAP_PAD,
    ck.CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE: _NSS + 25,
    ck.CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH: _NSS + 26,
    ck.CKM_IKE2_PRF_PLUS_DERIVE: _NSS + 34,
    ck.CKM_IKE_PRF_DERIVE: _NSS + 35,
    ck.CKM_IKE1_PRF_DERIVE: _NSS + 36,
    ck.CKM_IKE1_EXTENDED_DERIVE: _NSS + 37,
}
_NSS_INIT = (
    b"configdir='' certPrefix='' keyPrefix='' secmod='' flags=noCertDB,noModDB,noKeyDB,forceOpen "
    b"updatedir='' updateCertPrefix='' updateKeyPrefix='' updateid='' updateTokenDescription=''"
)


class _NssArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS as NSS has it: its string stands where PKCS#11 has pReserved."""

    _fields_ = [*InitializeArguments._fields_, ("more", ctypes.c_void_p)]


class _Info(ctypes.Structure):
    """CK_INFO."""

    _fields_ = [
        ("cryptokiVersion", ctypes.c_ubyte * 2),
        ("manufacturerID", ctypes.c_ubyte * 32),
        ("flags", ctypes.c_ulong),
        ("libraryDescription", ctypes.c_ubyte * 32),
        ("libraryVersion", ctypes.c_ubyte * 2),
    ]


class _Exported(Cryptoki):
    """A module whose refusals say whose they are."""

    side = ""

    def __call__(self, function: str, *arguments: Any) -> None:
        rv = self.rv(function, *arguments)
        if rv != "CKR_OK":
            raise RefusedError(f"{self.side}'s {function}", rv)


class _Listed(_Exported):
    """A module that exports its function lists only, as NSS does."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        interface = ctypes.POINTER(ctypes.c_void_p * 3)()
        version = (ctypes.c_ubyte * 2)(3, 0)
        if self.library.C_GetInterface(b"PKCS 11", version, ctypes.byref(interface), ctypes.c_ulong(0)):
            raise RuntimeError(f"{path} has no interface of PKCS#11 3.0")
        address = interface.contents[1]
        assert address is not None
        self.addresses = dict(FunctionList(address).addresses)
        step = ctypes.sizeof(ctypes.c_void_p)
        table = (ctypes.c_void_p * (1 + _OF_2_40 + len(_ADDED))).from_address(address)
        assert ctypes.sizeof(table) == step * (1 + _OF_2_40 + len(_ADDED))
        self.addresses |= {name: table[1 + _OF_2_40 + place] for place, name in enumerate(_ADDED)}

    def rv(self, function: str, *arguments: Any) -> str:
        call = ctypes.CFUNCTYPE(ctypes.c_ulong)(self.addresses[function.removeprefix("C_")])
        return ck.name("CKR", call(*(self._argument(argument) for argument in arguments)))


class Side:
    """A module with a session, the known keys brought in, and shorthands for what a session does."""

    def __init__(self, name: str, p11: _Exported, slot: int, numbers: dict[int, int] | None = None) -> None:
        p11.side = name
        self.name, self.p11, self.slot = name, p11, slot
        self.numbers = numbers or {}
        self.version = _version(p11)
        self.session = p11.open(slot)
        self.offered = self._mechanisms()
        self._made: dict[Any, Any] = {}

    def _mechanisms(self) -> dict[int, int]:
        count = ctypes.c_ulong()
        self.p11("C_GetMechanismList", self.slot, None, count)
        types = (ctypes.c_ulong * count.value)()
        self.p11("C_GetMechanismList", self.slot, types, count)
        standard = {theirs: ours for ours, theirs in self.numbers.items()}
        offered = {}
        for type_ in types:
            info = (ctypes.c_ulong * 3)()
            if self.p11.rv("C_GetMechanismInfo", self.slot, type_, info) == "CKR_OK":
                offered[standard.get(type_, type_)] = info[2]
        return offered

    def how(self, type_: int, parameter: Any = None) -> Any:
        return mechanism(self.numbers.get(type_, type_), parameter)

    def again(self) -> None:
        """Take a fresh session: a peer may leave an operation active that it has refused to go on with."""
        self.session = self.p11.open(self.slot)
        self._made.clear()

    # Keys.

    def create(self, pairs: list[tuple[int, Any]]) -> int:
        if self.name == "NSS":
            # A slot without a database has no private objects, and marks of its own for some types.
            pairs = [pair for pair in pairs if pair[0] not in NO_PRIVACY]
            if dict(pairs).get(ck.CKA_KEY_TYPE) in (ck.CKK_EC_EDWARDS, ck.CKK_EC_MONTGOMERY):
                # Versions that have these keys take the bytes of the point alone.
                pairs = [
                    (type_, _bare(value) if type_ == ck.CKA_EC_POINT else value) for type_, value in pairs
                ]
        return self.p11.create(self.session, *pairs)

    def secret(self, key_type: int, value: bytes) -> int:
        """Return a secret key of that value that may do everything."""
        place = (key_type, value)
        if place not in self._made:
            self._made[place] = self.create([*usable(key_type), (ck.CKA_VALUE, value)])
        return self._made[place]

    def known(self, name: str, *, private: bool) -> int:
        """Return half of a known pair."""
        place = (name, private)
        if place not in self._made:
            self._made[place] = self.create(PAIRS[name].half(private=private, peer=self.name))
        return self._made[place]

    def once(self, name: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` made in this session when it was first asked for."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def secret_of(self, key_type: int, length: int | None = None) -> int:
        """Return the known secret key of that type; `length` in bytes where there are several."""
        value = SECRETS[key_type]
        return self.secret(key_type, value if length is None else value[:length])

    def value(self, handle: int) -> bytes:
        return self.p11.get(self.session, handle, ck.CKA_VALUE)

    # Operations.

    def transform(self, family: str, how: Any, key: int, data: bytes) -> bytes:
        if (self.name, family, how.mechanism) != ("NSS", "Sign", ck.CKM_EDDSA):
            return self.p11.transform(family, self.session, how, key, data)
        # NSS 3.110 answers CKR_ARGUMENTS_BAD to more room than the signature takes.
        self.p11("C_SignInit", self.session, how, key)
        return self.p11.whole("C_Sign", self.session, data, len(data), room=64)

    def verify(self, how: Any, key: int, data: bytes, signature: bytes) -> str:
        self.p11("C_VerifyInit", self.session, how, key)
        return self.p11.rv("C_Verify", self.session, data, len(data), signature, len(signature))

    def digest(self, how: Any, data: bytes) -> bytes:
        self.p11("C_DigestInit", self.session, how)
        return self.p11.whole("C_Digest", self.session, data, len(data))

    def wrap(self, how: Any, wrapping: int, target: int) -> bytes:
        return self.p11.whole("C_WrapKey", self.session, how, wrapping, target)

    def unwrap(self, how: Any, unwrapping: int, wrapped: bytes, pairs: list[tuple[int, Any]]) -> int:
        arguments = (self.session, how, unwrapping, wrapped, len(wrapped), template(*pairs), len(pairs))
        return self.p11.made("C_UnwrapKey", *arguments)

    def derive(self, how: Any, base: int, pairs: list[tuple[int, Any]]) -> int:
        return self.p11.made("C_DeriveKey", self.session, how, base, template(*pairs), len(pairs))

    def generate(self, how: Any, pairs: list[tuple[int, Any]]) -> int:
        return self.p11.made("C_GenerateKey", self.session, how, template(*pairs), len(pairs))

    def generate_pair(
        self, type_: int, public: list[tuple[int, Any]], private: list[tuple[int, Any]]
    ) -> tuple[int, int]:
        return self.p11.key_pair(self.session, type_, public, private)

    def message(self, family: str, how: Any, key: int, parameter: Any, aad: bytes, data: bytes) -> bytes:
        """Do one message of a message-based operation; `family` is Encrypt or Decrypt."""
        self.p11(f"C_Message{family}Init", self.session, how, key)
        head = (parameter, ctypes.sizeof(parameter), aad, len(aad))
        out = self.p11.whole(f"C_{family}Message", self.session, *head, data, len(data))
        self.p11(f"C_Message{family}Final", self.session)
        return out


def _bare(point: bytes) -> bytes:
    """Return a point of less than 128 bytes without the OCTET STRING around it, if it has one."""
    return point[2:] if point[:2] == bytes((4, len(point) - 2)) else point


def _version(p11: _Exported) -> tuple[int, ...]:
    """Return the version of a module's library."""
    info = _Info()
    p11("C_GetInfo", info)
    return tuple(info.libraryVersion)


def ours(path: str, directory: Path) -> Side:
    """Return the installed module with a fresh token."""
    (directory / "data").mkdir()
    settings = 'data_dir = "{}"\n[kdf]\nmemory_kib = 7168\npasses = 1\n[mechanisms]\nweak = true\n'
    (directory / "ferrohsm.toml").write_text(settings.format(directory / "data"))
    os.environ["FERROHSM_CONF"] = str(directory / "ferrohsm.toml")
    return _with_token("FerroHSM", _Exported(path))


def softhsm2(directory: Path) -> Side:
    """Return SoftHSM 2 with a fresh token."""
    (directory / "softhsm2").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {directory / 'softhsm2'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    return _with_token("SoftHSM2", _Exported(_first(SOFTHSM2)))


def nss(directory: Path) -> Side:
    """Return the slot of NSS that has all mechanisms and no database."""
    del directory
    p11 = _Listed(_first(NSS))
    text = ctypes.c_char_p(_NSS_INIT)
    place = ctypes.cast(text, ctypes.c_void_p)
    p11("C_Initialize", _NssArguments(None, None, None, None, ck.CKF_OS_LOCKING_OK, place, None))
    return Side("NSS", p11, p11.slots()[0], NSS_NUMBERS)


PEERS: dict[str, Callable[[Path], Side]] = {"SoftHSM2": softhsm2, "NSS": nss}


def place_of(peer: str) -> str | None:
    """Return where the library of a peer is, None where it is not installed."""
    places = SOFTHSM2 if peer == "SoftHSM2" else NSS
    return next((place for place in places if os.path.exists(place)), None)


def _first(places: tuple[str, ...]) -> str:
    return next(place for place in places if os.path.exists(place))


def _with_token(name: str, p11: _Exported) -> Side:
    p11("C_Initialize", InitializeArguments(None, None, None, None, ck.CKF_OS_LOCKING_OK, None))
    slot = p11.slots()[0]
    initialize_token(p11, slot)
    if name == "SoftHSM2":  # which gives the token another slot
        slot = next(slot for slot in p11.slots() if _initialized(p11, slot))
    side = Side(name, p11, slot)
    p11.login(side.session)
    return side


def _initialized(p11: Cryptoki, slot: int) -> bool:
    from cryptoki import TokenInfo

    info = TokenInfo()
    p11("C_GetTokenInfo", slot, info)
    return bool(info.flags & ck.CKF_TOKEN_INITIALIZED)


__all__ = ["NSS_NUMBERS", "PEERS", "RefusedError", "Side", "ours", "place_of"]
