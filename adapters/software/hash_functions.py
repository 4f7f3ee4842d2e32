"""The hash functions by the names that the mechanism table gives them."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes

from ferrohsm.errors import MechanismParamInvalid
from ferrohsm.mechanisms import hash_of_digest, hash_of_mgf

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


def digest_function(type: int) -> hashes.HashAlgorithm:
    """Return the hash that a parameter names by its digest mechanism (``CKM_SHA256`` …)."""
    name = hash_of_digest(type)
    if name is None:
        raise MechanismParamInvalid("unknown hash")
    return HASH_FUNCTIONS[name]


def mgf_function(mgf: int) -> hashes.HashAlgorithm:
    """Return the hash of a mask generation function (``CKG_MGF1_*``)."""
    name = hash_of_mgf(mgf)
    if name is None:
        raise MechanismParamInvalid("unknown mask generation function")
    return HASH_FUNCTIONS[name]
