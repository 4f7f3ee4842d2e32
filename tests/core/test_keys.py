"""Keys that come into being: the flags each way decides, wrapping, unwrapping, deriving, material."""

from __future__ import annotations

import pytest
from house import FALSE, SLOT, TRUE, House

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Value
from ferrohsm.attribute_kinds import ulong
from ferrohsm.core import INVALID, SENSITIVE
from ferrohsm.crc64 import crc64
from ferrohsm.errors import (
    AttributeReadOnly,
    AttributeValueInvalid,
    BufferTooSmall,
    HsmError,
    KeyHandleInvalid,
    KeyNotWrappable,
    KeyUnextractable,
    MechanismInvalid,
    SessionReadOnly,
    TemplateIncomplete,
    TemplateInconsistent,
    UnwrappingKeyHandleInvalid,
    UserNotLoggedIn,
    WrappedKeyLenRange,
    WrappingKeyHandleInvalid,
)
from ferrohsm.mechanisms import ROWS, Row
from ferrohsm.parameters import Ecdh1, Mechanism, ParameterKind
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

SECRET = (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY))
AES = (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES))
GENERIC = (ck.CKA_KEY_TYPE, ulong(ck.CKK_GENERIC_SECRET))
KWP = Mechanism(ck.CKM_AES_KEY_WRAP_KWP)
WRAPPABLE = (ck.CKA_EXTRACTABLE, TRUE)
OPEN = ((ck.CKA_SENSITIVE, FALSE), (ck.CKA_EXTRACTABLE, TRUE))
ORIGIN = (
    ck.CKA_LOCAL,
    ck.CKA_KEY_GEN_MECHANISM,
    ck.CKA_ALWAYS_SENSITIVE,
    ck.CKA_NEVER_EXTRACTABLE,
)
UNKNOWN = ulong(ck.CK_UNAVAILABLE_INFORMATION)


@pytest.mark.parametrize("sensitive", [TRUE, FALSE])
@pytest.mark.parametrize("extractable", [TRUE, FALSE])
def test_generated(house: House, session: Session, sensitive: bytes, extractable: bytes) -> None:
    flags = [(ck.CKA_SENSITIVE, sensitive), (ck.CKA_EXTRACTABLE, extractable)]
    never = FALSE if extractable == TRUE else TRUE
    oid = house.aes(session, *flags)
    assert house.get(session, oid, *ORIGIN) == [TRUE, ulong(ck.CKM_AES_KEY_GEN), sensitive, never]
    public, private = house.ec(session, private=flags)
    assert house.get(session, private, *ORIGIN) == [TRUE, ulong(ck.CKM_EC_KEY_PAIR_GEN), sensitive, never]
    assert house.get(session, public, *ORIGIN) == [TRUE, ulong(ck.CKM_EC_KEY_PAIR_GEN), INVALID, INVALID]


def test_created(house: House, session: Session) -> None:
    oid = house.create(session, SECRET, AES, (ck.CKA_VALUE, bytes(range(16))))
    assert house.get(session, oid, *ORIGIN) == [FALSE, UNKNOWN, FALSE, FALSE]
    assert house.get(
        session, oid, ck.CKA_VALUE_LEN, ck.CKA_SENSITIVE, ck.CKA_PRIVATE, ck.CKA_EXTRACTABLE
    ) == [
        ulong(16),
        TRUE,
        TRUE,
        FALSE,
    ]


