"""Keys and objects that come into being: created, copied, generated, unwrapped, derived.

PKCS#11 3.2, "Object management functions" and "Key management functions". Each way has the same
steps: compose the template by the rules, ask whether the session may, let the engine make the
material, stamp what the way decides, put it into the registry.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Template, Value
from ferrohsm.attribute_kinds import CREATE, DERIVE, FALSE, GENERATE, TRUE, UNWRAP, is_true, number, ulong
from ferrohsm.attributes import change, collapse, merge, rules_of
from ferrohsm.audit import events
from ferrohsm.audit.tokens import unique_id
from ferrohsm.derivation import (
    compose_data,
    compose_public,
    derives_data,
    hold_references,
    implied_key_type,
    release,
    stamp_derived,
)
from ferrohsm.entries import Entry, copied, wipe
from ferrohsm.errors import (
    AttributeValueInvalid,
    BufferTooSmall,
    KeyHandleInvalid,
    TemplateInconsistent,
    WrappedKeyLenRange,
)
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm.policy import (
    check_change,
    check_copy,
    check_create,
    check_destroy,
    check_key,
    check_mechanism,
    check_no_login_needed,
    check_wrap,
)
from ferrohsm.references import copy as copy_in_device
from ferrohsm.references import give_back, keep, reference_of
from ferrohsm.sessions import Session
from ferrohsm.shapes import compose_alike
from ferrohsm.typed import Awaitable, Callable

_SECRET_CLASSES = (ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY)
_KEY_CLASSES = (ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY, *_SECRET_CLASSES)

# What a template may give though it follows from the material: it must be right then.
_CHECKED = (ck.CKA_CHECK_VALUE, ck.CKA_PUBLIC_KEY_INFO, ck.CKA_PUBLIC_CRC64_VALUE)


def _boolean(value: bool) -> bytes:
    return TRUE if value else FALSE


async def create_object(session: Session, template: Template) -> int:
    """Make an object of the template's values (``C_CreateObject``)."""
    attributes = compose_alike(CREATE, template, {}, so=session.token.so_logged_in)
    await _check_create_or_wipe(session, attributes)
    await settle(session, attributes, None)
    await _keep_or_wipe(session, attributes)
    return await session.token.objects.add(session, attributes)


async def _keep_or_wipe(session: Session, attributes: Attributes) -> None:
    """Let the device take a key that was brought in."""
    try:
        await keep(session.token, attributes)
    except BaseException:
        wipe(attributes)
        raise


async def _check_create_or_wipe(session: Session, attributes: Attributes) -> None:
    """Do what `check_create` does; attributes with a secret among them are not left behind by a refusal."""
    try:
        await check_create(session, attributes)
    except BaseException:
        wipe(attributes)
        raise


async def settle(session: Session, attributes: Attributes, made: Attributes | None) -> None:
    """Add the material that the engine made and what follows from it; None: it was brought in.

    Raises `AttributeValueInvalid` when the template gave a check value or public key that is wrong,
    and whatever the engine has against material from outside.
    """
    object_class = number(attributes[ck.CKA_CLASS])
    if object_class not in (*_KEY_CLASSES, ck.CKO_CERTIFICATE):
        attributes.update(made or {})
        if object_class == ck.CKO_DOMAIN_PARAMETERS:
            _add_bits(attributes)
        return
    given = {attribute: attributes.pop(attribute) for attribute in _CHECKED if attribute in attributes}
    follows = ck.CKA_CHECK_VALUE if object_class in _SECRET_CLASSES else ck.CKA_PUBLIC_KEY_INFO
    try:
        if made is not None:
            attributes.update(made)
        if made is None or follows not in attributes:
            attributes.update(await session.token.signer.complete(attributes))
        _add_checksum(object_class, attributes)
        _check_given(object_class, attributes, given)
    except BaseException:
        wipe(attributes)
        raise


