"""``ferrohsm demo``: a token, a key, a signature by another program, a check by a third; then all is gone."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import tempfile
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.cli.parser import Nouns, verb
from ferrohsm.cli.terminal import CommandError, show
from ferrohsm.parameters import Mechanism

_TIMEOUT = 60  # seconds


def register(nouns: Nouns) -> None:
    """Add the command."""
    verb(
        nouns,
        "demo",
        "make a token and a key, sign with a PKCS#11 program, check the signature, clean up",
        run,
        more="Everything happens in a temporary directory: your tokens and configuration are not touched.\n"
        "The signature is made by pkcs11-tool through the module when it is installed (Debian: opensc),\n"
        "else by this command itself.",
    )


class _Story:
    """Says each step as it is done, and remembers it for ``--json``."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._quiet = arguments.json
        self.steps: list[dict[str, str]] = []

    def tell(self, step: str, detail: str) -> None:
        self.steps.append({"step": step, "detail": detail})
        if not self._quiet:
            print(f"{step:10} {detail}", flush=True)


def run(arguments: argparse.Namespace) -> None:
    """Tell the story."""
    story = _Story(arguments)
    with tempfile.TemporaryDirectory(prefix="ferrohsm-demo-") as folder:
        path = os.path.join(folder, "ferrohsm.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write('data_dir = "data"\n')
        os.environ["FERROHSM_CONF"] = path
        pin = secrets.token_hex(8)
        message = os.path.join(folder, "message")
        with open(message, "wb") as file:
            file.write(b"signed inside a token\n")
        public = os.path.join(folder, "public.pem")
        signature = os.path.join(folder, "signature")
        slot = _make(story, pin, public)
        if not _sign_with_client(story, slot, pin, message, signature):
            _sign_here(story, pin, message, signature)
        _check(story, public, message, signature)
    story.tell("clean up", "the token is gone")
    show(arguments, {"steps": story.steps, "verified": True}, "")


def _make(story: _Story, pin: str, public: str) -> int:
    """Make token and key pair; write the public key."""
    from cryptography.hazmat.primitives import serialization

    from ferrohsm.cli import token, view
    from ferrohsm.cli.service import Work, service

    with service() as opened:
        made = token.initialize(
            opened, opened.free(), "demo", bytearray(secrets.token_hex(8).encode()), _bytes(pin)
        )
        story.tell("token", f"label demo, slot {made.slot}, serial {made.serial}")
        with opened.session(made.slot, read_write=True) as session:
            opened.login(made.slot, session, ck.CKU_USER, _bytes(pin))
            work = Work(opened, made, session)
            curve = bytes.fromhex(view.CURVES["P-256"])
            common = [(ck.CKA_TOKEN, b"\x01"), (ck.CKA_LABEL, b"demo"), (ck.CKA_ID, b"\x01")]
            pair = work.run(
                work.core.generate_key_pair(
                    session,
                    Mechanism(ck.CKM_EC_KEY_PAIR_GEN),
                    [*common, (ck.CKA_EC_PARAMS, curve), (ck.CKA_VERIFY, b"\x01")],
                    [*common, (ck.CKA_PRIVATE, b"\x01"), (ck.CKA_SENSITIVE, b"\x01"), (ck.CKA_SIGN, b"\x01")],
                )
            )
            story.tell("key", "EC P-256, made inside the token, not extractable")
            info = work.value(pair[0], ck.CKA_PUBLIC_KEY_INFO)
    pem = serialization.load_der_public_key(info).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with open(public, "wb") as file:
        file.write(pem)
    return made.slot


def _bytes(pin: str) -> bytearray:
    return bytearray(pin.encode())


def _sign_with_client(story: _Story, slot: int, pin: str, message: str, signature: str) -> bool:
    """Sign with pkcs11-tool, a program that knows PKCS#11 and nothing of us; False when there is none."""
    from ferrohsm import paths

    program = shutil.which("pkcs11-tool")
    if program is None:
        return False
    module = str(paths.module())
    command = [program, "--module", module, "--slot", str(slot), "--login", "--pin", "env:FERROHSM_DEMO_PIN"]
    command += ["--sign", "--mechanism", "ECDSA-SHA256", "--signature-format", "openssl", "--id", "01"]
    command += ["--input-file", message, "--output-file", signature]
    _call(command, {"FERROHSM_DEMO_PIN": pin})
    story.tell("sign", f"ECDSA-SHA256 by {program} through {module}")
    return True


def _sign_here(story: _Story, pin: str, message: str, signature: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    from ferrohsm.adapters import Function
    from ferrohsm.cli.service import service

    with service() as opened:
        (made,) = [view for view in opened.tokens() if view.label == "demo"]
        with opened.session(made.slot) as session:
            opened.login(made.slot, session, ck.CKU_USER, _bytes(pin))
            cursor = opened.run(made.slot, opened.core.find(session, [(ck.CKA_SIGN, b"\x01")]))
            (oid,) = opened.run(made.slot, cursor.take(1))
            cursor.close()
            mechanism = Mechanism(ck.CKM_ECDSA_SHA256)
            operation: Any = opened.run(made.slot, opened.core.begin(session, Function.SIGN, mechanism, oid))
            with open(message, "rb") as file:
                raw = bytes(opened.run(made.slot, operation.once(memoryview(file.read()))))
    half = len(raw) // 2
    with open(signature, "wb") as file:
        file.write(encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")))
    story.tell("sign", "ECDSA-SHA256 by this command (install opensc to see pkcs11-tool do it)")


def _check(story: _Story, public: str, message: str, signature: str) -> None:
    """Verify with the openssl program, or with `cryptography` where there is none."""
    program = shutil.which("openssl")
    if program is not None:
        _call([program, "dgst", "-sha256", "-verify", public, "-signature", signature, message], {})
        story.tell("verify", f"the signature is good, says {program}")
        return
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    with open(public, "rb") as key_file, open(message, "rb") as text, open(signature, "rb") as signed:
        key: Any = serialization.load_pem_public_key(key_file.read())
        try:
            key.verify(signed.read(), text.read(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise CommandError("the signature is wrong") from None
    story.tell("verify", "the signature is good, says the cryptography package")


def _call(command: list[str], more: dict[str, str]) -> None:
    name = os.path.basename(command[0])
    try:
        ran = subprocess.run(
            command, env={**os.environ, **more}, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"{name} had no answer within {_TIMEOUT} seconds", "ferrohsm doctor") from None
    if ran.returncode:
        said = " ".join((ran.stderr or ran.stdout).split())
        raise CommandError(f"{name}: {said}", "ferrohsm doctor says what is missing")
