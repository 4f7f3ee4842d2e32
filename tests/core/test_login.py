"""Who is logged in, and what that allows: the state table, PINs, token flags."""

from __future__ import annotations

import pytest
from house import FALSE, SLOT, SO_PIN, TRUE, USER_PIN, House

from ferrohsm import constants as ck
from ferrohsm.attribute_kinds import ulong
from ferrohsm.errors import (
    ArgumentsBad,
    HsmError,
    ObjectHandleInvalid,
    OperationNotInitialized,
    PinIncorrect,
    PinLenRange,
    PinLocked,
    SessionReadOnly,
    SessionReadOnlyExists,
    SlotIdInvalid,
    TokenWriteProtected,
    UserAlreadyLoggedIn,
    UserAnotherAlreadyLoggedIn,
    UserNotLoggedIn,
    UserPinNotInitialized,
    UserTypeInvalid,
)
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

DATA = (ck.CKA_CLASS, ulong(ck.CKO_DATA))


def flags(house: House) -> int:
    return step(house.core.token_info(SLOT)).flags


@pytest.mark.parametrize(
    ("read_write", "user", "state"),
    [
        (False, None, ck.CKS_RO_PUBLIC_SESSION),
        (False, ck.CKU_USER, ck.CKS_RO_USER_FUNCTIONS),
        (True, None, ck.CKS_RW_PUBLIC_SESSION),
        (True, ck.CKU_USER, ck.CKS_RW_USER_FUNCTIONS),
        (True, ck.CKU_SO, ck.CKS_RW_SO_FUNCTIONS),
    ],
)
def test_states(house: House, read_write: bool, user: int | None, state: int) -> None:
    session = house.open(read_write=read_write)
    if user is not None:
        house.login(session, user)
    assert session.state == state
    assert house.core.login_state(SLOT) == user


# What each state may do: (token object, private) → the refusal, None when it may.
ACCESS: dict[tuple[bool, int | None], dict[tuple[bool, bool], type[HsmError] | None]] = {
    (False, None): {
        (False, False): None,
        (True, False): SessionReadOnly,
        (False, True): UserNotLoggedIn,
        (True, True): SessionReadOnly,
    },
    (False, ck.CKU_USER): {
        (False, False): None,
        (True, False): SessionReadOnly,
        (False, True): None,
        (True, True): SessionReadOnly,
    },
    (True, None): {
        (False, False): None,
        (True, False): None,
        (False, True): UserNotLoggedIn,
        (True, True): UserNotLoggedIn,
    },
    (True, ck.CKU_USER): dict.fromkeys([(False, False), (True, False), (False, True), (True, True)]),
    (True, ck.CKU_SO): {
        (False, False): None,
        (True, False): None,
        (False, True): UserNotLoggedIn,
        (True, True): UserNotLoggedIn,
    },
}


@pytest.mark.parametrize(
    ("read_write", "user", "on_token", "private"),
    [(*state, *kind) for state, kinds in ACCESS.items() for kind in kinds],
)
def test_creating(house: House, read_write: bool, user: int | None, on_token: bool, private: bool) -> None:
    session = house.open(read_write=read_write)
    if user is not None:
        house.login(session, user)
    template = [
        DATA,
        (ck.CKA_TOKEN, TRUE if on_token else FALSE),
        (ck.CKA_PRIVATE, TRUE if private else FALSE),
    ]
    refusal = ACCESS[(read_write, user)][(on_token, private)]
    if refusal is None:
        oid = house.create(session, *template)
        assert (oid > 0) == on_token
        step(house.core.set_attributes(session, oid, [(ck.CKA_LABEL, b"new")]))
        step(house.core.destroy_object(session, oid))
        with pytest.raises(ObjectHandleInvalid):
            house.get(session, oid, ck.CKA_LABEL)
    else:
        with pytest.raises(refusal):
            house.create(session, *template)
        assert house.store.objects == {}


@pytest.mark.parametrize(("read_write", "user"), ACCESS)
def test_seeing(house: House, session: Session, read_write: bool, user: int | None) -> None:
    public = house.create(session, DATA, (ck.CKA_TOKEN, TRUE))
    private = house.create(session, DATA, (ck.CKA_TOKEN, TRUE), (ck.CKA_PRIVATE, TRUE))
    house.logout()
    other = house.open(read_write=read_write)
    if user is not None:
        house.login(other, user)
    seen = [public, private] if user == ck.CKU_USER else [public]
    assert house.find(other, [DATA]) == seen
    assert house.find(other, [DATA, (ck.CKA_PRIVATE, TRUE)]) == seen[1:]
    for oid in (public, private):
        if oid in seen:
            assert house.one(other, oid, ck.CKA_CLASS) == ulong(ck.CKO_DATA)
            if not read_write:
                with pytest.raises(SessionReadOnly):
                    step(house.core.destroy_object(other, oid))
                with pytest.raises(SessionReadOnly):
                    step(house.core.set_attributes(other, oid, [(ck.CKA_LABEL, b"x")]))
        else:
            for refused in (
                house.core.get_attributes(other, oid, [ck.CKA_CLASS]),
                house.core.object_size(other, oid),
                house.core.set_attributes(other, oid, [(ck.CKA_LABEL, b"x")]),
                house.core.copy_object(other, oid, []),
                house.core.destroy_object(other, oid),
            ):
                with pytest.raises(ObjectHandleInvalid):
                    step(refused)


