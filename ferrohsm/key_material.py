"""The keys and initialization vectors of a TLS connection, all made at once.

PKCS#11 3.2, "Key and MAC derivation" of the TLS 1.2 mechanisms: four keys, or none.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Template
from ferrohsm.attribute_kinds import DERIVE, FALSE, TRUE, ulong
from ferrohsm.attributes import collapse, compose
from ferrohsm.entries import Entry, wipe
from ferrohsm.errors import MechanismParamInvalid, TemplateInconsistent
from ferrohsm.keys import hold_key, settle, with_template_of
from ferrohsm.parameters import Mechanism, TlsKeyMaterial
from ferrohsm.policy import check_create, check_key, check_mechanism, check_no_login_needed
from ferrohsm.sessions import Session
from ferrohsm.typed import NamedTuple

# All four keys have these of the base key.
_INHERITED = (ck.CKA_SENSITIVE, ck.CKA_EXTRACTABLE, ck.CKA_ALWAYS_SENSITIVE, ck.CKA_NEVER_EXTRACTABLE)
_LONGEST_KEY, _LONGEST_IV = 64, 16  # bytes

_OF_MAC_KEYS = {ck.CKA_SIGN: TRUE, ck.CKA_VERIFY: TRUE}
_OF_KEYS = {ck.CKA_ENCRYPT: TRUE, ck.CKA_DECRYPT: TRUE, ck.CKA_DERIVE: TRUE}
_USES = (
    *(ck.CKA_SIGN, ck.CKA_VERIFY, ck.CKA_ENCRYPT, ck.CKA_DECRYPT, ck.CKA_DERIVE),
    *(ck.CKA_WRAP, ck.CKA_UNWRAP),
)


class KeyMaterial(NamedTuple):
    """``CK_SSL3_KEY_MAT_OUT``: MAC keys and keys, the client's first (None: none asked for); IVs."""

    keys: tuple[int | None, int | None, int | None, int | None]
    client_iv: bytes
    server_iv: bytes


async def derive_key_material(
    session: Session, mechanism: Mechanism, base_oid: int, template: Template
) -> KeyMaterial:
    """Make the keys of a connection of its master secret (``C_DeriveKey``)."""
    row = check_mechanism(session.token, mechanism.type, Function.DERIVE)
    parameter = mechanism.parameter
    if not isinstance(parameter, TlsKeyMaterial):
        raise MechanismParamInvalid()
    if row.type == ck.CKM_TLS12_KEY_SAFE_DERIVE:
        parameter = parameter._replace(iv_bits=0)
    mac, key, iv = _sizes(parameter)
    base = await hold_key(session, base_oid, Function.DERIVE)
    try:
        check_key(row, Function.DERIVE, base)
        check_no_login_needed(base)
        template = with_template_of(base, ck.CKA_DERIVE_TEMPLATE, template)
        plans = _plans(base, template, mac, key, session.token.so_logged_in)
        for plan in plans:
            if plan is not None:
                await check_create(session, plan)
        made = await session.token.signer.derive(mechanism._replace(parameter=parameter), base.key, {})
    finally:
        base.release()
    block = made[ck.CKA_VALUE]
    assert isinstance(block, bytearray)
    try:
        return await _cut(session, block, plans, (mac, mac, key, key), iv)
    finally:
        wipe(made)


def _sizes(parameter: TlsKeyMaterial) -> tuple[int, int, int]:
    """Return the lengths in bytes of a MAC key, a key and an IV."""
    bits = (parameter.mac_bits, parameter.key_bits, parameter.iv_bits)
    mac, key, iv = (count // 8 for count in bits)
    if any(count % 8 for count in bits) or max(mac, key) > _LONGEST_KEY or iv > _LONGEST_IV or not mac + key:
        raise MechanismParamInvalid("lengths are whole bytes, of keys that there are")
    return mac, key, iv


def _plans(base: Entry, template: Template, mac: int, key: int, so: bool) -> list[Attributes | None]:
    """Return the attributes of the four keys, but for their values."""
    given = collapse(template)
    inherited: Attributes = {attribute: TRUE if base.flag(attribute) else FALSE for attribute in _INHERITED}
    for attribute, value in inherited.items():
        if given.pop(attribute, value) != value:
            raise TemplateInconsistent("the keys are as protected as the master secret")
    common = {attribute: value for attribute, value in given.items() if attribute not in _USES}
    common.pop(ck.CKA_VALUE_LEN, None)
    generic: Attributes = {**common, ck.CKA_KEY_TYPE: ulong(ck.CKK_GENERIC_SECRET), **_OF_MAC_KEYS}
    of_mac = _composed(generic, inherited, so) if mac else None
    typed: Attributes = {ck.CKA_KEY_TYPE: ulong(ck.CKK_GENERIC_SECRET), **_OF_KEYS, **given}
    typed.pop(ck.CKA_VALUE_LEN, None)
    of_key = _composed(typed, inherited, so) if key else None
    return [of_mac, of_mac and dict(of_mac), of_key, of_key and dict(of_key)]


def _composed(given: Attributes, inherited: Attributes, so: bool) -> Attributes:
    attributes = compose(DERIVE, list(given.items()), {ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY)}, so=so)
    attributes.update(inherited)
    attributes[ck.CKA_LOCAL] = FALSE
    attributes[ck.CKA_KEY_GEN_MECHANISM] = ulong(ck.CK_UNAVAILABLE_INFORMATION)
    return attributes


async def _cut(
    session: Session,
    block: bytearray,
    plans: list[Attributes | None],
    lengths: tuple[int, int, int, int],
    iv: int,
) -> KeyMaterial:
    """Make the keys of the block's parts, in their order."""
    objects = session.token.objects
    oids: list[int | None] = []
    start = 0
    try:
        for plan, length in zip(plans, lengths, strict=True):
            if plan is None:
                oids.append(None)
                continue
            plan[ck.CKA_VALUE] = block[start : start + length]
            start += length
            await settle(session, plan, None)
            plan[ck.CKA_VALUE_LEN] = ulong(length)
            oids.append(await objects.add(session, plan))
    except BaseException:
        for oid in oids:
            if oid is not None:
                await objects.take_back(oid)
        raise
    client, server = bytes(block[start : start + iv]), bytes(block[start + iv : start + 2 * iv])
    return KeyMaterial((oids[0], oids[1], oids[2], oids[3]), client, server)
