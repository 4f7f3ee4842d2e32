"""``ferrohsm audit``: reads the audit log and proves that nobody touched it."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ferrohsm import config as configuration
from ferrohsm.cli.parser import Nouns, choose_token, noun, verb
from ferrohsm.cli.terminal import CommandError, NotFoundError, Progress, note, printable, show

if TYPE_CHECKING:
    from ferrohsm.audit.chain import Place
    from ferrohsm.audit.reading import Filter
    from ferrohsm.audit.verify import Report
    from ferrohsm.config import Config

_COLUMNS = (
    "seq", "time", "last", "event", "result", "count", "one_of", "pid", "uid", "user", "slot", "token",
    "session", "object", "other", "mechanism", "detail", "ring", "prev", "mac",
)  # fmt: skip
_FOLLOW_SECONDS = 0.5
_SHOWN = 20  # findings of a chain that are printed


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "audit", "read the audit log, and prove that nobody touched it")
    tail = verb(
        verbs,
        "tail",
        "show the last records",
        run_tail,
        examples=[("ferrohsm audit tail --follow", "and those that come")],
    )
    tail.add_argument("-n", "--lines", type=int, default=10, metavar="N", help="how many (default 10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on with those that come")
    shown = verb(
        verbs,
        "show",
        "show the records",
        run_show,
        examples=[
            ("ferrohsm audit show --event login --failed", "failed logins"),
            ("ferrohsm audit show --object 3f…e1 --since 2026-01-01", "what was done with a key"),
        ],
    )
    _register_verify(verbs)
    export = verb(
        verbs,
        "export",
        "write the records as JSON lines or CSV",
        run_export,
        more="JSON lines are the records as they stand in the log, with their hashes and codes.",
        examples=[("ferrohsm audit export --format csv --output audit.csv", "for a spreadsheet")],
    )
    export.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="default jsonl")
    export.add_argument("--output", metavar="FILE", help="write here instead of to the terminal")
    for parser in (tail, shown, export):
        choose_token(parser)
        _add_filter(parser)
    checkpoint = verb(
        verbs,
        "checkpoint",
        "sign what the log is now, to be kept elsewhere",
        run_checkpoint,
        more="Whoever can write the token's files can put back the whole log as it was yesterday. Only a\n"
        "checkpoint that is kept where the log is not tells: ferrohsm audit verify --checkpoint FILE.",
        examples=[("ferrohsm audit checkpoint --token web --output web.checkpoint", "once a day")],
    )
    checkpoint.add_argument("--output", metavar="FILE", help="write here instead of to the terminal")
    checkpoint.add_argument(
        "--accept-lost-head",
        action="store_true",
        help="sign though the chain has lost its head once: you have looked at what there is",
    )
    choose_token(checkpoint)


def _register_verify(verbs: Nouns) -> None:
    parser = verb(
        verbs,
        "verify",
        "prove that no record was changed, removed, added or cut off",
        run_verify,
        more="Exits with 1 when something is wrong, and says with which record.",
        examples=[
            ("ferrohsm audit verify", "every log there is"),
            ("ferrohsm audit verify --token web --checkpoint web.checkpoint", "against a rollback too"),
        ],
    )
    choose_token(parser)
    parser.add_argument("--checkpoint", metavar="FILE", help="what ferrohsm audit checkpoint wrote before")
    parser.add_argument("--key", metavar="HEX", help="the key that the checkpoint must be signed with")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--event", action="append", metavar="NAME", help="only such events; may be repeated")
    parser.add_argument("--object", metavar="ID", help="only what concerns this CKA_UNIQUE_ID")
    parser.add_argument("--user", choices=("so", "user", "nobody"), help="only what this user did")
    parser.add_argument("--failed", action="store_true", help="only what did not succeed")
    parser.add_argument("--since", metavar="TIME", type=moment, help="only from this time on (UTC, ISO 8601)")
    parser.add_argument("--until", metavar="TIME", type=moment, help="only before this time (UTC, ISO 8601)")
    parser.add_argument("--pid", type=int, metavar="N", help="only what this process did")


def moment(text: str) -> str:
    """Return a time as the records write it; one without a zone is UTC."""
    from datetime import UTC, datetime

    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        hint = "write 2026-12-31 or 2026-12-31T23:59"
        raise argparse.ArgumentTypeError(f"{text!r} is no time; {hint}") from None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _filter(arguments: argparse.Namespace) -> Filter:
    from ferrohsm.audit.events import NAMES
    from ferrohsm.audit.reading import Filter

    for name in arguments.event or ():
        if name not in NAMES.values():
            raise CommandError(
                f"there is no event {name!r}", "events are " + ", ".join(sorted(NAMES.values()))
            )
    return Filter(
        tuple(arguments.event or ()),
        arguments.object,
        arguments.user,
        arguments.failed,
        arguments.since,
        arguments.until,
        arguments.pid,
    )


def _chosen(arguments: argparse.Namespace) -> list[Place]:
    """Empty the rings and return the chains that are meant: one, or all."""
    from ferrohsm.audit import reading

    config = configuration.load()
    try:
        reading.collect(config)
    except Exception as error:
        note(f"what is not in the log yet cannot be moved there: {error}")
    found = reading.chains(config)
    if arguments.token is not None or arguments.slot is not None:
        names = _names(arguments, config)
        found = [place for place in found if place.name in names]
        if not found:
            raise NotFoundError(
                "there is no log of that token", "nothing was recorded, or it is in another place"
            )
    return found


def _names(arguments: argparse.Namespace, config: Config) -> set[str]:
    """Return the names that the chain of the chosen token may have; a chain's own name is one."""
    from ferrohsm.audit.places import chain_name
    from ferrohsm.cli.service import service

    names = set() if arguments.token is None else {arguments.token}
    with service() as opened:
        views = [
            view
            for view in opened.tokens()
            if view.slot == arguments.slot or arguments.token in (view.label, view.serial)
        ]
    for view in views:
        names |= {view.serial, *(chain_name(section.name, view.slot) for section in config.slots)}
    return names - {""}


