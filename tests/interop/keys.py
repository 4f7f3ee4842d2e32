"""The keys that pass between two modules: pairs whose material is known, secrets of every type.

They were made for these tests and protect nothing.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from known_keys import DH_P, KEYS, SCALAR, octets

from ferrohsm import constants as ck
from ferrohsm.mechanism_row import HMAC_TYPES

Pairs = list[tuple[int, Any]]

OPEN: Pairs = [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)]
NO_PRIVACY = (ck.CKA_PRIVATE,)
_USES = ("ENCRYPT", "DECRYPT", "SIGN", "VERIFY", "WRAP", "UNWRAP", "DERIVE")
CURVES = {
    "P-256": ("06082a8648ce3d030107", ec.SECP256R1(), SCALAR),
    "P-384": ("06052b81040022", ec.SECP384R1(), SCALAR << 96 | 0x1234567),
    "P-521": ("06052b81040023", ec.SECP521R1(), SCALAR << 224 | 0x1234567),
}


class Pair:
    """A key pair as two templates; `key_type` is a CKK_*."""

    def __init__(self, public: Pairs, private: Pairs) -> None:
        self.public, self.private = public, private
        self.key_type = dict(public)[ck.CKA_KEY_TYPE]

    def half(self, *, private: bool, peer: str) -> Pairs:
        """Return a template that `peer` takes."""
        pairs = list(self.private if private else self.public)
        if peer == "NSS" and private and self.key_type in (ck.CKK_EC, ck.CKK_DSA, ck.CKK_DH):
            pairs.append(self.mark())
        return pairs

    def mark(self) -> tuple[int, Any]:
        """Return the attribute by which NSS finds a private key in its database: the public value."""
        known = dict(self.public)
        return _NSS_DB, self.point() if ck.CKA_EC_POINT in known else known[ck.CKA_VALUE]

    def point(self) -> bytes:
        """Return the public point without the OCTET STRING around it."""
        wrapped = bytes(self[ck.CKA_EC_POINT])
        return wrapped[3:] if wrapped[1] == 0x81 else wrapped[2:]

    def __getitem__(self, attribute: int) -> Any:
        return dict(self.public)[attribute]


_NSS_DB = 0xD5A0DB00  # CKA_NSS_DB


def usable(key_type: int) -> Pairs:
    """Return the template of a secret key of that type that may do everything, but for its value."""
    uses: Pairs = [(getattr(ck, f"CKA_{name}"), True) for name in _USES]
    return [
        (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
        (ck.CKA_KEY_TYPE, key_type),
        (ck.CKA_PRIVATE, False),
        *OPEN,
        *uses,
    ]


def _point(raw: bytes) -> bytes:
    length = bytes((len(raw),)) if len(raw) < 128 else bytes((0x81, len(raw)))
    return b"\4" + length + raw


def _bare(pairs: Pairs) -> Pairs:
    kept = [pair for pair in pairs if pair[0] not in (ck.CKA_LABEL, ck.CKA_PRIVATE)]
    return [*kept, (ck.CKA_PRIVATE, False)]


def _curve(name: str) -> Pair:
    oid, curve, scalar = CURVES[name]
    public = ec.derive_private_key(scalar, curve).public_key()
    raw = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    parameters = (ck.CKA_EC_PARAMS, bytes.fromhex(oid))
    head = (ck.CKA_KEY_TYPE, ck.CKK_EC)
    private: Pairs = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), head, *OPEN, (ck.CKA_PRIVATE, False), parameters]
    private += [(ck.CKA_SIGN, True), (ck.CKA_DERIVE, True), (ck.CKA_UNWRAP, True)]
    private.append((ck.CKA_VALUE, scalar.to_bytes((curve.key_size + 7) // 8, "big")))
    return Pair(
        [
            (ck.CKA_CLASS, ck.CKO_PUBLIC_KEY),
            head,
            parameters,
            (ck.CKA_EC_POINT, _point(raw)),
            (ck.CKA_VERIFY, True),
            (ck.CKA_WRAP, True),
        ],
        private,
    )


def _rfc8032_or_7748(key_type: int, oid: str, private: bytes, raw: bytes) -> Pair:
    parameters, head = (ck.CKA_EC_PARAMS, bytes.fromhex(oid)), (ck.CKA_KEY_TYPE, key_type)
    signs = key_type == ck.CKK_EC_EDWARDS
    public: Pairs = [(ck.CKA_CLASS, ck.CKO_PUBLIC_KEY), head, parameters, (ck.CKA_EC_POINT, _point(raw))]
    uses = [(ck.CKA_SIGN, True)] if signs else [(ck.CKA_DERIVE, True), (ck.CKA_UNWRAP, True)]
    return Pair(
        [*public, (ck.CKA_VERIFY, True)] if signs else [*public, (ck.CKA_WRAP, True)],
        [
            (ck.CKA_CLASS, ck.CKO_PRIVATE_KEY),
            head,
            *OPEN,
            (ck.CKA_PRIVATE, False),
            parameters,
            *uses,
            (ck.CKA_VALUE, private),
        ],
    )


def _recovering() -> Pair:
    public, private = KEYS[ck.CKK_RSA]
    recover = (ck.CKA_VERIFY_RECOVER, True), (ck.CKA_SIGN_RECOVER, True)
    return Pair([*_bare(public), recover[0]], [*_bare(private), recover[1]])


def _x9_42() -> Pair:
    domain: Pairs = [(ck.CKA_PRIME, octets(DH_P)), (ck.CKA_BASE, b"\2"), (ck.CKA_SUBPRIME, octets(DH_P // 2))]
    head = (ck.CKA_KEY_TYPE, ck.CKK_X9_42_DH)
    secret: Pairs = [*OPEN, (ck.CKA_PRIVATE, False), (ck.CKA_DERIVE, True), (ck.CKA_VALUE, octets(SCALAR))]
    return Pair(
        [(ck.CKA_CLASS, ck.CKO_PUBLIC_KEY), head, *domain, (ck.CKA_VALUE, octets(pow(2, SCALAR, DH_P)))],
        [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), head, *domain, *secret],
    )


_X25519 = x25519.X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
_X448 = x448.X448PrivateKey.from_private_bytes(bytes(range(1, 57)))
_ED448 = Ed448PrivateKey.from_private_bytes(bytes(range(57)))

PAIRS: dict[str, Pair] = {
    "RSA": _recovering(),
    **{name: _curve(name) for name in CURVES},
    "Ed25519": Pair(*map(_bare, KEYS[ck.CKK_EC_EDWARDS])),
    "Ed448": _rfc8032_or_7748(
        ck.CKK_EC_EDWARDS, "06032b6571", bytes(range(57)), _ED448.public_key().public_bytes_raw()
    ),
    "X25519": _rfc8032_or_7748(
        ck.CKK_EC_MONTGOMERY, "06032b656e", bytes(range(1, 33)), _X25519.public_key().public_bytes_raw()
    ),
    "X448": _rfc8032_or_7748(
        ck.CKK_EC_MONTGOMERY, "06032b656f", bytes(range(1, 57)), _X448.public_key().public_bytes_raw()
    ),
    "DSA": Pair(*map(_bare, KEYS[ck.CKK_DSA])),
    "DH": Pair(*map(_bare, KEYS[ck.CKK_DH])),
    "X9.42 DH": _x9_42(),
}
NAMES: dict[int, tuple[str, ...]] = {
    ck.CKK_RSA: ("RSA",),
    ck.CKK_EC: tuple(CURVES),
    ck.CKK_EC_EDWARDS: ("Ed25519", "Ed448"),
    ck.CKK_EC_MONTGOMERY: ("X25519", "X448"),
    ck.CKK_DSA: ("DSA",),
    ck.CKK_DH: ("DH",),
    ck.CKK_X9_42_DH: ("X9.42 DH",),
}
_VALUE = bytes(range(64))
SECRETS: dict[int, bytes] = {
    ck.CKK_AES: _VALUE[:32],
    ck.CKK_CAMELLIA: _VALUE[:32],
    ck.CKK_ARIA: _VALUE[:32],
    ck.CKK_CHACHA20: _VALUE[:32],
    ck.CKK_POLY1305: _VALUE[:32],
    ck.CKK_AES_XTS: _VALUE,
    ck.CKK_HKDF: _VALUE,
    ck.CKK_DES: bytes.fromhex("0123456789abcdef"),
    ck.CKK_DES2: bytes.fromhex("0123456789abcdeffedcba9876543210"),
    ck.CKK_DES3: bytes.fromhex("0123456789abcdeffedcba987654321089abcdef01234567"),
    ck.CKK_GENERIC_SECRET: _VALUE,
    **dict.fromkeys(HMAC_TYPES.values(), _VALUE),
}
LENGTHS: dict[int, tuple[int | None, ...]] = {
    ck.CKK_AES: (16, 24, 32),
    ck.CKK_CAMELLIA: (16, 24, 32),
    ck.CKK_ARIA: (16, 24, 32),
    ck.CKK_AES_XTS: (32, 64),
    ck.CKK_GENERIC_SECRET: (20, 64),
}
