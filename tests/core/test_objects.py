"""The registry: finding, session objects, copies, sizes, what the token has of itself, secrets' ends."""

from __future__ import annotations

from typing import Any

import pytest
from house import FALSE, P256, SLOT, TRUE, House

from ferrohsm import constants as ck
from ferrohsm import objects, searching
from ferrohsm.adapters import Attributes, Function
from ferrohsm.attribute_kinds import number, ulong
from ferrohsm.audit.tokens import SILENT, TokenAudit
from ferrohsm.core import INVALID, SENSITIVE
from ferrohsm.entries import Entry
from ferrohsm.errors import (
    ActionProhibited,
    AttributeReadOnly,
    AttributeValueInvalid,
    DeviceError,
    KeyHandleInvalid,
    ObjectHandleInvalid,
    SessionClosed,
    TemplateInconsistent,
    UserNotLoggedIn,
)
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

DATA = (ck.CKA_CLASS, ulong(ck.CKO_DATA))
ON_TOKEN = (ck.CKA_TOKEN, TRUE)


def label(text: bytes) -> tuple[int, bytes]:
    return (ck.CKA_LABEL, text)


# Finding


def test_find(house: House, session: Session) -> None:
    stored = [house.create(session, DATA, ON_TOKEN, label(b"a" if n % 2 else b"b")) for n in range(9)]
    here = [house.create(session, DATA, label(b"a"))]
    assert house.find(session, [DATA]) == stored + here
    assert house.find(session, [label(b"a")]) == stored[1::2] + here
    assert house.find(session, [label(b"a"), ON_TOKEN]) == stored[1::2]
    assert house.find(session, [label(b"a"), (ck.CKA_TOKEN, FALSE)]) == here
    assert house.find(session, [label(b"nobody")]) == []
    unique = house.one(session, stored[3], ck.CKA_UNIQUE_ID)
    assert house.find(session, [(ck.CKA_UNIQUE_ID, unique)]) == [stored[3]]
    everything = house.find(session, [])
    assert everything[:9] == stored and everything[-1] == here[0]


def test_find_in_another_session(house: House, session: Session) -> None:
    oid = house.create(session, DATA, label(b"shared"))
    other = house.open(read_write=False)
    assert house.find(other, [label(b"shared")]) == [oid]
    assert house.one(other, oid, ck.CKA_LABEL) == b"shared"


@pytest.mark.parametrize(
    "template",
    [
        [(ck.CKA_VENDOR_DEFINED | 0xCE534353, b"\x01")],  # NSS's own attributes
        [(0x9999, b"")],
        [label(b"a"), label(b"b")],
        [(ck.CKA_CLASS, b"\x00")],
        [(ck.CKA_TOKEN, b"")],
        [(ck.CKA_CLASS, ((ck.CKA_LABEL, b"a"),))],
        [(ck.CKA_WRAP_TEMPLATE, b"a")],
        [(ck.CKA_CLASS, ulong(0xCE534353))],
    ],
)
def test_find_what_cannot_be(house: House, session: Session, template: list[tuple[int, bytes]]) -> None:
    house.create(session, DATA, label(b"a"), ON_TOKEN)
    assert house.find(session, template) == []


def test_find_true_as_c_has_it(house: House, session: Session) -> None:
    oid = house.create(session, DATA, ON_TOKEN)
    assert house.find(session, [DATA, (ck.CKA_TOKEN, b"\xff")]) == [oid]


def test_sensitive_values_are_not_found(house: House, session: Session) -> None:
    secret = (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES))
    value = (ck.CKA_VALUE, bytes(range(16)))
    for place in (TRUE, FALSE):
        hidden = house.create(session, *secret, value, (ck.CKA_TOKEN, place))
        shown = house.create(
            session,
            *secret,
            value,
            (ck.CKA_TOKEN, place),
            (ck.CKA_SENSITIVE, FALSE),
            (ck.CKA_EXTRACTABLE, TRUE),
        )
        assert house.find(session, [(ck.CKA_TOKEN, place), value]) == [shown]
        assert house.one(session, hidden, ck.CKA_VALUE) is SENSITIVE
        assert house.one(session, shown, ck.CKA_VALUE) == value[1]


