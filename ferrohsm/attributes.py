"""Templates in, attributes out: the rules of PKCS#11 3.2, "Creating, modifying, and copying objects".

Everything here works from the rows of `ferrohsm.attribute_rules`; nothing knows a class by name.
"""

from __future__ import annotations

from ferrohsm import attribute_rules
from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Template, Value
from ferrohsm.attribute_kinds import (
    BIG_INTEGER,
    BOOL,
    ERASABLE,
    FALSE,
    FORBIDDEN,
    MODIFIABLE,
    ON_COPY,
    ONLY_TO_FALSE,
    ONLY_TO_TRUE,
    REQUIRED,
    SENSITIVE,
    TEMPLATE,
    TRUE,
    TRUE_BY_SO,
    UNWRAP,
    Rule,
    is_true,
    number,
    ulong,
    well_formed,
)
from ferrohsm.ec_encoding import normal_parameters, normal_point
from ferrohsm.errors import (
    ActionProhibited,
    AttributeReadOnly,
    AttributeTypeInvalid,
    AttributeValueInvalid,
    TemplateIncomplete,
    TemplateInconsistent,
)
from ferrohsm.typed import Iterable

Rules = dict[int, Rule]

_rules: dict[tuple[int, int | None], Rules] = {}
_known: frozenset[int] = frozenset()
_sensitive: frozenset[int] = frozenset()


def _name(attribute: int) -> str:
    return ck.name("CKA", attribute)


def known_types() -> frozenset[int]:
    """Return every attribute type that the specification's header defines."""
    global _known
    if not _known:
        _known = frozenset(
            number
            for name, number in vars(ck).items()
            if name.startswith("CKA_") and isinstance(number, int) and number < ck.CKA_VENDOR_DEFINED
        )
    return _known


def sensitive_types() -> frozenset[int]:
    """Return the attributes that are sensitive in some class (footnote 7)."""
    global _sensitive
    if not _sensitive:
        _sensitive = frozenset(
            row[0] for table in attribute_rules.TABLES.values() for row in table if row[2] & SENSITIVE
        )
    return _sensitive


def kind(attribute: int) -> str | None:
    """Return the kind of an attribute's values, None when no class has it."""
    rule = _any_rules().get(attribute)
    return None if rule is None else rule.kind


def rules_for(object_class: int, subtype: int | None) -> Rules | None:
    """Return the rules of a class and type, None when there is no such thing."""
    key = (object_class, subtype)
    rules = _rules.get(key)
    if rules is None:
        tables = attribute_rules.CLASSES.get(key)
        if tables is None:
            return None
        rules = {row[0]: Rule(*row) for table in tables for row in attribute_rules.TABLES[table]}
        _rules[key] = rules
    return rules


def rules_of(attributes: Attributes) -> Rules:
    """Return the rules of an object that exists."""
    object_class = number(attributes[ck.CKA_CLASS])
    subtype = attribute_rules.SUBTYPES.get(object_class)
    value = None if subtype is None else attributes.get(subtype)
    rules = rules_for(object_class, None if value is None else number(value))
    if rules is None:  # an object of an adapter that knows more types than the table
        rules = rules_for(object_class, None)
    return {} if rules is None else rules


def collapse(template: Template) -> Attributes:
    """Return a template as a mapping; an attribute may stand twice with the same value.

    Raises `TemplateInconsistent` for two values, `AttributeTypeInvalid` for one that nobody knows.
    """
    given: Attributes = {}
    for attribute, value in template:
        if attribute not in known_types():
            raise AttributeTypeInvalid(_name(attribute))
        if attribute in given and given[attribute] != value:
            raise TemplateInconsistent(f"{_name(attribute)} has two values")
        given[attribute] = value
    return given


def normal(rule: Rule, value: Value) -> Value:
    """Return the one form in which a value is kept, after checking it.

    Raises `AttributeValueInvalid`.
    """
    if not well_formed(rule.kind, value):
        raise AttributeValueInvalid(_name(rule.type))
    if isinstance(value, tuple):
        return _normal_template(value)
    if rule.flags & SENSITIVE:
        return bytearray(value)  # a copy: the caller wipes its own
    value = bytes(value)
    if rule.kind == BIG_INTEGER:
        return value.lstrip(b"\0")
    if rule.type == ck.CKA_EC_PARAMS:
        return normal_parameters(value)
    if rule.type == ck.CKA_EC_POINT:
        return normal_point(value)
    return value


def _normal_template(template: Template) -> Value:
    """Check a template that is an attribute's value; one inside another is refused, as is allowed."""
    rules = _any_rules()
    inner = collapse(template)
    for attribute, value in inner.items():
        rule = rules.get(attribute)
        if rule is None:
            raise AttributeTypeInvalid(_name(attribute))
        if rule.kind == TEMPLATE:
            raise TemplateInconsistent(f"{_name(attribute)} inside a template")
        kept = normal(rule, value)
        inner[attribute] = bytes(kept) if isinstance(kept, bytearray) else kept
    return tuple(inner.items())


