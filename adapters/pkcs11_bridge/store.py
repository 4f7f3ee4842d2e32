"""The token of a bridged slot: its PINs and objects are the backend's, and so are its answers about them."""

from __future__ import annotations

import time
from bisect import bisect_right
from ctypes import byref
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Template, TokenStatus, Value
from ferrohsm.errors import HsmError, OperationNotInitialized
from ferrohsm_adapters.pkcs11_bridge.connection import BackendSession, Connection
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, UNAVAILABLE, TokenInfo, text
from ferrohsm_adapters.pkcs11_bridge.cryptoki import Template as NativeTemplate
from ferrohsm_adapters.pkcs11_bridge.options import Options
from ferrohsm_adapters.pkcs11_bridge.records import Records
from ferrohsm_adapters.pkcs11_bridge.values import native_form, template_of

# The backend says no more than "wrong once", "one more" and "locked": as numbers of tries.
_TRIES = 3
_SEARCHES = 8


class BridgeStore:
    """See `ferrohsm.adapters.HardwareKeyStore`."""

    def __init__(self, connection: Connection, records: Records, options: Options) -> None:
        self._connection = connection
        self._records = records
        self._options = options
        self._changes = 0
        self._info: Any = None
        self._info_until = 0.0
        self._searches: dict[Any, list[int]] = {}

    # The token

    async def status(self) -> TokenStatus:
        """Return the backend's state of the token; it is believed for the section's ``refresh`` seconds."""
        return _status(await self._described())

    async def describe(self) -> dict[str, Any]:
        """Return the fields of ``CK_TOKEN_INFO`` that are the backend's (see `ferrohsm.tokens.TokenInfo`)."""
        info = await self._described()
        counts = {
            "total_public_memory": info.total_public,
            "free_public_memory": info.free_public,
            "total_private_memory": info.total_private,
            "free_private_memory": info.free_private,
        }
        return {
            "manufacturer_id": text(info.manufacturer),
            "model": text(info.model),
            "flags": info.flags,
            "min_pin_len": info.min_pin,
            "max_pin_len": info.max_pin,
            "hardware_version": (info.hardware.major, info.hardware.minor),
            "firmware_version": (info.firmware.major, info.firmware.minor),
            **{
                name: ck.CK_UNAVAILABLE_INFORMATION if value == UNAVAILABLE else value
                for name, value in counts.items()
            },
        }

    async def _described(self) -> Any:
        if self._info is None or time.monotonic() >= self._info_until:

            def work() -> Any:
                info = TokenInfo()
                self._connection.call("GetTokenInfo", self._connection.slot, byref(info))
                self._connection.notice_login()
                return info

            self._info = await self._connection.run(work)
            self._info_until = time.monotonic() + self._options.refresh
        return self._info

    def _changed(self) -> None:
        """Note that what was read before may be old."""
        self._changes += 1
        self._info = None
        self._searches.clear()

    def generation(self) -> int:
        """Return a number that moves with our changes, and with time: the backend tells nobody of others'."""
        refresh = self._options.refresh
        tick = int(time.monotonic() / refresh) if refresh else time.monotonic_ns()
        return (self._changes << 64) + tick

    def holds_login(self) -> bool:
        """Say whether the backend still has the login."""
        return self._connection.user is not None

    # Logins and PINs

    async def initialize(self, so_pin: bytearray, label: str) -> None:
        """Make the token anew (``C_InitToken``)."""
        pin = bytearray(so_pin)
        try:
            await self._with_pins(lambda: self._connection.initialize_token(pin, label), pin)
        finally:
            self._records.forget_all()

    async def login(self, user: int, pin: bytearray) -> None:
        """Log in with the backend."""
        copied = bytearray(pin)
        await self._with_pins(lambda: self._connection.login(user, copied), copied)

    async def check_pin(self, user: int, pin: bytearray) -> None:
        """Refuse: the backend checks a PIN for an operation of its own only (`BackendOperation.login`)."""
        raise OperationNotInitialized()

    async def logout(self) -> None:
        """Log out of the backend; what only the login could see is unknown from now on."""
        try:
            await self._connection.run(self._connection.logout)
        finally:
            self._records.forget_private()
            self._changed()

    async def init_pin(self, pin: bytearray) -> None:
        """Set the user's PIN."""
        copied = bytearray(pin)
        await self._with_pins(lambda: self._connection.with_pins("InitPIN", copied), copied)

    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None:
        """Change the PIN of the one who is logged in, of the user when nobody is."""
        first, second = bytearray(old), bytearray(new)
        await self._with_pins(lambda: self._connection.with_pins("SetPIN", first, second), first, second)

    async def _with_pins(self, work: Any, *pins: bytearray) -> None:
        """Do something with copies of PINs, which are overwritten when the backend has answered."""

        def wiped() -> None:
            try:
                work()
            finally:
                for pin in pins:
                    pin[:] = bytes(len(pin))

        try:
            await self._connection.run(wiped)
        finally:
            self._changed()

    # Objects

    async def create(self, attributes: Attributes) -> int:
        """Note that the backend's object is kept, or make an object that is no key."""
        reference = attributes.get(CKA_REFERENCE)
        if reference is not None and not isinstance(reference, tuple):
            record = self._records.get(int.from_bytes(reference, "big"))
            record.kept = True
            self._changed()
            return record.oid

        def work() -> int:
            template, handle = NativeTemplate(template_of(attributes, self._options.profile)), ULONG()
            try:
                with self._connection.session() as session:
                    self._connection.call(
                        "CreateObject", session.handle, template.array, template.count, byref(handle)
                    )
                    record = self._records.made(handle.value, session, on_token=True)
                    record.kept = True
                    return record.oid
            finally:
                template.wipe()

        oid = await self._connection.run(work, self._destroy)
        self._changed()
        return oid

    async def read(self, oid: int) -> Attributes:
        """Return what the backend tells about an object."""

        def work() -> Attributes:
            record = self._records.get(oid)
            with self._connection.session() as session:
                return self._records.read(record, session)

        return await self._connection.run(work)

    async def replace(self, oid: int, attributes: Attributes) -> None:
        """Change what differs from what the backend has."""
        before = await self.read(oid)
        await self.exchange(oid, before, attributes)

    async def exchange(self, oid: int, before: Attributes, after: Attributes) -> bool:
        """Change the attributes that differ, and those only: another's change of others stays."""
        profile = self._options.profile
        pairs: list[tuple[int, Any]] = [
            (attribute, native_form(attribute, value, profile))
            for attribute, value in after.items()
            if attribute != CKA_REFERENCE and before.get(attribute) != value
        ]
        pairs += [(attribute, b"") for attribute in before if attribute not in after]

        def work() -> None:
            template = NativeTemplate(pairs)
            record = self._records.get(oid)
            with self._connection.session() as session:
                handle = self._records.handle(record, session)
                self._connection.call(
                    "SetAttributeValue", session.handle, handle, template.array, template.count
                )

        if pairs:
            await self._connection.run(work)
            self._changed()
        return True

    async def delete(self, oid: int) -> None:
        """Destroy an object."""
        await self._connection.run(lambda: self._destroy(oid))
        self._changed()

    def _destroy(self, oid: int) -> None:
        record = self._records.get(oid)
        with self._connection.session() as session:
            handle = self._records.handle(record, session)
            self._connection.call("DestroyObject", session.handle, handle)
        self._records.forget(record)

    async def search(self, template: Template, after: int, limit: int) -> list[int]:
        """Return objects that match; the backend is asked for the first page, the others are remembered."""
        key = tuple(sorted((a, v if isinstance(v, tuple) else bytes(v)) for a, v in template))
        found = self._searches.get(key) if after else None
        if found is None:
            epoch = self._connection.epoch
            found = await self._connection.run(lambda: self._search(template))
            if epoch == self._connection.epoch:
                if len(self._searches) >= _SEARCHES:
                    self._searches.pop(next(iter(self._searches)), None)
                self._searches[key] = found
        start = bisect_right(found, after)
        return found[start : start + limit]

    def _search(self, template: Template) -> list[int]:
        wanted = dict(template)
        unique_id = wanted.pop(ck.CKA_UNIQUE_ID, None)
        pairs = tuple((a, native_form(a, v, self._options.profile)) for a, v in wanted.items())
        with self._connection.session() as session:
            self._records.relocate(session)
            handles = self._records.search(session, pairs)
            found = sorted(self._records.of_handle(handle).oid for handle in handles)
            if unique_id is not None:
                found = [oid for oid in found if self._has_id(oid, unique_id, session)]
        return found

    def _has_id(self, oid: int, unique_id: Value, session: BackendSession) -> bool:
        try:
            return self._records.read(self._records.get(oid), session)[ck.CKA_UNIQUE_ID] == unique_id
        except HsmError:
            return False

    async def close(self) -> None:
        """Close the sessions with the backend."""
        await self._connection.run(self._connection.close)


