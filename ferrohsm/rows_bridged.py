"""Mechanisms that our own engine does not compute, but a backend behind the PKCS#11 bridge may.

Their rows say how the parameter looks and what keys they go with; nothing here offers them.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import SIGN, Row
from ferrohsm.parameters import ParameterKind

_FAMILY = "backend"


def rows() -> list[Row]:
    """Return the rows."""
    rsa, none, sizes = (ck.CKK_RSA,), ParameterKind.NONE, (512, 16384)
    pair = Function.GENERATE_KEY_PAIR
    return [
        Row(ck.CKM_RSA_X9_31_KEY_PAIR_GEN, pair, (), none, *sizes, _FAMILY, produces=ck.CKK_RSA),
        Row(ck.CKM_RSA_X9_31, SIGN, rsa, none, *sizes, _FAMILY, None, True),
        Row(ck.CKM_SHA1_RSA_X9_31, SIGN, rsa, none, *sizes, _FAMILY, "sha1"),
    ]
