"""Keys that are agreed by encapsulation (PKCS#11 3.2, ``C_EncapsulateKey`` and ``C_DecapsulateKey``)."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, EncapsulatingSigner, Function, Template
from ferrohsm.attribute_kinds import DERIVE, FALSE, TRUE, ulong
from ferrohsm.attributes import collapse, compose, merge
from ferrohsm.errors import BufferTooSmall, KeyHandleInvalid, TemplateInconsistent
from ferrohsm.keys import hold_key, settle_made
from ferrohsm.parameters import Mechanism
from ferrohsm.policy import check_create, check_key, check_mechanism, check_no_login_needed
from ferrohsm.typed import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ferrohsm.entries import Entry
    from ferrohsm.sessions import Session


async def encapsulated_length(session: Session, mechanism: Mechanism, public_oid: int) -> int:
    """Return the length of the ciphertext that `encapsulate_key` would give."""
    public = await hold(session, mechanism, public_oid, Function.ENCAPSULATE)
    try:
        return _signer(session).encapsulated_length(mechanism, public.key)
    finally:
        public.release()


async def encapsulate_key(
    session: Session, mechanism: Mechanism, public_oid: int, template: Template, limit: int
) -> tuple[bytes, int]:
    """Make a key and its ciphertext. Raises `BufferTooSmall` when that would have more than `limit` bytes."""
    public = await hold(session, mechanism, public_oid, Function.ENCAPSULATE)
    try:
        if _signer(session).encapsulated_length(mechanism, public.key) > limit:
            raise BufferTooSmall()
        attributes = await composed(session, public, Function.ENCAPSULATE, template)
        ciphertext, made = await _signer(session).encapsulate(mechanism, public.key, dict(attributes))
    finally:
        public.release()
    return ciphertext, await _added(session, attributes, made)


async def decapsulate_key(
    session: Session, mechanism: Mechanism, private_oid: int, template: Template, ciphertext: memoryview
) -> int:
    """Make the key that `ciphertext` holds."""
    private = await hold(session, mechanism, private_oid, Function.DECAPSULATE)
    try:
        attributes = await composed(session, private, Function.DECAPSULATE, template)
        made = await _signer(session).decapsulate(mechanism, private.key, ciphertext, dict(attributes))
    finally:
        private.release()
    return await _added(session, attributes, made)


def _signer(session: Session) -> EncapsulatingSigner:
    """Return the engine, which has this when it lists a mechanism with the flag."""
    return cast("EncapsulatingSigner", session.token.signer)


async def hold(session: Session, mechanism: Mechanism, oid: int, function: int) -> Entry:
    """Return the key, which may do `function` with the mechanism; the caller releases it."""
    row = check_mechanism(session.token, mechanism.type, function)
    key = await hold_key(session, oid, function)
    try:
        check_key(row, function, key)
        if function == Function.DECAPSULATE:
            check_no_login_needed(key)
    except BaseException:
        key.release()
        raise
    return key


async def composed(session: Session, key: Entry, function: int, template: Template) -> Attributes:
    """Return the attributes of the key that `key` gives or opens, but for its value."""
    attribute = (
        ck.CKA_ENCAPSULATE_TEMPLATE if function == Function.ENCAPSULATE else ck.CKA_DECAPSULATE_TEMPLATE
    )
    own = key.get(attribute)
    if isinstance(own, tuple):
        try:
            template = merge(own, template)
        except TemplateInconsistent as error:
            # "If any attribute conflict occurs", the two functions differ in what they "SHALL return".
            if attribute == ck.CKA_DECAPSULATE_TEMPLATE:
                raise
            raise KeyHandleInvalid(str(error)) from None
    given = collapse(template)
    implied: Attributes = {ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY)}
    if ck.CKA_KEY_TYPE not in given:
        implied[ck.CKA_KEY_TYPE] = ulong(ck.CKK_GENERIC_SECRET)
    if ck.CKA_EXTRACTABLE not in given:
        implied[ck.CKA_EXTRACTABLE] = TRUE
    attributes = compose(DERIVE, template, implied, so=session.token.so_logged_in)
    attributes[ck.CKA_LOCAL] = attributes[ck.CKA_ALWAYS_SENSITIVE] = attributes[ck.CKA_NEVER_EXTRACTABLE] = (
        FALSE
    )
    attributes[ck.CKA_KEY_GEN_MECHANISM] = ulong(ck.CK_UNAVAILABLE_INFORMATION)
    await check_create(session, attributes)
    return attributes


async def _added(session: Session, attributes: Attributes, made: Attributes) -> int:
    await settle_made(session, attributes, made)
    return await session.token.objects.add(session, attributes)
