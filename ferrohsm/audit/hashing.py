"""SHA-256 and HMAC for those who write the log, without the system's OpenSSL.

`hashlib` computes with the libcrypto of the process. Its exit handler may have run when a program calls
``C_Finalize`` in an exit handler of its own, and then it crashes; the interpreter's own SHA-256 has none.
"""

from __future__ import annotations

import hmac
from typing import Any

try:
    from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found,no-redef,unused-ignore]
    except ImportError:
        from hashlib import sha256

_sha256: Any = sha256


def digest(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    text: str = _sha256(data).hexdigest()
    return text


class Key:
    """A key for HMAC-SHA-256."""

    __slots__ = ("_start", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._start = hmac.new(secret, digestmod=_sha256)

    def mac(self, data: bytes) -> bytes:
        """Return the code of `data`."""
        started = self._start.copy()
        started.update(data)
        return started.digest()

    def __repr__(self) -> str:
        """Tell nothing."""
        return "<Key>"
