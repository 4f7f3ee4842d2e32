"""The keys of SSH (RFC 4253, section 7.2), in the form in which Kryoptic offers them."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import AttributeValueInvalid, MechanismParamInvalid, TemplateIncomplete
from ferrohsm.mechanisms import SECRET_MAX_BYTES, hash_of_digest
from ferrohsm.parameters import Mechanism, SshKdf
from ferrohsm_adapters.software import hash_functions
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.material import number, secret_value


def derive(mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of a key, or of a data object; the base key's value is K as SSH encodes it."""
    parameter: SshKdf = mechanism.parameter
    name = hash_of_digest(parameter.hash)
    if name is None or name == "md5" or parameter.purpose not in b"ABCDEF":
        raise MechanismParamInvalid("SSH needs a hash, and derives what it calls A to F")
    # H is a hash of the same function. With another length the letter could stand elsewhere in what is
    # hashed, and a vector, which anybody reads, be made to be the value of a key.
    if len(parameter.exchange_hash) != hash_functions.length(name) or not parameter.session_id:
        raise MechanismParamInvalid("an exchange hash as long as the hash, and a session identifier")
    length = wanted_length(attributes)
    if length is None:
        raise TemplateIncomplete("CKA_VALUE_LEN is missing")
    if not 1 <= length <= SECRET_MAX_BYTES:
        raise AttributeValueInvalid("CKA_VALUE_LEN is of no secret")
    made = _hashed(name, parameter, base, length)
    if number(attributes, ck.CKA_CLASS) == ck.CKO_DATA:
        return {ck.CKA_VALUE: bytes(made)}
    return derived_key(made, attributes, leading=True)


def _hashed(name: str, parameter: SshKdf, base: Key, length: int) -> bytearray:
    """Return ``K1 || K2 || …``, cut off at `length` bytes."""
    common = hash_functions.hashing(name)
    common.update(secret_value(base))
    common.update(parameter.exchange_hash)
    first = common.copy()
    first.update(bytes((parameter.purpose,)) + parameter.session_id)
    out = bytearray(first.finalize())
    # Every block hashes all before it: `common` has them already.
    common.update(out)
    while len(out) < length:
        block = common.copy().finalize()
        common.update(block)
        out += block
    del out[length:]
    return out
