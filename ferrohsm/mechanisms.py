"""The mechanism table: one row a mechanism (PKCS#11 3.2, "Mechanisms").

The ABI reads the kind of parameter from here, the core what a mechanism may do with which keys, an
engine its family. Adding a mechanism of a known family is adding its row.
"""

from __future__ import annotations

from typing import NamedTuple

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.parameters import ParameterKind


class Row(NamedTuple):
    """A mechanism.

    `functions` is an OR of `Function` flags; `flags` are the other ``CKF_*`` of its
    ``CK_MECHANISM_INFO``. `min_key` and `max_key` are in the unit of the mechanism's section (bits for
    RSA, EC and generic secrets, bytes for AES and HMAC, 0 where there is no key). `hash` names a row of
    `HASHES`. `single_part` mechanisms have no update. `produces` is the type of a generated key.
    """

    type: int
    functions: int
    key_types: tuple[int, ...]
    parameter: str
    min_key: int
    max_key: int
    family: str
    hash: str | None = None
    single_part: bool = False
    produces: int | None = None
    flags: int = 0


class Hash(NamedTuple):
    """A hash function: its mechanism, digest length in bytes and what is built on it (0: not defined)."""

    name: str
    type: int
    length: int
    mgf: int
    kdf: int
    kdf_sp800: int


HASHES: dict[str, Hash] = {
    row[0]: Hash(*row)
    for row in (
        ("sha1", ck.CKM_SHA_1, 20, ck.CKG_MGF1_SHA1, ck.CKD_SHA1_KDF, ck.CKD_SHA1_KDF_SP800),
        ("sha224", ck.CKM_SHA224, 28, ck.CKG_MGF1_SHA224, ck.CKD_SHA224_KDF, ck.CKD_SHA224_KDF_SP800),
        ("sha256", ck.CKM_SHA256, 32, ck.CKG_MGF1_SHA256, ck.CKD_SHA256_KDF, ck.CKD_SHA256_KDF_SP800),
        ("sha384", ck.CKM_SHA384, 48, ck.CKG_MGF1_SHA384, ck.CKD_SHA384_KDF, ck.CKD_SHA384_KDF_SP800),
        ("sha512", ck.CKM_SHA512, 64, ck.CKG_MGF1_SHA512, ck.CKD_SHA512_KDF, ck.CKD_SHA512_KDF_SP800),
        ("sha512_224", ck.CKM_SHA512_224, 28, 0, 0, 0),
        ("sha512_256", ck.CKM_SHA512_256, 32, 0, 0, 0),
        (
            "sha3_224",
            ck.CKM_SHA3_224,
            28,
            ck.CKG_MGF1_SHA3_224,
            ck.CKD_SHA3_224_KDF,
            ck.CKD_SHA3_224_KDF_SP800,
        ),
        (
            "sha3_256",
            ck.CKM_SHA3_256,
            32,
            ck.CKG_MGF1_SHA3_256,
            ck.CKD_SHA3_256_KDF,
            ck.CKD_SHA3_256_KDF_SP800,
        ),
        (
            "sha3_384",
            ck.CKM_SHA3_384,
            48,
            ck.CKG_MGF1_SHA3_384,
            ck.CKD_SHA3_384_KDF,
            ck.CKD_SHA3_384_KDF_SP800,
        ),
        (
            "sha3_512",
            ck.CKM_SHA3_512,
            64,
            ck.CKG_MGF1_SHA3_512,
            ck.CKD_SHA3_512_KDF,
            ck.CKD_SHA3_512_KDF_SP800,
        ),
    )
}

# Hashes that RSA and ECDSA signatures are defined with (SHA-512/t has no mechanism of that kind).
_SIGNING_HASHES = (
    *("sha1", "sha224", "sha256", "sha384", "sha512"),
    *("sha3_224", "sha3_256", "sha3_384", "sha3_512"),
)

_HMAC_KEY_TYPES = {
    "sha1": ck.CKK_SHA_1_HMAC,
    "sha224": ck.CKK_SHA224_HMAC,
    "sha256": ck.CKK_SHA256_HMAC,
    "sha384": ck.CKK_SHA384_HMAC,
    "sha512": ck.CKK_SHA512_HMAC,
    "sha512_224": ck.CKK_SHA512_224_HMAC,
    "sha512_256": ck.CKK_SHA512_256_HMAC,
    "sha3_224": ck.CKK_SHA3_224_HMAC,
    "sha3_256": ck.CKK_SHA3_256_HMAC,
    "sha3_384": ck.CKK_SHA3_384_HMAC,
    "sha3_512": ck.CKK_SHA3_512_HMAC,
}
HMAC_KEY_TYPES = frozenset(_HMAC_KEY_TYPES.values())

RSA_MIN_BITS = 1024
RSA_MAX_BITS = 8192
SECRET_MAX_BYTES = 65536  # generic secrets and HMAC keys

