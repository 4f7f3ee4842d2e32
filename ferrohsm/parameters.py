"""Mechanism parameters as the core sees them: plain values, no pointers.

The ABI decodes a ``CK_MECHANISM`` into a `Mechanism` by the row's `ParameterKind`; a key handle
inside a parameter arrives as the object identity the core knows.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.typed import Any, Callable, NamedTuple


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
    IV64 = "iv64"  # 8 bytes
    KEY = "key"  # CK_OBJECT_HANDLE
    CHACHA20 = "chacha20"  # CK_CHACHA20_PARAMS
    CHACHA20_POLY1305 = "chacha20_poly1305"  # CK_SALSA20_CHACHA20_POLY1305_PARAMS
    DES_CBC_ENCRYPT_DATA = "des_cbc_encrypt_data"  # CK_DES_CBC_ENCRYPT_DATA_PARAMS
    HKDF = "hkdf"  # CK_HKDF_PARAMS
    SP800_108 = "sp800_108"  # CK_SP800_108_KDF_PARAMS
    SP800_108_FEEDBACK = "sp800_108_feedback"  # CK_SP800_108_FEEDBACK_KDF_PARAMS
    PBKD2 = "pbkd2"  # CK_PKCS5_PBKD2_PARAMS2
    ECDH_AES_KEY_WRAP = "ecdh_aes_key_wrap"  # CK_ECDH_AES_KEY_WRAP_PARAMS
    SIGN_CONTEXT = "sign_context"  # CK_SIGN_ADDITIONAL_CONTEXT, may be absent
    HASH_SIGN_CONTEXT = "hash_sign_context"  # CK_HASH_SIGN_ADDITIONAL_CONTEXT
    X9_42_DH = "x9_42_dh"  # CK_X9_42_DH1_DERIVE_PARAMS
    TLS12_MASTER = "tls12_master"  # CK_TLS12_MASTER_KEY_DERIVE_PARAMS
    TLS12_EXTENDED_MASTER = "tls12_extended_master"  # CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS
    TLS12_KEY_MATERIAL = "tls12_key_material"  # CK_TLS12_KEY_MAT_PARAMS
    TLS_KDF = "tls_kdf"  # CK_TLS_KDF_PARAMS
    TLS_MAC = "tls_mac"  # CK_TLS_MAC_PARAMS
    IKE_PRF = "ike_prf"  # CK_IKE_PRF_DERIVE_PARAMS
    IKE1_PRF = "ike1_prf"  # CK_IKE1_PRF_DERIVE_PARAMS
    IKE1_EXTENDED = "ike1_extended"  # CK_IKE1_EXTENDED_DERIVE_PARAMS
    IKE2_PRF_PLUS = "ike2_prf_plus"  # CK_IKE2_PRF_PLUS_DERIVE_PARAMS
    SSH_KDF = "ssh_kdf"  # CK_KRYOPTIC_SSHKDF_PARAMS
    PBE = "pbe"  # CK_PBE_PARAMS
    OTP = "otp"  # CK_OTP_PARAMS, may be absent


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


class EcdhAesKeyWrap(NamedTuple):
    """CK_ECDH_AES_KEY_WRAP_PARAMS: `kdf` a CKD_*."""

    aes_key_bits: int
    kdf: int
    shared_data: bytes


class KeyReference(NamedTuple):
    """A key that a parameter names: its handle, then its identity, and for the engine the `Key` itself."""

    key: Any


class ChaCha20(NamedTuple):
    """CK_CHACHA20_PARAMS: `counter` as it stands in memory."""

    counter: bytes
    nonce: bytes


class ChaCha20Poly1305(NamedTuple):
    """CK_SALSA20_CHACHA20_POLY1305_PARAMS."""

    nonce: bytes
    aad: bytes


class Hkdf(NamedTuple):
    """CK_HKDF_PARAMS: `salt` is bytes, a `KeyReference`, or None for no salt."""

    extract: bool
    expand: bool
    hash: int
    salt: bytes | KeyReference | None
    info: bytes


class IntegerFormat(NamedTuple):
    """CK_SP800_108_COUNTER_FORMAT: how a counter is written."""

    little_endian: bool
    bits: int


class DkmLength(NamedTuple):
    """CK_SP800_108_DKM_LENGTH_FORMAT: how the length of the derived material is counted and written."""

    method: int
    little_endian: bool
    bits: int


class PrfData(NamedTuple):
    """CK_PRF_DATA_PARAM: by `type` bytes, a `KeyReference`, an `IntegerFormat`, a `DkmLength` or None."""

    type: int
    value: Any


class Sp800108(NamedTuple):
    """CK_SP800_108_KDF_PARAMS and CK_SP800_108_FEEDBACK_KDF_PARAMS (whose `iv` it has beside)."""

    prf: int
    data: tuple[PrfData, ...]
    iv: bytes = b""


class Secret(bytearray):
    """A secret in a parameter: overwritten when nobody has it any more, whatever became of the call."""

    def __del__(self) -> None:
        """Overwrite it."""
        self[:] = bytes(len(self))


class Pbkd2(NamedTuple):
    """CK_PKCS5_PBKD2_PARAMS2: the engine may wipe `password`, which ends so anyway."""

    salt: bytes
    iterations: int
    prf: int
    password: bytearray

    def __repr__(self) -> str:
        """Return what is no secret."""
        return f"<Pbkd2 of {self.iterations} iterations>"


class SignContext(NamedTuple):
    """CK_SIGN_ADDITIONAL_CONTEXT, with `hash` CK_HASH_SIGN_ADDITIONAL_CONTEXT; `hedge` is a CKH_*."""

    hedge: int
    context: bytes
    hash: int | None = None


class TlsMaster(NamedTuple):
    """CK_TLS12_MASTER_KEY_DERIVE_PARAMS and CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS.

    `seed` is both randoms, or the session hash. `version` is where the engine writes the two bytes of
    the version that the pre-master secret begins with; None when the caller does not ask for it.
    """

    seed: bytes
    hash: int
    version: bytearray | None


class TlsKeyMaterial(NamedTuple):
    """CK_TLS12_KEY_MAT_PARAMS: lengths in bits; `seed` is the server's random and the client's."""

    mac_bits: int
    key_bits: int
    iv_bits: int
    seed: bytes
    hash: int


class TlsKdf(NamedTuple):
    """CK_TLS_KDF_PARAMS: `seed` is both randoms and, if there is a context, its length and it (RFC 5705)."""

    hash: int
    label: bytes
    seed: bytes


class TlsMac(NamedTuple):
    """CK_TLS_MAC_PARAMS: `length` in bytes, `role` 1 for the server and 2 for the client."""

    hash: int
    length: int
    role: int


class IkePrf(NamedTuple):
    """CK_IKE_PRF_DERIVE_PARAMS: `nonces` is Ni and Nr, `new_key` None when this is no rekeying."""

    prf: int
    data_as_key: bool
    nonces: bytes
    new_key: KeyReference | None


class Ike1Prf(NamedTuple):
    """CK_IKE1_PRF_DERIVE_PARAMS: `data` is both cookies and the key's number."""

    prf: int
    shared: KeyReference
    previous: KeyReference | None
    data: bytes


