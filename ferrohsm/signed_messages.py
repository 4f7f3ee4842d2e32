"""Messages signed, or verified, one after the other with one key (PKCS#11 3.2, ``C_MessageSignInit`` …).

No mechanism of the specification has a parameter for each message, so a message is an operation of its own
with the mechanism that the process was begun with. That is every mechanism which signs, but for those whose
security ends with their second message under one key and parameter.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.errors import DataLenRange, OperationActive, OperationNotInitialized
from ferrohsm.operations import BoundOperation
from ferrohsm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferrohsm.adapters import Operation
    from ferrohsm.audit.tokens import KeyUse
    from ferrohsm.entries import Entry
    from ferrohsm.parameters import Mechanism
    from ferrohsm.tokens import Token

# A Poly1305 key and a GMAC vector are for one message only; a one-time password has no message.
ONE_MESSAGE = frozenset((ck.CKM_POLY1305, ck.CKM_AES_GMAC, ck.CKM_HOTP))

# What a process does with each message.
_EACH = {Function.MESSAGE_SIGN: Function.SIGN, Function.MESSAGE_VERIFY: Function.VERIFY}
_GATHERED_LIMIT = 64 * 1024 * 1024  # bytes of a message whose mechanism takes it in one part


def message_flags(mechanism: int, flags: int) -> int:
    """Return the ``CKF_*`` that a mechanism has of this, beside its own."""
    added = 0
    if mechanism not in ONE_MESSAGE:
        for process, each in _EACH.items():
            if flags & each:
                added |= process | ck.CKF_MULTI_MESSAGE
    return added


class _Process:
    """What the process itself is as an operation: it holds nothing of its own."""

    multi_part = True

    def close(self) -> None:
        """Nothing is left."""


class BoundSignatures(BoundOperation):
    """A process of signing or verifying messages, and the right to it.

    An error ends the message in hand, not the process. A key that wants the PIN at each use wants it for
    each message.
    """

    __slots__ = ("_function", "_gathered", "_mechanism", "_message", "in_message")

    def __init__(
        self, token: Token, function: int, mechanism: Mechanism, entry: Entry, use: KeyUse | None = None
    ) -> None:
        operation: Any = _Process()
        super().__init__(token, operation, entry, use)
        self.in_message = False
        self._function = _EACH[function]
        self._mechanism = mechanism
        self._message: Operation | None = None
        self._gathered = bytearray()

    def terms(self) -> tuple[Any, bool, bool] | None:
        """Return None: a process is never remembered."""
        return None

    async def prepare(self) -> None:
        """Check mechanism and key, by the operation that the first message will be.

        Raises what the engine has against them.
        """
        if self._message is None:
            assert self._entry is not None
            self._message = await self._token.signer.begin(self._function, self._mechanism, self._entry.key)

    async def begin_message(self) -> None:
        """Begin a message in parts."""
        if self.in_message:
            raise OperationActive()
        self._enter()
        try:
            await self.prepare()
            self.in_message = True
        finally:
            self._leave(over=False)

    async def take_part(self, data: memoryview) -> None:
        """Take a part that is not the last."""
        message = self._in_hand()
        self._enter()
        taken = False
        try:
            if message.multi_part:
                await message.update(data)
            else:
                self._gather(data)
            taken = True
        finally:
            if not taken:
                self.give_up()
            self._leave(over=False)

    async def signature_length(self, length: int, *, whole: bool) -> int:
        """Return the length of the signature of the message that ends with `length` bytes."""
        if whole:
            await self.prepare()
        message = self._message if whole else self._in_hand()
        assert message is not None
        if whole or not message.multi_part:
            return message.once_length(len(self._gathered) + length)
        return message.finish_length()

    async def sign(self, data: memoryview, *, whole: bool) -> bytes | bytearray:
        """Return the signature of a whole message, or of the one in hand with its last part."""
        return await self._end(data, None, whole=whole)

    async def verify_message(self, data: memoryview, signature: memoryview, *, whole: bool) -> None:
        """Check the signature of a whole message, or of the one in hand with its last part."""
        await self._end(data, signature, whole=whole)

    async def _end(self, data: memoryview, signature: memoryview | None, *, whole: bool) -> bytes | bytearray:
        if whole:
            await self.begin_message()
        message = self._in_hand()
        self._enter()
        try:
            return await self._recorded(self._compute(message, data, signature, whole))
        finally:
            self.give_up()
            if self._entry is not None and self._entry.flag(ck.CKA_ALWAYS_AUTHENTICATE):
                self.needs_login = True
            self._leave(over=False)

    async def _compute(
        self, message: Operation, data: memoryview, signature: memoryview | None, whole: bool
    ) -> bytes | bytearray:
        if whole:
            return await _at_once(message, data, signature)
        if not message.multi_part:
            self._gather(data)
            with memoryview(self._gathered) as gathered:
                return await _at_once(message, gathered, signature)
        await message.update(data)
        if signature is None:
            return await message.finish()
        await message.finish_verify(signature)
        return b""

    def _in_hand(self) -> Operation:
        if not self.in_message or self._message is None:
            raise OperationNotInitialized()
        return self._message

    def _gather(self, data: memoryview) -> None:
        if len(self._gathered) + len(data) > _GATHERED_LIMIT:
            raise DataLenRange("the mechanism takes a message in one part, and this one is too long")
        self._gathered += data

    def give_up(self) -> None:
        """End the message in hand, if there is one."""
        self.in_message = False
        message, self._message = self._message, None
        self._gathered[:] = bytes(len(self._gathered))
        self._gathered = bytearray()
        if message is not None:
            message.close()

    def close(self) -> None:
        """End the process; may be called twice."""
        self.give_up()
        super().close()


async def _at_once(message: Operation, data: memoryview, signature: memoryview | None) -> bytes | bytearray:
    if signature is None:
        return await message.once(data)
    await message.verify(data, signature)
    return b""
