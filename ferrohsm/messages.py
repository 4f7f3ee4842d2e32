"""Messages encrypted and decrypted, bound to what allowed it (PKCS#11 3.2, ``C_MessageEncryptInit`` …)."""

from __future__ import annotations

from ferrohsm.errors import OperationActive, OperationNotInitialized
from ferrohsm.operations import BoundOperation
from ferrohsm.typed import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from ferrohsm.adapters import Messages
    from ferrohsm.audit.tokens import KeyUse
    from ferrohsm.entries import Entry
    from ferrohsm.parameters import MessageParameter
    from ferrohsm.tokens import Token


class BoundMessages(BoundOperation):
    """An adapter's `Messages` and the right to them: a process that lasts for many messages.

    An error ends the message that was in hand, not the process.
    """

    __slots__ = ("in_message", "messages", "tag_length")

    def __init__(self, token: Token, messages: Messages, entry: Entry, use: KeyUse | None = None) -> None:
        operation: Any = messages  # bound as one; of an operation's methods only `close` is called
        super().__init__(token, operation, entry, use)
        self.messages = messages
        self.in_message = False
        self.tag_length = 0

    def terms(self) -> tuple[Any, bool, bool] | None:
        """Return None: a process is never remembered."""
        return None

    async def begin_message(self, parameter: MessageParameter, associated: memoryview) -> bytes:
        """Begin a message in parts and return its initialization vector."""
        if self.in_message:
            raise OperationActive()
        self._enter()
        try:
            vector = self.messages.begin(parameter, associated)
            self.in_message, self.tag_length = True, parameter.tag_length
            return vector
        except BaseException:
            self.messages.abandon()
            raise
        finally:
            self._leave(over=False)

    def part_length(self, length: int, last: bool) -> int:
        """Return the bytes that `length` bytes give."""
        if not self.in_message:
            raise OperationNotInitialized()
        return self.messages.length(length, last)

    async def take_part(self, data: memoryview) -> bytes | bytearray:
        """Take a part that is not the last."""
        text: bytes | bytearray = self._guarded(lambda: self.messages.update(data), ends=False)
        return text

    async def take_last(self, data: memoryview, tag: bytes) -> tuple[bytes | bytearray, bytes]:
        """Take the last part; return what is left of the text, and the tag."""
        text, made = self._guarded(lambda: self.messages.finish(data, tag), ends=True)
        return text, made

    async def whole(
        self, parameter: MessageParameter, associated: memoryview, data: memoryview, tag: bytes
    ) -> tuple[bytes, bytes | bytearray, bytes]:
        """Do a message at once; return its initialization vector, the text and the tag."""
        vector = await self.begin_message(parameter, associated)
        text, made = await self.take_last(data, tag)
        return vector, text, made

    def give_up(self) -> None:
        """End the message in hand, if there is one."""
        self.in_message = False
        self.messages.abandon()

    def _guarded(self, work: Callable[[], Any], *, ends: bool) -> Any:
        if not self.in_message:
            raise OperationNotInitialized()
        self._enter()
        goes_on = False
        try:
            result = work()
            if self._use is not None:
                (self._use.ended if ends else self._use.part)(result)
            goes_on = not ends
            return result
        except Exception as error:
            self._failed(error)
            raise
        finally:
            if not goes_on:
                self.give_up()
            self._leave(over=False)
