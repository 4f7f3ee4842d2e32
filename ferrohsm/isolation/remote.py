"""Objects of the other process, as the host has them: each method of the contract asks over the socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferrohsm.isolation.connection import Connection


class Remote:
    """A proxy. Its class is made for the shape that the other side told; it has what the object has.

    `remote_id` names the object there, `remote_count` is how often it was told of: when the proxy is
    collected, the other side is told to forget it as often.
    """

    remote_id: int
    remote_count: int
    connection: Connection

    def __del__(self) -> None:
        """Let the other side forget it; whatever thread this is on, it doesn't wait."""
        self.connection.drop(self.remote_id, self.remote_count)

    def __repr__(self) -> str:
        """Name it."""
        return f"<{type(self).__name__} {self.remote_id}>"


class RemoteOperation(Remote):
    """A proxy for an operation or for messages: over when it is closed, without waiting for an answer.

    `fixed` is its length where that is the same for all data: then nobody is asked for it.
    """

    fixed: int | None = None
    _closed = False

    def close(self) -> None:
        """End it there too, with the next message at the latest."""
        if not self._closed:
            self._closed = True
            self.connection.drop(self.remote_id, self.remote_count)

    def __del__(self) -> None:
        """Close it, if nobody has."""
        self.close()


def remote_class(name: str, methods: dict[str, bool]) -> type[Remote]:
    """Make the class of proxies for a shape; `methods` says which are coroutines'."""
    over = methods.get("close") is False
    base = RemoteOperation if over else Remote
    body: dict[str, Any] = {
        method: _asynchronous(method) if waits else _blocking(method)
        for method, waits in methods.items()
        if not (over and method == "close")
    }
    if over:
        for method, known in _LENGTHS.items():
            if method in body:
                body[method] = _fixed(body[method], known)
    return type(f"Remote{name}", (base,), body)


def _asynchronous(method: str) -> Callable[..., Any]:
    async def ask(self: Remote, *arguments: Any, **keywords: Any) -> Any:
        return await self.connection.call(self.remote_id, method, arguments, keywords)

    ask.__name__ = ask.__qualname__ = method
    return ask


def _blocking(method: str) -> Callable[..., Any]:
    def ask(self: Remote, *arguments: Any, **keywords: Any) -> Any:
        return self.connection.call_and_wait(self.remote_id, method, arguments, keywords)

    ask.__name__ = ask.__qualname__ = method
    return ask


def _fixed(asked: Callable[..., Any], known: Callable[[int], int]) -> Callable[..., Any]:
    def answer(self: RemoteOperation, *arguments: Any) -> Any:
        fixed = self.fixed
        return asked(self, *arguments) if fixed is None else known(fixed)

    answer.__name__ = answer.__qualname__ = asked.__name__
    return answer


_LENGTHS: dict[str, Callable[[int], int]] = {
    "once_length": lambda fixed: fixed,
    "finish_length": lambda fixed: fixed,
    "update_length": lambda fixed: 0,
}
