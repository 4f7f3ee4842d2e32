"""Several keys derived by one call: all of them, or none.

PKCS#11 3.2, "SP800-108 Key Derivation", "Deriving Additional Keys".
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, SeveralKeysSigner, Template
from ferrohsm.derivation import hold_references, release, stamp_derived
from ferrohsm.entries import Entry, wipe
from ferrohsm.errors import HsmError, MechanismParamInvalid
from ferrohsm.keys import compose_derived, hold_key, settle_made, with_template_of
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm.policy import check_create, check_key, check_mechanism, check_no_login_needed
from ferrohsm.references import give_back, reference_of
from ferrohsm.sessions import Session
from ferrohsm.typed import cast


class FurtherKeys:
    """The templates of the keys beside the first one.

    `wrong` is the place among them of the template that kept all keys from being made, None when no
    single one did.
    """

    __slots__ = ("templates", "wrong")

    def __init__(self, templates: list[Template]) -> None:
        self.templates = templates
        self.wrong: int | None = None


async def derive_several(
    session: Session, mechanism: Mechanism, base_oid: int, template: Template, further: FurtherKeys
) -> tuple[int, ...]:
    """Derive the key of `template` and the further ones, in this order (``C_DeriveKey``).

    Raises what the derivation of a single key does, and `MechanismParamInvalid` where the slot makes no
    more than one at a time.
    """
    row = check_mechanism(session.token, mechanism.type, Function.DERIVE)
    if not hasattr(session.token.signer, "derive_several"):
        raise MechanismParamInvalid("the slot derives one key at a time")
    signer = cast("SeveralKeysSigner", session.token.signer)
    base = await hold_key(session, base_oid, Function.DERIVE)
    keys = [base]
    try:
        check_key(row, Function.DERIVE, base)
        check_no_login_needed(base)
        mechanism, others = await hold_references(session, row, mechanism)
        keys += others
        plans = [await _planned(session, row, mechanism, keys, template)]
        for place, one in enumerate(further.templates):
            further.wrong = place
            plans.append(await _planned(session, row, mechanism, keys, one))
        further.wrong = None
        try:
            made = await signer.derive_several(mechanism, base.key, tuple(map(_seen, plans)))
        except HsmError as error:
            further.wrong = _named(error, len(further.templates))
            raise
    finally:
        release(keys)
    return await _added(session, plans, made, further)


async def _planned(
    session: Session, row: Row, mechanism: Mechanism, keys: list[Entry], template: Template
) -> Attributes:
    """Return the attributes of one of the keys, but for its value."""
    template = with_template_of(keys[0], ck.CKA_DERIVE_TEMPLATE, template)
    attributes = compose_derived(mechanism, template, so=session.token.so_logged_in)
    stamp_derived(attributes, template, row, mechanism, keys)
    await check_create(session, attributes)
    await cast("SeveralKeysSigner", session.token.signer).check_derived(mechanism, dict(attributes))
    return attributes


def _named(error: HsmError, count: int) -> int | None:
    """Return which of the further keys a device says has the wrong template, None when it does not say."""
    place = getattr(error, "wrong_template", None)
    return place if isinstance(place, int) and 0 <= place < count else None


def _seen(plan: Attributes) -> Attributes:
    """Return what the engine is to see: a check value is compared by the core, which knows whose it is."""
    return {attribute: value for attribute, value in plan.items() if attribute != ck.CKA_CHECK_VALUE}


async def _added(
    session: Session, plans: list[Attributes], made: tuple[Attributes, ...], further: FurtherKeys
) -> tuple[int, ...]:
    """Make the objects. When one cannot be made, none of the others is."""
    settled = 0
    try:
        for place, (plan, one) in enumerate(zip(plans, made, strict=True)):
            further.wrong = place - 1 if place else None
            settled = place + 1  # what does not fit gives its own key back
            await settle_made(session, plan, one)
        further.wrong = None
    except BaseException:
        for plan, one in zip(plans, made, strict=True):
            wipe(plan)
            wipe(one)
        given_back = [one for place, one in enumerate(made) if place != settled - 1]
        await give_back(session.token, map(reference_of, given_back))
        raise
    return await session.token.objects.add_all(session, plans)
