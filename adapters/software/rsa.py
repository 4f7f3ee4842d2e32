"""RSA: PKCS#1 v1.5, PSS, OAEP and the public side of raw RSA (PKCS#11 3.2, "RSA").

Decryption of PKCS#1 v1.5 never tells bad padding from good: the engine answers with bytes that only
the private key could predict (implicit rejection). Key sizes are in bits, lengths in bytes.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import (
    DataInvalid,
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    KeySizeRange,
    MechanismInvalid,
    MechanismParamInvalid,
    SignatureInvalid,
    SignatureLenRange,
)
from ferrohsm.mechanisms import RSA_MAX_BITS, RSA_MIN_BITS, Row
from ferrohsm.parameters import Mechanism, RsaOaep, RsaPss
from ferrohsm.typed import Any
from ferrohsm_adapters.software.hash_functions import (
    HASH_FUNCTIONS,
    digest_function,
    mgf_function,
    signing_function,
)
from ferrohsm_adapters.software.operation import EngineOperation, copied
from ferrohsm_adapters.software.rsa_material import private_key, public_key

_PKCS1_OVERHEAD = 11
_OPENSSL_3_2 = 0x30200000


class RsaOperation(EngineOperation):
    """An RSA operation on one block; `size` is the length of the modulus."""

    __slots__ = ("key", "size")

    multi_part = False

    def __init__(self, key: Any) -> None:
        super().__init__()
        bits: int = key.key_size
        if not RSA_MIN_BITS <= bits <= RSA_MAX_BITS:
            raise KeySizeRange
        self.key = key
        self.size = (bits + 7) // 8

    def once_length(self, length: int) -> int:
        self._check_input(length)
        return self.size

    def _check_input(self, length: int) -> None:
        """Refuse data of a length that the operation cannot take."""

    def _drop(self) -> None:
        self.key = None


class Encryption(RsaOperation):
    """Encryption with a padding scheme that takes up to `room` bytes."""

    __slots__ = ("padding", "room")

    def __init__(self, key: rsa.RSAPublicKey, scheme: Any, overhead: int) -> None:
        super().__init__(key)
        self.padding = scheme
        self.room = room_of(self.size, overhead)

    def _check_input(self, length: int) -> None:
        if length > self.room:
            raise DataLenRange

    def _once(self, data: memoryview) -> bytes:
        self._check_input(len(data))
        encrypted: bytes = self.key.encrypt(bytes(data), self.padding)
        return encrypted


class Decryption(RsaOperation):
    """Decryption with a padding scheme."""

    __slots__ = ("padding", "room")

    def __init__(self, key: rsa.RSAPrivateKey, scheme: Any, overhead: int) -> None:
        super().__init__(key)
        self.padding = scheme
        self.room = room_of(self.size, overhead)

    def once_length(self, length: int) -> int:
        self._check_input(length)
        return self.room

    def _check_input(self, length: int) -> None:
        if length != self.size:
            raise EncryptedDataLenRange

    def _once(self, data: memoryview) -> bytearray:
        self._check_input(len(data))
        try:
            return bytearray(self.key.decrypt(bytes(data), self.padding))
        except ValueError:
            raise EncryptedDataInvalid from None


class Signature(RsaOperation):
    """A signature over data that was hashed outside (or is not hashed at all): one part."""

    __slots__ = ("algorithm", "limit", "padding", "whole")

    def __init__(self, key: Any, scheme: Any, algorithm: Any, limit: int, whole: bool) -> None:
        super().__init__(key)
        self.padding = scheme
        self.algorithm = algorithm
        # `whole`: the data is a digest of exactly this length.
        self.limit = limit
        self.whole = whole

    def _check_input(self, length: int) -> None:
        if length > self.limit or (self.whole and length != self.limit):
            raise DataLenRange

    def _once(self, data: memoryview) -> bytes:
        self._check_input(len(data))
        signature: bytes = self.key.sign(data, self.padding, self.algorithm)
        return signature

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        self._check_input(len(data))
        if self.whole:
            verify_signature(self.key, self.size, signature, data, self.padding, self.algorithm)
            return
        # The engine's own comparison takes no empty message, which signs well enough.
        if len(signature) != self.size:
            raise SignatureLenRange
        if recovered(self.key, signature) != data:
            raise SignatureInvalid


class HashedSignature(RsaOperation):
    """A signature over data of any length, hashed here."""

    __slots__ = ("algorithm", "context", "padding")

    multi_part = True

    def __init__(self, key: Any, scheme: Any, algorithm: hashes.HashAlgorithm) -> None:
        super().__init__(key)
        self.padding = scheme
        self.algorithm = algorithm
        self.context: hashes.Hash | None = None

    def finish_length(self) -> int:
        return self.size

    def _once(self, data: memoryview) -> bytes:
        signature: bytes = self.key.sign(data, self.padding, self.algorithm)
        return signature

    def _update(self, data: memoryview) -> bytes:
        if self.context is None:
            self.context = hashes.Hash(self.algorithm)
        self.context.update(data)
        return b""

    def _finish(self) -> bytes:
        signature: bytes = self.key.sign(self._digest(), self.padding, Prehashed(self.algorithm))
        return signature

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        verify_signature(self.key, self.size, signature, data, self.padding, self.algorithm)

    def _finish_verify(self, signature: memoryview) -> None:
        algorithm = Prehashed(self.algorithm)
        verify_signature(self.key, self.size, signature, self._digest(), self.padding, algorithm)

    def _digest(self) -> bytes:
        context = self.context if self.context is not None else hashes.Hash(self.algorithm)
        return context.finalize()

    def copy(self) -> HashedSignature:
        return copied(self)

    def _drop(self) -> None:
        super()._drop()
        self.context = None


class Recovery(RsaOperation):
    """The message recovered from a PKCS#1 v1.5 signature (``C_VerifyRecover``)."""

    __slots__ = ()

    def once_length(self, length: int) -> int:
        self._check_input(length)
        return self.size - _PKCS1_OVERHEAD

    def _check_input(self, length: int) -> None:
        if length != self.size:
            raise SignatureLenRange

    def _once(self, data: memoryview) -> bytes:
        self._check_input(len(data))
        return recovered(self.key, data)


