"""CRC-64 of ECMA-182, which ``CKA_PUBLIC_CRC64_VALUE`` is made of: a checksum, no cryptography."""

from __future__ import annotations

_POLYNOMIAL = 0x42F0E1EBA9EA3693
_MASK = 0xFFFFFFFFFFFFFFFF


def _row(byte: int) -> int:
    remainder = byte << 56
    for _ in range(8):
        remainder = (remainder << 1) & _MASK ^ (_POLYNOMIAL if remainder >> 63 else 0)
    return remainder


_TABLE: list[int] = []


def crc64(data: bytes | bytearray) -> bytes:
    """Return the checksum's eight bytes, the most significant first."""
    if not _TABLE:
        _TABLE.extend(_row(byte) for byte in range(256))
    value = 0
    for byte in data:
        value = (value << 8) & _MASK ^ _TABLE[value >> 56 ^ byte]
    return value.to_bytes(8, "big")
