"""ML-DSA, ML-KEM and SLH-DSA keys in DER: SubjectPublicKeyInfo and PrivateKeyInfo (RFC 9881, 9935, 9909).

A private key of ML-DSA or ML-KEM is written as its seed, or expanded where there is no seed. All three forms
are read: seed, expanded key, and both.
"""

from __future__ import annotations

from ferrohsm.typed import NamedTuple
from ferrohsm_adapters.software.der import OCTET_STRING, SEQUENCE, Malformed, element, encode
from ferrohsm_adapters.software.parameter_sets import ParameterSet, set_named

Bytes = bytes | bytearray

_INTEGER, _BIT_STRING, _IDENTIFIER, _SEED = 0x02, 0x03, 0x06, 0x80
_ARCS = bytes.fromhex("60864801650304")  # 2.16.840.1.101.3.4


class PrivateInfo(NamedTuple):
    """What a PrivateKeyInfo holds; one of `seed` and `expanded` may be None."""

    row: ParameterSet
    seed: bytearray | None
    expanded: bytearray | None


def public_key_info(row: ParameterSet, public: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a public key."""
    return encode(SEQUENCE, _algorithm(row) + encode(_BIT_STRING, b"\0" + public))


def private_key_info(row: ParameterSet, seed: Bytes | None, expanded: Bytes | None) -> bytearray:
    """Return the PrivateKeyInfo of a private key, of its seed if there is one."""
    if seed:
        key = _encoded(_SEED, seed)
    else:
        assert expanded is not None
        key = _encoded(OCTET_STRING, expanded) if row.seed else bytearray(expanded)
    inner = _encoded(OCTET_STRING, key)
    head = encode(_INTEGER, b"\0") + _algorithm(row)
    whole = _encoded(SEQUENCE, bytearray(head) + inner)
    key[:] = bytes(len(key))
    inner[:] = bytes(len(inner))
    return whole


def read_private_key_info(info: Bytes | memoryview) -> PrivateInfo | None:
    """Return what is in a PrivateKeyInfo; None when the key is of another kind. Raises `Malformed`."""
    with memoryview(info) as data:
        offset, end = _into(data, 0, SEQUENCE)
        if end != len(data):
            raise Malformed("something stands behind the key")
        start, offset = _into(data, offset, _INTEGER)
        if bytes(data[start:offset]) not in (b"\0", b"\1"):
            raise Malformed("a version that is not known")
        start, after = _into(data, offset, SEQUENCE)
        row = _row_of(data, start, after)
        if row is None:
            return None
        start, stop = _into(data, after, OCTET_STRING)
        if stop != end and data[stop] not in (0xA0, 0xA1, 0x81):  # attributes, public key
            raise Malformed("neither attributes nor a public key")
        seed, expanded = _parts(row, data, start, stop)
        return PrivateInfo(row, seed, expanded)


def _parts(
    row: ParameterSet, data: memoryview, start: int, stop: int
) -> tuple[bytearray | None, bytearray | None]:
    """Return copies of seed and expanded key, lengths checked."""
    if not row.seed:
        return None, _copy(data, start, stop, row.expanded)
    tag, first, last = element(data, start)
    if last != stop:
        raise Malformed("something stands behind the private key")
    if tag == _SEED:
        return _copy(data, first, last, row.seed), None
    if tag == OCTET_STRING:
        return None, _copy(data, first, last, row.expanded)
    if tag != SEQUENCE:
        raise Malformed("neither a seed nor an expanded key")
    one, middle = _into(data, first, OCTET_STRING)
    two, end = _into(data, middle, OCTET_STRING)
    if end != last:
        raise Malformed("something stands behind the expanded key")
    if end - two != row.expanded:  # before there is a copy of the seed
        raise Malformed("not of the length that the parameter set says")
    return _copy(data, one, middle, row.seed), _copy(data, two, end, row.expanded)


def _copy(data: memoryview, start: int, stop: int, length: int) -> bytearray:
    if stop - start != length:
        raise Malformed("not of the length that the parameter set says")
    return bytearray(data[start:stop])


def _into(data: memoryview, offset: int, wanted: int) -> tuple[int, int]:
    """Return where the contents of the element at `offset` begin and end; its tag must be `wanted`."""
    tag, start, end = element(data, offset)
    if tag != wanted:
        raise Malformed("another element than expected")
    return start, end


def _row_of(data: memoryview, start: int, end: int) -> ParameterSet | None:
    first, last = _into(data, start, _IDENTIFIER)
    arcs = bytes(data[first:last])
    if len(arcs) != len(_ARCS) + 2 or not arcs.startswith(_ARCS):
        return None
    row = set_named((arcs[-2], arcs[-1]))
    if row is not None and last != end:
        raise Malformed("parameters where there are none")
    return row


def _algorithm(row: ParameterSet) -> bytes:
    return encode(SEQUENCE, encode(_IDENTIFIER, _ARCS + bytes(row.identifier)))


def _encoded(tag: int, contents: Bytes) -> bytearray:
    """`der.encode` for a secret: the copy can be wiped."""
    head = encode(tag, bytes(len(contents)))
    made = bytearray(head)
    made[len(head) - len(contents) :] = contents
    return made