def test_generate_templates(house: House, session: Session) -> None:
    generate = house.core.generate_key
    mechanism = Mechanism(ck.CKM_AES_KEY_GEN)
    refusals: list[tuple[list[tuple[int, Value]], type[HsmError]]] = [
        ([], TemplateIncomplete),
        ([(ck.CKA_VALUE_LEN, ulong(16)), GENERIC], TemplateInconsistent),
        ([(ck.CKA_VALUE_LEN, ulong(16)), (ck.CKA_CLASS, ulong(ck.CKO_DATA))], TemplateInconsistent),
        ([(ck.CKA_VALUE_LEN, ulong(16)), (ck.CKA_VALUE, bytes(16))], AttributeReadOnly),
        ([(ck.CKA_VALUE_LEN, b"\x10")], AttributeValueInvalid),
        ([(ck.CKA_VALUE_LEN, ulong(16)), (ck.CKA_MODULUS_BITS, ulong(2048))], TemplateInconsistent),
        ([(ck.CKA_VALUE_LEN, ulong(16)), (ck.CKA_CHECK_VALUE, b"abc")], AttributeValueInvalid),
    ]
    for template, error in refusals:
        with pytest.raises(error):
            step(generate(session, mechanism, template))
    assert house.find(session, [SECRET]) == []
    oid = step(generate(session, mechanism, [(ck.CKA_VALUE_LEN, ulong(16)), SECRET, AES]))
    value = house.one(session, oid, ck.CKA_CHECK_VALUE)
    assert isinstance(value, bytes) and len(value) == 3


def test_no_check_value_wanted(house: House, session: Session) -> None:
    none = (ck.CKA_CHECK_VALUE, b"")
    generated = house.aes(session, none)
    created = house.create(session, SECRET, AES, (ck.CKA_VALUE, bytes(range(16))), none)
    for oid in (generated, created):
        assert house.one(session, oid, ck.CKA_CHECK_VALUE) is INVALID
        copied = step(house.core.copy_object(session, oid, []))
        assert house.one(session, copied, ck.CKA_CHECK_VALUE) is INVALID


def test_check_value_given(house: House, session: Session) -> None:
    value = (ck.CKA_VALUE, bytes(16))
    right = bytes.fromhex("66e94b")  # AES-128 of a zero block under the zero key
    oid = house.create(session, SECRET, AES, value, (ck.CKA_CHECK_VALUE, right))
    assert house.one(session, oid, ck.CKA_CHECK_VALUE) == right
    with pytest.raises(AttributeValueInvalid):
        house.create(session, SECRET, AES, value, (ck.CKA_CHECK_VALUE, b"\x00\x00\x00"))


def test_read_only_session(house: House) -> None:
    session = house.open(read_write=False)
    house.login(session)
    with pytest.raises(SessionReadOnly):
        house.aes(session, (ck.CKA_TOKEN, TRUE))
    with pytest.raises(SessionReadOnly):
        house.ec(session, [], [(ck.CKA_TOKEN, TRUE)])
    assert house.aes(session) < 0
    house.logout()
    with pytest.raises(UserNotLoggedIn):
        house.aes(session)
    assert house.aes(session, (ck.CKA_PRIVATE, FALSE)) < 0


# Wrapping


def wrap(house: House, session: Session, wrapping: int, target: int, limit: int | None = None) -> bytes:
    return step(house.core.wrap_key(session, KWP, wrapping, target, limit))


def unwrap(house: House, session: Session, key: int, wrapped: bytes, *template: tuple[int, Value]) -> int:
    return step(house.core.unwrap_key(session, KWP, key, memoryview(wrapped), list(template)))


def test_wrap_and_unwrap(house: House, session: Session) -> None:
    wrapping, target = house.aes(session), house.aes(session, WRAPPABLE, length=32)
    wrapped = wrap(house, session, wrapping, target)
    assert step(house.core.wrap_length(session, KWP, wrapping, target)) == len(wrapped)
    with pytest.raises(BufferTooSmall):
        wrap(house, session, wrapping, target, len(wrapped) - 1)
    assert len(wrap(house, session, wrapping, target, len(wrapped))) == len(wrapped)
    oid = unwrap(house, session, wrapping, wrapped, SECRET, AES)
    assert house.get(session, oid, *ORIGIN) == [FALSE, UNKNOWN, FALSE, FALSE]
    assert house.get(session, oid, ck.CKA_EXTRACTABLE, ck.CKA_SENSITIVE, ck.CKA_VALUE_LEN) == [
        TRUE,  # "The CKA_EXTRACTABLE attribute is by default set to CK_TRUE."
        TRUE,
        ulong(32),
    ]
    checks = [house.one(session, o, ck.CKA_CHECK_VALUE) for o in (oid, target)]
    assert checks[0] == checks[1]


