"""Keys and certificates as attributes: what every family shares, and the way to each family's own.

Big integers are stored without leading zeros, EC private values padded to the length of the order,
RFC 8032 and RFC 7748 values as those documents write them.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key, Value
from ferrohsm.errors import AttributeValueInvalid, KeyNotWrappable, TemplateIncomplete, WrappedKeyInvalid
from ferrohsm.mechanism_row import HOTP_MAX_BYTES, HOTP_MIN_BYTES
from ferrohsm.mechanisms import HMAC_KEY_TYPES, SECRET_MAX_BYTES
from ferrohsm.typed import Any, Sequence, cast

Bytes = bytes | bytearray

AES_LENGTHS = (16, 24, 32)
_POSTQUANTUM_KEY_TYPES = (ck.CKK_ML_DSA, ck.CKK_ML_KEM, ck.CKK_SLH_DSA)
_FFC_KEY_TYPES = (ck.CKK_DSA, ck.CKK_DH, ck.CKK_X9_42_DH)
_EC_KEY_TYPES = (ck.CKK_EC, ck.CKK_EC_EDWARDS, ck.CKK_EC_MONTGOMERY)
_LENGTHS: dict[int, Sequence[int]] = {
    ck.CKK_AES: AES_LENGTHS,
    ck.CKK_AES_XTS: (32, 64),
    ck.CKK_CAMELLIA: AES_LENGTHS,
    ck.CKK_ARIA: AES_LENGTHS,
    ck.CKK_CHACHA20: (32,),
    ck.CKK_POLY1305: (32,),
    ck.CKK_DES: (8,),
    ck.CKK_DES2: (16,),
    ck.CKK_DES3: (24,),
    ck.CKK_HOTP: range(HOTP_MIN_BYTES, HOTP_MAX_BYTES + 1),
}
_SIXTEEN_BYTES = (ck.CKK_CAMELLIA, ck.CKK_ARIA)  # a block of other ciphers than AES
# Keys whose type says their length: these have no CKA_VALUE_LEN.
_DES_KEY_TYPES = (ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3)
# Secret keys whose value is a string of bytes of any length.
_STRING_KEY_TYPES = HMAC_KEY_TYPES | {ck.CKK_GENERIC_SECRET, ck.CKK_HKDF}


def ulong(value: int) -> bytes:
    """Return a ``CK_ULONG`` as attributes hold it."""
    return value.to_bytes(8, "little")


def number(attributes: Any, type: int) -> int | None:
    """Return the ``CK_ULONG`` attribute `type`, None when it is absent or empty."""
    value = attributes.get(type)
    return int.from_bytes(value, "little") if value else None


def octets(attributes: Any, type: int) -> Bytes:
    """Return the attribute `type`, which an object of this kind must have."""
    value = attributes.get(type)
    if value is None:
        raise TemplateIncomplete(f"{ck.name('CKA', type)} is missing")
    return cast("Bytes", value)


def secret_value(key: Key) -> Bytes:
    """Return a secret key's value (not a copy: it goes when the key is wiped)."""
    return octets(key.attributes, ck.CKA_VALUE)


def check_value(key_type: int, value: Bytes) -> bytes:
    """Return the three bytes of a secret key's ``CKA_CHECK_VALUE``.

    AES, Camellia, ARIA and DES: of a zero block enciphered; all others as generic secrets: of the
    SHA-1 of the value ("Generic secret key objects").
    """
    if key_type == ck.CKK_AES:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        return Cipher(algorithms.AES(value), modes.ECB()).encryptor().update(bytes(16))[:3]
    if key_type in _DES_KEY_TYPES or key_type in _SIXTEEN_BYTES:
        from ferrohsm_adapters.software.modes import encrypted_blocks

        key = Key(0, {ck.CKA_KEY_TYPE: ulong(key_type), ck.CKA_VALUE: value})
        return bytes(encrypted_blocks(key, None, bytes(16 if key_type in _SIXTEEN_BYTES else 8))[:3])
    from cryptography.hazmat.primitives import hashes

    digest = hashes.Hash(hashes.SHA1())
    digest.update(value)
    return digest.finalize()[:3]


def secret_attributes(key_type: int, value: Bytes, attributes: Attributes) -> Attributes:
    """Return what a secret key with `value` adds to `attributes`."""
    length = {} if key_type in _DES_KEY_TYPES else {ck.CKA_VALUE_LEN: ulong(len(value))}
    return {ck.CKA_VALUE: value, **length, **_checked(attributes, check_value(key_type, value))}


