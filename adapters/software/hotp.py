"""HOTP: digits of an HMAC over a counter (PKCS#11 3.2, "HOTP OTP generation and validation"; RFC 4226)."""

from __future__ import annotations

from hmac import compare_digest

from ferrohsm.adapters import Key
from ferrohsm.errors import KeySizeRange, SignatureInvalid, SignatureLenRange
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism, OneTimePassword
from ferrohsm_adapters.software import hash_functions
from ferrohsm_adapters.software.material import secret_value
from ferrohsm_adapters.software.operation import EngineOperation


class Password(EngineOperation):
    """The password of one count of a key, to be given or compared; it has no data."""

    __slots__ = ("password",)

    multi_part = False

    def __init__(self, password: bytes) -> None:
        super().__init__()
        self.password = password

    def once_length(self, length: int) -> int:
        return len(self.password)

    def _once(self, data: memoryview) -> bytes:
        return self.password

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        if len(signature) != len(self.password):
            raise SignatureLenRange
        if not compare_digest(self.password, signature):
            raise SignatureInvalid

    def _drop(self) -> None:
        self.password = b""


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> Password:
    """Compute a password."""
    assert row.hash is not None
    wanted: OneTimePassword = mechanism.parameter
    value = secret_value(key)
    if not row.min_key <= len(value) <= row.max_key:
        raise KeySizeRange
    context = hash_functions.authenticating(row.hash, value)
    context.update(wanted.counter.to_bytes(8, "big"))
    return Password(_digits(context.finalize(), wanted.digits))


def _digits(tag: bytes, count: int) -> bytes:
    """Truncate an HMAC to decimal digits (RFC 4226, section 5.3)."""
    start = tag[-1] & 0xF
    number = int.from_bytes(tag[start : start + 4], "big") & 0x7FFFFFFF
    return b"%0*d" % (count, number % 10**count)