def test_wrap_private_key(house: House, session: Session) -> None:
    wrapping = house.aes(session)
    public, private = house.ec(session, private=[WRAPPABLE])
    wrapped = wrap(house, session, wrapping, private)
    template = [(ck.CKA_CLASS, ulong(ck.CKO_PRIVATE_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_EC))]
    back = unwrap(house, session, wrapping, wrapped, *template, *OPEN)
    same = ck.CKA_PUBLIC_KEY_INFO
    assert house.one(session, back, same) == house.one(session, private, same)
    with pytest.raises(KeyNotWrappable):
        wrap(house, session, wrapping, public)


def test_what_may_not_be_wrapped(house: House, session: Session) -> None:
    wrapping = house.aes(session)
    with pytest.raises(KeyUnextractable):
        wrap(house, session, wrapping, house.aes(session))
    trusted_only = house.aes(session, WRAPPABLE, (ck.CKA_WRAP_WITH_TRUSTED, TRUE))
    with pytest.raises(KeyNotWrappable):
        wrap(house, session, wrapping, trusted_only)
    with pytest.raises(KeyHandleInvalid):
        wrap(house, session, wrapping, 4711)
    with pytest.raises(WrappingKeyHandleInvalid):
        wrap(house, session, 4711, trusted_only)
    data = house.create(session, (ck.CKA_CLASS, ulong(ck.CKO_DATA)))
    with pytest.raises(KeyNotWrappable):
        wrap(house, session, wrapping, data)


def test_trusted_wrapping_key(house: House) -> None:
    """The security officer marks a public-object key as trusted; then it wraps what needs trust."""
    session = house.open()
    shared = [(ck.CKA_TOKEN, TRUE), (ck.CKA_PRIVATE, FALSE)]
    house.login(session)
    wrapping = house.aes(session, *shared)
    with pytest.raises(AttributeReadOnly):
        step(house.core.set_attributes(session, wrapping, [(ck.CKA_TRUSTED, TRUE)]))
    house.logout()
    house.login(session, ck.CKU_SO)
    step(house.core.set_attributes(session, wrapping, [(ck.CKA_TRUSTED, TRUE)]))
    house.logout()
    house.login(session)
    target = house.aes(session, WRAPPABLE, (ck.CKA_WRAP_WITH_TRUSTED, TRUE))
    assert wrap(house, session, wrapping, target)
    with pytest.raises(AttributeReadOnly):
        step(house.core.set_attributes(session, target, [(ck.CKA_WRAP_WITH_TRUSTED, FALSE)]))


def test_wrap_template(house: House, session: Session) -> None:
    only_a = (ck.CKA_WRAP_TEMPLATE, ((ck.CKA_LABEL, b"a"), (ck.CKA_ENCRYPT, TRUE)))
    wrapping = house.aes(session, only_a)
    assert house.one(session, wrapping, ck.CKA_WRAP_TEMPLATE) == only_a[1]
    good = house.aes(session, WRAPPABLE, (ck.CKA_LABEL, b"a"))
    bad = house.aes(session, WRAPPABLE, (ck.CKA_LABEL, b"b"))
    assert wrap(house, session, wrapping, good)
    with pytest.raises(KeyHandleInvalid):
        wrap(house, session, wrapping, bad)


def test_unwrap_template(house: House, session: Session) -> None:
    fixed = (ck.CKA_UNWRAP_TEMPLATE, ((ck.CKA_EXTRACTABLE, FALSE), (ck.CKA_LABEL, b"unwrapped")))
    key = house.aes(session, fixed)
    wrapped = wrap(house, session, key, house.aes(session, WRAPPABLE))
    oid = unwrap(house, session, key, wrapped, SECRET, AES)
    assert house.get(session, oid, ck.CKA_EXTRACTABLE, ck.CKA_LABEL) == [FALSE, b"unwrapped"]
    unwrap(house, session, key, wrapped, SECRET, AES, (ck.CKA_EXTRACTABLE, FALSE))
    with pytest.raises(TemplateInconsistent):
        unwrap(house, session, key, wrapped, SECRET, AES, (ck.CKA_EXTRACTABLE, TRUE))


