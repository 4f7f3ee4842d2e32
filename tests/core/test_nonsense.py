"""Random templates, mechanisms and objects: refused with a return value, nothing lost, nothing left held."""

from __future__ import annotations

import os
import random

import pytest
from house import FALSE, P256, SLOT, TRUE, House

from ferrohsm import attribute_rules
from ferrohsm import constants as ck
from ferrohsm.adapters import Value
from ferrohsm.attribute_kinds import ulong
from ferrohsm.attributes import known_types
from ferrohsm.errors import HsmError
from ferrohsm.mechanisms import ROWS
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

CALLS = int(os.environ.get("FERROHSM_TEST_CALLS", "20000"))
TYPES = [*sorted(known_types()), 0x9999, ck.CKA_VENDOR_DEFINED + 1]
CLASSES = [key[0] for key in attribute_rules.CLASSES]
KEY_TYPES = [key[1] for key in attribute_rules.CLASSES if key[1] is not None]
MECHANISMS = [mechanism for mechanism in ROWS if mechanism != ck.CKM_RSA_PKCS_KEY_PAIR_GEN]  # slow
LENGTHS = [0, 1, 7, 8, 16, 24, 32, 33, 65]


class Nonsense:
    """Calls of all kinds, most of them wrong."""

    def __init__(self, house: House, session: Session, seed: int) -> None:
        self.random = random.Random(seed)
        self.core = house.core
        self.session = session
        self.objects = [0, 1, -1]
        self.calls = [
            lambda: self.keep(self.core.create_object(session, self.template())),
            lambda: self.keep(self.core.copy_object(session, self.object(), self.template()[:2])),
            lambda: step(self.core.destroy_object(session, self.object())),
            lambda: step(self.core.get_attributes(session, self.object(), self.random.choices(TYPES, k=5))),
            lambda: step(self.core.set_attributes(session, self.object(), self.template()[:2])),
            lambda: step(step(self.core.find(session, self.template()[:2])).take(5)),
            lambda: self.keep(self.core.generate_key(session, self.mechanism(), self.template())),
            lambda: self.objects.extend(
                step(self.core.generate_key_pair(session, self.mechanism(), self.template(), self.template()))
            ),
            lambda: step(self.core.wrap_key(session, self.mechanism(), self.object(), self.object(), None)),
            lambda: self.keep(
                self.core.unwrap_key(session, self.mechanism(), self.object(), self.data(), self.template())
            ),
            lambda: self.keep(
                self.core.derive_key(session, self.mechanism(), self.object(), self.template())
            ),
            self.operate,
        ]

    def data(self) -> memoryview:
        return memoryview(self.random.randbytes(self.random.choice(LENGTHS)))

    def object(self) -> int:
        return self.random.choice(self.objects)

    def keep(self, coroutine: object) -> None:
        self.objects.append(step(coroutine))  # type: ignore[arg-type]
        if len(self.objects) > 400:
            del self.objects[3:200]

    def mechanism(self) -> Mechanism:
        parameter = self.random.choice([None, b"", bytes(16), bytes(8), 3])
        return Mechanism(self.random.choice(MECHANISMS), parameter)

    def value(self) -> Value:
        choose = self.random.choice
        made: list[Value] = [
            TRUE,
            FALSE,
            ulong(choose(CLASSES)),
            ulong(choose(KEY_TYPES)),
            ulong(self.random.randrange(64)),
            bytes(self.data()),
            bytearray(self.data()),
            tuple((choose(TYPES), choose([TRUE, b"", ulong(4), (), ((0, b""),)])) for _ in range(2)),
            P256,
            b"20261124",
        ]
        return choose(made)

    def template(self) -> list[tuple[int, Value]]:
        chance = self.random.random
        template = [(self.random.choice(TYPES), self.value()) for _ in range(self.random.randrange(4))]
        likely: list[tuple[float, int, Value]] = [
            (0.8, ck.CKA_CLASS, ulong(self.random.choice(CLASSES))),
            (0.8, ck.CKA_KEY_TYPE, ulong(self.random.choice(KEY_TYPES))),
            (0.5, ck.CKA_VALUE, bytearray(self.random.randbytes(16))),
            (0.3, ck.CKA_VALUE_LEN, ulong(self.random.choice([0, 16, 32, 2**63]))),
            (0.3, ck.CKA_EC_PARAMS, P256),
            (0.3, ck.CKA_TOKEN, TRUE),
        ]
        template += [(attribute, value) for odds, attribute, value in likely if chance() < odds]
        self.random.shuffle(template)
        return template

    def operate(self) -> None:
        function = 0x100 << self.random.randrange(12)
        operation = step(self.core.begin(self.session, function, self.mechanism(), self.object()))
        try:
            step(operation.once(self.data()))
        finally:
            operation.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_nonsense(house: House, session: Session, seed: int) -> None:
    nonsense = Nonsense(house, session, seed)
    done = 0
    for _ in range(CALLS):
        try:
            nonsense.random.choice(nonsense.calls)()
            done += 1
        except HsmError:
            pass
    assert CALLS > done > CALLS // 100
    assert house.aes(session) in house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY))])
    token = house.core.token(SLOT)
    assert token.operations == set()
    registry = token.objects
    entries = [*registry._session_objects.values(), *registry._cache.values()]
    assert entries
    assert all(entry.holders == 0 and not entry.retired for entry in entries)
