"""One form for curve parameters and points, whichever of the usual ones a client sends.

Parameters (``CKA_EC_PARAMS``) are kept as the object identifier; the curve's name as a
PrintableString, which the specification also allows, and the identifiers of before RFC 8410 are
translated. Points (``CKA_EC_POINT``) are kept as a DER OCTET STRING; PKCS#11 3.2 wants raw bytes for
Edwards and Montgomery keys, which older clients do not read (`presented_point`).
"""

from __future__ import annotations

_PRINTABLE_STRING = 0x13
_UTF8_STRING = 0x0C
_OCTET_STRING = 0x04

_ED25519 = bytes.fromhex("06032b6570")
_ED448 = bytes.fromhex("06032b6571")
_X25519 = bytes.fromhex("06032b656e")
_X448 = bytes.fromhex("06032b656f")

_BY_NAME = {
    "edwards25519": _ED25519,
    "ed25519": _ED25519,
    "edwards448": _ED448,
    "ed448": _ED448,
    "curve25519": _X25519,
    "x25519": _X25519,
    "curve448": _X448,
    "x448": _X448,
    "secp256r1": bytes.fromhex("06082a8648ce3d030107"),
    "prime256v1": bytes.fromhex("06082a8648ce3d030107"),
    "secp384r1": bytes.fromhex("06052b81040022"),
    "secp521r1": bytes.fromhex("06052b81040023"),
    "secp256k1": bytes.fromhex("06052b8104000a"),
    "brainpoolp256r1": bytes.fromhex("06092b2403030208010107"),
    "brainpoolp320r1": bytes.fromhex("06092b2403030208010109"),
    "brainpoolp384r1": bytes.fromhex("06092b240303020801010b"),
    "brainpoolp512r1": bytes.fromhex("06092b240303020801010d"),
}

# Identifiers that GnuPG and OpenSC used for the same curves.
_BY_OTHER_IDENTIFIER = {
    bytes.fromhex("06092b06010401da470f01"): _ED25519,
    bytes.fromhex("060a2b060104019755010501"): _X25519,
}

# Bytes of a coordinate, from P-192 to P-521; a raw point is 1 + n or 1 + 2n bytes.
_FIELD_LENGTHS = frozenset((24, 28, 32, 40, 48, 64, 66))
_RAW_LENGTHS = frozenset((32, 56, 57))  # X25519 and Ed25519, X448, Ed448


def normal_parameters(value: bytes) -> bytes:
    """Return ``CKA_EC_PARAMS`` as an object identifier where it names a curve, else as it is."""
    if len(value) > 2 and value[0] in (_PRINTABLE_STRING, _UTF8_STRING) and value[1] == len(value) - 2:
        return _BY_NAME.get(value[2:].decode("ascii", "replace").lower(), value)
    return _BY_OTHER_IDENTIFIER.get(value, value)


def raw_point(value: bytes) -> bytes:
    """Return the bytes of a point inside its OCTET STRING, or `value` when it has none."""
    inner = _inside(value)
    return value if inner is None or not _is_point(inner) else inner


def normal_point(value: bytes) -> bytes:
    """Return ``CKA_EC_POINT`` as a DER OCTET STRING; what is no point of a known length stays as it is."""
    inner = _inside(value)
    if inner is not None and _is_point(inner):
        return value
    return _wrapped(value) if _is_point(value) else value


def _is_point(value: bytes) -> bool:
    if len(value) in _RAW_LENGTHS:
        return True
    if not value:
        return False
    if value[0] == 4:
        return len(value) % 2 == 1 and len(value) // 2 in _FIELD_LENGTHS
    return value[0] in (2, 3) and len(value) - 1 in _FIELD_LENGTHS


def _inside(value: bytes) -> bytes | None:
    if len(value) < 2 or value[0] != _OCTET_STRING:
        return None
    if value[1] < 0x80 and value[1] == len(value) - 2:
        return value[2:]
    if value[1] == 0x81 and len(value) > 2 and value[2] == len(value) - 3 and value[2] >= 0x80:
        return value[3:]
    return None


def _wrapped(point: bytes) -> bytes:
    length = bytes((len(point),)) if len(point) < 0x80 else bytes((0x81, len(point)))
    return bytes((_OCTET_STRING,)) + length + point
