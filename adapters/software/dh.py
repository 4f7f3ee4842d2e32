"""Diffie-Hellman over finite fields (PKCS#11 3.2, "Diffie-Hellman": PKCS #3 and X9.42)."""

from __future__ import annotations

from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import MechanismParamInvalid
from ferrohsm.mechanisms import HASHES
from ferrohsm.parameters import Ecdh1, Mechanism
from ferrohsm_adapters.software import ffc_material
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.ecdh import checked_kdf, kdf_context
from ferrohsm_adapters.software.operation import wipe


def derive(mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of the key agreed with the other party's public value."""
    parameter = mechanism.parameter
    if not isinstance(parameter, Ecdh1):
        return derived_key(_agree(base, parameter), attributes, leading=False)
    name, sp800 = checked_kdf(parameter.kdf, parameter.shared_data)
    secret, length = _agree(base, parameter.public_data), wanted_length(attributes)
    if name is None:
        return derived_key(secret, attributes, leading=False)
    value = bytearray(HASHES[name].length if length is None else length)
    try:
        kdf_context(name, sp800, len(value), parameter.shared_data).derive_into(secret, value)
    finally:
        wipe(secret)
    return derived_key(value, attributes, leading=True)


def _agree(base: Key, public_value: bytes) -> bytearray:
    private, other = ffc_material.private_key(base), int.from_bytes(public_value, "big")
    if not ffc_material.in_group(base.attributes, other):
        raise MechanismParamInvalid("the public value is none of the group, or would tell the secret")
    try:
        return bytearray(private.exchange(ffc_material.load_public(base.attributes, other)))
    except ValueError:
        raise MechanismParamInvalid("the public value is none of the group") from None
