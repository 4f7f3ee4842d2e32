"""The keys of a token and what they seal.

The *public* key (a file beside the store) binds public objects, the token's own records and the index.
The *private* key, wrapped for each PIN, seals private objects. Each gives, by HKDF-Expand (RFC 5869),
one key a purpose: for MACs (HMAC-SHA-256), for the blind index and for sealing (AES-256-GCM).
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from ferrohsm.errors import DeviceError, DeviceRemoved, UserNotLoggedIn
from ferrohsm.hashing import Mac
from ferrohsm.store import engine
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_SIZE = 32
NONCE_SIZE = 12
GCM_TAG_SIZE = 16
MAC_SIZE = 32
TAG_SIZE = 12
_SHORT = 192  # bytes; for longer data OpenSSL's takes less time


def mac(key: bytes | bytearray, data: bytes | bytearray) -> bytes:
    """Return HMAC-SHA-256 under a key that needs no PIN."""
    return Mac(key).of(data) if len(data) <= _SHORT else engine.openssl_mac(key, data)


def wipe(buffer: bytearray) -> None:
    """Overwrite a secret."""
    buffer[:] = bytes(len(buffer))


def subkey(master: bytearray, purpose: bytes) -> bytearray:
    """Return one key of `master`, made in a buffer that can be wiped."""
    out = bytearray(KEY_SIZE)
    engine.expand_into(master, purpose, out)
    return out


def cipher_of(key: bytearray) -> AESGCM:
    """Return AES-256-GCM under `key`, which is wiped.

    The cipher has expanded its own copy, which OpenSSL cleanses when it goes. Raises `DeviceError` from a
    library that reads the caller's buffer at each use instead: it would seal with a key of zeros.
    """
    try:
        cipher = engine.aes_gcm()(key)
        before = cipher.encrypt(bytes(NONCE_SIZE), b"", None)
    finally:
        wipe(key)
    if cipher.encrypt(bytes(NONCE_SIZE), b"", None) != before:
        raise DeviceError("this cryptography library keeps no key of its own: it cannot be used")
    return cipher


def _cipher(master: bytearray) -> AESGCM:
    return cipher_of(subkey(master, b"ferrohsm seal"))


def seal(cipher: AESGCM, plain: bytes | bytearray, bound: bytes | bytearray) -> bytes:
    """Return nonce, ciphertext and tag of `plain`, bound to `bound`."""
    nonce = os.urandom(NONCE_SIZE)
    return nonce + cipher.encrypt(nonce, plain, bound)


def unseal(cipher: AESGCM, sealed: bytes | memoryview, bound: bytes | bytearray) -> bytearray:
    """Return what `seal` was given, in a buffer that can be wiped; raises ``DeviceError`` if touched."""
    size = len(sealed) - NONCE_SIZE - GCM_TAG_SIZE
    if size < 0:
        raise DeviceError("a sealed record is damaged: it is too short")
    view = memoryview(sealed)
    plain = bytearray(size)
    try:
        cipher.decrypt_into(view[:NONCE_SIZE], view[NONCE_SIZE:], bound, plain)
    except Exception as error:
        wipe(plain)
        if not engine.is_invalid_tag(error):
            raise
        raise DeviceError("a sealed record is damaged or was changed: it is not used") from None
    return plain


class PublicKeys:
    """The keys that need no PIN. `incarnation` names them: re-initialization makes new ones."""

    __slots__ = ("_cipher", "_lock", "_master", "chain_key", "incarnation", "index_key", "mac_key", "pepper")

    def __init__(self, incarnation: bytes, master: bytearray) -> None:
        self.incarnation = incarnation
        self._master: bytearray | None = master
        self._cipher: AESGCM | None = None
        self._lock = allocate_lock()
        # HKDF-Expand of one block, spelt with the interpreter's own hash: listing tokens must not
        # cost the import of `cryptography`.
        self.mac_key = mac(master, b"ferrohsm mac\x01")
        self.index_key = mac(master, b"ferrohsm index\x01")
        self.chain_key = mac(master, b"ferrohsm chain\x01")
        self.pepper = mac(master, b"ferrohsm pin\x01")

    def __getattr__(self, name: str) -> bytes:
        # A key that was wiped is missing: a call that is still under way fails, and never seals or
        # binds with an empty key.
        raise DeviceRemoved(f"the token is closed: {name}")

    @property
    def cipher(self) -> AESGCM:
        """The cipher for secrets of objects that need no login."""
        with self._lock:
            if self._master is None:
                raise DeviceRemoved("the token is closed")
            if self._cipher is None:
                self._cipher = _cipher(self._master)
            return self._cipher

    def tag(self, item: bytes) -> bytes:
        """Return the blind index's tag of an encoded type and value."""
        return mac(self.index_key, item)[:TAG_SIZE]

    def wipe(self) -> None:
        """Forget the keys."""
        with self._lock:
            if self._master is None:
                return
            wipe(self._master)
            self._master = self._cipher = None
            del self.mac_key, self.index_key, self.chain_key, self.pepper


class PrivateKeys:
    """The keys of a login. Calls that use them hold them, and the last one out wipes.

    So a logout in one thread never lets another thread seal with a key that has just been zeroed.
    """

    __slots__ = ("_cipher", "_closed", "_index_key", "_lock", "_users", "incarnation")

    def __init__(self, incarnation: bytes, master: bytearray) -> None:
        self.incarnation = incarnation
        self._cipher: AESGCM | None = _cipher(master)
        self._index_key = subkey(master, b"ferrohsm index")
        self._lock = allocate_lock()
        self._users = 0
        self._closed = False

    def __enter__(self) -> PrivateKeys:
        with self._lock:
            if self._closed:
                raise UserNotLoggedIn("the user has logged out")
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and not self._users:
                self._wipe()

    @property
    def cipher(self) -> AESGCM:
        """The cipher for private objects."""
        if self._cipher is None:
            raise UserNotLoggedIn("the user has logged out")
        return self._cipher

    def tag(self, item: bytes) -> bytes:
        """Return the blind index's tag of an encoded type and value."""
        return engine.mac(self._index_key, item)[:TAG_SIZE]

    def close(self) -> None:
        """Wipe the keys, now or when the last call that uses them ends."""
        with self._lock:
            self._closed = True
            if not self._users:
                self._wipe()

    def _wipe(self) -> None:
        wipe(self._index_key)
        self._cipher = None