# Showing


def run_show(arguments: argparse.Namespace) -> None:
    """Print the records that are wanted."""
    from ferrohsm.audit.reading import merged

    _print(arguments, (record for _, record in merged(_chosen(arguments), _filter(arguments))))


def run_tail(arguments: argparse.Namespace) -> None:
    """Print the last records, and go on."""
    from ferrohsm.audit.reading import merged

    wanted = _filter(arguments)
    found = _chosen(arguments)
    last = deque((record for _, record in merged(found, wanted)), max(arguments.lines, 0))
    _print(arguments, last, lines=arguments.follow)
    if not arguments.follow:
        return
    seen = {place.name: _last(place) for place in found}
    while True:
        sys.stdout.flush()
        time.sleep(_FOLLOW_SECONDS)
        for place in _chosen(arguments):
            for record in _since(place, seen):
                if wanted.wants(record):
                    _print(arguments, [record], lines=True)


def _last(place: Place) -> tuple[str, int]:
    """Return the last segment and its size."""
    from ferrohsm.audit.chain import segments

    found = segments(place.path)
    return (found[-1][1], os.path.getsize(found[-1][1])) if found else ("", 0)


def _since(place: Place, seen: dict[str, tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield the whole records after what was seen, and see them."""
    from ferrohsm.audit.chain import segments

    path, offset = seen.get(place.name, ("", 0))
    for _, name in segments(place.path):
        if name < path:
            continue
        start = offset if name == path else 0
        with open(name, "rb") as file:
            file.seek(start)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        seen[place.name] = (name, start + len(whole))
        for line in whole.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _print(arguments: argparse.Namespace, found: Iterable[dict[str, Any]], *, lines: bool = False) -> None:
    if arguments.json and not lines:
        show(arguments, {"records": list(found)}, "")
        return
    for record in found:
        print(json.dumps(record) if arguments.json else _line(record))


def _line(record: dict[str, Any]) -> str:
    """Return a record as one line for people."""
    words = [
        f"{record.get('seq', '?'):>6}",
        str(record.get("time", "")),
        f"{record.get('event', ''):<15}",
        f"{record.get('result', ''):<6}",
        f"{record.get('user', ''):<6}",
        f"pid {record.get('pid', '?')}",
    ]
    for key in ("token", "session", "mechanism", "object", "other", "count", "one_of", "detail"):
        if key in record:
            words.append(f"{key} {record[key]}" if key not in ("mechanism", "detail") else str(record[key]))
    return printable("  ".join(words))


# Proving


def run_verify(arguments: argparse.Namespace) -> int:
    """Verify the chains; exit code 1 when one is not sound."""
    from ferrohsm.audit import checkpoint
    from ferrohsm.audit.verify import sizes, verify

    found = _chosen(arguments)
    against = None
    if arguments.checkpoint is not None:
        if len(found) != 1:
            raise CommandError("a checkpoint is of one log", "choose it with --token or --slot")
        with open(arguments.checkpoint, encoding="utf-8") as file:
            against = checkpoint.read(file.read(4096), found[0], arguments.key)
    shapes, texts, sound = [], [], True
    for place in found:
        total = sizes(place.path)
        with Progress(f"verifying {place.name}: byte") as progress:
            report = verify(place, checkpoint=against, step=lambda done: progress.step(done, total))  # noqa: B023
        sound = sound and report.sound
        shapes.append(_shape(place, report))
        texts.append(_text(place, report, checked=against is not None))
    show(arguments, {"sound": sound, "logs": shapes}, "\n".join(texts) or "there is no log")
    return 0 if sound else 1


def _shape(place: Place, report: Report) -> dict[str, Any]:
    return {
        "chain": place.name,
        "sound": report.sound,
        "records": report.records,
        "first": report.first,
        "last": report.last,
        "findings": [finding._asdict() for finding in report.findings],
        "more_findings": report.more,
        "notices": report.notices,
    }


def _text(place: Place, report: Report, *, checked: bool) -> str:
    span = f"records {report.first} to {report.last}" if report.records else "no record"
    lines = []
    if report.sound:
        agree = "head and the checkpoint agree" if checked else "the head agrees"
        lines.append(f"{place.name}: sound, {span}; {agree}")
    else:
        lines.append(f"{place.name}: NOT SOUND, {span}")
        lines += [f"  {finding.where}: {finding.text}" for finding in report.findings[:_SHOWN]]
        left = len(report.findings) - _SHOWN + report.more
        if left > 0:
            lines.append(f"  and {left} more; --json has up to a thousand")
    lines += [f"  note: {notice}" for notice in report.notices[:_SHOWN]]
    return "\n".join(lines)


def run_checkpoint(arguments: argparse.Namespace) -> None:
    """Sign the last record of a chain that is sound."""
    from ferrohsm.audit import checkpoint
    from ferrohsm.audit.verify import LOST_HEAD, sizes, verify

    found = _chosen(arguments)
    if len(found) != 1:
        names = ", ".join(place.name for place in found) or "none"
        raise CommandError(f"a checkpoint is of one log, and there are: {names}", "choose it with --token")
    place = found[0]
    total = sizes(place.path)
    with Progress(f"verifying {place.name}: byte") as progress:
        report = verify(place, step=lambda done: progress.step(done, total))
    findings = report.findings
    if arguments.accept_lost_head:
        findings = [finding for finding in findings if finding.kind != LOST_HEAD]
    if findings or report.more:
        what = (findings or report.findings)[0].text
        raise CommandError(f"the log is not sound: {what}", "ferrohsm audit verify says more")
    text = checkpoint.make(place, report.last, report.digest.decode())
    if arguments.output is None:
        print(text, end="")
        return
    with open(arguments.output, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    said = f"{arguments.output}: record {report.last} of {place.name}; keep it where the log is not"
    show(arguments, json.loads(text), said)


# Exporting


def run_export(arguments: argparse.Namespace) -> None:
    """Write the records that are wanted."""
    from ferrohsm.audit.reading import merged

    stream = merged(_chosen(arguments), _filter(arguments))
    if arguments.output is None:
        for text in _exported(arguments.format, stream):
            print(text)
        return
    count = 0
    with open(arguments.output, "x", encoding="utf-8") as file, Progress("exporting record") as progress:
        for count, text in enumerate(_exported(arguments.format, stream), 1):
            file.write(text + "\n")
            progress.step(count)
    count -= arguments.format == "csv"
    show(arguments, {"file": arguments.output, "records": count}, f"{arguments.output}: {count} records")


def _exported(form: str, stream: Iterator[tuple[bytes, dict[str, Any]]]) -> Iterator[str]:
    if form == "jsonl":
        for raw, _ in stream:
            yield raw.decode("utf-8", "replace")
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="")
    for row in _rows(stream):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _rows(stream: Iterator[tuple[bytes, dict[str, Any]]]) -> Iterator[list[Any]]:
    yield list(_COLUMNS)
    for _, record in stream:
        yield [_cell(record.get(column, "")) for column in _COLUMNS]


def _cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" and value else value
