"""Mechanism parameters as the core sees them: plain values, no pointers.

The ABI decodes a ``CK_MECHANISM`` into a `Mechanism` by the row's `ParameterKind`; a key handle
inside a parameter arrives as the object identity the core knows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ferrohsm import constants as ck


class ParameterKind:
    """How the parameter of a mechanism is laid out (the names the ABI's decoders are filed under)."""

    NONE = "none"  # must be absent
    IV16 = "iv16"  # 16 bytes
    IV8 = "iv8"  # 8 bytes (AES key wrap; may be absent: default IV)
    IV4 = "iv4"  # 4 bytes (AES key wrap with padding; may be absent)
    ULONG = "ulong"  # CK_ULONG (MAC_GENERAL lengths)
    CTR = "ctr"  # CK_AES_CTR_PARAMS
    GCM = "gcm"  # CK_GCM_PARAMS
    CCM = "ccm"  # CK_CCM_PARAMS
    RSA_PSS = "rsa_pss"  # CK_RSA_PKCS_PSS_PARAMS
    RSA_OAEP = "rsa_oaep"  # CK_RSA_PKCS_OAEP_PARAMS
    ECDH1 = "ecdh1"  # CK_ECDH1_DERIVE_PARAMS
    EDDSA = "eddsa"  # CK_EDDSA_PARAMS, may be absent
    STRING = "string"  # CK_KEY_DERIVATION_STRING_DATA
    CBC_ENCRYPT_DATA = "cbc_encrypt_data"  # CK_AES_CBC_ENCRYPT_DATA_PARAMS
    RSA_AES_KEY_WRAP = "rsa_aes_key_wrap"  # CK_RSA_AES_KEY_WRAP_PARAMS
    BYTES = "bytes"  # the parameter's own bytes (DH public value)


class Ctr(NamedTuple):
    """CK_AES_CTR_PARAMS."""

    counter_bits: int
    block: bytes


class Gcm(NamedTuple):
    """CK_GCM_PARAMS: lengths in bytes but `tag_bits`; `iv_bits` as given."""

    iv: bytes
    iv_bits: int
    aad: bytes
    tag_bits: int


class Ccm(NamedTuple):
    """CK_CCM_PARAMS: all lengths in bytes."""

    data_length: int
    nonce: bytes
    aad: bytes
    mac_length: int


class RsaPss(NamedTuple):
    """CK_RSA_PKCS_PSS_PARAMS: `hash` a CKM_*, `mgf` a CKG_*, `salt_length` in bytes."""

    hash: int
    mgf: int
    salt_length: int


class RsaOaep(NamedTuple):
    """CK_RSA_PKCS_OAEP_PARAMS."""

    hash: int
    mgf: int
    source: int
    source_data: bytes


class Ecdh1(NamedTuple):
    """CK_ECDH1_DERIVE_PARAMS: `kdf` a CKD_*."""

    kdf: int
    shared_data: bytes
    public_data: bytes


class EdDsa(NamedTuple):
    """CK_EDDSA_PARAMS."""

    prehash: bool
    context: bytes


class CbcEncryptData(NamedTuple):
    """CK_AES_CBC_ENCRYPT_DATA_PARAMS."""

    iv: bytes
    data: bytes


class RsaAesKeyWrap(NamedTuple):
    """CK_RSA_AES_KEY_WRAP_PARAMS."""

    aes_key_bits: int
    oaep: RsaOaep


class Mechanism(NamedTuple):
    """A mechanism with its decoded parameter: None, bytes, an int or one of the tuples above."""

    type: int
    parameter: Any = None

    @property
    def name(self) -> str:
        """The mechanism's name (``CKM_*``)."""
        return ck.name("CKM", self.type)
