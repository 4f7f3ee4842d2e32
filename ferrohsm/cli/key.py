"""``ferrohsm key generate``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Value
from ferrohsm.attribute_kinds import ulong
from ferrohsm.cli import pins, view
from ferrohsm.cli.parser import Nouns, choose_token, noun, verb
from ferrohsm.cli.terminal import Progress, UsageError, show
from ferrohsm.parameters import Mechanism

_EC_CURVES = ("P-256", "P-384", "P-521", "secp256k1", *(c for c in view.CURVES if c.startswith("brain")))
_HASHES = ("sha1", "sha224", "sha256", "sha384", "sha512")
_TYPES = ("rsa", "ec", "ed25519", "ed448", "x25519", "x448", "aes", "generic", "hmac")
_USES: dict[str, tuple[str, ...]] = {
    "rsa": ("sign", "decrypt"),
    "ec": ("sign", "derive"),
    "ed25519": ("sign",),
    "ed448": ("sign",),
    "x25519": ("derive",),
    "x448": ("derive",),
    "aes": ("encrypt", "decrypt"),
    "generic": ("sign", "verify", "derive"),
    "hmac": ("sign", "verify"),
}
_OTHER_HALF = {"sign": "verify", "decrypt": "encrypt", "unwrap": "wrap"}
_RSA_BITS, _AES_BITS, _GENERIC_BITS = 3072, 256, 256

Template = list[tuple[int, Value]]


def register(nouns: Nouns) -> None:
    """Add the noun and its verb."""
    verbs = noun(nouns, "key", "make keys")
    parser = verb(
        verbs,
        "generate",
        "make a key or a key pair on the token",
        run,
        more="The key is made inside the token and, unless --extractable is said, never leaves it.",
        examples=[
            ("ferrohsm key generate rsa --bits 3072 --label web", "an RSA key pair"),
            ("ferrohsm key generate ec --curve P-384 --label ca --use sign", "an EC key that only signs"),
            ("ferrohsm key generate aes --bits 256 --use wrap,unwrap --label kek", "a key-encryption key"),
            ("ferrohsm key generate hmac --hash sha256 --label audit", "a MAC key"),
        ],
    )
    parser.add_argument("type", metavar="TYPE", choices=_TYPES, help=f"one of {', '.join(_TYPES)}")
    parser.add_argument("--bits", type=int, metavar="N", help="size of an rsa, aes, generic or hmac key")
    parser.add_argument("--curve", choices=_EC_CURVES, help="curve of an ec key (default: P-256)")
    parser.add_argument("--hash", choices=_HASHES, help="hash of an hmac key (default: sha256)")
    parser.add_argument("--label", default="", help="the key's label")
    parser.add_argument(
        "--id", type=view.hexadecimal, metavar="HEX", help="CKA_ID (default: made from the key)"
    )
    add_rights(parser)
    parser.add_argument(
        "--always-authenticate", action="store_true", help="ask for the PIN at every use of the private key"
    )
    choose_token(parser)
    pins.add(parser, "pin", "user PIN")


def add_rights(parser: argparse.ArgumentParser) -> None:
    """Add what a key may be used for and whether it may leave the token."""
    parser.add_argument(
        "--use",
        metavar="USE,…",
        type=_uses,
        help="what it is for: sign, verify, encrypt, decrypt, wrap, unwrap, derive (default: by its type)",
    )
    parser.add_argument("--extractable", action="store_true", help="let it be exported or wrapped")


def _uses(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if word not in view.USES:
            raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(view.USES)}")
    return words


def rights(arguments: argparse.Namespace, uses: Sequence[str]) -> Template:
    """Return the attributes of a private or secret key that say what it may do."""
    template: Template = [
        (ck.CKA_TOKEN, b"\x01"),
        (ck.CKA_PRIVATE, b"\x01"),
        (ck.CKA_SENSITIVE, b"\x01"),
        (ck.CKA_EXTRACTABLE, view.boolean(arguments.extractable)),
    ]
    if arguments.label:
        template.append((ck.CKA_LABEL, arguments.label.encode()))
    return template + [(attribute, view.boolean(name in uses)) for name, attribute in view.USES.items()]


def public_rights(arguments: argparse.Namespace, uses: Sequence[str]) -> Template:
    """Return the attributes of a public key whose private half has `uses`."""
    allowed = {_OTHER_HALF.get(use, use) for use in uses} & {"verify", "encrypt", "wrap"}
    template: Template = [(ck.CKA_TOKEN, b"\x01"), (ck.CKA_PRIVATE, b"\x00")]
    if arguments.label:
        template.append((ck.CKA_LABEL, arguments.label.encode()))
    return template + [
        (view.USES[name], view.boolean(name in allowed)) for name in ("encrypt", "verify", "wrap")
    ]


def private_rights(arguments: argparse.Namespace, uses: Sequence[str]) -> Template:
    """Return the attributes of a private key."""
    allowed = ("decrypt", "sign", "unwrap", "derive")
    other = [use for use in uses if use not in allowed and use not in _OTHER_HALF.values()]
    if other:
        raise UsageError(f"a private key cannot {other[0]}")
    public = {view.USES[name] for name in ("encrypt", "verify", "wrap")}
    return [pair for pair in rights(arguments, uses) if pair[0] not in public]


def default_uses(kind: str) -> tuple[str, ...]:
    """Return what keys of `kind` are for when nothing is said."""
    return _USES[kind]


def run(arguments: argparse.Namespace) -> None:
    """Make it and say what was made."""
    from ferrohsm.cli.service import work

    _check_options(arguments)
    with work(arguments, read_write=True) as opened, Progress("making the key"):
        if arguments.type in ("aes", "generic", "hmac"):
            made = {"secret": _secret(opened, arguments)}
        else:
            made = dict(zip(("public", "private"), _pair(opened, arguments), strict=True))
        shapes = {name: view.describe(opened, oid) for name, oid in made.items()}
    show(arguments, shapes, view.lines(list(shapes.values())))


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse an option that would say nothing about this type."""
    fits = {"curve": ("ec",), "hash": ("hmac",), "bits": ("rsa", "aes", "generic", "hmac")}
    for option, types in fits.items():
        if getattr(arguments, option) is not None and arguments.type not in types:
            raise UsageError(
                f"--{option} says nothing about {arguments.type}", f"it is for {', '.join(types)}"
            )
    if arguments.always_authenticate and arguments.type in ("aes", "generic", "hmac"):
        raise UsageError("--always-authenticate is for private keys")
    if arguments.bits is not None and (arguments.bits <= 0 or arguments.bits % 8):
        raise UsageError("--bits must be a multiple of 8")


