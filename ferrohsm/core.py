"""The core: one method for each thing that a caller can ask, each delegating to the room it belongs to.

The ABI, the command and the tests speak to this class only. All coroutines may be stepped
(`ferrohsm.runtime.step`) when the slot is inline; those of any other slot run on the core's `runtime`.
`start`, `slots` and `stop` concern all slots and may always be stepped.
"""

from __future__ import annotations

from ferrohsm import beginning, keys, log
from ferrohsm import constants as ck
from ferrohsm.adapters import Template, Value
from ferrohsm.audit import events
from ferrohsm.audit.hooks import recorded
from ferrohsm.audit.tokens import Audit
from ferrohsm.errors import DeviceRemoved, MechanismInvalid, OperationNotInitialized, TokenNotPresent
from ferrohsm.objects import INVALID, SENSITIVE, Hidden
from ferrohsm.operations import BoundOperation
from ferrohsm.references import give_back
from ferrohsm.runtime import Runtime
from ferrohsm.searching import Cursor
from ferrohsm.sessions import Session
from ferrohsm.slots import Slots, quietly
from ferrohsm.tokens import Token, TokenInfo
from ferrohsm.typed import TYPE_CHECKING, Any, Coroutine, TypeVar
from ferrohsm.views import SlotView

if TYPE_CHECKING:
    from ferrohsm.adapters import Attributes, Operation
    from ferrohsm.background import Workers
    from ferrohsm.config import Config
    from ferrohsm.derived_keys import FurtherKeys
    from ferrohsm.key_material import KeyMaterial
    from ferrohsm.loops import LoopThread
    from ferrohsm.messages import BoundMessages
    from ferrohsm.parameters import Mechanism
    from ferrohsm.recipes import Recipe
    from ferrohsm.registry import Member
    from ferrohsm.saved import Part
    from ferrohsm.signed_messages import BoundSignatures

__all__ = [
    "INVALID",
    "SENSITIVE",
    "BoundOperation",
    "Core",
    "Cursor",
    "Hidden",
    "Session",
    "SlotView",
    "TokenInfo",
]

T = TypeVar("T")