def test_closed_cursor(house: House, session: Session) -> None:
    house.create(session, DATA)
    cursor = step(house.core.find(session, [DATA]))
    cursor.close()
    assert step(cursor.take(10)) == []


def test_find_page_by_page(house: House, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_SMALLEST_PAGE", 2)
    monkeypatch.setattr(searching, "_LARGEST_PAGE", 3)
    stored = [house.create(session, DATA, ON_TOKEN) for _ in range(8)]
    cursor = step(house.core.find(session, [DATA]))
    assert step(cursor.take(1)) == stored[:1]
    assert step(cursor.take(2)) == stored[1:3]
    step(house.core.destroy_object(session, stored[-1]))
    assert step(cursor.take(100)) == stored[3:7]
    assert step(cursor.take(1)) == []


def test_logout_in_the_middle_of_a_search(house: House, session: Session) -> None:
    """What was listed but not yet given out is not given out after the login that could see it."""
    public = [house.create(session, DATA, where) for where in (ON_TOKEN, (ck.CKA_TOKEN, FALSE))]
    private = [house.create(session, DATA, ON_TOKEN, (ck.CKA_PRIVATE, TRUE)) for _ in range(3)]
    house.create(session, DATA, (ck.CKA_PRIVATE, TRUE))
    cursors = [step(house.core.find(session, [DATA])) for _ in range(2)]
    assert step(cursors[0].take(2)) == [public[0], private[0]]
    assert step(cursors[1].take(5)) == [public[0], *private, public[1]]
    house.logout()
    assert step(cursors[0].take(9)) == public[1:]
    assert step(cursors[1].take(9)) == []


# What the token has of itself


def test_built_in_objects(house: House, session: Session) -> None:
    profiles = house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_PROFILE))])
    assert {number(house.one(session, oid, ck.CKA_PROFILE_ID)) for oid in profiles} == {
        ck.CKP_BASELINE_PROVIDER,
        ck.CKP_EXTENDED_PROVIDER,
        ck.CKP_AUTHENTICATION_TOKEN,
        ck.CKP_HKDF_TLS_TOKEN,
    }
    assert house.find(session, []) == profiles  # mechanisms and the clock are for those who ask
    mechanisms = house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_MECHANISM))])
    listed = sorted(number(house.one(session, oid, ck.CKA_MECHANISM_TYPE)) for oid in mechanisms)
    assert listed == step(house.core.mechanism_list(SLOT))
    one = [(ck.CKA_CLASS, ulong(ck.CKO_MECHANISM)), (ck.CKA_MECHANISM_TYPE, ulong(ck.CKM_ECDSA))]
    assert len(house.find(session, one)) == 1
    [clock] = house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_HW_FEATURE))])
    kind, value = house.get(session, clock, ck.CKA_HW_FEATURE_TYPE, ck.CKA_VALUE)
    assert kind == ulong(ck.CKH_CLOCK)
    assert isinstance(value, bytes) and len(value) == 16 and value.isdigit()
    for oid in (profiles[0], mechanisms[0], clock):
        for refused in (
            house.core.destroy_object(session, oid),
            house.core.set_attributes(session, oid, [label(b"x")]),
            house.core.copy_object(session, oid, []),
        ):
            with pytest.raises(ActionProhibited):
                step(refused)
    assert house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_PROFILE))]) == profiles


# Attributes


def test_get(house: House, session: Session) -> None:
    oid = house.aes(session)
    got = house.get(
        session,
        oid,
        ck.CKA_VALUE,
        ck.CKA_MODULUS,
        0x9999,
        ck.CKA_VENDOR_DEFINED,
        ck.CKA_ID,
        ck.CKA_VALUE_LEN,
        ck.CKA_WRAP_TEMPLATE,
    )
    assert got == [SENSITIVE, INVALID, INVALID, INVALID, b"", ulong(16), INVALID]
    assert step(house.core.object_size(session, oid)) > 16


