"""An operation that a backend computes: it has a session of the backend to itself until it is over."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_ubyte
from threading import Lock
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Key
from ferrohsm.errors import (
    DeviceError,
    FunctionNotSupported,
    HsmError,
    KeyHandleInvalid,
    ObjectHandleInvalid,
    OperationNotInitialized,
)
from ferrohsm.mechanism_row import Row
from ferrohsm.parameters import Mechanism
from ferrohsm_adapters.pkcs11_bridge import sizes
from ferrohsm_adapters.pkcs11_bridge.connection import BackendSession, Connection
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, buffer_of, wipe
from ferrohsm_adapters.pkcs11_bridge.parameters import NativeMechanism
from ferrohsm_adapters.pkcs11_bridge.records import Records

_NAMES = {
    Function.ENCRYPT: "Encrypt",
    Function.DECRYPT: "Decrypt",
    Function.DIGEST: "Digest",
    Function.SIGN: "Sign",
    Function.SIGN_RECOVER: "SignRecover",
    Function.VERIFY: "Verify",
    Function.VERIFY_RECOVER: "VerifyRecover",
}
_CRYPT = (Function.ENCRYPT, Function.DECRYPT)
_RECOVER = (Function.SIGN_RECOVER, Function.VERIFY_RECOVER)
_ROOM = 32  # bytes of a buffer beyond what is expected, where that is not certain


async def begin(
    connection: Connection,
    records: Records,
    function: int,
    row: Row,
    mechanism: Mechanism,
    key: Key | None,
) -> BackendOperation:
    """Start an operation with the backend."""
    operation = BackendOperation(connection, function, row, mechanism, key)
    await connection.run(lambda: operation.start(records), lambda _: operation.abandon())
    return operation


class BackendOperation:
    """See `ferrohsm.adapters.Operation`. All is computed on a worker's thread, one call at a time."""

    def __init__(
        self, connection: Connection, function: int, row: Row, mechanism: Mechanism, key: Key | None
    ) -> None:
        name = _NAMES.get(function)
        if name is None:
            raise FunctionNotSupported(f"{mechanism.name}: the bridge has no such function")
        self.multi_part = not row.single_part and function not in _RECOVER
        self._connection = connection
        self._name = name
        self._function = function
        self._row = row
        self._mechanism = mechanism
        self._key = key
        self._lock = Lock()
        self._session: BackendSession | None = None
        self._over = False
        self._taken = 0
        self._given = 0
        self._pending = bytearray()
        self._fixed = self._fixed_length()

    def _fixed_length(self) -> int | None:
        if self._function == Function.DIGEST:
            return sizes.digest_length(self._row)
        if self._key is None or self._function in _CRYPT:
            return None
        return sizes.signature_length(self._row, self._mechanism, self._key)

    # Beginning and ending, on a worker's thread

    def start(self, records: Records) -> None:
        """Call the backend's ``C_…Init``."""
        for attempt in (1, 2):
            session = self._connection.take()
            try:
                rv = self._init(session, records)
            except BaseException:
                self._connection.give(session)
                raise
            if rv == ck.CKR_OK:
                break
            session.spent = rv == ck.CKR_OPERATION_ACTIVE
            self._connection.give(session)
            if not session.spent or attempt == 2:
                raise self._connection.failure(rv, f"{self._name}Init")
        self._session = session
        if self._fixed is None and self._function in (Function.SIGN, Function.DIGEST):
            self._fixed = self._asked(session)

    def _init(self, session: BackendSession, records: Records) -> int:
        native = NativeMechanism(self._mechanism, lambda key: records.handle(records.of_key(key), session))
        call = getattr(self._connection.functions, self._name + "Init")
        try:
            if self._key is None:
                return int(call(session.handle, native.pointer))
            try:
                handle = records.handle(records.of_key(self._key), session)
            except ObjectHandleInvalid as error:
                raise KeyHandleInvalid(str(error)) from None
            rv = int(call(session.handle, native.pointer, handle))
            return ck.CKR_KEY_HANDLE_INVALID if rv == ck.CKR_OBJECT_HANDLE_INVALID else rv
        finally:
            native.wipe()

    def _asked(self, session: BackendSession) -> int | None:
        """Ask the backend how long the signature or digest will be; a query changes nothing."""
        length = ULONG()
        call = getattr(self._connection.functions, self._name)
        rv = call(session.handle, buffer_of(b"\0"), 1, None, byref(length))
        return length.value if rv == ck.CKR_OK else None

    def abandon(self) -> None:
        """End what is under way; a session with an operation left in it is not used again."""
        with self._lock:
            self._over = True
            session, self._session = self._session, None
            self._pending[:] = bytes(len(self._pending))
        if session is not None:
            session.spent = True
            self._connection.give(session)

    def _done(self, *, clean: bool) -> None:
        """Give the session back. The caller has the lock."""
        self._over = True
        session, self._session = self._session, None
        if session is not None:
            session.spent = session.spent or not clean
            self._connection.give(session)

    def close(self) -> None:
        """End the operation; the backend is told by a worker."""
        if not self._over or self._session is not None:
            self._over = True
            self._connection.workers.post(self.abandon)

    # Lengths

    def once_length(self, length: int) -> int:
        if self._fixed is not None:
            return self._fixed
        if self._function in _CRYPT and self._key is not None:
            return sizes.total(self._function, self._row, self._mechanism, self._key, length)
        return length + 1024 if self._function != Function.VERIFY else 0

    def update_length(self, length: int) -> int:
        if self._function not in _CRYPT:
            return 0
        return sizes.part(self._mechanism, self._taken, self._given, length) + len(self._pending)

    def finish_length(self) -> int:
        if self._function in _CRYPT:
            return max(self.once_length(self._taken) - self._given, 0) + len(self._pending)
        return self.once_length(0)

    # Computing

    async def login(self, pin: bytearray) -> None:
        """Give the PIN for this one use (``CKU_CONTEXT_SPECIFIC``)."""
        copied = bytearray(pin)  # the caller wipes its own, even if it does not wait for us
        await self._run(
            lambda session: self._connection.login_for(session, copied), wiped=copied, lasting=True
        )

    async def once(self, data: memoryview) -> bytes | bytearray:
        expected = self.once_length(len(data))
        return await self._last(self._name, expected, data)

    async def update(self, data: memoryview) -> bytes | bytearray:
        copied = bytearray(data)
        if self._function not in _CRYPT:
            await self._run(lambda session: self._absorb(session, copied), wiped=copied)
            return b""
        limit = self.update_length(len(data))
        return await self._run(lambda session: self._part(session, copied, limit), wiped=copied)

    async def finish(self) -> bytes | bytearray:
        return await self._last(self._name + "Final", self.finish_length(), None)

    async def verify(self, data: memoryview, signature: memoryview) -> None:
        copied, given = bytearray(data), bytes(signature)

        def work(session: BackendSession) -> None:
            buffer = buffer_of(copied)
            try:
                self._call("Verify", session, buffer, len(copied), buffer_of(given), len(given))
            finally:
                wipe(buffer)

        await self._run(work, ends=True, wiped=copied)

    async def finish_verify(self, signature: memoryview) -> None:
        given = bytes(signature)
        await self._run(
            lambda session: self._call("VerifyFinal", session, buffer_of(given), len(given)), ends=True
        )

    async def _last(self, name: str, expected: int, data: memoryview | None) -> bytes | bytearray:
        copied = None if data is None else bytearray(data)
        # NSS gives an Ed25519 signature only where there is room for just that.
        certain = self._fixed is not None and self._function == Function.SIGN
        room = expected if certain else expected + _ROOM

        def work(session: BackendSession) -> bytes | bytearray:
            inputs: tuple[Any, ...] = ()
            if copied is not None:
                inputs = (buffer_of(copied), len(copied))
            try:
                result = self._output(name, session, inputs, room)
            finally:
                if inputs:
                    wipe(inputs[0])
            if not self._pending:
                return result
            whole = self._pending + result
            self._pending[:] = bytes(len(self._pending))
            return whole

        return await self._run(work, ends=True, wiped=copied)

    async def _run(
        self,
        work: Callable[[BackendSession], Any],
        *,
        ends: bool = False,
        wiped: bytearray | None = None,
        lasting: bool = False,
    ) -> Any:
        """Do a step on a worker's thread; the last step ends the operation, as does an exception.

        `lasting`: a refusal leaves it as it is.
        """

        def step() -> Any:
            with self._lock:
                session = self._session
                if session is None or self._over:
                    raise OperationNotInitialized("the operation is over")
                try:
                    result = work(session)
                except HsmError:
                    # By the standard the backend has ended it too. Where that is not so, the session's next
                    # operation finds out.
                    if not lasting:
                        self._done(clean=ends)
                    raise
                except BaseException:
                    self._done(clean=False)
                    raise
                finally:
                    if wiped is not None:
                        wiped[:] = bytes(len(wiped))
                if ends:
                    self._done(clean=True)
                return result

        return await self._connection.run(step, lambda _: self.abandon())

    # Calls, with the lock

    def _call(self, name: str, session: BackendSession, *arguments: Any) -> None:
        self._connection.call(name, session.handle, *arguments)

    def _absorb(self, session: BackendSession, data: bytearray) -> None:
        buffer = buffer_of(data)
        try:
            self._call(self._name + "Update", session, buffer, len(data))
        finally:
            wipe(buffer)

    def _part(self, session: BackendSession, data: bytearray, limit: int) -> bytes | bytearray:
        """Give what is complete; what the backend gives beyond what was promised waits for the next part."""
        buffer = buffer_of(data)
        try:
            room = max(limit, len(data)) + 2 * _ROOM
            made = self._output(self._name + "Update", session, (buffer, len(data)), room)
        finally:
            wipe(buffer)
        self._taken += len(data)
        if not self._pending and len(made) <= limit:
            self._given += len(made)
            return made
        whole = self._pending + made
        self._given += min(len(whole), limit)
        self._pending = bytearray(whole[limit:])
        return whole[:limit]

    def _output(self, name: str, session: BackendSession, inputs: tuple[Any, ...], room: int) -> Any:
        """Return what a function gives: bytes, or a `bytearray` when it is plaintext."""
        while True:
            out = (c_ubyte * max(room, 1))()
            length = ULONG(room)
            rv = getattr(self._connection.functions, name)(session.handle, *inputs, out, byref(length))
            if rv == ck.CKR_BUFFER_TOO_SMALL and room < length.value <= 1 << 31:
                room = length.value
                continue
            try:
                if rv != ck.CKR_OK:
                    raise self._connection.failure(rv, name)
                if length.value > room:
                    raise DeviceError(f"C_{name} of the backend gave more than there was room for")
                secret = self._function in (Function.DECRYPT, Function.VERIFY_RECOVER)
                view = memoryview(out)[: length.value]
                return bytearray(view) if secret else bytes(view)
            finally:
                wipe(out)
