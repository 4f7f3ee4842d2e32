"""An object as a row: what is readable, what is sealed, and what binds it all together.

A public object's attributes are readable and followed by a MAC under the public key; a private one's
are sealed under the private key. Secret values are sealed apart, with the identity and every other
attribute as associated data, so that a changed ``CKA_EXTRACTABLE`` makes the secret unreadable.
"""

from __future__ import annotations

import struct
from _operator import _compare_digest as compare_digest

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Value
from ferrohsm.errors import DeviceError, UserNotLoggedIn
from ferrohsm.store.encoding import decode, encode
from ferrohsm.store.sealing import (
    GCM_TAG_SIZE,
    MAC_SIZE,
    NONCE_SIZE,
    PrivateKeys,
    PublicKeys,
    mac,
    seal,
    unseal,
    wipe,
)
from ferrohsm.typed import Mapping, NamedTuple

_CONTEXT = struct.Struct("<16s16sQQB")
_KEY_CLASSES = frozenset(
    number.to_bytes(8, "little") for number in (ck.CKO_PRIVATE_KEY, ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY)
)
_SECRET_TYPES = frozenset(
    (
        ck.CKA_VALUE,
        ck.CKA_PRIVATE_EXPONENT,
        ck.CKA_PRIME_1,
        ck.CKA_PRIME_2,
        ck.CKA_EXPONENT_1,
        ck.CKA_EXPONENT_2,
        ck.CKA_COEFFICIENT,
        ck.CKA_SEED,
    )
)


class Row(NamedTuple):
    """A row of table ``object``; `version` is the generation of its last change."""

    oid: int
    private: int
    version: int
    attributes: bytes
    secrets: bytes


def split(attributes: Mapping[int, Value]) -> tuple[Attributes, Attributes]:
    """Return the readable and the secret attributes.

    A `bytearray` is a secret by contract; key material is one whatever type it came in.
    """
    key = bytes_of(attributes.get(ck.CKA_CLASS)) in _KEY_CLASSES
    plain: Attributes = {}
    secret: Attributes = {}
    for number, value in attributes.items():
        if isinstance(value, bytearray) or (key and number in _SECRET_TYPES):
            secret[number] = value
        else:
            plain[number] = value
    return plain, secret


def bytes_of(value: Value | None) -> bytes:
    """Return a plain value as bytes; what is missing or a template is empty."""
    return bytes(value) if isinstance(value, bytes | bytearray) else b""


def is_private(attributes: Mapping[int, Value]) -> bool:
    """Say whether an object needs the user's login; keys do unless they say otherwise."""
    value = attributes.get(ck.CKA_PRIVATE)
    if value is None:
        return bytes_of(attributes.get(ck.CKA_CLASS)) in _KEY_CLASSES
    return bytes_of(value) != b"\0"


def _context(serial: bytes, keys: PublicKeys, oid: int, version: int, private: int) -> bytes:
    return _CONTEXT.pack(serial, keys.incarnation, oid, version, private)


def _mark(secrets: bytes) -> bytes:
    """Return what names one sealing of secrets: its nonce and tag."""
    return secrets[:NONCE_SIZE] + secrets[-GCM_TAG_SIZE:]


def pack(
    serial: bytes,
    public: PublicKeys,
    private: PrivateKeys | None,
    oid: int,
    version: int,
    attributes: Mapping[int, Value],
) -> tuple[Row, Attributes]:
    """Return the row of an object and its readable attributes.

    Raises ``UserNotLoggedIn`` for a private object without its keys.
    """
    plain, secret = split(attributes)
    flag = 1 if is_private(attributes) else 0
    if flag and private is None:
        raise UserNotLoggedIn("a private object needs the user's login")
    cipher = private.cipher if flag and private is not None else None
    context = _context(serial, public, oid, version, flag)
    encoded = bytes(encode(plain))
    secrets = b""
    if secret:
        buffer = encode(secret)
        try:
            secrets = seal(cipher or public.cipher, buffer, b"secrets\0" + context + encoded)
        finally:
            wipe(buffer)
    bound = b"attributes\0" + context + _mark(secrets)
    if cipher is not None:
        stored = seal(cipher, encoded, bound)
    else:
        stored = encoded + mac(public.mac_key, bound + encoded)
    return Row(oid, flag, version, stored, secrets), plain


def open_attributes(serial: bytes, public: PublicKeys, private: PrivateKeys | None, row: Row) -> bytes:
    """Return a row's encoded readable attributes, verified; raises ``DeviceError`` if it was touched."""
    oid, flag, version, stored, secrets = row
    if not (isinstance(stored, bytes) and isinstance(secrets, bytes) and flag in (0, 1)):
        raise DeviceError(f"object {oid} is damaged: it is not used")
    try:
        context = _context(serial, public, oid, version, flag)
    except struct.error:
        raise DeviceError(f"object {oid} is damaged: it is not used") from None
    bound = b"attributes\0" + context + _mark(secrets)
    if flag:
        if private is None:
            raise UserNotLoggedIn("a private object needs the user's login")
        return bytes(unseal(private.cipher, stored, bound))
    encoded = stored[:-MAC_SIZE]
    if not compare_digest(mac(public.mac_key, bound + encoded), stored[-MAC_SIZE:]):
        raise DeviceError(f"object {oid} is damaged or was changed: it is not used")
    return encoded


def open_secrets(
    serial: bytes, public: PublicKeys, private: PrivateKeys | None, row: Row, encoded: bytes
) -> Attributes:
    """Return a row's secret attributes as `bytearray`s; `encoded` is what `open_attributes` gave."""
    if not row.secrets:
        return {}
    context = _context(serial, public, row.oid, row.version, row.private)
    if row.private and private is None:
        raise UserNotLoggedIn("a private object needs the user's login")
    cipher = private.cipher if row.private and private is not None else public.cipher
    buffer = unseal(cipher, row.secrets, b"secrets\0" + context + encoded)
    try:
        return decode(buffer, secret=True)
    finally:
        wipe(buffer)
