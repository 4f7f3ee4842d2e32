"""``ferrohsm completion``: tab completion for bash, zsh and fish, made from the tree of commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from ferrohsm.cli.parser import Nouns, build, verb

_FILES = frozenset({"FILE", "DIRECTORY"})


class Node(NamedTuple):
    """One command: the words that lead to it, its subcommands, options and choices."""

    words: tuple[str, ...]
    children: dict[str, str]
    options: list[tuple[str, str, bool, bool]]  # option, help, takes a value, the value is a file
    choices: dict[str, list[str]]  # option → what it may be
    positional: list[str]  # what may stand without an option
    positional_file: bool


def register(nouns: Nouns) -> None:
    """Add the command."""
    parser = verb(
        nouns,
        "completion",
        "print a script that completes this command in your shell",
        run,
        examples=[
            ('eval "$(ferrohsm completion bash)"', "in ~/.bashrc"),
            ('eval "$(ferrohsm completion zsh)"', "in ~/.zshrc, after compinit"),
            ("ferrohsm completion fish > ~/.config/fish/completions/ferrohsm.fish", "for fish"),
        ],
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def run(arguments: argparse.Namespace) -> None:
    """Print the script (with ``--json`` as text in JSON)."""
    from ferrohsm.cli.terminal import show

    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](list(walk(build(), ())))
    show(arguments, {"shell": arguments.shell, "script": script}, script.rstrip())


def walk(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[Node]:
    """Yield every command of the tree, the root first."""
    node = Node(words, {}, [], {}, [], False)
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            node.children.update({name: texts.get(name, "") for name in action.choices})
            below = dict(action.choices)
        elif action.option_strings:
            if action.help == argparse.SUPPRESS:
                continue
            value = action.nargs != 0
            for option in action.option_strings:
                node.options.append((option, _text(action), value, action.metavar in _FILES))
                if action.choices:
                    node.choices[option] = [str(choice) for choice in action.choices]
        elif action.choices:
            node.positional.extend(str(choice) for choice in action.choices)
        elif action.metavar in _FILES:
            node = node._replace(positional_file=True)
    yield node
    for name, child in below.items():
        yield from walk(child, (*words, name))


def _text(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def _bash(nodes: list[Node]) -> str:
    """One case for each command; the words before the cursor that are no options name it."""
    lines = [
        "_ferrohsm() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" path="" i',
        "  for ((i = 1; i < COMP_CWORD; i++)); do",
        '    case "$path ${COMP_WORDS[i]}" in',
        "      " + "|".join(f'" {" ".join(node.words)}"' for node in nodes if node.words) + ")",
        '        path="$path ${COMP_WORDS[i]}" ;;',
        "    esac",
        "  done",
        "  COMPREPLY=()",
        '  case "$path $previous" in',
    ]
    for node in nodes:
        prefix = "".join(f" {word}" for word in node.words)
        for option, _, value, is_file in node.options:
            if not value:
                continue
            if option in node.choices:
                reply = f'COMPREPLY=($(compgen -W "{" ".join(node.choices[option])}" -- "$word"))'
            else:
                reply = 'COMPREPLY=($(compgen -f -- "$word"))' if is_file else ":"
            lines.append(f'    "{prefix} {option}") {reply}; return ;;')
    lines += ["  esac", '  case "$path" in']
    for node in nodes:
        prefix = "".join(f" {word}" for word in node.words)
        words = [*node.children, *node.positional, *(option for option, *_ in node.options)]
        line = f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word"))'
        if node.positional_file:
            line += '; [[ "$word" == -* ]] || COMPREPLY+=($(compgen -f -- "$word"))'
        lines.append(f'    "{prefix}") {line} ;;')
    lines += ["  esac", "}", "complete -o filenames -F _ferrohsm ferrohsm"]
    return "\n".join(lines) + "\n"


def _zsh(nodes: list[Node]) -> str:
    """Use bash's function through zsh's own emulation, which is part of every zsh."""
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(nodes)


def _fish(nodes: list[Node]) -> str:
    """One line for each word, with the condition that the words before it are there."""
    lines = [
        "function __ferrohsm_at",
        "  set -l words",
        "  for word in (commandline -opc)[2..-1]",
        "    string match -q -- '-*' $word; or set -a words $word",
        "  end",
        "  set -l want (string split -n ' ' -- $argv[1])",
        "  set -l depth (count $want)",
        "  test (count $words) -ge $depth; or return 1",
        "  if test $depth -gt 0",
        "    test (string join ' ' -- $words[1..$depth]) = $argv[1]; or return 1",
        "  end",
        "  test (count $argv) -lt 2; or test (count $words) -eq $depth",
        "end",
        "complete -c ferrohsm -f",
    ]
    for node in nodes:
        path = " ".join(node.words)
        exact = f"complete -c ferrohsm -n \"__ferrohsm_at '{path}' exact\""
        for name, text in node.children.items():
            lines.append(f"{exact} -a {name} -d {_quoted(text)}")
        if node.positional:
            lines.append(f"{exact} -a {_quoted(' '.join(node.positional))}")
        if node.children and node.words:
            continue
        condition = exact if node.children else f"complete -c ferrohsm -n \"__ferrohsm_at '{path}'\""
        if node.positional_file:
            lines.append(f"{condition} -F")
        for option, text, value, is_file in node.options:
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            extra = (" -r" + (" -F" if is_file else "")) if value else ""
            if option in node.choices:
                extra = f" -x -a {_quoted(' '.join(node.choices[option]))}"
            lines.append(f"{condition} {kind}{extra} -d {_quoted(text)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
