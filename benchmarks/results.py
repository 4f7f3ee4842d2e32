"""What a run leaves: the JSON document, and the questions that tables and pictures ask of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ferrohsm_bench.contestants import Contestant
from ferrohsm_bench.runner import Row, Settings

from ferrohsm import __version__

FORMAT = 1


def document(
    contestants: Sequence[Contestant], rows: Sequence[Row], settings: Settings, command: str
) -> dict[str, Any]:
    """Return everything that a report needs."""
    return {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "ferrohsm": __version__,
        "command": command,
        "kernels": _kernels(),
        "machine": machine(),
        "settings": {**settings._asdict(), "threads": list(settings.threads)},
        "contestants": [
            {"name": one.name, "raw": one.raw, "description": one.description, "library": _library(one)}
            for one in contestants
        ],
        "results": list(rows),
    }


def _library(one: Contestant) -> str:
    """Return the library's file name: where it stands on this machine is nobody's business."""
    path = str(getattr(one, "path", ""))
    return os.path.basename(path)


def _kernels() -> str:
    """Return what the kernels of the installed module compute with."""
    try:
        from ferrohsm_adapters.software import _kernels
    except ImportError:
        return ""
    return _kernels.name()


def machine() -> dict[str, Any]:
    """Return what is to be known of this machine."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    model = line.partition(":")[2].strip()
                    break
    except OSError:
        pass
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    return {
        "processor": model,
        "cores": os.cpu_count() or 1,
        "system": f"{system}, {platform.machine()}",
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


class Results:
    """A document's results by case, threads and contestant."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.names = [one["name"] for one in document["contestants"]]
        self.raw = [one["name"] for one in document["contestants"] if one["raw"]]
        modules = [name for name in self.names if name not in self.raw]
        self.ours = modules[0] if modules else ""
        self.peers = modules[1:]
        self._rows = {(row["case"], row["threads"], row["contestant"]): row for row in document["results"]}

    def cases(self) -> list[tuple[str, int, str]]:
        """Return case, threads and unit in the order in which they were measured, once each."""
        seen: dict[tuple[str, int], str] = {}
        for row in self.document["results"]:
            seen.setdefault((row["case"], row["threads"]), row["unit"])
        return [(case, threads, unit) for (case, threads), unit in seen.items()]

    def row(self, case: str, threads: int, name: str) -> Row | None:
        """Return what is known of one contestant, None when it did not take part."""
        return self._rows.get((case, threads, name))

    def median(self, case: str, threads: int, name: str) -> float | None:
        """Return one contestant's median, None when there is none."""
        row = self.row(case, threads, name)
        return None if row is None else row.get("median")

    def best_peer(self, case: str, threads: int) -> float | None:
        """Return the best peer's median."""
        return self._best(case, threads, self.peers)

    def best_raw(self, case: str, threads: int) -> float | None:
        """Return the raw engine's median, or the best of the other engines where that one lacks it."""
        first = self.median(case, threads, self.raw[0]) if self.raw else None
        return self._best(case, threads, self.raw[1:]) if first is None else first

    def ratio(self, case: str, threads: int, other: float | None) -> float | None:
        """Return ours by the other's; below 1 we are better."""
        ours = self.median(case, threads, self.ours)
        return None if ours is None or not other or other <= 0 else ours / other

    def gain(self, case: str, threads: int) -> float | None:
        """Return the throughput of several threads of ours by that of one."""
        alone, together = self.median(case, 1, self.ours), self.median(case, threads, self.ours)
        return alone / together if threads > 1 and alone is not None and together else None

    def _best(self, case: str, threads: int, names: Sequence[str]) -> float | None:
        found = [value for name in names if (value := self.median(case, threads, name)) is not None]
        return min(found) if found else None


def amount(value: float | None, unit: str) -> str:
    """Return a number with three digits that count."""
    if value is None:
        return ""
    if unit == "B":
        for name, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
            if abs(value) >= size:
                return f"{value / size:.1f} {name}"
        return f"{value:.0f} B"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def table(results: Results) -> tuple[list[str], list[list[str]], list[str]]:
    """Return heads, rows and notes: what did not work is named in the notes by its number."""
    heads = ["case", "threads", *results.names, "to best peer", "to raw", "gain"]
    notes: list[str] = []
    rows = []
    for case, threads, unit in results.cases():
        cells = [_cell(results, case, threads, name, unit, notes) for name in results.names]
        ratios = [
            results.ratio(case, threads, results.best_peer(case, threads)),
            results.ratio(case, threads, results.best_raw(case, threads)),
            results.gain(case, threads),
        ]
        rows.append([case, str(threads), *cells, *("" if one is None else f"{one:.2f}" for one in ratios)])
    return heads, rows, notes


def _cell(results: Results, case: str, threads: int, name: str, unit: str, notes: list[str]) -> str:
    row = results.row(case, threads, name)
    if row is None:
        return ""
    if "trouble" in row:
        note = f"{name}: {row['trouble']}"
        if note not in notes:
            notes.append(note)
        return f"[{notes.index(note) + 1}]"
    spread = (row["high"] - row["low"]) / 2
    text = amount(row["median"], unit)
    return (
        text if row["samples"] < 2 or row["median"] <= 0 else f"{text} ±{100 * spread / row['median']:.0f}%"
    )
