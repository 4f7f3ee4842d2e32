"""How to make the next session object in the same way without asking the core again.

A recipe is what the core decided about a template: allowed, and with these attributes. While the login
lasts, whoever has it may let the engine's kernel make the next one and keep it, known by its handle only;
`bring_in` makes an object of the core's of it when it is looked at. PKCS#11 3.2, "Key management functions".
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Template
from ferrohsm.attribute_kinds import CREATE, FALSE, GENERATE, TRUE, is_true, ulong
from ferrohsm.attributes import collapse, compose
from ferrohsm.audit.tokens import unique_id
from ferrohsm.derivation import stamp_derived
from ferrohsm.entries import copied, wipe
from ferrohsm.parameters import Mechanism
from ferrohsm.policy import check_create, check_key, check_mechanism, check_no_login_needed
from ferrohsm.typed import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ferrohsm.adapters import KernelMaker
    from ferrohsm.entries import Entry
    from ferrohsm.sessions import Session

CREATING = 0  # the way of ``C_CreateObject``, beside the flags of `Function`

# What may be another value at each ``C_CreateObject``, of the same length.
_OPEN = (ck.CKA_LABEL, ck.CKA_ID, ck.CKA_VALUE)
_SHARING = (Function.ENCAPSULATE, Function.DECAPSULATE)


class Recipe:
    """One way to make session objects.

    `request` is what the kernel's ``generate`` is asked for; `private` says of each half whether it is
    private; `key` is the kernel's form of the base key of a derivation.
    """

    __slots__ = (
        "base_id",
        "base_private",
        "function",
        "halves",
        "key",
        "mechanism",
        "on_token",
        "private",
        "request",
    )

    def __init__(self, function: int, mechanism: Mechanism | None, halves: tuple[Attributes, ...]) -> None:
        self.function = function
        self.mechanism = mechanism
        self.halves = halves
        self.private = tuple(is_true(half.get(ck.CKA_PRIVATE)) for half in halves)
        self.request: Attributes = {}
        self.key: object | None = None
        self.base_id = b""
        self.base_private = False
        self.on_token = False


def _is_plain(attributes: Attributes) -> bool:
    """Say whether it is a session object that may be destroyed, without templates inside."""
    return (
        attributes.get(ck.CKA_TOKEN) == FALSE
        and attributes.get(ck.CKA_DESTROYABLE, TRUE) == TRUE
        and not any(isinstance(value, tuple) for value in attributes.values())
    )


def _maker(session: Session) -> KernelMaker | None:
    signer = session.token.signer
    return cast("KernelMaker", signer) if hasattr(signer, "kernel_request") else None


async def recipe(
    session: Session, function: int, mechanism: Mechanism | None, oid: int | None, templates: list[Template]
) -> Recipe | None:
    """Return the recipe for what was just made of these templates, None where each has to be asked for."""
    maker = _maker(session)
    if maker is None:
        return None
    if function == CREATING:
        return await _for_creation(session, templates[0])
    assert mechanism is not None
    if function == Function.DERIVE:
        assert oid is not None
        return await _for_derivation(session, maker, mechanism, oid, templates[0])
    if function in _SHARING:
        assert oid is not None
        return await _for_encapsulation(session, maker, function, mechanism, oid, templates[0])
    from ferrohsm.keys import implied

    row = check_mechanism(session.token, mechanism.type, function)
    classes = [ck.CKO_SECRET_KEY] if len(templates) == 1 else [ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY]
    halves = tuple(
        compose(GENERATE, template, implied(object_class, row), so=session.token.so_logged_in)
        for template, object_class in zip(templates, classes, strict=True)
    )
    for half in halves:
        if not _is_plain(half):
            return None
        await check_create(session, half)
    request = maker.kernel_request(function, mechanism, halves[0])
    if request is None:
        return None
    made = Recipe(function, mechanism, halves)
    made.request = request
    return made


async def _for_creation(session: Session, template: Template) -> Recipe | None:
    given = collapse(template)
    attributes = compose(CREATE, template, {}, so=session.token.so_logged_in)
    try:
        await check_create(session, attributes)
        plain = _is_plain(attributes)
    finally:
        wipe(attributes)
    if len(given) != len(template) or not plain or given.get(ck.CKA_CLASS) != ulong(ck.CKO_SECRET_KEY):
        return None
    if ck.CKA_VALUE not in given:
        return None
    fixed = {type: value for type, value in given.items() if type not in _OPEN}
    fixed[ck.CKA_PRIVATE] = attributes[ck.CKA_PRIVATE]  # the default
    return Recipe(CREATING, None, (fixed,))


async def _for_derivation(
    session: Session, maker: KernelMaker, mechanism: Mechanism, oid: int, template: Template
) -> Recipe | None:
    from ferrohsm.keys import compose_derived, hold_key, with_template_of

    token = session.token
    row = check_mechanism(token, mechanism.type, Function.DERIVE)
    base = await hold_key(session, oid, Function.DERIVE)
    try:
        if row.object_class is not None:
            return None
        check_key(row, Function.DERIVE, base)
        check_no_login_needed(base)
        template = with_template_of(base, ck.CKA_DERIVE_TEMPLATE, template)
        attributes = compose_derived(mechanism, template, so=token.so_logged_in)
        stamp_derived(attributes, template, row, mechanism, [base])
        await check_create(session, attributes)
        return _from_base(maker, Function.DERIVE, mechanism, base, attributes)
    finally:
        base.release()


async def _for_encapsulation(
    session: Session,
    maker: KernelMaker,
    function: int,
    mechanism: Mechanism,
    oid: int,
    template: Template,
) -> Recipe | None:
    from ferrohsm import encapsulation

    base = await encapsulation.hold(session, mechanism, oid, function)
    try:
        attributes = await encapsulation.composed(session, base, function, template)
        return _from_base(maker, function, mechanism, base, attributes)
    finally:
        base.release()


def _from_base(
    maker: KernelMaker, function: int, mechanism: Mechanism, base: Entry, attributes: Attributes
) -> Recipe | None:
    """Return the recipe for a key of these attributes that is made with the key `base`."""
    key = maker.kernel_base_key(base.key)
    if maker.kernel_request(function, mechanism, attributes) is None or key is None:
        return None
    if not _is_plain(attributes):
        return None
    made = Recipe(function, mechanism, (attributes,))
    made.base_id = unique_id(base.attributes)
    made.key, made.base_private, made.on_token = key, base.private, base.oid > 0
    return made


async def bring_in(
    session: Session, known: Recipe, half: int, oid: int, public: Attributes, secret: Attributes
) -> None:
    """Make the object `oid` of what the kernel has made by a recipe; twice is as good as once.

    `public` and `secret` are the kernel's attributes; the caller wipes what it gave.
    """
    objects = session.token.objects
    if objects.is_here(oid):
        return
    if known.function == CREATING:
        attributes = await _created(session, known, secret)
    else:
        attributes = await _made(session, known, half, public, secret)
    await objects.adopt(session, oid, attributes)


async def _created(session: Session, known: Recipe, secret: Attributes) -> Attributes:
    from ferrohsm.keys import settle

    template = list({**known.halves[0], **secret}.items())
    attributes = compose(CREATE, template, {}, so=session.token.so_logged_in)
    await settle(session, attributes, None)
    return attributes


async def _made(
    session: Session, known: Recipe, half: int, public: Attributes, secret: Attributes
) -> Attributes:
    from ferrohsm.keys import settle, stamp_generated

    assert known.mechanism is not None
    maker = _maker(session)
    assert maker is not None
    halves = tuple(copied(attributes) for attributes in known.halves)
    added = maker.from_kernel(known.function, known.mechanism, halves, public, copied(secret))
    for number, others in enumerate(added):
        if number != half:
            wipe(others)
    attributes = halves[half]
    await settle(session, attributes, added[half])
    if known.function in (Function.GENERATE, Function.GENERATE_KEY_PAIR):
        stamp_generated(attributes, known.mechanism)
    return attributes
