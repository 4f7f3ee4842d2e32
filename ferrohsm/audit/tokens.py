"""What the core records about a token, and about what concerns none."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.audit import events
from ferrohsm.audit.events import NOBODY, NONE, USES
from ferrohsm.errors import DeviceError, HsmError
from ferrohsm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferrohsm.adapters import Attributes
    from ferrohsm.audit.ring import Carrier
    from ferrohsm.audit.trail import Trail
    from ferrohsm.config import Config, SlotSection
    from ferrohsm.entries import Entry
    from ferrohsm.sessions import Session
    from ferrohsm.tokens import Token

REFUSALS = frozenset(
    (
        ck.CKR_ACTION_PROHIBITED,
        ck.CKR_ATTRIBUTE_READ_ONLY,
        ck.CKR_ATTRIBUTE_SENSITIVE,
        ck.CKR_FUNCTION_REJECTED,
        ck.CKR_INFORMATION_SENSITIVE,
        ck.CKR_KEY_EXHAUSTED,
        ck.CKR_KEY_FUNCTION_NOT_PERMITTED,
        ck.CKR_KEY_INDIGESTIBLE,
        ck.CKR_KEY_NOT_WRAPPABLE,
        ck.CKR_KEY_TYPE_INCONSISTENT,
        ck.CKR_KEY_UNEXTRACTABLE,
        ck.CKR_MECHANISM_INVALID,
        ck.CKR_SESSION_READ_ONLY,
        ck.CKR_TOKEN_WRITE_PROTECTED,
        ck.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT,
        ck.CKR_USER_NOT_LOGGED_IN,
        ck.CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
    )
)
"""What a caller gets when a rule forbids what it asked for."""

ADAPTER_ERRORS = frozenset(
    (
        ck.CKR_DEVICE_ERROR,
        ck.CKR_DEVICE_MEMORY,
        ck.CKR_DEVICE_REMOVED,
        ck.CKR_FUNCTION_FAILED,
        ck.CKR_GENERAL_ERROR,
        ck.CKR_HOST_MEMORY,
    )
)
"""What an adapter's failure is called; the vendors' own values beside."""


def kind_of(error: BaseException) -> int | None:
    """Return the event that an error is by itself; None for one that says something about the request."""
    if not isinstance(error, HsmError):
        return events.UNEXPECTED
    if error.rv in REFUSALS:
        return events.REFUSED
    if error.rv in ADAPTER_ERRORS or error.rv >= ck.CKR_VENDOR_DEFINED:
        return events.ADAPTER_ERROR
    return None


def result_of(error: BaseException) -> int:
    """Return the ``CKR_*`` that the caller gets."""
    return error.rv if isinstance(error, HsmError) else ck.CKR_FUNCTION_FAILED


def unique_id(attributes: Attributes) -> bytes:
    """Return an object's ``CKA_UNIQUE_ID``, empty when it has none."""
    value = attributes.get(ck.CKA_UNIQUE_ID)
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