def test_login_is_shared(house: House) -> None:
    first, second = house.open(), house.open(read_write=False)
    house.login(first)
    assert second.state == ck.CKS_RO_USER_FUNCTIONS
    with pytest.raises(UserAlreadyLoggedIn):
        house.login(second)
    with pytest.raises(UserAnotherAlreadyLoggedIn):
        house.login(first, ck.CKU_SO)
    house.logout()
    assert first.state == ck.CKS_RW_PUBLIC_SESSION
    with pytest.raises(UserNotLoggedIn):
        house.logout()


def test_so_and_read_only_sessions(house: House) -> None:
    house.open(read_write=False)
    with pytest.raises(SessionReadOnlyExists):
        house.login(house.open(), ck.CKU_SO)


def test_user_types(house: House) -> None:
    session = house.open()
    with pytest.raises(UserTypeInvalid):
        step(house.core.login(session, 99, bytearray(USER_PIN)))
    with pytest.raises(OperationNotInitialized):
        step(house.core.login(session, ck.CKU_CONTEXT_SPECIFIC, bytearray(USER_PIN)))


def test_no_user_pin_yet(empty_house: House) -> None:
    house = empty_house
    session = house.open()
    with pytest.raises(UserPinNotInitialized):
        house.login(session)
    with pytest.raises(PinIncorrect):
        house.login(session, ck.CKU_SO)
    step(house.core.init_token(SLOT, bytearray(SO_PIN), "t"))
    with pytest.raises(UserPinNotInitialized):
        house.login(session)
    with pytest.raises(UserPinNotInitialized):
        step(house.core.set_pin(session, bytearray(USER_PIN), bytearray(b"other")))


def test_wrong_pins_and_flags(house: House) -> None:
    session = house.open()
    low, final, locked = ck.CKF_USER_PIN_COUNT_LOW, ck.CKF_USER_PIN_FINAL_TRY, ck.CKF_USER_PIN_LOCKED
    assert flags(house) & (low | final | locked) == 0
    expected = [low, low | final, low | locked]
    for number, shown in enumerate(expected):
        with pytest.raises(PinLocked if number == 2 else PinIncorrect):
            step(house.core.login(session, ck.CKU_USER, bytearray(b"wrong")))
        assert flags(house) & (low | final | locked) == shown
        assert house.core.login_state(SLOT) is None
    with pytest.raises(PinLocked):
        house.login(session)
    house.login(session, ck.CKU_SO)
    step(house.core.init_pin(session, bytearray(b"fresh-pin")))
    house.logout()
    step(house.core.login(session, ck.CKU_USER, bytearray(b"fresh-pin")))
    assert flags(house) & (low | final | locked) == 0


def test_so_flags(house: House) -> None:
    session = house.open()
    for _ in range(2):
        with pytest.raises(PinIncorrect):
            step(house.core.login(session, ck.CKU_SO, bytearray(b"wrong")))
    assert flags(house) & ck.CKF_SO_PIN_FINAL_TRY
    assert flags(house) & ck.CKF_SO_PIN_COUNT_LOW
    assert not flags(house) & ck.CKF_USER_PIN_COUNT_LOW
    with pytest.raises(PinLocked):
        step(house.core.login(session, ck.CKU_SO, bytearray(b"wrong")))
    assert flags(house) & ck.CKF_SO_PIN_LOCKED


def test_token_info(empty_house: House) -> None:
    house = empty_house
    constant = ck.CKF_RNG | ck.CKF_LOGIN_REQUIRED | ck.CKF_CLOCK_ON_TOKEN | ck.CKF_ASYNC_SESSION_SUPPORTED
    assert flags(house) == constant
    step(house.core.init_token(SLOT, bytearray(SO_PIN), "größe"))
    info = step(house.core.token_info(SLOT))
    assert (info.label, info.serial_number, info.model) == ("größe", house.store.serial, "FerroHSM")
    assert (info.min_pin_len, info.max_pin_len) == (4, 255)
    assert info.flags == constant | ck.CKF_TOKEN_INITIALIZED
    assert len(info.utc_time) == 16 and info.utc_time.isdigit()
    house.store.write_protected = True
    assert flags(house) & ck.CKF_WRITE_PROTECTED
    house.store.write_protected = False
    house.initialize()
    assert flags(house) & ck.CKF_USER_PIN_INITIALIZED