def test_sensitive_follows_the_flags(house: House, session: Session) -> None:
    oid = house.aes(session, (ck.CKA_SENSITIVE, FALSE), (ck.CKA_EXTRACTABLE, TRUE))
    value = house.one(session, oid, ck.CKA_VALUE)
    assert isinstance(value, bytearray) and any(value)
    step(house.core.set_attributes(session, oid, [(ck.CKA_SENSITIVE, TRUE)]))
    assert house.one(session, oid, ck.CKA_VALUE) is SENSITIVE
    assert house.one(session, oid, ck.CKA_ALWAYS_SENSITIVE) == FALSE
    with pytest.raises(AttributeReadOnly):
        step(house.core.set_attributes(session, oid, [(ck.CKA_SENSITIVE, FALSE)]))


@pytest.mark.parametrize("place", [TRUE, FALSE])
def test_set(house: House, session: Session, place: bytes) -> None:
    oid = house.aes(session, (ck.CKA_TOKEN, place))
    step(house.core.set_attributes(session, oid, [label(b"new"), (ck.CKA_ID, b"\x01")]))
    assert house.get(session, oid, ck.CKA_LABEL, ck.CKA_ID) == [b"new", b"\x01"]
    assert house.find(session, [label(b"new")]) == [oid]
    with pytest.raises(AttributeReadOnly):  # all or nothing
        step(house.core.set_attributes(session, oid, [label(b"other"), (ck.CKA_LOCAL, FALSE)]))
    assert house.one(session, oid, ck.CKA_LABEL) == b"new"
    step(house.core.set_attributes(session, oid, [(ck.CKA_CHECK_VALUE, b"")]))
    assert house.one(session, oid, ck.CKA_CHECK_VALUE) is INVALID
    with pytest.raises(AttributeValueInvalid):
        step(house.core.set_attributes(session, oid, [(ck.CKA_ENCRYPT, b"\x05")]))
    # The key still works with all of this.
    iv = Mechanism(ck.CKM_AES_CBC, bytes(16))
    operation = step(house.core.begin(session, Function.ENCRYPT, iv, oid))
    assert len(step(operation.once(memoryview(bytes(16))))) == 16


def test_setting_does_not_end_an_operation(house: House, session: Session) -> None:
    oid = house.aes(session)
    operation = step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_AES_CMAC), oid))
    step(operation.update(memoryview(b"one ")))
    step(house.core.set_attributes(session, oid, [label(b"renamed")]))
    assert operation.valid()
    step(operation.update(memoryview(b"two")))
    first = step(operation.finish())
    again = step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_AES_CMAC), oid))
    assert first == step(again.once(memoryview(b"one two")))


def test_public_key_info_is_checked(house: House, session: Session) -> None:
    _, private = house.ec(session)
    other_public, _ = house.ec(session)
    own = house.one(session, private, ck.CKA_PUBLIC_KEY_INFO)
    other = house.one(session, other_public, ck.CKA_PUBLIC_KEY_INFO)
    assert isinstance(own, bytes) and isinstance(other, bytes) and own != other
    step(house.core.set_attributes(session, private, [(ck.CKA_PUBLIC_KEY_INFO, own)]))
    with pytest.raises(AttributeValueInvalid):
        step(house.core.set_attributes(session, private, [(ck.CKA_PUBLIC_KEY_INFO, other)]))
    with pytest.raises(AttributeValueInvalid):
        step(house.core.copy_object(session, private, [(ck.CKA_PUBLIC_KEY_INFO, other)]))


def test_unique_ids_differ(house: House, session: Session) -> None:
    oid = house.aes(session)
    copy = step(house.core.copy_object(session, oid, []))
    public, private = house.ec(session)
    ids = [house.one(session, o, ck.CKA_UNIQUE_ID) for o in (oid, copy, public, private)]
    assert len({bytes(i) for i in ids if isinstance(i, bytes)}) == 4


# Copies


