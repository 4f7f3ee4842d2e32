"""The rows of the mechanism table for ML-DSA and ML-KEM."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import SIGN, SIGNING_HASHES, Row
from ferrohsm.parameters import ParameterKind

# Of public keys, in bytes: ML-DSA-44 to 87, ML-KEM-768 and 1024.
_ML_DSA = (1312, 2592)
_ML_KEM = (1184, 1568)


def rows() -> list[Row]:
    """Return the rows."""
    kind, pair, dsa, kem = ParameterKind, Function.GENERATE_KEY_PAIR, (ck.CKK_ML_DSA,), (ck.CKK_ML_KEM,)
    encapsulate = Function.ENCAPSULATE | Function.DECAPSULATE
    # SHA-1 is the one that other signatures have and HashML-DSA has not.
    hashes = [*(name for name in SIGNING_HASHES if name != "sha1"), "shake128", "shake256"]
    return [
        Row(ck.CKM_ML_DSA_KEY_PAIR_GEN, pair, (), kind.NONE, *_ML_DSA, "lattice", produces=ck.CKK_ML_DSA),
        Row(ck.CKM_ML_DSA, SIGN, dsa, kind.SIGN_CONTEXT, *_ML_DSA, "ml_dsa"),
        Row(ck.CKM_HASH_ML_DSA, SIGN, dsa, kind.HASH_SIGN_CONTEXT, *_ML_DSA, "ml_dsa", None, True),
        *(
            Row(
                int(getattr(ck, f"CKM_HASH_ML_DSA_{name.upper()}")),
                SIGN,
                dsa,
                kind.SIGN_CONTEXT,
                *_ML_DSA,
                "ml_dsa",
                name,
            )
            for name in hashes
        ),
        Row(ck.CKM_ML_KEM_KEY_PAIR_GEN, pair, (), kind.NONE, *_ML_KEM, "lattice", produces=ck.CKK_ML_KEM),
        Row(ck.CKM_ML_KEM, encapsulate, kem, kind.NONE, *_ML_KEM, "lattice", None, True),
    ]
