"""The rows of the mechanism table that make keys of other keys, of passwords, or of a private key."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import HMAC_KEY_TYPES, SECRET_MAX_BYTES, SECRETS, Row
from ferrohsm.parameters import ParameterKind

_SIZES = (1, SECRET_MAX_BYTES)
_BITS = (8, SECRET_MAX_BYTES * 8)
_PAIRS = (
    *(ck.CKK_RSA, ck.CKK_EC, ck.CKK_EC_EDWARDS, ck.CKK_EC_MONTGOMERY),
    *(ck.CKK_ML_DSA, ck.CKK_ML_KEM, ck.CKK_SLH_DSA),
    *(ck.CKK_DSA, ck.CKK_DH, ck.CKK_X9_42_DH),
)


def rows() -> list[Row]:
    """Return the rows."""
    kind, derive = ParameterKind, Function.DERIVE
    hkdf = (ck.CKK_HKDF, ck.CKK_GENERIC_SECRET)
    prf = (ck.CKK_GENERIC_SECRET, ck.CKK_AES, ck.CKK_DES3, ck.CKK_HKDF, *HMAC_KEY_TYPES)
    return [
        Row(ck.CKM_CONCATENATE_BASE_AND_KEY, derive, SECRETS, kind.KEY, *_SIZES, "rearrange"),
        Row(ck.CKM_CONCATENATE_BASE_AND_DATA, derive, SECRETS, kind.STRING, *_SIZES, "rearrange"),
        Row(ck.CKM_CONCATENATE_DATA_AND_BASE, derive, SECRETS, kind.STRING, *_SIZES, "rearrange"),
        Row(ck.CKM_XOR_BASE_AND_DATA, derive, SECRETS, kind.STRING, *_SIZES, "rearrange"),
        Row(ck.CKM_EXTRACT_KEY_FROM_KEY, derive, SECRETS, kind.ULONG, *_SIZES, "rearrange"),
        Row(
            ck.CKM_PUB_KEY_FROM_PRIV_KEY,
            derive,
            _PAIRS,
            kind.NONE,
            0,
            0,
            "public",
            object_class=ck.CKO_PUBLIC_KEY,
        ),
        Row(ck.CKM_HKDF_DERIVE, derive, hkdf, kind.HKDF, *_SIZES, "hkdf"),
        Row(ck.CKM_HKDF_DATA, derive, hkdf, kind.HKDF, *_SIZES, "hkdf", object_class=ck.CKO_DATA),
        Row(ck.CKM_HKDF_KEY_GEN, Function.GENERATE, (), kind.NONE, *_SIZES, "secret", produces=ck.CKK_HKDF),
        Row(ck.CKM_SP800_108_COUNTER_KDF, derive, prf, kind.SP800_108, *_BITS, "sp800_108"),
        Row(ck.CKM_SP800_108_FEEDBACK_KDF, derive, prf, kind.SP800_108_FEEDBACK, *_BITS, "sp800_108"),
        Row(ck.CKM_SP800_108_DOUBLE_PIPELINE_KDF, derive, prf, kind.SP800_108, *_BITS, "sp800_108"),
        *_pkcs12(),
        Row(ck.CKM_PKCS5_PBKD2, Function.GENERATE, (), kind.PBKD2, *_SIZES, "pbkdf2"),
    ]


def _pkcs12() -> list[Row]:
    """Return the derivations of PKCS#12, of SHA-1 and with keys of their time."""
    made = (
        (ck.CKM_PBE_SHA1_DES3_EDE_CBC, ck.CKK_DES3, 24),
        (ck.CKM_PBE_SHA1_DES2_EDE_CBC, ck.CKK_DES2, 16),
        (ck.CKM_PBA_SHA1_WITH_SHA1_HMAC, ck.CKK_GENERIC_SECRET, 20),
    )
    generate, kind = Function.GENERATE, ParameterKind.PBE
    return [
        Row(type, generate, (), kind, size, size, "pbe", "sha1", produces=key_type, weak=True)
        for type, key_type, size in made
    ]
