"""Keys that a device keeps: the reference is hidden, and each is released exactly when its object goes."""

from __future__ import annotations

from typing import Any

import pytest
from device import Device, GenerousDevice
from house import FALSE, SLOT, TRUE, House

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Function
from ferrohsm.attribute_kinds import ulong
from ferrohsm.core import INVALID, SENSITIVE
from ferrohsm.errors import (
    AttributeTypeInvalid,
    AttributeValueInvalid,
    DeviceMemory,
    FunctionNotSupported,
    HsmError,
    SessionClosed,
    WrappedKeyLenRange,
)
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

ON_TOKEN = (ck.CKA_TOKEN, TRUE)
KWP = Mechanism(ck.CKM_AES_KEY_WRAP_KWP)
AES_KEY = (
    (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
    (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)),
    (ck.CKA_VALUE, b"v" * 16),
)


@pytest.fixture
def device(house: House) -> Device:
    made = GenerousDevice()
    house.slot.signer = made
    return made


@pytest.fixture
def plain_device(house: House) -> Device:
    made = Device()
    house.slot.signer = made
    return made


def encrypt(house: House, session: Session, oid: int) -> bytes:
    begun = step(house.core.begin(session, Function.ENCRYPT, Mechanism(ck.CKM_AES_ECB), oid))
    return bytes(step(begun.once(memoryview(b"0123456789abcdef"))))


@pytest.mark.parametrize("where", [(), (ON_TOKEN,)], ids=["session", "token"])
def test_a_key_in_the_device_works_and_its_reference_is_never_seen(
    house: House, session: Session, device: Device, where: tuple[tuple[int, bytes], ...]
) -> None:
    oid = house.aes(session, *where, (ck.CKA_EXTRACTABLE, TRUE), (ck.CKA_SENSITIVE, FALSE))
    assert len(encrypt(house, session, oid)) == 16
    assert house.get(session, oid, CKA_REFERENCE, ck.CKA_VALUE) == [INVALID, INVALID]
    assert house.find(session, [(CKA_REFERENCE, b"key-0")]) == []
    with pytest.raises(AttributeTypeInvalid):
        step(house.core.set_attributes(session, oid, [(CKA_REFERENCE, b"key-9")]))
    with pytest.raises(AttributeTypeInvalid):
        house.aes(session, (CKA_REFERENCE, b"key-0"))
    with pytest.raises(AttributeTypeInvalid):
        house.create(session, *AES_KEY, (CKA_REFERENCE, b"key-0"))
    assert len(device.keys) == 1


@pytest.mark.parametrize("where", [(), (ON_TOKEN,)], ids=["session", "token"])
def test_a_destroyed_key_is_released(
    house: House, session: Session, device: Device, where: tuple[tuple[int, bytes], ...]
) -> None:
    oid = house.aes(session, *where)
    step(house.core.destroy_object(session, oid))
    assert device.released == [b"key-0"] and not device.keys


def test_session_objects_are_released_with_their_session(
    house: House, session: Session, device: Device
) -> None:
    other = house.open()
    stays, goes, on_token = house.aes(session), house.aes(other), house.aes(other, ON_TOKEN)
    step(house.core.close_session(other))
    assert device.released == [b"key-1"] and set(device.keys) == {b"key-0", b"key-2"}
    assert encrypt(house, session, stays) and encrypt(house, session, on_token)
    assert goes != stays


def test_private_session_objects_are_released_at_logout(
    house: House, session: Session, device: Device
) -> None:
    public = house.aes(session, (ck.CKA_PRIVATE, FALSE))
    house.aes(session, (ck.CKA_PRIVATE, TRUE))
    house.aes(session, (ck.CKA_PRIVATE, TRUE), ON_TOKEN)
    house.logout()
    assert device.released == [b"key-1"] and set(device.keys) == {b"key-0", b"key-2"}
    assert encrypt(house, session, public)


