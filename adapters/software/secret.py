"""Generating secret keys (PKCS#11 3.2, "AES key generation", "Generic secret key generation")."""

from __future__ import annotations

import os

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes
from ferrohsm.errors import KeySizeRange, TemplateIncomplete
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm.typed import TYPE_CHECKING
from ferrohsm_adapters.software.material import (
    number,
    secret_attributes,
    secret_length_allowed,
    usual_length,
    with_parity,
)

if TYPE_CHECKING:
    from ferrohsm_adapters.software.engine import Kernels

_KERNELS_LARGEST = 4096  # bytes of a key that the kernels make


def generate(row: Row, mechanism: Mechanism, attributes: Attributes, kernels: Kernels | None) -> Attributes:
    """Return value, length and check value of a new secret key."""
    assert row.produces is not None
    length = number(attributes, ck.CKA_VALUE_LEN)
    if length is None:
        length = usual_length(row.produces)
    if length is None:
        raise TemplateIncomplete("CKA_VALUE_LEN is missing")
    if not secret_length_allowed(row.produces, length):
        raise KeySizeRange
    # The kernels write into memory that can be wiped; `os.urandom` leaves its own copy behind.
    asked = kernels if length <= _KERNELS_LARGEST else None
    made = None if asked is None else asked.generate_key(mechanism.type, attributes)
    value = bytearray(os.urandom(length)) if made is None else made[ck.CKA_VALUE]
    return secret_attributes(row.produces, with_parity(row.produces, value), attributes)
