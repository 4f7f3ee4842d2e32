"""AES: ECB, CBC, CBC-PAD, CTR, GCM, CCM.

PKCS#11 3.2, "AES", "AES with Counter", "Additional AES Mechanisms".

Limits of this engine: a GCM IV has 8 to 128 bytes and a tag 32 to 128 bits, in whole bytes;
AEAD decryption gives nothing away before the tag is verified, so its parts are kept, up to 64 MiB.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import (
    DataLenRange,
    DeviceMemory,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    HsmError,
    KeySizeRange,
    MechanismParamInvalid,
)
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Ccm, Ctr, Gcm, Mechanism
from ferrohsm.typed import Any, Callable
from ferrohsm_adapters.software.material import AES_LENGTHS, Bytes, secret_value
from ferrohsm_adapters.software.operation import EngineOperation, Held, wipe

BLOCK = 16
GCM_TAG_BITS = range(32, 129, 8)
_GCM_MAX_BYTES = 2**36 - 32
CCM_TAG_BYTES = (4, 6, 8, 10, 12, 14, 16)


def aes_value(key: Key) -> Bytes:
    """Return the value of an AES key."""
    value = secret_value(key)
    if len(value) not in AES_LENGTHS:
        raise KeySizeRange
    return value


def run(context: Any, data: Any) -> bytearray:
    """Return `data` passed through a cipher context, in memory that can be wiped."""
    out = bytearray(len(data) + BLOCK - 1)
    length = context.update_into(data, out)
    del out[length:]
    return out


class Stream(EngineOperation):
    """ECB and CBC without padding: whole blocks, in parts of any size."""

    __slots__ = ("block", "context", "pending", "refusal")

    def __init__(self, context: Any, refusal: type[HsmError], block: int = BLOCK) -> None:
        super().__init__()
        self.block = block
        self.context = context
        self.refusal = refusal
        self.pending = 0  # bytes of an unfinished block, held by the context

    def update_length(self, length: int) -> int:
        total = self.pending + length
        return total - total % self.block

    def once_length(self, length: int) -> int:
        if length % self.block:
            raise self.refusal
        return length

    def finish_length(self) -> int:
        if self.pending:
            raise self.refusal
        return 0

    def _once(self, data: memoryview) -> bytearray:
        self.once_length(len(data))
        return run(self.context, data)

    def _update(self, data: memoryview) -> bytearray:
        self.pending = (self.pending + len(data)) % self.block
        return run(self.context, data)

    def _finish(self) -> bytes:
        self.finish_length()
        return b""

    def _drop(self) -> None:
        self.context = None


class PaddedEncryption(Stream):
    """CBC with PKCS#7 padding, encrypting."""

    __slots__ = ()

    def once_length(self, length: int) -> int:
        return length - length % self.block + self.block

    def finish_length(self) -> int:
        return self.block

    def _once(self, data: memoryview) -> bytearray:
        return self._update(data) + self._finish()

    def _finish(self) -> bytearray:  # type: ignore[override]
        count = self.block - self.pending
        return run(self.context, bytes((count,)) * count)


class PaddedDecryption(EngineOperation):
    """CBC with PKCS#7 padding, decrypting: the last block waits until it is known to be the last."""

    __slots__ = ("block", "context", "held")

    def __init__(self, context: Any, block: int = BLOCK) -> None:
        super().__init__()
        self.block = block
        self.context = context
        self.held = bytearray()  # ciphertext, at most one block

    def once_length(self, length: int) -> int:
        if not length or length % self.block:
            raise EncryptedDataLenRange
        return length - 1

    def update_length(self, length: int) -> int:
        total = len(self.held) + length
        return (total - 1) // self.block * self.block if total else 0

    def finish_length(self) -> int:
        if len(self.held) != self.block:
            raise EncryptedDataLenRange
        return self.block - 1

    def _update(self, data: memoryview) -> bytearray:
        taken = self.update_length(len(data)) - len(self.held)
        if taken <= 0:
            # Either nothing leaves yet or exactly the block that was held.
            out = run(self.context, self.held) if taken == 0 and self.held else bytearray()
            if taken == 0:
                self.held.clear()
            self.held += data
            return out
        out = run(self.context, self.held)
        out += run(self.context, data[:taken])
        self.held = bytearray(data[taken:])
        return out

    def _finish(self) -> bytearray:
        from cryptography.hazmat.primitives.padding import PKCS7

        self.finish_length()
        block = run(self.context, self.held)
        unpadder = PKCS7(self.block * 8).unpadder()
        try:
            unpadder.update(block)
            return bytearray(unpadder.finalize())
        except ValueError:
            raise EncryptedDataInvalid from None
        finally:
            wipe(block)

    def _once(self, data: memoryview) -> bytearray:
        self.once_length(len(data))
        return self._update(data) + self._finish()

    def _drop(self) -> None:
        self.context = None


