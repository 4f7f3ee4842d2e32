"""DSA (PKCS#11 3.2, "DSA"): r and s, each padded to the length of the subprime."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from ferrohsm.adapters import Function, Key
from ferrohsm.errors import DataLenRange, SignatureInvalid, SignatureLenRange
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm.typed import Any
from ferrohsm_adapters.software import ffc_material
from ferrohsm_adapters.software.ec import Ecdsa, HashedEcdsa, RawEcdsa
from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS

_DIGESTS = (20, 28, 32, 48, 64)  # bytes that CKM_DSA takes


class _Dsa(Ecdsa):
    """What differs from ECDSA: the library takes the digest's algorithm as it is."""

    __slots__ = ()

    def _sign(self, digest: Any, algorithm: Any) -> bytes:
        r, s = decode_dss_signature(self.key.sign(digest, algorithm))
        return r.to_bytes(self.order, "big") + s.to_bytes(self.order, "big")

    def _check_signature(self, signature: memoryview, digest: Any, algorithm: Any) -> None:
        if len(signature) != 2 * self.order:
            raise SignatureLenRange
        r = int.from_bytes(signature[: self.order], "big")
        s = int.from_bytes(signature[self.order :], "big")
        try:
            self.key.verify(encode_dss_signature(r, s), bytes(digest), algorithm)
        except InvalidSignature:
            raise SignatureInvalid from None


class _RawDsa(_Dsa, RawEcdsa):
    """``CKM_DSA``: the data is a digest."""

    __slots__ = ()

    def _check_input(self, length: int) -> None:
        if length not in _DIGESTS:
            raise DataLenRange


class _HashedDsa(_Dsa, HashedEcdsa):
    """DSA over data of any length, hashed here."""

    __slots__ = ()


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> Ecdsa:
    """Start a DSA operation."""
    sign = function == Function.SIGN
    parsed = ffc_material.private_key(key) if sign else ffc_material.public_key(key)
    order = ffc_material.order_length(key)
    if row.hash is None:
        return _RawDsa(parsed, order)
    return _HashedDsa(parsed, order, HASH_FUNCTIONS[row.hash])