class RawPublic(RsaOperation):
    """Raw RSA with the public key ("X.509 (raw) RSA").

    An exponentiation whose exponent is public: nothing of a private key can leak from its time.
    """

    __slots__ = ("numbers", "recover")

    def __init__(self, key: rsa.RSAPublicKey, recover: bool) -> None:
        super().__init__(key)
        self.numbers = key.public_numbers()
        self.recover = recover

    def _check_input(self, length: int) -> None:
        if self.recover and length != self.size:
            raise SignatureLenRange
        if length > self.size:
            raise DataLenRange

    def _once(self, data: memoryview) -> bytes:
        self._check_input(len(data))
        return self._power(data, SignatureInvalid if self.recover else DataInvalid)

    def _verify(self, data: memoryview, signature: memoryview) -> None:
        if len(data) > self.size:
            raise DataLenRange
        if len(signature) != self.size:
            raise SignatureLenRange
        message = self._power(signature, SignatureInvalid)
        if int.from_bytes(message, "big") != int.from_bytes(data, "big"):
            raise SignatureInvalid

    def _power(self, block: memoryview, refusal: type[Exception]) -> bytes:
        value = int.from_bytes(block, "big")
        if value >= self.numbers.n:
            raise refusal
        return pow(value, self.numbers.e, self.numbers.n).to_bytes(self.size, "big")


def room_of(size: int, overhead: int) -> int:
    """Return the bytes that padding leaves of a block. Raises `KeySizeRange` when it does not even fit."""
    if overhead > size:
        raise KeySizeRange("the modulus is too short for this padding")
    return size - overhead


def recovered(key: rsa.RSAPublicKey, signature: memoryview) -> bytes:
    """Return the message in a PKCS#1 v1.5 signature."""
    try:
        return key.recover_data_from_signature(bytes(signature), padding.PKCS1v15(), NoDigestInfo())
    except (InvalidSignature, ValueError):
        raise SignatureInvalid from None


