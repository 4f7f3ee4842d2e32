"""ML-DSA, ML-KEM and SLH-DSA keys as attributes (PKCS#11 3.2, "ML-DSA", "ML-KEM", "SLH-DSA").

The library has ML-DSA, ML-KEM-768 and ML-KEM-1024 and makes private keys from their seeds only. The kernels,
where their libcrypto is 3.5 or newer, have every parameter set, and take a private key by its expanded form
(``CKA_VALUE``) alone.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key
from ferrohsm.errors import (
    AttributeValueInvalid,
    KeyFunctionNotPermitted,
    ParameterSetNotSupported,
    TemplateIncomplete,
    WrappedKeyInvalid,
)
from ferrohsm.typed import TYPE_CHECKING, Any, cast
from ferrohsm_adapters.software import parameter_sets, postquantum_info
from ferrohsm_adapters.software.material import Bytes, octets, public_info, ulong
from ferrohsm_adapters.software.operation import wipe
from ferrohsm_adapters.software.parameter_sets import ParameterSet
from ferrohsm_adapters.software.postquantum_info import PrivateInfo

if TYPE_CHECKING:
    from types import ModuleType

_Z_BYTES = 32  # of ML-KEM's implicit rejection: the end of the seed, and of the expanded key
_GENERATORS = {
    ck.CKK_ML_DSA: ck.CKM_ML_DSA_KEY_PAIR_GEN,
    ck.CKK_ML_KEM: ck.CKM_ML_KEM_KEY_PAIR_GEN,
    ck.CKK_SLH_DSA: ck.CKM_SLH_DSA_KEY_PAIR_GEN,
}


def set_of(attributes: Any) -> ParameterSet:
    """Return the parameter set of a key's attributes.

    Raises `TemplateIncomplete` without one, `ParameterSetNotSupported` for one that no engine here has.
    """
    row = parameter_sets.set_of(attributes)
    if row.engine is None and _kernels(row.key_type) is None:
        raise ParameterSetNotSupported("libcrypto has it from 3.5 on")
    return row


def private_key(key: Key) -> Any:
    """Return the library's private key, parsed at its first use.

    Raises `KeyFunctionNotPermitted` for a key that only kernels compute with.
    """
    parsed = key.cache.get("private")
    if parsed is None:
        row, seed = parameter_sets.set_of(key.attributes), key.attributes.get(ck.CKA_SEED)
        if row.engine is None or not seed:
            raise KeyFunctionNotPermitted("a key without a seed needs kernels with libcrypto 3.5")
        parsed = key.cache["private"] = _class(row, "Private").from_seed_bytes(seed)
    return parsed


def public_key(key: Key) -> Any:
    """Return the library's public key of a public key object, parsed at its first use."""
    parsed = key.cache.get("public")
    if parsed is None:
        row, value = parameter_sets.set_of(key.attributes), bytes(octets(key.attributes, ck.CKA_VALUE))
        if row.engine is None:
            raise ParameterSetNotSupported("libcrypto has it from 3.5 on")
        parsed = key.cache["public"] = _class(row, "Public").from_public_bytes(value)
    return parsed


def generate(row: ParameterSet, made: tuple[Attributes, Attributes] | None) -> tuple[Attributes, Attributes]:
    """Return the attributes that a new pair adds to its public and its private key.

    `made` is the pair as the kernels have made it; None: they have not.
    """
    if made is None:
        if row.engine is None:
            raise ParameterSetNotSupported
        private = _class(row, "Private").generate()
        secret: Attributes = {ck.CKA_SEED: bytearray(private.private_bytes_raw())}
        public: Attributes = {ck.CKA_VALUE: private.public_key().public_bytes_raw()}
    else:
        public, secret = made
    value = bytes(octets(public, ck.CKA_VALUE))
    info = postquantum_info.public_key_info(row, value)
    shared: Attributes = {ck.CKA_PUBLIC_KEY_INFO: info}
    return {ck.CKA_VALUE: value, **shared}, {ck.CKA_PARAMETER_SET: ulong(row.type), **secret, **shared}


