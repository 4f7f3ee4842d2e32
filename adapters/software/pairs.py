"""Generating key pairs.

PKCS#11 3.2, "PKCS #1 RSA key pair generation", "Elliptic Curve key pair generation", "ML-DSA", "ML-KEM",
"SLH-DSA". The kernels make those that they have: no part of the private key becomes a Python number
on that way. Else the library does.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes
from ferrohsm.mechanisms import Row
from ferrohsm.typed import TYPE_CHECKING
from ferrohsm_adapters.software.material import complete, ulong

if TYPE_CHECKING:
    from ferrohsm_adapters.software.engine import Kernels

# What the private key has in common with the public one.
_SHARED = (ck.CKA_MODULUS, ck.CKA_PUBLIC_EXPONENT, ck.CKA_EC_PARAMS, ck.CKA_PUBLIC_KEY_INFO)
# What the public key's template or the core has said already.
_KNOWN = (ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_EC_PARAMS)


def generate_pair(row: Row, public: Attributes, kernels: Kernels | None) -> tuple[Attributes, Attributes]:
    """Return the attributes to add to the public and to the private key.

    Raises `TemplateIncomplete`, `TemplateInconsistent`, `KeySizeRange`, `CurveNotSupported`,
    `DomainParamsInvalid`, `ParameterSetNotSupported`.
    """
    assert row.produces is not None
    if row.produces == ck.CKK_RSA:
        from ferrohsm_adapters.software import rsa_material

        bits, exponent = rsa_material.wanted(public)
        template: Attributes = {ck.CKA_MODULUS_BITS: ulong(bits), ck.CKA_PUBLIC_EXPONENT: exponent}
        made = _from_kernels(row, template, kernels)
        return made if made is not None else rsa_material.generate(bits, exponent)
    if row.family == "postquantum":
        from ferrohsm_adapters.software import postquantum_material

        chosen = postquantum_material.set_of(public)
        sized: Attributes = {ck.CKA_PARAMETER_SET: ulong(chosen.type)}
        pair = None if kernels is None else kernels.generate_key_pair(row.type, sized)
        return postquantum_material.generate(chosen, pair)
    if row.family in ("dsa", "dh"):
        from ferrohsm_adapters.software import ffc_material

        return ffc_material.generate_pair(row.produces, public)
    from ferrohsm_adapters.software import ec_material

    curve, parameters = ec_material.wanted(row.produces, public)
    made = _from_kernels(row, {ck.CKA_EC_PARAMS: parameters}, kernels)
    if made is not None:
        return made
    return ec_material.pair_attributes(curve, ec_material.generate(curve), parameters)


def _from_kernels(
    row: Row, template: Attributes, kernels: Kernels | None
) -> tuple[Attributes, Attributes] | None:
    made = None if kernels is None else kernels.generate_key_pair(row.type, template)
    return None if made is None else finished(row, template, made[0], made[1])


def finished(
    row: Row, template: Attributes, public: Attributes, private: Attributes
) -> tuple[Attributes, Attributes]:
    """Return the attributes to add to a pair of which the kernels have made `public` and `private`."""
    assert row.produces is not None
    whole: Attributes = {
        **template,
        **public,
        ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY),
        ck.CKA_KEY_TYPE: ulong(row.produces),
    }
    whole.update(complete(whole))
    shared = {type: whole[type] for type in _SHARED if type in whole}
    added = {type: value for type, value in whole.items() if type not in _KNOWN}
    return added, {**private, **shared}
