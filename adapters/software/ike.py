"""The keys of IPsec's key exchange (PKCS#11 3.2, "IKE Mechanisms"; RFC 2409, RFC 7296).

The pseudorandom function is an HMAC.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import KeySizeRange, KeyTypeInconsistent, MechanismParamInvalid, TemplateIncomplete
from ferrohsm.mechanisms import HMAC_KEY_TYPES, ROWS
from ferrohsm.parameters import Ike1Prf, IkeExpansion, IkePrf, KeyReference, Mechanism
from ferrohsm_adapters.software import hash_functions
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.material import Bytes, number, secret_value
from ferrohsm_adapters.software.rearrange import check_piece

_MOST_STEPS = 255


class _Prf:
    """The function that a parameter names, with a key."""

    def __init__(self, type: int, key: Bytes) -> None:
        row = ROWS.get(type)
        if row is None or row.family != "hmac" or row.parameter != "none" or row.weak or row.hash is None:
            raise MechanismParamInvalid("the pseudorandom function is an HMAC")
        self._name: str = row.hash
        self._key = key
        self.size = hash_functions.length(row.hash)

    def __call__(self, *parts: Bytes) -> bytes:
        context = hash_functions.authenticating(self._name, self._key)
        for part in parts:
            context.update(part)
        made: bytes = context.finalize()
        return made


def derive(mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of the derived key."""
    parameter, length = mechanism.parameter, wanted_length(attributes)
    if isinstance(parameter, IkePrf):
        made = _initial(parameter, base, length)
    elif isinstance(parameter, Ike1Prf):
        made = _further(parameter, base, length)
    else:
        assert isinstance(parameter, IkeExpansion)
        if length is None:
            raise TemplateIncomplete("CKA_VALUE_LEN is missing")
        _check_base(base)
        function = _Prf(parameter.prf, secret_value(base))
        if length > _MOST_STEPS * function.size:
            raise KeySizeRange("at most 255 times the pseudorandom function's output")
        if mechanism.type == ck.CKM_IKE2_PRF_PLUS_DERIVE:
            made = _prf_plus(function, parameter, length)
        else:
            made = _extended(function, parameter, base, length)
    return derived_key(made, attributes, leading=True)


def _initial(parameter: IkePrf, base: Key, length: int | None) -> bytearray:
    """Return SKEYID or SKEYSEED."""
    if parameter.data_as_key:
        function, data = _Prf(parameter.prf, parameter.nonces), [secret_value(base)]
    else:
        _check_base(base)
        function, data = _Prf(parameter.prf, secret_value(base)), [parameter.nonces]
        if parameter.new_key is not None:
            data.insert(0, _value(parameter.new_key))
    if length not in (None, function.size):
        raise KeySizeRange("as long as the pseudorandom function's output")
    return bytearray(function(*data))


def _further(parameter: Ike1Prf, base: Key, length: int | None) -> bytearray:
    """Return SKEYID_d, SKEYID_a or SKEYID_e."""
    _check_base(base)
    function = _Prf(parameter.prf, secret_value(base))
    previous = b"" if parameter.previous is None else _value(parameter.previous)
    if length is not None and length > function.size:
        raise KeySizeRange("at most as long as the pseudorandom function's output")
    return bytearray(function(previous, _value(parameter.shared), parameter.data))


def _prf_plus(function: _Prf, parameter: IkeExpansion, length: int) -> bytearray:
    """Return ``prf+`` of RFC 7296, section 2.13."""
    seed = b"" if parameter.key is None else _value(parameter.key)
    out, block, step = bytearray(), b"", 0
    while len(out) < length:
        step += 1
        block = function(block, seed, parameter.data, bytes((step,)))
        out += block
    del out[length:]
    return out


def _extended(function: _Prf, parameter: IkeExpansion, base: Key, length: int) -> bytearray:
    """Return the longer keys of RFC 2409, appendix B, and those of its section 5.5."""
    value = secret_value(base)
    if parameter.key is None and length <= function.size and length <= len(value):
        check_piece(base, length)
        return bytearray(value[:length])
    shared = b"" if parameter.key is None else _value(parameter.key)
    first: tuple[Bytes, ...] = (shared, parameter.data)
    block = function(*first) if shared or parameter.data else function(b"\0")
    out = bytearray(block)
    while len(out) < length:
        block = function(block, *first)
        out += block
    del out[length:]
    return out


def _value(reference: KeyReference) -> Bytes:
    value: Bytes = secret_value(reference.key)
    return value


def _check_base(base: Key) -> None:
    """Raise unless the base key may be that of an HMAC."""
    key_type = number(base.attributes, ck.CKA_KEY_TYPE)
    if key_type not in (ck.CKK_GENERIC_SECRET, ck.CKK_HKDF, *HMAC_KEY_TYPES):
        raise KeyTypeInconsistent("the key of a pseudorandom function")