def public_attributes(public: Any) -> Attributes:
    """Return the value and the SubjectPublicKeyInfo of a public key of the library."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {ck.CKA_VALUE: public.public_bytes_raw(), ck.CKA_PUBLIC_KEY_INFO: info}


def public_half(key: Key) -> Attributes:
    """Return the material of the public key that belongs to a private key."""
    return {
        ck.CKA_PARAMETER_SET: octets(key.attributes, ck.CKA_PARAMETER_SET),
        ck.CKA_VALUE: _public_of(set_of(key.attributes), key),
    }


def private_key_info(key: Key) -> bytearray:
    """Return a private key as PKCS#8 PrivateKeyInfo: its seed, or the expanded key where there is none."""
    row = parameter_sets.set_of(key.attributes)
    seed, expanded = key.attributes.get(ck.CKA_SEED), key.attributes.get(ck.CKA_VALUE)
    if not seed and not expanded:
        raise TemplateIncomplete("neither CKA_SEED nor CKA_VALUE")
    return postquantum_info.private_key_info(row, cast("Bytes", seed), cast("Bytes", expanded))


def unwrapped(info: Bytes | memoryview, key_type: int) -> Attributes:
    """Return the attributes of the private key in a PrivateKeyInfo, whose type must be the one asked for."""
    from ferrohsm_adapters.software.der import Malformed

    try:
        read = postquantum_info.read_private_key_info(info)
    except Malformed:
        raise WrappedKeyInvalid("no private key in the wrapped data") from None
    if read is None:
        raise WrappedKeyInvalid("the wrapped key is of another type")
    try:
        return _material(read, key_type)
    except BaseException:
        for secret in (read.seed, read.expanded):
            if secret is not None:
                wipe(secret)
        raise


def _material(read: PrivateInfo, key_type: int) -> Attributes:
    if read.row.key_type != key_type:
        raise WrappedKeyInvalid("the wrapped key is of another type")
    material: Attributes = {ck.CKA_PARAMETER_SET: ulong(read.row.type)}
    if read.seed is not None:
        material[ck.CKA_SEED] = read.seed
    if read.expanded is not None:
        material[ck.CKA_VALUE] = read.expanded
    try:
        return {**material, **complete_private(key_type, {ck.CKA_KEY_TYPE: ulong(key_type), **material})}
    except (AttributeValueInvalid, TemplateIncomplete):
        raise WrappedKeyInvalid("the wrapped key is none of its parameter set") from None


def complete_public(key_type: int, attributes: Attributes) -> Attributes:
    """Check a public key that is brought in and return what it lacks."""
    row, value = set_of(attributes), bytes(octets(attributes, ck.CKA_VALUE))
    if row.engine is None:
        good = len(value) == row.public and _looked_at(row, ck.CKO_PUBLIC_KEY, attributes, "public_value")
    else:
        good = _library_takes(row, value)
    if not good:
        raise AttributeValueInvalid("CKA_VALUE is no public key of the parameter set")
    return public_info(attributes, postquantum_info.public_key_info(row, value))


def complete_private(key_type: int, attributes: Attributes) -> Attributes:
    """Check a private key that is brought in and return what it lacks."""
    row, seed, expanded = set_of(attributes), attributes.get(ck.CKA_SEED), attributes.get(ck.CKA_VALUE)
    seed = seed if row.seed else None
    if not seed and not expanded:
        raise TemplateIncomplete(
            "one of CKA_SEED and CKA_VALUE is needed" if row.seed else "CKA_VALUE is missing"
        )
    if not seed and _kernels(key_type) is None:
        raise TemplateIncomplete("CKA_SEED is needed: the engine makes the key of it")
    if seed and len(cast("Bytes", seed)) != row.seed:
        raise AttributeValueInvalid("CKA_SEED has the wrong length")
    if expanded and len(cast("Bytes", expanded)) != row.expanded:
        raise AttributeValueInvalid("CKA_VALUE has the wrong length")
    public = _public_of(row, Key(0, _as_object(ck.CKO_PRIVATE_KEY, attributes)))
    if expanded and not _belongs(row, attributes, public):
        raise AttributeValueInvalid("CKA_VALUE is no private key, or not what CKA_SEED expands to")
    return public_info(attributes, postquantum_info.public_key_info(row, public))