def test_copy(house: House, session: Session) -> None:
    oid = house.aes(session, label(b"first"), (ck.CKA_EXTRACTABLE, TRUE), (ck.CKA_SENSITIVE, FALSE))
    copy = step(
        house.core.copy_object(
            session, oid, [label(b"second"), ON_TOKEN, (ck.CKA_EXTRACTABLE, FALSE), (ck.CKA_SENSITIVE, TRUE)]
        )
    )
    assert copy > 0 > oid
    shown = house.get(
        session,
        copy,
        ck.CKA_LABEL,
        ck.CKA_LOCAL,
        ck.CKA_KEY_GEN_MECHANISM,
        ck.CKA_ALWAYS_SENSITIVE,
        ck.CKA_NEVER_EXTRACTABLE,
        ck.CKA_CHECK_VALUE,
    )
    check = house.one(session, oid, ck.CKA_CHECK_VALUE)
    assert shown == [b"second", TRUE, ulong(ck.CKM_AES_KEY_GEN), FALSE, FALSE, check]
    assert house.one(session, oid, ck.CKA_LABEL) == b"first"
    step(house.core.destroy_object(session, oid))
    mechanism = Mechanism(ck.CKM_AES_ECB)
    assert step(
        step(house.core.begin(session, Function.ENCRYPT, mechanism, copy)).once(memoryview(bytes(16)))
    )


def test_copy_cannot_reveal(house: House, session: Session) -> None:
    oid = house.aes(session)
    for attribute, value, error in (
        (ck.CKA_SENSITIVE, FALSE, AttributeReadOnly),
        (ck.CKA_EXTRACTABLE, TRUE, AttributeReadOnly),
        (ck.CKA_PRIVATE, FALSE, TemplateInconsistent),
        (ck.CKA_LOCAL, FALSE, AttributeReadOnly),
        (ck.CKA_VALUE, bytes(16), AttributeReadOnly),
        (ck.CKA_UNIQUE_ID, b"mine", AttributeReadOnly),
    ):
        with pytest.raises(error):
            step(house.core.copy_object(session, oid, [(attribute, value)]))
    private_copy = step(house.core.copy_object(session, oid, [(ck.CKA_PRIVATE, TRUE)]))
    assert house.one(session, private_copy, ck.CKA_PRIVATE) == TRUE


def test_copyable_destroyable_modifiable(house: House, session: Session) -> None:
    fixed = house.create(
        session, DATA, (ck.CKA_COPYABLE, FALSE), (ck.CKA_DESTROYABLE, FALSE), (ck.CKA_MODIFIABLE, FALSE)
    )
    for refused in (
        house.core.copy_object(session, fixed, []),
        house.core.destroy_object(session, fixed),
        house.core.set_attributes(session, fixed, [label(b"x")]),
    ):
        with pytest.raises(ActionProhibited):
            step(refused)
    free = house.create(session, DATA)
    copy = step(
        house.core.copy_object(session, free, [(ck.CKA_MODIFIABLE, FALSE), (ck.CKA_DESTROYABLE, FALSE)])
    )
    with pytest.raises(ActionProhibited):
        step(house.core.destroy_object(session, copy))
    step(house.core.set_attributes(session, free, [(ck.CKA_COPYABLE, FALSE)]))
    with pytest.raises(ActionProhibited):
        step(house.core.copy_object(session, free, []))


# Ends


def test_session_objects_die_with_their_session(house: House, session: Session) -> None:
    other = house.open()
    mine, theirs = house.aes(session), house.aes(other)
    kept = house.aes(other, ON_TOKEN)
    step(house.core.close_session(other))
    with pytest.raises(ObjectHandleInvalid):
        house.one(session, theirs, ck.CKA_CLASS)
    assert house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY))]) == [kept, mine]


def test_logout(house: House, session: Session) -> None:
    private_here, public_here = house.aes(session), house.create(session, DATA)
    private_there = house.aes(session, ON_TOKEN)
    operation = step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_AES_CMAC), private_there))
    digest = step(house.core.begin(session, Function.DIGEST, Mechanism(ck.CKM_SHA256), None))
    epoch = house.core.login_epoch(SLOT)
    house.logout()
    assert house.core.login_epoch(SLOT) != epoch
    assert not operation.valid() and digest.valid()
    for oid in (private_here, private_there):
        with pytest.raises(ObjectHandleInvalid):
            house.one(session, oid, ck.CKA_CLASS)
        with pytest.raises(KeyHandleInvalid):
            step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_AES_CMAC), oid))
    assert house.one(session, public_here, ck.CKA_CLASS) == ulong(ck.CKO_DATA)
    house.login(session)
    with pytest.raises(ObjectHandleInvalid):
        house.one(session, private_here, ck.CKA_CLASS)
    assert house.one(session, private_there, ck.CKA_CLASS) == ulong(ck.CKO_SECRET_KEY)
    assert step(house.core.is_private(session, private_there))
    assert not step(house.core.is_private(session, public_here))
    step(digest.once(memoryview(b"")))


