"""How the process serves an inline adapter: threads that take calls in turn and run each to its end."""

from __future__ import annotations

import inspect
import threading
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from ferrohsm.isolation.child import Call, fixed_length
from ferrohsm.isolation.values import wipe
from ferrohsm.runtime import step

if TYPE_CHECKING:
    from ferrohsm.isolation.child import Server

_IDLE = 8  # threads that stay when there is nothing for them to do


class _Crew:
    """One thread reads; when it has a call, another one takes its place at the socket."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reading = allocate_lock()
        self._counting = allocate_lock()
        self._free = 1

    def work(self) -> None:
        """Take calls and run them, for ever."""
        while True:
            with self._reading:
                call = self._next()
            self._relieve()
            self._run(call)
            if not self._stays():
                return

    def _next(self) -> Call:
        server = self._server
        while True:
            message = server.frames.next()
            if message is None:
                raise self._end()
            try:
                taken = server.take(message)
            finally:
                message.release()
                server.frames.done()
            if isinstance(
                taken, Call
            ):  # a call that runs cannot be cancelled, its host knows that it is alive
                return taken

    def _relieve(self) -> None:
        """See to it that somebody is at the socket while this thread is in a call.

        There are as many threads as calls, each of which a thread of the host waits for. Where there can be
        no further one, the next call waits for one that ends.
        """
        with self._counting:
            self._free -= 1
            needed = self._free == 0
            if needed:
                self._free += 1
        if not needed:
            return
        try:
            threading.Thread(target=self.work, daemon=True).start()
        except RuntimeError:
            with self._counting:
                self._free -= 1

    def _stays(self) -> bool:
        """Say whether this thread takes further calls, or others are enough."""
        with self._counting:
            if self._free >= _IDLE:
                return False
            self._free += 1
            return True

    def _run(self, call: Call) -> None:
        server = self._server
        try:
            result: Any = call.method(*call.arguments, **call.keywords)
            waits: Any = result if inspect.isawaitable(result) else None
            if waits is not None:
                result = step(waits)
            server.answer(call.number, result, fixed_length(call, result))
        except BaseException as error:
            server.refuse(call.number, error)
        finally:
            wipe(call.secrets)

    def _end(self) -> SystemExit:
        """Close the adapter and end the process."""
        try:
            step(self._server.adapter.close())
        finally:
            self._server.gone()
        return SystemExit()


def serve(server: Server) -> None:
    """Serve until the host is gone."""
    _Crew(server).work()
