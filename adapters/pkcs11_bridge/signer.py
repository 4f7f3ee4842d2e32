"""The engine of a bridged slot: the backend, and our own where that lacks what needs no private key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from ctypes import byref, c_ubyte
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Operation, Value
from ferrohsm.attribute_kinds import is_true
from ferrohsm.errors import (
    DeviceRemoved,
    HsmError,
    MechanismInvalid,
    MechanismParamInvalid,
    ObjectHandleInvalid,
)
from ferrohsm.mechanism_row import Row
from ferrohsm.mechanisms import row_of
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.pkcs11_bridge import hashed, operations
from ferrohsm_adapters.pkcs11_bridge.connection import BackendSession, Connection
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, MechanismInfo, Template, buffer_of
from ferrohsm_adapters.pkcs11_bridge.further import FurtherKeys
from ferrohsm_adapters.pkcs11_bridge.options import Options
from ferrohsm_adapters.pkcs11_bridge.parameters import KINDS, NativeMechanism
from ferrohsm_adapters.pkcs11_bridge.records import Record, Records
from ferrohsm_adapters.pkcs11_bridge.values import native_form, template_of

_PUBLIC_USES = Function.VERIFY | Function.VERIFY_RECOVER | Function.ENCRYPT
_ASYMMETRIC = frozenset((ck.CKK_RSA, ck.CKK_EC, ck.CKK_EC_EDWARDS, ck.CKK_DSA, ck.CKK_ML_DSA))
_FORWARDED = (
    Function.ENCRYPT
    | Function.DECRYPT
    | Function.DIGEST
    | Function.SIGN
    | Function.SIGN_RECOVER
    | Function.VERIFY
    | Function.VERIFY_RECOVER
    | Function.GENERATE
    | Function.GENERATE_KEY_PAIR
    | Function.WRAP
    | Function.UNWRAP
    | Function.DERIVE
)
_WRAPPED_ROOM = 64  # bytes: NSS asks for less than it needs for some
# What is derived and is no secret key: the core makes it of a value that stays here.
_LEFT_OUT = (ck.CKO_PUBLIC_KEY, ck.CKO_DATA, ck.CKO_OTP_KEY)
_ALL_FUNCTIONS = _FORWARDED | (
    Function.MESSAGE_ENCRYPT
    | Function.MESSAGE_DECRYPT
    | ck.CKF_MESSAGE_SIGN
    | ck.CKF_MESSAGE_VERIFY
    | Function.ENCAPSULATE
    | Function.DECAPSULATE
)


def backend_mechanisms(connection: Connection) -> dict[int, tuple[int, int, int]]:
    """Return what the backend lists, as far as a mechanism is known here and its functions are forwarded."""
    count = ULONG()
    connection.call("GetMechanismList", connection.slot, None, byref(count))
    types = (ULONG * max(count.value, 1))()
    connection.call("GetMechanismList", connection.slot, types, byref(count))
    found: dict[int, tuple[int, int, int]] = {}
    for type_ in types[: count.value]:
        row = row_of(type_)
        info = MechanismInfo()
        if row is None or row.parameter not in KINDS or row.object_class in _LEFT_OUT:
            continue
        if connection.functions.GetMechanismInfo(connection.slot, type_, byref(info)) != ck.CKR_OK:
            continue  # SoftHSM lists one that it does not describe
        flags = info.flags & ~(_ALL_FUNCTIONS & ~_FORWARDED)
        if flags & _FORWARDED:
            found[type_] = (info.min_key, max(info.min_key, info.max_key), flags)
    return found


class BridgeSigner:
    """See `ferrohsm.adapters.HardwareSigner` and `DeviceSigner`."""

    def __init__(
        self,
        connection: Connection,
        records: Records,
        options: Options,
        mechanisms: dict[int, tuple[int, int, int]],
    ) -> None:
        self._connection = connection
        self._records = records
        self._options = options
        self._engine: Any = None
        self._backend = mechanisms
        self._software: dict[int, int] = {}
        self._offered = dict(mechanisms)
        if options.software != "never":
            self._add_software()

    # What runs where

    def _our_own(self) -> Any:
        """Return the software engine, made when it is first asked for."""
        if self._engine is None:
            from ferrohsm_adapters.software import kernels
            from ferrohsm_adapters.software.engine import Engine

            self._engine = Engine(kernels())
        return self._engine

    def _add_software(self) -> None:
        """Add what needs no private key, for the types of keys that the backend can have; and `hashed`."""
        held = frozenset(
            key_type for type_ in self._backend if (row := row_of(type_)) for key_type in row.key_types
        )
        for type_, (smallest, largest, flags) in self._our_own().mechanisms().items():
            row = row_of(type_)
            assert row is not None
            able = flags & Function.DIGEST
            if row.key_types and _ASYMMETRIC.issuperset(row.key_types) and held.issuperset(row.key_types):
                able |= flags & _PUBLIC_USES
                if self._signs_digests(row):
                    able |= flags & Function.SIGN
            if not able:
                continue
            there = self._backend.get(type_)
            self._software[type_] = able
            if there is None:
                self._offered[type_] = (smallest, largest, able | flags & ~_ALL_FUNCTIONS)
            else:
                self._offered[type_] = (there[0], there[1], there[2] | able)

    def _signs_digests(self, row: Row) -> bool:
        """Say whether the backend signs what the mechanism hashes to. PSS wants the backend's own hash."""
        raw = hashed.raw_mechanism(row)
        if raw is None or not self._backend_can(raw, Function.SIGN):
            return False
        return raw != ck.CKM_RSA_PKCS_PSS or hashed.digest_mechanism(row) in self._backend

    def mechanisms(self) -> Mapping[int, tuple[int, int, int]]:
        """Return what the slot can, wherever it runs."""
        return self._offered

    def engines(self, mechanism: int) -> dict[str, int]:
        """Return where the functions of a mechanism run: "backend" and "software" → flags."""
        offered = self._offered.get(mechanism, (0, 0, 0))[2] & _ALL_FUNCTIONS
        if self._is_hashed(mechanism):
            found = self._places(offered & ~Function.SIGN, mechanism)
            return {**found, "software and backend": Function.SIGN}
        return self._places(offered, mechanism)

    def _places(self, offered: int, mechanism: int) -> dict[str, int]:
        here = sum(
            1 << bit for bit in range(32) if offered & 1 << bit and self._in_software(mechanism, 1 << bit)
        )
        return {name: flags for name, flags in (("backend", offered & ~here), ("software", here)) if flags}

    def _is_hashed(self, mechanism: int) -> bool:
        able = self._software.get(mechanism, 0) & Function.SIGN
        return bool(able) and not self._backend_can(mechanism, Function.SIGN)

    def _in_software(self, mechanism: int, function: int) -> bool:
        if function == Function.SIGN:
            return False
        if not self._software.get(mechanism, 0) & function:
            return False
        return self._options.software == "prefer" or not self._backend_can(mechanism, function)

    def _backend_can(self, mechanism: int, function: int) -> bool:
        return bool(self._backend.get(mechanism, (0, 0, 0))[2] & function)

    # Operations

    async def begin(self, function: int, mechanism: Mechanism, key: Key | None) -> Operation:
        """Start an operation."""
        row = row_of(mechanism.type)
        if row is None:
            raise MechanismInvalid(mechanism.name)
        if self._in_software(mechanism.type, function):
            operation: Operation = await self._our_own().begin(function, mechanism, key)
            return operation
        if function == Function.SIGN and self._is_hashed(mechanism.type):
            return await self._begin_hashed(row, mechanism, key)
        return await operations.begin(self._connection, self._records, function, row, mechanism, key)

    async def _begin_hashed(self, row: Row, mechanism: Mechanism, key: Key | None) -> Operation:
        raw = hashed.raw(row, mechanism)
        raw_row = row_of(raw.type)
        assert raw_row is not None
        digest = await self._our_own().begin(Function.DIGEST, Mechanism(hashed.digest_mechanism(row)), None)
        try:
            signature = await operations.begin(
                self._connection, self._records, Function.SIGN, raw_row, raw, key
            )
        except BaseException:
            digest.close()
            raise
        return hashed.HashedSignature(digest, signature, hashed.prefix(row))

    async def random(self, length: int) -> bytes:
        """Return random bytes of the backend."""

        def work() -> bytes:
            out = (c_ubyte * max(length, 1))()
            with self._connection.session() as session:
                self._connection.call("GenerateRandom", session.handle, out, length)
            return bytes(memoryview(out)[:length])

        return await self._connection.run(work)

    async def seed(self, data: memoryview) -> None:
        """Mix `data` into the backend's generator."""
        copied = bytes(data)

        def work() -> None:
            with self._connection.session() as session:
                self._connection.call("SeedRandom", session.handle, buffer_of(copied), len(copied))

        await self._connection.run(work)

    # Keys that are made

    async def complete(self, attributes: Attributes) -> Attributes:
        """Return nothing: the backend checks the material, and tells what follows from it when it has it."""
        return {}

    async def generate_key(self, mechanism: Mechanism, attributes: Attributes) -> Attributes:
        """Generate a secret key, or domain parameters, in the backend."""
        return await self._make("GenerateKey", attributes, mechanism)

    async def unwrap(
        self, mechanism: Mechanism, unwrapping: Key, wrapped: memoryview, attributes: Attributes
    ) -> Attributes:
        """Unwrap a key into the backend."""
        data = bytes(wrapped)
        return await self._make("UnwrapKey", attributes, mechanism, unwrapping, data)

    async def derive(self, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
        """Derive a key in the backend."""
        return await self._make("DeriveKey", attributes, mechanism, base)

    async def check_derived(self, mechanism: Mechanism, attributes: Attributes) -> None:
        """Check nothing: the backend looks at the templates when it derives, and says whose is wrong."""

    async def derive_several(
        self, mechanism: Mechanism, base: Key, wanted: tuple[Attributes, ...]
    ) -> tuple[Attributes, ...]:
        """Derive several keys in the backend.

        Raises `MechanismParamInvalid` when it derives one key at a time, whether it says so or not.
        """

        def work() -> tuple[Attributes, ...]:
            with self._connection.session() as session:
                handles = self._derived(session, mechanism, base, wanted)
                return self._all_told(session, handles, wanted)

        def undo(made: tuple[Attributes, ...]) -> None:
            for one in made:
                self._unmake(one)

        return await self._connection.run(work, undo)

    def _derived(
        self, session: BackendSession, mechanism: Mechanism, base: Key, wanted: tuple[Attributes, ...]
    ) -> list[int]:
        """Return the handles of the keys; 0 for one that the backend says nothing of."""
        first, *templates = [Template(template_of(asked, self._options.profile)) for asked in wanted]
        further, handle = FurtherKeys(templates), ULONG()
        native = NativeMechanism(mechanism, lambda key: self._handle(key, session), further)
        arguments = (native.pointer, self._handle(base, session), first.array, first.count, byref(handle))
        try:
            self._connection.call("DeriveKey", session.handle, *arguments)
        except HsmError as error:
            error.wrong_template = further.wrong()  # type: ignore[attr-defined]
            raise
        finally:
            native.wipe()
            for template in (first, *templates):
                template.wipe()
        return [handle.value, *further.handles()]

    def _all_told(
        self, session: BackendSession, handles: list[int], wanted: tuple[Attributes, ...]
    ) -> tuple[Attributes, ...]:
        """Return what the backend tells about each key; it keeps none unless it has made all."""
        records = [
            self._records.made(handle, session, on_token=is_true(asked.get(ck.CKA_TOKEN)))
            for handle, asked in zip(handles, wanted, strict=True)
            if handle
        ]
        try:
            if len(records) < len(wanted):
                raise MechanismParamInvalid("the backend derives one key at a time")
            return tuple(self._records.read(record, session) for record in records)
        except BaseException:
            for record in records:
                self._destroy(record)
            raise

    async def keep(self, attributes: Attributes) -> Attributes:
        """Put a key that is brought in into the backend."""
        return await self._make("CreateObject", attributes)

    async def _make(
        self,
        name: str,
        attributes: Attributes,
        mechanism: Mechanism | None = None,
        key: Key | None = None,
        data: bytes | None = None,
    ) -> Attributes:
        def work() -> Attributes:
            with self._connection.session() as session:
                template = Template(template_of(attributes, self._options.profile))
                native = None if mechanism is None else self._native(mechanism, session)
                handle = ULONG()
                arguments: list[Any] = []
                try:
                    if native is not None:
                        arguments.append(native.pointer)
                    if key is not None:
                        arguments.append(self._handle(key, session))
                    if data is not None:
                        arguments += [buffer_of(data), len(data)]
                    arguments += [template.array, template.count, byref(handle)]
                    self._connection.call(name, session.handle, *arguments)
                finally:
                    template.wipe()
                    if native is not None:
                        native.wipe()
                return self._told(session, handle.value, attributes)

        return await self._connection.run(work, self._unmake)

    async def generate_key_pair(
        self, mechanism: Mechanism, public: Attributes, private: Attributes
    ) -> tuple[Attributes, Attributes]:
        """Generate a key pair in the backend."""
        profile = self._options.profile

        def work() -> tuple[Attributes, Attributes]:
            with self._connection.session() as session:
                templates = [Template(template_of(half, profile)) for half in (public, private)]
                native = self._native(mechanism, session)
                handles = (ULONG(), ULONG())
                try:
                    self._connection.call(
                        "GenerateKeyPair",
                        session.handle,
                        native.pointer,
                        *(part for template in templates for part in (template.array, template.count)),
                        byref(handles[0]),
                        byref(handles[1]),
                    )
                finally:
                    for template in templates:
                        template.wipe()
                    native.wipe()
                first = self._told(session, handles[0].value, public)
                return first, self._told(session, handles[1].value, private)

        def undo(made: tuple[Attributes, Attributes]) -> None:
            for half in made:
                self._unmake(half)

        return await self._connection.run(work, undo)

    def _told(self, session: BackendSession, handle: int, asked: Attributes) -> Attributes:
        """Return what the backend tells about an object that was just made."""
        on_token = is_true(asked.get(ck.CKA_TOKEN))
        record = self._records.made(handle, session, on_token=on_token)
        try:
            return self._records.read(record, session)
        except BaseException:
            self._destroy(record)
            raise

    def _unmake(self, made: Attributes) -> None:
        record = self._records.of_key(Key(0, made))
        self._destroy(record)

    def _native(self, mechanism: Mechanism, session: BackendSession) -> NativeMechanism:
        return NativeMechanism(mechanism, lambda key: self._handle(key, session))

    def _handle(self, key: Key, session: BackendSession) -> int:
        return self._records.handle(self._records.of_key(key), session)

    # Wrapping

    async def wrap(self, mechanism: Mechanism, wrapping: Key, target: Key) -> bytes:
        """Return a wrapped key."""
        return await self._connection.run(lambda: self._wrap(mechanism, wrapping, target))

    def wrap_length(self, mechanism: Mechanism, wrapping: Key, target: Key) -> int | Awaitable[int]:
        """Ask the backend for the length."""
        return self._connection.run(lambda: self._ask_wrap_length(mechanism, wrapping, target))

    def _ask_wrap_length(self, mechanism: Mechanism, wrapping: Key, target: Key) -> int:
        return int(self._with_wrap(mechanism, wrapping, target, lambda call: call(None, 0)[0]))

    def _wrap(self, mechanism: Mechanism, wrapping: Key, target: Key) -> bytes:
        def both(call: Callable[[Any, int], tuple[int, Any]]) -> bytes:
            room = call(None, 0)[0] + _WRAPPED_ROOM
            out = (c_ubyte * max(room, 1))()
            length, _ = call(out, room)
            return bytes(memoryview(out)[: min(length, room)])

        made: bytes = self._with_wrap(mechanism, wrapping, target, both)
        return made

    def _with_wrap(self, mechanism: Mechanism, wrapping: Key, target: Key, use: Callable[[Any], Any]) -> Any:
        with self._connection.session() as session:
            native = self._native(mechanism, session)
            keys = (self._handle(wrapping, session), self._handle(target, session))

            def call(out: Any, room: int) -> tuple[int, Any]:
                length = ULONG(room)
                self._connection.call("WrapKey", session.handle, native.pointer, *keys, out, byref(length))
                return length.value, out

            try:
                return use(call)
            finally:
                native.wipe()

    # Keys that the backend keeps

    async def release(self, reference: bytes) -> None:
        """Destroy a key, unless it is a token object that is kept."""
        record = self._records.of_reference(reference)
        if record is None:
            return
        if record.on_token and record.kept:
            self._records.forget(record)
            return
        try:
            await self._connection.run(lambda: self._destroy(record))
        except DeviceRemoved:
            if record.on_token:
                raise  # a session object is gone with the connection

    def _destroy(self, record: Record) -> None:
        try:
            with self._connection.session() as session:
                handle = self._records.handle(record, session)
                self._connection.call("DestroyObject", session.handle, handle)
        except ObjectHandleInvalid:
            pass  # it is gone, with its login or its session
        finally:
            self._records.forget(record)

    async def copy(self, key: Key, changed: Attributes) -> Attributes:
        """Copy a key in the backend."""
        asked = {**key.attributes, **changed}
        pairs = self._pairs(key, changed)

        def work() -> Attributes:
            with self._connection.session() as session:
                template, handle = Template(pairs), ULONG()
                source = self._handle(key, session)
                try:
                    self._connection.call(
                        "CopyObject", session.handle, source, template.array, template.count, byref(handle)
                    )
                finally:
                    template.wipe()
                return self._told(session, handle.value, asked)

        return await self._connection.run(work, self._unmake)

    async def change(self, key: Key, changed: Mapping[int, Value | None]) -> None:
        """Change a session object in the backend."""
        pairs = self._pairs(key, {a: b"" if v is None else v for a, v in changed.items()})

        def work() -> None:
            with self._connection.session() as session:
                template = Template(pairs)
                self._connection.call(
                    "SetAttributeValue",
                    session.handle,
                    self._handle(key, session),
                    template.array,
                    template.count,
                )

        await self._connection.run(work)

    def _pairs(self, key: Key, changed: Mapping[int, Value]) -> list[tuple[int, Any]]:
        profile = self._options.profile
        return [(attribute, native_form(attribute, value, profile)) for attribute, value in changed.items()]
