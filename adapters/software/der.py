"""The little DER that is not a key's: octet strings around points, and a look into certificates."""

from __future__ import annotations

SEQUENCE = 0x30
OCTET_STRING = 0x04
_VERSION = 0xA0


class Malformed(ValueError):
    """The bytes are not the DER they should be."""


def element(data: bytes | bytearray | memoryview, offset: int) -> tuple[int, int, int]:
    """Return tag, start of the contents and end of the element at `offset`.

    Definite lengths up to four bytes. Raises `Malformed` when the element does not lie within `data`.
    """
    if offset + 2 > len(data):
        raise Malformed("too short")
    tag, length, start = data[offset], data[offset + 1], offset + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or start + count > len(data):
            raise Malformed("bad length")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > len(data):
        raise Malformed("too short")
    return tag, start, start + length


def encode(tag: int, contents: bytes) -> bytes:
    """Return one element with `contents`."""
    length = len(contents)
    if length < 0x80:
        return bytes((tag, length)) + contents
    count = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | count)) + length.to_bytes(count, "big") + contents


def octet_string(data: bytes | bytearray | memoryview) -> bytes | None:
    """Return the contents when `data` is exactly one DER OCTET STRING, else None."""
    try:
        tag, start, end = element(data, 0)
    except Malformed:
        return None
    if tag != OCTET_STRING or end != len(data):
        return None
    return bytes(data[start:end])


def certificate_public_key_info(certificate: bytes) -> bytes | None:
    """Return the SubjectPublicKeyInfo of an X.509 certificate, None when it is not one.

    A token stores what it is given: whether the certificate is any good is its reader's question.
    """
    try:
        tag, offset, _ = element(certificate, 0)
        if tag != SEQUENCE:
            return None
        tag, offset, stop = element(certificate, offset)  # tbsCertificate
        if tag != SEQUENCE:
            return None
        tag, _, end = element(certificate, offset)
        if tag == _VERSION:
            offset = end
        for _ in range(5):  # serialNumber, signature, issuer, validity, subject
            _, _, offset = element(certificate, offset)
        tag, _, end = element(certificate, offset)
    except Malformed:
        return None
    return certificate[offset:end] if tag == SEQUENCE and end <= stop else None
