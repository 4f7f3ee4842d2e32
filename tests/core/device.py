"""An engine whose keys stay in a device: the core sees references only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferrohsm_adapters.software.engine import Engine

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Key, Value
from ferrohsm.errors import DeviceError
from ferrohsm.parameters import Mechanism


class Device(Engine):
    """Keys live in `keys` by their reference; `released` says what was given back, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[bytes, Attributes] = {}
        self.released: list[bytes] = []
        self.changed: list[Mapping[int, Value | None]] = []
        self.fails = False

    def take(self, material: Attributes) -> Attributes:
        """Keep the material and return what may be known of it."""
        reference = b"key-%d" % (len(self.keys) + len(self.released))
        self.keys[reference] = dict(material)
        told = {a: v for a, v in material.items() if not isinstance(v, bytearray)}
        return {**told, CKA_REFERENCE: reference}

    def inside(self, key: Key) -> Key:
        reference = key.attributes.get(CKA_REFERENCE)
        if reference is None:
            return key
        assert isinstance(reference, bytes)
        return Key(key.oid, {**key.attributes, **self.keys[reference]})

    async def begin(self, function: int, mechanism: Mechanism, key: Key | None) -> Any:
        return await super().begin(function, mechanism, None if key is None else self.inside(key))

    async def generate_key(self, mechanism: Mechanism, attributes: Attributes) -> Attributes:
        return self.take(await super().generate_key(mechanism, attributes))

    async def generate_key_pair(
        self, mechanism: Mechanism, public: Attributes, private: Attributes
    ) -> tuple[Attributes, Attributes]:
        open_part, closed_part = await super().generate_key_pair(mechanism, public, private)
        return open_part, self.take(closed_part)

    async def unwrap(
        self, mechanism: Mechanism, unwrapping: Key, wrapped: memoryview, attributes: Attributes
    ) -> Attributes:
        inside = self.inside(unwrapping)
        return self.take(await super().unwrap(mechanism, inside, wrapped, attributes))

    async def release(self, reference: bytes) -> None:
        if self.fails:
            raise DeviceError()
        self.released.append(reference)
        self.keys.pop(reference, None)


class GenerousDevice(Device):
    """One that also takes, copies and changes keys."""

    async def keep(self, attributes: Attributes) -> Attributes:
        if attributes.get(ck.CKA_LABEL) == b"stays":
            return {}
        secret = {a: bytearray(v) for a, v in attributes.items() if isinstance(v, bytearray)}
        return self.take(secret)

    async def copy(self, key: Key, changed: Attributes) -> Attributes:
        reference = key.attributes[CKA_REFERENCE]
        assert isinstance(reference, bytes)
        return {**changed, **self.take(self.keys[reference])}

    async def change(self, key: Key, changed: Mapping[int, Value | None]) -> None:
        self.changed.append(changed)
