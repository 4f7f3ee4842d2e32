"""From the command's options to a finished run: who takes part, the progress, the table and the JSON."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ferrohsm_bench import cases, contestants, results
from ferrohsm_bench.contestants import RAW, Contestant, Engine, Library, Module
from ferrohsm_bench.runner import QUICK, REPORT, Runner, Settings

from ferrohsm.cli import terminal
from ferrohsm.cli.bench import pairs
from ferrohsm.cli.terminal import UsageError


def run(arguments: argparse.Namespace) -> None:
    """Measure everything that was asked for."""
    _read_profile(arguments)
    chosen = cases.choose(arguments.case, full=arguments.full, quick=arguments.quick)
    if not chosen:
        raise UsageError("no case has such a name", "ferrohsm bench list shows them")
    settings = _settings(arguments)
    directory = Path(tempfile.mkdtemp(prefix="ferrohsm-bench-"))
    try:
        runner = Runner(_contestants(arguments, directory, chosen), settings)
        try:
            _run_all(runner, chosen, lambda: _save(runner, settings, arguments))
        finally:
            runner.quit()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    document = _save(runner, settings, arguments)
    if arguments.json == "-":
        print(json.dumps(document, indent=2))
    else:
        print(_text(document))


def _read_profile(arguments: argparse.Namespace) -> None:
    arguments.quick = arguments.quick or arguments.profile == "quick"
    arguments.full = arguments.full or arguments.profile == "report"


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = QUICK if arguments.quick else Settings()
    if arguments.profile == "report":
        settings = REPORT
    elif arguments.full:
        settings = settings._replace(patience=3600.0)
    if arguments.rounds is not None:
        settings = settings._replace(rounds=arguments.rounds)
    if arguments.batch is not None:
        settings = settings._replace(batch=arguments.batch / 1000)
    if arguments.threads is not None:
        try:
            settings = settings._replace(threads=tuple(int(one) for one in arguments.threads.split(",")))
        except ValueError:
            raise UsageError("--threads takes numbers with commas between them") from None
    if not (settings.rounds > 0 and settings.batch > 0 and all(0 < one <= 64 for one in settings.threads)):
        raise UsageError("rounds, batch and threads are above 0; there are at most 64 threads")
    return settings


def _contestants(
    arguments: argparse.Namespace, directory: Path, chosen: Sequence[cases.Case]
) -> list[Contestant]:
    named = pairs(arguments.module, "=", "module")
    names = [name for name, _ in named]
    built_in = [] if arguments.only else [one for one in contestants.built_in() if one[0] not in names]
    modules = [*built_in, *named]
    if arguments.only and not named:
        raise UsageError("--only needs a --module")
    options: dict[str, dict[str, Any]] = {name: {"env": {}} for name, _ in modules}
    if len(options) != len(modules):
        raise UsageError("two modules have one name")
    for option in ("env", "init", "token", "pin_env"):
        for name, value in pairs(getattr(arguments, option), ":", option.replace("_", "-")):
            if name not in options:
                raise UsageError(f"--{option.replace('_', '-')}: no module is named {name}")
            if option == "env":
                options[name]["env"] |= dict(pairs([value], "=", "env"))
            else:
                options[name][option] = value
    found: list[Contestant] = [
        _module(name, path, options[name], directory / str(index), arguments.timeout)
        for index, (name, path) in enumerate(modules)
    ]
    environment = contestants.base_environment(directory)
    found.append(Engine(RAW, contestants.libcrypto(), environment, arguments.timeout))
    if any(case.is_lattice for case in chosen):
        found.append(Library(environment, arguments.timeout))
    for name, path in pairs(arguments.raw, "=", "raw"):
        found.append(Engine(name, path, environment, arguments.timeout))
    if len({one.name for one in found}) != len(found):
        raise UsageError("two contestants have one name")
    return found


def _module(name: str, path: str, options: dict[str, Any], directory: Path, timeout: float) -> Module:
    directory.mkdir()
    environment, init, mode = contestants.known(path, directory)
    if options["env"] or "init" in options:  # who sets it up says where its tokens are
        environment = options["env"]
        init = options.get("init", "" if options["env"] else init)
    label, pin = contestants.LABEL, ""
    if "token" in options:
        mode, label = "named", options["token"]
        variable = options.get("pin_env", "")
        pin = os.environ.get(variable, "")
        if not pin:
            raise UsageError(f"--token {name}:{label} needs --pin-env {name}:VARIABLE with the user PIN")
    environment = {**contestants.base_environment(directory), **environment}
    return Module(
        name, path, environment, timeout, init=init, mode=mode, label=label, pin=pin, directory=directory
    )


def _save(runner: Runner, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what there is so far; a file has it after each case, also of a run that is broken off."""
    document = results.document(runner.contestants, runner.rows, settings, _command(arguments))
    if arguments.json not in (None, "-"):
        file = Path(arguments.json)
        new = file.with_name(file.name + ".new")
        new.write_text(json.dumps(document, indent=1) + "\n")
        new.replace(file)
    return document


def _run_all(runner: Runner, chosen: Sequence[cases.Case], save: Callable[[], Any]) -> None:
    progress = _Progress(len(chosen))
    runner.tell = progress.tell
    for index, case in enumerate(chosen):
        progress.case(index, case.name)
        runner.run(case)
        save()
    progress.end()


class _Progress:
    """A bar where somebody looks at a terminal, else a plain line for each case; on stderr."""

    _WIDTH = 24

    def __init__(self, total: int) -> None:
        self._total, self._index = total, 0
        self._live = sys.stderr.isatty()

    def case(self, index: int, name: str) -> None:
        self._index = index
        if self._live:
            self.tell(name)
        else:
            print(f"[{index + 1}/{self._total}] {name}", file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        if self._live:
            full = self._WIDTH * self._index // self._total
            bar = "█" * full + "░" * (self._WIDTH - full)
            room = max(10, shutil.get_terminal_size().columns - self._WIDTH - 12)
            print(
                f"\r\033[K{bar} {self._index}/{self._total} {text[:room]}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _text(document: dict[str, Any]) -> str:
    found = results.Results(document)
    heads, rows, notes = results.table(found)
    lines = [terminal.table(heads, rows), ""]
    lines += [f"[{number}] {terminal.printable(note)}" for number, note in enumerate(notes, 1)]
    lines.append(
        "microseconds an operation: median ± half the distance of the quartiles; ratios are ours by theirs"
    )
    return "\n".join(lines)


def _command(arguments: argparse.Namespace) -> str:
    """Return the command as a report shows it: without paths and variables of this machine."""
    words = ["ferrohsm", "bench", "run"]
    if arguments.profile is not None:
        words += ["--profile", arguments.profile]
    shown = ("only",) if arguments.profile is not None else ("quick", "full", "only")
    words += [f"--{name}" for name in shown if getattr(arguments, name)]
    for glob in arguments.case:
        words += ["--case", glob]
    for name in ("threads", "rounds", "batch"):
        if getattr(arguments, name) is not None:
            words += [f"--{name}", str(getattr(arguments, name))]
    words += [f"--module={name}=PATH" for name, _ in pairs(arguments.module, "=", "module")]
    words += [f"--raw={name}=PATH" for name, _ in pairs(arguments.raw, "=", "raw")]
    return shlex.join(words)
