"""Runs cases: every contestant prepares, then they take turns, A B A B, until all rounds are over."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ferrohsm_bench.cases import Case
from ferrohsm_bench.contestants import Contestant, Module
from ferrohsm_bench.driver_process import TroubleError

Row = dict[str, Any]
_BY_ONES = 20_000  # objects up to this are made through the C interface, one commit each
MOST = 500_000  # operations of one batch


class Settings(NamedTuple):
    """How long and how often; times in seconds."""

    rounds: int = 15
    batch: float = 0.05
    threads: tuple[int, ...] = (1, 2, 4)
    patience: float = 120.0  # for making the objects that a case needs


QUICK = Settings(rounds=5, batch=0.01, threads=(1,), patience=20.0)
# What the committed report is made with: every case, in about twelve minutes on two quiet cores.
REPORT = Settings(rounds=9, batch=0.02, patience=60.0)


class Runner:
    """One run over all cases; `tell` hears what is going on, `rows` is what came out."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        settings: Settings,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.contestants = contestants
        self.settings = settings
        self.rows: list[Row] = []
        self.tell = tell

    def run(self, case: Case) -> None:
        """Measure one case with everybody; whatever goes wrong becomes a row."""
        if case.operation == "tls":
            from ferrohsm_bench import tls

            for one in self.contestants:
                self._measured(case, one, 1, lambda one=one: tls.measure(one, self.settings))  # type: ignore[misc]
        elif case.operation == "load":
            self._turns(case, [one for one in self.contestants if isinstance(one, Module)], 1, _load)
        elif case.operation == "memory":
            for one in self.contestants:
                if isinstance(one, Module):
                    self._measured(case, one, 1, lambda one=one: [_memory(case, one)])  # type: ignore[misc]
        else:
            self._timed(case)

    def quit(self) -> None:
        """End every process."""
        for one in self.contestants:
            one.leave()

    def _timed(self, case: Case) -> None:
        ready = [one for one in self.contestants if self._ready(case, one)]
        for threads in self.settings.threads if case.threads else (1,):
            self.tell(f"{case.name}, {threads} thread{'s' * (threads > 1)}")
            counts = {}
            for one in list(ready):
                try:
                    counts[one.name] = self._calibrate(one, threads)
                except TroubleError as trouble:
                    self._trouble(case, one, threads, trouble)
                    ready.remove(one)
            gone = self._turns(
                case,
                ready,
                threads,
                lambda one, counts=counts, threads=threads: _batch(one, threads, counts[one.name]),
            )
            ready = [one for one in ready if one not in gone]
        for one in ready:
            try:
                one.ask("finish")
            except TroubleError:
                pass  # the next case tells, if it matters

    def _ready(self, case: Case, one: Contestant) -> bool:
        try:
            one.driver()
            if case.objects and not one.raw:
                self._grow(case, one)
            one.prepare(case)
        except TroubleError as trouble:
            if not (one.raw and "no such operation" in str(trouble)):
                self._trouble(case, one, 1, trouble)
            return False
        return True

    def _grow(self, case: Case, one: Contestant) -> None:
        if 0 < one.most_objects < case.objects:
            raise TroubleError(_too_long(one.most_objects, self.settings.patience, case.objects))
        started, there, step = time.monotonic(), 0, 100
        if isinstance(one, Module) and case.objects > _BY_ONES and self._filled(case, one):
            there = case.objects
            one.ask("grow", there)  # counts them
        while there < case.objects:
            # Each request is short, so that a slow module is told from one that hangs.
            there = min(case.objects, there + step)
            self.tell(f"{case.name}: {one.name} makes objects, {there} of {case.objects}")
            before = time.monotonic()
            one.ask("grow", there, timeout=self.settings.patience)
            if time.monotonic() - started > self.settings.patience and there < case.objects:
                one.most_objects = there
                raise TroubleError(_too_long(there, self.settings.patience, case.objects))
            if time.monotonic() - before < 0.2:
                step *= 2
        if isinstance(one, Module):
            one.read_files()

    def _filled(self, case: Case, one: Module) -> bool:
        """Make very many objects in one commit where that is possible; say whether they are there now."""
        first = int(one.ask("count", case.objects)[0])

        def tell(number: int) -> None:
            self.tell(f"{case.name}: {one.name} makes objects, {number} of {case.objects}")

        return first >= case.objects or one.fill(first, case.objects, tell)

    def _calibrate(self, one: Contestant, threads: int) -> int:
        """Return how many operations of each thread fill a batch."""
        count = 1
        while True:
            took = _batch(one, threads, count, warm=min(count, 100))[0] * count * threads / 1e6
            if took >= self.settings.batch / 4 or count >= MOST:
                break
            count = min(MOST, max(count * 2, int(count * self.settings.batch / 2 / max(took, 1e-7))))
        return max(1, min(MOST, int(count * self.settings.batch / max(took, 1e-7))))

    def _turns(
        self, case: Case, ready: Sequence[Contestant], threads: int, measure: Callable[[Any], list[float]]
    ) -> list[Contestant]:
        samples: dict[str, list[float]] = {one.name: [] for one in ready}
        gone: list[Contestant] = []
        for number in range(self.settings.rounds):
            self.tell(f"{case.name}, round {number + 1} of {self.settings.rounds}")
            for one in ready:
                if one in gone:
                    continue
                try:
                    samples[one.name] += measure(one)
                except TroubleError as trouble:
                    self._trouble(case, one, threads, trouble)
                    gone.append(one)
        for one in ready:
            if one not in gone and samples[one.name]:
                self.rows.append(_row(case, one, threads, samples[one.name]))
        return gone

    def _measured(
        self, case: Case, one: Contestant, threads: int, measure: Callable[[], list[float]]
    ) -> None:
        self.tell(f"{case.name}: {one.name}")
        try:
            if case.objects and not one.raw:
                self._grow(case, one)
            samples = measure()
        except TroubleError as trouble:
            self._trouble(case, one, threads, trouble)
        else:
            self.rows.append(_row(case, one, threads, samples))

    def _trouble(self, case: Case, one: Contestant, threads: int, trouble: TroubleError) -> None:
        self.rows.append(
            {
                "case": case.name,
                "contestant": one.name,
                "threads": threads,
                "unit": case.unit,
                "trouble": str(trouble),
            }
        )


