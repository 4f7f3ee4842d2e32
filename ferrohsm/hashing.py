"""SHA-256 and HMAC without the system's OpenSSL, which `hashlib` loads.

Its import costs two milliseconds that a process which lists tokens need not pay, and for short data its calls
take longer than the interpreter's own. Not for keys that a login opens: what is made of the key here is not
wiped.
"""

from __future__ import annotations

from ferrohsm.own_sha256 import sha256
from ferrohsm.typed import Any

__all__ = ["Mac", "digest", "sha256"]

_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def digest(data: bytes) -> bytes:
    """Return the SHA-256."""
    made: bytes = sha256(data).digest()
    return made


class Mac:
    """HMAC-SHA-256 (RFC 2104) with one key of at most 64 bytes."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes | bytearray) -> None:
        if len(key) > _BLOCK:
            raise ValueError("a longer key would have to be hashed")
        padded = key.ljust(_BLOCK, b"\0")
        self._inner: Any = sha256(padded.translate(_INNER))
        self._outer: Any = sha256(padded.translate(_OUTER))

    def of(self, data: bytes | bytearray) -> bytes:
        """Return the code of `data`."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        code: bytes = outer.digest()
        return code

    def __repr__(self) -> str:
        """Tell nothing."""
        return "<Mac>"
