"""The documentation's examples are run as they are printed, and its links lead somewhere."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "docs" / "clients.md"
PROGRAMS = {
    "pkcs11-tool": [("pkcs11-tool", "opensc")],
    "p11tool": [("p11tool", "gnutls-bin"), ("certtool", "gnutls-bin")],
    "OpenSSL": [("openssl", "libengine-pkcs11-openssl")],
    "OpenSSH": [("ssh-agent", "openssh-client")],
    "Java": [("keytool", "openjdk-17-jdk-headless")],
    "NSS": [("certutil", "libnss3-tools")],
    "p11-kit": [("p11-kit", "p11-kit")],
    "Python": [],
}


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return the code blocks (language, source) of each section of a page."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        title = part.partition("\n")[0]
        found[title] = re.findall(r"^```(sh|python)\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL)
    return found


def shell(blocks: list[tuple[str, str]]) -> str:
    """Return a script of the blocks; Python's are given to the interpreter of the tests."""
    lines = []
    for language, source in blocks:
        if language == "python":
            lines += [f"{sys.executable} - <<'END_OF_PYTHON'", source, "END_OF_PYTHON"]
        else:
            lines.append(source)
    return "\n".join(lines)


PAGE = sections(CLIENTS.read_text())
PRELUDE = [block for title in list(PAGE)[:2] for block in PAGE[title]]


def test_every_section_is_known():
    assert set(list(PAGE)[2:]) == set(PROGRAMS)


@pytest.mark.parametrize("title", PROGRAMS)
def test_example(home, need, title):
    if not home.module.ours:
        pytest.skip("the examples ask for the installed module's path")
    need("pkcs11-tool", package="opensc")
    for program, package in PROGRAMS[title]:
        need(program, package=package)
    script = f"set -eu\nexport MODULE\n{shell(PRELUDE)}\n{shell(PAGE[title])}\n"
    path = f"{Path(sys.executable).parent}:{home.environment['PATH']}"
    home.run(shutil.which("bash") or "bash", "-c", script, environment={"PATH": path})


def test_readme(home, need):
    """What the front page shows under "Use"."""
    if not home.module.ours:
        pytest.skip("the examples ask for the installed module's path")
    need("pkcs11-tool", package="opensc")
    use = shell(sections((ROOT / "README.md").read_text())["Use"])
    path = f"{Path(sys.executable).parent}:{home.environment['PATH']}"
    result = home.run(shutil.which("bash") or "bash", "-euc", use, environment={"PATH": path})
    assert b"Private Key Object; EC" in result.stdout


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.name
)
def test_links(page):
    """A relative link names a file that is there, and its fragment a heading of that file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            anchors = {
                re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
            }
            assert fragment in anchors, f"{page.name} links to {target}"
