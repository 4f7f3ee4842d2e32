"""A slot's token: login state, PINs and what it tells about itself.

PKCS#11 3.2, "Slot and token management functions" and ``C_Login`` to ``C_Logout``. The login is shared
by all sessions that the process has with the token.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapter_info import Limits
from ferrohsm.adapters import AdapterSlot, Attributes, HardwareKeyStore, HardwareSigner, TokenStatus
from ferrohsm.attribute_kinds import ulong
from ferrohsm.audit import events
from ferrohsm.audit.hooks import recorded_login
from ferrohsm.audit.tokens import SILENT, TokenAudit
from ferrohsm.ec_encoding import raw_point
from ferrohsm.entries import utc_time
from ferrohsm.errors import (
    ArgumentsBad,
    AttributeValueInvalid,
    PinIncorrect,
    PinLenRange,
    PinLocked,
    SessionReadOnly,
    SessionReadOnlyExists,
    TokenNotPresent,
    TokenWriteProtected,
    UserAlreadyLoggedIn,
    UserAnotherAlreadyLoggedIn,
    UserNotLoggedIn,
    UserPinNotInitialized,
    UserTypeInvalid,
)
from ferrohsm.objects import ObjectRegistry
from ferrohsm.references import give_back
from ferrohsm.saved import SavedStates
from ferrohsm.typed import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from ferrohsm.adapters import AdapterInfo
    from ferrohsm.config import Config
    from ferrohsm.loops import LoopThread
    from ferrohsm.operations import BoundOperation
    from ferrohsm.sessions import Session

MODEL = "FerroHSM"
LABEL_LENGTH = 32  # bytes of UTF-8 in CK_TOKEN_INFO
_RAW_POINT_TYPES = (ulong(ck.CKK_EC_EDWARDS), ulong(ck.CKK_EC_MONTGOMERY))


class TokenInfo:
    """``CK_TOKEN_INFO``: texts unpadded, lengths in bytes; the session counts are the ABI's to fill in."""

    __slots__ = (
        "firmware_version",
        "flags",
        "free_private_memory",
        "free_public_memory",
        "hardware_version",
        "label",
        "manufacturer_id",
        "max_pin_len",
        "max_rw_session_count",
        "max_session_count",
        "min_pin_len",
        "model",
        "rw_session_count",
        "serial_number",
        "session_count",
        "total_private_memory",
        "total_public_memory",
        "utc_time",
    )

    def __init__(self, label: str, manufacturer_id: str, serial_number: str, flags: int) -> None:
        self.label = label
        self.manufacturer_id = manufacturer_id
        self.model = MODEL
        self.serial_number = serial_number
        self.flags = flags
        self.max_session_count = ck.CK_EFFECTIVELY_INFINITE
        self.max_rw_session_count = ck.CK_EFFECTIVELY_INFINITE
        self.session_count = 0
        self.rw_session_count = 0
        self.max_pin_len = 0
        self.min_pin_len = 0
        self.total_public_memory = ck.CK_UNAVAILABLE_INFORMATION
        self.free_public_memory = ck.CK_UNAVAILABLE_INFORMATION
        self.total_private_memory = ck.CK_UNAVAILABLE_INFORMATION
        self.free_private_memory = ck.CK_UNAVAILABLE_INFORMATION
        self.hardware_version: tuple[int, int] | None = None  # None: the library's
        self.firmware_version: tuple[int, int] | None = None
        self.utc_time = utc_time()


