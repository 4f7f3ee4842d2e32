"""Objects of a backend under identities of ours, which no handle of the backend is.

A handle is the backend's, may be given again to another object and dies with the connection. An identity
is a number that this process never uses twice. What tells that a handle still means the same object, and
finds the object anew after the connection was lost, is its identity on the token: ``CKA_UNIQUE_ID`` where
the backend has one, else class, type, ``CKA_ID``, ``CKA_LABEL`` and the public material.
"""

from __future__ import annotations

import contextlib
from ctypes import byref
from hashlib import blake2b
from threading import Lock

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Key
from ferrohsm.attribute_kinds import TRUE
from ferrohsm.errors import KeyHandleInvalid, ObjectHandleInvalid
from ferrohsm_adapters.pkcs11_bridge.connection import BackendSession, Connection
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, Template
from ferrohsm_adapters.pkcs11_bridge.values import read_values, to_native

# What an object is known by where it has no CKA_UNIQUE_ID, and what of it never changes.
_KNOWN_BY = (ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_CERTIFICATE_TYPE, ck.CKA_ID, ck.CKA_LABEL)
_MATERIAL = (
    *(ck.CKA_MODULUS, ck.CKA_EC_PARAMS, ck.CKA_EC_POINT, ck.CKA_SUBJECT, ck.CKA_ISSUER),
    *(ck.CKA_SERIAL_NUMBER, ck.CKA_APPLICATION, ck.CKA_OBJECT_ID, ck.CKA_KEY_GEN_MECHANISM),
)
_FIXED = (
    *(ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_CERTIFICATE_TYPE, ck.CKA_UNIQUE_ID),
    *(ck.CKA_MODULUS, ck.CKA_EC_PARAMS, ck.CKA_EC_POINT),
)
_PUBLIC = (ck.CKO_DATA, ck.CKO_CERTIFICATE, ck.CKO_PUBLIC_KEY)
_FIND_AT_ONCE = 256


class Record:
    """An object: its handle while the connection has `epoch`, and what it is known by afterwards."""

    __slots__ = (
        *("epoch", "fixed", "handle", "kept", "known_by", "oid", "on_token", "private", "session"),
        "unique_id",
    )

    def __init__(self, oid: int, handle: int, epoch: int, on_token: bool) -> None:
        self.oid = oid
        self.handle = handle
        self.epoch = epoch
        self.on_token = on_token
        self.kept = False
        self.private: bool | None = None
        self.fixed: tuple[bytes, ...] | None = None
        self.session: BackendSession | None = None
        self.known_by: tuple[tuple[int, bytes], ...] | None = None
        self.unique_id: bytes | None = None

    @property
    def reference(self) -> bytes:
        """What the core carries with the object."""
        return self.oid.to_bytes(8, "big")


