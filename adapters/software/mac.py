"""Message authentication: HMAC, CMAC, GMAC, Poly1305, MACs made of CBC; whole or of a length asked for.

PKCS#11 3.2, "Hash-Based Message Authentication Codes (HMAC)", "AES-CMAC", "AES", "Additional AES
Mechanisms", "Poly1305". CBC-MAC (FIPS 113) pads its data with zeros to whole blocks.
"""

from __future__ import annotations

from hmac import compare_digest

from ferrohsm import constants as ck
from ferrohsm.adapters import Key
from ferrohsm.errors import KeySizeRange, MechanismParamInvalid, SignatureInvalid, SignatureLenRange
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm.typed import Any, Callable
from ferrohsm_adapters.software.material import secret_value
from ferrohsm_adapters.software.operation import EngineOperation, copied, wipe


class Mac(EngineOperation):
    """A MAC being made or checked; `length` is in bytes."""

    __slots__ = ("context", "length")

    def __init__(self, context: Any, length: int) -> None:
        super().__init__()
        self.context = context
        self.length = length

    def finish_length(self) -> int:
        return self.length

    def _update(self, data: memoryview) -> bytes:
        self.context.update(data)
        return b""

    def _finish(self) -> bytes:
        tag: bytes = self.context.finalize()
        return tag[: self.length]

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        self._check_length(signature)
        super()._verify(data, signature)

    def _finish_verify(self, signature: memoryview) -> None:
        self._check_length(signature)
        if not compare_digest(self._finish(), signature):
            raise SignatureInvalid

    def _check_length(self, signature: memoryview) -> None:
        if len(signature) != self.length:
            raise SignatureLenRange

    def copy(self) -> Mac:
        return copied(self)

    def _drop(self) -> None:
        self.context = None


def _length(mechanism: Mechanism, whole: int) -> int:
    """Return the length asked for in a ``CK_MAC_GENERAL_PARAMS``, else the whole."""
    if mechanism.parameter is None:
        return whole
    length: int = mechanism.parameter
    if not 1 <= length <= whole:
        raise MechanismParamInvalid("the length of a MAC is from 1 to that of its whole output")
    return length


def begin_hmac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start an HMAC."""
    from ferrohsm_adapters.software import hash_functions

    assert row.hash is not None
    length = _length(mechanism, hash_functions.length(row.hash))
    value = secret_value(key)
    if not row.min_key <= len(value) <= row.max_key:
        raise KeySizeRange
    return Mac(hash_functions.authenticating(row.hash, value), length)


def begin_cmac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start a CMAC."""
    from cryptography.hazmat.primitives.cmac import CMAC

    from ferrohsm_adapters.software.modes import algorithm

    cipher = algorithm(key)
    return Mac(CMAC(cipher), _length(mechanism, cipher.block_size // 8))


def begin_poly1305(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start a Poly1305."""
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    value = secret_value(key)
    if len(value) != 32:
        raise KeySizeRange
    return Mac(Poly1305(value), 16)


class Chain:
    """CBC-MAC: the last block of a message enciphered by CBC from zero; `last` says what that block is."""

    __slots__ = ("block", "context", "held", "last")

    def __init__(self, context: Any, block: int, last: Callable[[bytearray], bytearray]) -> None:
        self.context = context
        self.block = block
        self.last = last
        self.held = bytearray()  # the last bytes, up to a block: they may be treated otherwise

    def update(self, data: memoryview) -> None:
        """Take a part."""
        self.held += data
        ready = max(0, len(self.held) - 1) // self.block * self.block
        if ready:
            wipe(self._through(self.held[:ready]))
            del self.held[:ready]

    def finalize(self) -> bytes:
        """Return the last block."""
        return bytes(self._through(self.last(self.held)))

    def _through(self, data: bytearray) -> bytearray:
        from ferrohsm_adapters.software.aes import run

        return run(self.context, data)


def begin_cbc_mac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start a MAC of CBC; half a block long unless a length is asked for."""
    from cryptography.hazmat.primitives.ciphers import modes

    from ferrohsm_adapters.software.modes import algorithm, context

    cipher = algorithm(key)
    block = cipher.block_size // 8
    length = block // 2 if mechanism.parameter is None else _length(mechanism, block)
    chaining = context(cipher, modes.CBC(bytes(block)), True)
    return Mac(Chain(chaining, block, lambda data: data.ljust(block, b"\0")), length)


def begin_xcbc_mac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start an AES-XCBC-MAC (RFC 3566)."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    value = secret_value(key)
    if len(value) != 16:
        raise KeySizeRange
    deriving = Cipher(algorithms.AES(value), modes.ECB()).encryptor()
    first, second, third = (deriving.update(bytes((number,)) * 16) for number in (1, 2, 3))

    def last(data: bytearray) -> bytearray:
        mask = second if len(data) == 16 else third
        padded = data if len(data) == 16 else (data + b"\x80").ljust(16, b"\0")
        return bytearray(a ^ b for a, b in zip(padded, mask, strict=True))

    context = Cipher(algorithms.AES(first), modes.CBC(bytes(16))).encryptor()
    return Mac(Chain(context, 16, last), 12 if mechanism.type == ck.CKM_AES_XCBC_MAC_96 else 16)


class Authenticated:
    """GMAC: the tag of GCM over data that is authenticated only."""

    __slots__ = ("context",)

    def __init__(self, context: Any) -> None:
        self.context = context

    def update(self, data: memoryview) -> None:
        """Take a part."""
        self.context.authenticate_additional_data(data)

    def finalize(self) -> bytes:
        """Return the tag."""
        self.context.finalize()
        tag: bytes = self.context.tag
        return tag


def begin_gmac(function: int, row: Row, mechanism: Mechanism, key: Key) -> Mac:
    """Start a GMAC: the parameter is that of GCM, its data authenticated before the message."""
    from ferrohsm_adapters.software.aes import aes_value, gcm_context

    context = gcm_context(mechanism.parameter, aes_value(key), encrypt=True)
    return Mac(Authenticated(context), mechanism.parameter.tag_bits // 8)