def verify_signature(
    key: rsa.RSAPublicKey, size: int, signature: memoryview, data: Any, scheme: Any, algorithm: Any
) -> None:
    """Verify, with the refusals of ``C_Verify``."""
    if len(signature) != size:
        raise SignatureLenRange
    try:
        key.verify(bytes(signature), data, scheme, algorithm)
    except InvalidSignature:
        raise SignatureInvalid from None


def begin(function: int, row: Row, mechanism: Mechanism, key: Key) -> EngineOperation:
    """Start an operation with an RSA key."""
    if mechanism.type == ck.CKM_RSA_X_509:
        return RawPublic(public_key(key), function == Function.VERIFY_RECOVER)
    if function in (Function.ENCRYPT, Function.DECRYPT):
        if mechanism.type == ck.CKM_RSA_PKCS and function == Function.DECRYPT and not _rejects_implicitly():
            raise MechanismInvalid("this engine would tell bad padding from good")
        scheme, overhead = encryption_scheme(mechanism)
        if function == Function.ENCRYPT:
            return Encryption(public_key(key), scheme, overhead)
        return Decryption(private_key(key), scheme, overhead)
    if function == Function.VERIFY_RECOVER:
        return Recovery(public_key(key))
    parsed: Any = public_key(key) if function == Function.VERIFY else private_key(key)
    return _begin_signature(row, mechanism, parsed)


def _rejects_implicitly() -> bool:
    """Tell whether the engine answers bad padding with made-up bytes: OpenSSL from 3.2 on, not its forks."""
    from cryptography.hazmat.backends.openssl import backend

    return backend.openssl_version_number() >= _OPENSSL_3_2


def _begin_signature(row: Row, mechanism: Mechanism, key: Any) -> EngineOperation:
    size = (key.key_size + 7) // 8
    if isinstance(mechanism.parameter, RsaPss):
        algorithm, scheme = _pss(row, mechanism.parameter, key.key_size)
        if row.hash is not None:
            return HashedSignature(key, scheme, algorithm)
        return Signature(key, scheme, Prehashed(algorithm), algorithm.digest_size, True)
    if row.hash is not None:
        return HashedSignature(key, padding.PKCS1v15(), signing_function(row.hash))
    return Signature(key, padding.PKCS1v15(), NoDigestInfo(), size - _PKCS1_OVERHEAD, False)


def _pss(row: Row, parameter: RsaPss, bits: int) -> tuple[hashes.HashAlgorithm, padding.PSS]:
    algorithm = digest_function(parameter.hash)
    if row.hash is not None and algorithm is not HASH_FUNCTIONS[row.hash]:
        raise MechanismParamInvalid("the hash is not the mechanism's")
    # One byte less where the modulus is one bit longer than whole bytes.
    room = (bits + 6) // 8 - 2 - algorithm.digest_size
    if not 0 <= parameter.salt_length <= room:
        raise MechanismParamInvalid("the salt does not fit the modulus")
    return algorithm, padding.PSS(padding.MGF1(mgf_function(parameter.mgf)), parameter.salt_length)


def encryption_scheme(mechanism: Mechanism) -> tuple[Any, int]:
    """Return the padding of an encryption mechanism and the bytes that it takes of a block."""
    if mechanism.type == ck.CKM_RSA_PKCS:
        return padding.PKCS1v15(), _PKCS1_OVERHEAD
    return oaep(mechanism.parameter)


def oaep(parameter: RsaOaep) -> tuple[padding.OAEP, int]:
    """Return OAEP with the parameters given and the bytes that it takes of a block."""
    # Some callers leave the source 0 when there is no label.
    if parameter.source != ck.CKZ_DATA_SPECIFIED and (parameter.source or parameter.source_data):
        raise MechanismParamInvalid("unknown source of the label")
    algorithm, mask = digest_function(parameter.hash), mgf_function(parameter.mgf)
    if not (_oaep_has(algorithm) and _oaep_has(mask)):
        raise MechanismParamInvalid("this hash is not there for OAEP")
    scheme = padding.OAEP(padding.MGF1(mask), algorithm, parameter.source_data or None)
    return scheme, 2 + 2 * algorithm.digest_size


def _oaep_has(algorithm: hashes.HashAlgorithm) -> bool:
    return isinstance(algorithm, hashes.SHA1 | hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512)
