"""ML-DSA and ML-KEM keys as attributes (PKCS#11 3.2, "ML-DSA", "ML-KEM").

The library makes private keys from their seeds and gives nothing else out, so ``CKA_SEED`` is what a
private key is; ``CKA_VALUE``, the expanded form, is kept when it is brought in beside the seed.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import (
    AttributeValueInvalid,
    ParameterSetNotSupported,
    TemplateIncomplete,
    WrappedKeyInvalid,
)
from ferrohsm_adapters.software.material import Bytes, number, octets, public_info, ulong

KEY_TYPES = (ck.CKK_ML_DSA, ck.CKK_ML_KEM)


class ParameterSet(NamedTuple):
    """A parameter set: the library's name of its classes, and lengths in bytes."""

    key_type: int
    type: int
    engine: str
    public: int
    expanded: int
    output: int  # of a signature or of a ciphertext


SETS = (
    ParameterSet(ck.CKK_ML_DSA, ck.CKP_ML_DSA_44, "MLDSA44", 1312, 2560, 2420),
    ParameterSet(ck.CKK_ML_DSA, ck.CKP_ML_DSA_65, "MLDSA65", 1952, 4032, 3309),
    ParameterSet(ck.CKK_ML_DSA, ck.CKP_ML_DSA_87, "MLDSA87", 2592, 4896, 4627),
    ParameterSet(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, "MLKEM768", 1184, 2400, 1088),
    ParameterSet(ck.CKK_ML_KEM, ck.CKP_ML_KEM_1024, "MLKEM1024", 1568, 3168, 1568),
)
_SETS = {(row.key_type, row.type): row for row in SETS}
_BY_ENGINE = {row.engine: row for row in SETS}


def set_of(attributes: Any) -> ParameterSet:
    """Return the parameter set of a key's attributes.

    Raises `TemplateIncomplete` without one, `ParameterSetNotSupported` for another one.
    """
    key_type, chosen = number(attributes, ck.CKA_KEY_TYPE), number(attributes, ck.CKA_PARAMETER_SET)
    if chosen is None:
        raise TemplateIncomplete("CKA_PARAMETER_SET is missing")
    row = _SETS.get((key_type or 0, chosen))
    if row is None:
        raise ParameterSetNotSupported
    return row


def private_key(key: Key) -> Any:
    """Return the engine's private key, parsed at its first use."""
    parsed = key.cache.get("private")
    if parsed is None:
        seed = octets(key.attributes, ck.CKA_SEED)
        parsed = key.cache["private"] = _class(set_of(key.attributes), "Private").from_seed_bytes(seed)
    return parsed


def public_key(key: Key) -> Any:
    """Return the engine's public key of a public key object, parsed at its first use."""
    parsed = key.cache.get("public")
    if parsed is None:
        value = bytes(octets(key.attributes, ck.CKA_VALUE))
        parsed = key.cache["public"] = _class(set_of(key.attributes), "Public").from_public_bytes(value)
    return parsed


def generate(row: ParameterSet) -> tuple[Attributes, Attributes]:
    """Return the attributes that a new pair adds to its public and its private key."""
    private = _class(row, "Private").generate()
    return public_attributes(private.public_key()), _private(row, private)


def public_attributes(public: Any) -> Attributes:
    """Return the value and the SubjectPublicKeyInfo of a public key of the engine."""
    return {ck.CKA_VALUE: public.public_bytes_raw(), ck.CKA_PUBLIC_KEY_INFO: _info(public)}


def private_attributes(key_type: int | None, private: Any, attributes: Attributes) -> Attributes:
    """Return the attributes of an unwrapped private key, whose type must be the one asked for."""
    row = _BY_ENGINE.get(type(private).__name__.removesuffix("PrivateKey"))
    if row is None or row.key_type != key_type:
        raise WrappedKeyInvalid("the wrapped key is of another type")
    return _private(row, private)


def complete_public(key_type: int, attributes: Attributes) -> Attributes:
    """Check a public key that is brought in and return what it lacks."""
    row, value = set_of(attributes), bytes(octets(attributes, ck.CKA_VALUE))
    try:
        public = _class(row, "Public").from_public_bytes(value)
    except ValueError:
        raise AttributeValueInvalid("CKA_VALUE is no public key of the parameter set") from None
    return public_info(attributes, _info(public))


def complete_private(key_type: int, attributes: Attributes) -> Attributes:
    """Check a private key that is brought in and return what it lacks."""
    row, seed = set_of(attributes), attributes.get(ck.CKA_SEED)
    if not seed:
        raise TemplateIncomplete("CKA_SEED is needed: the engine makes the key of it")
    try:
        private = _class(row, "Private").from_seed_bytes(seed)
    except ValueError:
        raise AttributeValueInvalid("CKA_SEED has the wrong length") from None
    public = private.public_key()
    expanded = attributes.get(ck.CKA_VALUE)
    if expanded and not _belongs(
        row, cast("Bytes", expanded), cast("Bytes", seed), public.public_bytes_raw()
    ):
        raise AttributeValueInvalid("CKA_VALUE is not what CKA_SEED expands to")
    return public_info(attributes, _info(public))


def _belongs(row: ParameterSet, expanded: Bytes, seed: Bytes, public: bytes) -> bool:
    """Tell whether an expanded key has the parts that follow from seed and public key.

    ML-KEM: dk is … || ek || H(ek) || z (FIPS 203, algorithm 16); ML-DSA: sk is rho || K || tr || … (FIPS
    204, algorithm 24).
    """
    import hashlib

    if len(expanded) != row.expanded:
        return False
    if row.key_type == ck.CKK_ML_KEM:
        tail = public + hashlib.sha3_256(public).digest() + seed[32:]
        return bytes(expanded[-len(tail) :]) == tail
    return bytes(expanded[:32]) == public[:32] and bytes(expanded[64:128]) == tr(public)


def tr(public: bytes) -> bytes:
    """Return the digest of an ML-DSA public key that every signature begins with (FIPS 204, "tr")."""
    import hashlib

    return hashlib.shake_256(public).digest(64)


def _private(row: ParameterSet, private: Any) -> Attributes:
    return {
        ck.CKA_PARAMETER_SET: ulong(row.type),
        ck.CKA_SEED: bytearray(private.private_bytes_raw()),
        ck.CKA_PUBLIC_KEY_INFO: _info(private.public_key()),
    }


def _info(public: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return cast("bytes", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _class(row: ParameterSet, half: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

    return getattr(mldsa if row.key_type == ck.CKK_ML_DSA else mlkem, f"{row.engine}{half}Key")