class Core:
    """Everything behind the C interface of one process (one ``C_Initialize`` to ``C_Finalize``)."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.runtime = Runtime()
        self._workers: Workers | None = None
        self.audit = Audit(config)
        self._slots = Slots(config, self.runtime, self.audit)

    async def start(self) -> None:
        """Load the adapters and open those that are inline; the others begin to open on loops of their own.

        One that cannot be opened leaves an empty slot and a line in the log.
        """
        log.configure(self.config.log)
        if self.config.data_dir is None and self.config.data_problem:
            log.event("warning", "there is no place for tokens", why=self.config.data_problem)
        await self._slots.open()

    def set_going(self) -> None:
        """Start the threads that dispatched adapters need, which do the rest without the caller."""
        self._slots.set_going()

    async def stop(self) -> None:
        """Log out everywhere, wipe, close. A failure of one adapter does not keep the others from it."""
        if self._workers is not None:
            self._workers.stop()
        await self._slots.close()
        self.audit.stop()
        log.close()

    @property
    def asynchronous(self) -> bool:
        """Whether calls may go on after they have returned (``CKF_ASYNC_SESSION``)."""
        return self.runtime.allowed

    @property
    def workers(self) -> Workers:
        """The threads for what inline slots take long for."""
        if self._workers is None:
            from ferrohsm.background import Workers

            self._workers = Workers(self.runtime)
        return self._workers

    # Slots and tokens

    @property
    def members(self) -> list[Member]:
        """The adapters of the configured slots."""
        return self._slots.members

    @property
    def stale(self) -> bool:
        """Whether a dispatched adapter's slots have changed since `slots` looked at them."""
        return self._slots.stale

    @property
    def opening(self) -> bool:
        """Whether there are dispatched adapters, whose slots are known when somebody has asked for them."""
        return self._slots.opening

    async def slots(self, look: bool = True) -> list[SlotView]:
        """Look at the slots anew and return them, free ones last (``C_GetSlotList``).

        A dispatched adapter that does not answer soon is shown as it was last seen, and none is asked without
        `look`.
        """
        return await self._slots.look(look)

    def loop(self, slot_id: int) -> LoopThread:
        """Return the loop on which the coroutines of a slot that is not inline run.

        Raises `TokenNotPresent` when its adapter is away.
        """
        return self._slots.loop(slot_id)

    def run(self, slot_id: int, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a call about a slot to its end, wherever it has to run."""
        return self._slots.run(slot_id, coroutine)

    def token(self, slot_id: int) -> Token:
        """Return the token of a slot. Raises `SlotIdInvalid`, `TokenNotPresent`."""
        return self._slots.token(slot_id)

    def inline(self, slot_id: int) -> bool:
        """Say whether the slot's coroutines may be stepped on the caller's thread."""
        return self._slots.inline(slot_id)

    def behind(self, slot_id: int) -> tuple[object, object | None, memoryview | None]:
        """Return what decisions are remembered by: token, signer's kernel, store's generation."""
        token = self.token(slot_id)
        kernel = getattr(token.signer, "kernel", None)
        words = getattr(token.slot.store, "generation_words", None)
        return token, kernel and kernel(), words and words()

    def look(self, slot_id: int) -> None:
        """Have the slot's store notice what nothing in shared memory tells."""
        look = getattr(self.token(slot_id).slot.store, "look", None)
        if look is not None:
            look()

    def finder(self, slot_id: int) -> object | None:
        """Return what finds all the slot's objects by name without Python, None while nothing does.

        A store does not know session objects.
        """
        token = self.token(slot_id)
        finder = getattr(token.slot.store, "finder", None)
        return None if finder is None or token.objects.has_session_objects() else finder()

    async def token_info(self, slot_id: int) -> TokenInfo:
        """Describe the token (``C_GetTokenInfo``)."""
        info = await self.token(slot_id).info()
        if self.asynchronous:
            info.flags |= ck.CKF_ASYNC_SESSION_SUPPORTED
        return info

    async def mechanism_list(self, slot_id: int) -> list[int]:
        """Return the mechanisms that the slot offers (``C_GetMechanismList``)."""
        return sorted(self._present(slot_id).mechanisms())

    async def mechanism_info(self, slot_id: int, type: int) -> tuple[int, int, int]:
        """Return smallest and largest key size and the flags (``C_GetMechanismInfo``)."""
        info = self._present(slot_id).mechanisms().get(type)
        if info is None:
            raise MechanismInvalid()
        return info

    def _present(self, slot_id: int) -> Token:
        token = self.token(slot_id)
        if not token.present:
            raise TokenNotPresent()
        return token

    async def init_token(self, slot_id: int, pin: bytearray, label: str) -> None:
        """Initialize a token (``C_InitToken``); that no session is open is the caller's to check."""
        await self.token(slot_id).initialize(pin, label)

    # Sessions and logins

    def open_session(self, slot_id: int, handle: int, read_write: bool) -> Session:
        """Make the core's side of a session (``C_OpenSession``)."""
        token = self._present(slot_id)
        # Two threads may come with the first call of one session.
        return token.sessions.setdefault(handle, Session(token, handle, read_write))

    async def close_session(self, session: Session) -> None:
        """Destroy the session's objects (``C_CloseSession``)."""
        await session.token.end_session(session)

    def drop_session(self, session: Session) -> None:
        """Do the same for a session with a dispatched adapter, which hears of it when it can."""
        token = session.token
        references = token.drop_session(session)
        if references and token.loop is not None and not token.loop.abandoned:
            token.loop.submit(quietly(give_back(token, references)), limited=False)

    async def login(
        self, session: Session, user_type: int, pin: bytearray, username: str | None = None
    ) -> None:
        """Log in (``C_Login``, ``C_LoginUser``); a token has one user, so a name is not looked at."""
        self._check_there(session)
        if user_type == ck.CKU_CONTEXT_SPECIFIC:
            raise OperationNotInitialized()
        await session.token.login(session, user_type, pin)

    async def check_pin(
        self, session: Session, pin: bytearray, operation: BoundOperation | None = None
    ) -> None:
        """Check the PIN of the one who is logged in (``C_Login`` with ``CKU_CONTEXT_SPECIFIC``)."""
        self._check_there(session)
        await session.token.check_pin(pin, operation)

    async def logout(self, slot_id: int) -> None:
        """Log out (``C_Logout``)."""
        await self.token(slot_id).logout()

    async def init_pin(self, session: Session, pin: bytearray) -> None:
        """Set the user's PIN (``C_InitPIN``)."""
        self._check_there(session)
        await session.token.init_pin(session, pin)

    async def set_pin(self, session: Session, old: bytearray, new: bytearray) -> None:
        """Change a PIN (``C_SetPIN``)."""
        self._check_there(session)
        await session.token.set_pin(session, old, new)

    def login_state(self, slot_id: int) -> int | None:
        """Return ``CKU_SO``, ``CKU_USER`` or None."""
        token = self._slots.known(slot_id)
        return None if token is None else token.login_state

    async def followed_login(self, slot_id: int) -> int | None:
        """Return `login_state` after a look at whether another process has made the token anew."""
        token = self._slots.known(slot_id)
        if token is None:
            return None
        await token.follow_login()
        return token.login_state

    def login_epoch(self, slot_id: int) -> int:
        """Return a number that moves whenever what may be seen changes (login, logout, new token)."""
        token = self._slots.known(slot_id)
        return -1 if token is None else token.epoch

    def record_failure(self, slot_id: int | None, session: int, error: BaseException) -> None:
        """Record an error that a call ends with, if it is one that the audit has and was not recorded yet."""
        token = None if slot_id is None else self._slots.known(slot_id)
        audit = self.audit.module if token is None else token.audit
        audit.failed(error, session, "call")

    def record_ends(self, slot_id: int, count: int) -> None:
        """Record that private session objects that only the kernel knows have ended with their login."""
        token = self._slots.known(slot_id)
        if token is not None:
            token.ended_with_login(count, ck.CKU_USER)

    def _check_there(self, session: Session) -> None:
        """Raise `DeviceRemoved` when the session's token was taken out of its slot."""
        if self._slots.known(session.token.id) is not session.token:
            raise DeviceRemoved()

    # Objects

    @recorded()
    async def create_object(self, session: Session, template: Template) -> int:
        """``C_CreateObject``."""
        self._check_there(session)
        return await keys.create_object(session, template)

    @recorded()
    async def copy_object(self, session: Session, oid: int, template: Template) -> int:
        """``C_CopyObject``."""
        self._check_there(session)
        return await keys.copy_object(session, oid, template)

    @recorded()
    async def destroy_object(self, session: Session, oid: int) -> None:
        """``C_DestroyObject``."""
        self._check_there(session)
        await keys.destroy_object(session, oid)

    async def object_size(self, session: Session, oid: int) -> int:
        """``C_GetObjectSize``, in bytes."""
        self._check_there(session)
        return await session.token.objects.size(oid)

    async def is_private(self, session: Session, oid: int) -> bool:
        """Say whether an object is private: its handles die at logout, even if it is seen again later."""
        self._check_there(session)
        entry = await session.token.objects.hold(oid)
        try:
            return entry.private
        finally:
            entry.release()

    async def get_attributes(self, session: Session, oid: int, types: list[int]) -> list[Value | Hidden]:
        """``C_GetAttributeValue``: a value for each type, or `SENSITIVE` or `INVALID`."""
        self._check_there(session)
        return await session.token.objects.reveal(oid, types)

    async def show_attributes(
        self, session: Session, oid: int, types: list[int]
    ) -> tuple[list[Value | Hidden], bool | None]:
        """Return what `get_attributes` does, and whether others may change it; None: it may not be kept."""
        self._check_there(session)
        return await session.token.objects.show(oid, types)

    @recorded()
    async def set_attributes(self, session: Session, oid: int, template: Template) -> None:
        """``C_SetAttributeValue``."""
        self._check_there(session)
        await keys.set_attributes(session, oid, template)

    async def find(self, session: Session, template: Template) -> Cursor:
        """``C_FindObjectsInit``; the cursor gives the objects."""
        self._check_there(session)
        return session.token.objects.find(template)

    async def find_few(self, session: Session, template: Template, most: int) -> list[int] | Cursor:
        """Return all that a search finds if that is at most `most` objects, else do what `find` does."""
        self._check_there(session)
        objects = session.token.objects
        found = await objects.find_few(template, most)
        return objects.find(template) if found is None else found

    # Keys

    @recorded()
    async def generate_key(self, session: Session, mechanism: Mechanism, template: Template) -> int:
        """``C_GenerateKey``."""
        self._check_there(session)
        return await keys.generate_key(session, mechanism, template)

    @recorded()
    async def generate_key_pair(
        self, session: Session, mechanism: Mechanism, public: Template, private: Template
    ) -> tuple[int, int]:
        """``C_GenerateKeyPair``: the public and the private key."""
        self._check_there(session)
        return await keys.generate_key_pair(session, mechanism, public, private)

    async def recipe(
        self,
        session: Session,
        function: int,
        mechanism: Mechanism | None,
        oid: int | None,
        templates: list[Template],
    ) -> Recipe | None:
        """Return how what was just made can be made again without asking, None when it cannot."""
        from ferrohsm import recipes

        self._check_there(session)
        return await recipes.recipe(session, function, mechanism, oid, templates)

    async def bring_in(
        self, session: Session, known: Recipe, half: int, oid: int, public: Attributes, secret: Attributes
    ) -> None:
        """Make an object of what the kernel has made by a recipe."""
        from ferrohsm import recipes

        self._check_there(session)
        await recipes.bring_in(session, known, half, oid, public, secret)

    @recorded(events.WRAP)
    async def wrap_key(
        self, session: Session, mechanism: Mechanism, wrapping_oid: int, oid: int, limit: int | None
    ) -> bytes:
        """``C_WrapKey``; `limit` is the room in bytes, None when there is enough."""
        self._check_there(session)
        return await keys.wrap_key(session, mechanism, wrapping_oid, oid, limit)

    @recorded(name="wrap_key")
    async def wrap_length(self, session: Session, mechanism: Mechanism, wrapping_oid: int, oid: int) -> int:
        """Return the bytes that `wrap_key` would give."""
        self._check_there(session)
        return await keys.wrap_length(session, mechanism, wrapping_oid, oid)

    @recorded(events.UNWRAP)
    async def unwrap_key(
        self,
        session: Session,
        mechanism: Mechanism,
        unwrapping_oid: int,
        wrapped: memoryview,
        template: Template,
    ) -> int:
        """``C_UnwrapKey``."""
        self._check_there(session)
        return await keys.unwrap_key(session, mechanism, unwrapping_oid, wrapped, template)

    @recorded(name="wrap_authenticated")
    async def authenticated_length(
        self, session: Session, mechanism: Mechanism, wrapping_oid: int, oid: int
    ) -> int:
        """Return the bytes of the wrapped key that `wrap_authenticated` would give."""
        from ferrohsm import authenticated_wrapping as wrapping

        self._check_there(session)
        return await wrapping.authenticated_length(session, mechanism, wrapping_oid, oid)

    @recorded(events.WRAP)
    async def wrap_authenticated(
        self,
        session: Session,
        mechanism: Mechanism,
        keys: tuple[int, int],
        associated: memoryview,
        limit: int,
    ) -> tuple[bytes, bytes, bytes]:
        """``C_WrapKeyAuthenticated``: vector, wrapped key (room for `limit` bytes) and tag."""
        from ferrohsm import authenticated_wrapping as wrapping

        self._check_there(session)
        return await wrapping.wrap_authenticated(session, mechanism, keys, associated, limit)

    @recorded(events.UNWRAP)
    async def unwrap_authenticated(
        self,
        session: Session,
        mechanism: Mechanism,
        unwrapping_oid: int,
        wrapped: tuple[memoryview, bytes, memoryview],
        template: Template,
    ) -> int:
        """``C_UnwrapKeyAuthenticated``; `wrapped` is data, tag and associated data."""
        from ferrohsm import authenticated_wrapping as wrapping

        self._check_there(session)
        return await wrapping.unwrap_authenticated(session, mechanism, unwrapping_oid, wrapped, template)

    @recorded(events.DERIVE)
    async def derive_key(
        self, session: Session, mechanism: Mechanism, base_oid: int, template: Template
    ) -> int:
        """``C_DeriveKey``."""
        self._check_there(session)
        return await keys.derive_key(session, mechanism, base_oid, template)

    @recorded(events.DERIVE)
    async def derive_key_material(
        self, session: Session, mechanism: Mechanism, base_oid: int, template: Template
    ) -> KeyMaterial:
        """``C_DeriveKey`` with a mechanism that makes all keys of a TLS connection."""
        from ferrohsm import key_material

        self._check_there(session)
        return await key_material.derive_key_material(session, mechanism, base_oid, template)

    @recorded(events.DERIVE, name="derive_key")
    async def derive_several(
        self,
        session: Session,
        mechanism: Mechanism,
        base_oid: int,
        template: Template,
        further: FurtherKeys,
    ) -> tuple[int, ...]:
        """``C_DeriveKey`` with a parameter that asks for further keys: the key of `template` and those."""
        from ferrohsm import derived_keys

        self._check_there(session)
        return await derived_keys.derive_several(session, mechanism, base_oid, template, further)

    @recorded(name="encapsulate_key")
    async def encapsulated_length(self, session: Session, mechanism: Mechanism, public_oid: int) -> int:
        """Return the bytes of the ciphertext that `encapsulate_key` would give."""
        from ferrohsm import encapsulation

        self._check_there(session)
        return await encapsulation.encapsulated_length(session, mechanism, public_oid)

    @recorded(events.ENCAPSULATE)
    async def encapsulate_key(
        self, session: Session, mechanism: Mechanism, public_oid: int, template: Template, limit: int
    ) -> tuple[bytes, int]:
        """``C_EncapsulateKey``: the ciphertext, for which there is room for `limit` bytes, and the key."""
        from ferrohsm import encapsulation

        self._check_there(session)
        return await encapsulation.encapsulate_key(session, mechanism, public_oid, template, limit)

    @recorded(events.DECAPSULATE)
    async def decapsulate_key(
        self,
        session: Session,
        mechanism: Mechanism,
        private_oid: int,
        template: Template,
        ciphertext: memoryview,
    ) -> int:
        """``C_DecapsulateKey``."""
        from ferrohsm import encapsulation

        self._check_there(session)
        return await encapsulation.decapsulate_key(session, mechanism, private_oid, template, ciphertext)

    # Operations

    @recorded(ready=False)
    async def begin(
        self, session: Session, function: int, mechanism: Mechanism, oid: int | None
    ) -> BoundOperation:
        """Start an operation (``C_SignInit`` and its like); `function` is one of `Function`'s flags."""
        self._check_there(session)
        return await beginning.begin(session, function, mechanism, oid)

    @recorded(ready=False)
    async def begin_messages(
        self, session: Session, function: int, mechanism: Mechanism, oid: int
    ) -> BoundMessages:
        """``C_MessageEncryptInit`` and ``C_MessageDecryptInit``; `function` is the flag of either."""
        self._check_there(session)
        return await beginning.begin_messages(session, function, mechanism, oid)

    @recorded(ready=False)
    async def begin_signatures(
        self, session: Session, function: int, mechanism: Mechanism, oid: int
    ) -> BoundSignatures:
        """``C_MessageSignInit`` and ``C_MessageVerifyInit``; `function` is the flag of either."""
        self._check_there(session)
        return await beginning.begin_signatures(session, function, mechanism, oid)

    @recorded(events.DIGEST_KEY)
    async def digest_key(self, session: Session, operation: BoundOperation, oid: int) -> None:
        """Feed a secret key's value into a digest (``C_DigestKey``)."""
        self._check_there(session)
        await beginning.digest_key(session, operation, oid)

    async def bind(
        self, session: Session, operation: Operation, oid: int | None, function: int, mechanism: int
    ) -> BoundOperation:
        """Return an operation that a kernel has begun as one of the core's."""
        return await beginning.bind(session, operation, oid, function, mechanism)

    async def save_state(self, session: Session, state: int, parts: list[Part]) -> bytes:
        """``C_GetOperationState``; `state` is the session's ``CKS_*``, `parts` are taken over."""
        self._check_there(session)
        return session.token.saved.keep(state, parts)

    async def restore_state(
        self, session: Session, saved: bytes, state: int, keys: tuple[int | None, int | None]
    ) -> list[Part]:
        """``C_SetOperationState``; see `ferrohsm.saved.SavedStates.restore`."""
        self._check_there(session)
        return session.token.saved.restore(saved, state, keys)

    async def random(self, slot_id: int, n: int) -> bytes:
        """``C_GenerateRandom``."""
        return await self._present(slot_id).signer.random(n)

    async def seed_random(self, slot_id: int, data: memoryview) -> None:
        """``C_SeedRandom``."""
        await self._present(slot_id).signer.seed(data)
