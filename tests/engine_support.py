"""Drives the software engine as the core does, without the core: keys as attributes, coroutines stepped."""

from __future__ import annotations

import os
import re
from typing import Any

from ferrohsm_adapters.software.engine import Engine

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Operation
from ferrohsm.mechanisms import ROWS
from ferrohsm.parameters import Mechanism


def ulong(value: int) -> bytes:
    return value.to_bytes(8, "little")


def step(coroutine: Any) -> Any:
    """Run a coroutine that never waits, on the spot."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("the engine must not wait")


def _kernels() -> Any:
    try:
        from ferrohsm_adapters.software import _kernels
    except ImportError:
        # The wheel has them; only a source tree that was not built lacks them.
        if os.environ.get("CI"):
            raise
        return None
    return _kernels


KERNELS = _kernels()


def libcrypto_version() -> tuple[int, ...]:
    """Return the version of the kernels' libcrypto, by its own word; () without kernels."""
    if KERNELS is None:
        return ()
    found = re.search(r"OpenSSL (\d+)\.(\d+)", KERNELS.name())
    assert found is not None
    return tuple(map(int, found.groups()))


# Whether the kernels have ML-DSA, ML-KEM and SLH-DSA. What they only have is not offered elsewhere.
POSTQUANTUM = libcrypto_version() >= (3, 5)
POSTQUANTUM_ONLY = frozenset(
    type for type, row in ROWS.items() if row.family == "slh_dsa" or row.produces == ck.CKK_SLH_DSA
)
ENGINES = ["library"] if KERNELS is None else ["library", "kernels"]


class Driver:
    """An engine with the calls of a session; `native` says that kernels are asked first."""

    stride = 1
    """Every record of a file is tried."""

    def __init__(self, native: bool = False) -> None:
        self.native = native
        self.engine = Engine(KERNELS if native else None)

    def key(self, attributes: Attributes) -> Key:
        return Key(1, attributes)

    def bring_in(self, attributes: Attributes) -> Key:
        """Make a key object of attributes from outside."""
        return Key(1, {**attributes, **step(self.engine.complete(attributes))})

    def secret(self, value: bytes, key_type: int = ck.CKK_GENERIC_SECRET) -> Key:
        return self.bring_in(
            {
                ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY),
                ck.CKA_KEY_TYPE: ulong(key_type),
                ck.CKA_VALUE: bytearray(value),
            }
        )

    def aes(self, value: bytes) -> Key:
        return self.secret(value, ck.CKK_AES)

    def pair(self, mechanism: int, key_type: int, **public: Any) -> tuple[Key, Key]:
        """Generate a key pair; keywords are attributes of the public template."""
        template: Attributes = {int(getattr(ck, "CKA_" + name)): value for name, value in public.items()}
        return self._pair(Mechanism(mechanism), key_type, template)

    def _pair(self, mechanism: Mechanism, key_type: int, template: Attributes) -> tuple[Key, Key]:
        base = {ck.CKA_KEY_TYPE: ulong(key_type)}
        public = {ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY), **base, **template}
        private: Attributes = {ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY), **base}
        more_public, more_private = step(self.engine.generate_key_pair(mechanism, public, private))
        return Key(1, {**public, **more_public}), Key(2, {**private, **more_private})

    def rsa_pair(self, bits: int = 2048) -> tuple[Key, Key]:
        return self.pair(ck.CKM_RSA_PKCS_KEY_PAIR_GEN, ck.CKK_RSA, MODULUS_BITS=ulong(bits))

    def ec_pair(self, parameters: bytes) -> tuple[Key, Key]:
        return self.pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC, EC_PARAMS=parameters)

    def begin(self, function: int, mechanism: int, key: Key | None, parameter: Any = None) -> Operation:
        operation: Operation = step(self.engine.begin(function, Mechanism(mechanism, parameter), key))
        return operation

    def once(
        self, function: int, mechanism: int, key: Key | None, data: bytes, parameter: Any = None
    ) -> bytes:
        """One part; the length known before must be right."""
        operation = self.begin(function, mechanism, key, parameter)
        expected = operation.once_length(len(data))
        out = bytes(step(operation.once(memoryview(data))))
        if function == Function.DECRYPT or function == Function.VERIFY_RECOVER:
            assert len(out) <= expected
        else:
            assert len(out) == expected
        return out

    def parts(
        self, function: int, mechanism: int, key: Key | None, parts: list[bytes], parameter: Any = None
    ) -> bytes:
        """Several parts; `update_length` must be exact."""
        operation = self.begin(function, mechanism, key, parameter)
        out = bytearray()
        for part in parts:
            expected = operation.update_length(len(part))
            piece = step(operation.update(memoryview(part)))
            assert len(piece) == expected
            out += piece
        expected = operation.finish_length()
        piece = step(operation.finish())
        assert len(piece) == expected or (function == Function.DECRYPT and len(piece) <= expected)
        return bytes(out + piece)

    def sign(self, mechanism: int, key: Key, data: bytes, parameter: Any = None) -> bytes:
        return self.once(Function.SIGN, mechanism, key, data, parameter)

    def verify(self, mechanism: int, key: Key, data: bytes, signature: bytes, parameter: Any = None) -> None:
        operation = self.begin(Function.VERIFY, mechanism, key, parameter)
        step(operation.verify(memoryview(data), memoryview(signature)))

    def verify_parts(
        self, mechanism: int, key: Key, parts: list[bytes], signature: bytes, parameter: Any = None
    ) -> None:
        operation = self.begin(Function.VERIFY, mechanism, key, parameter)
        for part in parts:
            step(operation.update(memoryview(part)))
        step(operation.finish_verify(memoryview(signature)))

    def encrypt(self, mechanism: int, key: Key, data: bytes, parameter: Any = None) -> bytes:
        return self.once(Function.ENCRYPT, mechanism, key, data, parameter)

    def decrypt(self, mechanism: int, key: Key, data: bytes, parameter: Any = None) -> bytes:
        return self.once(Function.DECRYPT, mechanism, key, data, parameter)

    def wrap(self, mechanism: int, wrapping: Key, target: Key, parameter: Any = None) -> bytes:
        full = Mechanism(mechanism, parameter)
        wrapped: bytes = step(self.engine.wrap(full, wrapping, target))
        assert self.engine.wrap_length(full, wrapping, target) == len(wrapped)
        return wrapped

    def unwrap(
        self, mechanism: int, unwrapping: Key, wrapped: bytes, template: Attributes, parameter: Any = None
    ) -> Attributes:
        added: Attributes = step(
            self.engine.unwrap(Mechanism(mechanism, parameter), unwrapping, memoryview(wrapped), template)
        )
        return {**template, **added}

    def derive(self, mechanism: int, base: Key, template: Attributes, parameter: Any) -> Attributes:
        added: Attributes = step(self.engine.derive(Mechanism(mechanism, parameter), base, template))
        return {**template, **added}


def secret_template(key_type: int = ck.CKK_GENERIC_SECRET, length: int | None = None) -> Attributes:
    template: Attributes = {
        ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY),
        ck.CKA_KEY_TYPE: ulong(key_type),
    }
    if length is not None:
        template[ck.CKA_VALUE_LEN] = ulong(length)
    return template


def private_template(key_type: int) -> Attributes:
    return {ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY), ck.CKA_KEY_TYPE: ulong(key_type)}
