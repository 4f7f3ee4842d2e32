"""How an operation begins: the mechanism and the key are looked at, the key is held, and its use is noted."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.errors import ArgumentsBad, KeyHandleInvalid, KeyIndigestible
from ferrohsm.operations import BoundOperation
from ferrohsm.policy import USES, check_key, check_mechanism
from ferrohsm.typed import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ferrohsm.adapters import MessageSigner, Operation
    from ferrohsm.audit.tokens import KeyUse
    from ferrohsm.entries import Entry
    from ferrohsm.mechanism_row import Row
    from ferrohsm.messages import BoundMessages
    from ferrohsm.parameters import Mechanism
    from ferrohsm.sessions import Session
    from ferrohsm.signed_messages import BoundSignatures


async def begin(session: Session, function: int, mechanism: Mechanism, oid: int | None) -> BoundOperation:
    """``C_SignInit`` and its like; `function` is one of `Function`'s flags, `oid` None for a digest."""
    token = session.token
    if function == Function.DIGEST:
        check_mechanism(token, mechanism.type, function)
        return BoundOperation(token, await token.signer.begin(function, mechanism, None), None)
    row, entry, use = await _hold(session, function, mechanism, oid)
    try:
        if row.family == "hotp":
            from ferrohsm.otp import BoundPassword

            return BoundPassword(session, function, mechanism, entry, use)
        return BoundOperation(token, await token.signer.begin(function, mechanism, entry.key), entry, use)
    except BaseException:
        entry.release()
        raise


async def begin_messages(session: Session, function: int, mechanism: Mechanism, oid: int) -> BoundMessages:
    """``C_MessageEncryptInit`` and ``C_MessageDecryptInit``; `function` is the flag of either."""
    from ferrohsm.messages import BoundMessages

    token = session.token
    _, entry, use = await _hold(session, function, mechanism, oid)
    try:
        signer = cast("MessageSigner", token.signer)
        return BoundMessages(token, await signer.begin_messages(function, mechanism, entry.key), entry, use)
    except BaseException:
        entry.release()
        raise


async def begin_signatures(
    session: Session, function: int, mechanism: Mechanism, oid: int
) -> BoundSignatures:
    """``C_MessageSignInit`` and ``C_MessageVerifyInit``; `function` is the flag of either."""
    from ferrohsm.signed_messages import BoundSignatures

    _, entry, use = await _hold(session, function, mechanism, oid)
    bound = BoundSignatures(session.token, function, mechanism, entry, use)
    try:
        await bound.prepare()
    except BaseException:
        bound.close()
        raise
    return bound


async def bind(
    session: Session, operation: Operation, oid: int | None, function: int, mechanism: int
) -> BoundOperation:
    """Return an operation that a kernel has begun as one of the core's."""
    token = session.token
    if oid is None:
        return BoundOperation(token, operation, None)
    entry = await token.objects.hold(oid, KeyHandleInvalid)
    try:
        use = token.audit.use(session, function, mechanism, entry)
        return BoundOperation(token, operation, entry, use)
    except BaseException:
        entry.release()
        raise


async def digest_key(session: Session, operation: BoundOperation, oid: int) -> None:
    """Feed a secret key's value into a digest (``C_DigestKey``)."""
    entry = await session.token.objects.hold(oid, KeyHandleInvalid)
    try:
        value = entry.get(ck.CKA_VALUE)
        is_secret = entry.get(ck.CKA_CLASS) == ck.CKO_SECRET_KEY.to_bytes(8, "little")
        if not is_secret or not isinstance(value, bytearray) or not entry.flag(ck.CKA_EXTRACTABLE):
            # A digest of the value says something about it: what may not leave is not digested.
            raise KeyIndigestible()
        await operation.update(memoryview(value))
    finally:
        entry.release()


async def _hold(
    session: Session, function: int, mechanism: Mechanism, oid: int | None
) -> tuple[Row, Entry, KeyUse | None]:
    """Hold the key of an operation that it may be used for; the caller lets go of it."""
    token = session.token
    row = check_mechanism(token, mechanism.type, function)
    rules = USES.get(function)
    if rules is None or oid is None:
        raise ArgumentsBad()
    entry = await token.objects.hold(oid, rules.no_key)
    try:
        check_key(row, function, entry)
        return row, entry, token.audit.use(session, function, mechanism.type, entry)
    except BaseException:
        entry.release()
        raise