def test_init_pin_is_the_so_s(house: House) -> None:
    session = house.open()
    for user in (None, ck.CKU_USER):
        if user is not None:
            house.login(session, user)
        with pytest.raises(UserNotLoggedIn):
            step(house.core.init_pin(session, bytearray(b"new-pin")))
    house.logout()
    house.login(session, ck.CKU_SO)
    for pin in (b"123", b"x" * 256):
        with pytest.raises(PinLenRange):
            step(house.core.init_pin(session, bytearray(pin)))
    step(house.core.init_pin(session, bytearray(b"1234")))
    step(house.core.init_pin(session, bytearray(b"x" * 255)))


@pytest.mark.parametrize("user", [None, ck.CKU_USER, ck.CKU_SO])
def test_set_pin(house: House, user: int | None) -> None:
    session = house.open()
    if user is not None:
        house.login(session, user)
    old = SO_PIN if user == ck.CKU_SO else USER_PIN
    with pytest.raises(PinIncorrect):
        step(house.core.set_pin(session, bytearray(b"wrong"), bytearray(b"new-pin")))
    with pytest.raises(PinLenRange):
        step(house.core.set_pin(session, bytearray(old), bytearray(b"new")))
    step(house.core.set_pin(session, bytearray(old), bytearray(b"new-pin")))
    if user is not None:
        house.logout()
    changed = ck.CKU_SO if user == ck.CKU_SO else ck.CKU_USER
    step(house.core.login(session, changed, bytearray(b"new-pin")))


def test_set_pin_read_only(house: House) -> None:
    with pytest.raises(SessionReadOnly):
        step(house.core.set_pin(house.open(read_write=False), bytearray(USER_PIN), bytearray(b"new-pin")))


def test_write_protected(house: House, session: Session) -> None:
    oid = house.create(session, DATA, (ck.CKA_TOKEN, TRUE))
    house.store.write_protected = True
    for refused in (
        house.core.create_object(session, [DATA, (ck.CKA_TOKEN, TRUE)]),
        house.core.set_attributes(session, oid, [(ck.CKA_LABEL, b"x")]),
        house.core.destroy_object(session, oid),
        house.core.copy_object(session, oid, []),
        house.core.set_pin(session, bytearray(USER_PIN), bytearray(b"new-pin")),
        house.core.init_token(SLOT, bytearray(SO_PIN), "again"),
    ):
        with pytest.raises(TokenWriteProtected):
            step(refused)
    assert house.find(session, [DATA]) == [oid]
    house.create(session, DATA)  # a session object needs no medium
    house.store.write_protected = False


def test_reinitialize(house: House, session: Session) -> None:
    oid = house.create(session, DATA, (ck.CKA_TOKEN, TRUE))
    with pytest.raises(PinIncorrect):
        step(house.core.init_token(SLOT, bytearray(b"wrong-pin"), "new"))
    assert house.find(session, [DATA]) == [oid]
    assert step(house.core.token_info(SLOT)).label == "token"
    with pytest.raises(ArgumentsBad):
        step(house.core.init_token(SLOT, bytearray(SO_PIN), "x" * 33))
    step(house.core.init_token(SLOT, bytearray(SO_PIN), "new"))
    assert house.find(session, [DATA]) == []
    assert house.core.login_state(SLOT) is None
    assert not flags(house) & ck.CKF_USER_PIN_INITIALIZED


def test_pin_length_at_first_initialization(empty_house: House) -> None:
    with pytest.raises(PinLenRange):
        step(empty_house.core.init_token(SLOT, bytearray(b"abc"), "t"))
    assert not empty_house.store.initialized


def test_check_pin(house: House, session: Session) -> None:
    step(house.core.check_pin(session, bytearray(USER_PIN)))
    for _ in range(2):
        with pytest.raises(PinIncorrect):
            step(house.core.check_pin(session, bytearray(b"wrong")))
    assert house.core.login_state(SLOT) == ck.CKU_USER
    with pytest.raises(PinLocked):
        step(house.core.check_pin(session, bytearray(b"wrong")))
    assert house.core.login_state(SLOT) is None  # "and this also logs the user out from the token"
    with pytest.raises(UserNotLoggedIn):
        step(house.core.check_pin(session, bytearray(USER_PIN)))


def test_unknown_slot(house: House) -> None:
    with pytest.raises(SlotIdInvalid):
        house.core.open_session(99, 1, True)
    with pytest.raises(SlotIdInvalid):
        step(house.core.token_info(99))
    assert house.core.login_state(99) is None


def test_the_first_calls_of_one_session_get_the_same(house: House) -> None:
    """Two threads may come at once: whoever is second must not take the session from the first."""
    first = house.core.open_session(SLOT, 7001, True)
    assert house.core.open_session(SLOT, 7001, True) is first
    step(house.core.create_object(first, [DATA]))
    step(house.core.close_session(first))
    assert house.core.open_session(SLOT, 7001, True) is not first
