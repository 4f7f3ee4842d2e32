"""Completion scripts load in their shells and offer what there is."""

from __future__ import annotations

import pytest

from ferrohsm.cli.completion import walk
from ferrohsm.cli.parser import build


def complete(ferrohsm, need, line):
    """Return what bash offers for the last word of `line`."""
    bash = need("bash", package="bash")
    script = f"""
set -u
eval "$('{ferrohsm.program}' completion bash)" || exit
complete -p ferrohsm >/dev/null || exit
COMP_WORDS=({line})
[[ "$1" = " " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_ferrohsm
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    last = " " if line.endswith(" ") else "x"
    return ferrohsm.home.run(bash, "-c", script, "bash", last).stdout.decode().split()


def test_bash_offers_commands(ferrohsm, need):
    offered = complete(ferrohsm, need, "ferrohsm ")
    assert {"token", "object", "key", "paths", "doctor", "demo", "--help", "--version"} <= set(offered)
    assert complete(ferrohsm, need, "ferrohsm to") == ["token"]
    assert set(complete(ferrohsm, need, "ferrohsm token re")) == {"rename", "restore"}
    assert complete(ferrohsm, need, "ferrohsm paths mo") == ["module"]


def test_bash_offers_options_and_choices(ferrohsm, need):
    assert complete(ferrohsm, need, "ferrohsm token init --so-pin-e") == ["--so-pin-env"]
    assert complete(ferrohsm, need, "ferrohsm token init --label x --so-pin-e") == ["--so-pin-env"]
    assert complete(ferrohsm, need, "ferrohsm key generate ed") == ["ed25519", "ed448"]
    assert complete(ferrohsm, need, "ferrohsm key generate ec --curve secp") == ["secp256k1"]
    assert "--pin" not in complete(ferrohsm, need, "ferrohsm object list --p")


def test_bash_offers_files(ferrohsm, need):
    (ferrohsm.home.directory / "some-file").write_text("")
    assert complete(ferrohsm, need, "ferrohsm object import some-") == ["some-file"]
    assert complete(ferrohsm, need, "ferrohsm token init --so-pin-file some-") == ["some-file"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_right_for_its_shell(ferrohsm, need, shell):
    script = ferrohsm("completion", shell).stdout
    assert ferrohsm.json("completion", shell)["script"].rstrip() == script.rstrip()
    ferrohsm.home.run(need(shell, package=shell), "-n", input=script)


def test_every_command_is_in_every_script(ferrohsm):
    nodes = [node for node in walk(build(), ()) if node.words]
    assert ("token", "set-pin") in [node.words for node in nodes]
    for shell in ("bash", "zsh", "fish"):
        script = ferrohsm("completion", shell).stdout
        for node in nodes:
            assert " ".join(node.words) in script
            for option, *_ in node.options:
                assert option in script or f"-l {option[2:]}" in script or f"-s {option[1:]}" in script


FISH = {
    "ferrohsm tok": {"token"},
    "ferrohsm token re": {"rename", "restore"},
    "ferrohsm key generate ed": {"ed25519", "ed448"},
    "ferrohsm key generate ec --curve secp": {"secp256k1"},
    "ferrohsm token init --so-pin-": {"--so-pin-env", "--so-pin-fd", "--so-pin-file"},
    "ferrohsm object import some-": {"some-file"},
}


def test_fish_offers_the_same(ferrohsm, need):
    program = need("fish", package="fish")
    script = ferrohsm("completion", "fish").stdout
    (ferrohsm.home.directory / "some-file").write_text("")
    for line, expected in FISH.items():
        done = ferrohsm.home.run(program, "--no-config", input=f"{script}\ncomplete -C '{line}'\n")
        assert done.stderr == b""
        assert {offer.split("\t")[0] for offer in done.stdout.decode().splitlines()} == expected


def test_zsh_takes_the_script(ferrohsm, need):
    program = need("zsh", package="zsh")
    load = f"""autoload -U compinit && compinit -u -D; eval "$('{ferrohsm.program}' completion zsh)" """
    done = ferrohsm.home.run(program, "-f", "-c", load + "; print $_comps[ferrohsm]")
    assert b"-F _ferrohsm" in done.stdout
    assert done.stderr == b""
