"""How long an output will be, computed from mechanism and key: asking the backend would be a call of its own.

Exact for what the standard makes exact, else an upper bound (see `ferrohsm.adapters.Operation`).
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.ec_encoding import normal_parameters, raw_point
from ferrohsm.mechanism_row import HASHES, Row
from ferrohsm.parameters import Mechanism

_SLACK = 64  # for what nothing is known about

# Bytes of the order of a curve, by CKA_EC_PARAMS.
_ORDERS = {
    bytes.fromhex(parameters): length
    for parameters, length in (
        ("06082a8648ce3d030101", 24),
        ("06052b81040021", 28),
        ("06082a8648ce3d030107", 32),
        ("06052b8104000a", 32),
        ("06052b81040022", 48),
        ("06052b81040023", 66),
        ("06092b2403030208010107", 32),
        ("06092b2403030208010109", 40),
        ("06092b240303020801010b", 48),
        ("06092b240303020801010d", 64),
    )
}
_EDWARDS = {bytes.fromhex("06032b6570"): 64, bytes.fromhex("06032b6571"): 114}

# Block ciphers that give whole blocks, and whether they pad at the end; others give a byte for a byte.
_BLOCKS = {
    ck.CKM_AES_ECB: (16, False),
    ck.CKM_AES_CBC: (16, False),
    ck.CKM_AES_CBC_PAD: (16, True),
    ck.CKM_DES_ECB: (8, False),
    ck.CKM_DES_CBC: (8, False),
    ck.CKM_DES_CBC_PAD: (8, True),
    ck.CKM_DES3_ECB: (8, False),
    ck.CKM_DES3_CBC: (8, False),
    ck.CKM_DES3_CBC_PAD: (8, True),
    ck.CKM_CAMELLIA_ECB: (16, False),
    ck.CKM_CAMELLIA_CBC: (16, False),
    ck.CKM_CAMELLIA_CBC_PAD: (16, True),
}
_STREAMS = frozenset(
    (
        *(ck.CKM_AES_CTR, ck.CKM_AES_OFB, ck.CKM_AES_CFB8, ck.CKM_AES_CFB128, ck.CKM_AES_CTS),
        *(ck.CKM_CHACHA20, ck.CKM_CAMELLIA_CTR, ck.CKM_AES_XTS),
    )
)
_MAC_LENGTHS = {"cmac": 16, "cbc_mac": 16, "xcbc_mac": 16, "gmac": 16, "poly1305": 16}


def _bytes(key: Key | None, attribute: int) -> bytes:
    value = None if key is None else key.attributes.get(attribute)
    return b"" if value is None or isinstance(value, tuple) else bytes(value)


def signature_length(row: Row, mechanism: Mechanism, key: Key) -> int | None:
    """Return the bytes of a signature or a MAC; None when only the backend can say."""
    key_type = int.from_bytes(_bytes(key, ck.CKA_KEY_TYPE), "little")
    if key_type == ck.CKK_RSA:
        return len(_bytes(key, ck.CKA_MODULUS)) or None
    if key_type == ck.CKK_EC:
        parameters = normal_parameters(_bytes(key, ck.CKA_EC_PARAMS))
        order = _ORDERS.get(parameters) or _coordinate(_bytes(key, ck.CKA_EC_POINT))
        return 2 * order if order else None
    if key_type == ck.CKK_EC_EDWARDS:
        return _EDWARDS.get(normal_parameters(_bytes(key, ck.CKA_EC_PARAMS)))
    if key_type == ck.CKK_DSA:
        return 2 * len(_bytes(key, ck.CKA_SUBPRIME)) or None
    if isinstance(mechanism.parameter, int):
        return mechanism.parameter
    if row.family == "hmac" and row.hash is not None:
        return HASHES[row.hash].length
    if row.type == ck.CKM_DES3_CMAC:
        return 8
    return _MAC_LENGTHS.get(row.family)


def _coordinate(point: bytes) -> int:
    raw = raw_point(point)
    return (len(raw) - 1) // 2 if raw[:1] == b"\4" else 0


def digest_length(row: Row) -> int | None:
    """Return the bytes of a digest."""
    return None if row.hash is None else HASHES[row.hash].length


def total(function: int, row: Row, mechanism: Mechanism, key: Key, length: int) -> int:
    """Return the bytes that `length` bytes become when they are encrypted or decrypted."""
    modulus = len(_bytes(key, ck.CKA_MODULUS))
    if modulus:
        return modulus
    if function != Function.ENCRYPT:
        return length
    block, pads = _BLOCKS.get(mechanism.type, (1, False))
    if pads:
        return (length // block + 1) * block
    if mechanism.type in _BLOCKS or mechanism.type in _STREAMS:
        return length
    return length + _tag(mechanism)


def _tag(mechanism: Mechanism) -> int:
    parameter = mechanism.parameter
    if hasattr(parameter, "tag_bits"):
        return (int(parameter.tag_bits) + 7) // 8
    if hasattr(parameter, "mac_length"):
        return int(parameter.mac_length)
    return 16 if mechanism.type == ck.CKM_CHACHA20_POLY1305 else _SLACK


def part(mechanism: Mechanism, taken: int, given: int, length: int) -> int:
    """Return the most that the next `length` bytes give, after `taken` bytes have given `given`."""
    block = _BLOCKS.get(mechanism.type, (0, False))[0]
    if block:
        return max((taken + length) // block * block - given, 0)
    if mechanism.type in _STREAMS:
        return length
    return max(taken + length - given, 0)
