"""The rows of the mechanism table for hash functions and what is built on them, and generic secrets."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import (
    HASHES,
    HMAC_TYPES,
    HOTP_MAX_BYTES,
    HOTP_MIN_BYTES,
    SECRET_MAX_BYTES,
    SECRETS,
    SIGN,
    Row,
    constant,
)
from ferrohsm.parameters import ParameterKind

_SIZES = (1, SECRET_MAX_BYTES)
_HOTP = (HOTP_MIN_BYTES, HOTP_MAX_BYTES)


def _of(name: str, key_type: int) -> list[Row]:
    kind, keys = ParameterKind, (ck.CKK_GENERIC_SECRET, key_type)
    stem = "sha_1" if name == "sha1" else name
    derivation = "_KEY_DERIVE" if name.startswith("blake2b") else "_KEY_DERIVATION"
    generate = Function.GENERATE
    return [
        Row(HASHES[name].type, Function.DIGEST, (), kind.NONE, 0, 0, "digest", name),
        Row(constant(stem, "_HMAC"), SIGN, keys, kind.NONE, *_SIZES, "hmac", name),
        Row(constant(stem, "_HMAC_GENERAL"), SIGN, keys, kind.ULONG, *_SIZES, "hmac", name),
        Row(constant(stem, "_KEY_GEN"), generate, (), kind.NONE, *_SIZES, "secret", produces=key_type),
        Row(constant(name, derivation), Function.DERIVE, SECRETS, kind.NONE, *_SIZES, "hash_derive", name),
    ]


def _md5() -> list[Row]:
    """Return what the configuration has to ask for (``[mechanisms] weak``)."""
    kind, keys = ParameterKind, (ck.CKK_GENERIC_SECRET,)
    rows = [
        Row(ck.CKM_MD5, Function.DIGEST, (), kind.NONE, 0, 0, "digest", "md5"),
        Row(ck.CKM_MD5_HMAC, SIGN, keys, kind.NONE, *_SIZES, "hmac", "md5"),
        Row(ck.CKM_MD5_HMAC_GENERAL, SIGN, keys, kind.ULONG, *_SIZES, "hmac", "md5"),
        Row(ck.CKM_MD5_KEY_DERIVATION, Function.DERIVE, SECRETS, kind.NONE, *_SIZES, "hash_derive", "md5"),
    ]
    return [row._replace(weak=True) for row in rows]


def rows() -> list[Row]:
    """Return the rows."""
    kind, derive = ParameterKind, Function.DERIVE
    made = [row for name, key_type in HMAC_TYPES.items() for row in _of(name, key_type)]
    return [
        *made,
        *_md5(),
        Row(
            ck.CKM_HOTP_KEY_GEN,
            Function.GENERATE,
            (),
            kind.NONE,
            *_HOTP,
            "secret",
            produces=ck.CKK_HOTP,
            object_class=ck.CKO_OTP_KEY,
        ),
        Row(ck.CKM_HOTP, SIGN, (ck.CKK_HOTP,), kind.OTP, *_HOTP, "hotp", "sha1"),
        Row(ck.CKM_SHA512_T, Function.DIGEST, (), kind.ULONG, 0, 0, "digest"),
        Row(ck.CKM_SHA512_T_KEY_DERIVATION, derive, SECRETS, kind.ULONG, *_SIZES, "hash_derive"),
        Row(ck.CKM_SHAKE_128_KEY_DERIVATION, derive, SECRETS, kind.NONE, *_SIZES, "hash_derive", "shake128"),
        Row(ck.CKM_SHAKE_256_KEY_DERIVATION, derive, SECRETS, kind.NONE, *_SIZES, "hash_derive", "shake256"),
        Row(
            ck.CKM_GENERIC_SECRET_KEY_GEN,
            Function.GENERATE,
            (),
            kind.NONE,
            8,
            SECRET_MAX_BYTES * 8,
            "secret",
            produces=ck.CKK_GENERIC_SECRET,
        ),
    ]