class Token:
    """A slot that is there, with the token in it."""

    def __init__(
        self,
        slot: AdapterSlot,
        inline: bool,
        config: Config,
        options: dict[str, Any],
        adapter: AdapterInfo | None = None,
        loop: LoopThread | None = None,
    ) -> None:
        self.slot = slot
        self.id = slot.id
        self.inline = inline
        self.adapter = adapter
        self.loop = loop
        self.login_state: int | None = None
        # False where the adapter says that its keys need no login: then there is none that could hide them.
        self.login_required = adapter is None or adapter.login != "none"
        # Moves whenever what may be seen changes: login, logout, a new token in the slot.
        self.epoch = 0
        self.sessions: dict[int, Session] = {}
        self.operations: set[BoundOperation] = set()
        self.objects = ObjectRegistry(self)
        self.saved = SavedStates()
        self.audit: TokenAudit = SILENT
        self._config = config
        self._ec_point: str = options.get("ec_point", config.ec_point)
        self._mechanisms: dict[int, tuple[int, int, int]] | None = None
        self._initialized = False

    @property
    def store(self) -> HardwareKeyStore:
        """The token's store. Raises `TokenNotPresent` when the slot is empty."""
        store: HardwareKeyStore | None = self.slot.store
        if store is None:
            raise TokenNotPresent(f"slot {self.id}: {self.slot.description}")
        return store

    @property
    def signer(self) -> HardwareSigner:
        """The token's engine."""
        return self.slot.signer

    @property
    def present(self) -> bool:
        """Whether there is a token in the slot."""
        store: HardwareKeyStore | None = self.slot.store
        return store is not None

    @property
    def user_logged_in(self) -> bool:
        """Whether private objects may be seen."""
        return self.login_state == ck.CKU_USER or not self.login_required

    @property
    def so_logged_in(self) -> bool:
        """Whether the security officer is logged in."""
        return self.login_state == ck.CKU_SO

    # What it tells

    async def is_initialized(self) -> bool:
        """Say whether the token was ever initialized: what is cannot become what is not."""
        if not self._initialized:
            self._initialized = (await self.store.status()).initialized
        return self._initialized

    def mechanisms(self) -> dict[int, tuple[int, int, int]]:
        """Return what the slot offers: the engine's mechanisms less what the configuration denies.

        What signs also signs messages, one after the other: that needs nothing of the engine.
        """
        if self._mechanisms is None:
            from ferrohsm.signed_messages import message_flags

            offers = self._config.mechanisms.offers
            able = _in_both(
                self.signer.mechanisms(), None if self.adapter is None else self.adapter.mechanisms
            )
            self._mechanisms = {
                mechanism: (smallest, largest, flags | message_flags(mechanism, flags))
                for mechanism, (smallest, largest, flags) in able.items()
                if offers(mechanism)
            }
        return self._mechanisms

    @property
    def longest_input(self) -> int | None:
        """The bytes that one call to the device may bring, None when no limit is known."""
        return None if self.adapter is None else self.adapter.limits.data

    @property
    def max_sessions(self) -> int | None:
        """The sessions that the device takes at once, None when no limit is known."""
        return None if self.adapter is None else self.adapter.limits.sessions

    def check_class(self, object_class: int) -> None:
        """Raise `AttributeValueInvalid` for objects that the device does not take."""
        classes = None if self.adapter is None else self.adapter.object_classes
        if classes is not None and object_class not in classes:
            raise AttributeValueInvalid("the device keeps no objects of this class")

    async def info(self) -> TokenInfo:
        """Return the token's description (``C_GetTokenInfo``)."""
        status = await self.store.status()
        flags = ck.CKF_RNG | ck.CKF_CLOCK_ON_TOKEN | _status_flags(status)
        if self.login_required:
            flags |= ck.CKF_LOGIN_REQUIRED
        info = TokenInfo(
            status.label if status.initialized else "", self.slot.manufacturer, status.serial, flags
        )
        info.min_pin_len, info.max_pin_len = await self._pin_lengths()
        if self.adapter is not None:
            limits = self.adapter.limits
            info.max_session_count = limits.sessions or ck.CK_EFFECTIVELY_INFINITE
            info.max_rw_session_count = limits.read_write_sessions or info.max_session_count
        for field, value in (await self._described()).items():
            setattr(info, field, value)
        return info

    async def _described(self) -> dict[str, Any]:
        """Return the fields of `TokenInfo` that the store answers for (`DescribedToken`)."""
        describe = getattr(self.store, "describe", None)
        return {} if describe is None else dict(await describe())

    async def _pin_lengths(self) -> tuple[int, int]:
        """Return the shortest and the longest PIN, in bytes: the device's own, else the configuration's."""
        described, pin = await self._described(), self._config.pin
        limits = Limits() if self.adapter is None else self.adapter.limits
        shortest = pin.min_length if limits.min_pin is None else limits.min_pin
        longest = pin.max_length if limits.max_pin is None else limits.max_pin
        return described.get("min_pin_len", shortest), described.get("max_pin_len", longest)

    def presented_point(self, attributes: Attributes) -> bytes:
        """Return ``CKA_EC_POINT`` in the form that the configuration asks for."""
        value = attributes[ck.CKA_EC_POINT]
        assert isinstance(value, bytes)
        if self._ec_point == "raw" and attributes.get(ck.CKA_KEY_TYPE) in _RAW_POINT_TYPES:
            return raw_point(value)
        return value

    # Login and PINs

    @recorded_login(events.LOGIN)
    async def login(self, session: Session, user: int, pin: bytearray) -> None:
        """Log in ``CKU_SO`` or ``CKU_USER`` (``C_Login``)."""
        if user not in (ck.CKU_SO, ck.CKU_USER):
            raise UserTypeInvalid()
        if self.login_state == user:
            raise UserAlreadyLoggedIn()
        if self.login_state is not None:
            raise UserAnotherAlreadyLoggedIn()
        if user == ck.CKU_SO and not all(s.read_write for s in [session, *self.sessions.values()]):
            raise SessionReadOnlyExists()
        status = await self.store.status()
        if not status.initialized:
            raise PinIncorrect() if user == ck.CKU_SO else UserPinNotInitialized()
        if user == ck.CKU_USER and not status.user_pin_set:
            raise UserPinNotInitialized()
        await self.store.login(user, pin)
        self.login_state = user
        self.epoch += 1

    async def follow_login(self) -> None:
        """End the login here too if another process made the token anew, which ended it in the store."""
        store = self.slot.store
        holds_login = getattr(store, "holds_login", None)
        if self.login_state is None or holds_login is None:
            return
        await store.status()
        if not holds_login():
            await give_back(self, self._forget_login())

    @recorded_login(events.LOGIN_FOR_USE)
    async def check_pin(self, pin: bytearray, operation: BoundOperation | None = None) -> None:
        """Check the PIN of the one who is logged in, for a key that wants it at each use.

        `operation` is the one that waits for it: its device may want to be told itself (`LoginOperation`).
        A PIN that is locked by this also logs out, as ``CKA_ALWAYS_AUTHENTICATE``'s text says.
        """
        if self.login_state is None:
            raise UserNotLoggedIn()
        login = None if operation is None else getattr(operation.operation, "login", None)
        try:
            if login is not None:
                await login(pin)
            else:
                await self.store.check_pin(self.login_state, pin)
        except PinLocked:
            await self.logout()
            raise

    async def logout(self) -> None:
        """Log out; private objects are gone from sight and their secrets from memory (``C_Logout``)."""
        if self.login_state is None:
            raise UserNotLoggedIn()
        user = self.login_state
        references = self._forget_login()
        try:
            await give_back(self, references)
        finally:
            await self.store.logout()
            self.audit.tell(events.LOGOUT, user=user)

    def _forget_login(self) -> list[bytes]:
        """Forget what only the login could see; return the references that are to be given back."""
        user, self.login_state = self.login_state, None
        self.epoch += 1
        references, ended = self.objects.forget_private()
        self.ended_with_login(ended, user)
        for operation in list(self.operations):
            operation.expire()
        return references

    def ended_with_login(self, count: int, user: int | None) -> None:
        """Record that so many private session objects have ended with the login of `user`."""
        if count:
            who = events.NOBODY if user is None else user
            self.audit.tell(events.DESTROY, user=who, detail=f"{count} session objects, with their login")

    @recorded_login(events.SET_USER_PIN)
    async def init_pin(self, session: Session, pin: bytearray) -> None:
        """Set the user's PIN, as security officer (``C_InitPIN``)."""
        if not self.so_logged_in:
            raise UserNotLoggedIn()
        if not session.read_write:
            raise SessionReadOnly()
        await self._check_length(pin)
        await self._check_writable()
        await self.store.init_pin(pin)

    @recorded_login(events.CHANGE_PIN)
    async def set_pin(self, session: Session, old: bytearray, new: bytearray) -> None:
        """Change the PIN of the one who is logged in, of the user when nobody is (``C_SetPIN``)."""
        if not session.read_write:
            raise SessionReadOnly()
        user = ck.CKU_USER if self.login_state is None else self.login_state
        status = await self.store.status()
        if user == ck.CKU_USER and not status.user_pin_set:
            raise UserPinNotInitialized()
        await self._check_length(new)
        await self._check_writable()
        await self.store.set_pin(user, old, new)

    @recorded_login(events.INITIALIZE)
    async def initialize(self, pin: bytearray, label: str) -> None:
        """Make the token anew (``C_InitToken``).

        The store checks the security officer's PIN of a token that exists, and whether this still is
        the token that was listed: both in the step that destroys, so that nothing comes between.
        """
        if len(label.encode()) > LABEL_LENGTH:
            raise ArgumentsBad("the label is longer than 32 bytes")
        status = await self.store.status()
        if status.write_protected:
            raise TokenWriteProtected()
        if not status.initialized:
            await self._check_length(pin)
        await self.store.initialize(pin, label)
        self.saved.clear()
        await give_back(self, [*self._forget_login(), *self.objects.forget_all()])

    async def _check_length(self, pin: bytearray) -> None:
        shortest, longest = await self._pin_lengths()
        if not shortest <= len(pin) <= longest:
            raise PinLenRange()

    async def _check_writable(self) -> None:
        if (await self.store.status()).write_protected:
            raise TokenWriteProtected()

    # Sessions

    async def end_session(self, session: Session) -> None:
        """Destroy a session's objects."""
        await give_back(self, self.drop_session(session))

    def drop_session(self, session: Session) -> list[bytes]:
        """Do the same without the adapter; return the references that are to be given back."""
        self.sessions.pop(session.handle, None)
        if session.objects:
            gone = f"{len(session.objects)} session objects, with their session"
            self.audit.tell(events.DESTROY, session.handle, detail=gone)
        return self.objects.end_session(session)

    def forget(self) -> tuple[list[bytes], bool]:
        """Leave nothing in memory, and ask the adapter nothing: it is gone or may not answer.

        Returns what `take_leave` is to be told: references to be given back, and whether there was a login.
        """
        self.saved.clear()
        for operation in list(self.operations):
            operation.close()
        if self.login_state is not None:
            self.audit.tell(events.LOGOUT)
        logged_in, self.login_state = self.login_state is not None, None
        self.epoch += 1
        return self.objects.forget_all(), logged_in

    async def take_leave(self, references: list[bytes], logged_in: bool) -> None:
        """Tell the adapter what `forget` left to be told."""
        await give_back(self, references)
        if logged_in:
            await self.store.logout()

    async def close(self) -> None:
        """Leave nothing in memory: log out, destroy the session objects, wipe the keys."""
        self.saved.clear()
        for operation in list(self.operations):
            operation.close()
        references = self.objects.forget_all()
        try:
            await give_back(self, references)
            if self.login_state is not None:
                await self.logout()
        finally:
            self.sessions.clear()


