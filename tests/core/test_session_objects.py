"""Session objects are found by their names among many as among few."""

from __future__ import annotations

from house import House

from ferrohsm import constants as ck
from ferrohsm.adapters import Template
from ferrohsm.attribute_kinds import ulong
from ferrohsm.runtime import step
from ferrohsm.sessions import Session


def make(house: House, session: Session, label: bytes, id_: bytes = b"") -> int:
    template: Template = [
        (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_GENERIC_SECRET)),
        (ck.CKA_LABEL, label),
        (ck.CKA_ID, id_),
        (ck.CKA_VALUE, bytearray(b"value")),
    ]
    return step(house.core.create_object(session, template))


def found(house: House, session: Session, *template: tuple[int, bytes]) -> list[int]:
    cursor = step(house.core.find(session, list(template)))
    return sorted(step(cursor.take(1000)))


def test_the_index_follows_every_change(house: House, session: Session) -> None:
    objects, label = session.token.objects._session_objects, ck.CKA_LABEL
    few = [make(house, session, b"few") for _ in range(3)]
    assert found(house, session, (label, b"few")) == sorted(few)
    assert objects._index is None
    made = {number: make(house, session, b"%d" % number, b"same") for number in range(100)}
    assert found(house, session, (label, b"7")) == [made[7]]
    assert objects._index is not None
    assert found(house, session, (ck.CKA_ID, b"same")) == sorted(made.values())
    assert found(house, session, (label, b"7"), (ck.CKA_ID, b"same")) == [made[7]]
    assert found(house, session, (label, b"7"), (ck.CKA_ID, b"other")) == []
    assert found(house, session, (ck.CKA_KEY_TYPE, ulong(ck.CKK_GENERIC_SECRET)), (label, b"8")) == [made[8]]

    step(house.core.set_attributes(session, made[7], [(label, b"8")]))
    assert found(house, session, (label, b"7")) == []
    assert found(house, session, (label, b"8")) == sorted([made[7], made[8]])
    step(house.core.destroy_object(session, made[8]))
    assert found(house, session, (label, b"8")) == [made[7]]
    more = make(house, session, b"8")
    assert found(house, session, (label, b"8")) == sorted([made[7], more])
    copy = step(house.core.copy_object(session, more, [(label, b"copy")]))
    assert found(house, session, (label, b"copy")) == [copy]


def test_the_index_follows_the_end_of_sessions_and_logins(house: House, session: Session) -> None:
    other = house.open()
    for number in range(100):
        make(house, other if number % 2 else session, b"%d" % (number // 2), b"same")
    objects = session.token.objects._session_objects
    assert len(found(house, session, (ck.CKA_LABEL, b"7"))) == 2
    step(house.core.close_session(other))
    assert len(found(house, session, (ck.CKA_LABEL, b"7"))) == 1
    index = objects._index
    assert index is not None
    assert len(index[(ck.CKA_ID, b"same")]) == 50
    step(house.core.logout(session.token.id))
    assert found(house, session, (ck.CKA_LABEL, b"7")) == []
    assert not objects
    assert not index


def test_empty_names_are_names(house: House, session: Session) -> None:
    made = [make(house, session, b"%d" % (number % 2), b"") for number in range(100)]
    assert found(house, session, (ck.CKA_ID, b"")) == sorted(made)
