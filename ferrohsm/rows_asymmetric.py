"""The rows of the mechanism table whose keys are pairs: RSA and elliptic curves."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import (
    CRYPT,
    EC_FLAGS,
    RECOVER,
    RFC8032_FLAGS,
    RSA_MAX_BITS,
    RSA_MIN_BITS,
    SIGN,
    SIGNING_HASHES,
    WRAP,
    Row,
    constant,
)
from ferrohsm.parameters import ParameterKind


def _rsa() -> list[Row]:
    kind, sizes, key = ParameterKind, (RSA_MIN_BITS, RSA_MAX_BITS), (ck.CKK_RSA,)
    rows = [
        Row(
            ck.CKM_RSA_PKCS_KEY_PAIR_GEN,
            Function.GENERATE_KEY_PAIR,
            (),
            kind.NONE,
            *sizes,
            "rsa",
            produces=ck.CKK_RSA,
        ),
        Row(ck.CKM_RSA_PKCS, CRYPT | SIGN | RECOVER | WRAP, key, kind.NONE, *sizes, "rsa", None, True),
        Row(ck.CKM_RSA_X_509, CRYPT | SIGN | RECOVER, key, kind.NONE, *sizes, "rsa", None, True),
        Row(ck.CKM_RSA_PKCS_OAEP, CRYPT | WRAP, key, kind.RSA_OAEP, *sizes, "rsa", None, True),
        Row(ck.CKM_RSA_PKCS_PSS, SIGN, key, kind.RSA_PSS, *sizes, "rsa", None, True),
        Row(
            ck.CKM_RSA_AES_KEY_WRAP, WRAP, key, kind.RSA_AES_KEY_WRAP, *sizes, "rsa_aes_key_wrap", None, True
        ),
    ]
    rows.append(Row(ck.CKM_MD5_RSA_PKCS, SIGN, key, kind.NONE, *sizes, "rsa", "md5", weak=True))
    for name in SIGNING_HASHES:
        rows += [
            Row(constant(name, "_RSA_PKCS"), SIGN, key, kind.NONE, *sizes, "rsa", name),
            Row(constant(name, "_RSA_PKCS_PSS"), SIGN, key, kind.RSA_PSS, *sizes, "rsa", name),
        ]
    return rows


def _ec() -> list[Row]:
    kind, key = ParameterKind, (ck.CKK_EC,)
    pair = Function.GENERATE_KEY_PAIR
    rows = [
        Row(
            ck.CKM_EC_KEY_PAIR_GEN,
            pair,
            (),
            kind.NONE,
            256,
            521,
            "ec",
            produces=ck.CKK_EC,
            flags=EC_FLAGS,
        ),
        Row(
            ck.CKM_EC_EDWARDS_KEY_PAIR_GEN,
            pair,
            (),
            kind.NONE,
            255,
            448,
            "eddsa",
            produces=ck.CKK_EC_EDWARDS,
            flags=RFC8032_FLAGS,
        ),
        Row(
            ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
            pair,
            (),
            kind.NONE,
            255,
            448,
            "ecdh",
            produces=ck.CKK_EC_MONTGOMERY,
            flags=RFC8032_FLAGS,
        ),
        Row(ck.CKM_ECDSA, SIGN, key, kind.NONE, 256, 521, "ec", None, True, flags=EC_FLAGS),
        Row(
            ck.CKM_EDDSA,
            SIGN,
            (ck.CKK_EC_EDWARDS,),
            kind.EDDSA,
            255,
            448,
            "eddsa",
            flags=RFC8032_FLAGS,
        ),
        Row(
            ck.CKM_ECDH1_DERIVE,
            Function.DERIVE,
            (ck.CKK_EC, ck.CKK_EC_MONTGOMERY),
            kind.ECDH1,
            255,
            521,
            "ecdh",
            flags=EC_FLAGS,
        ),
        # Every curve here has cofactor 1, so this is the same computation.
        Row(
            ck.CKM_ECDH1_COFACTOR_DERIVE,
            Function.DERIVE,
            key,
            kind.ECDH1,
            256,
            521,
            "ecdh",
            flags=EC_FLAGS,
        ),
    ]
    wrap = kind.ECDH_AES_KEY_WRAP
    both = (ck.CKK_EC, ck.CKK_EC_MONTGOMERY)
    rows += [
        Row(mechanism, WRAP, keys, wrap, *sizes, "ecdh_aes_key_wrap", None, True, flags=EC_FLAGS)
        for mechanism, keys, sizes in (
            (ck.CKM_ECDH_AES_KEY_WRAP, both, (255, 521)),
            (ck.CKM_ECDH_COF_AES_KEY_WRAP, key, (256, 521)),
            (ck.CKM_ECDH_X_AES_KEY_WRAP, (ck.CKK_EC_MONTGOMERY,), (255, 448)),
        )
    ]
    rows += [
        Row(constant("ecdsa_" + name, ""), SIGN, key, kind.NONE, 256, 521, "ec", name, flags=EC_FLAGS)
        for name in SIGNING_HASHES
    ]
    return rows


def rows() -> list[Row]:
    """Return the rows."""
    return [*_rsa(), *_ec()]
