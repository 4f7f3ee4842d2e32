"""The rows of the mechanism table for ML-DSA, ML-KEM and SLH-DSA."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import SIGN, SIGNING_HASHES, Row
from ferrohsm.parameters import ParameterKind

# Of public keys, in bytes: ML-DSA-44 to 87, ML-KEM-512 to 1024, SLH-DSA of 128 to 256 bits.
_ML_DSA = (1312, 2592)
_ML_KEM = (800, 1568)
_SLH_DSA = (32, 64)


def rows() -> list[Row]:
    """Return the rows."""
    kind, pair, kem = ParameterKind, Function.GENERATE_KEY_PAIR, (ck.CKK_ML_KEM,)
    encapsulate = Function.ENCAPSULATE | Function.DECAPSULATE
    return [
        Row(ck.CKM_ML_DSA_KEY_PAIR_GEN, pair, (), kind.NONE, *_ML_DSA, "postquantum", produces=ck.CKK_ML_DSA),
        *_signatures("ML_DSA", ck.CKK_ML_DSA, _ML_DSA),
        Row(ck.CKM_ML_KEM_KEY_PAIR_GEN, pair, (), kind.NONE, *_ML_KEM, "postquantum", produces=ck.CKK_ML_KEM),
        Row(ck.CKM_ML_KEM, encapsulate, kem, kind.NONE, *_ML_KEM, "postquantum", None, True),
        Row(
            ck.CKM_SLH_DSA_KEY_PAIR_GEN,
            pair,
            (),
            kind.NONE,
            *_SLH_DSA,
            "postquantum",
            produces=ck.CKK_SLH_DSA,
        ),
        *_signatures("SLH_DSA", ck.CKK_SLH_DSA, _SLH_DSA),
    ]


def _signatures(scheme: str, key_type: int, sizes: tuple[int, int]) -> list[Row]:
    """Return the rows of a scheme: of a message, of a hash that the caller gives, of a message's hash."""
    kind, keys, family = ParameterKind, (key_type,), scheme.lower()
    # SHA-1 is the one that other signatures have and these have not.
    hashes = [*(name for name in SIGNING_HASHES if name != "sha1"), "shake128", "shake256"]
    return [
        Row(int(getattr(ck, f"CKM_{scheme}")), SIGN, keys, kind.SIGN_CONTEXT, *sizes, family),
        Row(
            int(getattr(ck, f"CKM_HASH_{scheme}")),
            SIGN,
            keys,
            kind.HASH_SIGN_CONTEXT,
            *sizes,
            family,
            None,
            True,
        ),
        *(
            Row(
                int(getattr(ck, f"CKM_HASH_{scheme}_{name.upper()}")),
                SIGN,
                keys,
                kind.SIGN_CONTEXT,
                *sizes,
                family,
                name,
            )
            for name in hashes
        ),
    ]
