"""SHA-256 and HMAC for those who write the log, without the system's OpenSSL."""

from __future__ import annotations

import hmac

from ferrohsm.own_sha256 import sha256


def digest(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    text: str = sha256(data).hexdigest()
    return text


class Key:
    """A key for HMAC-SHA-256."""

    __slots__ = ("_start", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._start = hmac.new(secret, digestmod=sha256)

    def mac(self, data: bytes) -> bytes:
        """Return the code of `data`."""
        started = self._start.copy()
        started.update(data)
        return started.digest()

    def __repr__(self) -> str:
        """Tell nothing."""
        return "<Key>"
