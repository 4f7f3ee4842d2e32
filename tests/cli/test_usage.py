"""Help, versions, paths, errors: what every command has."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrohsm import __version__
from ferrohsm.cli.parser import build

ROOT = Path(__file__).resolve().parents[2]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


TREE = list(parsers(build()))
LEAVES = [
    parser for parser in TREE if not any(isinstance(a, argparse._SubParsersAction) for a in parser._actions)
]


@pytest.mark.parametrize("parser", TREE, ids=lambda parser: parser.prog)
def test_help_is_whole(parser):
    text = parser.format_help()
    assert parser.description
    assert "==SUPPRESS==" not in text
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(choice.help for choice in action._choices_actions)
            continue
        assert action.help, f"{parser.prog}: {action.option_strings or action.dest} has no help"


@pytest.mark.parametrize("parser", LEAVES, ids=lambda parser: parser.prog)
def test_every_command_speaks_json(parser):
    assert "--json" in parser._option_string_actions


def test_help_of_the_installed_command(ferrohsm):
    text = ferrohsm("--help").stdout
    for word in ("token", "object", "key", "paths", "doctor", "demo", "p11-kit", "examples:", "exit codes:"):
        assert word in text
    assert "--so-pin-file" in ferrohsm("token", "init", "--help").stdout


def test_version(ferrohsm):
    assert ferrohsm("--version").stdout == f"ferrohsm {__version__}\n"
    assert ferrohsm.json("version")["ferrohsm"] == __version__
    assert ferrohsm.json("version")["pkcs11"] == "3.2"


def test_paths_print_the_path_and_nothing_else(ferrohsm, home):
    module = ferrohsm("paths", "module").stdout
    assert module == f"{home.module.path}\n"
    assert Path(module.strip()).is_file()
    assert (Path(ferrohsm("paths", "include").stdout.strip()) / "pkcs11.h").is_file()
    assert ferrohsm("paths", "config").stdout == f"{home.directory / 'ferrohsm.toml'}\n"
    assert ferrohsm("paths", "data").stdout == f"{home.directory / 'tokens'}\n"
    assert ferrohsm.json("paths", "data") == {"data": str(home.directory / "tokens")}


@pytest.mark.parametrize(
    "words",
    [
        ["token", "init", "--label", "x", "--pin", "hunter22"],
        ["token", "init", "--label", "x", "--so-pin=hunter22"],
        ["token", "set-pin", "--new-pin", "hunter22"],
        ["object", "import", "f", "--password", "hunter22"],
        ["object", "list", "--pin=hunter22"],
    ],
)
def test_a_pin_is_no_argument(ferrohsm, words):
    said = ferrohsm.error(*words, code=2)
    assert "can be read by every user" in said
    assert "hunter22" not in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["nonsense"], 2),
        (["token", "init"], 2),
        (["token", "init", "--label", "x" * 33], 2),
        (["key", "generate", "rot13"], 2),
        (["key", "generate", "aes", "--curve", "P-256"], 2),
        (["key", "generate", "rsa", "--bits", "-8"], 2),
        (["object", "delete"], 2),
        (["object", "list", "--id", "xyz"], 2),
        (["object", "list"], 3),
        (["object", "import", "/nonexistent"], 1),
    ],
)
def test_errors_are_one_line(ferrohsm, words, code):
    ferrohsm.error(*words, code=code)


def test_an_unknown_option_names_the_help_of_its_command(ferrohsm):
    said = ferrohsm.error("token", "unlock", "--pin-file", "x", code=2)
    assert said.endswith("unrecognized arguments: --pin-file x; see ferrohsm token unlock --help")


def test_a_time_that_is_none_is_refused(ferrohsm):
    said = ferrohsm.error("audit", "show", "--since", "yesterday", code=2)
    assert "'yesterday' is no time; write 2026-12-31" in said
    from ferrohsm.cli.audit import moment

    assert moment("2026-12-31") == "2026-12-31T00:00:00.000000Z"
    assert moment("2026-12-31 23:59+02:00") == "2026-12-31T21:59:00.000000Z"


def test_errors_as_json(ferrohsm):
    done = ferrohsm("object", "list", "--json", code=3)
    error = json.loads(done.stderr)["error"]
    assert set(error) == {"name", "message", "remedy"}
    assert "ferrohsm token init" in error["remedy"]


def test_an_unexpected_error_says_no_value(ferrohsm, tmp_path):
    """A fault inside the command is one line without the message; the traceback is asked for."""
    script = (
        "import sys; from ferrohsm import cli; from ferrohsm.cli import version; version.platform = None;"
    )
    script += "sys.exit(cli.main(['version']))"
    command = [sys.executable, "-c", script]
    environment = ferrohsm.home.environment
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ferrohsm: unexpected AttributeError at version.py:")
    assert done.stderr.count("\n") == 1
    debug = {**environment, "FERROHSM_DEBUG": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=debug, check=False)
    assert "Traceback" in done.stderr


def test_nobody_to_ask(ferrohsm):
    """Without a terminal and without a source the command says which options there are."""
    program = [ferrohsm.program, "token", "init", "--label", "x"]
    done = subprocess.run(
        program,
        capture_output=True,
        text=True,
        env=ferrohsm.home.environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 1
    assert "--so-pin-file, --so-pin-env or --so-pin-fd" in done.stderr


def test_the_pages_are_up_to_date():
    generator = ROOT / "tools" / "gen_command_docs.py"
    done = subprocess.run([sys.executable, generator, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
