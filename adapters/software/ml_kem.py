"""ML-KEM: a shared secret under a public key (PKCS#11 3.2, "ML-KEM"; FIPS 203)."""

from __future__ import annotations

from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import EncryptedDataLenRange
from ferrohsm_adapters.software import lattice_material
from ferrohsm_adapters.software.derive import derived_key


def encapsulated_length(public: Key) -> int:
    """Return the length of a ciphertext in bytes."""
    return lattice_material.set_of(public.attributes).output


def encapsulate(public: Key, attributes: Attributes) -> tuple[bytes, Attributes]:
    """Return the ciphertext and the attributes of the new key."""
    secret, ciphertext = lattice_material.public_key(public).encapsulate()
    return ciphertext, derived_key(bytearray(secret), attributes, leading=True)


def decapsulate(private: Key, ciphertext: memoryview, attributes: Attributes) -> Attributes:
    """Return the attributes of the key that `ciphertext` holds; a wrong one holds another key, as it must."""
    if len(ciphertext) != encapsulated_length(private):
        raise EncryptedDataLenRange
    secret = lattice_material.private_key(private).decapsulate(bytes(ciphertext))
    return derived_key(bytearray(secret), attributes, leading=True)
