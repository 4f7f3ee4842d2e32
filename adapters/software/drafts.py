"""Keys that the kernels make and keep until somebody looks at them: what to ask for, what follows from it."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Ecdh1, Mechanism
from ferrohsm.typed import cast
from ferrohsm_adapters.software.material import number, secret_attributes, secret_length_allowed, ulong

# RSA pairs take so long to make that asking the core first costs nothing, and too much memory to keep.
_SECRETS = (ck.CKM_AES_KEY_GEN, ck.CKM_GENERIC_SECRET_KEY_GEN)
_SHARED = (Function.ENCAPSULATE, Function.DECAPSULATE)


def request(function: int, row: Row, mechanism: Mechanism, attributes: Attributes) -> Attributes | None:
    """Return what the kernels' generation takes; None: they do not make this key alone."""
    if function == Function.GENERATE and mechanism.type in _SECRETS:
        length = number(attributes, ck.CKA_VALUE_LEN)
        if length is None or row.produces is None or not secret_length_allowed(row.produces, length):
            return None
        return {ck.CKA_VALUE_LEN: ulong(length)}
    if function == Function.GENERATE_KEY_PAIR and row.family == "postquantum":
        chosen = attributes.get(ck.CKA_PARAMETER_SET)
        return {ck.CKA_PARAMETER_SET: bytes(cast("bytes", chosen))} if chosen else None
    if function == Function.GENERATE_KEY_PAIR and row.produces not in (None, ck.CKK_RSA):
        parameters = attributes.get(ck.CKA_EC_PARAMS)
        return {ck.CKA_EC_PARAMS: bytes(cast("bytes", parameters))} if parameters else None
    if function == Function.DERIVE and isinstance(mechanism.parameter, Ecdh1):
        return {} if mechanism.parameter.kdf == ck.CKD_NULL else None
    return {} if function in _SHARED else None


def finished(
    function: int, row: Row, halves: tuple[Attributes, ...], public: Attributes, secret: Attributes
) -> tuple[Attributes, ...]:
    """Return the attributes to add to each of `halves`."""
    if function == Function.GENERATE_KEY_PAIR and row.family == "postquantum":
        from ferrohsm_adapters.software import postquantum_material

        return postquantum_material.generate(postquantum_material.set_of(halves[0]), (public, secret))
    if function == Function.GENERATE_KEY_PAIR:
        from ferrohsm_adapters.software import pairs

        return pairs.finished(row, {ck.CKA_EC_PARAMS: public[ck.CKA_EC_PARAMS]}, public, secret)
    value = cast("bytearray", secret[ck.CKA_VALUE])
    if function == Function.DERIVE or function in _SHARED:
        from ferrohsm_adapters.software.derive import derived_key

        return (derived_key(value, halves[0], leading=function in _SHARED),)
    assert row.produces is not None
    return (secret_attributes(row.produces, value, halves[0]),)
