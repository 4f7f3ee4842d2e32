"""Do every mechanism that the installed module and one peer both have, and print what came out as JSON.

exchange.py MODULE PEER DIRECTORY [MECHANISM ...]
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "abi"), str(HERE.parent), str(HERE.parent / "bridge")]

import lattice  # noqa: E402
import openssl  # noqa: E402
import standard_library  # noqa: E402
from cases import Exchange  # noqa: E402
from cryptoki import RefusedError  # noqa: E402
from sides import PEERS, Side, ours  # noqa: E402

from ferrohsm import constants as ck  # noqa: E402
from ferrohsm.mechanisms import ROWS  # noqa: E402

# Every function, by the flags of the two directions.
FUNCTIONS = {
    "encrypt": (ck.CKF_ENCRYPT | ck.CKF_DECRYPT, Exchange.encrypts),
    "sign": (ck.CKF_SIGN | ck.CKF_VERIFY, Exchange.signs),
    "sign recover": (ck.CKF_SIGN_RECOVER | ck.CKF_VERIFY_RECOVER, Exchange.recovers),
    "digest": (ck.CKF_DIGEST, Exchange.digests),
    "generate": (ck.CKF_GENERATE, Exchange.generates),
    "generate pair": (ck.CKF_GENERATE_KEY_PAIR, Exchange.generates_pairs),
    "wrap": (ck.CKF_WRAP | ck.CKF_UNWRAP, Exchange.wraps),
    "derive": (ck.CKF_DERIVE, Exchange.derives),
    "messages": (ck.CKF_MESSAGE_ENCRYPT | ck.CKF_MESSAGE_DECRYPT, Exchange.converses),
}
# What NSS 3.87 does without saying so in the mechanism's flags.
UNTOLD = {
    ("NSS", ck.CKM_AES_GCM): ck.CKF_MESSAGE_ENCRYPT | ck.CKF_MESSAGE_DECRYPT,
    ("NSS", ck.CKM_CHACHA20_POLY1305): ck.CKF_MESSAGE_ENCRYPT | ck.CKF_MESSAGE_DECRYPT,
}


def run(here: Side, peer: Side, wanted: set[str]) -> dict[str, dict[str, str]]:
    """Return for each mechanism that both have and each function of it "good" or what went wrong."""
    exchange = Exchange(here, peer)
    results: dict[str, dict[str, str]] = {}
    for type_, flags in peer.offered.items():
        if type_ not in here.offered or (wanted and ck.name("CKM", type_) not in wanted):
            continue
        result = results[ck.name("CKM", type_)] = {}
        both = here.offered[type_] & (flags | UNTOLD.get((peer.name, type_), 0))
        for name, (needed, work) in FUNCTIONS.items():
            if both & needed != needed:
                continue
            try:
                work(exchange, ROWS[type_])
                result[name] = "good"
            except (AssertionError, RefusedError, LookupError) as error:
                result[name] = f"{type(error).__name__}: {error}"
                here.again()
                peer.again()
    return results


def compute(here: Side, offered: dict[int, Any], wanted: set[str]) -> dict[str, dict[str, str]]:
    """Return the same for a peer that is no module: its cases by mechanism and function."""
    results: dict[str, dict[str, str]] = {}
    for type_, made in offered.items():
        if type_ not in here.offered or (wanted and ck.name("CKM", type_) not in wanted):
            continue
        result = results[ck.name("CKM", type_)] = {}
        for name, work in made.items():
            try:
                work(here, ROWS[type_])
                result[name] = "good"
            except (AssertionError, RefusedError, LookupError, ValueError) as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                result[name] = f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})"
                here.again()
    return results


def main() -> None:
    """Print the results."""
    module, peer, directory = sys.argv[1:4]
    here, wanted = ours(module, Path(directory)), set(sys.argv[4:])
    if peer in PEERS:
        there = PEERS[peer](Path(directory))
        results = run(here, there, wanted)
        there.p11.rv("C_Finalize", None)
        version = there.version
    else:
        computers = {
            "Python": standard_library.offered,
            "OpenSSL": lambda: openssl.offered(Path(directory)),
            "kyber-py": lambda: lattice.offered(kem=True),
            "dilithium-py": lambda: lattice.offered(kem=False),
        }
        results = compute(here, computers[peer](), wanted)
        version = openssl.version(Path(directory)) if peer == "OpenSSL" else ()
    offered = [ck.name("CKM", type_) for type_ in here.offered]
    json.dump({"version": version, "offered": offered, "results": results}, sys.stdout)
    here.p11.rv("C_Finalize", None)


if __name__ == "__main__":
    main()