class IkeExpansion(NamedTuple):
    """CK_IKE1_EXTENDED_DERIVE_PARAMS, CK_IKE2_PRF_PLUS_DERIVE_PARAMS: a key and data for each step."""

    prf: int
    key: KeyReference | None
    data: bytes


class SshKdf(NamedTuple):
    """CK_KRYOPTIC_SSHKDF_PARAMS: `purpose` is the letter of RFC 4253, as a number."""

    hash: int
    purpose: int
    exchange_hash: bytes
    session_id: bytes


class Pbe(NamedTuple):
    """CK_PBE_PARAMS: the engine may wipe `password`, and puts the initialization vector into `iv`."""

    salt: bytes
    iterations: int
    password: bytearray
    iv: bytearray

    def __repr__(self) -> str:
        """Return what is no secret."""
        return f"<Pbe of {self.iterations} iterations>"


class OtpParameters(NamedTuple):
    """CK_OTP_PARAMS: type and value of each, a number where the type has one; a PIN is not copied."""

    given: tuple[tuple[int, int | bytes], ...] = ()


class OneTimePassword(NamedTuple):
    """What an engine computes for `OtpParameters`: the value of one counter, `digits` long."""

    counter: int
    digits: int


class MessageParameter(NamedTuple):
    """CK_GCM_MESSAGE_PARAMS and its like, but for the tag: lengths in bytes, `fixed` in bits.

    `generator` is a CKG_*. `data_length` is that of a CCM message, None for others.
    """

    iv: bytes
    fixed: int
    generator: int
    tag_length: int
    data_length: int | None = None


class Mechanism(NamedTuple):
    """A mechanism with its decoded parameter: None, bytes, an int or one of the tuples above."""

    type: int
    parameter: Any = None

    @property
    def name(self) -> str:
        """The mechanism's name (``CKM_*``)."""
        return ck.name("CKM", self.type)


def replace_keys(value: Any, replacement: Callable[[Any], Any]) -> Any:
    """Return a parameter with the key of every `KeyReference` in it replaced by `replacement` of it."""
    if isinstance(value, KeyReference):
        return KeyReference(replacement(value.key))
    if not isinstance(value, tuple):
        return value
    parts = [replace_keys(part, replacement) for part in value]
    if all(new is old for new, old in zip(parts, value, strict=True)):
        return value
    made: Any = type(value)
    return made(*parts) if hasattr(value, "_fields") else tuple(parts)