def _status(info: Any) -> TokenStatus:
    status = TokenStatus()
    flags = info.flags
    status.initialized = bool(flags & ck.CKF_TOKEN_INITIALIZED)
    status.label = text(info.label)
    status.serial = text(info.serial)
    status.user_pin_set = bool(flags & ck.CKF_USER_PIN_INITIALIZED)
    status.tries_allowed = _TRIES
    status.so_locked = bool(flags & ck.CKF_SO_PIN_LOCKED)
    status.user_locked = bool(flags & ck.CKF_USER_PIN_LOCKED)
    status.so_tries_left = _tries(
        flags, ck.CKF_SO_PIN_COUNT_LOW, ck.CKF_SO_PIN_FINAL_TRY, ck.CKF_SO_PIN_LOCKED
    )
    status.user_tries_left = _tries(
        flags, ck.CKF_USER_PIN_COUNT_LOW, ck.CKF_USER_PIN_FINAL_TRY, ck.CKF_USER_PIN_LOCKED
    )
    status.write_protected = bool(flags & ck.CKF_WRITE_PROTECTED)
    return status


def _tries(flags: int, low: int, final: int, locked: int) -> int:
    if flags & locked:
        return 0
    if flags & final:
        return 1
    return _TRIES - 1 if flags & low else _TRIES
