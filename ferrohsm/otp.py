"""One-time passwords of a counter (PKCS#11 3.2, "OTP mechanisms and parameters", "OATH HOTP"; RFC 4226).

The key's own counter is written before a password is given out: no two calls, in whatever process, get the
password of the same count of it.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function
from ferrohsm.attribute_kinds import is_true, number
from ferrohsm.errors import (
    ActionProhibited,
    AttributeValueInvalid,
    DataLenRange,
    KeyHandleInvalid,
    MechanismParamInvalid,
)
from ferrohsm.operations import BoundOperation
from ferrohsm.parameters import Mechanism, OneTimePassword, OtpParameters
from ferrohsm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferrohsm.adapters import Key
    from ferrohsm.audit.tokens import KeyUse
    from ferrohsm.entries import Entry
    from ferrohsm.sessions import Session

COUNTER_BYTES = 8
_DIGITS = range(6, 9)  # RFC 4226, section 5.3
_LAST = (1 << 8 * COUNTER_BYTES) - 1
_FOREIGN = (ck.CKA_OTP_CHALLENGE_REQUIREMENT, ck.CKA_OTP_TIME_REQUIREMENT, ck.CKA_OTP_PIN_REQUIREMENT)
_REQUIREMENTS = (ck.CK_OTP_PARAM_IGNORED, ck.CK_OTP_PARAM_OPTIONAL, ck.CK_OTP_PARAM_MANDATORY)
_FLAGS = ck.CKF_EXCLUDE_TIME | ck.CKF_EXCLUDE_CHALLENGE | ck.CKF_EXCLUDE_PIN | ck.CKF_USER_FRIENDLY_OTP


def check_attributes(attributes: Attributes) -> None:
    """Check what a HOTP key says of its passwords. Raises `AttributeValueInvalid`."""
    counter = attributes.get(ck.CKA_OTP_COUNTER)
    if counter is None or len(counter) != COUNTER_BYTES:
        raise AttributeValueInvalid("CKA_OTP_COUNTER is 8 bytes")
    if number(attributes[ck.CKA_OTP_FORMAT]) != ck.CK_OTP_FORMAT_DECIMAL:
        raise AttributeValueInvalid("HOTP values are decimal")
    if number(attributes[ck.CKA_OTP_LENGTH]) not in _DIGITS:
        raise AttributeValueInvalid("HOTP values have 6 to 8 digits")
    if any(number(attributes[attribute]) != ck.CK_OTP_PARAM_IGNORED for attribute in _FOREIGN):
        raise AttributeValueInvalid("HOTP has neither challenge nor time nor PIN")
    if number(attributes[ck.CKA_OTP_COUNTER_REQUIREMENT]) not in _REQUIREMENTS:
        raise AttributeValueInvalid("no such requirement")
    if attributes.get(ck.CKA_OTP_TIME):
        raise AttributeValueInvalid("HOTP has no time")


class _Asked:
    """What a caller's parameter asks of a key: `counter` is None for the key's own."""

    __slots__ = ("counter", "digits")

    def __init__(self, parameter: OtpParameters, entry: Entry) -> None:
        given = dict(parameter.given)
        if len(given) != len(parameter.given) or ck.CK_OTP_VALUE in given:
            raise MechanismParamInvalid("a parameter twice, or one that is for output")
        self._check_flags(given.get(ck.CK_OTP_FLAGS, 0), entry)
        if given.get(ck.CK_OTP_OUTPUT_FORMAT, ck.CK_OTP_FORMAT_DECIMAL) != ck.CK_OTP_FORMAT_DECIMAL:
            raise MechanismParamInvalid("HOTP values are decimal")
        digits: Any = given.get(ck.CK_OTP_OUTPUT_LENGTH)
        if digits is None:
            digits = number(entry.attributes[ck.CKA_OTP_LENGTH])
        if digits not in _DIGITS:
            raise MechanismParamInvalid("HOTP values have 6 to 8 digits")
        self.digits: int = digits
        self.counter = self._counter(given.get(ck.CK_OTP_COUNTER))

    @staticmethod
    def _check_flags(flags: Any, entry: Entry) -> None:
        if flags & ~_FLAGS:
            # The next value is that of a counter that can be given; without a counter there is none.
            raise MechanismParamInvalid("no such value of HOTP")
        if flags & ck.CKF_USER_FRIENDLY_OTP and not is_true(entry.get(ck.CKA_OTP_USER_FRIENDLY_MODE)):
            raise MechanismParamInvalid("CKA_OTP_USER_FRIENDLY_MODE is false")

    @staticmethod
    def _counter(value: Any) -> int | None:
        if value is None:
            return None
        if len(value) != COUNTER_BYTES:
            raise MechanismParamInvalid("a counter is 8 bytes")
        return int.from_bytes(value, "big")


class _Nothing:
    """What the operation is before its counter is known: it holds nothing of its own."""

    multi_part = True

    def close(self) -> None:
        """Nothing is left."""


class BoundPassword(BoundOperation):
    """One password to be made or checked, and the right to it.

    It gives the password and the counter it is of, each with its ``CK_OTP_*``. A signature has no data.
    """

    pieces = 2

    __slots__ = ("_asked", "_function", "_mechanism", "_session")

    def __init__(
        self, session: Session, function: int, mechanism: Mechanism, entry: Entry, use: KeyUse | None
    ) -> None:
        asked = _Asked(mechanism.parameter, entry)
        requirement = number(entry.attributes[ck.CKA_OTP_COUNTER_REQUIREMENT])
        needed = function == Function.VERIFY or requirement == ck.CK_OTP_PARAM_MANDATORY
        if needed and asked.counter is None:
            raise MechanismParamInvalid("a counter is needed")
        if function == Function.SIGN and requirement == ck.CK_OTP_PARAM_IGNORED:
            asked.counter = None
        operation: Any = _Nothing()
        super().__init__(session.token, operation, entry, use)
        self._session = session
        self._asked, self._function, self._mechanism = asked, function, mechanism.type

    def password_length(self, length: int) -> int:
        """Return the bytes of both values. Raises `DataLenRange` when there is data."""
        _check_no_data(length)
        return self._asked.digits + COUNTER_BYTES

    async def once(self, data: memoryview) -> Any:
        """Return type and value of the password and of its counter."""
        _check_no_data(len(data))
        return await self.finish()

    async def update(self, data: memoryview) -> bytes:
        """Take a part, which has to be empty."""
        try:
            _check_no_data(len(data))
        except DataLenRange:
            self.close()
            raise
        return b""

    async def finish(self) -> Any:
        """Return type and value of the password and of its counter."""
        made: list[tuple[int, bytes]] = []
        self._enter()
        try:
            await self._recorded(self._make(made))
        finally:
            self._leave(over=True)
        return tuple(made)

    async def verify(self, data: memoryview, signature: memoryview) -> None:
        """Check the password `signature`."""
        _check_no_data(len(data))
        await self.finish_verify(signature)

    async def finish_verify(self, signature: memoryview) -> None:
        """Check the password `signature`."""
        self._enter()
        try:
            await self._recorded(self._compare(signature))
        finally:
            self._leave(over=True)

    async def _make(self, made: list[tuple[int, bytes]]) -> bytes:
        """Make the password; the audit is told of nothing that could be tried out."""
        counter = self._asked.counter
        assert self._entry is not None
        if counter is None:
            counter, value = await self._of_own_counter()
        else:
            value = await self._value(self._entry.key, counter)
        made.append((ck.CK_OTP_VALUE, bytes(value)))
        made.append((ck.CK_OTP_COUNTER, counter.to_bytes(COUNTER_BYTES, "big")))
        return b""

    async def _of_own_counter(self) -> tuple[int, bytes | bytearray]:
        """Move the key's counter on, even if the session only reads; return its count and password."""
        assert self._entry is not None
        objects = self._token.objects
        async with objects.changing:
            while True:
                entry = await objects.hold(self._entry.oid, KeyHandleInvalid)
                try:
                    stored = entry.attributes[ck.CKA_OTP_COUNTER]
                    assert not isinstance(stored, tuple)
                    counter = int.from_bytes(stored, "big")
                    if counter == _LAST:
                        raise ActionProhibited("the counter is at its end")
                    value = await self._value(entry.key, counter)
                    following = (counter + 1).to_bytes(COUNTER_BYTES, "big")
                    if await objects.change(self._session, entry, {ck.CKA_OTP_COUNTER: following}):
                        return counter, value
                finally:
                    entry.release()
                # Another process was faster: that count is its own.

    async def _value(self, key: Key, counter: int) -> bytes | bytearray:
        operation = await self._begin(key, counter)
        value: bytes | bytearray = await operation.once(memoryview(b""))
        return value

    async def _compare(self, signature: memoryview) -> bytes:
        assert self._entry is not None and self._asked.counter is not None
        operation = await self._begin(self._entry.key, self._asked.counter)
        await operation.verify(memoryview(b""), signature)
        return b""

    async def _begin(self, key: Key, counter: int) -> Any:
        parameter = OneTimePassword(counter, self._asked.digits)
        return await self._token.signer.begin(self._function, Mechanism(self._mechanism, parameter), key)


def _check_no_data(length: int) -> None:
    """Raise `DataLenRange` unless there is no data."""
    if length:
        raise DataLenRange('"pData shall be set to NULL_PTR and ulDataLen shall be set to 0"')
