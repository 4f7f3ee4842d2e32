"""PINs: what wraps the private key, and how tries are counted.

The private key is wrapped once for each PIN: AES-256-GCM under Argon2id (RFC 9106) of the PIN, with the
public key's pepper, so that the database alone is not enough to try PINs.
"""

from __future__ import annotations

import os
import struct
import time

from ferrohsm import log
from ferrohsm.errors import DeviceError, PinIncorrect
from ferrohsm.settings import KdfSettings, PinPolicy
from ferrohsm.store.engine import argon2id
from ferrohsm.store.sealing import KEY_SIZE, cipher_of, seal, unseal
from ferrohsm.typed import NamedTuple

_HEAD = struct.Struct("<BIII16s")
_TRIES = struct.Struct("<IQ")
_VERSION = 1
_LANES = 1
_MEMORY_LIMIT = 1 << 22  # KiB: a damaged record must not ask for all the memory there is


class Tries(NamedTuple):
    """Wrong PINs in a row and when the last was tried (milliseconds since the epoch)."""

    failures: int
    last: int

    @classmethod
    def of(cls, record: bytes) -> Tries:
        """Read a record."""
        if len(record) != _TRIES.size:
            raise DeviceError("a PIN's record is damaged")
        return cls(*_TRIES.unpack(record))

    def pack(self) -> bytes:
        """Return the record."""
        return _TRIES.pack(self.failures, self.last)

    def another(self) -> Tries:
        """Return the count with one more failure, now."""
        return Tries(self.failures + 1, time.time_ns() // 1_000_000)


class Patience:
    """What a caller has waited already, by a clock that nobody sets: one set back costs one delay."""

    __slots__ = ("_since", "_tries")

    def __init__(self) -> None:
        self._tries: Tries | None = None
        self._since = 0.0

    def left(self, tries: Tries, policy: PinPolicy) -> float:
        """Return the seconds until the try after `tries` may be made."""
        if tries != self._tries:
            self._tries, self._since = tries, time.monotonic()
        delay = policy.delay_after(tries.failures)
        waited = max(time.time() - tries.last / 1000, time.monotonic() - self._since)
        return max(delay - waited, 0.0)


FRESH = Tries(0, 0).pack()


class Owner(NamedTuple):
    """What a PIN's record belongs to: a token, its incarnation, and ``CKU_SO`` or ``CKU_USER``."""

    serial: bytes
    incarnation: bytes
    user: int

    def bound(self, head: bytes) -> bytes:
        """Return what the record is sealed with."""
        return b"pin\0" + self.serial + self.incarnation + bytes([self.user]) + head


def require_means() -> None:
    """Raise `DeviceError` if this process cannot try any PIN, so that none is counted as wrong for that.

    The cryptography library obeys ``OPENSSL_CONF``, and a configuration may take its algorithms away.
    """
    try:
        argon2id()(salt=bytes(16), length=KEY_SIZE, iterations=1, lanes=1, memory_cost=8)
        cipher_of(bytearray(range(KEY_SIZE)))
    except Exception:
        said = "the cryptography library has no Argon2id or no AES-GCM: look at what OPENSSL_CONF names"
        log.event("error", said)
        raise DeviceError(said) from None


def _wrapping_key(
    pin: bytearray, pepper: bytes, salt: bytes, memory: int, passes: int, lanes: int
) -> bytearray:
    out = bytearray(KEY_SIZE)
    argon2id()(
        salt=salt, length=KEY_SIZE, iterations=passes, lanes=lanes, memory_cost=memory, secret=pepper
    ).derive_into(pin, out)  # type: ignore[arg-type]
    return out


def wrap(master: bytearray, pin: bytearray, owner: Owner, pepper: bytes, kdf: KdfSettings) -> bytes:
    """Return the record of `master` under `pin`."""
    salt = os.urandom(16)
    head = _HEAD.pack(_VERSION, kdf.memory_kib, kdf.passes, _LANES, salt)
    cipher = cipher_of(_wrapping_key(pin, pepper, salt, kdf.memory_kib, kdf.passes, _LANES))
    return head + seal(cipher, master, owner.bound(head))


def unwrap(record: bytes, pin: bytearray, owner: Owner, pepper: bytes) -> bytearray:
    """Return the private key. Raises `PinIncorrect`; the record itself was verified by its MAC."""
    head, sealed = record[: _HEAD.size], record[_HEAD.size :]
    if len(head) != _HEAD.size:
        raise DeviceError("a PIN's record is damaged")
    version, memory, passes, lanes, salt = _HEAD.unpack(head)
    bounded = 8 * lanes <= memory <= _MEMORY_LIMIT and 0 < passes <= 1000 and 0 < lanes <= 64
    if version != _VERSION or not bounded:
        raise DeviceError("a PIN's record is damaged")
    cipher = cipher_of(_wrapping_key(pin, pepper, salt, memory, passes, lanes))
    try:
        return unseal(cipher, sealed, owner.bound(head))
    except DeviceError:
        raise PinIncorrect() from None


def outdated(record: bytes, kdf: KdfSettings) -> bool:
    """Say whether a record was made with less than the configuration asks for now."""
    _, memory, passes, _, _ = _HEAD.unpack(record[: _HEAD.size])
    return bool(memory < kdf.memory_kib or passes < kdf.passes)
