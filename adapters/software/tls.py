"""The secrets of TLS 1.2 (PKCS#11 3.2, "TLS 1.2 Mechanisms"; RFC 5246, RFC 5705, RFC 7627).

All of them are the pseudorandom function of RFC 5246, section 5, over a label and a seed. That of
TLS 1.0 and 1.1, half of which is MD5, is not offered.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import KeySizeRange, MechanismParamInvalid, TemplateIncomplete, TemplateInconsistent
from ferrohsm.mechanisms import Row, hash_of_digest
from ferrohsm.parameters import Mechanism, TlsKdf, TlsKeyMaterial, TlsMac, TlsMaster
from ferrohsm.typed import Any
from ferrohsm_adapters.software import hash_functions
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.mac import Mac
from ferrohsm_adapters.software.material import Bytes, number, secret_value

MASTER_LENGTH = 48
_WITH_VERSION = (ck.CKM_TLS12_MASTER_KEY_DERIVE, ck.CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE)
_PLAIN = (ck.CKM_TLS12_MASTER_KEY_DERIVE, ck.CKM_TLS12_MASTER_KEY_DERIVE_DH)
_FINISHED = {1: b"server finished", 2: b"client finished"}
_SHORTEST_MAC, _LONGEST_MAC = 12, 255  # bytes of verify_data


def pseudorandom(hash: int, secret: Bytes, label: bytes, seed: bytes, length: int) -> bytearray:
    """Return `length` bytes of the PRF of TLS 1.2 with the hash whose digest mechanism is `hash`."""
    name = hash_of_digest(hash)
    if name is None or name == "md5":
        raise MechanismParamInvalid("the PRF of TLS 1.2 needs a hash")
    seed = label + seed
    out, chained = bytearray(), seed
    while len(out) < length:
        chained = _hmac(name, secret, chained)
        out += _hmac(name, secret, chained + seed)
    del out[length:]
    return out


def _hmac(name: str, secret: Bytes, data: bytes) -> bytes:
    context = hash_functions.authenticating(name, secret)
    context.update(data)
    made: bytes = context.finalize()
    return made


def derive(row: Row, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of a derived key, or the whole key block in ``CKA_VALUE``."""
    parameter = mechanism.parameter
    if isinstance(parameter, TlsMaster):
        return _master(row, parameter, base, attributes)
    if isinstance(parameter, TlsKeyMaterial):
        return {ck.CKA_VALUE: _key_block(parameter, base)}
    assert isinstance(parameter, TlsKdf)
    length = wanted_length(attributes)
    if length is None:
        raise TemplateIncomplete("CKA_VALUE_LEN is missing")
    made = pseudorandom(parameter.hash, secret_value(base), parameter.label, parameter.seed, length)
    return derived_key(made, attributes, leading=True)


def _master(row: Row, parameter: TlsMaster, base: Key, attributes: Attributes) -> Attributes:
    secret = secret_value(base)
    embedded = row.type in _WITH_VERSION
    if embedded and len(secret) != MASTER_LENGTH:
        raise KeySizeRange("a pre-master secret with a version in it has 48 bytes")
    if not embedded and parameter.version is not None:
        raise MechanismParamInvalid("there is no version in this pre-master secret")
    length, key_type = number(attributes, ck.CKA_VALUE_LEN), number(attributes, ck.CKA_KEY_TYPE)
    if length not in (None, MASTER_LENGTH) or key_type != ck.CKK_GENERIC_SECRET:
        raise TemplateInconsistent("a master secret is a generic secret of 48 bytes")
    label = b"master secret" if row.type in _PLAIN else b"extended master secret"
    made = pseudorandom(parameter.hash, secret, label, parameter.seed, MASTER_LENGTH)
    if parameter.version is not None:
        parameter.version[:] = secret[:2]
    return derived_key(
        made, {**attributes, ck.CKA_VALUE_LEN: MASTER_LENGTH.to_bytes(8, "little")}, leading=True
    )


def _key_block(parameter: TlsKeyMaterial, base: Key) -> bytearray:
    length = 2 * (parameter.mac_bits + parameter.key_bits + parameter.iv_bits) // 8
    secret = secret_value(base)
    if len(secret) != MASTER_LENGTH:
        raise KeySizeRange("a master secret has 48 bytes")
    return pseudorandom(parameter.hash, secret, b"key expansion", parameter.seed, length)


class _Finished:
    """The context of a MAC: what it is fed is the hash of the handshake, which it is made over at the end."""

    __slots__ = ("data", "label", "length", "hash", "secret")

    def __init__(self, parameter: TlsMac, secret: Bytes) -> None:
        self.hash = parameter.hash
        self.length = parameter.length
        self.label = _FINISHED[parameter.role]
        self.secret = secret
        self.data = bytearray()

    def update(self, data: Any) -> None:
        """Take a part."""
        self.data += data

    def finalize(self) -> bytes:
        """Return the data that a finished message has."""
        return bytes(pseudorandom(self.hash, self.secret, self.label, bytes(self.data), self.length))


def begin_mac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start the MAC of a finished message (``CKM_TLS_MAC``)."""
    parameter: TlsMac = mechanism.parameter
    if parameter.role not in _FINISHED or not _SHORTEST_MAC <= parameter.length <= _LONGEST_MAC:
        raise MechanismParamInvalid("a finished message has 12 bytes or more, of the server or the client")
    secret = secret_value(key)
    pseudorandom(parameter.hash, secret, b"", b"", 0)  # refuses what is no hash
    return Mac(_Finished(parameter, secret), parameter.length)
