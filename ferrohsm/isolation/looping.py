"""How the process serves an adapter that waits: an event loop on the main thread, a task for each call."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from ferrohsm.errors import FunctionCanceled
from ferrohsm.isolation.child import Call, fixed_length
from ferrohsm.isolation.values import wipe

if TYPE_CHECKING:
    from ferrohsm.isolation.child import Server

_CLOSE_SECONDS = 3.0


class _Loop:
    """The tasks of the calls that are under way."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.over: asyncio.Event = asyncio.Event()

    def readable(self) -> None:
        """Take in what the host sent; at the end of the stream say that it is over."""
        server = self._server
        if not server.frames.receive():
            asyncio.get_running_loop().remove_reader(server.channel)
            self.over.set()
        self.drain()

    def drain(self) -> None:
        """Take every message that is there in full."""
        server = self._server
        while True:
            message = server.frames.buffered()
            if message is None:
                return
            try:
                taken = server.take(message)
            finally:
                message.release()
                server.frames.done()
            if isinstance(taken, Call):
                self._begin(taken)
            elif taken is not None and taken in self._tasks:
                self._tasks[taken].cancel()

    def _begin(self, call: Call) -> None:
        task = asyncio.get_running_loop().create_task(self._run(call))
        self._tasks[call.number] = task
        task.add_done_callback(lambda task: self._done(task, call))

    def _done(self, task: asyncio.Task[None], call: Call) -> None:
        self._tasks.pop(call.number, None)
        if task.cancelled():  # before it had begun, or it would have said so itself
            self._server.refuse(call.number, FunctionCanceled())
            wipe(call.secrets)

    async def _run(self, call: Call) -> None:
        server = self._server
        try:
            result: Any = call.method(*call.arguments, **call.keywords)
            if inspect.isawaitable(result):
                result = await result
            server.answer(call.number, result, fixed_length(call, result))
        except BaseException as error:
            server.refuse(call.number, error)
        finally:
            wipe(call.secrets)

    async def end(self) -> None:
        """Give up the calls and close the adapter."""
        for task in list(self._tasks.values()):
            task.cancel()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._server.adapter.close()
        finally:
            self._server.gone()


async def _serve(server: Server) -> None:
    loop = _Loop(server)
    loop.drain()  # what came right after the setup
    asyncio.get_running_loop().add_reader(server.channel, loop.readable)
    await loop.over.wait()
    await loop.end()


def serve(server: Server) -> None:
    """Serve until the host is gone."""
    asyncio.run(_serve(server))
