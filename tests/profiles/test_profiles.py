"""The OASIS profiles' mandatory test cases, against a token that is set up as each of them assumes."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import initialize_token
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptoki import PIN, Cryptoki
from profile_runner import Runner, attribute_value

from ferrohsm import constants as ck

CASES = Path(__file__).parent / "oasis"
TOKEN = (ck.CKA_TOKEN, True)
Prepare = Callable[[Callable[[Cryptoki, int], None]], Cryptoki]


@pytest.fixture
def prepare(module_path: Path, tmp_path: Path) -> Iterator[Prepare]:
    """Make a token with objects; the library is finalized again when the case begins."""
    before = os.environ.get("FERROHSM_CONF")
    (tmp_path / "ferrohsm.toml").write_text(
        f'data_dir = "{tmp_path}"\nfree_slot = true\n[kdf]\nmemory_kib = 7168\npasses = 1\n'
    )
    os.environ["FERROHSM_CONF"] = str(tmp_path / "ferrohsm.toml")
    library = Cryptoki(str(module_path))

    def made(fill: Callable[[Cryptoki, int], None]) -> Cryptoki:
        library("C_Initialize", None)
        slot = library.slots()[0]
        initialize_token(library, slot, b"token1")
        session = library.open(slot)
        library.login(session)
        fill(library, session)
        library("C_Finalize", None)
        return library

    yield made
    library.rv("C_Finalize", None)
    os.environ.pop("FERROHSM_CONF")
    if before is not None:
        os.environ["FERROHSM_CONF"] = before


def some_object(p11: Cryptoki, session: int) -> None:
    p11.data_object(session, TOKEN, (ck.CKA_LABEL, b"anything"))


@pytest.mark.parametrize("case", ["BL-M-1-32", "EXT-M-1-32"])
def test_baseline_and_extended(prepare: Prepare, case: str) -> None:
    runner = Runner(prepare(some_object), {"Pin": PIN})
    runner.run(CASES / f"{case}.xml")
    assert runner.calls > 10


def test_authentication_token(prepare: Prepare) -> None:
    """The signature is checked with the public key that the token shows."""
    modulus: list[bytes] = []

    def fill(p11: Cryptoki, session: int) -> None:
        public = [(ck.CKA_MODULUS_BITS, 2048), TOKEN, (ck.CKA_LABEL, b"testrsa-pub"), (ck.CKA_VERIFY, True)]
        private = [TOKEN, (ck.CKA_LABEL, b"testrsa-pri"), (ck.CKA_SIGN, True)]
        handle, _ = p11.key_pair(session, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, public, private)
        modulus.append(p11.get(session, handle, ck.CKA_MODULUS))

    p11 = prepare(fill)
    runner = Runner(p11, {"Pin": PIN, "MODULUS": modulus[0]})
    runner.run(CASES / "AUTH-M-1-32.xml")
    key = RSAPublicNumbers(65537, int.from_bytes(modulus[0], "big")).public_key()
    key.verify(runner.names["Signature"], runner.names["Data"], padding.PKCS1v15(), hashes.SHA256())


def test_public_certificates(prepare: Prepare) -> None:
    certificate = next(
        attribute_value(part)
        for part in ElementTree.parse(CASES / "CERT-M-1-32.xml").iter("Attribute")
        if part.attrib["type"] == "VALUE" and "value" in part.attrib
    )
    assert certificate is not None
    labels = (b"Mozilla Builtin Roots\0", b"a root", b"one", b"two", b"three")

    def fill(p11: Cryptoki, session: int) -> None:
        p11.data_object(session, TOKEN, (ck.CKA_PRIVATE, False), (ck.CKA_LABEL, labels[0]))
        for label in labels[1:]:
            pairs: list[tuple[int, Any]] = [
                (ck.CKA_CLASS, ck.CKO_CERTIFICATE), (ck.CKA_CERTIFICATE_TYPE, ck.CKC_X_509), TOKEN,
                (ck.CKA_LABEL, label), (ck.CKA_SUBJECT, b"0\0"), (ck.CKA_VALUE, certificate),
            ]  # fmt: skip
            p11.create(session, *pairs)

    runner = Runner(prepare(fill), {"Pin": PIN}, objects=labels)
    runner.run(CASES / "CERT-M-1-32.xml")


def test_a_wrong_answer_is_noticed(prepare: Prepare, tmp_path: Path) -> None:
    p11 = prepare(some_object)
    text = (CASES / "EXT-M-1-32.xml").read_text()
    for right, wrong in (
        ('<C_Login rv="OK"/>', '<C_Login rv="PIN_INCORRECT"/>'),
        ('<Type value="SHA512"/>\n      <Type', '<Type value="KEA_DERIVE"/>\n      <Type'),
        ('<MaxPinLen value="255"/>', '<MaxPinLen value="254"/>'),
        ('<CryptokiVersion major="3" minor="2"/>', '<CryptokiVersion major="2" minor="40"/>'),
    ):
        assert right in text
        (tmp_path / "wrong.xml").write_text(text.replace(right, wrong, 1))
        with pytest.raises(AssertionError):
            Runner(p11, {"Pin": PIN}).run(tmp_path / "wrong.xml")
        p11.rv("C_Finalize", None)
