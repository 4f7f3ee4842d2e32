"""Messages and authenticated wrapping of an adapter that gives nonsense: not believed."""

from __future__ import annotations

from typing import Any

import pytest

from ferrohsm.errors import DeviceError, HsmError, MechanismInvalid
from ferrohsm.guards import GuardedSigner
from ferrohsm.runtime import step


class Lane:
    """A loop whose thread is this one, or another one that does what is posted later."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.at_home = True

    def here(self) -> bool:
        return self.at_home

    def post(self, work: Any) -> None:
        self.posted.append(work)


class Messages:
    multi_part = True

    def __init__(self) -> None:
        self.gives: Any = b""
        self.ended: list[str] = []

    def _give(self, *_: Any) -> Any:
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives

    begin = length = update = finish = _give

    def abandon(self) -> None:
        self.ended.append("abandon")

    def close(self) -> None:
        self.ended.append("close")
        raise RuntimeError("cannot be closed")


class Signer:
    def __init__(self, messages: Any) -> None:
        self.messages = messages
        self.gives: Any = None

    async def begin_messages(self, *_: Any) -> Any:
        if isinstance(self.messages, BaseException):
            raise self.messages
        return self.messages

    async def wrap_authenticated(self, *_: Any) -> Any:
        return self.gives


def begun(messages: Any, lane: Lane | None = None) -> Any:
    lane_: Any = lane or Lane()
    return step(GuardedSigner(Signer(messages), "test", lane_).begin_messages(1, None, None))


@pytest.mark.parametrize("nonsense", [None, b"bytes", object(), RuntimeError("secret"), SystemExit()])
def test_what_is_no_process_is_refused(nonsense: Any) -> None:
    with pytest.raises(DeviceError):
        begun(nonsense)


def test_a_signer_without_messages() -> None:
    lane: Any = Lane()
    with pytest.raises(MechanismInvalid):
        step(GuardedSigner(object(), "test", lane).begin_messages(1, None, None))


@pytest.mark.parametrize(
    ("method", "good", "bad"),
    [
        ("begin", b"vector", None),
        ("length", 5, -1),
        ("length", 0, b"5"),
        ("update", bytearray(b"text"), "text"),
        ("finish", (b"text", b"tag"), b"text"),
        ("finish", (bytearray(), b""), (b"text", None)),
    ],
)
def test_answers_are_looked_at(method: str, good: Any, bad: Any) -> None:
    messages = Messages()
    guarded = begun(messages)
    messages.gives = good
    assert getattr(guarded, method)(b"", b"") == good
    for nonsense in (bad, ZeroDivisionError("secret"), object()):
        messages.gives = nonsense
        with pytest.raises(HsmError) as refused:
            getattr(guarded, method)(b"", b"")
        assert "secret" not in str(refused.value)


def test_it_ends_on_the_adapters_own_thread() -> None:
    messages, lane = Messages(), Lane()
    guarded = begun(messages, lane)
    guarded.abandon()
    guarded.close()  # whatever it raises is the log's
    lane.at_home = False
    guarded.abandon()
    assert messages.ended == ["abandon", "close"]
    lane.posted[0]()
    assert messages.ended == ["abandon", "close", "abandon"]


def test_wrapped_keys_are_looked_at() -> None:
    signer, lane = Signer(None), Lane()
    guarded: Any = GuardedSigner(signer, "test", lane)  # type: ignore[arg-type]
    signer.gives = (b"vector", b"key", b"tag")
    assert step(guarded.wrap_authenticated()) == signer.gives
    for nonsense in (None, (b"", b""), (b"", "", b""), [b"", b"", b""]):
        signer.gives = nonsense
        with pytest.raises(DeviceError):
            step(guarded.wrap_authenticated())
