"""The token that is left: another PKCS#11 module, through PyKCS11, in a session that cannot write."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from ferrohsm import attributes as rows
from ferrohsm import constants as ck
from ferrohsm.attribute_kinds import SENSITIVE, TEMPLATE, ULONG, ULONGS, Rule, is_true, number
from ferrohsm.errors import HsmError, from_rv

T = TypeVar("T")

_SUBTYPES = (ck.CKA_KEY_TYPE, ck.CKA_CERTIFICATE_TYPE)
_NOT_OURS = (ck.CKO_HW_FEATURE, ck.CKO_MECHANISM, ck.CKO_PROFILE, ck.CKO_VALIDATION)
"""What a token has of itself: it is not anybody's to move."""


class NoBindingError(Exception):
    """PyKCS11 is not installed."""


class SourceToken(NamedTuple):
    """A token of the other module."""

    slot: int
    label: str
    serial: str
    needs_login: bool


class SourceObject:
    """An object there: handle, rules (None: a class that nobody here knows), what can be read of it."""

    __slots__ = ("handle", "kind", "rules", "subtype", "values")

    def __init__(
        self, handle: Any, kind: int, subtype: int | None, rules: rows.Rules | None, values: dict[int, bytes]
    ) -> None:
        self.handle = handle
        self.kind = kind
        self.subtype = subtype
        self.rules = rules
        self.values = values

    def __repr__(self) -> str:
        """Name the class, no values."""
        return f"<SourceObject {ck.name('CKO', self.kind)}>"

    def flag(self, attribute: int) -> bool:
        """Say whether a ``CK_BBOOL`` is there and true."""
        return is_true(self.values.get(attribute))

    @property
    def key_type(self) -> int | None:
        """The ``CKK_*`` of a key."""
        value = self.values.get(ck.CKA_KEY_TYPE)
        return None if value is None else number(value)

    @property
    def secret_types(self) -> list[int]:
        """The attributes that hold the key itself, which `values` never has."""
        return [rule.type for rule in (self.rules or {}).values() if rule.flags & SENSITIVE]


