"""Measure what it costs to start: listing slots, and initialize-login-sign-finalize, in fresh processes.

Run it with the Python of the environment in which the module is installed:

    python benchmarks/cold_start.py [--rounds 30] [--peer /usr/lib/softhsm/libsofthsm2.so]

The modules take turns (A B A B …), so that a machine that slows down slows both. The table shows medians
and quartiles in milliseconds of wall clock, from before the process is created until it was waited for.
Configurations are the modules' defaults, key derivation included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LABEL, PIN, SO_PIN = "bench", "123456", "12345678"


class Peer:
    """A module with one token that holds one P-256 key pair."""

    def __init__(self, name: str, library: str, environment: dict[str, str]) -> None:
        self.name = name
        self.library = library
        self.environment = environment
        tool = ["pkcs11-tool", "--module", library]
        self.run(*tool, "--slot-index", "0", "--init-token", "--label", LABEL, "--so-pin", SO_PIN)
        so = ["--token-label", LABEL, "--login", "--login-type", "so", "--so-pin", SO_PIN]
        self.run(*tool, *so, "--init-pin", "--new-pin", PIN)
        user = ["--token-label", LABEL, "--login", "--pin", PIN]
        self.run(
            *tool, *user, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "key", "--usage-sign"
        )

    def run(self, *command: str) -> None:
        """Run one program to its end; a failure shows its output."""
        result = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        if result.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{result.stdout.decode()}{result.stderr.decode()}")

    def time(self, *command: str) -> float:
        """Return the milliseconds that one run takes."""
        start = time.perf_counter()
        self.run(*command)
        return (time.perf_counter() - start) * 1000


def installed_module() -> str:
    """Return the path of the module that is installed beside this interpreter."""
    command = Path(sys.executable).with_name("ferrohsm")
    return subprocess.run(
        [command, "paths", "module"], capture_output=True, text=True, check=True
    ).stdout.strip()


def build_host(directory: Path) -> str:
    """Compile the C host and return its path."""
    host = directory / "cold_start"
    include = subprocess.run(
        [Path(sys.executable).with_name("ferrohsm"), "paths", "include"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-I", include, "-o", host, HERE / "cold_start.c", "-ldl"], check=True)
    return str(host)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def main() -> None:
    """Set up both modules, let them take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--peer", default="/usr/lib/softhsm/libsofthsm2.so", help="the module to compare with"
    )
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ferrohsm-cold-start-"))
    try:
        compare(directory, arguments.rounds, arguments.peer)
    finally:
        shutil.rmtree(directory)


def compare(directory: Path, rounds: int, library: str) -> None:
    """Measure with tokens and programs under `directory`."""
    host = build_host(directory)
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory), "LANG": "C.UTF-8"}
    peers = [Peer("FerroHSM", installed_module(), base)]
    if os.path.exists(library):
        (directory / "softhsm").mkdir()
        (directory / "softhsm2.conf").write_text(
            f"directories.tokendir = {directory}/softhsm\nlog.level = ERROR\n"
        )
        environment = {**base, "SOFTHSM2_CONF": str(directory / "softhsm2.conf")}
        peers.append(Peer(Path(library).name.removeprefix("lib").removesuffix(".so"), library, environment))
    cases = {
        "pkcs11-tool -L": lambda peer: ["pkcs11-tool", "--module", peer.library, "-L"],
        "initialize, finalize": lambda peer: [host, peer.library],
        "initialize, login, sign, finalize": lambda peer: [host, peer.library, LABEL, PIN],
    }
    print(
        f"{'milliseconds, median (quartiles)':36}"
        + "".join(f"{peer.name:>26}" for peer in peers)
        + f"{'more':>9}"
    )
    for name, command in cases.items():
        samples: dict[str, list[float]] = {peer.name: [] for peer in peers}
        for peer in peers:
            peer.time(*command(peer))
        for _ in range(rounds):
            for peer in peers:
                samples[peer.name].append(peer.time(*command(peer)))
        results = [quartiles(samples[peer.name]) for peer in peers]
        line = "".join(f"{f'{middle:.1f} ({low:.1f}-{high:.1f})':>26}" for low, middle, high in results)
        more = f"{results[0][1] - results[1][1]:+9.1f}" if len(results) == 2 else ""
        print(f"{name:36}{line}{more}")


if __name__ == "__main__":
    main()
