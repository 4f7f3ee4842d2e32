"""The core over the software adapter: tokens on disk, across restarts and beside another process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrohsm import config, log
from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Template, Value
from ferrohsm.attribute_kinds import ulong
from ferrohsm.core import SENSITIVE, Core, Hidden, Session
from ferrohsm.errors import (
    DeviceRemoved,
    KeyHandleInvalid,
    ObjectHandleInvalid,
    PinIncorrect,
    UserNotLoggedIn,
)
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step

SO_PIN, USER_PIN = b"so-pin-1", b"user-pin"
TRUE, FALSE = b"\x01", b"\x00"
ON_TOKEN = (ck.CKA_TOKEN, TRUE)
P256 = bytes.fromhex("06082a8648ce3d030107")
ED25519 = bytes.fromhex("06032b6570")

FILE = """
data_dir = "{data}"
[kdf]
memory_kib = 7168
passes = 1
[pin]
tries = 3
delay = 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ferrohsm.toml"
    path.write_text(FILE.format(data=tmp_path / "data"))
    return path


class Process:
    """A core as another process would have it."""

    def __init__(self, file: Path) -> None:
        self.core = Core(config.load({"FERROHSM_CONF": str(file)}))
        step(self.core.start())
        self.slots = step(self.core.slots())
        self.slot = self.slots[0].id
        self._handles = iter(range(1, 1000))

    def initialize(self) -> None:
        step(self.core.init_token(self.slot, bytearray(SO_PIN), "on disk"))
        step(self.core.slots())
        session = self.open()
        step(self.core.login(session, ck.CKU_SO, bytearray(SO_PIN)))
        step(self.core.init_pin(session, bytearray(USER_PIN)))
        step(self.core.logout(self.slot))

    def open(self, *, login: bool = False, read_write: bool = True) -> Session:
        session = self.core.open_session(self.slot, next(self._handles), read_write)
        if login:
            step(self.core.login(session, ck.CKU_USER, bytearray(USER_PIN)))
        return session

    def find(self, session: Session, *template: tuple[int, Value]) -> list[int]:
        cursor = step(self.core.find(session, list(template)))
        found: list[int] = []
        while page := step(cursor.take(7)):
            found += page
        return found

    def get(self, session: Session, oid: int, *types: int) -> list[Value | Hidden]:
        return step(self.core.get_attributes(session, oid, list(types)))

    def pair(self, session: Session, mechanism: int, public: Template, label: bytes) -> tuple[int, int]:
        both = [ON_TOKEN, (ck.CKA_LABEL, label), (ck.CKA_ID, label)]
        return step(
            self.core.generate_key_pair(session, Mechanism(mechanism), [*public, *both], both),
        )

    def sign(self, session: Session, mechanism: int, oid: int, data: bytes) -> bytes:
        operation = step(self.core.begin(session, Function.SIGN, Mechanism(mechanism), oid))
        return bytes(step(operation.once(memoryview(data))))

    def verify(self, session: Session, mechanism: int, oid: int, data: bytes, signature: bytes) -> None:
        operation = step(self.core.begin(session, Function.VERIFY, Mechanism(mechanism), oid))
        step(operation.verify(memoryview(data), memoryview(signature)))

    def stop(self) -> None:
        step(self.core.stop())


@pytest.fixture
def process(file: Path) -> Iterator[Process]:
    process = Process(file)
    process.initialize()
    yield process
    process.stop()
    log.close()


def test_free_slot(file: Path) -> None:
    first = Process(file)
    [free] = first.slots
    assert free.free and not free.initialized and free.token_present and 0 < free.id < 2**31
    first.initialize()
    made, other = step(first.core.slots())
    assert (made.id, made.initialized, made.free) == (free.id, True, False)
    assert other.free and other.id != made.id
    serial = step(first.core.token_info(made.id)).serial_number
    first.stop()
    second = Process(file)
    assert [view.id for view in second.slots] == [made.id, other.id]
    info = step(second.core.token_info(made.id))
    assert (info.serial_number, info.label) == (serial, "on disk")
    second.stop()


