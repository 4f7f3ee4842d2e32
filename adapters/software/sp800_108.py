"""Key derivation by a pseudorandom function (PKCS#11 3.2, "SP800-108 Key Derivation"; NIST SP 800-108).

The function is HMAC or CMAC of the engine; what is fed to it is made up of the pieces that the
parameter lists.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key
from ferrohsm.errors import KeySizeRange, KeyTypeInconsistent, MechanismParamInvalid, TemplateIncomplete
from ferrohsm.mechanisms import ROWS, Row
from ferrohsm.parameters import DkmLength, IntegerFormat, KeyReference, Mechanism, PrfData, Sp800108
from ferrohsm.typed import Any, Callable, cast
from ferrohsm_adapters.software import mac
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.material import number, secret_value
from ferrohsm_adapters.software.operation import wipe

_COUNTER = ck.CKM_SP800_108_COUNTER_KDF
_PIPELINE = ck.CKM_SP800_108_DOUBLE_PIPELINE_KDF
_WIDTHS = (8, 16, 24, 32)  # of a counter, in bits (SP 800-108, section 4)
_LENGTH_WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)

Prf = Callable[[bytes | bytearray], bytes]


def derive(mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    """Return the attributes of a key derived in counter, feedback or double pipeline mode."""
    return derive_several(mechanism, base, (attributes,))[0]


def derive_several(mechanism: Mechanism, base: Key, wanted: tuple[Attributes, ...]) -> tuple[Attributes, ...]:
    """Return the attributes of keys derived one after the other, each of segments of its own."""
    parameter: Sp800108 = mechanism.parameter
    lengths = [length_of(attributes) for attributes in wanted]
    _check(mechanism.type, parameter.data)
    prf, size = _function(parameter.prf, base)
    counts = [-(-length // size) for length in lengths]
    _check_counter(parameter.data, sum(counts))
    pieces = _Pieces(parameter.data, sum(lengths), sum(counts) * size)
    stream = _segments(mechanism.type, parameter, prf, pieces, sum(counts), size)
    made: list[Attributes] = []
    start = 0
    try:
        for attributes, length, count in zip(wanted, lengths, counts, strict=True):
            made.append(derived_key(stream[start : start + length], attributes, leading=True))
            start += count * size
    except BaseException:
        for key in made:
            wipe(cast("bytearray", key[ck.CKA_VALUE]))
        raise
    finally:
        wipe(stream)
    return tuple(made)


def length_of(attributes: Attributes) -> int:
    """Return the length in bytes of a key's value.

    Raises `TemplateIncomplete` when nothing says it, `AttributeValueInvalid` when the type has none such.
    """
    length = wanted_length(attributes)
    if length is None:
        raise TemplateIncomplete("CKA_VALUE_LEN is missing")
    return length


def _segments(type: int, parameter: Sp800108, prf: Prf, pieces: _Pieces, count: int, size: int) -> bytearray:
    """Return `count` outputs of the function, of `size` bytes each."""
    made = bytearray(count * size)
    chained, previous = pieces.joined(b"", None), parameter.iv
    for counter in range(1, count + 1):
        if type == _COUNTER:
            iteration = b""
        elif type == _PIPELINE:
            iteration = chained = prf(chained)
        else:
            iteration = previous
        data = pieces.joined(iteration, counter)
        previous = prf(data)
        wipe(data)
        made[(counter - 1) * size : counter * size] = previous
    return made


class _Pieces:
    """What is fed to the function: the pieces in their order, the moving ones filled in each time."""

    def __init__(self, data: tuple[PrfData, ...], keys: int, segments: int) -> None:
        self.data = data
        self.lengths = {
            ck.CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS: keys * 8,
            ck.CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS: segments * 8,
        }

    def joined(self, iteration: bytes, counter: int | None) -> bytearray:
        """Return the data of one iteration; without a counter, what the double pipeline starts with."""
        out = bytearray()
        for piece in self.data:
            value = piece.value
            if isinstance(value, KeyReference):
                out += secret_value(value.key)
            elif isinstance(value, IntegerFormat):
                out += b"" if counter is None else _written(counter, value.little_endian, value.bits)
            elif isinstance(value, DkmLength):
                out += _written(self.lengths[value.method], value.little_endian, value.bits)
            elif value is None:
                out += iteration
            else:
                out += value
        return out


def _written(value: int, little_endian: bool, bits: int) -> bytes:
    if value >> bits:
        raise MechanismParamInvalid("a length does not fit the width it is written in")
    return value.to_bytes(bits // 8, "little" if little_endian else "big")


def _check(type: int, data: tuple[PrfData, ...]) -> None:
    """Check that the pieces are those of the mode, each as often as it may be, and well formed."""
    kinds = [piece.type for piece in data]
    once = (ck.CK_SP800_108_ITERATION_VARIABLE, ck.CK_SP800_108_COUNTER, ck.CK_SP800_108_DKM_LENGTH)
    if any(kinds.count(kind) > 1 for kind in once) or ck.CK_SP800_108_ITERATION_VARIABLE not in kinds:
        raise MechanismParamInvalid("one iteration variable, at most one counter and one length")
    if type == _COUNTER and ck.CK_SP800_108_COUNTER in kinds:
        raise MechanismParamInvalid("in counter mode the iteration variable is the counter")
    for piece in data:
        value = piece.value
        if piece.type == ck.CK_SP800_108_ITERATION_VARIABLE and (type == _COUNTER) != (value is not None):
            raise MechanismParamInvalid("only in counter mode has the iteration variable a format")
        if isinstance(value, IntegerFormat) and value.bits not in _WIDTHS:
            raise MechanismParamInvalid("a counter has 8, 16, 24 or 32 bits")
        if isinstance(value, DkmLength) and (
            value.bits not in _LENGTH_WIDTHS
            or value.method
            not in (ck.CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS, ck.CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS)
        ):
            raise MechanismParamInvalid("a length is written in 8 to 64 bits")


def _check_counter(data: tuple[PrfData, ...], segments: int) -> None:
    if any(isinstance(piece.value, IntegerFormat) and segments >> piece.value.bits for piece in data):
        raise KeySizeRange("more bytes asked for than the counter can count")


def _function(type: int, base: Key) -> tuple[Prf, int]:
    """Return the pseudorandom function with the base key, and the length of its output in bytes."""
    row = ROWS.get(type)
    mechanism = Mechanism(type)
    if row is None or type == ck.CKM_MD5_HMAC or row.parameter != "none":
        raise MechanismParamInvalid("no pseudorandom function")
    begin: Callable[[int, Row, Mechanism, Key], Any]
    if row.family == "hmac":
        if number(base.attributes, ck.CKA_KEY_TYPE) in (ck.CKK_AES, ck.CKK_DES3):
            raise KeyTypeInconsistent("HMAC with the key of a cipher")
        begin = mac.begin_hmac
    elif row.family == "cmac":
        if number(base.attributes, ck.CKA_KEY_TYPE) not in row.key_types:
            raise KeyTypeInconsistent("CMAC needs a key of its cipher")
        begin = mac.begin_cmac
    else:
        raise MechanismParamInvalid("no pseudorandom function")

    def prf(data: bytes | bytearray) -> bytes:
        operation = begin(Function.SIGN, row, mechanism, base)
        operation.context.update(data)
        out: bytes = operation.context.finalize()
        return out

    return prf, int(begin(Function.SIGN, row, mechanism, base).length)
