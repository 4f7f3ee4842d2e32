"""An adapter over tokens in memory that is right, or wrong in the one way that its option `flaw` names."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from ferrohsm_adapters.software.engine import Engine

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Template, TokenStatus
from ferrohsm.attribute_kinds import FALSE
from ferrohsm.errors import DataInvalid, GeneralError, HsmError, ObjectHandleInvalid, PinIncorrect
from ferrohsm.parameters import Mechanism
from ferrohsm.testing.memory import MemoryAdapter, MemorySlot, MemoryStore

TOKENS: dict[str, FlawedStore] = {}
"""What outlives an adapter here: the tokens, by the option `token`."""

OFFERED = (
    ck.CKM_EC_KEY_PAIR_GEN,
    ck.CKM_ECDSA,
    ck.CKM_ECDSA_SHA256,
    ck.CKM_AES_KEY_GEN,
    ck.CKM_AES_CBC,
    ck.CKM_SHA256,
)


class FlawedStore(MemoryStore):
    """A token in memory."""

    flaw = ""

    async def status(self) -> TokenStatus:
        status = await super().status()
        if self.flaw == "no serial":
            status.serial = ""
        return status

    def generation(self) -> int:
        return 1 if self.flaw == "generation stands still" else super().generation()

    async def create(self, attributes: Attributes) -> int:
        if self.flaw == "identities again" and self.objects:
            self._last = max(self.objects)
        elif self.flaw == "identities again":
            self._last = 0
        oid = await super().create(attributes)
        if self.flaw == "one identity for two" and len(self.objects) % 5 == 0:
            del self.objects[oid]
            return oid - 1
        return oid

    async def read(self, oid: int) -> Attributes:
        if self.flaw == "strange errors" and oid not in self.objects:
            return self.objects[oid]
        if self.flaw == "reads without login":
            return dict(self.objects[oid])
        return await super().read(oid)

    async def delete(self, oid: int) -> None:
        if self.flaw != "deletes nothing" or oid not in self.objects:
            await super().delete(oid)

    async def search(self, template: Template, after: int, limit: int) -> list[int]:
        if self.flaw == "lists private objects":
            before, self.logged_in = self.logged_in, ck.CKU_USER
            try:
                return await super().search(template, after, limit)
            finally:
                self.logged_in = before
        found = await super().search(template, after, 100_000)
        if self.flaw == "searches backwards":
            return found[::-1][:limit]
        return found[:limit]

    async def check_pin(self, user: int, pin: bytearray) -> None:
        try:
            await super().check_pin(user, pin)
        except PinIncorrect:
            if self.flaw == "tries are free":
                self.left[user] = self.tries
            if self.flaw == "vague PIN errors":
                raise GeneralError from None
            raise

    def __repr__(self) -> str:
        return f"<FlawedStore {self.pins}>" if self.flaw == "tells the PIN" else "<FlawedStore>"


class FlawedEngine(Engine):
    """The software engine with few mechanisms."""

    def __init__(self, flaw: str) -> None:
        super().__init__()
        self.flaw = flaw
        self.lock = asyncio.Lock()
        self.shared = b""

    def mechanisms(self) -> Mapping[int, tuple[int, int, int]]:
        offered = {type: info for type, info in super().mechanisms().items() if type in OFFERED}
        if self.flaw == "claims a function":
            smallest, largest, flags = offered[ck.CKM_SHA256]
            offered[ck.CKM_SHA256] = (smallest, largest, flags | ck.CKF_SIGN)
        if self.flaw == "claims sizes":
            offered[ck.CKM_AES_KEY_GEN] = (16, 64, offered[ck.CKM_AES_KEY_GEN][2])
        if self.flaw == "claims a mechanism":
            offered[ck.CKM_AES_CBC_PAD] = (16, 32, ck.CKF_ENCRYPT)
        if self.flaw == "does more than it says":
            offered[ck.CKM_ECDSA_SHA256] = (256, 521, ck.CKF_VERIFY)
        return offered

    async def begin(self, function: int, mechanism: Mechanism, key: Any) -> Any:
        info = self.mechanisms().get(mechanism.type)
        if (info is None or not info[2] & function) and self.flaw != "does more than it says":
            raise DataInvalid
        if mechanism.type == ck.CKM_AES_CBC_PAD:
            raise DataInvalid
        if self.flaw == "any parameter" and not isinstance(mechanism.parameter, bytes | None):
            mechanism = Mechanism(mechanism.type)
        return FlawedOperation(await super().begin(function, mechanism, key), self, function)

    async def generate_key_pair(self, mechanism: Any, public: Any, private: Any) -> Any:
        made = await super().generate_key_pair(mechanism, public, private)
        if self.flaw == "leaves keys open":
            made[1].update({ck.CKA_SENSITIVE: FALSE})
        return made

    async def random(self, length: int) -> bytes:
        return bytes(length) if self.flaw == "is predictable" else await super().random(length)


class FlawedOperation:
    """An operation of the engine, with the flaw in it."""

    def __init__(self, inner: Any, engine: FlawedEngine, function: int) -> None:
        self.inner = inner
        self.engine = engine
        self.flaw = engine.flaw
        self.function = function
        self.multi_part = inner.multi_part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def once_length(self, length: int) -> int:
        return int(self.inner.once_length(length)) + (self.flaw == "miscounts")

    async def once(self, data: memoryview) -> bytes:
        if self.function != ck.CKF_SIGN:
            made = bytes(await self.inner.once(data))
            return made[::-1] if self.flaw == "wrong digests" else made
        if self.flaw == "keeps its lock":
            await self.engine.lock.acquire()
            await asyncio.sleep(0.01)  # given up here, it never lets go
            self.engine.lock.release()
        if self.flaw == "mixes callers up":
            self.engine.shared = bytes(data)
            await asyncio.sleep(0.001)
            data = memoryview(self.engine.shared)
        if self.flaw == "can be used again":
            self.inner.live = True
            key = self.inner.key
            made = bytes(await self.inner.once(data))
            self.inner.live, self.inner.key = True, key
            self.inner.context = type(self.inner.context)(self.inner.algorithm) if self.multi_part else None
            return made
        made = bytes(await self.inner.once(data))
        return bytes(len(made)) if self.flaw == "signs nonsense" else made

    async def verify(self, data: memoryview, signature: memoryview) -> None:
        try:
            await self.inner.verify(data, signature)
        except HsmError as error:
            if self.flaw == "believes everything":
                return
            if self.flaw == "one error for all":
                raise DataInvalid from None
            raise error


class Flawed(MemoryAdapter):
    """The adapter."""

    name = "flawed"

    def __init__(self, section: Any) -> None:
        options = section.options
        self.flaw: str = options.get("flaw", "")
        store = TOKENS.setdefault(options["token"], FlawedStore(tries=10))
        if self.flaw == "forgets":
            store = TOKENS[options["token"]] = FlawedStore(tries=10)
        if self.flaw == "renumbers":
            store.objects = {oid + 100: attributes for oid, attributes in store.objects.items()}
        store.flaw = self.flaw
        self.counter = itertools.count(8)
        super().__init__([MemorySlot(7, FlawedEngine(self.flaw), store)], inline=options.get("inline", False))
        self.closed = False
        if self.flaw == "texts that do not fit":
            self.members[0].description = "d" * 65
        if self.flaw == "no version":
            self.version = ""

    async def slots(self) -> list[Any]:
        (slot,) = self.members
        if self.flaw == "new slots each time":
            return [MemorySlot(slot.id, slot.signer, slot.store)]
        return self.members

    async def close(self) -> None:
        if self.flaw == "closes once" and self.closed:
            raise ObjectHandleInvalid
        if self.flaw == "other slots later":
            TOKENS.clear()
        self.closed = True


class Deferred:
    """A slot's store that writes what it was given only when it is closed."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.waiting: dict[int, Attributes] = {}

    def __getattr__(self, name: str) -> Any:
        if name in ("create_pair", "create_many", "generation_words"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    async def create(self, attributes: Attributes) -> int:
        oid = 1000 + len(self.waiting)
        self.waiting[oid] = dict(attributes)
        return oid

    async def read(self, oid: int) -> Attributes:
        return dict(self.waiting[oid]) if oid in self.waiting else await self.inner.read(oid)

    async def close(self) -> None:
        for attributes in self.waiting.values():
            await self.inner.create(attributes)
        await self.inner.close()


def late(section: Any) -> Any:
    """Make the software adapter with stores that write late."""
    from ferrohsm_adapters.software import Adapter

    class Late(Adapter):
        name = "late"

        async def slots(self) -> Any:
            slots = await super().slots()
            for slot in slots:
                if not isinstance(slot.store, Deferred):
                    slot.store = Deferred(slot.store)
            return slots

    section.options.setdefault("data_dir", section.config.data_dir)
    return Late(section)