def _in_both(
    first: Mapping[int, tuple[int, int, int]], second: Mapping[int, tuple[int, int, int]] | None
) -> dict[int, tuple[int, int, int]]:
    """Return what an engine can and its adapter says too, if that says anything."""
    if second is None:
        return dict(first)
    return {
        mechanism: (
            max(info[0], second[mechanism][0]),
            min(info[1], second[mechanism][1]),
            info[2] & second[mechanism][2],
        )
        for mechanism, info in first.items()
        if mechanism in second
    }


def _status_flags(status: TokenStatus) -> int:
    """Return the flags that follow from the store's state."""
    flags = ck.CKF_WRITE_PROTECTED if status.write_protected else 0
    if not status.initialized:
        return flags
    flags |= ck.CKF_TOKEN_INITIALIZED
    flags |= _tries(
        status.so_tries_left,
        status.tries_allowed,
        status.so_locked,
        (ck.CKF_SO_PIN_COUNT_LOW, ck.CKF_SO_PIN_FINAL_TRY, ck.CKF_SO_PIN_LOCKED),
    )
    if status.user_pin_set:
        flags |= ck.CKF_USER_PIN_INITIALIZED
        flags |= _tries(
            status.user_tries_left,
            status.tries_allowed,
            status.user_locked,
            (ck.CKF_USER_PIN_COUNT_LOW, ck.CKF_USER_PIN_FINAL_TRY, ck.CKF_USER_PIN_LOCKED),
        )
    return flags


def _tries(left: int, allowed: int, locked: bool, flags: tuple[int, int, int]) -> int:
    """Return "a wrong PIN was entered since the last success", "the next locks" and "locked"."""
    low, final, is_locked = flags
    if locked:
        return is_locked | low
    return (low if left < allowed else 0) | (final if left == 1 else 0)
