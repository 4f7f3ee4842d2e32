"""What a row of the mechanism table says, the hash functions, and what the rows have in common."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.typed import NamedTuple


class Row(NamedTuple):
    """A mechanism.

    `functions` is an OR of `Function` flags; `flags` are the other ``CKF_*`` of its
    ``CK_MECHANISM_INFO``. `min_key` and `max_key` are in the unit of the mechanism's section (bits for
    RSA, EC and generic secrets, bytes for AES and HMAC, 0 where there is no key). `hash` names a row of
    `HASHES`. `single_part` mechanisms have no update. `produces` is the type of a generated key,
    `object_class` that of a derived object which is no secret key. `weak` mechanisms are offered only where
    the configuration asks for them.
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
    object_class: int | None = None
    weak: bool = False


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
        ("blake2b_160", ck.CKM_BLAKE2B_160, 20, 0, 0, 0),
        ("blake2b_256", ck.CKM_BLAKE2B_256, 32, 0, 0, 0),
        ("blake2b_384", ck.CKM_BLAKE2B_384, 48, 0, 0, 0),
        ("blake2b_512", ck.CKM_BLAKE2B_512, 64, 0, 0, 0),
        ("md5", ck.CKM_MD5, 16, 0, 0, 0),
    )
}

# Hashes that RSA and ECDSA signatures are defined with (SHA-512/t has no mechanism of that kind).
SIGNING_HASHES = (
    *("sha1", "sha224", "sha256", "sha384", "sha512"),
    *("sha3_224", "sha3_256", "sha3_384", "sha3_512"),
)

HMAC_TYPES = {
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
    "blake2b_160": ck.CKK_BLAKE2B_160_HMAC,
    "blake2b_256": ck.CKK_BLAKE2B_256_HMAC,
    "blake2b_384": ck.CKK_BLAKE2B_384_HMAC,
    "blake2b_512": ck.CKK_BLAKE2B_512_HMAC,
}
HMAC_KEY_TYPES = frozenset(HMAC_TYPES.values())

RSA_MIN_BITS = 1024
RSA_MAX_BITS = 8192
SECRET_MAX_BYTES = 65536  # generic secrets and HMAC keys
HOTP_MIN_BYTES = 16  # "The length of the shared secret MUST be at least 128 bits" (RFC 4226, R6)
HOTP_MAX_BYTES = 64  # a block of SHA-1: HMAC would hash a longer key to a shorter one

CRYPT = Function.ENCRYPT | Function.DECRYPT
SIGN = Function.SIGN | Function.VERIFY
RECOVER = Function.SIGN_RECOVER | Function.VERIFY_RECOVER
WRAP = Function.WRAP | Function.UNWRAP

EC_FLAGS = ck.CKF_EC_F_P | ck.CKF_EC_OID | ck.CKF_EC_CURVENAME | ck.CKF_EC_UNCOMPRESS | ck.CKF_EC_COMPRESS
RFC8032_FLAGS = ck.CKF_EC_F_P | ck.CKF_EC_OID | ck.CKF_EC_CURVENAME | ck.CKF_EC_COMPRESS

# The key types of secret keys that have a value of their own, which a derivation may start from.
SECRETS = (
    *(ck.CKK_GENERIC_SECRET, ck.CKK_HKDF, ck.CKK_AES, ck.CKK_CAMELLIA, ck.CKK_ARIA),
    *(ck.CKK_CHACHA20, ck.CKK_POLY1305),
    *(ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3),
    *HMAC_TYPES.values(),
)


def constant(hash_name: str, suffix: str) -> int:
    """Return the mechanism of a hash: ``CKM_<hash><suffix>``."""
    return int(getattr(ck, "CKM_" + hash_name.upper() + suffix))