def test_destroyed_key_ends_its_operation(house: House, session: Session) -> None:
    oid = house.aes(session)
    operation = step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_AES_CMAC), oid))
    step(house.core.destroy_object(session, oid))
    assert not operation.valid()
    with pytest.raises(KeyHandleInvalid):
        step(operation.update(memoryview(b"x")))


def test_made_too_late(house: House, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was long in the making, while its session was closed or its user logged out."""
    generate, made = house.slot.signer.generate_key, []
    other = house.open()
    meanwhile = [lambda: step(house.core.close_session(other)), house.logout]

    async def slow(mechanism: Mechanism, attributes: dict[int, object]) -> dict[int, object]:
        added = await generate(mechanism, attributes)  # type: ignore[arg-type]
        made.append(added[ck.CKA_VALUE])
        meanwhile.pop(0)()
        return added  # type: ignore[return-value]

    monkeypatch.setattr(house.slot.signer, "generate_key", slow)
    with pytest.raises(SessionClosed):
        house.aes(other)
    with pytest.raises(UserNotLoggedIn):
        house.aes(session)
    assert len(made) == 2 and not any(any(value) for value in made)


def secret_of(house: House, oid: int) -> bytearray:
    entry = step(house.core.token(SLOT).objects.hold(oid))
    value = entry.attributes[ck.CKA_VALUE]
    entry.release()
    assert isinstance(value, bytearray)
    return value


@pytest.mark.parametrize("place", [TRUE, FALSE])
@pytest.mark.parametrize("end", ["logout", "destroy", "stop", "close session", "set"])
def test_secrets_are_overwritten(house: House, session: Session, place: bytes, end: str) -> None:
    other = house.open()
    oid = house.aes(other, (ck.CKA_TOKEN, place))
    secret = secret_of(house, oid)
    assert any(secret)
    if end == "logout":
        house.logout()
    elif end == "destroy":
        step(house.core.destroy_object(session, oid))
    elif end == "stop":
        step(house.core.token(SLOT).close())
    elif end == "set":
        step(house.core.set_attributes(session, oid, [label(b"x")]))
        assert any(secret_of(house, oid))
    else:
        step(house.core.close_session(other))
    assert any(secret) == (end == "close session" and place == TRUE)


def test_secret_in_use_is_overwritten_afterwards(house: House, session: Session) -> None:
    oid = house.aes(session)
    secret = secret_of(house, oid)
    operation = step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_AES_CMAC), oid))
    expected = step(step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_AES_CMAC), oid)).finish())
    step(house.core.set_attributes(session, oid, [label(b"x")]))
    assert any(secret)  # under the operation's hands
    assert step(operation.finish()) == expected
    assert not any(secret)


def test_caller_s_secret_is_its_own(house: House, session: Session) -> None:
    given = bytearray(range(16))
    oid = house.create(
        session,
        (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)),
        (ck.CKA_VALUE, given),
    )
    assert given == bytes(range(16))
    given[:] = bytes(16)
    assert secret_of(house, oid) == bytes(range(16))


def test_change_by_another_process(house: House, session: Session) -> None:
    """The generation tells that what is remembered may be stale; what engines remember stays if not."""
    oid = house.aes(session, ON_TOKEN)
    registry = house.core.token(SLOT).objects
    entry = step(registry.hold(oid))
    entry.release()
    step(house.store.create({ck.CKA_CLASS: ulong(ck.CKO_DATA), ck.CKA_LABEL: b"by another"}))
    same = step(registry.hold(oid))
    same.release()
    assert same is entry
    house.store.objects[oid][ck.CKA_LABEL] = b"changed elsewhere"
    step(house.store.create({ck.CKA_CLASS: ulong(ck.CKO_DATA)}))
    assert house.one(session, oid, ck.CKA_LABEL) == b"changed elsewhere"
    step(house.store.delete(oid))
    with pytest.raises(ObjectHandleInvalid):
        house.one(session, oid, ck.CKA_LABEL)
    assert entry.retired


def test_change_at_the_same_moment_as_another_process(
    house: House, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = house.aes(session, ON_TOKEN, (ck.CKA_SENSITIVE, FALSE))
    exchange = house.store.exchange
    others = [(ck.CKA_SENSITIVE, TRUE), (ck.CKA_LABEL, b"theirs"), (ck.CKA_MODIFIABLE, FALSE)]

    async def late(oid: int, before: Attributes, after: Attributes) -> bool:
        if others:
            attribute, value = others.pop(0)
            house.store.objects[oid][attribute] = value
        return await exchange(oid, before, after)

    monkeypatch.setattr(house.store, "exchange", late)
    with pytest.raises(ActionProhibited):  # by then the object is not modifiable any more
        step(house.core.set_attributes(session, oid, [label(b"ours")]))
    del house.store.objects[oid][ck.CKA_MODIFIABLE]
    step(house.store.create({ck.CKA_CLASS: ulong(ck.CKO_DATA)}))  # moves the generation
    others = [(ck.CKA_ID, b"theirs")]
    step(house.core.set_attributes(session, oid, [label(b"ours")]))
    assert house.get(session, oid, ck.CKA_LABEL, ck.CKA_SENSITIVE, ck.CKA_ID) == [b"ours", TRUE, b"theirs"]


def test_store_that_only_replaces(house: House, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(house.store), "exchange")
    oid = house.aes(session, ON_TOKEN)
    step(house.core.set_attributes(session, oid, [label(b"new")]))
    assert house.one(session, oid, ck.CKA_LABEL) == b"new"


def test_bounded_cache(house: House, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "CACHE_LIMIT", 4)
    keys = [house.aes(session, ON_TOKEN) for _ in range(6)]
    secrets = [secret_of(house, oid) for oid in keys]
    assert [any(secret) for secret in secrets] == [False, False, True, True, True, True]
    assert all(any(secret_of(house, oid)) for oid in keys)


def test_pair_is_both_or_none(house: House, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    create, made = house.store.create, []

    async def fail_second(attributes: dict[int, object]) -> int:
        if made:
            raise ActionProhibited()
        made.append(await create(attributes))  # type: ignore[arg-type]
        return made[0]

    monkeypatch.setattr(house.store, "create", fail_second)
    with pytest.raises(ActionProhibited):
        house.ec(session, [ON_TOKEN], [ON_TOKEN])
    assert made and house.store.objects == {}


@pytest.mark.parametrize("form", ["raw", "der"])
def test_ec_parameters_in_both_forms(house: House, session: Session, form: str) -> None:
    name = b"\x13\x09secp256r1"
    public, private = house.ec(session, curve=name if form == "raw" else P256)
    for oid in (public, private):
        assert house.one(session, oid, ck.CKA_EC_PARAMS) == P256
    for curve in (name, P256):
        assert house.find(session, [(ck.CKA_EC_PARAMS, curve)]) == [public, private]


def test_what_cannot_be_recorded_is_destroyed_and_overwritten(house: House, session: Session) -> None:
    class Deaf(TokenAudit):
        __slots__ = ("heard",)

        def made(self, session: Session, attributes: Attributes, *, before: bool = False) -> None:
            self.heard = attributes
            raise DeviceError()

    token = session.token
    token.audit = deaf = Deaf(None, None, None)
    with pytest.raises(DeviceError):
        house.aes(session)
    assert deaf.heard[ck.CKA_VALUE] == bytes(16)
    token.audit = SILENT
    assert house.find(session, [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY))]) == []


def test_a_use_that_cannot_be_recorded_keeps_no_key(house: House, session: Session) -> None:
    class Deaf(TokenAudit):
        __slots__ = ()

        def use(self, session: Session, function: int, mechanism: int, entry: Entry) -> None:
            raise DeviceError()

    token, oid = session.token, house.aes(session)
    entry = step(token.objects.hold(oid))
    entry.release()
    token.audit = Deaf(None, None, None)
    operation: Any = None
    with pytest.raises(DeviceError):
        step(house.core.bind(session, operation, oid, Function.ENCRYPT, ck.CKM_AES_ECB))
    assert entry.holders == 0
