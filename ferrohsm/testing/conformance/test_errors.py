"""What goes wrong is an `HsmError` with the return value that the specification has for it."""

from __future__ import annotations

import pytest

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.errors import (
    DataInvalid,
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    HsmError,
    ObjectHandleInvalid,
    OperationNotInitialized,
    PinIncorrect,
    SignatureInvalid,
    SignatureLenRange,
)
from ferrohsm.mechanisms import ROWS
from ferrohsm.parameters import Mechanism
from ferrohsm.testing import material
from ferrohsm.testing.subject import Running, label

__all__ = [
    "test_a_wrong_parameter_is_refused",
    "test_a_wrong_pin_is_counted",
    "test_an_operation_is_used_once",
    "test_bad_signatures_are_told_apart",
    "test_broken_ciphertexts_are_refused",
    "test_unknown_objects_are_refused",
]

UNKNOWN = 2**40 + 12345


def test_a_wrong_pin_is_counted(running: Running) -> None:
    """``CKR_PIN_INCORRECT``, one try less, and all tries back after the right one."""
    if not running.needs_login:
        pytest.skip("the adapter's keys need no login")
    session = running.session(login=False)
    running.login(session)
    running.run(running.core.logout(running.slot_id))
    before = running.run(running.store.status()).user_tries_left
    error = running.refused(running.core.login(session, ck.CKU_USER, bytearray(b"certainly-wrong")))
    assert type(error) is PinIncorrect, f"a wrong PIN gives {error!r}"
    status = running.run(running.store.status())
    assert status.user_tries_left < before or before == 0, "the try was not counted"
    assert not status.user_locked
    running.login(session)
    assert running.run(running.store.status()).user_tries_left == before


def test_unknown_objects_are_refused(running: Running) -> None:
    """Reading, replacing and deleting what is not there is ``CKR_OBJECT_HANDLE_INVALID``."""
    running.session()
    store = running.store
    for ask in (
        lambda: store.read(UNKNOWN),
        lambda: store.delete(UNKNOWN),
        lambda: store.replace(UNKNOWN, {ck.CKA_LABEL: b"nothing"}),
    ):
        error = running.refused(ask())
        assert type(error) is ObjectHandleInvalid, f"an unknown object gives {error!r}"


def test_bad_signatures_are_told_apart(running: Running) -> None:
    """A wrong signature, and one of a wrong length, each have their error."""
    session = running.session()
    public, private, mechanism = running.a_pair(session, label(b"signature"))
    good = running.sign(session, mechanism, private, material.DATA)
    cases: list[tuple[bytes, bytes, tuple[type[HsmError], ...]]] = [
        (material.DATA[::-1], good, (SignatureInvalid,)),
        (material.DATA, good[:-1] + bytes([good[-1] ^ 1]), (SignatureInvalid,)),
        (material.DATA, good + b"\0\0", (SignatureLenRange,)),
        (material.DATA, b"", (SignatureLenRange,)),
    ]
    for data, signature, expected in cases:
        operation = running.operation(session, Function.VERIFY, mechanism, public)
        error = running.refused(operation.verify(memoryview(data), memoryview(signature)))
        assert type(error) in expected, f"a bad signature of {len(signature)} bytes gives {error!r}"


def test_an_operation_is_used_once(running: Running) -> None:
    """After its result, and after `close`, it refuses to go on; closing twice is nothing."""
    session = running.session()
    _, private, mechanism = running.a_pair(session, label(b"once"))
    data = memoryview(material.DATA)
    used = running.operation(session, Function.SIGN, mechanism, private).operation
    running.run(used.once(data))
    closed = running.operation(session, Function.SIGN, mechanism, private).operation
    closed.close()
    closed.close()
    for operation in (used, closed):
        error = running.refused(operation.once(data))
        assert type(error) is OperationNotInitialized, f"a second use gives {error!r}"


def test_a_wrong_parameter_is_refused(running: Running) -> None:
    """A parameter of another kind is an `HsmError` when the operation begins, and not later."""
    session, wrong, keys = running.session(), [], {}
    for type, generate, _ in material.signature_choices(running.mechanisms()):
        if generate not in keys:
            keys[generate] = running.generate(
                session, generate, None, label(b"parameter"), function=Function.SIGN
            )[1]
        bad = Mechanism(type, object())
        error = running.refused(running.core.begin(session, Function.SIGN, bad, keys[generate]))
        if not isinstance(error, HsmError):
            wrong.append(f"{ck.name('CKM', type)}: {error!r}")
    assert not wrong, "a parameter of a wrong kind is taken:\n" + "\n".join(wrong)


def test_broken_ciphertexts_are_refused(running: Running) -> None:
    """What does not decrypt is refused as data, not as a failure of the device."""
    session, wrong, keys = running.session(), [], {}
    errors = (EncryptedDataInvalid, EncryptedDataLenRange, DataInvalid, DataLenRange)
    for type, (_, _, flags) in running.mechanisms().items():
        row = ROWS[type]
        generate = material.generation_for(row, running.mechanisms())
        if row.family not in ("rsa",) or not flags & Function.DECRYPT or generate is None:
            continue
        try:
            mechanism = running.mechanism(type, material.DATA)
        except LookupError:
            continue
        if generate not in keys:
            keys[generate] = running.generate(
                session, generate, None, label(b"broken"), function=Function.ENCRYPT
            )[1]
        for broken in (b"\1" * 255, b"\1" * 256):
            operation = running.operation(session, Function.DECRYPT, mechanism, keys[generate])
            error = running.refused(operation.once(memoryview(broken)))
            # PKCS#1 v1.5 and raw RSA answer with bytes that mean nothing: that is no failure either.
            quiet = type in (ck.CKM_RSA_PKCS, ck.CKM_RSA_X_509) and len(broken) == 256 and error is None
            if not isinstance(error, errors) and not quiet:
                wrong.append(f"{ck.name('CKM', type)}, {len(broken)} bytes: {error!r}")
    assert not wrong, "\n".join(wrong)
    if not keys:
        pytest.skip("the slot decrypts with no RSA key")
