"""Wrapping keys by AES-GCM and AES-CCM, vector and tag apart (PKCS#11 3.2, "Authenticated Wrap / Unwrap")."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key
from ferrohsm.errors import (
    AeadDecryptFailed,
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    KeySizeRange,
    MechanismInvalid,
    TemplateInconsistent,
    WrappedKeyInvalid,
    WrappedKeyLenRange,
)
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software import messages
from ferrohsm_adapters.software.material import from_private_key_info, number
from ferrohsm_adapters.software.operation import wipe
from ferrohsm_adapters.software.wrap import SECRETS, payload_of, secret_of


def length(mechanism: Mechanism, target: Key) -> int:
    """Return the length of a wrapped key without its tag."""
    payload = payload_of(mechanism, target)
    size = len(payload)
    wipe(payload)
    return size


def wrap(
    row: Row, mechanism: Mechanism, wrapping: Key, target: Key, associated: memoryview
) -> tuple[bytes, bytes, bytes]:
    """Return vector, wrapped key and tag."""
    payload = payload_of(mechanism, target)
    try:
        process, parameter = _process(Function.MESSAGE_ENCRYPT, row, mechanism, wrapping, len(payload))
        try:
            vector = process.begin(parameter, associated)
            with memoryview(payload) as data:
                wrapped, tag = process.finish(data, b"")
        finally:
            process.close()
    except DataLenRange:
        raise KeySizeRange("the key is too long for this nonce") from None
    finally:
        wipe(payload)
    return vector, bytes(wrapped), tag


def unwrap(
    row: Row,
    mechanism: Mechanism,
    unwrapping: Key,
    wrapped: tuple[memoryview, bytes, memoryview],
    attributes: Attributes,
) -> Attributes:
    """Return the attributes of the key in `wrapped`: data, tag, associated data."""
    kind = number(attributes, ck.CKA_CLASS)
    if kind not in (*SECRETS, ck.CKO_PRIVATE_KEY):
        raise TemplateInconsistent("only secret and private keys are unwrapped")
    data, tag, associated = wrapped
    process, parameter = _process(Function.MESSAGE_DECRYPT, row, mechanism, unwrapping, len(data))
    try:
        process.begin(parameter, associated)
        plain, _ = process.finish(data, tag)
    except (EncryptedDataLenRange, DataLenRange):
        raise WrappedKeyLenRange from None
    except (EncryptedDataInvalid, AeadDecryptFailed):
        raise WrappedKeyInvalid from None
    finally:
        process.close()
    payload = plain if isinstance(plain, bytearray) else bytearray(plain)
    if kind in SECRETS:
        return secret_of(mechanism, payload, attributes)
    try:
        return from_private_key_info(payload, attributes)
    finally:
        wipe(payload)


def _process(
    function: int, row: Row, mechanism: Mechanism, key: Key, length: int
) -> tuple[messages.AeadMessages, messages.MessageParameter]:
    """Return a process for one message, and its parameter with the length in place."""
    if not row.functions & function:
        raise MechanismInvalid
    parameter = mechanism.parameter
    if parameter.data_length is not None:
        parameter = parameter._replace(data_length=length)
    return messages.begin(function, row, mechanism, key), parameter
