"""How objects are chosen and described: one stable shape for JSON, one line for people."""

from __future__ import annotations

import argparse
from typing import Any

from ferrohsm import attributes as rows
from ferrohsm import constants as ck
from ferrohsm.attribute_kinds import BOOL, DATE, FALSE, STRING, TRUE, ULONG, ULONGS, is_true, number, ulong
from ferrohsm.cli.service import Work
from ferrohsm.cli.terminal import NotFoundError, Progress, UsageError, table

CLASSES = {
    "private": ck.CKO_PRIVATE_KEY,
    "public": ck.CKO_PUBLIC_KEY,
    "secret": ck.CKO_SECRET_KEY,
    "certificate": ck.CKO_CERTIFICATE,
    "data": ck.CKO_DATA,
}
_CLASS_NAMES = {number: name for name, number in CLASSES.items()}

USES = {
    "encrypt": ck.CKA_ENCRYPT,
    "decrypt": ck.CKA_DECRYPT,
    "sign": ck.CKA_SIGN,
    "verify": ck.CKA_VERIFY,
    "wrap": ck.CKA_WRAP,
    "unwrap": ck.CKA_UNWRAP,
    "derive": ck.CKA_DERIVE,
}

CURVES = {
    "P-224": "06052b81040021",
    "P-256": "06082a8648ce3d030107",
    "P-384": "06052b81040022",
    "P-521": "06052b81040023",
    "secp256k1": "06052b8104000a",
    "brainpoolP256r1": "06092b2403030208010107",
    "brainpoolP384r1": "06092b240303020801010b",
    "brainpoolP512r1": "06092b240303020801010d",
    "ed25519": "06032b6570",
    "ed448": "06032b6571",
    "x25519": "06032b656e",
    "x448": "06032b656f",
}
"""``CKA_EC_PARAMS`` by the name that people use: the DER of the curve's object identifier."""
_CURVE_NAMES = {bytes.fromhex(code): name for name, code in CURVES.items()}

_SCALARS = (
    ck.CKA_CLASS,
    ck.CKA_KEY_TYPE,
    ck.CKA_CERTIFICATE_TYPE,
    ck.CKA_LABEL,
    ck.CKA_ID,
    ck.CKA_PRIVATE,
    ck.CKA_MODULUS,
    ck.CKA_EC_PARAMS,
    ck.CKA_VALUE_LEN,
    ck.CKA_SENSITIVE,
    ck.CKA_EXTRACTABLE,
    *USES.values(),
)


_OLDER = {
    "CKK_ECDSA": "CKK_EC",
    "CKA_ECDSA_PARAMS": "CKA_EC_PARAMS",
    "CKM_ECDSA_KEY_PAIR_GEN": "CKM_EC_KEY_PAIR_GEN",
}