def test_unwrap_templates(house: House, session: Session) -> None:
    key = house.aes(session)
    wrapped = wrap(house, session, key, house.aes(session, WRAPPABLE))
    for template, error in (
        ([SECRET], TemplateIncomplete),
        ([AES], TemplateIncomplete),
        ([SECRET, AES, (ck.CKA_VALUE, bytes(16))], AttributeReadOnly),
        ([SECRET, AES, (ck.CKA_LOCAL, TRUE)], AttributeReadOnly),
        ([(ck.CKA_CLASS, ulong(ck.CKO_DATA))], TemplateInconsistent),
    ):
        with pytest.raises(error):
            unwrap(house, session, key, wrapped, *template)
    with pytest.raises(UnwrappingKeyHandleInvalid):
        unwrap(house, session, 4711, wrapped, SECRET, AES)
    assert unwrap(house, session, key, wrapped, SECRET, AES, (ck.CKA_VALUE_LEN, ulong(16)))


def test_unwrapped_length(house: House, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not compare the lengths itself is not believed."""

    async def unwrapped(*_: object) -> dict[int, Value]:
        return {ck.CKA_VALUE: bytearray(16), ck.CKA_VALUE_LEN: ulong(16), ck.CKA_CHECK_VALUE: b"abc"}

    monkeypatch.setattr(house.slot.signer, "unwrap", unwrapped)
    with pytest.raises(WrappedKeyLenRange):
        unwrap(house, session, house.aes(session), bytes(24), SECRET, AES, (ck.CKA_VALUE_LEN, ulong(24)))


# Deriving


def derive_ec(house: House, session: Session, base: int, *template: tuple[int, Value]) -> int:
    public, _ = house.ec(session)
    point = house.one(session, public, ck.CKA_EC_POINT)
    assert isinstance(point, bytes)
    mechanism = Mechanism(ck.CKM_ECDH1_DERIVE, Ecdh1(ck.CKD_NULL, b"", point))
    return step(house.core.derive_key(session, mechanism, base, list(template)))


@pytest.mark.parametrize("base_flags", [(), OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("flags", [(), OPEN], ids=["closed", "open"])
def test_derived(
    house: House,
    session: Session,
    base_flags: tuple[tuple[int, bytes], ...],
    flags: tuple[tuple[int, bytes], ...],
) -> None:
    _, base = house.ec(session, private=[(ck.CKA_DERIVE, TRUE), *base_flags])
    oid = derive_ec(house, session, base, SECRET, GENERIC, *flags)
    closed = TRUE if not base_flags and not flags else FALSE
    assert house.get(session, oid, *ORIGIN) == [FALSE, UNKNOWN, closed, closed]
    assert (house.one(session, oid, ck.CKA_VALUE) is SENSITIVE) == (not flags)


def test_derived_without_a_type_is_a_generic_secret(house: House, session: Session) -> None:
    _, base = house.ec(session, private=[(ck.CKA_DERIVE, TRUE)])
    oid = derive_ec(house, session, base)
    assert house.get(session, oid, ck.CKA_CLASS, ck.CKA_KEY_TYPE) == [SECRET[1], GENERIC[1]]
    with pytest.raises(AttributeReadOnly):
        derive_ec(house, session, base, (ck.CKA_VALUE, bytes(32)))


@pytest.mark.parametrize("base_flags", [(), OPEN], ids=["closed", "open"])
def test_rearranged_bits_stay_protected(
    house: House,
    session: Session,
    base_flags: tuple[tuple[int, bytes], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An adapter's concatenation gives no key that is less protected than its base."""
    concatenate = ck.CKM_CONCATENATE_BASE_AND_DATA

    async def derived(mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
        value = base.attributes[ck.CKA_VALUE]
        assert isinstance(value, bytearray)
        return {ck.CKA_VALUE: value + mechanism.parameter}

    row = Row(concatenate, Function.DERIVE, (ck.CKK_GENERIC_SECRET,), ParameterKind.STRING, 1, 99, "derive")
    monkeypatch.setitem(ROWS, concatenate, row)
    monkeypatch.setattr(house.slot.signer, "derive", derived)
    house.core.token(SLOT).mechanisms()[concatenate] = (1, 99, Function.DERIVE)
    generate = Mechanism(ck.CKM_GENERIC_SECRET_KEY_GEN)
    template = [(ck.CKA_VALUE_LEN, ulong(16)), (ck.CKA_DERIVE, TRUE), *base_flags]
    base = step(house.core.generate_key(session, generate, template))
    mechanism = Mechanism(concatenate, b"more")
    oid = step(house.core.derive_key(session, mechanism, base, list(OPEN)))
    value = house.one(session, oid, ck.CKA_VALUE)
    if base_flags:
        base_value = house.one(session, base, ck.CKA_VALUE)
        assert isinstance(base_value, bytearray) and value == base_value + b"more"
    else:
        assert value is SENSITIVE
        assert house.get(session, oid, ck.CKA_SENSITIVE, ck.CKA_EXTRACTABLE) == [TRUE, FALSE]


def test_derive_template(house: House, session: Session) -> None:
    fixed: tuple[int, Value] = (ck.CKA_DERIVE_TEMPLATE, ((ck.CKA_LABEL, b"derived"), GENERIC))
    _, base = house.ec(session, private=[(ck.CKA_DERIVE, TRUE), fixed])
    assert house.one(session, derive_ec(house, session, base), ck.CKA_LABEL) == b"derived"
    with pytest.raises(TemplateInconsistent):
        derive_ec(house, session, base, (ck.CKA_LABEL, b"another"))


# Material


def test_crc64() -> None:
    assert crc64(b"123456789").hex() == "6c40df5f0b497347"  # ECMA-182's check value


def test_rsa_checksum(house: House, session: Session) -> None:
    mechanism = Mechanism(ck.CKM_RSA_PKCS_KEY_PAIR_GEN)
    template = [(ck.CKA_MODULUS_BITS, ulong(1024))]
    public, private = step(house.core.generate_key_pair(session, mechanism, template, []))
    modulus = house.one(session, public, ck.CKA_MODULUS)
    exponent = house.one(session, public, ck.CKA_PUBLIC_EXPONENT)
    assert isinstance(modulus, bytes) and isinstance(exponent, bytes)
    for oid in (public, private):
        assert house.one(session, oid, ck.CKA_PUBLIC_CRC64_VALUE) == crc64(modulus)
    key = [
        (ck.CKA_CLASS, ulong(ck.CKO_PUBLIC_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_RSA)),
        (ck.CKA_MODULUS, b"\x00" + modulus),
        (ck.CKA_PUBLIC_EXPONENT, exponent),
    ]
    again = house.create(session, *key)
    assert house.one(session, again, ck.CKA_MODULUS) == modulus
    assert set(house.find(session, key)) == {public, again}
    with pytest.raises(AttributeValueInvalid):
        house.create(session, *key, (ck.CKA_PUBLIC_CRC64_VALUE, bytes(8)))


def test_unknown_mechanisms(house: House, session: Session) -> None:
    for mechanism in (ck.CKM_AES_CBC, 0x12345678, ck.CKM_VENDOR_DEFINED):
        with pytest.raises(MechanismInvalid):
            step(house.core.generate_key(session, Mechanism(mechanism), []))
        with pytest.raises(MechanismInvalid):
            step(house.core.generate_key_pair(session, Mechanism(mechanism), [], []))
        with pytest.raises(MechanismInvalid):
            step(house.core.derive_key(session, Mechanism(mechanism), 1, []))


def test_digest_key(house: House, session: Session) -> None:
    import hashlib

    from ferrohsm.errors import KeyIndigestible

    oid = house.aes(session, *OPEN)
    value = house.one(session, oid, ck.CKA_VALUE)
    assert isinstance(value, bytearray)
    digest = step(house.core.begin(session, Function.DIGEST, Mechanism(ck.CKM_SHA256), None))
    step(digest.update(memoryview(b"a")))
    step(house.core.digest_key(session, digest, oid))
    for refused in (house.aes(session), house.ec(session)[0]):
        with pytest.raises(KeyIndigestible):
            step(house.core.digest_key(session, digest, refused))
    with pytest.raises(KeyHandleInvalid):
        step(house.core.digest_key(session, digest, 4711))
    assert step(digest.finish()) == hashlib.sha256(b"a" + value).digest()
