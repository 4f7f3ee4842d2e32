"""Generating secret keys (PKCS#11 3.2, "AES key generation", "Generic secret key generation")."""

from __future__ import annotations

import os

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes
from ferrohsm.errors import KeySizeRange, TemplateIncomplete
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software.material import number, secret_attributes, secret_length_allowed


def generate(row: Row, mechanism: Mechanism, attributes: Attributes) -> Attributes:
    """Return value, length and check value of a new secret key."""
    length = number(attributes, ck.CKA_VALUE_LEN)
    if length is None:
        raise TemplateIncomplete("CKA_VALUE_LEN is missing")
    assert row.produces is not None
    if not secret_length_allowed(row.produces, length):
        raise KeySizeRange
    return secret_attributes(row.produces, bytearray(os.urandom(length)), attributes)