def name_of(prefix: str, value: int) -> str:
    """Return a constant's name; of two for one value the one that the specification still uses."""
    found = ck.name(prefix, value)
    return _OLDER.get(found, found)


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which objects are meant."""
    parser.add_argument("--object", metavar="N", type=int, help="the object's number, as the list shows it")
    parser.add_argument("--class", dest="kind", choices=tuple(CLASSES), help="only objects of this class")
    parser.add_argument("--label", help="only objects with this label")
    parser.add_argument("--id", metavar="HEX", type=hexadecimal, help="only objects with this CKA_ID")


def hexadecimal(text: str) -> bytes:
    """Read ``CKA_ID`` as it is printed; colons and spaces between bytes are allowed."""
    try:
        return bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not hexadecimal, for example 01 or 0a:1b") from None


def find(work: Work, arguments: argparse.Namespace) -> list[int]:
    """Return the token objects that the filter leaves, ascending."""
    template: list[tuple[int, bytes]] = [(ck.CKA_TOKEN, b"\x01")]
    if arguments.kind:
        template.append((ck.CKA_CLASS, ulong(CLASSES[arguments.kind])))
    if arguments.label is not None:
        template.append((ck.CKA_LABEL, arguments.label.encode()))
    if arguments.id is not None:
        template.append((ck.CKA_ID, arguments.id))
    found = search(work, template)
    return [oid for oid in found if oid == arguments.object] if arguments.object is not None else found


def search(work: Work, template: list[tuple[int, bytes]]) -> list[int]:
    """Return every object that matches."""
    cursor = work.run(work.core.find(work.session, template))
    found: list[int] = []
    try:
        while more := work.run(cursor.take(1000)):
            found += more
    finally:
        cursor.close()
    return sorted(found)


def one(work: Work, arguments: argparse.Namespace) -> int:
    """Return the only object that the filter leaves."""
    if all(value is None for value in (arguments.object, arguments.kind, arguments.label, arguments.id)):
        raise UsageError("which object?", "say --object N, or --label, --id and --class")
    found = find(work, arguments)
    if not found:
        raise NotFoundError("there is no such object", hint(work, arguments))
    if len(found) > 1:
        listed = ", ".join(map(str, found[:8])) + (" …" if len(found) > 8 else "")  # noqa: PLR2004
        raise NotFoundError(f"{len(found)} objects match: {listed}", "choose one with --object N or --class")
    return found[0]


def hint(work: Work, arguments: argparse.Namespace) -> str:
    """Return what may be the matter when nothing is found."""
    public = getattr(arguments, "public", False)
    return "private ones are seen with the user PIN only" if public else "ferrohsm object list shows them"


def describe(work: Work, oid: int) -> dict[str, Any]:
    """Return what the list says of an object."""
    answers = work.run(work.core.get_attributes(work.session, oid, list(_SCALARS)))
    values = {
        attribute: bytes(value)
        for attribute, value in zip(_SCALARS, answers, strict=True)
        if isinstance(value, (bytes, bytearray))
    }
    kind = number(values[ck.CKA_CLASS])
    shape: dict[str, Any] = {
        "object": oid,
        "class": _CLASS_NAMES.get(kind) or name_of("CKO", kind).removeprefix("CKO_").lower(),
        "type": _type(values),
        "label": values.get(ck.CKA_LABEL, b"").decode("utf-8", "replace"),
        "id": values.get(ck.CKA_ID, b"").hex(),
        "private": is_true(values.get(ck.CKA_PRIVATE)),
    }
    if ck.CKA_KEY_TYPE in values:
        shape["size"] = _size(values)
        shape["curve"] = _CURVE_NAMES.get(values.get(ck.CKA_EC_PARAMS, b""))
        shape["use"] = [name for name, attribute in USES.items() if is_true(values.get(attribute))]
    if ck.CKA_EXTRACTABLE in values:
        shape["sensitive"] = is_true(values.get(ck.CKA_SENSITIVE))
        shape["extractable"] = is_true(values[ck.CKA_EXTRACTABLE])
    if kind == ck.CKO_CERTIFICATE:
        shape |= _certificate(work, oid)
    return shape


def describe_all(work: Work, oids: list[int]) -> list[dict[str, Any]]:
    """Describe many, with progress."""
    shapes = []
    with Progress("reading object") as progress:
        for done, oid in enumerate(oids, 1):
            shapes.append(describe(work, oid))
            progress.step(done, len(oids))
    return shapes


def lines(shapes: list[dict[str, Any]]) -> str:
    """Lay out descriptions as a table."""
    if not shapes:
        return "no objects"
    heads = ("OBJECT", "CLASS", "TYPE", "SIZE", "LABEL", "ID", "USE")
    rows = []
    for shape in shapes:
        size = shape.get("curve") or shape.get("size") or ""
        use = ",".join(shape.get("use", [])) or shape.get("subject", "")
        flags = " extractable" if shape.get("extractable") else ""
        kind = shape["class"]
        rows.append((shape["object"], kind, shape["type"], size, shape["label"], shape["id"], use + flags))
    return table(heads, rows)


def boolean(value: bool) -> bytes:
    """Return a ``CK_BBOOL``."""
    return TRUE if value else FALSE


def attributes(work: Work, oid: int) -> dict[str, Any]:
    """Return every attribute of an object by its name; a value that is hidden is ``(sensitive)``."""
    from ferrohsm import core

    head = (ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_CERTIFICATE_TYPE)
    answers = work.run(work.core.get_attributes(work.session, oid, list(head)))
    object_class, *subtypes = [number(value) if isinstance(value, bytes) else None for value in answers]
    subtype = next((value for value in subtypes if value is not None), None)
    rules = rows.rules_for(object_class, subtype) if object_class is not None else None
    if rules is None:
        raise NotFoundError(f"object {oid} is of a class that nobody knows")
    types = list(rules)
    shapes = {}
    answers = work.run(work.core.get_attributes(work.session, oid, types))
    for attribute, value in zip(types, answers, strict=True):
        if value is core.SENSITIVE:
            shapes[name_of("CKA", attribute)] = "(sensitive)"
        elif value is not core.INVALID:
            shapes[name_of("CKA", attribute)] = _readable(attribute, rules[attribute].kind, value)
    return shapes


_NAMED = {
    ck.CKA_CLASS: "CKO",
    ck.CKA_KEY_TYPE: "CKK",
    ck.CKA_CERTIFICATE_TYPE: "CKC",
    ck.CKA_KEY_GEN_MECHANISM: "CKM",
    ck.CKA_ALLOWED_MECHANISMS: "CKM",
}


def _readable(attribute: int, kind: str, value: Any) -> Any:
    """Return a value as JSON can hold it: numbers, booleans, texts, names, and bytes in hexadecimal."""
    if isinstance(value, tuple):
        known = rows.rules_for(ck.CKO_SECRET_KEY, ck.CKK_GENERIC_SECRET) or {}
        inner_kinds = {inner: known[inner].kind for inner, _ in value if inner in known}
        return {
            name_of("CKA", inner): _readable(inner, inner_kinds.get(inner, ""), held) for inner, held in value
        }
    if kind == BOOL:
        return is_true(value)
    if kind in (ULONG, ULONGS):
        words = [int.from_bytes(value[start : start + 8], "little") for start in range(0, len(value), 8)]
        prefix = _NAMED.get(attribute)
        plain = [
            None if word == ck.CK_UNAVAILABLE_INFORMATION else name_of(prefix, word) if prefix else word
            for word in words
        ]
        return plain[0] if kind == ULONG and plain else plain
    if kind in (STRING, DATE):
        return bytes(value).decode("utf-8", "replace")
    return bytes(value).hex()


def _type(values: dict[int, bytes]) -> str:
    for attribute, prefix in ((ck.CKA_KEY_TYPE, "CKK"), (ck.CKA_CERTIFICATE_TYPE, "CKC")):
        if attribute in values:
            return name_of(prefix, number(values[attribute])).removeprefix(f"{prefix}_").lower()
    return ""


def _size(values: dict[int, bytes]) -> int | None:
    """Return the size of a key in bits, where it says something."""
    if ck.CKA_MODULUS in values:
        return int.from_bytes(values[ck.CKA_MODULUS], "big").bit_length()
    length = values.get(ck.CKA_VALUE_LEN)
    return 8 * number(length) if length else None


def _certificate(work: Work, oid: int) -> dict[str, Any]:
    """Return subject and end of validity of a certificate, or nothing when it can't be read."""
    from cryptography import x509

    try:
        parsed = x509.load_der_x509_certificate(work.value(oid, ck.CKA_VALUE))
        return {
            "subject": parsed.subject.rfc4514_string(),
            "not_after": parsed.not_valid_after_utc.isoformat(),
        }
    except ValueError:
        return {"subject": "", "not_after": None}
