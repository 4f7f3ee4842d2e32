"""How the process of an inline adapter serves calls: as many at once as come."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ferrohsm.isolation import stepping

CALLS = 100


class Server:
    """A socket with a number of calls on it, and nothing more for the time being."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier = barrier
        self.left = CALLS
        self.answered: list[int] = []
        self.over = threading.Event()
        self.frames = self

    def next(self) -> memoryview:
        if self.left == 0:
            self.over.wait()
            raise SystemExit
        self.left -= 1
        return memoryview(b"")

    def done(self) -> None:
        """The message was read."""

    def take(self, _: memoryview) -> Any:
        call = stepping.Call.__new__(stepping.Call)
        call.number, call.arguments, call.keywords, call.secrets = self.left, (), {}, []
        call.method = self.barrier.wait
        return call

    def answer(self, number: int, *_: Any) -> None:
        self.answered.append(number)

    def refuse(self, number: int, error: BaseException) -> None:
        self.answered.append(-1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its end is SystemExit
def test_calls_that_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "fixed_length", lambda *_: None)
    before = threading.active_count()
    server: Any = Server(threading.Barrier(CALLS, timeout=20))
    threading.Thread(target=stepping.serve, args=(server,), daemon=True).start()
    end = time.monotonic() + 20
    while len(server.answered) < CALLS and time.monotonic() < end:
        time.sleep(0.002)
    assert sorted(server.answered) == list(range(CALLS))
    while threading.active_count() > before + 10 and time.monotonic() < end:
        time.sleep(0.002)
    assert threading.active_count() <= before + 10  # few stay
    server.over.set()
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.002)
