"""Ciphers and modes beside those of `aes`: feedback, XTS, ciphertext stealing, Camellia, ARIA, ChaCha20, DES.

PKCS#11 3.2, "AES", "AES XTS", "AES CBC with CipherText Stealing CTS", "Camellia", "ARIA", "ChaCha20",
"Chacha20/Poly1305 …", "Double and Triple-length DES". CTS is CBC-CS1 of the addendum to SP 800-38A.
XTS and CTS look at their data as a whole, so its parts are kept, up to 64 MiB.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers import modes as old_modes
from cryptography.hazmat.decrepit.ciphers.algorithms import Camellia, TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import (
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    HsmError,
    KeySizeRange,
    MechanismParamInvalid,
)
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import ChaCha20, ChaCha20Poly1305, Ctr, Mechanism
from ferrohsm.typed import Any, Callable
from ferrohsm_adapters.software.aes import (
    BLOCK,
    Counter,
    HeldAead,
    PaddedDecryption,
    PaddedEncryption,
    Stream,
    aes_value,
    counter_bytes,
    run,
)
from ferrohsm_adapters.software.lent import BlockCipher
from ferrohsm_adapters.software.material import Bytes, number, secret_length_allowed, secret_value
from ferrohsm_adapters.software.operation import EngineOperation, wipe

_DES_TYPES = (ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3)
_XTS_MAX_BYTES = BLOCK << 20  # SP 800-38E: a data unit has at most 2^20 blocks
_TAG = 16
_CHACHA20_BLOCK = 64


class Flow(EngineOperation):
    """A stream: as many bytes out as in, at once."""

    __slots__ = ("context",)

    def __init__(self, context: Any) -> None:
        super().__init__()
        self.context = context

    def update_length(self, length: int) -> int:
        return length

    def _update(self, data: memoryview) -> bytearray:
        return run(self.context, data)

    def _finish(self) -> bytes:
        return b""

    def _drop(self) -> None:
        self.context = None


class Whole(HeldAead):
    """A cipher that must see the whole: from one block to `most` bytes, and as many out."""

    __slots__ = ("most",)

    def __init__(self, work: Callable[[Any], Bytes], refusal: type[HsmError], most: int) -> None:
        super().__init__(work, 0, refusal, None)
        self.most = most

    def once_length(self, length: int) -> int:
        if not BLOCK <= length <= self.most:
            raise self.refusal
        return length


def algorithm(key: Key) -> Any:
    """Return the engine's block cipher of a key, by its type. Raises `KeySizeRange`."""
    value, key_type = secret_value(key), number(key.attributes, ck.CKA_KEY_TYPE)
    if key_type is None or not secret_length_allowed(key_type, len(value)):
        raise KeySizeRange
    if key_type == ck.CKK_CAMELLIA:
        return Camellia(value)
    if key_type == ck.CKK_ARIA:
        return BlockCipher("ARIA", value)
    if key_type not in _DES_TYPES:
        return algorithms.AES(value)
    # The engine has the three-key form; with keys repeated it is the others.
    repeated = bytearray(value) * 3 if len(value) == 8 else bytearray(value)
    if len(value) == 16:
        repeated += value[:8]
    return TripleDES(repeated)


def encrypted_blocks(key: Key, iv: bytes | None, data: Bytes | memoryview) -> bytearray:
    """Return whole blocks encrypted by ECB, or by CBC with `iv`."""
    mode = modes.ECB() if iv is None else modes.CBC(iv)
    return run(context(algorithm(key), mode, True), data)


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> EngineOperation:
    """Start an encryption or decryption."""
    return _MODES[mechanism.type](key, mechanism.parameter, function == Function.ENCRYPT)


def _refusal(encrypt: bool) -> type[HsmError]:
    return DataLenRange if encrypt else EncryptedDataLenRange


def context(cipher: Any, mode: Any, encrypt: bool) -> Any:
    """Return a context of the library's, or of what the kernels lend."""
    if isinstance(cipher, BlockCipher):
        return cipher.context(mode.name, getattr(mode, "initialization_vector", b""), encrypt)
    made = Cipher(cipher, mode)
    return made.encryptor() if encrypt else made.decryptor()


