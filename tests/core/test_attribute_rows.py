"""Every row of the attribute table is kept: the rows themselves say what is tried."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ferrohsm import attribute_kinds as kinds
from ferrohsm import attribute_rules
from ferrohsm import attributes as attribute_room
from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Value
from ferrohsm.attribute_kinds import CREATE, DERIVE, FALSE, GENERATE, TRUE, UNWRAP, Rule, ulong
from ferrohsm.errors import (
    ActionProhibited,
    AttributeReadOnly,
    AttributeTypeInvalid,
    AttributeValueInvalid,
    TemplateIncomplete,
    TemplateInconsistent,
)

ROOT = Path(__file__).resolve().parents[2]
WAYS = {"create": CREATE, "generate": GENERATE, "unwrap": UNWRAP, "derive": DERIVE}

VALUES: dict[str, Value] = {
    kinds.BOOL: TRUE,
    kinds.ULONG: ulong(2),
    kinds.BYTES: b"bytes",
    kinds.STRING: "text ü".encode(),
    kinds.BIG_INTEGER: b"\x7f\x01",
    kinds.DATE: b"20261124",
    kinds.ULONGS: ulong(1) + ulong(2),
    kinds.TEMPLATE: ((ck.CKA_LABEL, b"inner"),),
}
WRONG: dict[str, Value] = {
    kinds.BOOL: b"\x02",
    kinds.ULONG: b"\x00" * 7,
    kinds.STRING: b"\xff\xfe",
    kinds.DATE: b"20261324",
    kinds.ULONGS: b"\x00" * 9,
    kinds.TEMPLATE: b"no template",
}

# What a HOTP key says of its passwords is not any value.
PARTICULAR: dict[int, Value] = {
    ck.CKA_OTP_FORMAT: ulong(ck.CK_OTP_FORMAT_DECIMAL),
    ck.CKA_OTP_LENGTH: ulong(7),
    ck.CKA_OTP_CHALLENGE_REQUIREMENT: ulong(ck.CK_OTP_PARAM_IGNORED),
    ck.CKA_OTP_TIME_REQUIREMENT: ulong(ck.CK_OTP_PARAM_IGNORED),
    ck.CKA_OTP_PIN_REQUIREMENT: ulong(ck.CK_OTP_PARAM_IGNORED),
    ck.CKA_OTP_COUNTER: bytes(8),
    ck.CKA_OTP_TIME: b"",
}


def value_of(rule: Rule) -> Value:
    return PARTICULAR.get(rule.type, VALUES[rule.kind])


MADE = [key for key in attribute_rules.CLASSES if key[0] not in attribute_rules.BUILT_IN]
KINDS = [
    key for key in MADE if key[1] is not None or key[0] not in attribute_rules.SUBTYPES
]  # those that can be made: with their type, where there are types


def rules(key: tuple[int, int | None]) -> dict[int, Rule]:
    found = attribute_room.rules_for(*key)
    assert found is not None
    return found


def name(parameter: object) -> str | None:
    if isinstance(parameter, Rule):
        return ck.name("CKA", parameter.type)
    if isinstance(parameter, tuple):
        holder = attribute_rules.SUBTYPES.get(parameter[0])
        prefix = "CKC" if holder == ck.CKA_CERTIFICATE_TYPE else "CKK"
        subtype = "" if parameter[1] is None else "-" + ck.name(prefix, parameter[1])
        return ck.name("CKO", parameter[0]) + subtype
    return None


def valid(key: tuple[int, int | None], way: int) -> Attributes:
    """Return a template that gives all that may be given in this way."""
    made: Attributes = {}
    for rule in rules(key).values():
        if not rule.flags & (kinds.FORBIDDEN << way):
            made[rule.type] = FALSE if rule.flags & kinds.TRUE_BY_SO else value_of(rule)
    return made | identity(key)


def identity(key: tuple[int, int | None]) -> Attributes:
    made: Attributes = {ck.CKA_CLASS: ulong(key[0])}
    holder = attribute_rules.SUBTYPES.get(key[0])
    if holder is not None and key[1] is not None:
        made[holder] = ulong(key[1])
    return made


def compose(way: int, template: Attributes, **options: bool) -> Attributes:
    return attribute_room.compose(way, list(template.items()), {}, **options)


def cases(wanted: int) -> list[object]:
    """Return (class, way, rule) of all rows with a flag of that pair."""
    return [
        pytest.param(key, way, rule, id=f"{name(key)}-{label}-{name(rule)}")
        for key in KINDS
        for label, way in WAYS.items()
        for rule in rules(key).values()
        if rule.flags & (wanted << way)
    ]


def every(flag: int) -> list[object]:
    return [
        pytest.param(key, rule, id=f"{name(key)}-{name(rule)}")
        for key in KINDS
        for rule in rules(key).values()
        if rule.flags & flag
    ]


def test_generated_file_is_fresh() -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "gen_attributes.py"), "--check"], check=True)


@pytest.mark.parametrize("key", KINDS, ids=name)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_full_template_is_taken(key: tuple[int, int | None], way: int) -> None:
    made = compose(way, valid(key, way))
    for attribute, rule in rules(key).items():
        if rule.default is not None:
            assert attribute in made
    assert all(isinstance(made[a], bytearray) for a, r in rules(key).items() if r.flags & 0x100 and a in made)


@pytest.mark.parametrize(("key", "way", "rule"), cases(kinds.FORBIDDEN))
def test_forbidden(key: tuple[int, int | None], way: int, rule: Rule) -> None:
    template = valid(key, way) | {rule.type: value_of(rule)}
    with pytest.raises(AttributeReadOnly):
        compose(way, template)


@pytest.mark.parametrize(("key", "way", "rule"), cases(kinds.REQUIRED))
def test_required(key: tuple[int, int | None], way: int, rule: Rule) -> None:
    template = valid(key, way)
    del template[rule.type]
    with pytest.raises(TemplateIncomplete):
        compose(way, template)


@pytest.mark.parametrize("key", KINDS, ids=name)
def test_wrong_form(key: tuple[int, int | None]) -> None:
    for rule in rules(key).values():
        if rule.kind in WRONG and not rule.flags & kinds.CREATE_FORBIDDEN:
            with pytest.raises(AttributeValueInvalid):
                compose(CREATE, valid(key, CREATE) | {rule.type: WRONG[rule.kind]})


@pytest.mark.parametrize("key", KINDS, ids=name)
def test_defaults(key: tuple[int, int | None]) -> None:
    """What is not required and not given gets its row's default."""
    for way in (CREATE, UNWRAP):
        template = {
            attribute: value
            for attribute, value in valid(key, way).items()
            if attribute in identity(key) or rules(key)[attribute].flags & (kinds.REQUIRED << way)
        }
        for table in attribute_rules.CLASSES[key]:
            for choice in attribute_rules.ONE_OF.get(table, ())[:1]:
                template.setdefault(choice, b"one of them")
        if way == UNWRAP:
            template = {a: v for a, v in template.items() if not rules(key)[a].flags & kinds.UNWRAP_FORBIDDEN}
        made = compose(way, template)
        for attribute, rule in rules(key).items():
            expected = rule.default
            if way == UNWRAP and rule.default_unwrap is not None:
                expected = rule.default_unwrap
            if attribute not in template:
                assert made.get(attribute) == expected, ck.name("CKA", attribute)