def test_two_processes_take_the_free_slot(file: Path) -> None:
    first, second = Process(file), Process(file)
    assert first.slot == second.slot
    first.initialize()
    with pytest.raises(DeviceRemoved):
        step(second.core.init_token(second.slot, bytearray(b"another-so"), "late"))
    assert not step(first.core.token_info(first.slot)).flags & ck.CKF_SO_PIN_COUNT_LOW
    views = step(second.core.slots())
    assert [(view.initialized, view.free) for view in views] == [(True, False), (False, True)]
    step(second.core.init_token(views[1].id, bytearray(b"another-so"), "late"))
    assert step(second.core.token_info(views[0].id)).label == "on disk"
    first.stop()
    second.stop()


KEYS = [
    (ck.CKM_RSA_PKCS_KEY_PAIR_GEN, [(ck.CKA_MODULUS_BITS, ulong(2048))], ck.CKM_SHA256_RSA_PKCS_PSS, b"rsa"),
    (ck.CKM_EC_KEY_PAIR_GEN, [(ck.CKA_EC_PARAMS, P256)], ck.CKM_ECDSA_SHA256, b"ec"),
    (ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, [(ck.CKA_EC_PARAMS, ED25519)], ck.CKM_EDDSA, b"ed"),
]


def test_keys_survive_a_restart(file: Path, process: Process) -> None:
    from ferrohsm.parameters import RsaPss

    pss = RsaPss(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, 32)
    session = process.open(login=True)
    pairs = {}
    for generate, public, sign, label in KEYS:
        pairs[label] = process.pair(session, generate, public, label)
        mechanism = Mechanism(sign, pss if label == b"rsa" else None)
        operation = step(process.core.begin(session, Function.SIGN, mechanism, pairs[label][1]))
        assert step(operation.once(memoryview(b"before")))
    template = [ON_TOKEN, (ck.CKA_VALUE_LEN, ulong(32)), (ck.CKA_LABEL, b"aes")]
    aes = step(process.core.generate_key(session, Mechanism(ck.CKM_AES_KEY_GEN), template))
    mac = process.sign(session, ck.CKM_AES_CMAC, aes, b"data")
    again = Process(file)
    late = again.open()
    public_class = (ck.CKA_CLASS, ulong(ck.CKO_PUBLIC_KEY))
    assert again.find(late, public_class) == [pair[0] for pair in pairs.values()]
    assert again.find(late, (ck.CKA_LABEL, b"aes")) == []
    with pytest.raises(ObjectHandleInvalid):
        again.get(late, aes, ck.CKA_LABEL)
    with pytest.raises(KeyHandleInvalid):
        again.sign(late, ck.CKM_AES_CMAC, aes, b"data")
    step(again.core.login(late, ck.CKU_USER, bytearray(USER_PIN)))
    for _, _, sign, label in KEYS:
        public, private = again.find(late, (ck.CKA_ID, label))
        assert (public, private) == pairs[label]
        mechanism = Mechanism(sign, pss if label == b"rsa" else None)
        operation = step(again.core.begin(late, Function.SIGN, mechanism, private))
        signature = step(operation.once(memoryview(b"after")))
        check = step(again.core.begin(late, Function.VERIFY, mechanism, public))
        step(check.verify(memoryview(b"after"), memoryview(bytes(signature))))
        assert again.get(late, private, ck.CKA_SENSITIVE, ck.CKA_LOCAL) == [TRUE, TRUE]
    assert again.sign(late, ck.CKM_AES_CMAC, aes, b"data") == mac
    assert again.get(late, aes, ck.CKA_VALUE, ck.CKA_VALUE_LEN) == [SENSITIVE, ulong(32)]
    again.stop()


def test_another_process_changes_things(file: Path, process: Process) -> None:
    session = process.open(login=True)
    _, private = process.pair(session, *KEYS[1][:2], b"shared")
    process.sign(session, ck.CKM_ECDSA_SHA256, private, b"x")
    other = Process(file)
    theirs = other.open(login=True)
    step(other.core.set_attributes(theirs, private, [(ck.CKA_LABEL, b"renamed"), (ck.CKA_SIGN, FALSE)]))
    assert process.get(session, private, ck.CKA_LABEL, ck.CKA_SIGN) == [b"renamed", FALSE]
    assert process.find(session, (ck.CKA_LABEL, b"renamed")) == [private]
    step(other.core.destroy_object(theirs, private))
    with pytest.raises(ObjectHandleInvalid):
        process.get(session, private, ck.CKA_LABEL)
    assert process.find(session, (ck.CKA_CLASS, ulong(ck.CKO_PRIVATE_KEY))) == []
    other.stop()


