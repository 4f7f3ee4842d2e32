"""The object registry of a token: session objects, and token objects as far as they are in use."""

from __future__ import annotations

import itertools
import os
from _thread import allocate_lock

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.adapters import (
    CKA_REFERENCE,
    Attributes,
    ExchangingKeyStore,
    HardwareKeyStore,
    Template,
    Value,
)
from ferrohsm.attribute_kinds import TRUE, number
from ferrohsm.attributes import is_hidden, matches, search_form, sensitive_types
from ferrohsm.audit.tokens import unique_id
from ferrohsm.built_in import built_in_objects
from ferrohsm.ec_encoding import normal_parameters, normal_point
from ferrohsm.entries import Entry, copied, wipe
from ferrohsm.errors import HsmError, ObjectHandleInvalid, SessionClosed, UserNotLoggedIn
from ferrohsm.references import change as change_in_device
from ferrohsm.references import give_back, of_session_objects, reference_of
from ferrohsm.searching import Cursor, asked
from ferrohsm.session_objects import SessionObjects
from ferrohsm.shapes import secrets_in
from ferrohsm.turns import Turn
from ferrohsm.typed import TYPE_CHECKING, Iterable, cast

if TYPE_CHECKING:
    from ferrohsm.sessions import Session
    from ferrohsm.tokens import Token

# Token objects that are kept unsealed at the same time. Whatever falls out is wiped and read again.
CACHE_LIMIT = 512
# Session objects count down from -1, over all tokens of the process; none is used twice.
_identities = itertools.count(-1, -1)