def _any_rules() -> Rules:
    """Return one rule for each attribute that any key has (for templates of keys not made yet)."""
    rules = _rules.get((-1, None))
    if rules is None:
        rules = {}
        for object_class, subtype in attribute_rules.CLASSES:
            for attribute, rule in (rules_for(object_class, subtype) or {}).items():
                rules.setdefault(attribute, rule)
        _rules[(-1, None)] = rules
    return rules


def compose(origin: int, template: Template, implied: Attributes, *, so: bool = False) -> Attributes:
    """Return the attributes of an object to be made: the template's, what the way implies, defaults.

    `origin` is a way of `ferrohsm.attribute_kinds`, `implied` the class and type that follow from the
    mechanism, `so` whether the security officer is logged in.
    Raises `AttributeTypeInvalid`, `AttributeValueInvalid`, `AttributeReadOnly`,
    `TemplateIncomplete`, `TemplateInconsistent`.
    """
    given = collapse(template)
    for attribute, value in implied.items():
        if given.setdefault(attribute, value) != value:
            raise TemplateInconsistent(f"{_name(attribute)} does not fit the mechanism")
    rules, tables = _select(given)
    made: Attributes = {}
    try:
        for attribute, value in given.items():
            made[attribute] = normal(_allowed(origin, rules, attribute, value, so), value)
        _complete(origin, made, rules, tables)
        check_consistent(made)
    except BaseException:
        from ferrohsm.entries import wipe

        wipe(made)  # a secret may be among them
        raise
    return made


def _allowed(origin: int, rules: Rules, attribute: int, value: Value, so: bool) -> Rule:
    """Return the rule of an attribute that the template of this way may give this value."""
    rule = rules.get(attribute)
    if rule is None:
        raise TemplateInconsistent(f"{_name(attribute)} is none of this class's")
    if rule.flags & (FORBIDDEN << origin):
        raise AttributeReadOnly(f"{_name(attribute)} is not for the template")
    if rule.flags & TRUE_BY_SO and value == TRUE and not so:
        raise AttributeReadOnly(f"{_name(attribute)} is the security officer's")
    return rule


def _select(given: Attributes) -> tuple[Rules, tuple[str, ...]]:
    """Find the rules by class and type."""
    object_class = _number(given, ck.CKA_CLASS)
    if (object_class, None) not in attribute_rules.CLASSES or object_class in attribute_rules.BUILT_IN:
        raise AttributeValueInvalid("no object of this CKA_CLASS can be made")
    holder = attribute_rules.SUBTYPES.get(object_class)
    subtype = None if holder is None else _number(given, holder)
    rules = rules_for(object_class, subtype)
    if rules is None:
        elsewhere = any(key[1] == subtype for key in attribute_rules.CLASSES)
        if elsewhere:
            raise TemplateInconsistent(f"no {ck.name('CKO', object_class)} has this type")
        raise AttributeValueInvalid(f"{_name(holder or 0)} is not known here")
    return rules, attribute_rules.CLASSES[(object_class, subtype)]


def _number(given: Attributes, attribute: int) -> int:
    value = given.get(attribute)
    if value is None:
        raise TemplateIncomplete(_name(attribute))
    if isinstance(value, tuple) or len(value) != 8:
        raise AttributeValueInvalid(_name(attribute))
    return number(value)


def _complete(origin: int, made: Attributes, rules: Rules, tables: tuple[str, ...]) -> None:
    """Check that what must be there is there, and fill in the defaults."""
    for rule in rules.values():
        if rule.type in made:
            continue
        if rule.flags & (REQUIRED << origin):
            raise TemplateIncomplete(_name(rule.type))
        default = rule.default
        if origin == UNWRAP and rule.default_unwrap is not None:
            default = rule.default_unwrap
        if default is not None:
            made[rule.type] = default
    if origin == 0:
        for table in tables:
            choices = attribute_rules.ONE_OF.get(table)
            if choices and not any(made.get(choice) for choice in choices):
                raise TemplateIncomplete(" or ".join(_name(choice) for choice in choices))
            needed, deciding, free = attribute_rules.CONDITIONS.get(table, ((), (), ()))
            if any(made.get(attribute) not in free for attribute in deciding):
                for attribute in needed:
                    if not made.get(attribute):
                        raise TemplateIncomplete(_name(attribute))


def check_consistent(attributes: Attributes) -> None:
    """Check what the rows cannot say: rules between two attributes, and about the values of some.

    Raises `TemplateInconsistent`, `AttributeValueInvalid`.
    """
    if is_true(attributes.get(ck.CKA_ALWAYS_AUTHENTICATE)) and not is_true(attributes.get(ck.CKA_PRIVATE)):
        # "This attribute may only be set to CK_TRUE when CKA_PRIVATE is also CK_TRUE."
        raise TemplateInconsistent("CKA_ALWAYS_AUTHENTICATE without CKA_PRIVATE")
    if ck.CKA_OTP_FORMAT in attributes:
        from ferrohsm.otp import check_attributes

        check_attributes(attributes)


