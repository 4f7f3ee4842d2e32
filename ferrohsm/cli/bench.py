"""``ferrohsm bench``: time PKCS#11 modules beside each other, and write the report."""

from __future__ import annotations

import argparse

from ferrohsm.cli.parser import Nouns, noun, verb
from ferrohsm.cli.terminal import CommandError, UsageError, show, table

_MORE = """\
Every module runs in a process of its own that is plain C, and they take turns. The installed module,
SoftHSM 2 and NSS take part when they are there, each with a new token in a temporary directory.
A module that --module names gets a new token on a free slot, unless --token says which one to use;
then give its PIN in an environment variable with --pin-env."""


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "bench", "time PKCS#11 modules beside each other and the raw engine")
    _register_run(verbs)
    parser = verb(
        verbs,
        "report",
        "write a page and pictures from what a run left",
        report,
        examples=[("ferrohsm bench report run.json", "write docs/benchmarks.md and docs/benchmarks/*.svg")],
    )
    parser.add_argument("file", metavar="FILE", help="what `ferrohsm bench run --json FILE` wrote")
    parser.add_argument(
        "--output",
        "--out",
        metavar="PAGE",
        default="docs/benchmarks.md",
        help="the page (docs/benchmarks.md)",
    )
    verb(verbs, "list", "print the cases", list_cases)


def _register_run(verbs: Nouns) -> None:
    parser = verb(
        verbs,
        "run",
        "measure, and print a table",
        run,
        more=_MORE,
        examples=[
            ("ferrohsm bench run --quick", "a first look, in a minute or two"),
            ("ferrohsm bench run --profile report --json run.json", "everything that a report shows"),
            ("ferrohsm bench run --case 'aes-*' --threads 1,2", "some cases only"),
            (
                "ferrohsm bench run --module mine=/opt/mine.so --env mine:CONF=/etc/mine.conf",
                "another module too",
            ),
        ],
        json_file=True,
    )
    parser.add_argument(
        "--profile",
        choices=("quick", "standard", "report"),
        help="how much of it: --quick, what is usual, or every case in about twelve minutes for a report",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter batches, one thread")
    parser.add_argument("--full", action="store_true", help="also a million objects, and TLS handshakes")
    parser.add_argument(
        "--case", metavar="GLOB", action="append", default=[], help="only these cases; repeat it"
    )
    parser.add_argument(
        "--module", metavar="NAME=PATH", action="append", default=[], help="another module; repeat it"
    )
    parser.add_argument("--only", action="store_true", help="only the modules named, and the raw engine")
    parser.add_argument(
        "--env",
        metavar="NAME:VAR=VALUE",
        action="append",
        default=[],
        help="a variable of a module's environment",
    )
    parser.add_argument(
        "--init", metavar="NAME:TEXT", action="append", default=[], help="what C_Initialize gets as pReserved"
    )
    parser.add_argument(
        "--token",
        metavar="NAME:LABEL",
        action="append",
        default=[],
        help="use this token of a module as it is",
    )
    parser.add_argument(
        "--pin-env",
        metavar="NAME:VAR",
        action="append",
        default=[],
        help="the variable with that token's user PIN",
    )
    parser.add_argument(
        "--raw", metavar="NAME=PATH", action="append", default=[], help="another libcrypto to compare"
    )
    parser.add_argument("--threads", metavar="N,N", help="numbers of threads (1,2,4; 1 when quick)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each case (15; 5 when quick)")
    parser.add_argument(
        "--batch", type=float, metavar="MS", help="milliseconds of a round (50; 10 when quick)"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="S", default=60.0, help="a module that takes longer hangs"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure."""
    from ferrohsm_bench import session  # type: ignore[import-not-found,import-untyped,unused-ignore]

    session.run(arguments)


def report(arguments: argparse.Namespace) -> None:
    """Write the report."""
    import json
    from pathlib import Path

    from ferrohsm_bench import report, results  # type: ignore[import-not-found,import-untyped,unused-ignore]

    try:
        document = json.loads(Path(arguments.file).read_text())
        if document["format"] != results.FORMAT:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"{arguments.file} is no result of `ferrohsm bench run`") from None
    written = [str(path) for path in report.write(document, Path(arguments.output))]
    show(arguments, {"written": written}, "\n".join(written))


def list_cases(arguments: argparse.Namespace) -> None:
    """Print the cases."""
    from ferrohsm_bench.cases import CASES  # type: ignore[import-not-found,import-untyped,unused-ignore]

    rows = [[case.name, case.unit, "with --full" if case.full else ""] for case in CASES]
    show(
        arguments,
        {"cases": [{"name": case.name, "unit": case.unit, "full": case.full} for case in CASES]},
        table(["case", "unit", ""], rows),
    )


def pairs(given: list[str], mark: str, option: str) -> list[tuple[str, str]]:
    """Return what stands before and behind the first `mark` of each value."""
    found = []
    for text in given:
        name, separator, value = text.partition(mark)
        if not name or not separator:
            raise UsageError(f"--{option} {text}: NAME{mark}… is expected")
        found.append((name, value))
    return found