class TokenAudit:
    """The audit of one token; `SILENT` where there is none."""

    __slots__ = ("_known", "_process", "_sampled", "_section", "_token")

    def __init__(self, process: Audit | None, token: Token | None, section: SlotSection | None) -> None:
        self._process = process
        self._token = token
        self._section = section
        self._sampled = 0
        self._known: tuple[object, tuple[Trail, bytes, int]] | None = None

    def _place(self) -> tuple[Trail, bytes, int] | None:
        """Return the trail, the chain's name and the slot; None when nothing is recorded."""
        if self._process is None:
            return None
        if self._token is None or self._section is None:
            return self._process.place(None, None, NONE)
        store: Any = self._token.slot.store
        known = self._known
        if known is not None and known[0] is store:
            return known[1]
        place = self._process.place(store, self._section, self._token.id)
        if place is not None:
            self._known = store, place
        return place

    def ready(self) -> None:
        """Raise ``DeviceError`` when what is about to happen could not be recorded."""
        place = self._place()
        if place is not None:
            place[0].ready()

    def note(self, event: int, session: int = 0, **facts: Any) -> None:
        """Record that something happened; `facts` are those of `ferrohsm.audit.events.pack`."""
        place = self._place()
        if place is None:
            return
        trail, name, slot = place
        if "user" not in facts:
            login = None if self._token is None else self._token.login_state
            facts["user"] = NOBODY if login is None else login
        trail.put(events.pack(event, name, slot, session=session, **facts))

    def tell(self, event: int, session: int = 0, **facts: Any) -> None:
        """Record what happened and cannot be refused: an end. The trail says in the log when it cannot."""
        try:
            self.note(event, session, **facts)
        except HsmError:
            pass

    def tell_known(self, session: Session, attributes: Attributes) -> None:
        """Record the identity of an object whose making was recorded, or counted, before it had one."""
        try:
            self.made(session, attributes, before=True)
        except HsmError:
            pass

    def made(self, session: Session, attributes: Attributes, *, before: bool = False) -> None:
        """Record an object that came to be, now or `before`."""
        mechanism = NONE
        generated = attributes.get(ck.CKA_KEY_GEN_MECHANISM)
        if isinstance(generated, bytes) and attributes.get(ck.CKA_LOCAL) == b"\1":
            mechanism = int.from_bytes(generated, "little")
        kind = attributes.get(ck.CKA_CLASS)
        name = ck.name("CKO", int.from_bytes(kind, "little")) if isinstance(kind, bytes) else ""
        where = "token" if attributes.get(ck.CKA_TOKEN) == b"\1" else "session"
        self.note(
            events.CREATE,
            session.handle,
            object=unique_id(attributes),
            mechanism=mechanism,
            detail=f"{name} on {where}" + (", made before" if before else ""),
        )

    def failed(self, error: BaseException, session: int, name: str, event: int = 0, **facts: Any) -> None:
        """Record an error that a call ended with, once; one that only speaks of the request is not recorded.

        `event` is the use of a key that the call was: then every error is recorded. What cannot be recorded
        here is no reason to hide the error itself.
        """
        if self._process is None or getattr(error, "audited", False):
            return
        kind = kind_of(error) or event
        if not kind:
            return
        detail = name
        if kind == events.UNEXPECTED:
            detail = f"{name} {type(error).__name__} {_place_of(error)}"
        try:
            self.note(kind, session, result=result_of(error), detail=detail, **facts)
            error.audited = True  # type: ignore[attr-defined]
        except Exception:  # noqa: S110 - the trail has said in the log what is wrong with it
            pass

    # The uses of keys

    def counts(self) -> bool:
        """Say whether this use of a key is one that is recorded."""
        process = self._process
        if process is None or process.settings.key_use == "off":
            return False
        if process.settings.key_use != "sampled":
            return True
        self._sampled += 1
        return self._sampled % process.settings.sample == 1

    def used(
        self, event: int, session: int, key: bytes, mechanism: int, result: int = ck.CKR_OK, detail: str = ""
    ) -> None:
        """Record a use of a key, or one of so many; one that failed always."""
        if not self.counts() and (result == ck.CKR_OK or not self._uses()):
            return
        process = self._process
        assert process is not None
        weight = process.settings.sample if process.settings.key_use == "sampled" else 1
        self.note(
            event, session, object=key, mechanism=mechanism, result=result, detail=detail, weight=weight
        )

    def _uses(self) -> bool:
        return self._process is not None and self._process.settings.key_use != "off"

    def use(self, session: Session, function: int, mechanism: int, entry: Entry) -> KeyUse | None:
        """Return what records an operation with a key; None when uses are not recorded."""
        self.ready()
        if not self._uses() or function not in USES:
            return None
        return KeyUse(self, USES[function], session.handle, mechanism, unique_id(entry.attributes))

    def carried(self) -> tuple[Carrier, bytes] | None:
        """Return what records uses without Python, and the chain's name; None when nothing does."""
        place = self._place()
        ring = None if place is None else place[0].ring
        if place is None or ring is None or ring.carrier is None:
            return None
        return ring.carrier, place[1]

    @property
    def off(self) -> bool:
        """Whether nothing at all is recorded, also not when what keeps it from being recorded is over."""
        return self._process is None or self._place() is None

    @property
    def silent(self) -> bool:
        """Whether the uses of keys are not recorded."""
        return not self._uses() or self.off