def _public_of(row: ParameterSet, private: Key) -> bytes:
    """Return the public key of a private one. Raises `AttributeValueInvalid` when it is no key of its set."""
    if row.engine is not None and private.attributes.get(ck.CKA_SEED):
        return cast("bytes", private_key(private).public_key().public_bytes_raw())
    kernels = _kernels(row.key_type)
    made = None if kernels is None else kernels.public_value(private)
    if made is None:
        raise AttributeValueInvalid("no private key of the parameter set")
    return cast("bytes", made)


def _belongs(row: ParameterSet, attributes: Attributes, public: bytes) -> bool:
    """Tell whether an expanded key belongs to its seed, or without one whether its parts belong together."""
    import hmac

    expanded, seed = cast("Bytes", attributes[ck.CKA_VALUE]), cast("Bytes", attributes.get(ck.CKA_SEED))
    if _kernels(row.key_type) is None:
        return _has_the_parts(row, expanded, seed, public)
    right = _looked_at(row, ck.CKO_PRIVATE_KEY, attributes, "expanded_value")
    if right is None:
        return False
    same = hmac.compare_digest(right, expanded)
    wipe(right)
    return same


def _has_the_parts(row: ParameterSet, expanded: Bytes, seed: Bytes, public: bytes) -> bool:
    """Tell whether an expanded key has the parts that follow from seed and public key.

    ML-KEM: dk is … || ek || H(ek) || z (FIPS 203, algorithm 16); ML-DSA: sk is rho || K || tr || … (FIPS
    204, algorithm 24).
    """
    import hashlib
    import hmac

    if row.key_type == ck.CKK_ML_KEM:
        known = public + hashlib.sha3_256(public).digest()
        with memoryview(expanded) as whole, memoryview(seed) as both:
            start = len(whole) - len(known) - _Z_BYTES
            same = hmac.compare_digest(whole[-_Z_BYTES:], both[-_Z_BYTES:])
            return same and bytes(whole[start:-_Z_BYTES]) == known
    return bytes(expanded[:32]) == public[:32] and bytes(expanded[64:128]) == tr(public)


def tr(public: bytes) -> bytes:
    """Return the digest of an ML-DSA public key that every signature begins with (FIPS 204, "tr")."""
    import hashlib

    return hashlib.shake_256(public).digest(64)


def _library_takes(row: ParameterSet, value: bytes) -> bool:
    try:
        _class(row, "Public").from_public_bytes(value)
    except ValueError:
        return False
    return True


def _as_object(kind: int, attributes: Attributes) -> Attributes:
    return {**attributes, ck.CKA_CLASS: ulong(kind)}


def _looked_at(row: ParameterSet, kind: int, attributes: Attributes, function: str) -> Any:
    """Return what the kernels' `function` finds in a key of these attributes, None when it is none."""
    return getattr(_kernels(row.key_type), function)(Key(0, _as_object(kind, attributes)))


def _kernels(key_type: int) -> ModuleType | None:
    """Return the kernels where they have keys of this type."""
    try:
        from ferrohsm_adapters.software import _kernels as kernels
    except ImportError:
        return None
    return kernels if kernels.serves(Function.GENERATE_KEY_PAIR, _GENERATORS[key_type]) else None


def _class(row: ParameterSet, half: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

    return getattr(mldsa if row.key_type == ck.CKK_ML_DSA else mlkem, f"{row.engine}{half}Key")