_CRYPT = Function.ENCRYPT | Function.DECRYPT
_SIGN = Function.SIGN | Function.VERIFY
_RECOVER = Function.SIGN_RECOVER | Function.VERIFY_RECOVER
_WRAP = Function.WRAP | Function.UNWRAP

_EC_FLAGS = ck.CKF_EC_F_P | ck.CKF_EC_OID | ck.CKF_EC_CURVENAME | ck.CKF_EC_UNCOMPRESS | ck.CKF_EC_COMPRESS
_RFC8032_FLAGS = ck.CKF_EC_F_P | ck.CKF_EC_OID | ck.CKF_EC_CURVENAME | ck.CKF_EC_COMPRESS

ROWS: dict[int, Row] = {}


def _constant(hash_name: str, suffix: str) -> int:
    """Return the mechanism of a hash: ``CKM_<hash><suffix>``."""
    return int(getattr(ck, "CKM_" + hash_name.upper() + suffix))


def _add(*rows: Row) -> None:
    for row in rows:
        if row.type in ROWS:
            raise TypeError(f"two rows for {ck.name('CKM', row.type)}")
        ROWS[row.type] = row


def _add_rsa() -> None:
    kind, sizes, key = ParameterKind, (RSA_MIN_BITS, RSA_MAX_BITS), (ck.CKK_RSA,)
    _add(
        Row(
            ck.CKM_RSA_PKCS_KEY_PAIR_GEN,
            Function.GENERATE_KEY_PAIR,
            (),
            kind.NONE,
            *sizes,
            "rsa",
            produces=ck.CKK_RSA,
        ),
        Row(ck.CKM_RSA_PKCS, _CRYPT | _SIGN | _RECOVER | _WRAP, key, kind.NONE, *sizes, "rsa", None, True),
        Row(ck.CKM_RSA_X_509, _CRYPT | _SIGN | _RECOVER, key, kind.NONE, *sizes, "rsa", None, True),
        Row(ck.CKM_RSA_PKCS_OAEP, _CRYPT | _WRAP, key, kind.RSA_OAEP, *sizes, "rsa", None, True),
        Row(ck.CKM_RSA_PKCS_PSS, _SIGN, key, kind.RSA_PSS, *sizes, "rsa", None, True),
        Row(
            ck.CKM_RSA_AES_KEY_WRAP, _WRAP, key, kind.RSA_AES_KEY_WRAP, *sizes, "rsa_aes_key_wrap", None, True
        ),
    )
    for name in _SIGNING_HASHES:
        _add(
            Row(_constant(name, "_RSA_PKCS"), _SIGN, key, kind.NONE, *sizes, "rsa", name),
            Row(_constant(name, "_RSA_PKCS_PSS"), _SIGN, key, kind.RSA_PSS, *sizes, "rsa", name),
        )


def _add_ec() -> None:
    kind, key = ParameterKind, (ck.CKK_EC,)
    pair = Function.GENERATE_KEY_PAIR
    _add(
        Row(
            ck.CKM_EC_KEY_PAIR_GEN,
            pair,
            (),
            kind.NONE,
            256,
            521,
            "ec",
            produces=ck.CKK_EC,
            flags=_EC_FLAGS,
        ),
        Row(
            ck.CKM_EC_EDWARDS_KEY_PAIR_GEN,
            pair,
            (),
            kind.NONE,
            255,
            448,
            "eddsa",
            produces=ck.CKK_EC_EDWARDS,
            flags=_RFC8032_FLAGS,
        ),
        Row(
            ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
            pair,
            (),
            kind.NONE,
            255,
            448,
            "ecdh",
            produces=ck.CKK_EC_MONTGOMERY,
            flags=_RFC8032_FLAGS,
        ),
        Row(ck.CKM_ECDSA, _SIGN, key, kind.NONE, 256, 521, "ec", None, True, flags=_EC_FLAGS),
        Row(
            ck.CKM_EDDSA,
            _SIGN,
            (ck.CKK_EC_EDWARDS,),
            kind.EDDSA,
            255,
            448,
            "eddsa",
            flags=_RFC8032_FLAGS,
        ),
        Row(
            ck.CKM_ECDH1_DERIVE,
            Function.DERIVE,
            (ck.CKK_EC, ck.CKK_EC_MONTGOMERY),
            kind.ECDH1,
            255,
            521,
            "ecdh",
            flags=_EC_FLAGS,
        ),
        # Every curve here has cofactor 1, so this is the same computation.
        Row(
            ck.CKM_ECDH1_COFACTOR_DERIVE,
            Function.DERIVE,
            key,
            kind.ECDH1,
            256,
            521,
            "ecdh",
            flags=_EC_FLAGS,
        ),
    )
    for name in _SIGNING_HASHES:
        _add(
            Row(_constant("ecdsa_" + name, ""), _SIGN, key, kind.NONE, 256, 521, "ec", name, flags=_EC_FLAGS)
        )


