"""Pictures of a run as SVG, written by hand: bars of ratios, and cost against the number of objects."""

from __future__ import annotations

import math
from html import escape

from ferrohsm_bench.results import Results, amount

_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img" '
    'aria-label="{title}">\n'
    '<rect width="100%" height="100%" fill="white"/>\n'
    '<text x="12" y="22" font-size="15" font-weight="bold">{title}</text>\n'
)
_BETTER, _WORSE, _GREY = "#2f7d4f", "#b5542c", "#888888"
_COLOURS = ("#1f5fa8", "#b5542c", "#7a4fa3", "#2f7d4f", "#888888")


def ratios(results: Results, title: str, which: str) -> str:
    """Return bars of our cost by the best peer's (`which` is "peer") or the raw engine's ("raw")."""
    bars = []
    for case, threads, _ in results.cases():
        if threads == 1:
            other = results.best_peer(case, 1) if which == "peer" else results.best_raw(case, 1)
            ratio = results.ratio(case, 1, other)
            if ratio is not None and ratio > 0:
                bars.append((case, ratio))
    left, right, line, top = 210, 70, 18, 58
    width, height = 900, top + line * max(1, len(bars)) + 20
    reach = max([1.5, *(abs(math.log2(ratio)) for _, ratio in bars)])
    middle = left + (width - left - right) / 2
    scale = (width - left - right) / 2 / reach
    parts = [_HEAD.format(width=width, height=height, title=escape(title))]
    parts.append(
        f'<text x="{middle - 8:.0f}" y="46" text-anchor="end" fill="{_BETTER}">faster than it</text>\n'
    )
    parts.append(f'<text x="{middle + 8:.0f}" y="46" fill="{_WORSE}">slower than it</text>\n')
    for index, (case, ratio) in enumerate(bars):
        y = top + index * line
        length = abs(math.log2(ratio)) * scale
        x = middle if ratio >= 1 else middle - length
        colour = _WORSE if ratio > 1 else _BETTER
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(case)}</text>\n')
        parts.append(
            f'<rect x="{x:.1f}" y="{y + 2}" width="{max(length, 1):.1f}" height="12" fill="{colour}"/>\n'
        )
        after, anchor = (x + length + 4, "start") if ratio >= 1 else (x - 4, "end")
        parts.append(
            f'<text x="{after:.1f}" y="{y + 12}" text-anchor="{anchor}" font-size="11">{ratio:.2f}</text>\n'
        )
    if not bars:
        parts.append(f'<text x="{left}" y="{top + 12}" fill="{_GREY}">nothing to compare with</text>\n')
    parts.append(
        f'<line x1="{middle:.1f}" y1="{top - 6}" x2="{middle:.1f}" y2="{height - 12}" stroke="black"/>\n'
    )
    return "".join(parts) + "</svg>\n"


def objects(results: Results, title: str, what: str) -> str:
    """Return the cost of `what` ("find-label" …) against the number of objects, both logarithmic."""
    sizes = (("100", 100), ("10K", 10_000), ("1M", 1_000_000))
    lines = {}
    for name in results.names:
        points = [
            (size, value) for label, size in sizes if (value := results.median(f"{what}-{label}", 1, name))
        ]
        if points:
            lines[name] = points
    width, height, left, right, top, bottom = 640, 360, 80, 150, 44, 50
    values = [value for points in lines.values() for _, value in points] or [1.0]
    lowest, highest = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    highest = max(highest, lowest + 1)

    def place(size: float, value: float) -> tuple[float, float]:
        x = left + (math.log10(size) - 2) / 4 * (width - left - right)
        share = (math.log10(value) - lowest) / (highest - lowest)
        return x, height - bottom - share * (height - top - bottom)

    parts = [_HEAD.format(width=width, height=height, title=escape(title))]
    for power in range(lowest, highest + 1):
        y = place(100, 10**power)[1]
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - right}" y2="{y:.1f}" stroke="#dddddd"/>\n')
        text = amount(10**power, "us")
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text} µs</text>\n')
    for label, size in sizes:
        x = place(size, 10**lowest)[0]
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{label}</text>\n')
    parts.append(f'<text x="{left}" y="{height - 12}" fill="{_GREY}">objects in the token</text>\n')
    for index, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        drawn = [place(size, value) for size, value in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>\n')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>\n' for x, y in drawn]
        x, y = width - right + 14, top + 16 + 18 * index
        parts.append(f'<text x="{x}" y="{y}" fill="{colour}">{escape(name)}</text>\n')
    return "".join(parts) + "</svg>\n"