class ObjectRegistry:
    """The objects of one token, as one process sees them."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._lock = allocate_lock()
        self._session_objects = SessionObjects()
        self._cache: dict[int, Entry] = {}  # oldest first
        self._built_in: dict[int, Entry] | None = None
        self._built_in_by_class: dict[int, list[Entry]] = {}
        self._built_in_types: set[int] = set()
        self.changing = Turn(inline=token.inline)

    @property
    def _store(self) -> HardwareKeyStore:
        return self._token.store

    def built_in(self) -> dict[int, Entry]:
        """Return the objects that the token has of itself: profiles, mechanisms, the clock."""
        with self._lock:
            if self._built_in is None:
                entries = [cls(next(_identities), made) for cls, made in built_in_objects(self._token)]
                for entry in entries:
                    object_class = number(entry.attributes[ck.CKA_CLASS])
                    self._built_in_by_class.setdefault(object_class, []).append(entry)
                    self._built_in_types.update(entry.attributes)
                self._built_in = {entry.oid: entry for entry in entries}
            return self._built_in

    # Reading

    async def hold(self, oid: int, error: type[HsmError] = ObjectHandleInvalid) -> Entry:
        """Return the object, held: the caller must `release` it.

        Raises `error` when there is no such object or the login state hides it.
        """
        try:
            entry = self._hold_here(oid) if oid < 0 else await self._hold_stored(oid)
        except ObjectHandleInvalid:
            raise error() from None
        if entry.private and not self._token.user_logged_in:
            entry.release()
            raise error()
        return entry

    def _hold_here(self, oid: int) -> Entry:
        while True:
            entry = self._session_objects.get(oid) or self.built_in().get(oid)
            if entry is None:
                raise ObjectHandleInvalid()
            if entry.hold():
                return entry
            if entry.gone:
                raise ObjectHandleInvalid()
            # Another thread has just put a changed one in its place.

    async def _hold_stored(self, oid: int) -> Entry:
        epoch, generation = self._token.epoch, self._store.generation()
        entry = self._cache.get(oid)
        if entry is not None and entry.generation == generation and entry.hold():
            return entry
        try:
            attributes = await self._store.read(oid)
        except (ObjectHandleInvalid, UserNotLoggedIn):
            self._drop(oid, gone=True)
            raise ObjectHandleInvalid() from None
        return self._remember(oid, attributes, generation, epoch)

    def _remember(self, oid: int, attributes: Attributes, generation: int, epoch: int) -> Entry:
        """Put what was read into the cache and return it, held."""
        entry = Entry(oid, attributes, generation)
        entry.hold()
        retired: list[Entry] = []
        with self._lock:
            if entry.private and (epoch != self._token.epoch or not self._token.user_logged_in):
                kept = False  # somebody logged out meanwhile: it must not stay behind
            else:
                old = self._cache.pop(oid, None)
                if old is not None and old.attributes == attributes and old.hold():
                    # Something else on the token changed; what engines remember about this key stays.
                    old.generation = generation
                    self._cache[oid] = old
                    wipe(attributes)
                    return old
                self._cache[oid] = entry
                kept = True
                if old is not None:
                    retired.append(old)
                while len(self._cache) > CACHE_LIMIT:
                    retired.append(self._cache.pop(next(iter(self._cache))))
        for other in retired:
            other.retire(gone=False)
        if not kept:
            entry.retire(gone=True)
            entry.release()
            raise ObjectHandleInvalid()
        return entry

    def _drop(self, oid: int, *, gone: bool) -> None:
        with self._lock:
            entry = self._cache.pop(oid, None)
        if entry is not None:
            entry.retire(gone=gone)

    async def reveal(self, oid: int, types: list[int]) -> list[Value | Hidden]:
        """Return the values that may be seen (``C_GetAttributeValue``).

        A `bytearray` is a copy of a secret and the caller's to wipe.
        """
        return (await self.show(oid, types))[0]

    async def show(self, oid: int, types: list[int]) -> tuple[list[Value | Hidden], bool | None]:
        """Return what `reveal` does, and whether other processes may change it.

        None for what the token has of itself, the clock's value is another at each look, and for a key
        whose counter moves when it is used.
        """
        entry = await self.hold(oid)
        try:
            attributes = entry.attributes
            values = [self._reveal(entry, attributes, attribute) for attribute in types]
            lasting = ck.CKA_TOKEN in attributes and ck.CKA_OTP_COUNTER not in attributes
            return values, entry.oid > 0 if lasting else None
        finally:
            entry.release()

    def _reveal(self, entry: Entry, attributes: Attributes, attribute: int) -> Value | Hidden:
        if is_hidden(attributes, entry.rules, attribute):
            return SENSITIVE
        value = attributes.get(attribute)
        if value is None or attribute == CKA_REFERENCE:
            return INVALID
        if attribute == ck.CKA_EC_POINT:
            return self._token.presented_point(attributes)
        return bytearray(value) if isinstance(value, bytearray) else value

    async def size(self, oid: int) -> int:
        """Return the bytes of all attributes: a measure, not a promise."""
        entry = await self.hold(oid)
        try:
            return sum(_size(value) + 16 for value in entry.attributes.values())
        finally:
            entry.release()

    # Writing

    async def add(self, session: Session, attributes: Attributes) -> int:
        """Make an object of these attributes, which the registry takes over, and return its identity.

        Whatever keeps it from being made releases the key that a device may have made for it.
        """
        references = [reference_of(attributes)]
        try:
            oid = await self._add(session, attributes)
        except BaseException:
            await give_back(self._token, references)
            raise
        await self._record(session, attributes, oid)
        return oid

    async def _record(self, session: Session, attributes: Attributes, *oids: int) -> None:
        """Record a new object; one that cannot be recorded is not left behind."""
        try:
            self._token.audit.made(session, attributes)
        except BaseException:
            for oid in oids:
                await self.take_back(oid)
            raise

    async def take_back(self, oid: int) -> None:
        """Destroy an object that was just made and is not to stay; its secrets are overwritten."""
        entry = await self.hold(oid)
        try:
            await self.remove(entry)
        finally:
            entry.release()

    def known_id(self, oid: int) -> bytes:
        """Return the ``CKA_UNIQUE_ID`` of an object that is in use, empty when it is not."""
        entry = self._session_objects.get(oid) if oid < 0 else self._cache.get(oid)
        return b"" if entry is None else unique_id(entry.attributes)

    async def _add(self, session: Session, attributes: Attributes) -> int:
        self._settle(attributes)
        if attributes.get(ck.CKA_TOKEN) == TRUE:
            try:
                return await self._store.create(attributes)
            finally:
                wipe(attributes)
        entry = Entry(next(_identities), attributes)
        try:
            self._admit(session, entry)
        except HsmError:
            entry.retire(gone=True)
            raise
        return entry.oid

    async def adopt(self, session: Session, oid: int, attributes: Attributes) -> None:
        """Take in a session object whose identity the ABI has given out already; twice is as good as once."""
        self._settle(attributes)
        entry = Entry(oid, attributes)
        try:
            self._admit(session, entry)
        except BaseException:
            entry.retire(gone=True)
            raise
        self._token.audit.tell_known(session, attributes)

    def has_session_objects(self) -> bool:
        """Say whether there is any session object, of whichever session."""
        return bool(self._session_objects)

    def is_here(self, oid: int) -> bool:
        """Say whether there is such a session object."""
        return oid in self._session_objects

    def _settle(self, attributes: Attributes) -> None:
        """Give a new object its identity, and its values the form in which they are kept."""
        if CKA_REFERENCE not in attributes or ck.CKA_UNIQUE_ID not in attributes:
            attributes[ck.CKA_UNIQUE_ID] = os.urandom(16).hex().encode()
        for attribute in secrets_in(attributes):
            value = attributes[attribute]
            if isinstance(value, bytes):
                attributes[attribute] = bytearray(value)
        if ck.CKA_EC_PARAMS in attributes:
            attributes[ck.CKA_EC_PARAMS] = normal_parameters(_plain(attributes[ck.CKA_EC_PARAMS]))
        if ck.CKA_EC_POINT in attributes:
            attributes[ck.CKA_EC_POINT] = normal_point(_plain(attributes[ck.CKA_EC_POINT]))

    def _admit(self, session: Session, entry: Entry) -> None:
        """Take in a session object, unless its reason to be has ended while it was made."""
        with self._lock:
            if self._token.sessions.get(session.handle) is not session:
                raise SessionClosed()
            if entry.private and not self._token.user_logged_in:
                raise UserNotLoggedIn()
            if self._session_objects.setdefault(entry.oid, entry) is not entry:
                entry.retire(gone=False)  # another thread was faster
            session.objects.add(entry.oid)

    async def add_pair(self, session: Session, public: Attributes, private: Attributes) -> tuple[int, int]:
        """Make both keys of a pair, or none."""
        together = getattr(self._store, "create_pair", None)
        if together is not None and public.get(ck.CKA_TOKEN) == private.get(ck.CKA_TOKEN) == TRUE:
            references = [reference_of(public), reference_of(private)]
            try:
                self._settle(public)
                self._settle(private)
                pair: tuple[int, int] = await together(public, private)
            except BaseException:
                await give_back(self._token, references)
                raise
            finally:
                wipe(public)
                wipe(private)
            await self._record(session, public, *pair)
            await self._record(session, private, *pair)
            return pair
        try:
            public_oid = await self.add(session, public)
        except BaseException:
            wipe(private)
            await give_back(self._token, [reference_of(private)])
            raise
        try:
            return public_oid, await self.add(session, private)
        except BaseException:
            await self.take_back(public_oid)
            raise

    async def add_all(self, session: Session, keys: list[Attributes]) -> tuple[int, ...]:
        """Make all these objects, or none; those on the token in one commit where the store can do that."""
        made: dict[int, int] = {}
        left = dict(enumerate(keys))
        try:
            staying = {place: one for place, one in left.items() if one.get(ck.CKA_TOKEN) == TRUE}
            together = getattr(self._store, "create_together", None)
            if together is not None and len(staying) > 1:
                for one in staying.values():
                    self._settle(one)
                oids = await together(tuple(staying.values()))
                made.update(zip(staying, oids, strict=True))
                for place, one in staying.items():
                    wipe(left.pop(place))
                    self._token.audit.made(session, one)
            for place in list(left):
                made[place] = await self.add(session, left.pop(place))
        except BaseException:
            for one in left.values():
                wipe(one)
            await give_back(self._token, map(reference_of, left.values()))
            await self._take_all_back(made.values())
            raise
        return tuple(made[place] for place in range(len(keys)))

    async def _take_all_back(self, oids: Iterable[int]) -> None:
        for oid in oids:
            try:
                await self.take_back(oid)
            except Exception as error:  # one that cannot be destroyed keeps nobody from the others
                log.failure("a key that was made with one that failed could not be destroyed", error)

    async def change(self, session: Session, entry: Entry, changed: dict[int, Value | None]) -> bool:
        """Give an object its changed attributes; None removes one. The caller has its `changing` turn.

        Returns False when another process has changed the object since `entry` was read.
        """
        await change_in_device(self._token, entry, changed)
        attributes = copied(entry.attributes)
        for attribute, value in changed.items():
            if value is None:
                attributes.pop(attribute, None)
            else:
                attributes[attribute] = value
        if entry.oid > 0:
            try:
                done = await self._replace(entry, attributes)
            finally:
                wipe(attributes)
            self._drop(entry.oid, gone=False)
            return done
        changed_entry = Entry(entry.oid, attributes)
        with self._lock:
            there = self._session_objects.get(entry.oid) is entry
            if there:
                self._session_objects[entry.oid] = changed_entry
        if there:
            entry.retire(gone=False)
        else:  # its session was closed, or its user logged out, meanwhile
            changed_entry.retire(gone=True)
            raise ObjectHandleInvalid()
        return True

    async def _replace(self, entry: Entry, attributes: Attributes) -> bool:
        store = self._store
        if hasattr(store, "exchange"):  # isinstance would import inspect for it
            return await cast("ExchangingKeyStore", store).exchange(entry.oid, entry.attributes, attributes)
        await store.replace(entry.oid, attributes)
        return True

    async def remove(self, entry: Entry) -> None:
        """Destroy an object."""
        if entry.oid > 0:
            await self._store.delete(entry.oid)
            self._drop(entry.oid, gone=True)
        else:
            self._session_objects.pop(entry.oid, None)
            for session in list(self._token.sessions.values()):
                session.objects.discard(entry.oid)
        reference = reference_of(entry.attributes)
        entry.retire(gone=True)
        await give_back(self._token, [reference])

    def end_session(self, session: Session) -> list[bytes]:
        """Destroy the session's objects; return the references that the caller is to give back."""
        with self._lock:
            ended = [self._session_objects.pop(oid, None) for oid in session.objects]
            session.objects.clear()
        references = of_session_objects(ended)
        for entry in ended:
            if entry is not None:
                entry.retire(gone=True)
        return references

    def forget_private(self) -> tuple[list[bytes], int]:
        """Destroy private session objects and forget private token objects (``C_Logout``).

        Returns the references that the caller is to give back, and how many session objects have ended.
        """
        with self._lock:
            gone = [entry for entry in self._session_objects.values() if entry.private]
            gone += [entry for entry in self._cache.values() if entry.private]
            for entry in gone:
                (self._session_objects if entry.oid < 0 else self._cache).pop(entry.oid, None)
        references = of_session_objects(gone)
        for entry in gone:
            entry.retire(gone=True)
        for session in list(self._token.sessions.values()):
            session.objects.intersection_update(self._session_objects)
        return references, sum(entry.oid < 0 for entry in gone)

    def forget_all(self) -> list[bytes]:
        """Destroy all session objects and forget all token objects.

        Returns the references that the caller is to give back.
        """
        with self._lock:
            gone = [*self._session_objects.values(), *self._cache.values()]
            self._session_objects.clear()
            self._cache.clear()
        references = of_session_objects(gone)
        for entry in gone:
            entry.retire(gone=True)
        return references

    # Searching

    def find(self, template: Template) -> Cursor:
        """Return a cursor over the visible objects that match (``C_FindObjectsInit``)."""
        return Cursor(self._token, self, search_form(template))

    async def find_few(self, template: Template, most: int) -> list[int] | None:
        """Return all objects that `find` would find, None when they are more than `most`."""
        form = search_form(template)
        if form is None:
            return []
        hidden = sensitive_types()
        for attribute, _ in form:
            if attribute in hidden:
                return None  # each object has to be looked at: the cursor does
        token = self._token
        found: list[int] = []  # `list[int]()` takes longer than the rest of this function
        wanted = asked(token, form)
        if wanted is not None and await token.is_initialized():
            found = await self._store.search(wanted, 0, most + 1)
            if len(found) > most:
                return None
        found += self.matching_here(form)
        return found if len(found) <= most else None

    def matching_here(self, wanted: Template) -> list[int]:
        """Return the session objects and built-in objects that match and may be seen."""
        entries = self._built_in_for(wanted)
        if self._session_objects:
            entries = [*entries, *self._session_objects.candidates(wanted)]
        return [
            entry.oid
            for entry in entries
            if (not entry.private or self._token.user_logged_in)
            and matches(entry.attributes, entry.rules, wanted)
        ]

    def _built_in_for(self, wanted: Template) -> list[Entry]:
        """Return the built-in objects that a search is about.

        Programs of before they existed list everything; hardware features and mechanisms are
        for those who ask for the class.
        """
        if self._built_in is None:
            self.built_in()
        asked = None
        for attribute, value in wanted:
            if attribute not in self._built_in_types:
                return []  # a search by a name, mostly
            if attribute == ck.CKA_CLASS:
                asked = number(value)
        if asked not in (None, ck.CKO_PROFILE, ck.CKO_MECHANISM, ck.CKO_HW_FEATURE):
            return []
        return self._built_in_by_class.get(ck.CKO_PROFILE if asked is None else asked, [])


class Hidden:
    """Why ``C_GetAttributeValue`` gives no value."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        """Say which of the two it is."""
        return self.name


SENSITIVE = Hidden("SENSITIVE")  # CKR_ATTRIBUTE_SENSITIVE
INVALID = Hidden("INVALID")  # CKR_ATTRIBUTE_TYPE_INVALID


def _plain(value: Value) -> bytes:
    assert not isinstance(value, tuple)
    return bytes(value)


def _size(value: Value) -> int:
    if isinstance(value, tuple):
        return sum(_size(inner) + 16 for _, inner in value)
    return len(value)
