"""Which key with which mechanism: types, flags, allowed mechanisms, configuration, re-authentication."""

from __future__ import annotations

import pytest
from house import FALSE, SLOT, TRUE, House

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.attribute_kinds import ulong
from ferrohsm.config import Config
from ferrohsm.errors import (
    HsmError,
    KeyFunctionNotPermitted,
    KeyHandleInvalid,
    KeyTypeInconsistent,
    MechanismInvalid,
    OperationNotInitialized,
    UnwrappingKeyTypeInconsistent,
    UserNotLoggedIn,
    WrappingKeyTypeInconsistent,
)
from ferrohsm.parameters import Ecdh1, Mechanism
from ferrohsm.policy import USES
from ferrohsm.runtime import step
from ferrohsm.sessions import Session
from ferrohsm.settings import MechanismSettings

CMAC = Mechanism(ck.CKM_AES_CMAC)
ECDSA = Mechanism(ck.CKM_ECDSA_SHA256)
ECB = Mechanism(ck.CKM_AES_ECB)


def begin(house: House, session: Session, function: int, mechanism: Mechanism, oid: int) -> None:
    step(house.core.begin(session, function, mechanism, oid)).close()


def test_right_keys(house: House, session: Session) -> None:
    public, private = house.ec(session)
    secret = house.aes(session)
    for function, mechanism, oid in (
        (Function.SIGN, ECDSA, private),
        (Function.VERIFY, ECDSA, public),
        (Function.SIGN, CMAC, secret),
        (Function.VERIFY, CMAC, secret),
        (Function.ENCRYPT, ECB, secret),
        (Function.DECRYPT, ECB, secret),
    ):
        begin(house, session, function, mechanism, oid)


def test_wrong_keys(house: House, session: Session) -> None:
    public, private = house.ec(session)
    secret = house.aes(session)
    data = house.create(session, (ck.CKA_CLASS, ulong(ck.CKO_DATA)))
    for function, mechanism, oid, error in (
        (Function.SIGN, ECDSA, public, KeyTypeInconsistent),
        (Function.VERIFY, ECDSA, private, KeyTypeInconsistent),
        (Function.SIGN, ECDSA, secret, KeyTypeInconsistent),
        (Function.SIGN, CMAC, private, KeyTypeInconsistent),
        (Function.ENCRYPT, ECB, data, KeyTypeInconsistent),
        (Function.SIGN, ECB, secret, MechanismInvalid),
        (Function.SIGN, Mechanism(ck.CKM_SHA256), secret, MechanismInvalid),
        (Function.SIGN, Mechanism(0x4321), secret, MechanismInvalid),
        (Function.SIGN, CMAC, 4711, KeyHandleInvalid),
        (Function.SIGN, CMAC, -4711, KeyHandleInvalid),
    ):
        with pytest.raises(error):
            begin(house, session, function, mechanism, oid)
    wrap = Mechanism(ck.CKM_AES_KEY_WRAP_KWP)
    template = [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES))]
    with pytest.raises(WrappingKeyTypeInconsistent):
        step(house.core.wrap_key(session, wrap, public, secret, None))
    with pytest.raises(UnwrappingKeyTypeInconsistent):
        step(house.core.unwrap_key(session, wrap, private, memoryview(bytes(24)), template))


SECRET_USES = [
    (Function.ENCRYPT, ECB),
    (Function.DECRYPT, ECB),
    (Function.SIGN, CMAC),
    (Function.VERIFY, CMAC),
]


@pytest.mark.parametrize(("function", "mechanism"), SECRET_USES)
def test_flags(house: House, session: Session, function: int, mechanism: Mechanism) -> None:
    oid = house.aes(session, (USES[function].attribute, FALSE))
    with pytest.raises(KeyFunctionNotPermitted):
        begin(house, session, function, mechanism, oid)
    step(house.core.set_attributes(session, oid, [(USES[function].attribute, TRUE)]))
    begin(house, session, function, mechanism, oid)


def test_other_flags(house: House, session: Session) -> None:
    target = house.aes(session, (ck.CKA_EXTRACTABLE, TRUE))
    key = house.aes(session, (ck.CKA_WRAP, FALSE), (ck.CKA_UNWRAP, FALSE))
    wrap = Mechanism(ck.CKM_AES_KEY_WRAP_KWP)
    template = [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES))]
    refusals: tuple[tuple[object, type[HsmError]], ...] = (
        (house.core.wrap_key(session, wrap, key, target, None), KeyFunctionNotPermitted),
        (
            house.core.unwrap_key(session, wrap, key, memoryview(bytes(24)), template),
            KeyFunctionNotPermitted,
        ),
        (
            house.core.derive_key(session, Mechanism(ck.CKM_AES_ECB_ENCRYPT_DATA, bytes(16)), key, []),
            KeyFunctionNotPermitted,
        ),
    )
    for refused, error in refusals:
        with pytest.raises(error):
            step(refused)  # type: ignore[arg-type]