def test_finding_on_disk(process: Process) -> None:
    session = process.open(login=True)
    data = (ck.CKA_CLASS, ulong(ck.CKO_DATA))
    made: dict[bytes, list[int]] = {b"": [], b"even": [], b"odd": []}
    for number in range(20):
        label = b"odd" if number % 2 else b"even"
        private = (ck.CKA_PRIVATE, TRUE if number < 10 else FALSE)
        value = (ck.CKA_VALUE, bytes((number,)))
        oid = step(
            process.core.create_object(session, [data, ON_TOKEN, (ck.CKA_LABEL, label), private, value])
        )
        made[label].append(oid)
        made[b""].append(oid)
    assert process.find(session, data) == made[b""]
    assert process.find(session, (ck.CKA_LABEL, b"odd")) == made[b"odd"]
    assert process.find(session, (ck.CKA_VALUE, b"\x03")) == [made[b""][3]]
    assert process.find(session, (ck.CKA_LABEL, b"odd"), (ck.CKA_VALUE, b"\x02")) == []
    assert process.find(session, data, (ck.CKA_PRIVATE, TRUE)) == made[b""][:10]
    step(process.core.logout(process.slot))
    assert process.find(session, data) == made[b""][10:]
    assert process.find(session, data, (ck.CKA_PRIVATE, TRUE)) == []
    step(process.core.login(session, ck.CKU_SO, bytearray(SO_PIN)))
    assert process.find(session, data) == made[b""][10:]
    with pytest.raises(ObjectHandleInvalid):
        process.get(session, made[b""][0], ck.CKA_LABEL)


def test_secret_values_are_not_found(process: Process) -> None:
    session = process.open(login=True)
    value = (ck.CKA_VALUE, bytearray(range(32)))
    secret = [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)), ON_TOKEN, value]
    step(process.core.create_object(session, secret))
    shown = [(ck.CKA_SENSITIVE, FALSE), (ck.CKA_EXTRACTABLE, TRUE)]
    readable = step(process.core.create_object(session, [*secret, *shown]))
    assert len(process.find(session, secret[0])) == 2
    assert process.find(session, value) == [readable]
    assert process.get(session, readable, ck.CKA_VALUE) == [value[1]]


def test_pins_on_disk(file: Path, process: Process) -> None:
    session = process.open()
    for _ in range(2):
        with pytest.raises(PinIncorrect):
            step(process.core.login(session, ck.CKU_USER, bytearray(b"wrong")))
    again = Process(file)
    flags = step(again.core.token_info(again.slot)).flags
    assert flags & ck.CKF_USER_PIN_FINAL_TRY and flags & ck.CKF_USER_PIN_COUNT_LOW
    late = again.open(login=True)
    assert not step(again.core.token_info(again.slot)).flags & ck.CKF_USER_PIN_COUNT_LOW
    step(again.core.set_pin(late, bytearray(USER_PIN), bytearray(b"another")))
    with pytest.raises(PinIncorrect):
        step(process.core.login(session, ck.CKU_USER, bytearray(USER_PIN)))
    step(process.core.login(session, ck.CKU_USER, bytearray(b"another")))
    again.stop()


def test_initializing_again(process: Process) -> None:
    session = process.open(login=True)
    process.pair(session, *KEYS[1][:2], b"gone")
    with pytest.raises(PinIncorrect):
        step(process.core.init_token(process.slot, bytearray(b"wrong-so"), "new"))
    assert len(process.find(session, (ck.CKA_LABEL, b"gone"))) == 2
    step(process.core.init_token(process.slot, bytearray(SO_PIN), "new"))
    assert process.find(session, (ck.CKA_LABEL, b"gone")) == []
    assert step(process.core.token_info(process.slot)).label == "new"
    assert step(process.core.slots())[0].id == process.slot
    with pytest.raises(UserNotLoggedIn):
        process.pair(session, *KEYS[1][:2], b"x")
