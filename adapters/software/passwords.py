"""Keys of passwords (PKCS#11 3.2, "PKCS #5 PBKD2 …", "PKCS #12 password-based …"; RFC 8018, RFC 7292).

PKCS#12's is computed where the kernels lend it.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes
from ferrohsm.errors import KeySizeRange, MechanismParamInvalid, TemplateIncomplete
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism, Pbe, Pbkd2
from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS
from ferrohsm_adapters.software.material import (
    fixed_length,
    number,
    secret_attributes,
    secret_length_allowed,
    with_parity,
)
from ferrohsm_adapters.software.operation import wipe

_HASHES = {
    ck.CKP_PKCS5_PBKD2_HMAC_SHA1: "sha1",
    ck.CKP_PKCS5_PBKD2_HMAC_SHA224: "sha224",
    ck.CKP_PKCS5_PBKD2_HMAC_SHA256: "sha256",
    ck.CKP_PKCS5_PBKD2_HMAC_SHA384: "sha384",
    ck.CKP_PKCS5_PBKD2_HMAC_SHA512: "sha512",
    ck.CKP_PKCS5_PBKD2_HMAC_SHA512_224: "sha512_224",
    ck.CKP_PKCS5_PBKD2_HMAC_SHA512_256: "sha512_256",
}
# One call cannot be interrupted: more than this is hours of work.
MAX_ITERATIONS = 100_000_000


def generate(mechanism: Mechanism, attributes: Attributes) -> Attributes:
    """Return value, length and check value of the key that a password stands for."""
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    parameter: Pbkd2 = mechanism.parameter
    try:
        name = _HASHES.get(parameter.prf)
        if name is None or not 1 <= parameter.iterations <= MAX_ITERATIONS:
            raise MechanismParamInvalid("unknown pseudorandom function, or no sensible count of iterations")
        key_type = number(attributes, ck.CKA_KEY_TYPE)
        if key_type is None:
            raise TemplateIncomplete("CKA_KEY_TYPE is missing")
        length = number(attributes, ck.CKA_VALUE_LEN)
        if length is None:
            length = fixed_length(key_type)
        if length is None:
            raise TemplateIncomplete("CKA_VALUE_LEN is missing")
        if not secret_length_allowed(key_type, length):
            raise KeySizeRange
        value = bytearray(length)
        kdf = PBKDF2HMAC(HASH_FUNCTIONS[name], length, parameter.salt, parameter.iterations)
        kdf.derive_into(parameter.password, value)
    finally:
        wipe(parameter.password)
    return secret_attributes(key_type, with_parity(key_type, value), attributes)


# What the derivation is for: the diversifiers of RFC 7292, appendix B.3.
_KEY, _VECTOR, _MAC = 1, 2, 3
_VECTOR_BYTES = 8


def generate_pkcs12(row: Row, mechanism: Mechanism, attributes: Attributes) -> Attributes:
    """Return the key that a password stands for in PKCS#12; the vector goes into the parameter.

    The password is used as it is given: in PKCS#12 a BMPString with its two zero bytes.
    """
    from ferrohsm_adapters.software import _kernels

    parameter: Pbe = mechanism.parameter
    assert row.produces is not None
    try:
        if not 1 <= parameter.iterations <= MAX_ITERATIONS:
            raise MechanismParamInvalid("no sensible count of iterations")
        if not parameter.password and not parameter.salt:
            raise MechanismParamInvalid("neither password nor salt")
        if number(attributes, ck.CKA_VALUE_LEN) not in (None, row.max_key):
            raise KeySizeRange
        given = (parameter.password, parameter.salt)
        value = bytearray(row.max_key)
        is_mac = mechanism.type == ck.CKM_PBA_SHA1_WITH_SHA1_HMAC
        _kernels.pkcs12_derive(*given, _MAC if is_mac else _KEY, parameter.iterations, value)
        if not is_mac:
            vector = bytearray(_VECTOR_BYTES)
            _kernels.pkcs12_derive(*given, _VECTOR, parameter.iterations, vector)
            parameter.iv[:] = vector
    finally:
        wipe(parameter.password)
    return secret_attributes(row.produces, with_parity(row.produces, value), attributes)
