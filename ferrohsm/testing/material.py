"""Templates, parameters and data that fit a mechanism: what the conformance tests try it with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Value
from ferrohsm.attribute_kinds import FALSE, TRUE, ulong
from ferrohsm.mechanisms import HASHES, ROWS, SECRET_MAX_BYTES, Row, hash_of_digest
from ferrohsm.parameters import (
    Ccm,
    ChaCha20,
    ChaCha20Poly1305,
    Ctr,
    Gcm,
    Mechanism,
    ParameterKind,
    RsaAesKeyWrap,
    RsaOaep,
    RsaPss,
    SignContext,
)

Pairs = tuple[int, Value]
Capabilities = Mapping[int, tuple[int, int, int]]

DATA = bytes(range(32))
# What is signed with PKCS#1 v1.5 when it was hashed before: DATA as the digest of SHA-256. Some devices
# sign no other.
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420") + DATA

# DER object identifiers by bits and key type.
CURVES: dict[int, dict[int, bytes]] = {
    ck.CKK_EC: {
        256: bytes.fromhex("06082a8648ce3d030107"),
        384: bytes.fromhex("06052b81040022"),
        521: bytes.fromhex("06052b81040023"),
    },
    ck.CKK_EC_EDWARDS: {255: bytes.fromhex("06032b6570"), 448: bytes.fromhex("06032b6571")},
    ck.CKK_EC_MONTGOMERY: {255: bytes.fromhex("06032b656e"), 448: bytes.fromhex("06032b656f")},
}
# Parameter sets by the length of a public key in bytes.
_SETS = {
    ck.CKK_ML_DSA: {1312: ck.CKP_ML_DSA_44, 1952: ck.CKP_ML_DSA_65, 2592: ck.CKP_ML_DSA_87},
    ck.CKK_ML_KEM: {800: ck.CKP_ML_KEM_512, 1184: ck.CKP_ML_KEM_768, 1568: ck.CKP_ML_KEM_1024},
    # Of each length the quickest.
    ck.CKK_SLH_DSA: {
        32: ck.CKP_SLH_DSA_SHA2_128F,
        48: ck.CKP_SLH_DSA_SHA2_192F,
        64: ck.CKP_SLH_DSA_SHA2_256F,
    },
}
_DES = (ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3)
# Key types whose sizes are said in bits although a key's length is in bytes.
_BITS = (ck.CKK_GENERIC_SECRET,)


# The attributes that say what a key is for, by what it is then used for: a device's key may have one use.
_USES = {
    Function.SIGN: (ck.CKA_SIGN, ck.CKA_VERIFY),
    Function.ENCRYPT: (ck.CKA_ENCRYPT, ck.CKA_DECRYPT),
    Function.WRAP: (ck.CKA_WRAP, ck.CKA_UNWRAP),
    Function.DERIVE: (ck.CKA_DERIVE,),
}
_EVERY_USE = tuple(attribute for attributes in _USES.values() for attribute in attributes)


def templates(
    row: Row, smallest: int, largest: int, size: int | None, function: int | None = None
) -> tuple[list[Pairs] | None, list[Pairs]]:
    """Return the templates of a new key's public and private half; None and the template of a secret key.

    Without `size`, which is in the unit of the mechanism's section, it is one that is quick to make. With a
    `function` (``SIGN``, ``ENCRYPT``, ``WRAP``, ``DERIVE``) the key is for that and for nothing else.
    """
    public, private = _templates(row, smallest, largest, size)
    if function in _USES:
        wanted = _USES[function]
        private = _only(private, wanted)
        public = None if public is None else _only(public, wanted)
    return public, private


def _only(pairs: list[Pairs], wanted: tuple[int, ...]) -> list[Pairs]:
    return [
        (attribute, FALSE) if attribute in _EVERY_USE and attribute not in wanted else (attribute, value)
        for attribute, value in pairs
    ]


def _templates(
    row: Row, smallest: int, largest: int, size: int | None
) -> tuple[list[Pairs] | None, list[Pairs]]:
    key_type = row.produces
    if key_type is None:
        raise ValueError(f"{ck.name('CKM', row.type)} makes no keys of one type")
    if row.functions & Function.GENERATE:
        return None, _secret(key_type, smallest, largest, size)
    if key_type == ck.CKK_RSA:
        bits = size or min(max(2048, smallest), largest)
        return [
            (ck.CKA_MODULUS_BITS, ulong(bits)), (ck.CKA_PUBLIC_EXPONENT, b"\1\0\1"),
            (ck.CKA_VERIFY, TRUE), (ck.CKA_ENCRYPT, TRUE), (ck.CKA_WRAP, TRUE),
        ], [(ck.CKA_SIGN, TRUE), (ck.CKA_DECRYPT, TRUE), (ck.CKA_UNWRAP, TRUE)]  # fmt: skip
    if key_type in _SETS:
        uses = (ck.CKA_VERIFY, ck.CKA_SIGN)
        if key_type == ck.CKK_ML_KEM:
            uses = (ck.CKA_ENCAPSULATE, ck.CKA_DECAPSULATE)
        length = size or _first(_SETS[key_type], smallest, largest)
        return [(ck.CKA_PARAMETER_SET, ulong(_SETS[key_type][length])), (uses[0], TRUE)], [(uses[1], TRUE)]
    parameters = (ck.CKA_EC_PARAMS, CURVES[key_type][size or _first(CURVES[key_type], smallest, largest)])
    if key_type == ck.CKK_EC_MONTGOMERY:
        return [parameters], [(ck.CKA_DERIVE, TRUE)]
    if key_type == ck.CKK_EC_EDWARDS:
        return [parameters, (ck.CKA_VERIFY, TRUE)], [(ck.CKA_SIGN, TRUE)]
    return [parameters, (ck.CKA_VERIFY, TRUE)], [(ck.CKA_SIGN, TRUE), (ck.CKA_DERIVE, TRUE)]


def _first(known: Mapping[int, Any], smallest: int, largest: int) -> int:
    for size in known:
        if smallest <= size <= largest:
            return size
    raise ValueError(f"no size that is known lies between {smallest} and {largest}")


def _secret(key_type: int, smallest: int, largest: int, size: int | None) -> list[Pairs]:
    uses = (
        ck.CKA_SIGN,
        ck.CKA_VERIFY,
        ck.CKA_ENCRYPT,
        ck.CKA_DECRYPT,
        ck.CKA_WRAP,
        ck.CKA_UNWRAP,
        ck.CKA_DERIVE,
    )
    pairs: list[Pairs] = [(use, TRUE) for use in uses]
    if key_type in _DES:
        return pairs
    unit = 8 if key_type in _BITS else 1
    length = size // unit if size else _usual(key_type, smallest // unit, largest // unit)
    return [(ck.CKA_VALUE_LEN, ulong(length)), *pairs]


def _usual(key_type: int, smallest: int, largest: int) -> int:
    wanted = 64 if key_type == ck.CKK_AES_XTS else 16 if key_type == ck.CKK_AES else 32
    return min(max(wanted, smallest), largest)


def sizes(type: int, smallest: int, largest: int) -> list[int | None]:
    """Return the sizes of keys that a generation mechanism is tried with; its ends are among them.

    Large RSA keys take long to make, so of those above 3072 bits the ends are left out.
    """
    row = ROWS[type]
    key_type = row.produces
    if key_type == ck.CKK_RSA:
        return list(
            dict.fromkeys(bits for bits in (smallest, min(largest, 3072)) if smallest <= bits <= largest)
        )
    known: Mapping[int, Any] | None = CURVES.get(key_type or 0) or _SETS.get(key_type or 0)
    if known is not None:
        return [size for size in known if smallest <= size <= largest]
    if key_type in _DES or not largest:
        return [None]
    if key_type in _BITS:  # whole bytes, and no more than anybody has use for
        smallest, largest = max(smallest, 8), min(largest, 8 * SECRET_MAX_BYTES)
    return list(dict.fromkeys((smallest or 1, largest)))


def size_for(row: Row, generate: int, offered: Capabilities) -> int | None:
    """Return the size of a key that a mechanism takes; None for the usual one.

    Some MACs want a key as long as their hash.
    """
    smallest, largest, _ = offered[generate]
    if ROWS[generate].produces not in _BITS or row.type not in offered:
        return None
    wanted = 8 * max(32, offered[row.type][0])
    return (
        min(wanted, largest)
        if wanted > 8 * _usual(ck.CKK_GENERIC_SECRET, smallest // 8, largest // 8)
        else None
    )


def too_small(type: int, smallest: int) -> int | None:
    """Return a size below the smallest one, None where there is no smaller one to ask for."""
    key_type = ROWS[type].produces
    if key_type == ck.CKK_RSA:
        return smallest - 512 if smallest > 512 else None
    if key_type == ck.CKK_AES:
        return smallest - 1
    return None


def parameter(row: Row, data: bytes) -> Any:
    """Return a parameter for an operation on `data`. Raises `LookupError` where this module knows none."""
    hash = HASHES[row.hash or "sha256"]
    made: dict[str, Any] = {
        ParameterKind.NONE: lambda: None,
        ParameterKind.IV16: lambda: bytes(16),
        ParameterKind.IV8: lambda: None,
        ParameterKind.IV4: lambda: None,
        ParameterKind.IV64: lambda: bytes(8),
        ParameterKind.ULONG: lambda: 4,
        ParameterKind.CTR: lambda: Ctr(32, bytes(16)),
        ParameterKind.GCM: lambda: Gcm(bytes(12), 96, b"associated", 128),
        ParameterKind.CCM: lambda: Ccm(len(data), bytes(12), b"associated", 16),
        ParameterKind.RSA_PSS: lambda: RsaPss(hash.type, hash.mgf, hash.length),
        ParameterKind.RSA_OAEP: lambda: oaep(),
        ParameterKind.EDDSA: lambda: None,
        ParameterKind.SIGN_CONTEXT: lambda: None,
        ParameterKind.HASH_SIGN_CONTEXT: lambda: SignContext(0, b"", hash.type),
        ParameterKind.CHACHA20: lambda: ChaCha20(bytes(4), bytes(12)),
        ParameterKind.CHACHA20_POLY1305: lambda: ChaCha20Poly1305(bytes(12), b"associated"),
        ParameterKind.RSA_AES_KEY_WRAP: lambda: RsaAesKeyWrap(256, oaep()),
    }
    return made[row.parameter]()


def oaep() -> RsaOaep:
    """Return OAEP with SHA-256 and no label."""
    return RsaOaep(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, ck.CKZ_DATA_SPECIFIED, b"")


def data_for(row: Row, function: int, modulus: int) -> bytes:
    """Return data that an operation takes; `modulus` is the length of an RSA key in bytes."""
    if row.type == ck.CKM_RSA_X_509:
        return b"\0" + bytes(range(1, 256))[: modulus - 1].ljust(modulus - 1, b"\1")
    if row.type == ck.CKM_RSA_PKCS and function == Function.SIGN:
        return DIGEST_INFO
    if row.parameter == ParameterKind.HASH_SIGN_CONTEXT and row.hash is None:
        return DATA  # as long as a SHA-256 digest
    return DATA


def mechanism_for(type: int, data: bytes) -> Mechanism:
    """Return a mechanism with a parameter that fits. Raises `LookupError` where this module knows none."""
    return Mechanism(type, parameter(ROWS[type], data))


# Signatures from the quickest key to make to the slowest.
_PREFERRED = (
    ck.CKM_ECDSA_SHA256, ck.CKM_ECDSA, ck.CKM_EDDSA, ck.CKM_SHA256_HMAC, ck.CKM_AES_CMAC,
    ck.CKM_SHA256_RSA_PKCS, ck.CKM_ML_DSA,
)  # fmt: skip


def signature_choices(offered: Capabilities) -> Iterator[tuple[int, int, Mechanism]]:
    """Yield signature mechanisms that are offered: type, how to make a key for it, and with its parameter."""
    others = [type for type in offered if type not in _PREFERRED]
    for type in (*_PREFERRED, *others):
        row = ROWS.get(type)
        if row is None or type not in offered or not offered[type][2] & Function.SIGN:
            continue
        generate = generation_for(row, offered)
        if generate is None or not offered[type][2] & Function.VERIFY:
            continue
        try:
            yield type, generate, mechanism_for(type, DATA)
        except LookupError:
            continue


def can_make(row: Row) -> bool:
    """Say whether `templates` knows how to ask for keys of this generation mechanism."""
    if row.produces is None or row.object_class is not None:
        return False
    if row.functions & Function.GENERATE_KEY_PAIR:
        return row.produces == ck.CKK_RSA or row.produces in CURVES or row.produces in _SETS
    return bool(row.functions & Function.GENERATE)


def generation_for(row: Row, offered: Capabilities) -> int | None:
    """Return an offered mechanism that makes keys for `row`, None when there is none."""
    for type in offered:
        maker = ROWS.get(type)
        if maker is not None and can_make(maker) and maker.produces in row.key_types:
            return type
    return None


def digest_name(type: int) -> str | None:
    """Return the hash of a digest mechanism, None for another mechanism."""
    return hash_of_digest(type)


OPEN: list[Pairs] = [(ck.CKA_SENSITIVE, FALSE), (ck.CKA_EXTRACTABLE, TRUE)]