class Counter(EngineOperation):
    """CTR; the counter bits never overflow, so `left` bytes are all that can be processed."""

    __slots__ = ("context", "left")

    def __init__(self, context: Any, left: int) -> None:
        super().__init__()
        self.context = context
        self.left = left

    def update_length(self, length: int) -> int:
        if length > self.left:
            raise DataLenRange
        return length

    def _update(self, data: memoryview) -> bytearray:
        self.left -= self.update_length(len(data))
        return run(self.context, data)

    def _finish(self) -> bytes:
        return b""

    def _drop(self) -> None:
        self.context = None


class GcmEncryption(EngineOperation):
    """GCM, encrypting: the tag follows the ciphertext."""

    __slots__ = ("context", "left", "tag_length")

    def __init__(self, context: Any, tag_length: int) -> None:
        super().__init__()
        self.context = context
        self.tag_length = tag_length
        self.left = _GCM_MAX_BYTES

    def update_length(self, length: int) -> int:
        if length > self.left:
            raise DataLenRange
        return length

    def finish_length(self) -> int:
        return self.tag_length

    def _update(self, data: memoryview) -> bytearray:
        self.left -= self.update_length(len(data))
        return run(self.context, data)

    def _finish(self) -> bytes:
        self.context.finalize()
        tag: bytes = self.context.tag
        return tag[: self.tag_length]

    def _drop(self) -> None:
        self.context = None


class HeldAead(EngineOperation):
    """An AEAD that works on the whole at once: decryption, and CCM either way.

    `work` takes the input and gives the output; `growth` is what the output is longer by. `secret` is the
    copy of the key that `work` reads, if it has one of its own.
    """

    __slots__ = ("expected", "growth", "held", "refusal", "secret", "work")

    def __init__(
        self,
        work: Callable[[Any], Bytes],
        growth: int,
        refusal: type[HsmError],
        expected: int | None,
        secret: bytearray | None = None,
    ) -> None:
        super().__init__()
        self.secret = secret
        self.work: Callable[[Any], Bytes] | None = work
        self.growth = growth
        self.refusal = refusal
        self.expected = expected  # length of the input, where the parameter fixes it
        self.held = Held(DeviceMemory)

    def once_length(self, length: int) -> int:
        if length + self.growth < 0 or self.expected not in (None, length):
            raise self.refusal
        return length + self.growth

    def finish_length(self) -> int:
        return self.once_length(len(self.held))

    def _once(self, data: memoryview) -> Bytes:
        self.once_length(len(data))
        assert self.work is not None
        return self.work(data)

    def _update(self, data: memoryview) -> bytes:
        self.held.append(data)
        return b""

    def _finish(self) -> Bytes:
        # The view goes before the buffer is wiped.
        with memoryview(self.held.data) as data:
            return self._once(data)

    def _drop(self) -> None:
        self.work = None
        self.held.wipe()
        if self.secret is not None:
            wipe(self.secret)


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> EngineOperation:
    """Start an encryption or decryption."""
    return cipher(mechanism, aes_value(key), function == Function.ENCRYPT)


def cipher(mechanism: Mechanism, value: Bytes, encrypt: bool) -> EngineOperation:
    """Return the operation of a mode with the key `value`."""
    return _MODES[mechanism.type](mechanism.parameter, value, encrypt)


def _context(value: Bytes, mode: Any, encrypt: bool) -> Any:
    made = Cipher(algorithms.AES(value), mode)
    return made.encryptor() if encrypt else made.decryptor()


