"""A token whose PINs are the TPM's: what opens it is sealed there, once for each PIN.

The token's own store is opened not by the PIN but by a random secret. The TPM gives it out for the PIN's
authorization value only, and counts wrong ones. A PIN that is changed seals the same secret anew.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.errors import (
    DeviceError,
    DeviceRemoved,
    HsmError,
    PinIncorrect,
    PinLocked,
    UserPinNotInitialized,
)
from ferrohsm.store import files
from ferrohsm.turns import Turn

if TYPE_CHECKING:
    from ferrohsm.adapters import TokenStatus
    from ferrohsm.config import Config
    from ferrohsm_adapters.kit.slots import LocalStore
    from ferrohsm_adapters.kit.workers import Workers
    from ferrohsm_adapters.tpm2.device import Device

_SECRET_SIZE = 32
_MOST = 65536  # bytes of a file of sealed secrets
_NEXT = ".next"
_NAMES = {ck.CKU_SO: "so", ck.CKU_USER: "user"}


class TpmStore:
    """The store of a token (`ferrohsm.adapters.HardwareKeyStore`); objects are the inner one's business."""

    def __init__(
        self, inner: LocalStore, device: Device, workers: Workers, path: str, config: Config
    ) -> None:
        self._inner = inner
        self._device = device
        self._workers = workers
        self._folder = os.path.join(path, "sealed")
        self._path = os.path.join(self._folder, inner.serial)
        self._config = config
        # The lock of files is for other processes: to wait for it here would hold up the call that has it.
        self._changing = Turn(inline=False)

    def __getattr__(self, name: str) -> Any:
        """Everything that is not about PINs is the token's own."""
        return getattr(self._inner, name)

    async def initialize(self, so_pin: bytearray, label: str) -> None:
        """Make the token, or make it anew for its SO; a new one gets its first sealed secret."""
        files.make_directory(self._folder, self._config.store)
        async with self._changing:
            await self._initialize(so_pin, label)

    async def _initialize(self, so_pin: bytearray, label: str) -> None:
        with files.FileLock(self._path + ".lock", self._config.store, self._config.store.busy_timeout):
            if (await self._inner.status()).initialized:
                if self._inner.listed_free:
                    raise DeviceRemoved("another process has just made this token")
                secret = await self._opened(ck.CKU_SO, so_pin)
                try:
                    await self._inner.initialize(secret, label)
                finally:
                    _wipe(secret)
                files.remove(self._file(ck.CKU_USER))
                files.remove(self._file(ck.CKU_USER) + _NEXT)
                return
            secret, blob = await self._seal(so_pin)
            try:
                self._put(self._file(ck.CKU_SO), blob)
                await self._inner.initialize(secret, label)
            finally:
                _wipe(secret)

    async def login(self, user: int, pin: bytearray) -> None:
        """Log in with what the TPM gives for the PIN."""
        await self._use(user, pin, self._inner.login)

    async def check_pin(self, user: int, pin: bytearray) -> None:
        """Check a PIN and change nothing."""
        await self._use(user, pin, self._inner.check_pin)

    async def init_pin(self, pin: bytearray) -> None:
        """Give the user another PIN, as SO: with it comes another secret.

        The old one and the new one are both there until the store has taken the new one: whenever the process
        is killed, one of the two PINs opens the token.
        """
        async with self._changing:
            await self._init_pin(pin, self._file(ck.CKU_USER))

    async def _init_pin(self, pin: bytearray, file: str) -> None:
        with files.FileLock(self._path + ".lock", self._config.store, self._config.store.busy_timeout):
            secret, blob = await self._seal(pin)
            try:
                self._put(file + _NEXT, blob)
                await self._inner.init_pin(secret)
            finally:
                _wipe(secret)
            self._promote(file)

    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None:
        """Change a PIN: the TPM seals the same secret under the new one."""
        await self.check_pin(user, old)
        blob = await self._workers.run(
            self._device.reseal, self._blob(user), self._auth(old), self._auth(new)
        )
        self._put(self._file(user), blob)

    async def _use(self, user: int, pin: bytearray, use: Callable[[int, bytearray], Awaitable[None]]) -> None:
        """Make a call of the store with the secret behind a PIN, also one that `init_pin` left half made."""
        file = self._file(user)
        half_made = user == ck.CKU_USER and os.path.exists(file + _NEXT)
        if half_made:
            try:
                await self._use_sealed(user, pin, file + _NEXT, use)
            except (PinIncorrect, UserPinNotInitialized):
                # It is the PIN from before, or wrong, or another process has just ended what was half made.
                if not os.path.exists(file):
                    raise
            else:
                self._promote(file)
                return
        await self._use_sealed(user, pin, file, use)
        if half_made:
            await self._drop_half_made(pin, file)

    async def _drop_half_made(self, pin: bytearray, file: str) -> None:
        """Remove a secret that the store has not taken: the TPM counts each try of another PIN on it.

        `pin` has just been the right one. An `init_pin` that is under way meanwhile keeps its own.
        """
        try:
            with files.FileLock(self._path + ".lock", self._config.store, 0):
                if os.path.exists(file + _NEXT):
                    await self._use_sealed(ck.CKU_USER, pin, file, self._inner.check_pin)
                    files.remove(file + _NEXT)
        except HsmError as error:
            log.event("warning", "a secret that was left half made stays", why=str(error))

    async def _use_sealed(
        self, user: int, pin: bytearray, file: str, use: Callable[[int, bytearray], Awaitable[None]]
    ) -> None:
        secret = await self._opened(user, pin, file)
        try:
            await use(user, secret)
        finally:
            _wipe(secret)

    async def _opened(self, user: int, pin: bytearray, file: str = "") -> bytearray:
        """Return the secret behind a PIN. A wrong one counts in the TPM and in the store."""
        _check_not_locked(user, await self._inner.status())
        try:
            return await self._workers.run(self._device.unseal, self._blob(user, file), self._auth(pin))
        except PinIncorrect:
            await self._inner.check_pin(user, bytearray(_SECRET_SIZE))
            raise

    async def _seal(self, pin: bytearray) -> tuple[bytearray, bytes]:
        """Return a new secret, and what the TPM sealed it as."""
        secret = bytearray(os.urandom(_SECRET_SIZE).hex().encode())
        return secret, await self._workers.run(self._device.seal, self._auth(pin), bytes(secret))

    def _auth(self, pin: bytearray) -> bytes:
        """Return the authorization value of a PIN: a TPM takes no longer one than its hash."""
        digest = sha256(b"ferrohsm tpm2 pin\0" + self._inner.serial.encode() + b"\0")
        digest.update(pin)  # put together with the rest it would stay in memory
        return digest.digest()

    def _file(self, user: int) -> str:
        return f"{self._path}.{_NAMES[user]}"

    def _blob(self, user: int, file: str = "") -> bytes:
        try:
            return bytes(files.load(file or self._file(user), _MOST))
        except FileNotFoundError:
            if user == ck.CKU_USER:
                raise UserPinNotInitialized from None
            raise DeviceError(f"{self._file(user)} is missing: restore it with the token") from None
        except OSError as error:
            raise files.refusal(error, f"cannot read {self._file(user)}") from None

    def _put(self, file: str, blob: bytes) -> None:
        try:
            files.put(file, blob, self._config.store)
        except OSError as error:
            raise files.refusal(error, f"cannot write {file}") from None

    def _promote(self, file: str) -> None:
        """Let the secret that the store has taken be the one that is asked for."""
        try:
            os.replace(file + _NEXT, file)
            files.sync_directory(self._folder)
        except FileNotFoundError:
            pass  # another process has done it
        except OSError as error:
            raise files.refusal(error, f"cannot write {file}") from None


def _check_not_locked(user: int, status: TokenStatus) -> None:
    if status.so_locked if user == ck.CKU_SO else status.user_locked:
        raise PinLocked


def _wipe(secret: bytearray) -> None:
    secret[:] = bytes(len(secret))
