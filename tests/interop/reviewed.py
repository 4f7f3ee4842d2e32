"""What one of two cannot exchange, each with the reason; everything else that both have must work.

Another mechanism needs a line here only where no peer has it, or where a peer is wrong. What changed between
versions of a peer has the version (major, minor) from which on it was found mended.
"""

from __future__ import annotations

_LEGACY = "Debian's SoftHSM 2.6.1 lists single DES, but its libcrypto does not load the legacy provider"
_GENERAL = "NSS 3.87 and 3.110 list it and refuse every length"

# The versions with which the facts were recorded that name a peer without one: Debian 12's.
RECORDED: dict[str, tuple[int, ...]] = {"SoftHSM2": (2, 6), "NSS": (3, 87), "OpenSSL": (3, 0)}

# (peer, mechanism, function): the case is run, and must go on to fail.
REFUSED: dict[tuple[str, str, str], str] = {
    ("SoftHSM2", "CKM_DES_ECB", "encrypt"): _LEGACY,
    ("SoftHSM2", "CKM_DES_CBC", "encrypt"): _LEGACY,
    ("SoftHSM2", "CKM_DES_CBC_PAD", "encrypt"): _LEGACY,
    ("SoftHSM2", "CKM_DES_ECB_ENCRYPT_DATA", "derive"): _LEGACY,
    ("SoftHSM2", "CKM_DES_CBC_ENCRYPT_DATA", "derive"): _LEGACY,
    ("SoftHSM2", "CKM_DES_KEY_GEN", "generate"): _LEGACY + ", so that the key cannot be used",
    ("NSS", "CKM_MD5_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA_1_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA224_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA256_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA384_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA512_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA3_224_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA3_256_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA3_384_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_SHA3_512_HMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_AES_CMAC_GENERAL", "sign"): _GENERAL,
    ("NSS", "CKM_PBE_SHA1_DES2_EDE_CBC", "generate"): "NSS 3.87 lists it and answers CKR_KEY_SIZE_RANGE",
    ("NSS", "CKM_HKDF_KEY_GEN", "generate"): "NSS 3.87 and 3.110 list it and answer CKR_MECHANISM_INVALID",
}
# The version of the peer from which on a case above passes.
MENDED: dict[tuple[str, str, str], tuple[int, ...]] = {
    ("NSS", "CKM_PBE_SHA1_DES2_EDE_CBC", "generate"): (3, 110),
}

# (peer, mechanism): both list it, and it is not the same.
DIFFERENT: dict[tuple[str, str], str] = {
    ("NSS", "CKM_AES_KEY_WRAP_PAD"): "NSS's is what 3.2 calls AES_KEY_WRAP_PKCS7, and is exchanged as that",
}

# Mechanisms that no peer has, by a pattern of their names.
ALONE: dict[str, str] = {
    r"CKM_(HASH_)?SLH_DSA\w*": "none of the peers has it; known answers are run where the kernels have it",
}
