"""Messages on a stream socket: four bytes of length, then the content; every buffer is wiped after use."""

from __future__ import annotations

import socket
from struct import Struct

from ferrohsm.isolation.values import LIMIT, WireError

_LENGTH = Struct("<I")
_ROOM = 1 << 16

# What a message begins with.
CALL, RESULT, REFUSAL, FAILURE, CANCEL, CANCELING, DROP, FORGET, LOG, SETUP, READY = range(11)


class Frames:
    """The receiving end of a socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._buffer = bytearray(_ROOM)
        self._begin = self._end = 0
        self._handed = 0

    def buffered(self) -> memoryview | None:
        """Return the next message if it is there in full; `done` has to be called after it was read."""
        have = self._end - self._begin
        if have < _LENGTH.size:
            return None
        length = self._length()
        if have < _LENGTH.size + length:
            return None
        start = self._begin + _LENGTH.size
        self._handed = _LENGTH.size + length
        return memoryview(self._buffer)[start : start + length]

    def done(self) -> None:
        """Wipe the message that `buffered` gave."""
        end = self._begin + self._handed
        self._buffer[self._begin : end] = bytes(self._handed)
        self._begin, self._handed = end, 0
        if self._begin == self._end:
            self._begin = self._end = 0
            if len(self._buffer) > _ROOM:
                self._buffer = bytearray(_ROOM)

    def receive(self) -> bool:
        """Take in what there is, waiting for it if need be; False at the end of the stream."""
        self._make_room()
        with memoryview(self._buffer) as view:
            count = self._channel.recv_into(view[self._end :])
        self._end += count
        return count > 0

    def next(self) -> memoryview | None:
        """Wait for a message and return it; None at the end of the stream."""
        while True:
            message = self.buffered()
            if message is not None:
                return message
            if not self.receive():
                return None

    def _length(self) -> int:
        length: int = _LENGTH.unpack_from(self._buffer, self._begin)[0]
        if length > LIMIT:
            raise WireError("a message that is too long")
        return length

    def _make_room(self) -> None:
        """Have room for some more of the message that has begun; it grows only as the message arrives."""
        have = self._end - self._begin
        room = len(self._buffer)
        if self._begin == 0 and self._end < room:
            return
        wanted = have + _LENGTH.size
        if have >= _LENGTH.size:
            wanted = min(_LENGTH.size + self._length(), 2 * have + _ROOM)
        target = self._buffer if wanted <= room and have < room else bytearray(max(wanted, room))
        moved = self._buffer[self._begin : self._end]
        if target is self._buffer:
            target[self._begin : self._end] = bytes(have)
        else:
            self._buffer[:] = bytes(room)
        target[:have] = moved
        moved[:] = bytes(have)
        self._buffer, self._begin, self._end = target, 0, have