@pytest.mark.parametrize("key", KINDS, ids=name)
def test_attribute_of_another_class(key: tuple[int, int | None]) -> None:
    everything = {a for other in KINDS for a in rules(other)}
    for attribute in everything - set(rules(key)):
        with pytest.raises(TemplateInconsistent):
            compose(CREATE, valid(key, CREATE) | {attribute: b"\x01"})


@pytest.mark.parametrize("table", attribute_rules.ONE_OF)
def test_one_of(table: str) -> None:
    key = next(key for key, tables in attribute_rules.CLASSES.items() if table in tables)
    choices = attribute_rules.ONE_OF[table]
    template = {a: v for a, v in valid(key, CREATE).items() if a not in choices}
    with pytest.raises(TemplateIncomplete):
        compose(CREATE, template)
    for choice in choices:
        compose(CREATE, template | {choice: b"here"})
    if rules(key)[choices[0]].kind == kinds.BYTES and not rules(key)[choices[0]].flags & kinds.SENSITIVE:
        with pytest.raises(TemplateIncomplete):
            compose(CREATE, template | {choices[0]: b""})


@pytest.mark.parametrize("table", attribute_rules.CONDITIONS)
def test_conditions(table: str) -> None:
    key = next(key for key, tables in attribute_rules.CLASSES.items() if table in tables)
    needed, deciding, free = attribute_rules.CONDITIONS[table]
    for attribute in needed:
        template = {a: v for a, v in valid(key, CREATE).items() if a != attribute}
        with pytest.raises(TemplateIncomplete):
            compose(CREATE, template)
        with pytest.raises(TemplateIncomplete):
            compose(CREATE, template | {attribute: b""})
        for value in free:
            compose(CREATE, template | dict.fromkeys(deciding, value))
        for one in deciding:
            others = dict.fromkeys(deciding, free[0])
            with pytest.raises(TemplateIncomplete):
                compose(CREATE, template | others | {one: valid(key, CREATE)[one]})
    without = {a: v for a, v in valid(key, CREATE).items() if a not in (*needed, *deciding)}
    compose(CREATE, without)  # the defaults of the deciding ones are free