def _add_aes() -> None:
    kind, key = ParameterKind, (ck.CKK_AES,)
    both = _CRYPT | _WRAP
    _add(
        Row(ck.CKM_AES_KEY_GEN, Function.GENERATE, (), kind.NONE, 16, 32, "secret", produces=ck.CKK_AES),
        Row(ck.CKM_AES_ECB, both, key, kind.NONE, 16, 32, "aes"),
        Row(ck.CKM_AES_CBC, both, key, kind.IV16, 16, 32, "aes"),
        Row(ck.CKM_AES_CBC_PAD, both, key, kind.IV16, 16, 32, "aes"),
        Row(ck.CKM_AES_CTR, both, key, kind.CTR, 16, 32, "aes"),
        Row(ck.CKM_AES_GCM, both, key, kind.GCM, 16, 32, "aes"),
        Row(ck.CKM_AES_CCM, both, key, kind.CCM, 16, 32, "aes"),
        Row(ck.CKM_AES_CMAC, _SIGN, key, kind.NONE, 16, 32, "cmac"),
        Row(ck.CKM_AES_CMAC_GENERAL, _SIGN, key, kind.ULONG, 16, 32, "cmac"),
        Row(ck.CKM_AES_KEY_WRAP, both, key, kind.IV8, 16, 32, "aes_key_wrap", None, True),
        # Deprecated and never defined twice alike; this is RFC 5649, as SoftHSM2 has it.
        Row(ck.CKM_AES_KEY_WRAP_PAD, both, key, kind.IV4, 16, 32, "aes_key_wrap", None, True),
        Row(ck.CKM_AES_KEY_WRAP_KWP, both, key, kind.IV4, 16, 32, "aes_key_wrap", None, True),
        Row(ck.CKM_AES_KEY_WRAP_PKCS7, both, key, kind.IV8, 16, 32, "aes_key_wrap", None, True),
        Row(ck.CKM_AES_ECB_ENCRYPT_DATA, Function.DERIVE, key, kind.STRING, 16, 32, "derive"),
        Row(ck.CKM_AES_CBC_ENCRYPT_DATA, Function.DERIVE, key, kind.CBC_ENCRYPT_DATA, 16, 32, "derive"),
    )


def _add_hashes() -> None:
    kind = ParameterKind
    for name, key_type in _HMAC_KEY_TYPES.items():
        keys = (ck.CKK_GENERIC_SECRET, key_type)
        stem = "sha_1" if name == "sha1" else name
        sizes = (1, SECRET_MAX_BYTES)
        _add(
            Row(HASHES[name].type, Function.DIGEST, (), kind.NONE, 0, 0, "digest", name),
            Row(_constant(stem, "_HMAC"), _SIGN, keys, kind.NONE, *sizes, "hmac", name),
            Row(_constant(stem, "_HMAC_GENERAL"), _SIGN, keys, kind.ULONG, *sizes, "hmac", name),
            Row(
                _constant(stem, "_KEY_GEN"),
                Function.GENERATE,
                (),
                kind.NONE,
                *sizes,
                "secret",
                produces=key_type,
            ),
        )


def _add_secrets() -> None:
    _add(
        Row(
            ck.CKM_GENERIC_SECRET_KEY_GEN,
            Function.GENERATE,
            (),
            ParameterKind.NONE,
            8,
            SECRET_MAX_BYTES * 8,
            "secret",
            produces=ck.CKK_GENERIC_SECRET,
        ),
    )


_add_rsa()
_add_ec()
_add_aes()
_add_hashes()
_add_secrets()

_BY_DIGEST = {hash.type: hash.name for hash in HASHES.values()}
_BY_MGF = {hash.mgf: hash.name for hash in HASHES.values() if hash.mgf}
_BY_KDF = {hash.kdf: hash.name for hash in HASHES.values() if hash.kdf}
_BY_KDF_SP800 = {hash.kdf_sp800: hash.name for hash in HASHES.values() if hash.kdf_sp800}


def parameter_kind(type: int) -> str | None:
    """Return the `ParameterKind` of a mechanism, None for one that is not in the table."""
    row = ROWS.get(type)
    return None if row is None else row.parameter


def hash_of_digest(type: int) -> str | None:
    """Return the name of the hash whose digest mechanism (``CKM_SHA256`` …) is `type`."""
    return _BY_DIGEST.get(type)


def hash_of_mgf(mgf: int) -> str | None:
    """Return the name of the hash of a mask generation function (``CKG_MGF1_*``)."""
    return _BY_MGF.get(mgf)


def hash_of_kdf(kdf: int) -> tuple[str | None, bool]:
    """Return the hash of a ``CKD_*`` and whether it is the SP 800-56A form (else ANSI X9.63)."""
    if kdf in _BY_KDF:
        return _BY_KDF[kdf], False
    return _BY_KDF_SP800.get(kdf), True
