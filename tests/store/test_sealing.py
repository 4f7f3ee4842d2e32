"""The keys that seal: nothing is sealed with a key that has been wiped."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import aead

from ferrohsm.errors import DeviceError
from ferrohsm.store import engine, sealing

KEY = bytes(range(32))


def test_a_cipher_outlives_the_wiping_of_its_key() -> None:
    key = bytearray(KEY)
    cipher = sealing.cipher_of(key)
    assert not any(key)
    sealed = sealing.seal(cipher, b"plain", b"bound")
    nonce = sealed[: sealing.NONCE_SIZE]
    assert aead.AESGCM(KEY).decrypt(nonce, sealed[sealing.NONCE_SIZE :], b"bound") == b"plain"


def test_a_cipher_that_does_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real, key = aead.AESGCM, bytearray(KEY)

    class Late:
        """Reads its caller's buffer at each use, as AES-CCM of the library does."""

        def __init__(self, key: bytearray) -> None:
            self.key = key

        def encrypt(self, nonce: bytes, data: bytes, bound: bytes | None) -> bytes:
            return real(bytes(self.key)).encrypt(nonce, data, bound)

    monkeypatch.setattr(engine, "aes_gcm", lambda: Late)
    with pytest.raises(DeviceError, match="no key of its own"):
        sealing.cipher_of(key)
    assert not any(key)