@pytest.mark.parametrize(("key", "rule"), every(kinds.TRUE_BY_SO))
def test_true_by_so(key: tuple[int, int | None], rule: Rule) -> None:
    template = valid(key, CREATE) | {rule.type: TRUE}
    with pytest.raises(AttributeReadOnly):
        compose(CREATE, template)
    assert compose(CREATE, template, so=True)[rule.type] == TRUE


# Changing


def current(key: tuple[int, int | None]) -> Attributes:
    made = compose(CREATE, valid(key, CREATE))
    return {**made, ck.CKA_UNIQUE_ID: b"id", ck.CKA_MODIFIABLE: TRUE}


@pytest.mark.parametrize("key", KINDS, ids=name)
@pytest.mark.parametrize("copying", [False, True], ids=["set", "copy"])
def test_what_may_change(key: tuple[int, int | None], copying: bool) -> None:
    others: dict[str, Value] = {
        kinds.BOOL: FALSE,
        kinds.ULONG: ulong(4),
        kinds.BYTES: b"other",
        kinds.STRING: b"other",
        kinds.BIG_INTEGER: b"\x05",
        kinds.DATE: b"",
        kinds.ULONGS: b"",
        kinds.TEMPLATE: (),
    }
    for attribute, rule in rules(key).items():
        before = current(key)
        one_way = kinds.ONLY_TO_TRUE | kinds.ONLY_TO_FALSE | kinds.TRUE_BY_SO | kinds.ERASABLE
        if rule.flags & one_way or attribute == ck.CKA_PRIVATE:
            continue
        value = others[rule.kind]
        allowed = bool(rule.flags & kinds.MODIFIABLE) or (copying and bool(rule.flags & kinds.ON_COPY))
        if allowed:
            assert attribute_room.change(before, [(attribute, value)], copying=copying) == {attribute: value}
        else:
            with pytest.raises(AttributeReadOnly):
                attribute_room.change(before, [(attribute, value)], copying=copying)


@pytest.mark.parametrize(("key", "rule"), every(kinds.ONLY_TO_TRUE | kinds.ONLY_TO_FALSE))
@pytest.mark.parametrize("copying", [False, True], ids=["set", "copy"])
def test_one_way(key: tuple[int, int | None], rule: Rule, copying: bool) -> None:
    to, back = (TRUE, FALSE) if rule.flags & kinds.ONLY_TO_TRUE else (FALSE, TRUE)
    before = current(key) | {rule.type: back}
    assert attribute_room.change(before, [(rule.type, to)], copying=copying) == {rule.type: to}
    after = before | {rule.type: to}
    assert attribute_room.change(after, [(rule.type, to)], copying=copying) == {}
    with pytest.raises(AttributeReadOnly):
        attribute_room.change(after, [(rule.type, back)], copying=copying)


