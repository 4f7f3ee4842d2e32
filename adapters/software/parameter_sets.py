"""The parameter sets of ML-DSA, ML-KEM and SLH-DSA (FIPS 204, 203 and 205), a row each."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.errors import ParameterSetNotSupported, TemplateIncomplete
from ferrohsm.typed import Any, NamedTuple
from ferrohsm_adapters.software.material import number


class ParameterSet(NamedTuple):
    """A parameter set; lengths in bytes.

    `engine` is the library's name of its classes, None where only the kernels have it. `identifier` are the
    last two arcs of its object identifier, 2.16.840.1.101.3.4.*; `output` is that of a signature or a
    ciphertext. Keys of SLH-DSA have no seed.
    """

    key_type: int
    type: int
    engine: str | None
    identifier: tuple[int, int]
    public: int
    expanded: int
    seed: int
    output: int


def _slh_dsa(type: int, arc: int, n: int, signature: int) -> ParameterSet:
    """`n` is the security parameter in bytes."""
    return ParameterSet(ck.CKK_SLH_DSA, type, None, (3, arc), 2 * n, 4 * n, 0, signature)


SETS = (
    ParameterSet(ck.CKK_ML_DSA, ck.CKP_ML_DSA_44, "MLDSA44", (3, 17), 1312, 2560, 32, 2420),
    ParameterSet(ck.CKK_ML_DSA, ck.CKP_ML_DSA_65, "MLDSA65", (3, 18), 1952, 4032, 32, 3309),
    ParameterSet(ck.CKK_ML_DSA, ck.CKP_ML_DSA_87, "MLDSA87", (3, 19), 2592, 4896, 32, 4627),
    ParameterSet(ck.CKK_ML_KEM, ck.CKP_ML_KEM_512, None, (4, 1), 800, 1632, 64, 768),
    ParameterSet(ck.CKK_ML_KEM, ck.CKP_ML_KEM_768, "MLKEM768", (4, 2), 1184, 2400, 64, 1088),
    ParameterSet(ck.CKK_ML_KEM, ck.CKP_ML_KEM_1024, "MLKEM1024", (4, 3), 1568, 3168, 64, 1568),
    _slh_dsa(ck.CKP_SLH_DSA_SHA2_128S, 20, 16, 7856),
    _slh_dsa(ck.CKP_SLH_DSA_SHA2_128F, 21, 16, 17088),
    _slh_dsa(ck.CKP_SLH_DSA_SHA2_192S, 22, 24, 16224),
    _slh_dsa(ck.CKP_SLH_DSA_SHA2_192F, 23, 24, 35664),
    _slh_dsa(ck.CKP_SLH_DSA_SHA2_256S, 24, 32, 29792),
    _slh_dsa(ck.CKP_SLH_DSA_SHA2_256F, 25, 32, 49856),
    _slh_dsa(ck.CKP_SLH_DSA_SHAKE_128S, 26, 16, 7856),
    _slh_dsa(ck.CKP_SLH_DSA_SHAKE_128F, 27, 16, 17088),
    _slh_dsa(ck.CKP_SLH_DSA_SHAKE_192S, 28, 24, 16224),
    _slh_dsa(ck.CKP_SLH_DSA_SHAKE_192F, 29, 24, 35664),
    _slh_dsa(ck.CKP_SLH_DSA_SHAKE_256S, 30, 32, 29792),
    _slh_dsa(ck.CKP_SLH_DSA_SHAKE_256F, 31, 32, 49856),
)
_BY_NUMBER = {(row.key_type, row.type): row for row in SETS}
_BY_IDENTIFIER = {row.identifier: row for row in SETS}


def set_of(attributes: Any) -> ParameterSet:
    """Return the parameter set of a key's attributes.

    Raises `TemplateIncomplete` without one, `ParameterSetNotSupported` for another one.
    """
    key_type, chosen = number(attributes, ck.CKA_KEY_TYPE), number(attributes, ck.CKA_PARAMETER_SET)
    if chosen is None:
        raise TemplateIncomplete("CKA_PARAMETER_SET is missing")
    row = _BY_NUMBER.get((key_type or 0, chosen))
    if row is None:
        raise ParameterSetNotSupported
    return row


def set_named(identifier: tuple[int, int]) -> ParameterSet | None:
    """Return the set with these last arcs of its object identifier, None for another one."""
    return _BY_IDENTIFIER.get(identifier)
