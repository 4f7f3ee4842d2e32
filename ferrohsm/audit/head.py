"""The head of a chain: the last record that is known to be on disk, kept beside the token's store.

A file of two places of 128 bytes, written in turn, so that one is whole whenever the power fails:
``FerroHed``, the sequence, the first sequence of the segment and the end in it (64 bits each), the record's
SHA-256, and an HMAC-SHA-256 of that and of the chain's name under the audit key.
"""

from __future__ import annotations

import os
import struct
from _operator import _compare_digest as compare_digest

from ferrohsm.errors import DeviceError
from ferrohsm.store import files
from ferrohsm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ferrohsm.audit.hashing import Key
    from ferrohsm.settings import StoreSettings

_PLACE = 128
_HEAD = struct.Struct("<8sQQQ32s")
_MAGIC = b"FerroHed"


class Head(NamedTuple):
    """Where a chain ends: its last record, and that record's segment and end in it."""

    sequence: int
    segment: int
    offset: int
    digest: str


def load(path: str, name: str, key: Key) -> tuple[Head | None, int]:
    """Return the newest valid head and the place that it is in; None when there is none, or no valid one."""
    try:
        data = bytes(files.load(path, 2 * _PLACE))
    except FileNotFoundError:
        return None, 1
    except DeviceError:
        return None, 1
    newest, at = None, 1
    for place in (0, 1):
        found = _parse(data[place * _PLACE : (place + 1) * _PLACE], name, key)
        if found is not None and (newest is None or found.sequence >= newest.sequence):
            newest, at = found, place
    return newest, at


def _parse(data: bytes, name: str, key: Key) -> Head | None:
    if len(data) < _HEAD.size + 32 or not data.startswith(_MAGIC):
        return None
    said, code = data[: _HEAD.size], data[_HEAD.size : _HEAD.size + 32]
    if not compare_digest(_code(said, name, key), code):
        return None
    _, sequence, segment, offset, digest = _HEAD.unpack(said)
    return Head(sequence, segment, offset, digest.hex())


def _code(said: bytes, name: str, key: Key) -> bytes:
    return key.mac(b"head\0" + name.encode() + b"\0" + said)


def store(path: str, head: Head, place: int, name: str, key: Key, owner: StoreSettings) -> None:
    """Write a head into one of the two places, and have it on its way to the disk."""
    said = _HEAD.pack(_MAGIC, head.sequence, head.segment, head.offset, bytes.fromhex(head.digest))
    data = (said + _code(said, name, key)).ljust(_PLACE, b"\0")
    try:
        descriptor = files.open_regular(path, os.O_RDWR, 2 * _PLACE)
    except FileNotFoundError:
        files.create(path, data + data, owner)
        return
    except DeviceError:
        files.put(path, data + data, owner)
        return
    try:
        os.lseek(descriptor, place * _PLACE, os.SEEK_SET)
        if os.write(descriptor, data) != _PLACE:
            raise DeviceError("the audit's head cannot be written")
    finally:
        os.close(descriptor)