@pytest.mark.parametrize(("key", "rule"), every(kinds.TRUE_BY_SO))
def test_trust_is_given_by_the_so(key: tuple[int, int | None], rule: Rule) -> None:
    before = current(key)
    for value in (TRUE, FALSE):
        with pytest.raises(AttributeReadOnly):
            attribute_room.change(before, [(rule.type, value)], copying=False)
    assert attribute_room.change(before, [(rule.type, TRUE)], copying=False, so=True) == {rule.type: TRUE}


def test_erasable() -> None:
    before = current((ck.CKO_SECRET_KEY, ck.CKK_AES))
    assert attribute_room.change(before, [(ck.CKA_CHECK_VALUE, b"")], copying=False) == {
        ck.CKA_CHECK_VALUE: b""
    }
    with pytest.raises(AttributeValueInvalid):
        attribute_room.change(before, [(ck.CKA_CHECK_VALUE, b"abc")], copying=False)


@pytest.mark.parametrize("key", KINDS, ids=name)
def test_not_modifiable(key: tuple[int, int | None]) -> None:
    before = current(key) | {ck.CKA_MODIFIABLE: FALSE}
    with pytest.raises(ActionProhibited):
        attribute_room.change(before, [(ck.CKA_LABEL, b"new")], copying=False)
    assert attribute_room.change(before, [(ck.CKA_LABEL, b"new")], copying=True) == {ck.CKA_LABEL: b"new"}


def test_trusted_certificate_is_fixed() -> None:
    before = current((ck.CKO_CERTIFICATE, ck.CKC_X_509)) | {ck.CKA_TRUSTED: TRUE}
    with pytest.raises(ActionProhibited):
        attribute_room.change(before, [(ck.CKA_LABEL, b"new")], copying=False)
    attribute_room.change(before, [(ck.CKA_LABEL, b"new")], copying=False, so=True)


def test_copy_stays_private() -> None:
    before = current((ck.CKO_SECRET_KEY, ck.CKK_AES)) | {ck.CKA_PRIVATE: TRUE}
    with pytest.raises(TemplateInconsistent):
        attribute_room.change(before, [(ck.CKA_PRIVATE, FALSE)], copying=True)
    with pytest.raises(AttributeReadOnly):
        attribute_room.change(before, [(ck.CKA_PRIVATE, FALSE)], copying=False)
    public = before | {ck.CKA_PRIVATE: FALSE, ck.CKA_ALWAYS_AUTHENTICATE: FALSE}
    assert attribute_room.change(public, [(ck.CKA_PRIVATE, TRUE)], copying=True) == {ck.CKA_PRIVATE: TRUE}


# Templates


def test_duplicates() -> None:
    template = [*valid((ck.CKO_DATA, None), CREATE).items()]
    attribute_room.compose(CREATE, [*template, (ck.CKA_LABEL, VALUES[kinds.STRING])], {})
    with pytest.raises(TemplateInconsistent):
        attribute_room.compose(CREATE, [*template, (ck.CKA_LABEL, b"another")], {})


@pytest.mark.parametrize("attribute", [0x9999, ck.CKA_VENDOR_DEFINED, ck.CKA_VENDOR_DEFINED | 0x4E534350])
def test_unknown_attribute(attribute: int) -> None:
    template = valid((ck.CKO_DATA, None), CREATE) | {attribute: b""}
    with pytest.raises(AttributeTypeInvalid):
        compose(CREATE, template)
    with pytest.raises(AttributeTypeInvalid):
        attribute_room.change(current((ck.CKO_DATA, None)), [(attribute, b"")], copying=False)
    assert attribute_room.search_form([(attribute, b"")]) is None


@pytest.mark.parametrize("object_class", [*attribute_rules.BUILT_IN, ck.CKO_VALIDATION, 0x80000001, 77])
def test_class_that_nobody_makes(object_class: int) -> None:
    with pytest.raises(AttributeValueInvalid):
        compose(CREATE, {ck.CKA_CLASS: ulong(object_class)})


