"""``ferrohsm object import``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ferrohsm import constants as ck
from ferrohsm.adapters import Value
from ferrohsm.attribute_kinds import number
from ferrohsm.cli import key, pins, view
from ferrohsm.cli.parser import Nouns, choose_token, verb
from ferrohsm.cli.terminal import CommandError, UsageError, show

if TYPE_CHECKING:
    from ferrohsm.cli.formats import Material

_SECRETS = ("aes", "generic", *(f"{name}-hmac" for name in ("sha1", "sha224", "sha256", "sha384", "sha512")))
_LARGEST = 16 << 20  # bytes; no key and no bundle of certificates is larger


def register(verbs: Nouns) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "import",
        "bring a key or certificates in from a file",
        run_import,
        more="PEM, DER, PKCS#8 (encrypted or not), PKCS#12, OpenSSH keys and X.509 certificates are\n"
        "recognized; --type says that the file is a raw secret. A private key brings its public half.",
        examples=[
            (
                "ferrohsm object import server.pem --label web",
                "a key, with its certificates if they are there",
            ),
            ("ferrohsm object import bundle.p12 --password-file pw", "PKCS#12"),
            ("ferrohsm object import kek.bin --type aes --label kek --use wrap,unwrap", "a raw AES key"),
        ],
    )
    parser.add_argument("file", metavar="FILE", help="the file; - is standard input")
    parser.add_argument(
        "--type", metavar="TYPE", choices=_SECRETS, help=f"the file is a raw secret: {', '.join(_SECRETS)}"
    )
    parser.add_argument("--hex", action="store_true", help="with --type: the file is hexadecimal")
    parser.add_argument(
        "--label", default="", help="the label (default: the file's own, or a certificate's name)"
    )
    parser.add_argument(
        "--id", type=view.hexadecimal, metavar="HEX", help="CKA_ID (default: made from the key)"
    )
    parser.add_argument("--no-public", action="store_true", help="leave out the public half")
    key.add_rights(parser)
    choose_token(parser)
    pins.add(parser, "pin", "user PIN")
    pins.add(parser, "password", "password of the file")


def run_import(arguments: argparse.Namespace) -> None:
    """Bring in everything that the file holds; when one part is refused, what was made goes again."""
    from ferrohsm.cli.service import work

    if arguments.hex and not arguments.type:
        raise UsageError("--hex says nothing without --type")
    materials = _materials(arguments)
    try:
        with work(arguments, read_write=True) as opened:
            made: list[int] = []
            try:
                for template in _templates(arguments, materials):
                    made.append(opened.run(opened.core.create_object(opened.session, template)))
            except BaseException:
                for oid in made:
                    opened.run(opened.core.destroy_object(opened.session, oid))
                raise
            shapes = view.describe_all(opened, made)
    finally:
        _wipe(materials)
    show(arguments, {"objects": shapes}, view.lines(shapes))


def _materials(arguments: argparse.Namespace) -> list[Material]:
    from ferrohsm.cli import formats

    if arguments.file == "-":
        data = bytearray(sys.stdin.buffer.read(_LARGEST + 1))
    else:
        with open(arguments.file, "rb") as file:
            data = bytearray(file.read(_LARGEST + 1))
    try:
        if len(data) > _LARGEST:
            raise CommandError(f"{arguments.file} is larger than a key or a certificate can be")
        if not arguments.type:
            return formats.read(bytes(data), lambda: _password(arguments))
        if arguments.hex:
            try:
                value = bytearray.fromhex(data.decode("ascii"))
            except ValueError:
                raise CommandError(f"{arguments.file} is not hexadecimal") from None
        else:
            value = data[:]
        return [formats.secret(value, formats.SECRET_TYPES[arguments.type])]
    finally:
        data[:] = bytes(len(data))


def _password(arguments: argparse.Namespace) -> bytes:
    with pins.secret(arguments, "password", "Password of the file") as password:
        return bytes(password)


def _wipe(materials: list[Material]) -> None:
    for material in materials:
        for value in material.attributes.values():
            if isinstance(value, bytearray):
                value[:] = bytes(len(value))


def _templates(arguments: argparse.Namespace, materials: list[Material]) -> list[list[tuple[int, Value]]]:
    """Return the template of each object, private keys followed by their public halves."""
    templates = []
    for material in materials:
        if material.kind == "public" and arguments.no_public:
            continue
        uses = arguments.use or key.default_uses(_kind(material))
        own: list[tuple[int, Value]] = [(ck.CKA_TOKEN, b"\x01")]
        if material.kind == "secret":
            own = key.rights(arguments, uses)
        elif material.kind == "private":
            own = key.private_rights(arguments, uses)
        elif material.kind == "public":
            own = key.public_rights(arguments, uses)
        own = [pair for pair in own if pair[0] != ck.CKA_LABEL]
        label = arguments.label or material.label
        if label:
            own.append((ck.CKA_LABEL, label.encode()))
        identity = arguments.id or material.id
        if identity:
            own.append((ck.CKA_ID, identity))
        templates.append([*material.attributes.items(), *own])
    return templates


_KINDS = {
    ck.CKK_RSA: "rsa",
    ck.CKK_EC: "ec",
    ck.CKK_EC_EDWARDS: "ed25519",
    ck.CKK_EC_MONTGOMERY: "x25519",
    ck.CKK_AES: "aes",
    ck.CKK_GENERIC_SECRET: "generic",
}


def _kind(material: Material) -> str:
    """Return the type of `ferrohsm key generate` that would make such a key."""
    key_type = material.attributes.get(ck.CKA_KEY_TYPE)
    return "rsa" if key_type is None else _KINDS.get(number(key_type), "hmac")
