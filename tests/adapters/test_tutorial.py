"""The tutorial does what it says: its files are written and its commands run, in its order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from environment import Environment

PAGE = Path(__file__).parents[2] / "docs" / "tutorial-adapter.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)"( append)?)?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def script(page: str) -> str:
    """Return the page's blocks as one program of the shell: files are written, commands are commands."""
    lines = ["set -eu"]
    for number, (language, title, append, source) in enumerate(BLOCK.findall(page)):
        if title:
            end = f"END_OF_BLOCK_{number}"
            lines.append(f"cat {'>>' if append else '>'} '{title}' <<'{end}'\n{source}{end}")
        else:
            assert language == "sh", f"a block of {language} has no title"
            lines.append(source)
    return "\n".join(lines)


def test_the_tutorial(environment: Environment, tmp_path: Path, need: Callable[..., str]) -> None:
    need("pkcs11-tool", package="opensc")
    bash = need("bash", package="bash")
    said = environment.run(tmp_path, bash, "-c", script(PAGE.read_text()))
    assert said.count(" passed") == 2 and " failed" not in said
    assert "Verified OK" in said
    assert "CKR_" not in said
