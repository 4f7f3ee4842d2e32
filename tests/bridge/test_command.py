"""Our command on a token of SoftHSM's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bridge_support import PIN, Backend


def test_a_key_pair_is_made_named_and_taken_out(backend: Backend) -> None:
    backend.token("other")
    program = Path(sys.executable).with_name("ferrohsm")
    backend.environment["PIN"] = PIN
    choose = ("--token", "other", "--pin-env", "PIN")
    made = json.loads(backend.run(program, "key", "generate", "ec", "--label", "k", *choose, "--json").stdout)
    assert made["public"]["id"] == made["private"]["id"] and len(made["public"]["id"]) == 40
    file = backend.directory / "public.pem"
    backend.run(program, "object", "export", "--class", "public", "--label", "k", "--output", file, *choose)
    shown = backend.run("openssl", "pkey", "-pubin", "-in", file, "-noout", "-text").stdout
    assert "prime256v1" in shown
