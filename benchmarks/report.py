"""The report: a page of Markdown and its pictures, made from a run's JSON and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ferrohsm_bench import pictures
from ferrohsm_bench.results import Results, table

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def write(document: dict[str, Any], page: Path) -> list[Path]:
    """Write the pictures into a folder with the name of `page`, and the report into it; return the paths.

    A page that is there already keeps what stands before and behind the two marks.
    """
    results = Results(document)
    folder = page.parent / page.stem
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "ratio-peer.svg": pictures.ratios(
            results, f"{results.ours} by the best of the other modules", "peer"
        ),
        "ratio-raw.svg": pictures.ratios(results, f"{results.ours} by the raw engine", "raw"),
    }
    for what in ("find-label", "find-same-label", "find-id", "read"):
        if any(case.startswith(f"{what}-") for case, _, _ in results.cases()):
            drawn[f"{what}.svg"] = pictures.objects(results, f"{what} by the number of objects", what)
    for name, picture in drawn.items():
        (folder / name).write_text(picture)
    text = f"{BEGIN}\n\n{_body(document, results, [f'{page.stem}/{name}' for name in drawn])}\n{END}\n"
    old = page.read_text() if page.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        old = old.rstrip("\n") + f"\n\n{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    page.write_text(before + text + rest.partition(END)[2].lstrip("\n"))
    return [page, *(folder / name for name in drawn)]


def _body(document: dict[str, Any], results: Results, drawn: list[str]) -> str:
    machine, settings = document["machine"], document["settings"]
    heads, rows, notes = table(results)
    lines = [
        "## The suite's results",
        "",
        f"Made {document['made']} with FerroHSM {document['ferrohsm']} by `{document['command']}` and "
        "`ferrohsm bench report`.",
        "",
        f"- machine: {machine['processor']}, {machine['cores']} cores; {machine['system']}, "
        f"kernel {machine['kernel']}; load {machine['load']:.2f} at the end",
        f"- {settings['rounds']} rounds in which the modules take turns, batches of "
        f"{settings['batch'] * 1000:g} ms after a warm-up, each module in its own process without Python",
        "- microseconds an operation, initialization included (wall clock by the operations of all threads "
        "together): median ± half the distance of the quartiles; bytes where it says so",
        f"- the ratios are those of {results.ours}: below 1 it is faster; 'gain' is the throughput of its "
        "threads together by that of one thread alone",
        *([f"- the kernels of {results.ours}: {document['kernels']}"] if document.get("kernels") else []),
        *(
            f"- {one['name']}: `{one['library']}`"
            + (f" ({one['description']})" if one["description"] else "")
            for one in document["contestants"]
        ),
        "",
        *(f"![{Path(name).stem}]({name})\n" for name in drawn),
        _line(heads),
        "|" + "---|" * len(heads),
        *(_line(row) for row in rows),
        "",
        *(f"[{number}] {_plain(note)}  " for number, note in enumerate(notes, 1)),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