def test_type_of_another_class() -> None:
    with pytest.raises(TemplateInconsistent):
        compose(CREATE, {ck.CKA_CLASS: ulong(ck.CKO_PRIVATE_KEY), ck.CKA_KEY_TYPE: ulong(ck.CKK_AES)})
    with pytest.raises(AttributeValueInvalid):
        compose(CREATE, {ck.CKA_CLASS: ulong(ck.CKO_SECRET_KEY), ck.CKA_KEY_TYPE: ulong(0x7777)})


def test_template_in_a_template() -> None:
    key = (ck.CKO_SECRET_KEY, ck.CKK_AES)
    nested: Value = ((ck.CKA_WRAP_TEMPLATE, ((ck.CKA_LABEL, b"x"),)),)
    with pytest.raises(TemplateInconsistent):
        compose(CREATE, valid(key, CREATE) | {ck.CKA_WRAP_TEMPLATE: nested})
    with pytest.raises(AttributeValueInvalid):
        compose(CREATE, valid(key, CREATE) | {ck.CKA_WRAP_TEMPLATE: ((ck.CKA_ENCRYPT, b"\x07"),)})
    with pytest.raises(AttributeTypeInvalid):
        compose(CREATE, valid(key, CREATE) | {ck.CKA_WRAP_TEMPLATE: ((0x9999, b"\x07"),)})


def test_always_authenticate_needs_private() -> None:
    key = (ck.CKO_PRIVATE_KEY, ck.CKK_RSA)
    with pytest.raises(TemplateInconsistent):
        compose(CREATE, valid(key, CREATE) | {ck.CKA_PRIVATE: FALSE, ck.CKA_ALWAYS_AUTHENTICATE: TRUE})


@pytest.mark.parametrize(("key", "rule"), every(kinds.SENSITIVE))
def test_sensitive(key: tuple[int, int | None], rule: Rule) -> None:
    own = rules(key)
    for sensitive in (TRUE, FALSE):
        for extractable in (TRUE, FALSE):
            made = {ck.CKA_SENSITIVE: sensitive, ck.CKA_EXTRACTABLE: extractable, rule.type: b"s"}
            hidden = sensitive == TRUE or extractable == FALSE
            assert attribute_room.is_hidden(made, own, rule.type) == hidden
            assert attribute_room.matches(made, own, [(rule.type, b"s")]) != hidden
    assert attribute_room.is_hidden({}, own, rule.type)  # no flag at all: hidden


def test_known_kinds() -> None:
    assert attribute_room.kind(ck.CKA_CLASS) == kinds.ULONG
    assert attribute_room.kind(ck.CKA_ALLOWED_MECHANISMS) == kinds.ULONGS
    assert attribute_room.kind(ck.CKA_VENDOR_DEFINED) is None


def test_refused_templates_leave_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that was copied before the refusal is overwritten; where it cannot be given, none is made."""
    copies: list[bytearray] = []
    normal = attribute_room.normal

    def watched(rule: Rule, value: Value) -> Value:
        kept = normal(rule, value)
        if isinstance(kept, bytearray):
            copies.append(kept)
        return kept

    monkeypatch.setattr(attribute_room, "normal", watched)
    secret = (ck.CKA_VALUE, bytearray(b"a secret that is here"))
    head = [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_GENERIC_SECRET))]
    made = attribute_room.compose(CREATE, [*head, secret], {})
    assert made[ck.CKA_VALUE] == secret[1]
    for more in ((ck.CKA_TOKEN, b"\x02"), (ck.CKA_MODULUS, b"\x01"), (ck.CKA_ALWAYS_SENSITIVE, TRUE)):
        copies.clear()
        with pytest.raises((AttributeReadOnly, AttributeValueInvalid, TemplateInconsistent)):
            attribute_room.compose(CREATE, [*head, secret, more], {})
        assert len(copies) == 1
        assert not any(copies[0])
    copies.clear()
    for copying in (False, True):
        with pytest.raises(AttributeReadOnly):
            attribute_room.change(made, [secret], copying=copying)
    assert copies == []