class KeyUse:
    """An operation with a key, as it is recorded."""

    __slots__ = ("_audit", "event", "key", "mechanism", "session", "started")

    def __init__(self, audit: TokenAudit, event: int, session: int, mechanism: int, key: bytes) -> None:
        self._audit = audit
        self.event = event
        self.session = session
        self.mechanism = mechanism
        self.key = key
        self.started = False

    def copy(self) -> KeyUse:
        """Return the same for a second operation."""
        copy = KeyUse(self._audit, self.event, self.session, self.mechanism, self.key)
        copy.started = self.started
        return copy

    def ended(self, result: object = None) -> None:
        """Record the whole operation or its end; a `result` that cannot be recorded is wiped."""
        self._record(events.LAST_PART if self.started else "", result)
        self.started = False

    def part(self, result: object) -> None:
        """Record that a first part is about to be given out."""
        if not self.started:
            self._record(events.PART, result)
            self.started = True

    def _record(self, detail: str, result: object) -> None:
        try:
            self._audit.used(self.event, self.session, self.key, self.mechanism, ck.CKR_OK, detail)
        except BaseException:
            for part in result if isinstance(result, tuple) else (result,):
                if isinstance(part, bytearray):
                    part[:] = bytes(len(part))
            raise

    def failed(self, error: BaseException) -> None:
        """Record that the operation failed or was refused."""
        if kind_of(error) is not None:
            self._audit.failed(
                error, self.session, events.NAMES[self.event], object=self.key, mechanism=self.mechanism
            )
        elif not getattr(error, "audited", False):
            self._audit.used(self.event, self.session, self.key, self.mechanism, result_of(error))


SILENT = TokenAudit(None, None, None)


class Audit:
    """The audit of a process: a trail for each directory that its slots' events go to."""

    def __init__(self, config: Config) -> None:
        self.settings = config.audit
        self.make_carrier: Callable[..., Carrier] | None = None
        self.threads = True
        self.module = TokenAudit(self, None, None) if self.settings.enabled else SILENT
        self._config = config
        self._trails: dict[str, Trail] = {}

    def of(self, token: Token, section: SlotSection) -> TokenAudit:
        """Return the audit of a token."""
        return TokenAudit(self, token, section) if self.settings.enabled else SILENT

    def place(self, store: Any, section: SlotSection | None, slot: int) -> tuple[Trail, bytes, int] | None:
        """Return where the events of a slot go: the trail, the chain's name, the slot.

        Raises ``DeviceError`` when there is no place for them and nothing must happen unrecorded.
        """
        from ferrohsm.audit import places

        data_dir, name = self._config.data_dir, places.MODULE
        kept = getattr(store, "audit_name", None)
        if kept is not None:
            data_dir, name = kept()
        elif section is not None:
            name = places.chain_name(section.name, slot)
        root = places.root_of(self._config, data_dir)
        if root is None:
            # A configuration that was made in code, not loaded, has no place and no problem with that.
            if self.settings.on_failure == "open" or self._config.data_problem is None:
                return None
            raise DeviceError(f"there is no place for the audit: {self._config.data_problem}")
        trail = self._trails.get(root)
        if trail is None:
            from ferrohsm.audit.trail import Trail

            made = Trail(self._config, root, self.make_carrier, self.threads)
            trail = self._trails.setdefault(root, made)
        if kept is not None:
            trail.attest(name, store)
        return trail, name.encode(), slot

    def stop(self) -> None:
        """Write what is left."""
        trails, self._trails = self._trails, {}
        for trail in trails.values():
            trail.stop()


def _place_of(error: BaseException) -> str:
    """Return where an error was raised: a file and a line."""
    step = error.__traceback__
    place = ""
    while step is not None:
        file = step.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
        place, step = f"{file}:{step.tb_lineno}", step.tb_next
    return place