async def settle_made(session: Session, attributes: Attributes, made: Attributes) -> None:
    """Do what `settle` does; a key that a device made is released when it does not fit."""
    references = [reference_of(made)]
    try:
        await settle(session, attributes, made)
    except BaseException:
        await give_back(session.token, references)
        raise


def _add_bits(attributes: Attributes) -> None:
    """Add the lengths in bits of the numbers of domain parameters, as far as their type has them."""
    for part, bits in ((ck.CKA_PRIME, ck.CKA_PRIME_BITS), (ck.CKA_SUBPRIME, ck.CKA_SUBPRIME_BITS)):
        value = attributes.get(part)
        if value is not None and not isinstance(value, tuple) and bits in rules_of(attributes):
            attributes[bits] = ulong(int.from_bytes(value, "big").bit_length())


def _add_checksum(object_class: int, attributes: Attributes) -> None:
    """Add ``CKA_PUBLIC_CRC64_VALUE``: over an RSA key's modulus, else over a public key's value."""
    if object_class not in (ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY):
        return
    covered = attributes.get(ck.CKA_MODULUS)
    if covered is None and object_class == ck.CKO_PUBLIC_KEY:
        covered = attributes.get(ck.CKA_VALUE)
    if covered is not None and not isinstance(covered, tuple):
        from ferrohsm.crc64 import crc64

        attributes[ck.CKA_PUBLIC_CRC64_VALUE] = crc64(covered)


def _check_given(object_class: int, attributes: Attributes, given: Attributes) -> None:
    for attribute, value in given.items():
        computed = attributes.get(attribute)
        if attribute == ck.CKA_CHECK_VALUE and not value:
            # "The generation of the KCV may be prevented by … a no-value (0 length) entry."
            attributes.pop(attribute, None)
        elif attribute == ck.CKA_PUBLIC_KEY_INFO and object_class == ck.CKO_CERTIFICATE:
            # "Cryptoki does not enforce the relationship" of a certificate to it.
            attributes[attribute] = value or computed or value
        elif value and computed is not None and computed != value:
            raise AttributeValueInvalid(f"{ck.name('CKA', attribute)} does not fit the object")
        elif value and computed is None and attribute != ck.CKA_CHECK_VALUE:
            attributes[attribute] = value


async def copy_object(session: Session, oid: int, template: Template) -> int:
    """Make a copy with the template's changes (``C_CopyObject``)."""
    token = session.token
    entry = await token.objects.hold(oid)
    try:
        check_copy(entry)
        changed = change(entry.attributes, template, copying=True, so=token.so_logged_in)
        attributes = {**copied(entry.attributes), **changed}
        await _check_create_or_wipe(session, attributes)
        try:
            await _check_public_key(session, attributes, changed)
            await copy_in_device(token, entry, attributes, changed)
        except BaseException:
            wipe(attributes)
            raise
    finally:
        entry.release()
    return await token.objects.add(session, attributes)


async def set_attributes(session: Session, oid: int, template: Template) -> None:
    """Change attributes (``C_SetAttributeValue``)."""
    async with session.token.objects.changing:
        while not await _try_to_set(session, oid, template):
            """Another process was faster: all is checked again, against what the object is now."""


async def _try_to_set(session: Session, oid: int, template: Template) -> bool:
    objects = session.token.objects
    entry = await objects.hold(oid)
    try:
        await check_change(session, entry)
        changed = change(entry.attributes, template, copying=False, so=session.token.so_logged_in)
        await _check_public_key(session, {**entry.attributes, **changed}, changed)
        if not changed:
            return True
        done = await objects.change(session, entry, _erased(changed))
        if done:
            names = " ".join(ck.name("CKA", attribute).removeprefix("CKA_") for attribute in changed)
            key = unique_id(entry.attributes)
            session.token.audit.note(events.CHANGE, session.handle, object=key, detail=names)
        return done
    finally:
        entry.release()


