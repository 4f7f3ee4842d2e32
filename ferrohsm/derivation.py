"""What derived objects have of the keys they are made of (PKCS#11 3.2, ``C_DeriveKey`` and the mechanisms).

The keys that a parameter names beside the base key are held and checked as that is; a public key
is made of a private one by its own rules.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Template
from ferrohsm.attribute_kinds import CREATE, DERIVE, FALSE, FORBIDDEN, TRUE, is_true, number, ulong
from ferrohsm.attributes import collapse, compose, rules_for
from ferrohsm.entries import Entry
from ferrohsm.errors import KeyHandleInvalid, TemplateIncomplete, TemplateInconsistent
from ferrohsm.mechanisms import ROWS, Row
from ferrohsm.parameters import (
    IkeExpansion,
    IkePrf,
    KeyReference,
    Mechanism,
    SshKdf,
    TlsMaster,
    replace_keys,
)
from ferrohsm.policy import check_key, check_no_login_needed
from ferrohsm.sessions import Session
from ferrohsm.typed import Any

# Derivations whose key cannot be less protected than any of the keys it is made of: those that only
# rearrange their bits ("Miscellaneous simple key derivation mechanisms"), and TLS's exporters.
_BOUND = frozenset(
    (
        ck.CKM_TLS_KDF,
        ck.CKM_TLS12_KDF,
        ck.CKM_CONCATENATE_BASE_AND_KEY,
        ck.CKM_CONCATENATE_BASE_AND_DATA,
        ck.CKM_CONCATENATE_DATA_AND_BASE,
        ck.CKM_XOR_BASE_AND_DATA,
        ck.CKM_EXTRACT_KEY_FROM_KEY,
    )
)
# Derivations whose key is as protected as the base key unless the template says otherwise.
_INHERITING = frozenset(
    (
        ck.CKM_SP800_108_COUNTER_KDF,
        ck.CKM_SP800_108_FEEDBACK_KDF,
        ck.CKM_SP800_108_DOUBLE_PIPELINE_KDF,
    )
)

# What a TLS master secret may be used with.
_OF_MASTER = (
    *(ck.CKM_TLS12_KEY_AND_MAC_DERIVE, ck.CKM_TLS12_KEY_SAFE_DERIVE, ck.CKM_TLS_KDF, ck.CKM_TLS_MAC),
    *(ck.CKM_TLS12_KDF, ck.CKM_TLS12_MAC),
)

# What a public key has of its private key ("Public key from private key").
_OF_PRIVATE = {
    ck.CKA_ENCRYPT: ck.CKA_DECRYPT,
    ck.CKA_VERIFY: ck.CKA_SIGN,
    ck.CKA_VERIFY_RECOVER: ck.CKA_SIGN_RECOVER,
    ck.CKA_WRAP: ck.CKA_UNWRAP,
    ck.CKA_ENCAPSULATE: ck.CKA_DECAPSULATE,
    **{
        attribute: attribute
        for attribute in (
            ck.CKA_DERIVE,
            ck.CKA_ID,
            ck.CKA_START_DATE,
            ck.CKA_END_DATE,
            ck.CKA_SUBJECT,
            ck.CKA_ALLOWED_MECHANISMS,
        )
    },
}


def _references(value: Any) -> list[int]:
    if isinstance(value, KeyReference):
        return [value.key]
    return [key for part in value for key in _references(part)] if isinstance(value, tuple) else []


async def hold_references(session: Session, row: Row, mechanism: Mechanism) -> tuple[Mechanism, list[Entry]]:
    """Return the mechanism with the keys its parameter names, and those keys, held.

    Each must be one that could be the base key. Raises what is raised for that one.
    """
    held: dict[int, Entry] = {}
    try:
        for oid in _references(mechanism.parameter):
            if oid not in held:
                held[oid] = await session.token.objects.hold(oid, KeyHandleInvalid)
                check_key(row, Function.DERIVE, held[oid])
                check_no_login_needed(held[oid])
    except BaseException:
        release(held.values())
        raise
    parameter = replace_keys(mechanism.parameter, lambda oid: held[oid].key)
    return mechanism._replace(parameter=parameter), list(held.values())


def derives_data(row: Row, mechanism: Mechanism) -> bool:
    """Say whether a data object is derived: what SSH calls A and B are initialization vectors, no keys."""
    if isinstance(mechanism.parameter, SshKdf):
        return mechanism.parameter.purpose in b"AB"
    return row.object_class == ck.CKO_DATA


def implied_key_type(mechanism: Mechanism) -> int:
    """Return the type of a derived key whose template names none. Raises `TemplateIncomplete`."""
    if mechanism.type == ck.CKM_IKE1_PRF_DERIVE:
        raise TemplateIncomplete("CKA_KEY_TYPE is missing")
    if isinstance(mechanism.parameter, IkePrf):
        prf = ROWS.get(mechanism.parameter.prf)
        if prf is not None and prf.family == "hmac":
            return prf.key_types[-1]
    return ck.CKK_GENERIC_SECRET


def release(entries: Any) -> None:
    """Let go of keys that were held."""
    for entry in entries:
        entry.release()


def stamp_derived(
    attributes: Attributes, template: Template, row: Row, mechanism: Mechanism, keys: list[Entry]
) -> None:
    """Set what the keys (the base key first) decide about the derived one."""
    base, bound = keys[0], _is_bound(row, mechanism)
    if bound:
        if any(key.flag(ck.CKA_SENSITIVE) for key in keys):
            attributes[ck.CKA_SENSITIVE] = TRUE
        if not all(key.flag(ck.CKA_EXTRACTABLE) for key in keys):
            attributes[ck.CKA_EXTRACTABLE] = FALSE
    elif row.type in _INHERITING:
        given = collapse(template)
        for attribute in (ck.CKA_SENSITIVE, ck.CKA_EXTRACTABLE):
            if attribute not in given:
                attributes[attribute] = TRUE if base.flag(attribute) else FALSE
    if isinstance(mechanism.parameter, TlsMaster):
        _stamp_master(attributes)
    attributes[ck.CKA_LOCAL] = FALSE
    attributes[ck.CKA_KEY_GEN_MECHANISM] = ulong(ck.CK_UNAVAILABLE_INFORMATION)
    sensitive, extractable = is_true(attributes[ck.CKA_SENSITIVE]), is_true(attributes[ck.CKA_EXTRACTABLE])
    counted = keys if bound else keys[:1]
    attributes[ck.CKA_ALWAYS_SENSITIVE] = _always(ck.CKA_ALWAYS_SENSITIVE, counted, sensitive)
    attributes[ck.CKA_NEVER_EXTRACTABLE] = _always(ck.CKA_NEVER_EXTRACTABLE, counted, not extractable)


def _is_bound(row: Row, mechanism: Mechanism) -> bool:
    """Say whether the derived key may be no less protected than the keys it is made of."""
    if row.type == ck.CKM_IKE1_EXTENDED_DERIVE and isinstance(mechanism.parameter, IkeExpansion):
        # "If … bHasKeygxy is CK_FALSE, then the new key is simply the base key truncated."
        return mechanism.parameter.key is None
    return row.type in _BOUND


def _stamp_master(attributes: Attributes) -> None:
    """Allow a TLS master secret what it is for, and nothing else."""
    allowed = b"".join(ulong(mechanism) for mechanism in _OF_MASTER)
    if attributes.get(ck.CKA_ALLOWED_MECHANISMS) not in (None, b"", allowed):
        raise TemplateInconsistent("CKA_ALLOWED_MECHANISMS is the mechanism's to say")
    attributes[ck.CKA_ALLOWED_MECHANISMS] = allowed


def _always(attribute: int, keys: list[Entry], protected: bool) -> bytes:
    """Return whether key material was protected from its beginning, that of `keys` too."""
    return TRUE if protected and all(key.flag(attribute) for key in keys) else FALSE


def compose_data(template: Template, so: bool) -> tuple[Attributes, Attributes]:
    """Return the attributes of a derived data object, and those that the engine is to see.

    The length stands in the template as it does for a key, though a data object does not have it.
    """
    given = collapse(template)
    length = given.pop(ck.CKA_VALUE_LEN, None)
    if ck.CKA_VALUE in given:
        raise TemplateInconsistent("CKA_VALUE is what is derived")
    attributes = compose(DERIVE, list(given.items()), {ck.CKA_CLASS: ulong(ck.CKO_DATA)}, so=so)
    return attributes, attributes if length is None else {**attributes, ck.CKA_VALUE_LEN: length}


def compose_public(template: Template, made: Attributes, private: Entry, so: bool) -> Attributes:
    """Return the attributes of the public key of `private`, whose material is `made`."""
    own = {public: private.get(attribute) for public, attribute in _OF_PRIVATE.items()}
    # What the template says overrides; false is what an attribute is that is not there.
    implied = [(public, value) for public, value in own.items() if value is not None]
    given = collapse(template)
    for attribute in (ck.CKA_CLASS, ck.CKA_KEY_TYPE):
        expected = ulong(ck.CKO_PUBLIC_KEY) if attribute == ck.CKA_CLASS else private.get(attribute)
        if given.pop(attribute, expected) != expected:
            raise TemplateInconsistent("a public key of the private key's type is made")
    if any(given.get(attribute, value) != value for attribute, value in made.items()):
        raise TemplateInconsistent("the template has other key material")
    merged = {
        ck.CKA_PRIVATE: FALSE,
        **{attribute: value for attribute, value in implied if attribute not in made},
        **given,
        ck.CKA_CLASS: ulong(ck.CKO_PUBLIC_KEY),
        ck.CKA_KEY_TYPE: private.attributes[ck.CKA_KEY_TYPE],
    }
    return _created(merged, made, private, so)


def _created(merged: Attributes, made: Attributes, private: Entry, so: bool) -> Attributes:
    """Compose as for ``C_CreateObject``, whose checks and restrictions apply, and stamp the origin."""
    rules = rules_for(ck.CKO_PUBLIC_KEY, number(merged[ck.CKA_KEY_TYPE])) or {}
    allowed = {
        attribute: value
        for attribute, value in {**merged, **made}.items()
        if attribute not in rules or not rules[attribute].flags & (FORBIDDEN << CREATE)
    }
    attributes = compose(CREATE, list(allowed.items()), {}, so=so)
    attributes.update({attribute: value for attribute, value in made.items() if attribute not in attributes})
    attributes[ck.CKA_LOCAL] = FALSE
    attributes[ck.CKA_KEY_GEN_MECHANISM] = private.attributes[ck.CKA_KEY_GEN_MECHANISM]
    return attributes
