"""The rows of the mechanism table for DSA and for Diffie-Hellman over finite fields."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import SIGN, SIGNING_HASHES, Row, constant
from ferrohsm.parameters import ParameterKind

_DSA = (1024, 4096)  # bits of the prime
_DH = (1024, 8192)


def rows() -> list[Row]:
    """Return the rows."""
    kind, derive = ParameterKind, Function.DERIVE
    return [
        _parameters(ck.CKM_DSA_PARAMETER_GEN, ck.CKK_DSA, _DSA, "dsa"),
        _pair(ck.CKM_DSA_KEY_PAIR_GEN, ck.CKK_DSA, _DSA, "dsa"),
        Row(ck.CKM_DSA, SIGN, (ck.CKK_DSA,), kind.NONE, *_DSA, "dsa", None, True),
        *(
            Row(constant("dsa_" + name, ""), SIGN, (ck.CKK_DSA,), kind.NONE, *_DSA, "dsa", name)
            for name in SIGNING_HASHES
        ),
        _parameters(ck.CKM_DH_PKCS_PARAMETER_GEN, ck.CKK_DH, _DH, "dh"),
        _pair(ck.CKM_DH_PKCS_KEY_PAIR_GEN, ck.CKK_DH, _DH, "dh"),
        Row(ck.CKM_DH_PKCS_DERIVE, derive, (ck.CKK_DH,), kind.BYTES, *_DH, "dh"),
        _parameters(ck.CKM_X9_42_DH_PARAMETER_GEN, ck.CKK_X9_42_DH, _DSA, "dh"),
        _pair(ck.CKM_X9_42_DH_KEY_PAIR_GEN, ck.CKK_X9_42_DH, _DH, "dh"),
        Row(ck.CKM_X9_42_DH_DERIVE, derive, (ck.CKK_X9_42_DH,), kind.X9_42_DH, *_DH, "dh"),
    ]


def _pair(type: int, key_type: int, sizes: tuple[int, int], family: str) -> Row:
    pair = Function.GENERATE_KEY_PAIR
    return Row(type, pair, (), ParameterKind.NONE, *sizes, family, produces=key_type)


def _parameters(type: int, key_type: int, sizes: tuple[int, int], family: str) -> Row:
    return Row(
        type,
        Function.GENERATE,
        (),
        ParameterKind.NONE,
        *sizes,
        family,
        produces=key_type,
        object_class=ck.CKO_DOMAIN_PARAMETERS,
    )
