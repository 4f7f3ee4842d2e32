"""Stepping on the spot, and the runtime's thread: deadlines, cancelling, adapters that wait."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest
from house import SLOT, SO_PIN, House

from ferrohsm.errors import DeviceError, FunctionCanceled, GeneralError, PinIncorrect
from ferrohsm.loops import LoopThread
from ferrohsm.runtime import Runtime, step


async def thread_name() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_step() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> None:
        raise PinIncorrect()

    assert step(answer()) == 42
    with pytest.raises(PinIncorrect):
        step(fail())
    with pytest.raises(GeneralError):
        step(asyncio.sleep(0))


def test_runtime_runs_elsewhere() -> None:
    runtime = Runtime()
    assert not runtime.running
    assert runtime.run(thread_name()) == "ferrohsm"
    assert runtime.running and not runtime.here()
    runtime.stop()
    assert not runtime.running
    assert runtime.run(thread_name()) == "ferrohsm"  # and again, after a stop
    runtime.stop()
    runtime.stop()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks here")
def test_signals_are_for_the_hosts_threads() -> None:
    """The loop's thread takes none of the process's signals; the one that started it what it took before."""

    async def blocked() -> set[int]:
        return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}

    faults = {signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        mine = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        runtime = Runtime()
        theirs = runtime.run(blocked())
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mine
        runtime.stop()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert theirs == signal.valid_signals() - faults - {signal.SIGKILL, signal.SIGSTOP}


def test_errors_come_back() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise PinIncorrect()

    async def late() -> None:
        raise TimeoutError("its own")

    runtime = Runtime()
    with pytest.raises(PinIncorrect):
        runtime.run(fail())
    with pytest.raises(TimeoutError, match="its own"):
        runtime.run(late())
    runtime.stop()


def test_deadline() -> None:
    runtime = Runtime()
    begin = time.monotonic()
    with pytest.raises(DeviceError):
        runtime.run(asyncio.sleep(30), deadline=0.05)
    assert time.monotonic() - begin < 5
    assert runtime.run(thread_name()) == "ferrohsm"
    runtime.stop()


def test_cancel() -> None:
    runtime = Runtime()
    call = runtime.submit(asyncio.sleep(30))
    assert not call.done()
    threading.Timer(0.05, call.cancel).start()
    with pytest.raises(FunctionCanceled):
        call.result()
    runtime.stop()


def test_stop_cancels_what_is_under_way() -> None:
    runtime = Runtime()
    ended: list[bool] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    call = runtime.submit(forever())
    while runtime.run(thread_name()) is None:
        pass
    runtime.stop()
    with pytest.raises(FunctionCanceled):
        call.result()
    assert ended == [True]


def test_adapter_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that is not inline: its adapter has a thread of its own, on which everything of it runs."""
    house = House(inline=False)
    assert not house.core.inline(SLOT)
    names: list[str] = []
    status = house.store.status

    async def waiting_status() -> object:
        names.append(await thread_name())
        return await status()

    monkeypatch.setattr(house.store, "status", waiting_status)
    [view] = step(house.core.slots())
    assert not view.inline and view.token_present and not view.initialized
    house.core.run(SLOT, house.core.init_token(SLOT, bytearray(SO_PIN), "far"))
    assert step(house.core.slots())[0].initialized
    assert set(names) == {"ferrohsm memory"}
    step(house.core.stop())
    assert not house.core.runtime.running
    assert "ferrohsm memory" not in [thread.name for thread in threading.enumerate()]
    assert house.store.closed


def test_inline_slots_start_no_thread(house: House) -> None:
    step(house.core.slots())
    assert not house.core.runtime.running


def test_several_threads_may_wait_for_one_call() -> None:
    loop = LoopThread("several")
    call = loop.submit(asyncio.sleep(0.3, "done"))
    waited: list[bool] = []
    threads = [threading.Thread(target=lambda: waited.append(call.wait(10.0))) for _ in range(3)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waited == [True] * 3 and time.monotonic() - begun < 5.0
    assert call.outcome() == "done"
    loop.stop()


def test_a_loop_that_pays_while_it_is_asked_owes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = LoopThread("prompt")
    loop.calls.add(object())  # type: ignore[arg-type]
    monkeypatch.setattr(loop, "post", lambda pay: pay())
    assert [loop.owes(), loop.owes()] == [0.0, 0.0]
    monkeypatch.setattr(loop, "post", lambda pay: None)
    assert loop.owes() == 0.0 and loop.owes() >= 0.0
