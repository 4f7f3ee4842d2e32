"""Ciphers that the library lacks and the kernels' libcrypto lends: ARIA, Camellia's CTR, AES' CFB of one bit.

They are offered only where the kernels were built with a libcrypto that has them.
"""

from __future__ import annotations

from ferrohsm.errors import MechanismInvalid
from ferrohsm.typed import Any
from ferrohsm_adapters.software.material import Bytes

# The largest block of a padded or chained cipher here, in bits; every one of these has it.
_BLOCK_BITS = 128


class BlockCipher:
    """A block cipher with a key, as the library's algorithms are; `family` is libcrypto's name of it."""

    __slots__ = ("family", "key")

    block_size = _BLOCK_BITS

    def __init__(self, family: str, key: Bytes) -> None:
        self.family = family
        self.key = key

    def context(self, mode: str, iv: bytes, encrypt: bool) -> Any:
        """Return a context of a mode by libcrypto's name. Raises `MechanismInvalid` when nobody has it."""
        if not lends(self.family):
            raise MechanismInvalid("no engine has this cipher")
        from ferrohsm_adapters.software import _kernels

        return _kernels.lent_cipher(f"{self.family}-{len(self.key) * 8}-{mode}", self.key, iv, encrypt)


def lends(algorithm: str) -> bool:
    """Say whether the kernels lend an algorithm."""
    try:
        from ferrohsm_adapters.software import _kernels
    except ImportError:
        return False
    return _kernels.lends(algorithm)
