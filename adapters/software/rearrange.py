"""Keys made of the bits of other keys, or of their digest.

PKCS#11 3.2, "Miscellaneous simple key derivation mechanisms" and "Hash-based Key Derivation". That the
derived key is as well protected as those it is made of is the core's to see to.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.attribute_kinds import FALSE, TRUE
from ferrohsm.errors import KeySizeRange, MechanismParamInvalid, TemplateIncomplete
from ferrohsm.mechanisms import Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.material import secret_value
from ferrohsm_adapters.software.operation import wipe

# The fewest bytes that a derived key has of a key which may not leave: each shorter piece could be found by
# trying, and one piece after the other gives the whole.
FEWEST_BYTES = 14

_XOFS = {"shake128": 32, "shake256": 64}  # bytes, where the template does not say


def rearranged(mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of a key made of the base key's bits and what the parameter brings."""
    value, parameter = secret_value(base), mechanism.parameter
    _check_pieces(mechanism, base, attributes)
    if mechanism.type == ck.CKM_EXTRACT_KEY_FROM_KEY:
        return derived_key(_extracted(value, parameter, attributes), attributes, leading=True)
    if mechanism.type == ck.CKM_CONCATENATE_BASE_AND_KEY:
        made = bytearray(value) + secret_value(parameter.key)
    elif mechanism.type == ck.CKM_CONCATENATE_BASE_AND_DATA:
        made = bytearray(value) + parameter
    elif mechanism.type == ck.CKM_CONCATENATE_DATA_AND_BASE:
        made = bytearray(parameter) + value
    else:
        # "Its length will be equal to the minimum of the lengths of the data and the … original key."
        made = bytearray(a ^ b for a, b in zip(value, parameter, strict=False))
        if not made:
            raise MechanismParamInvalid("no data")
    return derived_key(made, attributes, leading=True)


def _check_pieces(mechanism: Mechanism, base: Key, attributes: Attributes) -> None:
    """Raise `KeySizeRange` when the new key would have a piece of a protected key that is too small a secret.

    A key that is no longer than that is used whole, or not at all.
    """
    whole, parameter = len(secret_value(base)), mechanism.parameter
    wanted = wanted_length(attributes)
    pieces: list[tuple[Key, int]]
    if mechanism.type == ck.CKM_EXTRACT_KEY_FROM_KEY:
        pieces = [(base, whole if wanted is None else wanted)]
    elif mechanism.type == ck.CKM_CONCATENATE_BASE_AND_KEY:
        rest = len(secret_value(parameter.key)) if wanted is None else max(0, wanted - whole)
        pieces = [(base, whole if wanted is None else wanted), (parameter.key, rest)]
    elif mechanism.type == ck.CKM_CONCATENATE_BASE_AND_DATA:
        pieces = [(base, whole if wanted is None else wanted)]
    elif mechanism.type == ck.CKM_CONCATENATE_DATA_AND_BASE:
        pieces = [(base, whole if wanted is None else max(0, wanted - len(parameter)))]
    else:
        pieces = [(base, min(len(parameter), whole if wanted is None else wanted))]
    for key, length in pieces:
        check_piece(key, length)


def check_piece(key: Key, length: int) -> None:
    """Raise `KeySizeRange` when `length` bytes are too few to be taken of a key that may not leave."""
    if 0 < length < min(FEWEST_BYTES, len(secret_value(key))) and _is_protected(key):
        raise KeySizeRange("so few bytes of a key that may not leave would give it away")


def _is_protected(key: Key) -> bool:
    return key.attributes.get(ck.CKA_SENSITIVE) == TRUE or key.attributes.get(ck.CKA_EXTRACTABLE) == FALSE


def _extracted(value: bytes | bytearray, first: int, attributes: Attributes) -> bytearray:
    """Return the bits from number `first` on, the most significant of the first byte being number 0.

    "If the end of the original key is reached before the required number of bits, it wraps to the start."
    """
    length, bits = wanted_length(attributes), 8 * len(value)
    if length is None:
        raise TemplateIncomplete("CKA_VALUE_LEN is missing")
    if length > len(value):
        raise KeySizeRange("more bytes asked for than the base key has")
    if first >= bits:
        raise MechanismParamInvalid("the base key has not so many bits")
    whole, odd = divmod(first, 8)
    turned = bytearray(value[whole:]) + value[:whole]
    if odd:
        following = turned[1:] + turned[:1]
        for place, byte in enumerate(turned):
            turned[place] = (byte << odd | following[place] >> (8 - odd)) & 0xFF
        wipe(following)
    return turned


def digested(row: Row, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of a key that is the digest of the base key's value."""
    from cryptography.hazmat.primitives import hashes

    from ferrohsm_adapters.software import hash_functions

    name = hash_functions.truncated(mechanism.parameter) if row.hash is None else row.hash
    if name in _XOFS:
        length = wanted_length(attributes) or _XOFS[name]
        function = hashes.SHAKE128(length) if name == "shake128" else hashes.SHAKE256(length)
        context = hashes.Hash(function)
    else:
        context = hash_functions.hashing(name)
    context.update(secret_value(base))
    return derived_key(bytearray(context.finalize()), attributes, leading=True)
