"""``ferrohsm object export``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Value
from ferrohsm.attribute_kinds import ulong
from ferrohsm.cli import pins, view
from ferrohsm.cli.parser import Nouns, choose_token, verb
from ferrohsm.cli.terminal import CommandError, UsageError, show
from ferrohsm.errors import KeyUnextractable
from ferrohsm.parameters import Mechanism

if TYPE_CHECKING:
    from ferrohsm.cli.service import Work

_FORMATS = {
    "certificate": ("pem", "der"),
    "public": ("pem", "der", "openssh"),
    "private": ("pem", "der", "pkcs12", "openssh"),
    "secret": ("raw", "hex"),
    "data": ("raw", "hex"),
}
_ALL_FORMATS = ("pem", "der", "pkcs12", "openssh", "raw", "hex")


def register(verbs: Nouns) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "export",
        "write a key or a certificate to a file",
        run_export,
        more="Only a key that was made or imported with --extractable can be exported. Private keys are\n"
        "written encrypted (PKCS#8 or PKCS#12) unless --plain is said; secret keys need --plain.",
        examples=[
            ("ferrohsm object export --label web --class public", "the public key as PEM on the screen"),
            ("ferrohsm object export --label web --class private --out web.key", "PKCS#8, encrypted"),
            (
                "ferrohsm object export --label web --class private --format pkcs12 --out web.p12",
                "with certificate",
            ),
        ],
    )
    view.add_filter(parser)
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        choices=_ALL_FORMATS,
        help=f"one of {', '.join(_ALL_FORMATS)} (default: pem; raw for secret keys)",
    )
    parser.add_argument("--out", "--output", metavar="FILE", help="where; - is standard output")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.add_argument("--plain", action="store_true", help="write a private or secret key unencrypted")
    choose_token(parser)
    parser.add_argument("--public", action="store_true", help="don't log in; private objects stay unseen")
    pins.add(parser, "pin", "user PIN")
    pins.add(parser, "password", "password for the file")


def run_export(arguments: argparse.Namespace) -> None:
    """Write one object."""
    from ferrohsm.cli.service import work

    with work(arguments) as opened:
        oid = view.one(opened, arguments)
        shape = view.describe(opened, oid)
        chosen = _format(arguments, shape)
        if shape["class"] in ("private", "secret"):
            _check_secret(arguments, shape)
            data = _secret(opened, arguments, oid, shape, chosen)
        else:
            data = _public(opened, oid, shape, chosen)
    try:
        _write(arguments, data)
    finally:
        data[:] = bytes(len(data))
    if arguments.out not in (None, "-"):
        result = {"object": oid, "format": chosen, "file": arguments.out}
        show(arguments, result, f"object {oid} is in {arguments.out}")


def _format(arguments: argparse.Namespace, shape: dict[str, Any]) -> str:
    formats = _FORMATS.get(shape["class"])
    if formats is None:
        raise CommandError(f"an object of class {shape['class']} cannot be exported")
    chosen = arguments.format or formats[0]
    if chosen not in formats:
        raise UsageError(
            f"--format {chosen} cannot hold a {shape['class']} object", "it can be " + ", ".join(formats)
        )
    return str(chosen)


def _check_secret(arguments: argparse.Namespace, shape: dict[str, Any]) -> None:
    if not shape["extractable"]:
        raise KeyUnextractable(
            f"object {shape['object']} is not extractable: it was made to stay in the token"
        )
    if arguments.out is None:
        raise UsageError("a private or secret key is not written to the screen", "say --out FILE")
    if shape["class"] == "secret" and not arguments.plain:
        raise UsageError("a secret key can only be written unencrypted", "say --plain if that is meant")
    if arguments.plain and pins.given(arguments, "password"):
        raise UsageError("--plain and a password contradict each other")


def _public(opened: Work, oid: int, shape: dict[str, Any], chosen: str) -> bytearray:
    """Return a certificate, a public key or data."""
    attribute = ck.CKA_PUBLIC_KEY_INFO if shape["class"] == "public" else ck.CKA_VALUE
    if shape["class"] == "public":
        from ferrohsm.cli.formats import public_info

        value = public_info(lambda attribute: opened.value(oid, attribute))
    else:
        value = opened.value(oid, attribute)
    if not value:
        raise CommandError(f"object {oid} has no {ck.name('CKA', attribute)}")
    if shape["class"] == "data":
        return bytearray(value if chosen == "raw" else value.hex().encode() + b"\n")
    if chosen == "der":
        return bytearray(value)
    from cryptography.hazmat.primitives import serialization

    if shape["class"] == "public":
        key = serialization.load_der_public_key(value)
        if chosen == "openssh":
            form = serialization.PublicFormat.OpenSSH
            line = key.public_bytes(serialization.Encoding.OpenSSH, form)
            return bytearray(line + b" " + shape["label"].replace("\n", " ").encode() + b"\n")
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return bytearray(key.public_bytes(serialization.Encoding.PEM, form))
    from cryptography import x509

    return bytearray(x509.load_der_x509_certificate(value).public_bytes(serialization.Encoding.PEM))


def _secret(
    opened: Work, arguments: argparse.Namespace, oid: int, shape: dict[str, Any], chosen: str
) -> bytearray:
    """Return a private or secret key in the form asked for."""
    value = _value(opened, oid)
    try:
        if shape["class"] == "secret":
            return value[:] if chosen == "raw" else bytearray(value.hex().encode() + b"\n")
        if arguments.plain:
            return _serialize(opened, shape, chosen, value, None)
        with pins.secret(arguments, "password", "New password for the file", new=True) as password:
            return _serialize(opened, shape, chosen, value, bytes(password))
    finally:
        value[:] = bytes(len(value))


def _value(opened: Work, oid: int) -> bytearray:
    """Take a key out as the specification has it: wrapped, with a key of this session that only we know.

    A key that may be wrapped by trusted keys only is refused here as anywhere.
    """
    from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding

    value = bytearray(os.urandom(32))
    template: list[tuple[int, Value]] = [
        (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)),
        (ck.CKA_TOKEN, b"\x00"),
        (ck.CKA_PRIVATE, b"\x00"),
        (ck.CKA_WRAP, b"\x01"),
        (ck.CKA_VALUE, value[:]),
    ]
    core, session = opened.core, opened.session
    wrapping = opened.run(core.create_object(session, template))
    try:
        mechanism = Mechanism(ck.CKM_AES_KEY_WRAP_KWP)
        wrapped = opened.run(core.wrap_key(session, mechanism, wrapping, oid, None))
        return bytearray(aes_key_unwrap_with_padding(bytes(value), bytes(wrapped)))
    finally:
        value[:] = bytes(len(value))
        opened.run(core.destroy_object(session, wrapping))


def _serialize(
    opened: Work, shape: dict[str, Any], chosen: str, value: bytearray, password: bytes | None
) -> bytearray:
    """Turn PKCS#8 into the form asked for, encrypted unless there is no password."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_der_private_key(bytes(value), None)
    cipher: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        cipher = serialization.BestAvailableEncryption(password)
    if chosen == "pkcs12":
        from cryptography.hazmat.primitives.serialization import pkcs12

        certificate = _certificate(opened, shape)
        return bytearray(
            pkcs12.serialize_key_and_certificates(shape["label"].encode(), key, certificate, None, cipher)
        )
    encoding = serialization.Encoding.DER if chosen == "der" else serialization.Encoding.PEM
    form = serialization.PrivateFormat.OpenSSH if chosen == "openssh" else serialization.PrivateFormat.PKCS8
    try:
        return bytearray(key.private_bytes(encoding, form, cipher))
    except (UnsupportedAlgorithm, ValueError) as error:
        raise CommandError(f"this key cannot be written as {chosen}: {error}") from None


def _certificate(opened: Work, shape: dict[str, Any]) -> Any:
    """Return the certificate that has the key's id, None when there is none."""
    from cryptography import x509

    if not shape["id"]:
        return None
    wanted = [(ck.CKA_CLASS, ulong(ck.CKO_CERTIFICATE)), (ck.CKA_ID, bytes.fromhex(shape["id"]))]
    found = view.search(opened, wanted)
    return x509.load_der_x509_certificate(opened.value(found[0], ck.CKA_VALUE)) if found else None


def _write(arguments: argparse.Namespace, data: bytearray) -> None:
    """Write to a new file that only its owner can read, or to standard output."""
    if arguments.out in (None, "-"):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if not arguments.force:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(arguments.out, flags, 0o600)
        except FileExistsError:
            raise CommandError(f"{arguments.out} is there already", "--force replaces it") from None
        try:
            _fill(descriptor, data)
        except BaseException:
            os.unlink(arguments.out)  # made here, and a part of a key is of no use to its owner
            raise
        return
    temporary = f"{arguments.out}.{os.getpid()}"
    try:
        _fill(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), data)
        os.replace(temporary, arguments.out)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _fill(descriptor: int, data: bytearray) -> None:
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