def _erased(changed: Attributes) -> dict[int, Value | None]:
    """Return the changes with None for a check value that is to be removed."""
    return {
        attribute: None if attribute == ck.CKA_CHECK_VALUE and not value else value
        for attribute, value in changed.items()
    }


async def _check_public_key(session: Session, attributes: Attributes, changed: Attributes) -> None:
    """Check a new ``CKA_PUBLIC_KEY_INFO`` of a key against its material."""
    if not changed.get(ck.CKA_PUBLIC_KEY_INFO) or number(attributes[ck.CKA_CLASS]) not in _KEY_CLASSES:
        return
    material = {a: v for a, v in attributes.items() if a not in _CHECKED}
    computed = (await session.token.signer.complete(material)).get(ck.CKA_PUBLIC_KEY_INFO)
    if computed is not None and computed != changed[ck.CKA_PUBLIC_KEY_INFO]:
        raise AttributeValueInvalid("CKA_PUBLIC_KEY_INFO does not fit the key")


async def destroy_object(session: Session, oid: int) -> None:
    """Destroy an object (``C_DestroyObject``)."""
    objects = session.token.objects
    async with objects.changing:
        entry = await objects.hold(oid)
        try:
            await check_change(session, entry)
            check_destroy(entry)
            gone = unique_id(entry.attributes)
            await objects.remove(entry)
            session.token.audit.note(events.DESTROY, session.handle, object=gone)
        finally:
            entry.release()


async def generate_key(session: Session, mechanism: Mechanism, template: Template) -> int:
    """Generate a secret key (``C_GenerateKey``)."""
    token = session.token
    row = check_mechanism(token, mechanism.type, Function.GENERATE)
    object_class = ck.CKO_SECRET_KEY if row.object_class is None else row.object_class
    attributes = compose_alike(GENERATE, template, implied(object_class, row), so=token.so_logged_in)
    await check_create(session, attributes)
    await settle_made(session, attributes, await token.signer.generate_key(mechanism, dict(attributes)))
    stamp_generated(attributes, mechanism)
    return await token.objects.add(session, attributes)


async def generate_key_pair(
    session: Session, mechanism: Mechanism, public: Template, private: Template
) -> tuple[int, int]:
    """Generate a key pair (``C_GenerateKeyPair``): both keys, or none."""
    token = session.token
    row = check_mechanism(token, mechanism.type, Function.GENERATE_KEY_PAIR)
    so = token.so_logged_in
    public_half = compose_alike(GENERATE, public, implied(ck.CKO_PUBLIC_KEY, row), so=so)
    private_half = compose_alike(GENERATE, private, implied(ck.CKO_PRIVATE_KEY, row), so=so)
    await check_create(session, public_half)
    await check_create(session, private_half)
    made = await token.signer.generate_key_pair(mechanism, dict(public_half), dict(private_half))
    references = [reference_of(added) for added in made]
    try:
        for half, added in zip((public_half, private_half), made, strict=True):
            await settle(session, half, added)
            stamp_generated(half, mechanism)
    except BaseException:
        await give_back(token, references)
        raise
    return await token.objects.add_pair(session, public_half, private_half)


def implied(object_class: int, row: Row) -> Attributes:
    """Return what a generated key's class and mechanism say without the template."""
    attributes: Attributes = {ck.CKA_CLASS: ulong(object_class)}
    if row.produces is not None:
        attributes[ck.CKA_KEY_TYPE] = ulong(row.produces)
    if row.type == ck.CKM_PBA_SHA1_WITH_SHA1_HMAC:
        attributes[ck.CKA_VALUE_LEN] = ulong(row.max_key)
    return attributes


