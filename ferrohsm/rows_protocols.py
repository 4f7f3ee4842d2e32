"""The rows of the mechanism table that protocols derive their keys with: TLS 1.2, IKE, SSH."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import HMAC_KEY_TYPES, SECRET_MAX_BYTES, SECRETS, SIGN, Row
from ferrohsm.parameters import ParameterKind

_SIZES = (1, SECRET_MAX_BYTES)
_MASTER = (48, 48)  # bytes of a TLS master secret


def rows() -> list[Row]:
    """Return the rows."""
    return [*_tls(), *_ike(), *_ssh()]


def _tls() -> list[Row]:
    kind, derive, keys = ParameterKind, Function.DERIVE, (ck.CKK_GENERIC_SECRET,)
    master, extended, material = kind.TLS12_MASTER, kind.TLS12_EXTENDED_MASTER, kind.TLS12_KEY_MATERIAL
    return [
        Row(ck.CKM_TLS12_MASTER_KEY_DERIVE, derive, keys, master, *_MASTER, "tls"),
        Row(ck.CKM_TLS12_MASTER_KEY_DERIVE_DH, derive, keys, master, *_SIZES, "tls"),
        Row(ck.CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE, derive, keys, extended, *_MASTER, "tls"),
        Row(ck.CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH, derive, keys, extended, *_SIZES, "tls"),
        Row(ck.CKM_TLS12_KEY_AND_MAC_DERIVE, derive, keys, material, *_MASTER, "tls"),
        Row(ck.CKM_TLS12_KEY_SAFE_DERIVE, derive, keys, material, *_MASTER, "tls"),
        Row(ck.CKM_TLS_KDF, derive, keys, kind.TLS_KDF, *_SIZES, "tls"),
        Row(ck.CKM_TLS12_KDF, derive, keys, kind.TLS_KDF, *_SIZES, "tls"),
        Row(ck.CKM_TLS_MAC, SIGN, keys, kind.TLS_MAC, *_SIZES, "tls_mac"),
        Row(ck.CKM_TLS12_MAC, SIGN, keys, kind.TLS_MAC, *_SIZES, "tls_mac"),
    ]


def _ike() -> list[Row]:
    kind, derive = ParameterKind, Function.DERIVE
    keys = (ck.CKK_GENERIC_SECRET, ck.CKK_HKDF, *HMAC_KEY_TYPES)
    return [
        Row(ck.CKM_IKE_PRF_DERIVE, derive, keys, kind.IKE_PRF, *_SIZES, "ike"),
        Row(ck.CKM_IKE1_PRF_DERIVE, derive, SECRETS, kind.IKE1_PRF, *_SIZES, "ike"),
        Row(ck.CKM_IKE1_EXTENDED_DERIVE, derive, keys, kind.IKE1_EXTENDED, *_SIZES, "ike"),
        Row(ck.CKM_IKE2_PRF_PLUS_DERIVE, derive, keys, kind.IKE2_PRF_PLUS, *_SIZES, "ike"),
    ]


def _ssh() -> list[Row]:
    """Return the derivation of SSH, which the specification has no number for: Kryoptic's is used."""
    keys = (ck.CKK_GENERIC_SECRET,)
    kind = ParameterKind.SSH_KDF
    return [Row(ck.CKM_KRYOPTIC_SSHKDF_DERIVE, Function.DERIVE, keys, kind, *_SIZES, "ssh")]
