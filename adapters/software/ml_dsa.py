"""ML-DSA, pure and prehashed (PKCS#11 3.2, "ML-DSA"; FIPS 204).

The library signs the representative mu, so data may come in parts. Its signatures are hedged: that a
deterministic one is required is refused. Kernels with libcrypto 3.5 are asked before and have both.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import (
    DataLenRange,
    MechanismParamInvalid,
    SignatureInvalid,
    SignatureLenRange,
)
from ferrohsm.mechanisms import Row, hash_of_digest
from ferrohsm.parameters import Mechanism, SignContext
from ferrohsm.typed import Any
from ferrohsm_adapters.software import postquantum_material
from ferrohsm_adapters.software.operation import EngineOperation

_PREHASHED = 1  # the domain separator of FIPS 204, algorithm 4
_LONGEST_CONTEXT = 255

# The last arc of the hash functions' object identifiers, 2.16.840.1.101.3.4.2.*, and of the two XOFs the
# length of the output (FIPS 204, section 5.4.1).
_ARCS = {
    "sha256": 1,
    "sha384": 2,
    "sha512": 3,
    "sha224": 4,
    "sha512_224": 5,
    "sha512_256": 6,
    "sha3_224": 7,
    "sha3_256": 8,
    "sha3_384": 9,
    "sha3_512": 10,
    "shake128": 11,
    "shake256": 12,
}
_XOF_LENGTHS = {"shake128": 32, "shake256": 64}
_OID_PREFIX = bytes.fromhex("06096086480165030402")


class Prehash:
    """A message that is hashed first; `finalize` gives the representative."""

    __slots__ = ("context", "head", "name")

    def __init__(self, name: str, head: bytes) -> None:
        self.name = name
        self.head = head
        self.context: Any = _hashing(name)

    def update(self, data: Any) -> None:
        """Take a part."""
        self.context.update(data)

    def finalize(self) -> bytes:
        """Return mu."""
        return _representative(self.head, self.context.finalize())


class Digested:
    """The digest of a message, as the caller gives it."""

    __slots__ = ("data", "head", "length")

    def __init__(self, head: bytes, length: int) -> None:
        self.data = b""
        self.head = head
        self.length = length

    def update(self, data: Any) -> None:
        """Take the digest."""
        self.data += bytes(data)

    def finalize(self) -> bytes:
        """Return mu."""
        if len(self.data) != self.length:
            raise DataLenRange("the data is to be a digest of the hash")
        return _representative(self.head, self.data)


class Signature(EngineOperation):
    """An ML-DSA signature being made or checked; `size` is its length in bytes."""

    __slots__ = ("key", "representative", "size")

    def __init__(self, key: Any, representative: Any, size: int) -> None:
        super().__init__()
        self.key = key
        self.representative = representative
        self.size = size

    def finish_length(self) -> int:
        return self.size

    def _update(self, data: memoryview) -> bytes:
        self.representative.update(data)
        return b""

    def _finish(self) -> bytes:
        signature: bytes = self.key.sign_mu(self.representative.finalize())
        return signature

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        self._check_length(signature)
        super()._verify(data, signature)

    def _finish_verify(self, signature: memoryview) -> None:
        self._check_length(signature)
        try:
            self.key.verify_mu(bytes(signature), self.representative.finalize())
        except InvalidSignature:
            raise SignatureInvalid from None

    def _check_length(self, signature: memoryview) -> None:
        if len(signature) != self.size:
            raise SignatureLenRange

    def _drop(self) -> None:
        self.key = self.representative = None


class DigestSignature(Signature):
    """The same over a digest, which comes whole."""

    __slots__ = ()

    multi_part = False


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> Signature:
    """Start an ML-DSA operation."""
    parameter: SignContext = mechanism.parameter or SignContext(ck.CKH_HEDGE_PREFERRED, b"")
    if len(parameter.context) > _LONGEST_CONTEXT:
        raise MechanismParamInvalid("a context has at most 255 bytes")
    signing = function == Function.SIGN
    if signing and parameter.hedge not in (ck.CKH_HEDGE_PREFERRED, ck.CKH_HEDGE_REQUIRED):
        raise MechanismParamInvalid("the library makes hedged signatures only")
    parsed = postquantum_material.private_key(key) if signing else postquantum_material.public_key(key)
    public = parsed.public_key() if signing else parsed
    size = postquantum_material.set_of(key.attributes).output
    made = DigestSignature if row.single_part else Signature
    return made(parsed, _message(row, mechanism, parameter, public), size)


def _message(row: Row, mechanism: Mechanism, parameter: SignContext, public: Any) -> Any:
    if mechanism.type == ck.CKM_ML_DSA:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSAMuHasher

        return MLDSAMuHasher(public, parameter.context)
    name = row.hash if row.hash is not None else hash_of_digest(parameter.hash or 0)
    if name not in _ARCS:
        raise MechanismParamInvalid("no hash that HashML-DSA is defined with")
    raw = public.public_bytes_raw()
    head = postquantum_material.tr(raw) + bytes((_PREHASHED, len(parameter.context))) + parameter.context
    head += _OID_PREFIX + bytes((_ARCS[name],))
    if row.hash is not None:
        return Prehash(name, head)
    from ferrohsm_adapters.software.hash_functions import length

    return Digested(head, length(name))


def _representative(head: bytes, digest: bytes) -> bytes:
    return hashlib.shake_256(head + digest).digest(64)


def _hashing(name: str) -> Any:
    from ferrohsm_adapters.software import hash_functions

    if name not in _XOF_LENGTHS:
        return hash_functions.hashing(name)
    from cryptography.hazmat.primitives import hashes

    function = hashes.SHAKE128 if name == "shake128" else hashes.SHAKE256
    return hashes.Hash(function(_XOF_LENGTHS[name]))
