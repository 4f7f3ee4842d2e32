"""C_GetAttributeValue's rules, and templates that cannot be."""

from __future__ import annotations

import ctypes
from ctypes import c_ubyte, c_ulong

from bench import kept
from cryptoki import ULONG_MAX, UNAVAILABLE, Attribute, Cryptoki, template

from ferrohsm import constants as ck

ONE_TOKEN = True

SENSITIVE = ((ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))


def test_every_attribute_is_processed_whatever_is_wrong_with_another(p11: Cryptoki, session: int) -> None:
    key = p11.aes(session, *SENSITIVE, (ck.CKA_LABEL, b"label"))
    room = ((ck.CKA_VALUE, bytes(16)), (ck.CKA_LABEL, bytes(5)), (ck.CKA_MODULUS, bytes(9)))
    place = template(*room, (ck.CKA_ID, None))
    assert p11.rv("C_GetAttributeValue", session, key, place, 4) == "CKR_ATTRIBUTE_SENSITIVE"
    assert [attribute.ulValueLen for attribute in place] == [UNAVAILABLE, 5, UNAVAILABLE, 0]
    assert bytes(place.kept[1]) == b"label"
    assert not any(place.kept[0])


def test_a_missing_attribute_and_a_short_buffer(p11: Cryptoki, session: int) -> None:
    key = p11.aes(session, (ck.CKA_LABEL, b"label"))
    place = template((ck.CKA_MODULUS, bytes(4)), (ck.CKA_LABEL, None))
    assert p11.rv("C_GetAttributeValue", session, key, place, 2) == "CKR_ATTRIBUTE_TYPE_INVALID"
    assert (place[0].ulValueLen, place[1].ulValueLen) == (UNAVAILABLE, 5)
    place = template((ck.CKA_LABEL, bytes(4)), (ck.CKA_TOKEN, bytes(1)))
    assert p11.rv("C_GetAttributeValue", session, key, place, 2) == "CKR_BUFFER_TOO_SMALL"
    assert (place[0].ulValueLen, place[1].ulValueLen) == (UNAVAILABLE, 1)
    assert not any(place.kept[0])


