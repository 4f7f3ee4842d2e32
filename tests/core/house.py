"""A core over tokens in memory, with the software adapter's engine."""

from __future__ import annotations

from ferrohsm_adapters.software.engine import Engine

from ferrohsm import constants as ck
from ferrohsm.adapters import Template, Value
from ferrohsm.attribute_kinds import ulong
from ferrohsm.config import Config, SlotSection
from ferrohsm.core import Core, Hidden
from ferrohsm.parameters import Mechanism
from ferrohsm.registry import Member
from ferrohsm.runtime import step
from ferrohsm.sessions import Session
from ferrohsm.testing.memory import MemoryAdapter, MemorySlot, MemoryStore

SLOT = 7
SO_PIN = b"so-pin-1"
USER_PIN = b"user-pin"
P256 = bytes.fromhex("06082a8648ce3d030107")

TRUE, FALSE = b"\x01", b"\x00"


class House:
    """A started core with one memory slot, and short ways to say things."""

    def __init__(self, *, inline: bool = True, config: Config | None = None) -> None:
        self.core = Core(Config() if config is None else config)
        step(self.core.start())
        self.slot = MemorySlot(SLOT, Engine(), MemoryStore())
        self.store = self.slot.store
        member = Member(SlotSection("memory", "memory", {}))
        member.adapter = MemoryAdapter([self.slot], inline=inline)
        self.core.members.append(member)
        step(self.core.slots())
        self._handles = iter(range(1, 1000))

    def initialize(self) -> None:
        """Make the token, with a user PIN, nobody logged in."""
        step(self.core.init_token(SLOT, bytearray(SO_PIN), "token"))
        session = self.open()
        step(self.core.login(session, ck.CKU_SO, bytearray(SO_PIN)))
        step(self.core.init_pin(session, bytearray(USER_PIN)))
        step(self.core.logout(SLOT))
        step(self.core.close_session(session))

    def open(self, *, read_write: bool = True) -> Session:
        return self.core.open_session(SLOT, next(self._handles), read_write)

    def login(self, session: Session, user: int = ck.CKU_USER) -> None:
        step(self.core.login(session, user, bytearray(USER_PIN if user == ck.CKU_USER else SO_PIN)))

    def logout(self) -> None:
        step(self.core.logout(SLOT))

    def get(self, session: Session, oid: int, *types: int) -> list[Value | Hidden]:
        return step(self.core.get_attributes(session, oid, list(types)))

    def one(self, session: Session, oid: int, type: int) -> Value | Hidden:
        return self.get(session, oid, type)[0]

    def find(self, session: Session, template: Template) -> list[int]:
        cursor = step(self.core.find(session, template))
        found: list[int] = []
        while page := step(cursor.take(3)):
            found += page
        cursor.close()
        return found

    def create(self, session: Session, *pairs: tuple[int, Value]) -> int:
        return step(self.core.create_object(session, list(pairs)))

    def aes(self, session: Session, *pairs: tuple[int, Value], length: int = 16) -> int:
        template = [(ck.CKA_VALUE_LEN, ulong(length)), *pairs]
        return step(self.core.generate_key(session, Mechanism(ck.CKM_AES_KEY_GEN), template))

    def ec(
        self, session: Session, public: Template = (), private: Template = (), curve: bytes = P256
    ) -> tuple[int, int]:
        template = [(ck.CKA_EC_PARAMS, curve), *public]
        mechanism = Mechanism(ck.CKM_EC_KEY_PAIR_GEN)
        return step(self.core.generate_key_pair(session, mechanism, template, list(private)))