def change(current: Attributes, template: Template, *, copying: bool, so: bool = False) -> Attributes:
    """Return the attributes that ``C_SetAttributeValue`` or ``C_CopyObject`` changes, checked.

    What may not be given is refused even when it would change nothing.
    Raises `AttributeTypeInvalid`, `AttributeValueInvalid`, `AttributeReadOnly`, `ActionProhibited`,
    `TemplateInconsistent`.
    """
    rules = rules_of(current)
    if not copying:
        _check_modifiable(current, so)
    changed: Attributes = {}
    for attribute, value in collapse(template).items():
        rule = rules.get(attribute)
        if rule is None:
            raise TemplateInconsistent(f"{_name(attribute)} is none of this class's")
        if rule.flags & SENSITIVE:
            raise AttributeReadOnly(_name(attribute))  # before a copy of it is made
        value = normal(rule, value)
        if value == current.get(attribute) and rule.flags & (ONLY_TO_TRUE | ONLY_TO_FALSE):
            continue  # a one-way flag that is there already
        _check_change(rule, current, value, copying, so)
        changed[attribute] = value
    check_consistent({**current, **changed})
    return changed


def _check_modifiable(current: Attributes, so: bool) -> None:
    if current.get(ck.CKA_MODIFIABLE, TRUE) == FALSE:
        raise ActionProhibited("CKA_MODIFIABLE is false")
    is_certificate = current[ck.CKA_CLASS] == ulong(ck.CKO_CERTIFICATE)
    if is_certificate and is_true(current.get(ck.CKA_TRUSTED)) and not so:
        raise ActionProhibited("trusted certificates cannot be modified")


def _check_change(rule: Rule, current: Attributes, value: Value, copying: bool, so: bool) -> None:
    flags = rule.flags
    if flags & TRUE_BY_SO:
        if not so:
            raise AttributeReadOnly(f"{_name(rule.type)} is the security officer's")
        return
    if copying and rule.type == ck.CKA_PRIVATE:
        if value != TRUE and is_true(current.get(ck.CKA_PRIVATE)):
            raise TemplateInconsistent("a copy of a private object is private")
        return
    if flags & ERASABLE:
        if value:
            raise AttributeValueInvalid(f"{_name(rule.type)} can only be removed")
        return
    if not flags & MODIFIABLE and not (copying and flags & ON_COPY):
        raise AttributeReadOnly(_name(rule.type))
    if (flags & ONLY_TO_TRUE and value != TRUE) or (flags & ONLY_TO_FALSE and value != FALSE):
        raise AttributeReadOnly(f"{_name(rule.type)} cannot be changed back")


def merge(first: Template, second: Template) -> list[tuple[int, Value]]:
    """Return `second` with the attributes of `first`, a template kept on a key.

    Raises `TemplateInconsistent` where they conflict.
    """
    given = collapse(second)
    for attribute, value in first:
        if given.setdefault(attribute, value) != value:
            raise TemplateInconsistent(f"{_name(attribute)} conflicts with the key's template")
    return list(given.items())


def is_hidden(attributes: Attributes, rules: Rules, attribute: int) -> bool:
    """Say whether the value cannot be revealed (footnote 7)."""
    rule = rules.get(attribute)
    if rule is None or not rule.flags & SENSITIVE:
        return False
    return is_true(attributes.get(ck.CKA_SENSITIVE, TRUE)) or not is_true(attributes.get(ck.CKA_EXTRACTABLE))


def search_form(template: Template) -> list[tuple[int, Value]] | None:
    """Return a search template in the kept form, None when it can match nothing.

    A search may ask for anything (NSS probes its own attributes): what nobody knows, a value of the
    wrong form or two values for one attribute match no object.
    """
    rules = _any_rules()
    wanted: Attributes = {}
    for attribute, value in template:
        rule = rules.get(attribute)
        if rule is None:
            return None
        if isinstance(value, tuple) != (rule.kind == TEMPLATE):
            return None
        if isinstance(value, tuple):
            form: Value = value
        elif rule.kind == BIG_INTEGER and not rule.flags & SENSITIVE:
            form = bytes(value).lstrip(b"\0")
        elif attribute == ck.CKA_EC_PARAMS:
            form = normal_parameters(bytes(value))
        elif attribute == ck.CKA_EC_POINT:
            form = normal_point(bytes(value))
        elif rule.kind == BOOL and len(value) == 1 and value != FALSE:
            form = TRUE  # C programs may use any true value
        else:
            form = bytes(value)
        if wanted.setdefault(attribute, form) != form:
            return None
    return list(wanted.items())


def matches(attributes: Attributes, rules: Rules, wanted: Iterable[tuple[int, Value]]) -> bool:
    """Say whether an object has all values of `wanted`; a value that is hidden matches nothing."""
    for attribute, value in wanted:
        own = attributes.get(attribute)
        if own is None or own != value or is_hidden(attributes, rules, attribute):
            return False
    return True
