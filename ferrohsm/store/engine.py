"""What seals and stretches: classes of `cryptography`, and HMAC of the kernels where they are loaded anyway.

The documented modules of `cryptography` import `typing`, `enum` and `re`: ten milliseconds of each login in a
process without Python. So its binding is asked first, from which they take the same classes.
"""

from __future__ import annotations

from ferrohsm.hashing import Mac
from ferrohsm.typed import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MacInto = Callable[[bytes | bytearray, bytes | bytearray, bytearray], None]
"""Writes HMAC-SHA-256 under a key, of data, into a buffer of 32 bytes, and leaves nothing of it behind."""

_mac_into: MacInto | None = None


def use(mac_into: MacInto) -> None:
    """Let an engine compute what needs HMAC with a key that a login opens."""
    global _mac_into
    _mac_into = mac_into


def mac(key: bytearray, data: bytes) -> bytes:
    """Return HMAC-SHA-256 and leave nothing of the key behind."""
    if _mac_into is None:
        return openssl_mac(key, data)
    out = bytearray(32)
    _mac_into(key, data, out)
    return bytes(out)


def expand_into(key: bytearray, purpose: bytes, out: bytearray) -> None:
    """Write one block of HKDF-Expand with SHA-256 (RFC 5869) into a buffer of 32 bytes."""
    if _mac_into is not None:
        _mac_into(key, purpose + b"\x01", out)
        return
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    HKDFExpand(hashes.SHA256(), len(out), purpose).derive_into(key, out)


def openssl_mac(key: bytes | bytearray, data: bytes | bytearray) -> bytes:
    """Return HMAC-SHA-256 by the interpreter's OpenSSL."""
    try:
        from _hashlib import hmac_digest  # what `hmac.digest` calls, without its detour
    except ImportError:  # an interpreter without OpenSSL
        from hmac import digest as hmac_digest  # type: ignore[assignment]
    try:
        return hmac_digest(key, data, "sha256")
    except ValueError:  # the host's OpenSSL is told to have no such thing
        return Mac(key).of(data)


def aes_gcm() -> type[AESGCM]:
    """Return the class of AES-GCM ciphers."""
    try:
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.aead.AESGCM
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM


def argon2id() -> type[Argon2id]:
    """Return the class that derives keys by Argon2id."""
    try:
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.kdf.Argon2id
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        return Argon2id


def is_invalid_tag(error: BaseException) -> bool:
    """Say whether an exception is `cryptography`'s for a tag that does not fit."""
    from cryptography.exceptions import InvalidTag

    return isinstance(error, InvalidTag)
