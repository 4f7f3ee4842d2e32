"""How KMS calls what PKCS#11 calls otherwise: kinds of keys, their uses, algorithms.

A KMS key has one use. What a template asks for decides which; the key that comes of it says what it is for.
"""

from __future__ import annotations

from typing import NamedTuple

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import CRYPT, Row
from ferrohsm.parameters import ParameterKind

SIGN, ENCRYPT, MAC = "SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC"

MESSAGE_LIMIT = 4096  # bytes of a message that KMS takes whole, and of a text to encrypt

# CKM_VENDOR_DEFINED | "KMS": Encrypt and Decrypt of a symmetric key. The ciphertext is KMS's own form,
# which names the key and is no AES-GCM message that anything else could read.
CKM_KMS_ENCRYPT = 0x804B4D53
SYMMETRIC = Row(CKM_KMS_ENCRYPT, CRYPT, (ck.CKK_AES,), ParameterKind.NONE, 32, 32, "vendor", single_part=True)
# A text's ciphertext is longer by what KMS adds. It does not say how much; this is more than it was ever
# seen to be.
BLOB_OVERHEAD = 256


class Spec(NamedTuple):
    """A kind of key: KMS's name, PKCS#11's type, size in the unit of its mechanisms, curve and hash."""

    name: str
    key_type: int
    size: int
    curve: bytes = b""
    hash: str = ""


SPECS = {
    spec.name: spec
    for spec in (
        Spec("RSA_2048", ck.CKK_RSA, 2048),
        Spec("RSA_3072", ck.CKK_RSA, 3072),
        Spec("RSA_4096", ck.CKK_RSA, 4096),
        Spec("ECC_NIST_P256", ck.CKK_EC, 256, bytes.fromhex("06082a8648ce3d030107"), "sha256"),
        Spec("ECC_NIST_P384", ck.CKK_EC, 384, bytes.fromhex("06052b81040022"), "sha384"),
        Spec("ECC_NIST_P521", ck.CKK_EC, 521, bytes.fromhex("06052b81040023"), "sha512"),
        Spec("ECC_NIST_EDWARDS25519", ck.CKK_EC_EDWARDS, 255, bytes.fromhex("06032b6570")),
        Spec("ML_DSA_44", ck.CKK_ML_DSA, ck.CKP_ML_DSA_44),
        Spec("ML_DSA_65", ck.CKK_ML_DSA, ck.CKP_ML_DSA_65),
        Spec("ML_DSA_87", ck.CKK_ML_DSA, ck.CKP_ML_DSA_87),
        Spec("HMAC_224", ck.CKK_SHA224_HMAC, 28, hash="sha224"),
        Spec("HMAC_256", ck.CKK_SHA256_HMAC, 32, hash="sha256"),
        Spec("HMAC_384", ck.CKK_SHA384_HMAC, 48, hash="sha384"),
        Spec("HMAC_512", ck.CKK_SHA512_HMAC, 64, hash="sha512"),
        Spec("SYMMETRIC_DEFAULT", ck.CKK_AES, 32),
    )
}
PAIRS = (ck.CKK_RSA, ck.CKK_EC, ck.CKK_EC_EDWARDS, ck.CKK_ML_DSA)

# What makes a key of a type; KMS made those that we did not, too.
GENERATION = {
    ck.CKK_RSA: ck.CKM_RSA_PKCS_KEY_PAIR_GEN,
    ck.CKK_EC: ck.CKM_EC_KEY_PAIR_GEN,
    ck.CKK_EC_EDWARDS: ck.CKM_EC_EDWARDS_KEY_PAIR_GEN,
    ck.CKK_ML_DSA: ck.CKM_ML_DSA_KEY_PAIR_GEN,
    ck.CKK_SHA224_HMAC: ck.CKM_SHA224_KEY_GEN,
    ck.CKK_SHA256_HMAC: ck.CKM_SHA256_KEY_GEN,
    ck.CKK_SHA384_HMAC: ck.CKM_SHA384_KEY_GEN,
    ck.CKK_SHA512_HMAC: ck.CKM_SHA512_KEY_GEN,
    ck.CKK_AES: ck.CKM_AES_KEY_GEN,
}

# The hashes that KMS signs under with RSA, and what it calls them.
RSA_HASHES = {"sha256": "SHA_256", "sha384": "SHA_384", "sha512": "SHA_512"}
OAEP_HASHES = {"sha1": "RSAES_OAEP_SHA_1", "sha256": "RSAES_OAEP_SHA_256"}


def capabilities(*, create: bool) -> dict[int, tuple[int, int, int]]:
    """Return what KMS does: type → (smallest key, largest key, functions)."""
    rsa, ec, ml_dsa = (2048, 4096), (256, 521), (1312, 2592)
    offered: dict[int, tuple[int, int, int]] = {
        ck.CKM_RSA_PKCS: (*rsa, Function.SIGN),
        ck.CKM_RSA_PKCS_PSS: (*rsa, Function.SIGN),
        ck.CKM_RSA_PKCS_OAEP: (*rsa, Function.DECRYPT),
        ck.CKM_ECDSA: (*ec, Function.SIGN),
        ck.CKM_EDDSA: (255, 255, Function.SIGN),
        ck.CKM_ML_DSA: (*ml_dsa, Function.SIGN),
        CKM_KMS_ENCRYPT: (32, 32, Function.ENCRYPT | Function.DECRYPT),
    }
    for name in ("sha1", "sha224", "sha256", "sha384", "sha512"):
        offered[getattr(ck, f"CKM_ECDSA_{name.upper()}")] = (*ec, Function.SIGN)
    for name in RSA_HASHES:
        offered[getattr(ck, f"CKM_{name.upper()}_RSA_PKCS")] = (*rsa, Function.SIGN)
        offered[getattr(ck, f"CKM_{name.upper()}_RSA_PKCS_PSS")] = (*rsa, Function.SIGN)
    both = Function.SIGN | Function.VERIFY
    for spec in SPECS.values():
        if spec.name.startswith("HMAC"):
            offered[getattr(ck, f"CKM_{spec.hash.upper()}_HMAC")] = (spec.size, spec.size, both)
    if create:
        pair, secret = Function.GENERATE_KEY_PAIR, Function.GENERATE
        offered[ck.CKM_RSA_PKCS_KEY_PAIR_GEN] = (*rsa, pair)
        offered[ck.CKM_EC_KEY_PAIR_GEN] = (*ec, pair)
        offered[ck.CKM_EC_EDWARDS_KEY_PAIR_GEN] = (255, 255, pair)
        offered[ck.CKM_ML_DSA_KEY_PAIR_GEN] = (*ml_dsa, pair)
        for spec in SPECS.values():
            if spec.key_type not in PAIRS:
                offered[GENERATION[spec.key_type]] = (spec.size, spec.size, secret)
    return offered