def stamp_generated(attributes: Attributes, mechanism: Mechanism) -> None:
    """Set what is true of every key that was generated here."""
    attributes[ck.CKA_LOCAL] = TRUE
    if number(attributes[ck.CKA_CLASS]) == ck.CKO_DOMAIN_PARAMETERS:
        return
    attributes[ck.CKA_KEY_GEN_MECHANISM] = ulong(mechanism.type)
    if ck.CKA_SENSITIVE in attributes:
        attributes[ck.CKA_ALWAYS_SENSITIVE] = attributes[ck.CKA_SENSITIVE]
        attributes[ck.CKA_NEVER_EXTRACTABLE] = _boolean(not is_true(attributes[ck.CKA_EXTRACTABLE]))


async def wrap_length(session: Session, mechanism: Mechanism, wrapping_oid: int, oid: int) -> int:
    """Return the length of what `wrap_key` would give, after all its checks."""
    wrapping, target = await hold_for_wrapping(session, mechanism, wrapping_oid, oid)
    try:
        return await _length(session.token.signer.wrap_length(mechanism, wrapping.key, target.key))
    finally:
        wrapping.release()
        target.release()


async def _length(length: int | Awaitable[int]) -> int:
    return length if isinstance(length, int) else await length


async def wrap_key(
    session: Session, mechanism: Mechanism, wrapping_oid: int, oid: int, limit: int | None
) -> bytes:
    """Wrap a key (``C_WrapKey``). Raises `BufferTooSmall` when it would be longer than `limit` bytes."""
    wrapping, target = await hold_for_wrapping(session, mechanism, wrapping_oid, oid)
    signer = session.token.signer
    try:
        if (
            limit is not None
            and await _length(signer.wrap_length(mechanism, wrapping.key, target.key)) > limit
        ):
            raise BufferTooSmall()
        wrapped = await signer.wrap(mechanism, wrapping.key, target.key)
        if limit is not None and len(wrapped) > limit:
            raise BufferTooSmall()  # a device that had said less
        return wrapped
    finally:
        wrapping.release()
        target.release()


async def hold_for_wrapping(
    session: Session, mechanism: Mechanism, wrapping_oid: int, oid: int
) -> tuple[Entry, Entry]:
    """Return the wrapping key and the one to wrap, held and checked."""
    row = check_mechanism(session.token, mechanism.type, Function.WRAP)
    wrapping = await hold_key(session, wrapping_oid, Function.WRAP)
    try:
        check_key(row, Function.WRAP, wrapping)
        target = await session.token.objects.hold(oid, KeyHandleInvalid)
    except BaseException:
        wrapping.release()
        raise
    try:
        check_wrap(wrapping, target)
    except BaseException:
        wrapping.release()
        target.release()
        raise
    return wrapping, target


async def hold_key(session: Session, oid: int, function: int) -> Entry:
    """Return the key for `function`, held; raises what that function says for a dead handle."""
    from ferrohsm.policy import USES

    return await session.token.objects.hold(oid, USES[function].no_key)


async def unwrap_key(
    session: Session, mechanism: Mechanism, unwrapping_oid: int, wrapped: memoryview, template: Template
) -> int:
    """Unwrap a key (``C_UnwrapKey``)."""

    def unwrap(key: Key, attributes: Attributes) -> Awaitable[Attributes]:
        return session.token.signer.unwrap(mechanism, key, wrapped, attributes)

    return await unwrapped_key(session, mechanism, unwrapping_oid, template, unwrap)


async def unwrapped_key(
    session: Session,
    mechanism: Mechanism,
    unwrapping_oid: int,
    template: Template,
    unwrap: Callable[[Key, Attributes], Awaitable[Attributes]],
) -> int:
    """Make the key that `unwrap` finds with the unwrapping key."""
    token = session.token
    row = check_mechanism(token, mechanism.type, Function.UNWRAP)
    unwrapping = await hold_key(session, unwrapping_oid, Function.UNWRAP)
    try:
        check_key(row, Function.UNWRAP, unwrapping)
        check_no_login_needed(unwrapping)
        template = with_template_of(unwrapping, ck.CKA_UNWRAP_TEMPLATE, template)
        attributes = compose_alike(UNWRAP, template, {}, so=token.so_logged_in)
        if number(attributes[ck.CKA_CLASS]) not in (*_SECRET_CLASSES, ck.CKO_PRIVATE_KEY):
            raise TemplateInconsistent("only secret and private keys are unwrapped")
        await check_create(session, attributes)
        made = await unwrap(unwrapping.key, dict(attributes))
    finally:
        unwrapping.release()
    try:
        _check_length(attributes, made)
    except BaseException:
        await give_back(token, [reference_of(made)])
        raise
    await settle_made(session, attributes, made)
    _stamp_brought_in(attributes)
    return await token.objects.add(session, attributes)