def fixed_length(key_type: int) -> int | None:
    """Return the one length in bytes that keys of this type have, None when there are several."""
    lengths = _LENGTHS.get(key_type, ())
    return lengths[0] if len(lengths) == 1 else None


def usual_length(key_type: int) -> int | None:
    """Return the length in bytes of a generated key whose template says none, None when it has to say it."""
    # "The length of the shared secret … This document RECOMMENDs … 160 bits" (RFC 4226, R6).
    return 20 if key_type == ck.CKK_HOTP else fixed_length(key_type)


def with_parity(key_type: int, value: bytearray) -> bytearray:
    """Return `value` after setting the parity bits of a DES key in place (odd; the low bit of each byte)."""
    if key_type in _DES_KEY_TYPES:
        for place, byte in enumerate(value):
            value[place] = byte & 0xFE | (byte >> 1).bit_count() & 1 ^ 1
    return value


def secret_length_allowed(key_type: int, length: int) -> bool:
    """Tell whether a secret key of this type may have `length` bytes."""
    lengths = _LENGTHS.get(key_type)
    if lengths is not None:
        return length in lengths
    return key_type in _STRING_KEY_TYPES and 1 <= length <= SECRET_MAX_BYTES


def public_info(attributes: Attributes, info: bytes) -> Attributes:
    """Return ``CKA_PUBLIC_KEY_INFO`` to add; one that is there already must be the same."""
    given = attributes.get(ck.CKA_PUBLIC_KEY_INFO)
    if given:
        if bytes(cast("Bytes", given)) != info:
            raise AttributeValueInvalid("CKA_PUBLIC_KEY_INFO is that of another key")
        return {}
    return {ck.CKA_PUBLIC_KEY_INFO: info}


def complete(attributes: Attributes) -> Attributes:
    """Check the material of an object and return what follows from it (see `HardwareSigner.complete`)."""
    kind = number(attributes, ck.CKA_CLASS)
    if kind == ck.CKO_CERTIFICATE:
        return _complete_certificate(attributes)
    if kind not in (ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY, ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY):
        return {}
    key_type = number(attributes, ck.CKA_KEY_TYPE)
    if key_type is None:
        raise TemplateIncomplete("CKA_KEY_TYPE is missing")
    if kind in (ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY):
        return _complete_secret(key_type, attributes)
    public = kind == ck.CKO_PUBLIC_KEY
    if key_type == ck.CKK_RSA:
        from ferrohsm_adapters.software import rsa_material

        return (rsa_material.complete_public if public else rsa_material.complete_private)(attributes)
    if key_type in _EC_KEY_TYPES:
        from ferrohsm_adapters.software import ec_material

        return (ec_material.complete_public if public else ec_material.complete_private)(key_type, attributes)
    if key_type in _POSTQUANTUM_KEY_TYPES:
        from ferrohsm_adapters.software import postquantum_material as postquantum

        return (postquantum.complete_public if public else postquantum.complete_private)(key_type, attributes)
    if key_type in _FFC_KEY_TYPES:
        from ferrohsm_adapters.software import ffc_material as ffc

        return (ffc.complete_public if public else ffc.complete_private)(key_type, attributes)
    raise AttributeValueInvalid(f"no engine for {ck.name('CKK', key_type)}")


def public_half(key: Key) -> Attributes:
    """Return the material of the public key that belongs to a private key ("Public key from private key")."""
    key_type = number(key.attributes, ck.CKA_KEY_TYPE)
    if key_type == ck.CKK_RSA:
        made: Attributes = {
            type: octets(key.attributes, type) for type in (ck.CKA_MODULUS, ck.CKA_PUBLIC_EXPONENT)
        }
    elif key_type in _POSTQUANTUM_KEY_TYPES:
        from ferrohsm_adapters.software import postquantum_material

        made = postquantum_material.public_half(key)
    elif key_type in _FFC_KEY_TYPES:
        from ferrohsm_adapters.software import ffc_material

        made = ffc_material.public_attributes(key)
    else:
        from ferrohsm_adapters.software import ec_material

        curve, private = ec_material.key_curve(key), ec_material.private_key(key)
        made = {
            ck.CKA_EC_PARAMS: octets(key.attributes, ck.CKA_EC_PARAMS),
            ck.CKA_EC_POINT: ec_material.point_of(curve, private.public_key()),
        }
    assert key_type is not None
    whole = {ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY), ck.CKA_KEY_TYPE: ulong(key_type), **made}
    return {**made, **complete(whole)}


