"""EdDSA: Ed25519 and Ed448 in pure mode (PKCS#11 3.2, "EdDSA").

Pure mode reads the data twice, so parts are kept until the end. The prehashed variants and
contexts are refused: the engine does not have them.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature

from ferrohsm.adapters import Function, Key
from ferrohsm.errors import MechanismParamInvalid, SignatureInvalid, SignatureLenRange
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import EdDsa, Mechanism
from ferrohsm.typed import Any
from ferrohsm_adapters.software import ec_material
from ferrohsm_adapters.software.operation import EngineOperation, Held


class EdwardsSignature(EngineOperation):
    """An EdDSA signature being made or checked; `size` is its length in bytes."""

    __slots__ = ("held", "key", "size")

    def __init__(self, key: Any, size: int) -> None:
        super().__init__()
        self.key = key
        self.size = size
        self.held = Held()

    def finish_length(self) -> int:
        return self.size

    def _once(self, data: memoryview) -> bytes:
        signature: bytes = self.key.sign(data)
        return signature

    def _update(self, data: memoryview) -> bytes:
        self.held.append(data)
        return b""

    def _finish(self) -> bytes:
        signature: bytes = self.key.sign(self.held.data)
        return signature

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        if len(signature) != self.size:
            raise SignatureLenRange
        try:
            self.key.verify(bytes(signature), data)
        except InvalidSignature:
            raise SignatureInvalid from None

    def _finish_verify(self, signature: memoryview) -> None:
        self._verify(memoryview(self.held.data), signature)

    def _drop(self) -> None:
        self.key = None
        self.held.wipe()


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> EdwardsSignature:
    """Start an EdDSA operation."""
    curve = ec_material.key_curve(key)
    parameter = mechanism.parameter
    if isinstance(parameter, EdDsa):
        if parameter.prehash or parameter.context:
            raise MechanismParamInvalid("the prehashed variants and contexts are not there")
        # Ed448 takes an empty context as its default; for Ed25519 a parameter asks for Ed25519ctx,
        # which differs from Ed25519 even when the context is empty.
        if curve.engine == "Ed25519":
            raise MechanismParamInvalid("Ed25519ctx is not there")
    parsed = ec_material.private_key(key) if function == Function.SIGN else ec_material.public_key(key)
    return EdwardsSignature(parsed, 2 * curve.length)
