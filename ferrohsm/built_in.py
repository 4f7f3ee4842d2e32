"""Objects that a token has of itself: profiles, mechanisms, the clock (PKCS#11 3.2, "Objects")."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function
from ferrohsm.attribute_kinds import ulong
from ferrohsm.entries import ClockEntry, Entry
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrohsm.tokens import Token


def built_in_objects(token: Token) -> list[tuple[type[Entry], Attributes]]:
    """Return what the token shows beside what was put on it, each with the class of its entry."""
    made: list[tuple[type[Entry], Attributes]] = []
    for profile in _profiles(token):
        made.append((Entry, _object(ck.CKO_PROFILE, ck.CKA_PROFILE_ID, profile)))
    for mechanism in token.mechanisms():
        made.append((Entry, _object(ck.CKO_MECHANISM, ck.CKA_MECHANISM_TYPE, mechanism)))
    made.append((ClockEntry, _object(ck.CKO_HW_FEATURE, ck.CKA_HW_FEATURE_TYPE, ck.CKH_CLOCK)))
    return made


def _object(object_class: int, attribute: int, value: int) -> Attributes:
    return {
        ck.CKA_CLASS: ulong(object_class),
        ck.CKA_UNIQUE_ID: f"built-in-{object_class:x}-{value:x}".encode(),
        attribute: ulong(value),
    }


def _profiles(token: Token) -> list[int]:
    """Return the profiles that the token's mechanisms make true.

    Finding, reading and describing are always there (baseline). The extended provider also makes keys
    and signs; the authentication token signs with RSA or on a NIST curve; the HKDF TLS token derives data,
    whatever the information is. That all certificates are public, and named as their keys are, is not the
    token's to promise.
    """
    mechanisms = token.mechanisms()
    every = 0
    for _, _, flags in mechanisms.values():
        every |= flags
    profiles = [ck.CKP_BASELINE_PROVIDER]
    if every & Function.SIGN and every & (Function.GENERATE | Function.GENERATE_KEY_PAIR):
        profiles.append(ck.CKP_EXTENDED_PROVIDER)
    if ck.CKM_RSA_PKCS in mechanisms or ck.CKM_ECDSA in mechanisms:
        profiles.append(ck.CKP_AUTHENTICATION_TOKEN)
    if ck.CKM_HKDF_DATA in mechanisms:
        profiles.append(ck.CKP_HKDF_TLS_TOKEN)
    return profiles