class Source:
    """The other module. Its errors come as `HsmError`, with its own return values.

    `init` is for modules that want a text in ``C_Initialize``'s ``pReserved``, as NSS does.
    """

    def __init__(self, path: str, init: str | None = None) -> None:
        try:
            import PyKCS11  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise NoBindingError() from None
        self.path = path
        self._binding = PyKCS11
        self._library = PyKCS11.PyKCS11Lib()
        if init is not None:
            _initialize(path, init)
        self._checked(lambda: self._library.load(path))
        self._session: Any = None
        self.mechanisms: frozenset[int] = frozenset()

    def _checked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except self._binding.PyKCS11Error as error:
            rv = error.value if isinstance(error.value, int) and error.value > 0 else ck.CKR_GENERAL_ERROR
            raise from_rv(rv, f"{ck.name('CKR', rv)} from {self.path}") from None

    def tokens(self) -> list[SourceToken]:
        """Return the initialized tokens."""
        found = []
        for slot in self._checked(lambda: self._library.getSlotList(tokenPresent=True)):
            info = self._checked(lambda slot=slot: self._library.getTokenInfo(slot))  # type: ignore[misc]
            if info.flags & ck.CKF_TOKEN_INITIALIZED:
                needs_login = bool(info.flags & ck.CKF_LOGIN_REQUIRED)
                text = (info.label.strip("\0 "), info.serialNumber.strip("\0 "))
                found.append(SourceToken(slot, *text, needs_login))
        return found

    def open(self, token: SourceToken, pin: bytearray | None) -> None:
        """Open a session that cannot write token objects, and log in when there is a PIN."""
        flags = ck.CKF_SERIAL_SESSION
        self._session = self._checked(lambda: self._library.openSession(token.slot, flags))
        if pin is not None:
            self._checked(lambda: self._session.login(bytes(pin).decode("utf-8", "surrogateescape")))
        self.mechanisms = frozenset(self._by_number(self._library.getMechanismList(token.slot)))

    def _by_number(self, names: Sequence[Any]) -> list[int]:
        found = []
        for name in names:
            value = name if isinstance(name, int) else self._binding.CKM.get(name)
            if isinstance(value, int):
                found.append(value)
        return found

    def close(self) -> None:
        """Close the session, and with it everything temporary."""
        session, self._session = self._session, None
        if session is not None:
            try:
                self._checked(session.closeSession)
            except HsmError:
                pass  # it is gone in any case when this process ends

    # Objects

    def objects(self) -> list[SourceObject]:
        """Return the token's objects, but what a token has of itself."""
        template = [(ck.CKA_TOKEN, True)]
        handles = self._checked(lambda: self._session.findObjects(template))
        found = [self._object(handle) for handle in handles]
        return [each for each in found if each.kind not in _NOT_OURS]

    def _object(self, handle: Any) -> SourceObject:
        head = self._read(handle, [ck.CKA_CLASS, *_SUBTYPES, ck.CKA_LABEL, ck.CKA_ID])
        kind = number(head[ck.CKA_CLASS])
        subtype = next((number(head[each]) for each in _SUBTYPES if each in head), None)
        rules = rows.rules_for(kind, subtype)
        if rules is None:
            return SourceObject(handle, kind, subtype, None, head)
        plain = [rule for rule in rules.values() if not rule.flags & SENSITIVE and rule.kind != TEMPLATE]
        return SourceObject(
            handle, kind, subtype, rules, self._read(handle, [rule.type for rule in plain], rules)
        )

    def _read(self, handle: Any, types: list[int], rules: rows.Rules | None = None) -> dict[int, bytes]:
        """Return the values that there are, numbers as the core has them."""
        answers = self._checked(
            lambda: self._session.getAttributeValue_fragmented(handle, types, allAsBinary=True)
        )
        values = {}
        for attribute, answer in zip(types, answers, strict=True):
            if answer is None:
                continue
            values[attribute] = _as_ours(attribute, bytes(answer), (rules or {}).get(attribute))
        return values

    def secret(self, each: SourceObject, attribute: int) -> bytearray | None:
        """Return a part of the key itself, None where it cannot be read; the caller wipes it."""
        (answer,) = self._checked(
            lambda: self._session.getAttributeValue_fragmented(each.handle, [attribute], allAsBinary=True)
        )
        return None if answer is None else bytearray(answer)

    # Keys

    def create(self, template: list[tuple[int, Any]]) -> Any:
        """Make a session object."""
        return self._checked(lambda: self._session.createObject([(ck.CKA_TOKEN, False), *template]))

    def generate(self, mechanism: int, template: list[tuple[int, Any]]) -> Any:
        """Make a secret key for this session."""
        native = self._binding.Mechanism(mechanism, None)
        return self._checked(
            lambda: self._session.generateKey([(ck.CKA_TOKEN, False), *template], mecha=native)
        )

    def wrap(self, wrapping: Any, key: Any, mechanism: int, parameter: bytes | None = None) -> bytes:
        """Wrap a key."""
        native = self._binding.Mechanism(mechanism, parameter)
        return bytes(self._checked(lambda: self._session.wrapKey(wrapping, key, native)))

    def wrap_oaep(self, wrapping: Any, key: Any) -> bytes:
        """Wrap a key with RSA-OAEP (SHA-1 and MGF1 with SHA-1, which every module has)."""
        native = self._binding.RSAOAEPMechanism(ck.CKM_SHA_1, ck.CKG_MGF1_SHA1)
        return bytes(self._checked(lambda: self._session.wrapKey(wrapping, key, native)))

    def sign(self, each: SourceObject, data: bytes, mechanism: int) -> bytes:
        """Sign, or make a MAC."""
        native = self._binding.Mechanism(mechanism, None)
        return bytes(self._checked(lambda: self._session.sign(each.handle, data, native)))

    def encrypt(self, each: SourceObject, data: bytes, mechanism: int) -> bytes:
        """Encrypt."""
        native = self._binding.Mechanism(mechanism, None)
        return bytes(self._checked(lambda: self._session.encrypt(each.handle, data, native)))


def _initialize(path: str, init: str) -> None:
    """Initialize the module with a text for it, which PyKCS11 cannot; it takes what is initialized."""
    from ferrohsm_adapters.pkcs11_bridge.library import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        acquire,
    )

    acquire(path, init, threads=True)


def _as_ours(attribute: int, value: bytes, rule: Rule | None) -> bytes:
    """Return a value in the form that the core has: numbers are little-endian there, whatever the machine."""
    kind = rule.kind if rule is not None else rows.kind(attribute)
    if kind in (ULONG, ULONGS) and sys.byteorder == "big":
        return b"".join(value[at : at + 8][::-1] for at in range(0, len(value), 8))
    return value
