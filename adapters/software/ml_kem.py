"""ML-KEM: a shared secret under a public key (PKCS#11 3.2, "ML-KEM"; FIPS 203)."""

from __future__ import annotations

from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import EncryptedDataLenRange
from ferrohsm.typed import TYPE_CHECKING
from ferrohsm_adapters.software import postquantum_material
from ferrohsm_adapters.software.derive import derived_key

if TYPE_CHECKING:
    from ferrohsm_adapters.software.engine import Kernels


def encapsulated_length(public: Key) -> int:
    """Return the length of a ciphertext in bytes."""
    return postquantum_material.set_of(public.attributes).output


def encapsulate(public: Key, attributes: Attributes, kernels: Kernels | None) -> tuple[bytes, Attributes]:
    """Return the ciphertext and the attributes of the new key."""
    made = None if kernels is None else kernels.encapsulate(public)
    if made is None:
        secret, ciphertext = postquantum_material.public_key(public).encapsulate()
        made = bytearray(secret), ciphertext
    return made[1], derived_key(made[0], attributes, leading=True)


def decapsulate(
    private: Key, ciphertext: memoryview, attributes: Attributes, kernels: Kernels | None
) -> Attributes:
    """Return the attributes of the key that `ciphertext` holds; a wrong one holds another key, as it must."""
    if len(ciphertext) != encapsulated_length(private):
        raise EncryptedDataLenRange
    secret = None if kernels is None else kernels.decapsulate(private, ciphertext)
    if secret is None:
        secret = bytearray(postquantum_material.private_key(private).decapsulate(bytes(ciphertext)))
    return derived_key(secret, attributes, leading=True)