def private_key_info(key: Key) -> bytearray:
    """Return a private key as PKCS#8 PrivateKeyInfo ("Wrapping/unwrapping private keys")."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key_type = number(key.attributes, ck.CKA_KEY_TYPE)
    private: Any
    if key_type == ck.CKK_RSA:
        from ferrohsm_adapters.software import rsa_material

        private = rsa_material.private_key(key)
    elif key_type in _EC_KEY_TYPES:
        from ferrohsm_adapters.software import ec_material

        private = ec_material.private_key(key)
    elif key_type in _POSTQUANTUM_KEY_TYPES:
        from ferrohsm_adapters.software import postquantum_material

        return postquantum_material.private_key_info(key)
    elif key_type in _FFC_KEY_TYPES:
        from ferrohsm_adapters.software import ffc_material

        return ffc_material.private_key_info(key)
    else:
        raise KeyNotWrappable
    return bytearray(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def from_private_key_info(info: Bytes, attributes: Attributes) -> Attributes:
    """Return the attributes of the private key in a PKCS#8 PrivateKeyInfo of the type in `attributes`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    key_type = number(attributes, ck.CKA_KEY_TYPE)
    if key_type in _POSTQUANTUM_KEY_TYPES:
        from ferrohsm_adapters.software import postquantum_material

        return postquantum_material.unwrapped(info, key_type)
    if key_type in _FFC_KEY_TYPES:
        from ferrohsm_adapters.software import ffc_material

        ffc_material.silence()
    try:
        private = load_der_private_key(info, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: what the parser says about the plaintext is nobody's business.
        raise WrappedKeyInvalid("no private key of a known kind in the wrapped data") from None
    if isinstance(private, RSAPrivateKey):
        if key_type != ck.CKK_RSA:
            raise WrappedKeyInvalid("the wrapped key is of another type")
        from ferrohsm_adapters.software import rsa_material

        return rsa_material.private_attributes(private)
    if type(private).__name__.startswith(("MLDSA", "MLKEM")):
        raise WrappedKeyInvalid("the wrapped key is of another type")
    if type(private).__name__.startswith(("DSA", "DH")):
        from ferrohsm_adapters.software import ffc_material

        return ffc_material.unwrapped(key_type, private, info)
    from ferrohsm_adapters.software import ec_material

    if key_type not in _EC_KEY_TYPES:
        raise WrappedKeyInvalid("the wrapped key is of another type")
    return ec_material.private_attributes(key_type, private, attributes)


def _complete_secret(key_type: int, attributes: Attributes) -> Attributes:
    from ferrohsm_adapters.software.lent import lends

    value = octets(attributes, ck.CKA_VALUE)
    unknown = key_type not in _LENGTHS and key_type not in _STRING_KEY_TYPES
    if unknown or (key_type == ck.CKK_ARIA and not lends("ARIA")):
        raise AttributeValueInvalid(f"no engine for {ck.name('CKK', key_type)}")
    if not secret_length_allowed(key_type, len(value)):
        raise AttributeValueInvalid("the length of CKA_VALUE does not fit the key type")
    added = secret_attributes(key_type, value, attributes)
    del added[ck.CKA_VALUE]
    return added


def _complete_certificate(attributes: Attributes) -> Attributes:
    value: Value | None = attributes.get(ck.CKA_VALUE)
    if not value or number(attributes, ck.CKA_CERTIFICATE_TYPE) != ck.CKC_X_509:
        return {}
    from ferrohsm_adapters.software.der import certificate_public_key_info

    certificate = bytes(cast("Bytes", value))
    added = _checked(attributes, check_value(ck.CKK_GENERIC_SECRET, certificate))
    info = certificate_public_key_info(certificate)
    return added if info is None else {**added, **public_info(attributes, info)}


def _checked(attributes: Attributes, right: bytes) -> Attributes:
    """Return the check value to add: an empty one is kept empty, a wrong one refused."""
    given = attributes.get(ck.CKA_CHECK_VALUE)
    if given is None:
        return {ck.CKA_CHECK_VALUE: right}
    if given and given != right:
        raise AttributeValueInvalid("CKA_CHECK_VALUE is not that of the value")
    return {}
