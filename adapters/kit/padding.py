"""The padding of RSA signatures for devices that only raise to a power: EMSA-PKCS1-v1_5, EMSA-PSS (RFC 8017).

`bits` is the length of the modulus in bits, `size` in bytes; hashes are named as in
``ferrohsm.mechanisms.HASHES``.
"""

from __future__ import annotations

import os

from ferrohsm.errors import DataLenRange, MechanismParamInvalid
from ferrohsm.mechanisms import HASHES
from ferrohsm_adapters.software.hash_functions import hashing

PKCS1_OVERHEAD = 11

# What stands before a digest in DigestInfo: its length, the algorithm's identifier with NULL, OCTET STRING.
# The hashes of FIPS 180 and 202 are numbered one after the other under one arc.
_NIST_HASHES = {
    "sha256": 1, "sha384": 2, "sha512": 3, "sha224": 4,
    "sha3_224": 7, "sha3_256": 8, "sha3_384": 9, "sha3_512": 10,
}  # fmt: skip
_NIST_ARC = bytes.fromhex("6086480165030402")
_SHA1 = bytes.fromhex("2b0e03021a")


def digest_info(hash_name: str, digest: bytes) -> bytes:
    """Return the DER DigestInfo of a digest."""
    identifier = _SHA1 if hash_name == "sha1" else _NIST_ARC + bytes([_NIST_HASHES[hash_name]])
    algorithm = b"\x06" + bytes([len(identifier)]) + identifier + b"\x05\x00"
    inner = b"\x30" + bytes([len(algorithm)]) + algorithm + b"\x04" + bytes([len(digest)]) + digest
    return b"\x30" + bytes([len(inner)]) + inner


def pkcs1(data: bytes, size: int) -> bytes:
    """Return the block of a PKCS#1 v1.5 signature. Raises `DataLenRange`."""
    if len(data) > size - PKCS1_OVERHEAD:
        raise DataLenRange
    return b"\x00\x01" + b"\xff" * (size - len(data) - 3) + b"\x00" + data


def check_pss(bits: int, hash_name: str, salt_length: int) -> None:
    """Raise `MechanismParamInvalid` where a digest and such a salt do not fit into the modulus."""
    if HASHES[hash_name].length + salt_length + 2 > (bits + 6) // 8:
        raise MechanismParamInvalid("the salt is too long for the key")


def pss(digest: bytes, bits: int, hash_name: str, mgf: str, salt_length: int) -> bytes:
    """Return the block of a PSS signature over a digest, with a fresh salt (RFC 8017, section 9.1.1)."""
    length = (bits + 6) // 8  # of the encoded message, one bit shorter than the modulus
    salt = os.urandom(salt_length)
    hashed = _digest(hash_name, bytes(8) + digest + salt)
    block = bytes(length - salt_length - len(hashed) - 2) + b"\x01" + salt
    mask = _mask(mgf, hashed, len(block))
    masked = bytearray(a ^ b for a, b in zip(block, mask, strict=True))
    masked[0] &= 0xFF >> (8 * length - (bits - 1))
    return (bytes(masked) + hashed + b"\xbc").rjust((bits + 7) // 8, b"\0")


def _mask(hash_name: str, seed: bytes, length: int) -> bytes:
    """MGF1 (RFC 8017, appendix B.2.1)."""
    mask = b""
    while len(mask) < length:
        mask += _digest(hash_name, seed + (len(mask) // HASHES[hash_name].length).to_bytes(4, "big"))
    return mask[:length]


def _digest(hash_name: str, data: bytes) -> bytes:
    context = hashing(hash_name)
    context.update(data)
    digest: bytes = context.finalize()
    return digest
