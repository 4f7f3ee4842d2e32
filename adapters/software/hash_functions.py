"""The hash functions by the names that the mechanism table gives them.

`HASH_FUNCTIONS` are those that signatures and key derivations of the library are built on; `hashing`
and `authenticating` know BLAKE2b of every length and MD5 too.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives import hashes

from ferrohsm.errors import MechanismParamInvalid
from ferrohsm.mechanisms import HASHES, hash_of_digest, hash_of_mgf
from ferrohsm.typed import Any

HASH_FUNCTIONS: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha512_224": hashes.SHA512_224(),
    "sha512_256": hashes.SHA512_256(),
    "sha3_224": hashes.SHA3_224(),
    "sha3_256": hashes.SHA3_256(),
    "sha3_384": hashes.SHA3_384(),
    "sha3_512": hashes.SHA3_512(),
}

_MD5 = hashes.MD5()  # noqa: S303 - offered only where the configuration asks for it


class Standard:
    """A context of the standard library in the form of the engine's."""

    __slots__ = ("context",)

    def __init__(self, context: Any) -> None:
        self.context = context

    def update(self, data: Any) -> None:
        """Take a part."""
        self.context.update(data)

    def finalize(self) -> bytes:
        """Return the digest."""
        digest: bytes = self.context.digest()
        return digest

    def copy(self) -> Standard:
        """Return a context that goes on from here."""
        return Standard(self.context.copy())


def length(name: str) -> int:
    """Return the length of a digest in bytes."""
    return HASHES[name].length


def hashing(name: str) -> Any:
    """Return a new context: `update`, `finalize`, `copy`."""
    if name.startswith("blake2b"):
        return Standard(hashlib.blake2b(digest_size=length(name)))
    return hashes.Hash(_MD5 if name == "md5" else HASH_FUNCTIONS[name])


def authenticating(name: str, value: bytes | bytearray) -> Any:
    """Return a new HMAC context with the key `value`: `update`, `finalize`, `copy`."""
    if name.startswith("blake2b"):
        size = length(name)
        return Standard(hmac.new(value, digestmod=lambda data=b"": hashlib.blake2b(data, digest_size=size)))
    from cryptography.hazmat.primitives.hmac import HMAC

    return HMAC(value, _MD5 if name == "md5" else HASH_FUNCTIONS[name])


def signing_function(name: str) -> hashes.HashAlgorithm:
    """Return the hash of a signature mechanism."""
    return _MD5 if name == "md5" else HASH_FUNCTIONS[name]


def truncated(bits: Any) -> str:
    """Return the name of SHA-512/t for a parameter that holds t: those of FIPS 180-4 are there."""
    if bits not in (224, 256):
        raise MechanismParamInvalid("SHA-512/t with t 224 or 256")
    return f"sha512_{bits}"


def digest_function(type: int) -> hashes.HashAlgorithm:
    """Return the hash that a parameter names by its digest mechanism (``CKM_SHA256`` …)."""
    name = hash_of_digest(type)
    if name is None or name not in HASH_FUNCTIONS:
        raise MechanismParamInvalid("unknown hash")
    return HASH_FUNCTIONS[name]


def mgf_function(mgf: int) -> hashes.HashAlgorithm:
    """Return the hash of a mask generation function (``CKG_MGF1_*``)."""
    name = hash_of_mgf(mgf)
    if name is None:
        raise MechanismParamInvalid("unknown mask generation function")
    return HASH_FUNCTIONS[name]
