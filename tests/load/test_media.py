"""A read-only medium and a full one, through the installed module. Mounting needs root; CI has it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conftest import Home, Token, make_token

# Makes data objects until the disk is full; prints how many were acknowledged and what then was returned.
FILLING = """\
import sys
import PyKCS11
from PyKCS11 import LowLevel as ck

library = PyKCS11.PyKCS11Lib()
library.load(sys.argv[1])
for slot in library.getSlotList(tokenPresent=True):
    if library.getTokenInfo(slot).label.strip() == sys.argv[2]:
        break
session = library.openSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION)
session.login(sys.argv[3])
made = 0
try:
    while made < 2000:
        session.createObject([(ck.CKA_CLASS, ck.CKO_DATA), (ck.CKA_TOKEN, True),
            (ck.CKA_LABEL, f"object {made}"), (ck.CKA_VALUE, bytes(4096))])
        made += 1
except PyKCS11.PyKCS11Error as error:
    print(error.value)
found = session.findObjects([(ck.CKA_CLASS, ck.CKO_DATA)])
labels = {session.getAttributeValue(handle, [ck.CKA_LABEL])[0] for handle in found}
assert labels == {f"object {number}" for number in range(made)}, len(labels)
print(made)
"""


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str, Path], None]]:
    """Mount a tmpfs with the given options at a directory; call again with ``remount,…`` to change it."""
    places: list[Path] = []

    def make(options: str, place: Path) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            if not os.environ.get("CI"):
                pytest.skip(f"cannot mount here: {result.stderr.strip()}")
            pytest.fail(f"cannot mount: {result.stderr.strip()}", pytrace=False)
        if not options.startswith("remount"):
            places.append(place)

    yield make
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def mounted(home: Home, mount: Callable[[str, Path], None]) -> tuple[Token, Path]:
    """A token with a key on a file system of 2 MiB of its own."""
    place = home.directory / "tokens"
    mount("size=2m,mode=700", place)
    token = make_token(home)
    token.pkcs11_tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "signer", "--id", "01")
    return token, place


def test_a_read_only_token_lists_logs_in_and_signs(
    mounted: tuple[Token, Path], mount: Callable[[str, Path], None]
) -> None:
    token, place = mounted
    with (token.directory / "ferrohsm.toml").open("a") as file:
        file.write('\n[audit]\non_failure = "open"\n')
    mount("remount,ro", place)
    message = token.directory / "message"
    signature = token.directory / "signature"
    message.write_bytes(b"on a read-only medium")
    assert (
        "readonly"
        in token.run("pkcs11-tool", "--module", token.module.path, "--list-token-slots").stdout.decode()
    )
    assert "signer" in token.pkcs11_tool("--list-objects")
    sign = ["--sign", "--mechanism", "ECDSA-SHA256", "--id", "01", "--signature-format", "openssl"]
    token.pkcs11_tool(*sign, "--input-file", message, "--output-file", signature)
    # Not by --read-object: OpenSC 0.23 hands OpenSSL memory that it has freed, and fails now and then.
    (point,) = re.findall(r"EC_POINT:\s+0441([0-9a-f]{130})", token.pkcs11_tool("--list-objects"))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(point))
    key.verify(signature.read_bytes(), message.read_bytes(), ec.ECDSA(hashes.SHA256()))
    refused = token.pkcs11_tool("--keygen", "--key-type", "AES:32", check=False)
    assert "CKR_TOKEN_WRITE_PROTECTED" in refused


def test_a_full_disk_says_so_and_loses_nothing(mounted: tuple[Token, Path]) -> None:
    token, place = mounted
    command = [sys.executable, "-c", FILLING, token.module.path, token.label, token.pin]
    code, made = token.run(*command).stdout.split()
    assert int(code) == 0x31, "CKR_DEVICE_MEMORY"
    assert int(made) > 20
    assert shutil.disk_usage(place).free < 256 * 1024