class Records:
    """All objects that were seen at a slot."""

    def __init__(self, connection: Connection, serial: str) -> None:
        self._connection = connection
        self._serial = serial
        self._lock = Lock()
        self._last = 0
        self._by_oid: dict[int, Record] = {}
        self._by_handle: dict[int, Record] = {}

    # Identities

    def of_handle(self, handle: int, *, on_token: bool = True) -> Record:
        """Return the record of a handle, a new one when it was not seen yet."""
        with self._lock:
            record = self._by_handle.get(handle)
            if record is None or record.epoch != self._connection.epoch:
                self._last += 1
                record = Record(self._last, handle, self._connection.epoch, on_token)
                self._by_oid[record.oid] = record
                self._by_handle[handle] = record
            return record

    def made(self, handle: int, session: BackendSession, *, on_token: bool) -> Record:
        """Return the record of an object that was just made in `session`."""
        self.forget_handle(handle)
        record = self.of_handle(handle, on_token=on_token)
        if not on_token:
            record.session = session
            session.objects += 1
        return record

    def get(self, oid: int) -> Record:
        """Return a record. Raises `ObjectHandleInvalid`."""
        record = self._by_oid.get(oid)
        if record is None:
            raise ObjectHandleInvalid()
        return record

    def of_key(self, key: Key) -> Record:
        """Return the record of a key of the core. Raises `KeyHandleInvalid`."""
        reference = key.attributes.get(CKA_REFERENCE)
        record = None
        if reference is not None and not isinstance(reference, tuple):
            record = self._by_oid.get(int.from_bytes(reference, "big"))
        if record is None:
            raise KeyHandleInvalid("the backend does not hold this key")
        return record

    def of_reference(self, reference: bytes) -> Record | None:
        """Return the record that a reference names, None when it is gone."""
        return self._by_oid.get(int.from_bytes(reference, "big"))

    def forget(self, record: Record) -> None:
        """Forget an object that is gone."""
        with self._lock:
            self._by_oid.pop(record.oid, None)
            if self._by_handle.get(record.handle) is record:
                del self._by_handle[record.handle]
            session, record.session = record.session, None
        if session is not None and session.epoch == self._connection.epoch:
            self._connection.drop_object(session)

    def forget_handle(self, handle: int) -> None:
        """Forget what a handle meant: it means another object now."""
        with self._lock:
            record = self._by_handle.get(handle)
        if record is not None:
            self.forget(record)

    def forget_private(self) -> None:
        """Forget all that is not known to be public: the login is over."""
        with self._lock:
            ended = [record for record in self._by_oid.values() if record.private is not False]
        for record in ended:
            self.forget(record)

    def forget_all(self) -> None:
        """Nothing that was there is."""
        with self._lock:
            self._by_oid.clear()
            self._by_handle.clear()

    # On a worker's thread

    def relocate(self, session: BackendSession) -> None:
        """After the connection was lost: find what was known, so that a search does not name it anew."""
        for record in list(self._by_oid.values()):
            if record.epoch != self._connection.epoch:
                with contextlib.suppress(ObjectHandleInvalid):
                    self.handle(record, session)

    def handle(self, record: Record, session: BackendSession) -> int:
        """Return the object's handle now. Raises `ObjectHandleInvalid` when it cannot be found any more."""
        if record.epoch == self._connection.epoch:
            return record.handle
        found = self._found(record, session)
        with self._lock:
            # What its handle was may be another object's now.
            if self._by_handle.get(record.handle) is record:
                del self._by_handle[record.handle]
            record.handle, record.epoch = found, self._connection.epoch
            self._by_handle[found] = record
        return found

    def _found(self, record: Record, session: BackendSession) -> int:
        if record.on_token and record.known_by is not None:
            handles = self.search(session, record.known_by, limit=2)
            if len(handles) == 1:
                return handles[0]
        self.forget(record)
        raise ObjectHandleInvalid("the connection was lost, and the object could not be told from others")

    def search(
        self, session: BackendSession, wanted: tuple[tuple[int, bytes], ...], limit: int | None = None
    ) -> list[int]:
        """Return the handles of the token objects that match."""
        call = self._connection.call
        template = Template([*wanted, *([] if ck.CKA_TOKEN in dict(wanted) else [(ck.CKA_TOKEN, TRUE)])])
        found: list[int] = []
        page = (ULONG * _FIND_AT_ONCE)()
        count = ULONG()
        try:
            call("FindObjectsInit", session.handle, template.array, template.count)
            try:
                while limit is None or len(found) < limit:
                    call("FindObjects", session.handle, page, _FIND_AT_ONCE, byref(count))
                    if count.value == 0:
                        break
                    found += page[: count.value]
            finally:
                call("FindObjectsFinal", session.handle)
        finally:
            template.wipe()
        return found

    def read(self, record: Record, session: BackendSession) -> Attributes:
        """Return all that the backend tells about an object, with our reference and its unique id.

        Raises `ObjectHandleInvalid` when it is gone.
        """
        handle = self.handle(record, session)
        try:
            attributes = read_values(self._connection, session, handle)
        except ObjectHandleInvalid:
            self.forget(record)
            raise
        fixed = tuple(_plain(attributes, attribute) for attribute in _FIXED)
        if record.fixed not in (None, fixed):
            self.forget(record)
            raise ObjectHandleInvalid("the backend has given the handle to another object")
        record.fixed = fixed
        record.private = attributes.get(ck.CKA_PRIVATE) == TRUE
        self._remember(record, attributes)
        assert record.unique_id is not None
        attributes[ck.CKA_UNIQUE_ID] = record.unique_id
        attributes[CKA_REFERENCE] = record.reference
        return attributes

    def _remember(self, record: Record, attributes: Attributes) -> None:
        own = attributes.get(ck.CKA_UNIQUE_ID)
        if own and not isinstance(own, tuple):
            record.unique_id = bytes(own)
            record.known_by = ((ck.CKA_UNIQUE_ID, bytes(own)),)
            return
        record.known_by = tuple(
            (attribute, to_native(attribute, value))
            for attribute in (*_KNOWN_BY, *_MATERIAL)
            if (value := attributes.get(attribute)) and not isinstance(value, tuple)
        )
        if record.unique_id is None:
            record.unique_id = self._made_up(record, attributes)

    def _made_up(self, record: Record, attributes: Attributes) -> bytes:
        """Make an identity for an object that has none: the same in every process that finds it as it is."""
        digest = blake2b(self._serial.encode(), digest_size=16, person=b"ferrohsm-bridge")
        public = int.from_bytes(attributes[ck.CKA_CLASS], "little") in _PUBLIC  # type: ignore[arg-type]
        for attribute in (*_KNOWN_BY, *_MATERIAL, *((ck.CKA_VALUE,) if public else ())):
            value = attributes.get(attribute)
            if value is not None and not isinstance(value, tuple):
                digest.update(b"%d:%d:" % (attribute, len(value)) + bytes(value))
        if not record.on_token:
            digest.update(record.reference)
        return digest.hexdigest().encode()


def _plain(attributes: Attributes, attribute: int) -> bytes:
    value = attributes.get(attribute)
    return b"" if value is None or isinstance(value, tuple) else bytes(value)
