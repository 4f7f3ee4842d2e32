"""ECDSA and EC key pairs (PKCS#11 3.2, "Elliptic Curve": "EC Signatures").

A signature is r and s, each padded to the length of the order; a shorter one of even length
verifies too.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from ferrohsm.adapters import Function, Key
from ferrohsm.errors import DataLenRange, SignatureInvalid, SignatureLenRange
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm.typed import Any
from ferrohsm_adapters.software import ec_material
from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS
from ferrohsm_adapters.software.operation import EngineOperation, copied

_MAX_DIGEST = 128  # bytes; "should not be longer than 1024 bits"


class _AnyDigest(hashes.HashAlgorithm):
    """Stands for whatever made a digest of `length` bytes; the engine only asks for the length."""

    name = "digest"
    block_size = None

    def __init__(self, length: int) -> None:
        self._length = length

    @property
    def digest_size(self) -> int:
        return self._length


class Ecdsa(EngineOperation):
    """An ECDSA signature being made or checked; `order` is the length of the order in bytes."""

    __slots__ = ("key", "order")

    def __init__(self, key: Any, order: int) -> None:
        super().__init__()
        self.key = key
        self.order = order

    def _sign(self, digest: Any, algorithm: Any) -> bytes:
        r, s = decode_dss_signature(self.key.sign(digest, ECDSA(algorithm)))
        return r.to_bytes(self.order, "big") + s.to_bytes(self.order, "big")

    def _check_signature(self, signature: memoryview, digest: Any, algorithm: Any) -> None:
        half, odd = divmod(len(signature), 2)
        if odd or not 1 <= half <= self.order:
            raise SignatureLenRange
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        try:
            self.key.verify(encode_dss_signature(r, s), digest, ECDSA(algorithm))
        except InvalidSignature:
            raise SignatureInvalid from None

    def _drop(self) -> None:
        self.key = None


class RawEcdsa(Ecdsa):
    """``CKM_ECDSA``: the data is a digest of any kind, cut to the order by the engine."""

    __slots__ = ()

    multi_part = False

    def once_length(self, length: int) -> int:
        self._check_input(length)
        return 2 * self.order

    def _check_input(self, length: int) -> None:
        if not 1 <= length <= _MAX_DIGEST:
            raise DataLenRange

    def _once(self, data: memoryview) -> bytes:
        self._check_input(len(data))
        return self._sign(data, Prehashed(_AnyDigest(len(data))))

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        self._check_input(len(data))
        self._check_signature(signature, data, Prehashed(_AnyDigest(len(data))))


class HashedEcdsa(Ecdsa):
    """ECDSA over data of any length, hashed here."""

    __slots__ = ("algorithm", "context")

    def __init__(self, key: Any, order: int, algorithm: hashes.HashAlgorithm) -> None:
        super().__init__(key, order)
        self.algorithm = algorithm
        self.context: hashes.Hash | None = hashes.Hash(algorithm)

    def finish_length(self) -> int:
        return 2 * self.order

    def _update(self, data: memoryview) -> bytes:
        assert self.context is not None
        self.context.update(data)
        return b""

    def _finish(self) -> bytes:
        return self._sign(self._digest(), Prehashed(self.algorithm))

    def _finish_verify(self, signature: memoryview) -> None:
        self._check_signature(signature, self._digest(), Prehashed(self.algorithm))

    def _digest(self) -> bytes:
        assert self.context is not None
        return self.context.finalize()

    def copy(self) -> HashedEcdsa:
        return copied(self)

    def _drop(self) -> None:
        super()._drop()
        self.context = None


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> Ecdsa:
    """Start an ECDSA operation."""
    sign = function == Function.SIGN
    parsed = ec_material.private_key(key) if sign else ec_material.public_key(key)
    order = ec_material.key_curve(key).length
    if row.hash is None:
        return RawEcdsa(parsed, order)
    return HashedEcdsa(parsed, order, HASH_FUNCTIONS[row.hash])