def _ecb(parameter: Any, value: Bytes, encrypt: bool) -> EngineOperation:
    context = _context(value, modes.ECB(), encrypt)
    return Stream(context, DataLenRange if encrypt else EncryptedDataLenRange)


def _cbc(parameter: bytes, value: Bytes, encrypt: bool) -> EngineOperation:
    context = _context(value, modes.CBC(parameter), encrypt)
    return Stream(context, DataLenRange if encrypt else EncryptedDataLenRange)


def _cbc_pad(parameter: bytes, value: Bytes, encrypt: bool) -> EngineOperation:
    context = _context(value, modes.CBC(parameter), encrypt)
    return PaddedEncryption(context, DataLenRange) if encrypt else PaddedDecryption(context)


def _ctr(parameter: Ctr, value: Bytes, encrypt: bool) -> EngineOperation:
    left = counter_bytes(parameter)
    return Counter(_context(value, modes.CTR(parameter.block), encrypt), left)


def counter_bytes(parameter: Ctr) -> int:
    """Return the bytes that a counter is enough for. Raises `MechanismParamInvalid`."""
    if not 1 <= parameter.counter_bits <= 128 or len(parameter.block) != BLOCK:
        raise MechanismParamInvalid
    period = 1 << parameter.counter_bits
    return (period - int.from_bytes(parameter.block, "big") % period) * BLOCK


def gcm_context(parameter: Gcm, value: Bytes, encrypt: bool) -> Any:
    """Return a GCM context that has authenticated the parameter's data."""
    if parameter.tag_bits not in GCM_TAG_BITS or not 8 <= len(parameter.iv) <= 128:
        raise MechanismParamInvalid("an IV has 8 to 128 bytes, a tag 4 to 16")
    context = _context(value, modes.GCM(parameter.iv, None, parameter.tag_bits // 8), encrypt)
    context.authenticate_additional_data(parameter.aad)
    return context


def _gcm(parameter: Gcm, value: Bytes, encrypt: bool) -> EngineOperation:
    context, length = gcm_context(parameter, value, encrypt), parameter.tag_bits // 8
    if encrypt:
        return GcmEncryption(context, length)

    def work(data: Any) -> bytearray:
        end = len(data) - length
        plain = run(context, data[:end])
        try:
            context.finalize_with_tag(bytes(data[end:]))
        except InvalidTag:
            wipe(plain)
            raise EncryptedDataInvalid from None
        return plain

    return HeldAead(work, -length, EncryptedDataLenRange, None)


def _ccm(parameter: Ccm, value: Bytes, encrypt: bool) -> EngineOperation:
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM

    length, nonce, aad = parameter.data_length, parameter.nonce, parameter.aad
    if parameter.mac_length not in CCM_TAG_BYTES or not 7 <= len(nonce) <= 13:
        raise MechanismParamInvalid
    # The length of the data is written in the bytes that the nonce leaves.
    if length >= 1 << (8 * (15 - len(nonce))):
        raise MechanismParamInvalid
    # A copy: this class reads the buffer it was given at each use, and the key's may be wiped meanwhile.
    own = bytearray(value)
    aead = AESCCM(own, parameter.mac_length)
    if encrypt:
        return HeldAead(
            lambda data: aead.encrypt(nonce, data, aad), parameter.mac_length, DataLenRange, length, own
        )

    def work(data: Any) -> bytearray:
        plain = bytearray(len(data) - parameter.mac_length)
        try:
            aead.decrypt_into(nonce, data, aad, plain)
        except InvalidTag:
            raise EncryptedDataInvalid from None
        return plain

    return HeldAead(work, -parameter.mac_length, EncryptedDataLenRange, length + parameter.mac_length, own)


_MODES: dict[int, Callable[[Any, Bytes, bool], EngineOperation]] = {
    ck.CKM_AES_ECB: _ecb,
    ck.CKM_AES_CBC: _cbc,
    ck.CKM_AES_CBC_PAD: _cbc_pad,
    ck.CKM_AES_CTR: _ctr,
    ck.CKM_AES_GCM: _gcm,
    ck.CKM_AES_CCM: _ccm,
}
