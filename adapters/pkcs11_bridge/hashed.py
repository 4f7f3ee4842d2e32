"""Signatures over a digest for a backend that signs digests only: our own engine hashes, the backend signs.

Many programs choose a mechanism by its being listed, ``CKM_ECDSA_SHA256`` for one, which older modules lack.
The two halves are mechanisms of the standard; the signature is the same as one from the backend alone.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Operation
from ferrohsm.mechanism_row import HASHES, Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software.der import OCTET_STRING, SEQUENCE, encode

_NIST = "060960864801650304020"
_IDENTIFIERS = {
    "md5": "06082a864886f70d0205",
    "sha1": "06052b0e03021a",
    "sha224": _NIST + "4",
    "sha256": _NIST + "1",
    "sha384": _NIST + "2",
    "sha512": _NIST + "3",
    "sha3_224": _NIST + "7",
    "sha3_256": _NIST + "8",
    "sha3_384": _NIST + "9",
    "sha3_512": _NIST + "a",
}
_NULL = b"\x05\x00"


def raw_mechanism(row: Row) -> int | None:
    """Return the mechanism that signs what `row`'s hashes to; None when it does not hash."""
    if row.hash is None or not row.functions & Function.SIGN:
        return None
    if row.key_types == (ck.CKK_EC,):
        return ck.CKM_ECDSA
    if row.key_types == (ck.CKK_DSA,):
        return ck.CKM_DSA
    if row.key_types == (ck.CKK_RSA,) and row.parameter == "rsa_pss":
        return ck.CKM_RSA_PKCS_PSS
    if row.key_types == (ck.CKK_RSA,) and row.parameter == "none" and row.hash in _IDENTIFIERS:
        return ck.CKM_RSA_PKCS
    return None


def digest_mechanism(row: Row) -> int:
    """Return the mechanism of the row's hash function."""
    assert row.hash is not None
    return HASHES[row.hash].type


def raw(row: Row, mechanism: Mechanism) -> Mechanism:
    """Return the mechanism for the digest, with the parameter of the whole."""
    type_ = raw_mechanism(row)
    assert type_ is not None
    return Mechanism(type_, mechanism.parameter)


def prefix(row: Row) -> bytes:
    """Return what stands before the digest when it is signed: the head of a DigestInfo for PKCS #1 v1.5."""
    if raw_mechanism(row) != ck.CKM_RSA_PKCS or row.hash is None:
        return b""
    length = HASHES[row.hash].length
    algorithm = encode(SEQUENCE, bytes.fromhex(_IDENTIFIERS[row.hash]) + _NULL)
    return encode(SEQUENCE, algorithm + encode(OCTET_STRING, bytes(length)))[:-length]


class HashedSignature:
    """Both operations as one (see `ferrohsm.adapters.Operation`)."""

    multi_part = True

    def __init__(self, digest: Operation, signature: Operation, head: bytes) -> None:
        self._digest = digest
        self._signature = signature
        self._head = head

    def once_length(self, length: int) -> int:
        return self._signature.once_length(self._hashed_length)

    def update_length(self, length: int) -> int:
        return 0

    def finish_length(self) -> int:
        return self._signature.once_length(self._hashed_length)

    @property
    def _hashed_length(self) -> int:
        return len(self._head) + self._digest.finish_length()

    async def login(self, pin: bytearray) -> None:
        """Give the PIN for this one use to the backend."""
        login = getattr(self._signature, "login")  # noqa: B009 - the protocol's optional part
        await login(pin)

    async def once(self, data: memoryview) -> bytes | bytearray:
        try:
            return await self._sign(await self._digest.once(data))
        finally:
            self.close()

    async def update(self, data: memoryview) -> bytes | bytearray:
        try:
            await self._digest.update(data)
        except BaseException:
            self.close()
            raise
        return b""

    async def finish(self) -> bytes | bytearray:
        try:
            return await self._sign(await self._digest.finish())
        finally:
            self.close()

    async def _sign(self, digest: bytes | bytearray) -> bytes | bytearray:
        return await self._signature.once(memoryview(self._head + digest))

    async def verify(self, data: memoryview, signature: memoryview) -> None:
        raise NotImplementedError("only signatures are made of two halves")

    async def finish_verify(self, signature: memoryview) -> None:
        raise NotImplementedError("only signatures are made of two halves")

    def close(self) -> None:
        self._digest.close()
        self._signature.close()
