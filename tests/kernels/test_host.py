"""The kernel table in a C host without Python: plain, under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest
from engine_support import POSTQUANTUM

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "adapters" / "software" / "kernels"
HOSTS = [str(Path(__file__).with_name(name)) for name in ("host.c", "host_postquantum.c")]
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")

BUILDS = {
    "plain": ["-O2"],
    "address": [
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-DFERRO_ARENA_PLAIN",
    ],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
}
MEMORY = (
    "residue",
    "residue_after_fork",
    "arena",
    "lanes",
    "full_pockets_after_fork",
    *(("postquantum_residue",) if POSTQUANTUM else ()),
)
EVERYWHERE = (
    "table",
    "digest",
    "reuse",
    "refusals",
    "pairs",
    "junk",
    "random",
    "threads",
    "thread_ends",
    "fork",
    "postquantum",
)
CASES = [
    *(("plain", name) for name in EVERYWHERE + MEMORY),
    *(("address", name) for name in EVERYWHERE),
    *(("thread", name) for name in ("threads", "thread_ends", "random", "postquantum")),
]


def static_libcrypto() -> tuple[list[str], str]:
    """Return include flags and the libcrypto.a that the kernels are built with."""
    prefix = os.environ.get("FERROHSM_OPENSSL")
    if prefix:
        library = next(Path(prefix, folder, "libcrypto.a") for folder in ("lib64", "lib"))
        return ["-I" + str(Path(prefix, "include"))], str(library)
    return [], "-l:libcrypto.a"


def needed_libraries() -> list[str]:
    """Return what the system's libcrypto.a needs besides: Debian 13's compresses."""
    if os.environ.get("FERROHSM_OPENSSL"):
        return []
    found = subprocess.run(
        [*COMPILER, "-print-file-name=libcrypto.a"], capture_output=True, text=True, check=True
    ).stdout.strip()
    facts = Path(found).parent / "pkgconfig" / "libcrypto.pc"
    text = facts.read_text() if facts.exists() else ""
    return [library for library in ("-lz", "-lzstd") if f"{library} " in text]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Compile the host once for each way of looking at it."""
    folder = tmp_path_factory.mktemp("kernels")
    include, library = static_libcrypto()
    sources = [str(path) for path in sorted(KERNELS.glob("*.c")) if path.name != "_kernels.c"]
    made = {}
    for name, flags in BUILDS.items():
        made[name] = folder / name
        command = [*COMPILER, "-std=gnu11", "-Wall", "-Wextra", "-Werror", *flags, *include]
        command += ["-I" + str(path) for path in (Path(__file__).parent, KERNELS, ROOT / "include")]
        command += ["-o", str(made[name]), *HOSTS, *sources, library]
        subprocess.run([*command, *needed_libraries(), "-lpthread", "-ldl"], check=True)
    return made


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_host(build: dict[str, Path], kind: str, name: str) -> None:
    done = subprocess.run([build[kind], name], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""


def test_no_test_is_left_out(build: dict[str, Path]) -> None:
    names = subprocess.run([build["plain"]], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(names) == sorted(EVERYWHERE + MEMORY)


def test_a_broken_promise_is_noticed(build: dict[str, Path]) -> None:
    """The host's checks can fail: an unknown test is one."""
    assert subprocess.run([build["plain"], "nothing"], capture_output=True).returncode == 2


def test_the_header_stands_alone_in_c_and_cplusplus(tmp_path: Path) -> None:
    source = tmp_path / "alone.c"
    source.write_text('#include "ferrohsm_kernel.h"\nint main(void) { return sizeof(ferro_kernel) == 0; }\n')
    for language in ("c", "c++"):
        command = [*COMPILER, "-x", language, "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        subprocess.run([*command, "-I" + str(ROOT / "include"), str(source)], check=True)
