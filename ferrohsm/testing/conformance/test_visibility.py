"""Private objects are not seen before the login or after the logout; what is sensitive never comes out."""

from __future__ import annotations

import pytest

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Function
from ferrohsm.attribute_kinds import FALSE, TRUE
from ferrohsm.attributes import sensitive_types
from ferrohsm.core import INVALID, SENSITIVE
from ferrohsm.errors import HsmError, ObjectHandleInvalid, UserNotLoggedIn
from ferrohsm.testing.material import DATA
from ferrohsm.testing.subject import LABEL, TOKEN, Running, Subject, label, object_class

__all__ = [
    "test_a_key_cannot_be_used_after_the_logout",
    "test_private_objects_need_the_login",
    "test_sensitive_values_never_come_out",
    "test_what_is_said_holds_no_pin",
]

PRIVATE = (ck.CKA_PRIVATE, TRUE)


def test_private_objects_need_the_login(running: Running) -> None:
    """Neither the store's search nor its read give one out before the login, or after it."""
    if not running.needs_login:
        pytest.skip("the adapter's keys need no login")
    session = running.session()
    name = label(b"private")
    _, oid, _ = running.a_pair(session, TOKEN, name, PRIVATE)
    assert oid in running.find(session, name)
    running.run(running.core.logout(running.slot_id))
    store = running.store
    assert oid not in running.find(session, name)
    assert oid not in running.run(store.search([], 0, 10_000)), "a private object is listed without a login"
    assert oid not in running.run(store.search([name], 0, 10)), "a private object is found without a login"
    with pytest.raises((UserNotLoggedIn, ObjectHandleInvalid)):
        running.run(store.read(oid))
    running.login(session)
    assert running.find(session, name)


def test_a_key_cannot_be_used_after_the_logout(running: Running) -> None:
    """An operation that was begun before the logout does not sign after it."""
    if not running.needs_login:
        pytest.skip("the adapter's keys need no login")
    session = running.session()
    _, private, mechanism = running.a_pair(session, TOKEN, PRIVATE, label(b"logout"))
    operation = running.operation(session, Function.SIGN, mechanism, private)
    running.run(running.core.logout(running.slot_id))
    with pytest.raises(HsmError):
        running.run(operation.once(memoryview(DATA)))
    running.login(session)


def test_sensitive_values_never_come_out(running: Running) -> None:
    """No sensitive attribute of a sensitive key is shown, and the device's reference of no key at all."""
    session = running.session()
    name = label(b"sensitive")
    running.a_pair(session, TOKEN, name, (ck.CKA_ID, b"\7"))
    shown = []
    for oid in running.find(session, name):
        assert running.get(session, oid, CKA_REFERENCE) == [INVALID], "the reference is shown"
        if running.get(session, oid, ck.CKA_CLASS) == [object_class(ck.CKO_PUBLIC_KEY)[1]]:
            continue
        protected = running.get(session, oid, ck.CKA_SENSITIVE, ck.CKA_EXTRACTABLE)
        assert protected == [TRUE, FALSE], "a key that was made with the defaults is not protected"
        for attribute in sensitive_types():
            (value,) = running.get(session, oid, attribute)
            if value is not SENSITIVE and value is not INVALID:
                shown.append(ck.name("CKA", attribute))
    assert not shown, f"sensitive values come out: {shown}"


def test_what_is_said_holds_no_pin(adapter_under_test: Subject, running: Running) -> None:
    """Neither errors nor representations hold the PIN or what the options keep secret."""
    session = running.session(login=False)
    wrong = b"7f3a-not-the-pin"
    slots = running.run(running.adapter.slots())
    said = [
        repr(running.adapter),
        *(repr(part) for slot in slots for part in (slot, slot.store, slot.signer)),
    ]
    if running.needs_login:
        error = running.refused(running.core.login(session, ck.CKU_USER, bytearray(wrong)))
        running.login(session)
        said += [repr(error), str(error)]
    for text in said:
        assert wrong.decode() not in text
        assert adapter_under_test.user_pin not in text.replace(LABEL.decode(), "")