def _check_length(attributes: Attributes, made: Attributes) -> None:
    asked, value = attributes.get(ck.CKA_VALUE_LEN), made.get(ck.CKA_VALUE)
    if asked is not None and value is not None and number(asked) != len(value):
        wipe(made)
        raise WrappedKeyLenRange()


def _stamp_brought_in(attributes: Attributes) -> None:
    """Say what is true of every key that was outside: not local, not always protected."""
    attributes[ck.CKA_LOCAL] = FALSE
    attributes[ck.CKA_KEY_GEN_MECHANISM] = ulong(ck.CK_UNAVAILABLE_INFORMATION)
    attributes[ck.CKA_ALWAYS_SENSITIVE] = FALSE
    attributes[ck.CKA_NEVER_EXTRACTABLE] = FALSE


def with_template_of(key: Entry, attribute: int, template: Template) -> Template:
    """Return the template with what a key's own template (``CKA_DERIVE_TEMPLATE`` …) says."""
    own = key.get(attribute)
    return merge(own, template) if isinstance(own, tuple) else template


async def derive_key(session: Session, mechanism: Mechanism, base_oid: int, template: Template) -> int:
    """Derive a key (``C_DeriveKey``); without a class and type in the template it is a generic secret."""
    token = session.token
    row = check_mechanism(token, mechanism.type, Function.DERIVE)
    base = await hold_key(session, base_oid, Function.DERIVE)
    keys = [base]
    try:
        if row.object_class == ck.CKO_PUBLIC_KEY:
            return await _derive_public(session, row, mechanism, base, template)
        check_key(row, Function.DERIVE, base)
        check_no_login_needed(base)
        mechanism, others = await hold_references(session, row, mechanism)
        keys += others
        template = with_template_of(base, ck.CKA_DERIVE_TEMPLATE, template)
        data = derives_data(row, mechanism)
        if data:
            attributes, seen = compose_data(template, token.so_logged_in)
        else:
            seen = attributes = compose_derived(mechanism, template, so=token.so_logged_in)
            stamp_derived(attributes, template, row, mechanism, keys)
        await check_create(session, attributes)
        made = await token.signer.derive(mechanism, base.key, dict(seen))
    finally:
        release(keys)
    if data:
        attributes.update(made)
    await settle_made(session, attributes, made)
    return await token.objects.add(session, attributes)


def compose_derived(mechanism: Mechanism, template: Template, *, so: bool) -> Attributes:
    """Return the attributes of a secret key that is derived."""
    known: Attributes = {ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY)}
    if ck.CKA_KEY_TYPE not in collapse(template):
        known[ck.CKA_KEY_TYPE] = ulong(implied_key_type(mechanism))
    return compose_alike(DERIVE, template, known, so=so)


async def _derive_public(
    session: Session, row: Row, mechanism: Mechanism, private: Entry, template: Template
) -> int:
    """Make the public key of a private key, whatever that key may be used for."""
    check_key(row, Function.DERIVE, private, use=False)
    made = await session.token.signer.derive(mechanism, private.key, {})
    attributes = compose_public(template, made, private, session.token.so_logged_in)
    await check_create(session, attributes)
    await settle(session, attributes, None)
    return await session.token.objects.add(session, attributes)