def test_a_value_of_a_key_that_may_leave(p11: Cryptoki, session: int) -> None:
    key = p11.generic_secret(session, b"0123456789", (ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
    assert p11.get(session, key, ck.CKA_VALUE) == b"0123456789"
    assert p11.get(session, key, ck.CKA_VALUE_LEN) == bytes(c_ulong(10))


def test_templates_inside_templates(p11: Cryptoki, session: int) -> None:
    inner = [(ck.CKA_EXTRACTABLE, True), (ck.CKA_LABEL, b"inside")]
    key = p11.aes(session, (ck.CKA_WRAP, True), (ck.CKA_WRAP_TEMPLATE, inner))
    place = template((ck.CKA_WRAP_TEMPLATE, None))
    p11("C_GetAttributeValue", session, key, place, 1)
    assert place[0].ulValueLen == 2 * ctypes.sizeof(Attribute)

    inside = (Attribute * 2)()
    place[0].pValue = kept(inside)
    p11("C_GetAttributeValue", session, key, place, 1)
    lengths = {attribute.type: attribute.ulValueLen for attribute in inside}
    assert lengths == {ck.CKA_EXTRACTABLE: 1, ck.CKA_LABEL: 6}

    memory = [(c_ubyte * attribute.ulValueLen)() for attribute in inside]
    for attribute, room in zip(inside, memory, strict=True):
        attribute.pValue = kept(room)
    p11("C_GetAttributeValue", session, key, place, 1)
    assert {attribute.type: bytes(room) for attribute, room in zip(inside, memory, strict=True)} == {
        ck.CKA_EXTRACTABLE: b"\x01",
        ck.CKA_LABEL: b"inside",
    }

    inside[0].ulValueLen, inside[1].ulValueLen = 0, 64
    assert p11.rv("C_GetAttributeValue", session, key, place, 1) == "CKR_BUFFER_TOO_SMALL"
    assert inside[0].ulValueLen == UNAVAILABLE
    place[0].ulValueLen = 2 * ctypes.sizeof(Attribute) - 1
    assert p11.rv("C_GetAttributeValue", session, key, place, 1) == "CKR_BUFFER_TOO_SMALL"
    assert place[0].ulValueLen == UNAVAILABLE


def created(p11: Cryptoki, session: int, array: ctypes.Array[Attribute], count: int | None = None) -> str:
    return p11.rv("C_CreateObject", session, array, len(array) if count is None else count, c_ulong(0))


def data(*pairs: tuple[int, object]) -> ctypes.Array[Attribute]:
    return template((ck.CKA_CLASS, ck.CKO_DATA), *pairs)


def test_templates_with_pointers_and_lengths_that_cannot_be(p11: Cryptoki, session: int) -> None:
    assert p11.rv("C_CreateObject", session, None, 1, c_ulong(0)) == "CKR_ARGUMENTS_BAD"
    assert created(p11, session, data(), ULONG_MAX) == "CKR_ARGUMENTS_BAD"
    assert created(p11, session, data(), 1 << 63) == "CKR_ARGUMENTS_BAD"
    assert created(p11, session, data(), 4097) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_CreateObject", session, data(), 1, None) == "CKR_ARGUMENTS_BAD"
    for length in (1, 1 << 31, 1 << 63, ULONG_MAX):
        array = data((ck.CKA_LABEL, None))
        array[1].ulValueLen = length
        assert created(p11, session, array) == "CKR_ATTRIBUTE_VALUE_INVALID"
    array = data((ck.CKA_LABEL, b"label"))
    array[1].ulValueLen = ULONG_MAX
    assert created(p11, session, array) == "CKR_ATTRIBUTE_VALUE_INVALID"


def test_templates_with_nonsense(p11: Cryptoki, session: int) -> None:
    assert created(p11, session, template()) == "CKR_TEMPLATE_INCOMPLETE"
    assert created(p11, session, data((0x12345678, b"?"))) == "CKR_ATTRIBUTE_TYPE_INVALID"
    vendor = ck.CKA_VENDOR_DEFINED | 0x4E534350  # has the bit of an array of attributes, and is none
    assert created(p11, session, data((vendor, b"?"))) == "CKR_ATTRIBUTE_TYPE_INVALID"
    one, other = (ck.CKA_LABEL, b"a"), (ck.CKA_LABEL, b"b")
    assert created(p11, session, data(one, one)) == "CKR_OK"
    assert created(p11, session, data(one, other)) == "CKR_TEMPLATE_INCONSISTENT"
    assert created(p11, session, data((ck.CKA_TOKEN, b"\x00\x00"))) == "CKR_ATTRIBUTE_VALUE_INVALID"
    assert created(p11, session, template((ck.CKA_CLASS, b"\x00"))) == "CKR_ATTRIBUTE_VALUE_INVALID"
    assert created(p11, session, template((ck.CKA_CLASS, 0x7777))) in (
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_TEMPLATE_INCONSISTENT",
    )


def test_nesting_is_bounded(p11: Cryptoki, session: int) -> None:
    inner: list[tuple[int, object]] = [(ck.CKA_LABEL, b"x")]
    for _ in range(5):
        inner = [(ck.CKA_WRAP_TEMPLATE, inner)]
    array = template((ck.CKA_CLASS, ck.CKO_SECRET_KEY), *inner)
    assert created(p11, session, array) == "CKR_ATTRIBUTE_VALUE_INVALID"
    array = template((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_WRAP_TEMPLATE, b"seventeen bytes!!"))
    assert created(p11, session, array) == "CKR_ATTRIBUTE_VALUE_INVALID"


def test_a_template_that_names_itself_comes_to_an_end(p11: Cryptoki, session: int) -> None:
    array = template((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_WRAP_TEMPLATE, None))
    array[1].pValue, array[1].ulValueLen = kept(array), ctypes.sizeof(array)
    assert created(p11, session, array) == "CKR_ATTRIBUTE_VALUE_INVALID"


def test_the_sum_of_all_values_is_bounded(p11: Cryptoki, session: int) -> None:
    memory = (c_ubyte * (1 << 20))()
    array = (Attribute * 100)()
    for attribute in array:
        attribute.type, attribute.pValue, attribute.ulValueLen = ck.CKA_VALUE, kept(memory), len(memory)
    assert created(p11, session, array) == "CKR_ARGUMENTS_BAD"


def test_copy_set_and_destroy(p11: Cryptoki, session: int) -> None:
    first = p11.data_object(session, (ck.CKA_LABEL, b"first"))
    second = p11.made("C_CopyObject", session, first, template((ck.CKA_LABEL, b"second")), 1)
    p11("C_SetAttributeValue", session, first, template((ck.CKA_LABEL, b"third")), 1)
    assert p11.get(session, first, ck.CKA_LABEL) == b"third"
    assert p11.get(session, second, ck.CKA_LABEL) == b"second"
    p11("C_DestroyObject", session, first)
    for function, *arguments in (
        ("C_DestroyObject",),
        ("C_GetObjectSize", c_ulong(0)),
        ("C_GetAttributeValue", template((ck.CKA_LABEL, None)), 1),
        ("C_SetAttributeValue", template((ck.CKA_LABEL, b"x")), 1),
        ("C_CopyObject", None, 0, c_ulong(0)),
    ):
        assert p11.rv(function, session, first, *arguments) == "CKR_OBJECT_HANDLE_INVALID"


def test_find_gives_all_and_in_pieces(p11: Cryptoki, session: int) -> None:
    handles = [p11.data_object(session, (ck.CKA_LABEL, b"many")) for _ in range(5)]
    p11("C_FindObjectsInit", session, template((ck.CKA_LABEL, b"many")), 1)
    assert p11.rv("C_FindObjectsInit", session, None, 0) == "CKR_OPERATION_ACTIVE"
    array, count, found = (c_ulong * 2)(), c_ulong(9), []
    for expected in (2, 2, 1, 0):
        p11("C_FindObjects", session, array, 2, count)
        assert count.value == expected
        found += array[:expected]
    assert sorted(found) == sorted(handles)
    assert p11.rv("C_FindObjects", session, None, 2, count) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_FindObjects", session, array, 2, None) == "CKR_ARGUMENTS_BAD"
    p11("C_FindObjectsFinal", session)
    assert p11.rv("C_FindObjects", session, array, 2, count) == "CKR_OPERATION_NOT_INITIALIZED"
    assert p11.rv("C_FindObjectsFinal", session) == "CKR_OPERATION_NOT_INITIALIZED"