def _secret(opened: Any, arguments: argparse.Namespace) -> int:
    kind = arguments.type
    if kind == "aes":
        mechanism, length = ck.CKM_AES_KEY_GEN, (arguments.bits or _AES_BITS) // 8
        key_type = ck.CKK_AES
    elif kind == "generic":
        mechanism, length = ck.CKM_GENERIC_SECRET_KEY_GEN, (arguments.bits or _GENERIC_BITS) // 8
        key_type = ck.CKK_GENERIC_SECRET
    else:
        name = (arguments.hash or "sha256").upper().replace("SHA1", "SHA_1")
        mechanism, key_type = getattr(ck, f"CKM_{name}_KEY_GEN"), getattr(ck, f"CKK_{name}_HMAC")
        digest = int(name[3:].strip("_"))
        length = (arguments.bits or (160 if digest == 1 else digest)) // 8
    uses = arguments.use or default_uses(kind)
    template: Template = [
        (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
        (ck.CKA_KEY_TYPE, ulong(key_type)),
        (ck.CKA_VALUE_LEN, ulong(length)),
        (ck.CKA_ID, arguments.id or os.urandom(8)),
        *rights(arguments, uses),
    ]
    oid: int = opened.run(opened.core.generate_key(opened.session, Mechanism(mechanism), template))
    return oid


def _pair(opened: Any, arguments: argparse.Namespace) -> tuple[int, int]:
    uses = arguments.use or default_uses(arguments.type)
    mechanism, shape = _pair_shape(arguments)
    public = [*shape, *public_rights(arguments, uses)]
    private = private_rights(arguments, uses)
    if arguments.always_authenticate:
        private.append((ck.CKA_ALWAYS_AUTHENTICATE, b"\x01"))
    if arguments.id:
        public.append((ck.CKA_ID, arguments.id))
        private.append((ck.CKA_ID, arguments.id))
    pair: tuple[int, int] = opened.run(
        opened.core.generate_key_pair(opened.session, Mechanism(mechanism), public, private)
    )
    if not arguments.id:
        _name_by_key(opened, pair)
    return pair


def _pair_shape(arguments: argparse.Namespace) -> tuple[int, Template]:
    kind = arguments.type
    if kind == "rsa":
        return ck.CKM_RSA_PKCS_KEY_PAIR_GEN, [
            (ck.CKA_MODULUS_BITS, ulong(arguments.bits or _RSA_BITS)),
            (ck.CKA_PUBLIC_EXPONENT, b"\x01\x00\x01"),
        ]
    curve = bytes.fromhex(view.CURVES[(arguments.curve or "P-256") if kind == "ec" else kind])
    mechanisms = {
        "ec": ck.CKM_EC_KEY_PAIR_GEN,
        "ed25519": ck.CKM_EC_EDWARDS_KEY_PAIR_GEN,
        "ed448": ck.CKM_EC_EDWARDS_KEY_PAIR_GEN,
        "x25519": ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
        "x448": ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
    }
    return mechanisms[kind], [(ck.CKA_EC_PARAMS, curve)]


def _name_by_key(opened: Any, pair: tuple[int, int]) -> None:
    """Give both halves the id that a certificate of the key would have."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    from ferrohsm.cli.formats import key_id, public_info

    info = public_info(lambda attribute: opened.value(pair[0], attribute))
    identity = key_id(load_der_public_key(info)) if info else os.urandom(8)
    for oid in pair:
        opened.run(opened.core.set_attributes(opened.session, oid, [(ck.CKA_ID, identity)]))