def _too_long(made: int, patience: float, wanted: int) -> str:
    return f"{made} objects took {patience:g} s; {wanted} would take too long"


def _load(one: Module) -> list[float]:
    return [one.load()]


def _batch(one: Contestant, threads: int, count: int, warm: int | None = None) -> list[float]:
    """Return the microseconds an operation takes: the batch's time by the operations of all threads."""
    nanoseconds, operations = one.ask("run", threads, count, min(count, 20) if warm is None else warm)
    return [int(nanoseconds) / int(operations) / 1000]


_WHAT = {"memory-session": "sessions", "memory-session-object": "objects", "memory-object-read": "touched"}


def _memory(case: Case, one: Module) -> float:
    """Return bytes; in a fresh process, for one that has worked has memory to spare."""
    if case.name == "memory-process":
        return one.memory()
    one.quit()
    if case.objects:
        one.ask("grow", case.objects)
    taken, count = one.ask("memory", _WHAT[case.name], case.size)
    return int(taken) / max(1, int(count))


def _row(case: Case, one: Contestant, threads: int, samples: list[float]) -> Row:
    low = high = samples[0]
    if len(samples) > 1:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return {
        "case": case.name,
        "contestant": one.name,
        "threads": threads,
        "unit": case.unit,
        "median": statistics.median(samples),
        "best": min(samples),
        "low": low,
        "high": high,
        "samples": len(samples),
    }