def _blocks(key: Key, iv: bytes | None, encrypt: bool) -> EngineOperation:
    """ECB, and CBC without padding."""
    cipher = algorithm(key)
    mode = modes.ECB() if iv is None else modes.CBC(iv)
    return Stream(context(cipher, mode, encrypt), _refusal(encrypt), cipher.block_size // 8)


def _padded(key: Key, iv: bytes, encrypt: bool) -> EngineOperation:
    cipher = algorithm(key)
    padding, block = context(cipher, modes.CBC(iv), encrypt), cipher.block_size // 8
    return PaddedEncryption(padding, DataLenRange, block) if encrypt else PaddedDecryption(padding, block)


def _ofb(key: Key, iv: bytes, encrypt: bool) -> EngineOperation:
    return Flow(context(algorithm(key), old_modes.OFB(iv), encrypt))


def _cfb(key: Key, iv: bytes, encrypt: bool) -> EngineOperation:
    return Flow(context(algorithm(key), old_modes.CFB(iv), encrypt))


def _cfb8(key: Key, iv: bytes, encrypt: bool) -> EngineOperation:
    return Flow(context(algorithm(key), old_modes.CFB8(iv), encrypt))


def _cfb1(key: Key, iv: bytes, encrypt: bool) -> EngineOperation:
    return Flow(BlockCipher("AES", aes_value(key)).context("CFB1", iv, encrypt))


def _camellia_ctr(key: Key, parameter: Ctr, encrypt: bool) -> EngineOperation:
    left = counter_bytes(parameter)
    value = secret_value(key)
    if not secret_length_allowed(ck.CKK_CAMELLIA, len(value)):
        raise KeySizeRange
    return Counter(BlockCipher("CAMELLIA", value).context("CTR", parameter.block, encrypt), left)


def _cts(key: Key, iv: bytes, encrypt: bool) -> EngineOperation:
    cipher = algorithm(key)

    def steal(data: Any) -> bytearray:
        odd = len(data) % BLOCK
        padded = bytearray(data) + bytes(-len(data) % BLOCK)
        out = run(context(cipher, modes.CBC(iv), True), padded)
        wipe(padded)
        if odd:
            # The last block but one gives up what the padding made of it.
            del out[-2 * BLOCK + odd : -BLOCK]
        return out

    def give_back(data: Any) -> bytearray:
        odd, whole = len(data) % BLOCK, bytearray(data)
        if odd:
            last = run(context(cipher, modes.ECB(), False), whole[-BLOCK:])
            whole[-BLOCK:-BLOCK] = last[odd:]
            wipe(last)
        plain = run(context(cipher, modes.CBC(iv), False), whole)
        del plain[len(data) :]
        return plain

    return Whole(steal if encrypt else give_back, _refusal(encrypt), 1 << 62)


def _xts(key: Key, tweak: bytes, encrypt: bool) -> EngineOperation:
    value = secret_value(key)
    if len(value) not in (32, 64):
        raise KeySizeRange
    try:
        running = context(algorithms.AES(value), modes.XTS(tweak), encrypt)
    except ValueError:
        # Two equal halves make XTS insecure; FIPS 140 forbids them.
        raise KeySizeRange("the halves of the key are equal") from None
    return Whole(lambda data: run(running, data), _refusal(encrypt), _XTS_MAX_BYTES)


def _chacha20_value(key: Key) -> Bytes:
    value = secret_value(key)
    if len(value) != 32:
        raise KeySizeRange
    return value


def _chacha20(key: Key, parameter: ChaCha20, encrypt: bool) -> EngineOperation:
    counter, nonce = parameter.counter, parameter.nonce
    if (len(counter), len(nonce)) not in ((8, 8), (4, 12)):
        # XChaCha20 needs HChaCha20, which the engine does not give out.
        raise MechanismParamInvalid("a nonce has 64 bits (counter: 64) or 96 bits (counter: 32)")
    running = context(algorithms.ChaCha20(_chacha20_value(key), counter + nonce), None, encrypt)
    left = (1 << 8 * len(counter)) - int.from_bytes(counter, "little")
    return Counter(running, left * _CHACHA20_BLOCK)


def chacha20_poly1305(key: Key, parameter: ChaCha20Poly1305, encrypt: bool) -> EngineOperation:
    """Return an authenticated encryption or decryption; the tag follows the ciphertext."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305 as Aead

    nonce, aad = parameter.nonce, parameter.aad
    if len(nonce) != 12:
        raise MechanismParamInvalid("a nonce has 96 bits")
    # A copy: this class reads the buffer it was given at each use, and the key's may be wiped meanwhile.
    own = bytearray(_chacha20_value(key))
    aead = Aead(own)
    if encrypt:
        return HeldAead(lambda data: aead.encrypt(nonce, data, aad), _TAG, DataLenRange, None, own)

    def work(data: Any) -> bytearray:
        plain = bytearray(len(data) - _TAG)
        try:
            aead.decrypt_into(nonce, data, aad, plain)
        except InvalidTag:
            wipe(plain)
            raise EncryptedDataInvalid from None
        return plain

    return HeldAead(work, -_TAG, EncryptedDataLenRange, None, own)


_MODES: dict[int, Callable[[Key, Any, bool], EngineOperation]] = {
    ck.CKM_AES_OFB: _ofb,
    ck.CKM_AES_CFB1: _cfb1,
    ck.CKM_AES_CFB8: _cfb8,
    ck.CKM_AES_CFB128: _cfb,
    ck.CKM_AES_CTS: _cts,
    ck.CKM_AES_XTS: _xts,
    ck.CKM_CAMELLIA_ECB: _blocks,
    ck.CKM_CAMELLIA_CBC: _blocks,
    ck.CKM_CAMELLIA_CBC_PAD: _padded,
    ck.CKM_CAMELLIA_CTR: _camellia_ctr,
    ck.CKM_ARIA_ECB: _blocks,
    ck.CKM_ARIA_CBC: _blocks,
    ck.CKM_ARIA_CBC_PAD: _padded,
    ck.CKM_CHACHA20: _chacha20,
    ck.CKM_CHACHA20_POLY1305: chacha20_poly1305,
    ck.CKM_DES_ECB: _blocks,
    ck.CKM_DES_CBC: _blocks,
    ck.CKM_DES_CBC_PAD: _padded,
    ck.CKM_DES_OFB64: _ofb,
    ck.CKM_DES_CFB64: _cfb,
    ck.CKM_DES_CFB8: _cfb8,
    ck.CKM_DES3_ECB: _blocks,
    ck.CKM_DES3_CBC: _blocks,
    ck.CKM_DES3_CBC_PAD: _padded,
}