def test_all_session_objects_are_released_at_the_end(
    empty_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_house.initialize()
    device = Device()
    empty_house.slot.signer = device
    session = empty_house.open()
    empty_house.login(session)
    empty_house.aes(session, (ck.CKA_PRIVATE, FALSE))
    empty_house.aes(session, (ck.CKA_PRIVATE, TRUE))
    empty_house.aes(session, ON_TOKEN)
    logged_out: list[list[bytes]] = []
    logout = empty_house.store.logout

    async def observe() -> None:
        logged_out.append(list(device.released))
        await logout()

    monkeypatch.setattr(empty_house.store, "logout", observe)
    step(empty_house.core.stop())
    assert sorted(device.released) == [b"key-0", b"key-1"] and set(device.keys) == {b"key-2"}
    assert [sorted(released) for released in logged_out] == [[b"key-0", b"key-1"]], "before the logout"


@pytest.mark.parametrize("where", [(), (ON_TOKEN,)], ids=["session", "token"])
def test_a_key_that_cannot_be_kept_is_released(
    house: House,
    session: Session,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[tuple[int, bytes], ...],
) -> None:
    async def full(attributes: Attributes) -> int:
        raise DeviceMemory()

    monkeypatch.setattr(house.store, "create", full)
    other = house.open()
    house.core.token(SLOT).sessions.pop(other.handle)  # closed while the key is made
    expected: type[HsmError] = DeviceMemory if where else SessionClosed
    with pytest.raises(expected):
        house.aes(other, *where)
    with pytest.raises(expected):
        house.ec(other, public=where, private=where)
    with pytest.raises(expected):
        house.create(other, *AES_KEY, *where)
    assert device.released == [b"key-0", b"key-1", b"key-2"] and not device.keys


def test_a_key_that_does_not_fit_is_released(house: House, session: Session, device: Device) -> None:
    with pytest.raises(AttributeValueInvalid):
        house.ec(session, private=[(ck.CKA_PUBLIC_KEY_INFO, b"another's")])
    assert device.released == [b"key-0"]


def test_an_unwrapped_key_of_the_wrong_length_is_released(
    house: House, session: Session, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lying(
        mechanism: Mechanism, unwrapping: Any, wrapped: Any, attributes: Attributes
    ) -> Attributes:
        return {**device.take({ck.CKA_VALUE: bytearray(16)}), ck.CKA_VALUE: bytes(16)}

    wrapping = house.aes(session, (ck.CKA_UNWRAP, TRUE), length=32)
    monkeypatch.setattr(device, "unwrap", lying)
    template = [AES_KEY[0], AES_KEY[1], (ck.CKA_VALUE_LEN, ulong(24))]
    with pytest.raises(WrappedKeyLenRange):
        step(house.core.unwrap_key(session, KWP, wrapping, memoryview(bytes(24)), template))
    assert device.released == [b"key-1"]


def test_a_release_that_fails_hinders_nothing(house: House, session: Session, device: Device) -> None:
    oid = house.aes(session)
    device.fails = True
    step(house.core.destroy_object(session, oid))
    assert house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY))]) == []
    house.aes(session)
    house.logout()
    assert house.core.login_state(SLOT) is None


def test_keys_that_are_brought_in_go_to_the_device(house: House, session: Session, device: Device) -> None:
    oid = house.create(session, *AES_KEY)
    entry = step(house.core.token(SLOT).objects.hold(oid))
    assert ck.CKA_VALUE not in entry.attributes and entry.attributes[CKA_REFERENCE] == b"key-0"
    entry.release()
    assert device.keys[b"key-0"][ck.CKA_VALUE] == b"v" * 16
    kept_here = house.create(session, *AES_KEY, (ck.CKA_LABEL, b"stays"))
    assert encrypt(house, session, oid) == encrypt(house, session, kept_here)
    assert house.one(session, kept_here, ck.CKA_VALUE) is SENSITIVE
    data = house.create(session, (ck.CKA_CLASS, ulong(ck.CKO_DATA)), (ck.CKA_VALUE, b"x"))
    assert house.one(session, data, ck.CKA_VALUE) == b"x" and len(device.keys) == 1


def test_a_copy_has_a_reference_of_its_own(house: House, session: Session, device: Device) -> None:
    oid = house.aes(session)
    copied = step(house.core.copy_object(session, oid, [(ck.CKA_LABEL, b"copy")]))
    assert encrypt(house, session, oid) == encrypt(house, session, copied)
    step(house.core.destroy_object(session, oid))
    assert device.released == [b"key-0"] and len(encrypt(house, session, copied)) == 16
    assert house.one(session, copied, ck.CKA_LABEL) == b"copy"


def test_a_device_that_does_not_copy(house: House, session: Session, plain_device: Device) -> None:
    oid = house.aes(session)
    with pytest.raises(FunctionNotSupported):
        step(house.core.copy_object(session, oid, []))
    public, _ = house.ec(session)
    assert step(house.core.copy_object(session, public, [])) != public, "what it does not keep is copied here"


def test_changes_of_session_objects_are_told(house: House, session: Session, device: Any) -> None:
    here, stored = house.aes(session), house.aes(session, ON_TOKEN)
    for oid in (here, stored):
        step(house.core.set_attributes(session, oid, [(ck.CKA_LABEL, b"new")]))
        assert house.one(session, oid, ck.CKA_LABEL) == b"new"
    assert device.changed == [{ck.CKA_LABEL: b"new"}]
