"""The points of small order on the curves of RFC 7748 and RFC 8032.

A public key that is one of them is nobody's: an agreement with it gives the same secret to everybody, and a
signature for it verifies with any message (RFC 7748, section 6; RFC 8032, section 8.9). The coordinate in an
encoding says which they are, also where it is not reduced.
"""

from __future__ import annotations

_P25519 = 2**255 - 19
_P448 = 2**448 - 2**224 - 1
# Of order eight, the one encoded with zero as its other coordinate's sign.
_EDWARDS_EIGHT = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_MONTGOMERY_EIGHT = tuple(
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    )
)
# Bits of the coordinate, its prime, and the coordinates.
_CURVES = {
    "X25519": (255, _P25519, frozenset((0, 1, _P25519 - 1, *_MONTGOMERY_EIGHT))),
    "X448": (448, _P448, frozenset((0, 1, _P448 - 1))),
    "Ed25519": (255, _P25519, frozenset((0, 1, _P25519 - 1, _EDWARDS_EIGHT, _P25519 - _EDWARDS_EIGHT))),
    "Ed448": (448, _P448, frozenset((0, 1, _P448 - 1))),
}


def has_small_order(curve: str, point: bytes) -> bool:
    """Tell whether an encoded point of the engine's curve `curve` has small order; other curves have none."""
    if curve not in _CURVES:
        return False
    bits, prime, coordinates = _CURVES[curve]
    return int.from_bytes(point, "little") % (1 << bits) % prime in coordinates
