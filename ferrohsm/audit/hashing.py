"""SHA-256 and HMAC for those who write the log, without the system's OpenSSL."""

from __future__ import annotations

from ferrohsm.hashing import Mac, sha256


def digest(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    text: str = sha256(data).hexdigest()
    return text


class Key:
    """A key for HMAC-SHA-256."""

    __slots__ = ("_mac", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._mac = Mac(secret)

    def mac(self, data: bytes) -> bytes:
        """Return the code of `data`."""
        return self._mac.of(data)

    def __repr__(self) -> str:
        """Tell nothing."""
        return "<Key>"