def test_allowed_mechanisms(house: House, session: Session) -> None:
    only = (ck.CKA_ALLOWED_MECHANISMS, ulong(ck.CKM_AES_CBC) + ulong(ck.CKM_AES_CMAC))
    oid = house.aes(session, only)
    begin(house, session, Function.SIGN, CMAC, oid)
    with pytest.raises(MechanismInvalid):
        begin(house, session, Function.ENCRYPT, ECB, oid)
    nothing = house.aes(session, (ck.CKA_ALLOWED_MECHANISMS, b""))
    with pytest.raises(MechanismInvalid):
        begin(house, session, Function.SIGN, CMAC, nothing)


def test_configured_mechanisms() -> None:
    config = Config(mechanisms=MechanismSettings(allow=None, deny=frozenset((ck.CKM_AES_ECB,))))
    house = House(config=config)
    house.initialize()
    session = house.open()
    house.login(session)
    listed = step(house.core.mechanism_list(SLOT))
    assert ck.CKM_AES_ECB not in listed and ck.CKM_AES_CBC in listed
    with pytest.raises(MechanismInvalid):
        step(house.core.mechanism_info(SLOT, ck.CKM_AES_ECB))
    with pytest.raises(MechanismInvalid):
        begin(house, session, Function.ENCRYPT, ECB, house.aes(session))
    step(house.core.stop())
    house = House(
        config=Config(mechanisms=MechanismSettings(allow=frozenset((ck.CKM_SHA256,)), deny=frozenset()))
    )
    assert step(house.core.mechanism_list(SLOT)) == [ck.CKM_SHA256]
    step(house.core.stop())


def test_mechanism_info(house: House) -> None:
    smallest, largest, flags = step(house.core.mechanism_info(SLOT, ck.CKM_RSA_PKCS))
    assert 0 < smallest < largest
    assert flags & Function.SIGN and not flags & Function.DERIVE
    with pytest.raises(MechanismInvalid):
        step(house.core.mechanism_info(SLOT, 0x7654321))


def test_always_authenticate(house: House, session: Session) -> None:
    _, private = house.ec(session, private=[(ck.CKA_ALWAYS_AUTHENTICATE, TRUE)])
    operation = step(house.core.begin(session, Function.SIGN, ECDSA, private))
    assert operation.needs_login and operation.valid()
    with pytest.raises(UserNotLoggedIn):
        step(operation.once(memoryview(b"data")))
    operation.needs_login = False
    assert step(operation.once(memoryview(b"data")))
    with pytest.raises(OperationNotInitialized):
        step(operation.once(memoryview(b"data")))
    assert step(house.core.begin(session, Function.SIGN, ECDSA, private)).needs_login
    _, plain = house.ec(session)
    assert not step(house.core.begin(session, Function.SIGN, ECDSA, plain)).needs_login


def test_always_authenticate_without_a_second_step(house: House, session: Session) -> None:
    flags = [(ck.CKA_ALWAYS_AUTHENTICATE, TRUE), (ck.CKA_DERIVE, TRUE)]
    public, private = house.ec(session, private=flags)
    point = house.one(session, public, ck.CKA_EC_POINT)
    assert isinstance(point, bytes)
    mechanism = Mechanism(ck.CKM_ECDH1_DERIVE, Ecdh1(ck.CKD_NULL, b"", point))
    with pytest.raises(UserNotLoggedIn):
        step(house.core.derive_key(session, mechanism, private, []))


def test_operation_is_used_once(house: House, session: Session) -> None:
    public, private = house.ec(session)
    operation = step(house.core.begin(session, Function.SIGN, ECDSA, private))
    length = operation.once_length(4)
    signature = step(operation.once(memoryview(b"data")))
    assert length == len(signature) == 64
    assert not operation.valid()
    operation.close()
    operation.close()
    verify = step(house.core.begin(session, Function.VERIFY, ECDSA, public))
    step(verify.update(memoryview(b"da")))
    step(verify.update(memoryview(b"ta")))
    step(verify.finish_verify(memoryview(bytes(signature))))
    assert house.core.token(SLOT).operations == set()


def test_random(house: House) -> None:
    assert len(step(house.core.random(SLOT, 32))) == 32
    assert step(house.core.random(SLOT, 16)) != step(house.core.random(SLOT, 16))
