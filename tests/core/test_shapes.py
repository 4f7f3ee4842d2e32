"""A template of a known shape is told what the rules say, and nothing that is known of another one."""

from __future__ import annotations

import pytest

from ferrohsm import constants as ck
from ferrohsm import shapes
from ferrohsm.adapters import Template
from ferrohsm.attribute_kinds import CREATE, FALSE, GENERATE, TRUE, ulong
from ferrohsm.attributes import compose
from ferrohsm.errors import HsmError
from ferrohsm.shapes import compose_alike

SECRET = [
    (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
    (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)),
    (ck.CKA_LABEL, b"one"),
    (ck.CKA_ID, b"1"),
    (ck.CKA_VALUE, bytearray(b"v" * 16)),
]
DATA = [(ck.CKA_CLASS, ulong(ck.CKO_DATA)), (ck.CKA_LABEL, b"one"), (ck.CKA_VALUE, b"v")]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_made", {})


def told(how: object, origin: int, template: Template, so: bool) -> object:
    try:
        return how(origin, list(template), {}, so=so)  # type: ignore[operator]
    except HsmError as error:
        return type(error)


def changed(template: Template, attribute: int, value: object) -> Template:
    return [(one, value if one == attribute else old) for one, old in template]  # type: ignore[misc]


VARIANTS = [
    *(
        changed(template, ck.CKA_LABEL, value)
        for template in (SECRET, DATA)
        for value in (b"", b"two", b"\xff")
    ),
    *(changed(template, ck.CKA_VALUE, value) for template in (SECRET, DATA) for value in (b"", b"w" * 5)),
    changed(SECRET, ck.CKA_ID, b"another"),
    changed(SECRET, ck.CKA_KEY_TYPE, ulong(ck.CKK_GENERIC_SECRET)),
    changed(SECRET, ck.CKA_KEY_TYPE, b"\1"),
    [*SECRET, (ck.CKA_LABEL, b"one")],
    [*SECRET, (ck.CKA_LABEL, b"two")],
    [*SECRET, (ck.CKA_TRUSTED, TRUE)],
    [*SECRET, (ck.CKA_PRIVATE, FALSE), (ck.CKA_ALWAYS_AUTHENTICATE, TRUE)],
    [*SECRET, (ck.CKA_WRAP_TEMPLATE, ((ck.CKA_LABEL, b"x"),))],
    SECRET[:-1],
    SECRET[1:],
    [*DATA, (ck.CKA_MODULUS, b"x")],
]


@pytest.mark.parametrize("so", [False, True])
@pytest.mark.parametrize("origin", [CREATE, GENERATE])
def test_it_says_what_the_rules_say(origin: int, so: bool) -> None:
    for _ in range(2):
        for template in [SECRET, DATA, *VARIANTS, SECRET, DATA]:
            assert told(compose_alike, origin, template, so) == told(compose, origin, template, so)


def test_a_shape_is_remembered_without_names_and_secrets() -> None:
    for number in range(10):
        compose_alike(CREATE, changed(SECRET, ck.CKA_LABEL, b"label %d" % number), {})
    assert len(shapes._made) == 1
    assert b"label" not in repr(shapes._made).encode()
    assert b"vvvv" not in repr(shapes._made).encode()


def test_what_is_made_is_nobody_elses() -> None:
    first, second = compose_alike(CREATE, SECRET, {}), compose_alike(CREATE, SECRET, {})
    value = second[ck.CKA_VALUE]
    assert isinstance(value, bytearray)
    value[:] = bytes(16)
    second.clear()
    assert first == compose(CREATE, SECRET, {})
    assert SECRET[-1][1] == b"v" * 16


def test_the_number_of_shapes_is_bounded() -> None:
    for number in range(200):
        compose_alike(CREATE, [*DATA, (ck.CKA_OBJECT_ID, b"%d" % number)], {})
    assert len(shapes._made) == shapes._MOST


def test_secrets_of_other_kinds_are_not_remembered() -> None:
    private = [
        (ck.CKA_CLASS, ulong(ck.CKO_PRIVATE_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_RSA)),
        (ck.CKA_MODULUS, b"\x80" * 16),
        (ck.CKA_PUBLIC_EXPONENT, b"\1\0\1"),
        (ck.CKA_PRIVATE_EXPONENT, b"secret"),
    ]
    compose_alike(CREATE, private, {})
    assert shapes._made == {}
