"""A key and a parameter of every mechanism, with which our module takes it."""

from __future__ import annotations

from typing import Any

import mechanism_parameters as parameters
from cases import DATA, PARAMETERS
from keys import NAMES, OPEN, PAIRS, SECRETS
from sides import Side

from ferrohsm import constants as ck
from ferrohsm.mechanisms import Row


def keys_for(side: Side, row: Row) -> tuple[int, int]:
    """Return the keys of the public and the private half of the mechanism."""
    if not row.key_types:
        return 0, 0
    key_type = row.key_types[0]
    if key_type in (ck.CKK_ML_DSA, ck.CKK_ML_KEM, ck.CKK_SLH_DSA):
        return _lattice(side, key_type)
    if key_type == ck.CKK_HOTP:
        head = [(ck.CKA_CLASS, ck.CKO_OTP_KEY), (ck.CKA_KEY_TYPE, key_type), (ck.CKA_PRIVATE, False), *OPEN]
        uses = [(ck.CKA_SIGN, True), (ck.CKA_VERIFY, True), (ck.CKA_VALUE, DATA[:20])]
        handle: int = side.once(key_type, lambda: side.create([*head, *uses]))
        return handle, handle
    if key_type in NAMES:
        name = NAMES[key_type][0]
        return side.known(name, private=False), side.known(name, private=True)
    length = 16 if row.family == "xcbc_mac" else None
    if row.family == "tls":
        made = side.secret(key_type, b"\3\3" + DATA[:46])
        return made, made
    made = side.secret(key_type, SECRETS[key_type][:length])
    return made, made


def _lattice(side: Side, key_type: int) -> tuple[int, int]:
    type_, set_ = {
        ck.CKK_ML_DSA: (ck.CKM_ML_DSA_KEY_PAIR_GEN, ck.CKP_ML_DSA_44),
        ck.CKK_ML_KEM: (ck.CKM_ML_KEM_KEY_PAIR_GEN, ck.CKP_ML_KEM_768),
        ck.CKK_SLH_DSA: (ck.CKM_SLH_DSA_KEY_PAIR_GEN, ck.CKP_SLH_DSA_SHA2_128F),
    }[key_type]
    pair: tuple[int, int] = side.once(
        type_, lambda: side.generate_pair(type_, [(ck.CKA_PARAMETER_SET, set_)], list(OPEN))
    )
    return pair


def good_parameter(side: Side, row: Row) -> Any:
    """Return a parameter that the mechanism takes: bytes, a structure or None."""
    special = {
        "rsa_oaep": lambda: parameters.oaep(),
        "ecdh1": lambda: _ecdh(row),
        "x9_42_dh": lambda: _public_value("X9.42 DH"),
        "ecdh_aes_key_wrap": lambda: parameters.structure(256, ck.CKD_SHA256_KDF, 4, b"info"),
        "hash_sign_context": lambda: parameters.structure(ck.CKH_HEDGE_PREFERRED, b"c", 1, ck.CKM_SHA256),
        "sign_context": lambda: parameters.structure(ck.CKH_HEDGE_PREFERRED, b"c", 1),
        "tls_kdf": lambda: parameters.tls_kdf(b"EXPORTER", DATA[:32], DATA[32:], b"context"),
        "tls12_key_material": _key_material,
        "pbe": lambda: parameters.pbe(b"\0p\0w\0\0", b"salt", 2),
        "otp": lambda: parameters.otp_parameters((ck.CK_OTP_COUNTER, bytes(8))),
    }
    if row.parameter in special:
        return special[row.parameter]()
    if row.type in (ck.CKM_SHA512_T, ck.CKM_SHA512_T_KEY_DERIVATION):
        return parameters.structure(256)
    if row.parameter not in PARAMETERS:
        raise LookupError(f"{row.parameter}: a line above says what a good parameter of this kind is")
    return PARAMETERS[row.parameter](row)[0](side, len(DATA))


def _key_material() -> Any:
    made, *kept = parameters.key_material((256, 128, 128), DATA[:32], DATA[32:])
    made.outputs = kept  # type: ignore[attr-defined]
    return made


def _ecdh(row: Row) -> Any:
    point = PAIRS[NAMES[row.key_types[0]][0]].point()
    return parameters.structure(ck.CKD_NULL, 0, None, len(point), point)


def _public_value(name: str) -> Any:
    value = PAIRS[name][ck.CKA_VALUE]
    return parameters.structure(ck.CKD_NULL, 0, None, len(value), value)
