"""A signer whose keys a device keeps, and which computes here what needs no private key.

A subclass says what the device does (`device_mechanisms`), makes keys (`generate_key_pair`,
`generate_key`), begins operations with them (`begin_on_device`) and gives up what it made (`release`).
Digests, and verifying, encrypting and everything else with a public key, are the software engine's, with
the same results everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Function, Key, Operation
from ferrohsm.attribute_kinds import number
from ferrohsm.errors import (
    KeyFunctionNotPermitted,
    MechanismInvalid,
    RandomSeedNotSupported,
    TemplateInconsistent,
)
from ferrohsm.mechanisms import ROWS
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software.engine import checked_row

# What a public key is enough for.
PUBLIC = Function.VERIFY | Function.VERIFY_RECOVER | Function.ENCRYPT

Capabilities = Mapping[int, tuple[int, int, int]]


class DeviceEngine:
    """See the module; it implements the `HardwareSigner` and the `DeviceSigner` of `ferrohsm.adapters`."""

    def __init__(self) -> None:
        from ferrohsm_adapters.software import kernels
        from ferrohsm_adapters.software.engine import Engine

        self.engine = Engine(kernels())
        self._table: dict[int, tuple[int, int, int]] | None = None

    # What a subclass says

    def device_mechanisms(self) -> Capabilities:
        """Return what the device does: type → (smallest key, largest key, functions)."""
        raise NotImplementedError

    async def begin_on_device(
        self, function: int, mechanism: Mechanism, key: Key, reference: bytes
    ) -> Operation:
        """Start an operation with a key that the device keeps."""
        raise MechanismInvalid

    async def generate_key(self, mechanism: Mechanism, attributes: Attributes) -> Attributes:
        """Make a secret key in the device and return its attributes, the reference among them."""
        raise MechanismInvalid

    async def generate_key_pair(
        self, mechanism: Mechanism, public: Attributes, private: Attributes
    ) -> tuple[Attributes, Attributes]:
        """Make a pair in the device; the reference is the private key's. `public_attributes` helps."""
        raise MechanismInvalid

    async def derive_on_device(
        self, mechanism: Mechanism, base: Key, attributes: Attributes, reference: bytes
    ) -> Attributes:
        """Derive a key from one that the device keeps."""
        raise MechanismInvalid

    async def release(self, reference: bytes) -> None:
        """Give up a key that no object refers to any more."""

    async def random(self, length: int) -> bytes:
        """Return random bytes, the system's unless the device has better ones."""
        return await self.engine.random(length)

    # What follows

    def mechanisms(self) -> dict[int, tuple[int, int, int]]:
        """Return the device's mechanisms (``CKF_HW``) with what we add, and the digests."""
        if self._table is None:
            self._table = self._offered_here()
        return self._table

    def _offered_here(self) -> dict[int, tuple[int, int, int]]:
        ours: dict[int, tuple[int, int, int]] = {
            type: info for type, info in self.engine.mechanisms().items() if ROWS[type].family == "digest"
        }
        engine = self.engine.mechanisms()
        for type, (smallest, largest, functions) in self.device_mechanisms().items():
            added = engine.get(type, (0, 0, 0))[2] & PUBLIC if _asymmetric(type) else 0
            ours[type] = (smallest, largest, functions | added | ck.CKF_HW | ROWS[type].flags)
        return ours

    async def begin(self, function: int, mechanism: Mechanism, key: Key | None) -> Operation:
        """Start an operation, where its key is."""
        info = self.mechanisms().get(mechanism.type)
        if info is None or not info[2] & function:
            raise MechanismInvalid
        checked_row(mechanism, function)
        reference = None if key is None else key.attributes.get(CKA_REFERENCE)
        if key is not None and isinstance(reference, (bytes, bytearray)):
            return await self.begin_on_device(function, mechanism, key, bytes(reference))
        if key is None or number(key.attributes[ck.CKA_CLASS]) == ck.CKO_PUBLIC_KEY:
            return await self.engine.begin(function, mechanism, key)
        raise KeyFunctionNotPermitted("the key is not one that the device keeps")

    async def complete(self, attributes: Attributes) -> Attributes:
        """Check what is brought in and return what follows from it; of the device's keys nothing does."""
        return {} if CKA_REFERENCE in attributes else await self.engine.complete(attributes)

    async def keep(self, attributes: Attributes) -> Attributes:
        """Refuse private and secret keys from outside: they are made in the device."""
        if number(attributes[ck.CKA_CLASS]) != ck.CKO_PUBLIC_KEY:
            raise TemplateInconsistent("keys are made in the device, and none is taken in")
        return {}

    async def derive(self, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
        """Derive a key from one that the device keeps."""
        reference = base.attributes.get(CKA_REFERENCE)
        if not isinstance(reference, (bytes, bytearray)):
            raise KeyFunctionNotPermitted("the key is not one that the device keeps")
        return await self.derive_on_device(mechanism, base, attributes, bytes(reference))

    async def wrap(self, mechanism: Mechanism, wrapping: Key, target: Key) -> bytes:
        """Refuse: nothing leaves the device."""
        raise MechanismInvalid

    def wrap_length(self, mechanism: Mechanism, wrapping: Key, target: Key) -> int:
        """Refuse, as `wrap` does."""
        raise MechanismInvalid

    async def unwrap(
        self, mechanism: Mechanism, unwrapping: Key, wrapped: memoryview, attributes: Attributes
    ) -> Attributes:
        """Refuse: nothing gets into the device."""
        raise MechanismInvalid

    async def seed(self, data: memoryview) -> None:
        """Refuse: the device seeds itself."""
        raise RandomSeedNotSupported


def _asymmetric(type: int) -> bool:
    kinds = (ck.CKK_RSA, ck.CKK_EC, ck.CKK_EC_EDWARDS, ck.CKK_ML_DSA)
    return any(key_type in kinds for key_type in ROWS[type].key_types)


def public_attributes(info: bytes, attributes: Attributes) -> Attributes:
    """Return what a DER SubjectPublicKeyInfo says about the key of a new public key object.

    `attributes` are those of the object so far: the curve is kept as they name it.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    public: Any = load_der_public_key(info)
    if isinstance(public, RSAPublicKey):
        from ferrohsm_adapters.software import rsa_material

        return rsa_material.public_attributes(public)
    key_type = number(attributes[ck.CKA_KEY_TYPE])
    if key_type == ck.CKK_ML_DSA:
        from ferrohsm_adapters.software import postquantum_material

        return postquantum_material.public_attributes(public)
    from ferrohsm_adapters.software import ec_material

    curve, _ = ec_material.wanted(key_type, attributes)
    return {ck.CKA_EC_POINT: ec_material.point_of(curve, public), ck.CKA_PUBLIC_KEY_INFO: info}


# What a private key object has in common with its public key.
_SHARED = (
    ck.CKA_MODULUS,
    ck.CKA_PUBLIC_EXPONENT,
    ck.CKA_EC_PARAMS,
    ck.CKA_PUBLIC_KEY_INFO,
    ck.CKA_PARAMETER_SET,
)


def private_attributes(public: Attributes, added: Attributes, reference: bytes) -> Attributes:
    """Return what the private key of a pair gets: what both share, and the reference.

    `public` are the public key's attributes before `added`, what `public_attributes` returned for it.
    """
    shared = {**public, **added}
    return {
        **{type: shared[type] for type in _SHARED if type in shared},
        CKA_REFERENCE: reference,
    }
