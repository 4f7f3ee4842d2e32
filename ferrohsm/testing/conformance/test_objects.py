"""Objects that stay: the same when they are read, found after a restart, gone when they are destroyed."""

from __future__ import annotations

import pytest

from ferrohsm import constants as ck
from ferrohsm.attribute_kinds import TRUE
from ferrohsm.errors import ObjectHandleInvalid
from ferrohsm.testing.material import DATA
from ferrohsm.testing.subject import TOKEN, Running, Subject, label, object_class

__all__ = [
    "test_a_destroyed_object_is_gone",
    "test_a_label_can_be_changed",
    "test_identities_are_never_used_again",
    "test_identities_survive_a_restart",
    "test_objects_survive_a_restart",
    "test_searching_gives_pages_in_order",
    "test_the_generation_moves",
]

SEEN = (ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_LABEL, ck.CKA_ID, ck.CKA_SIGN, ck.CKA_PUBLIC_KEY_INFO)


def test_objects_survive_a_restart(adapter_under_test: Subject) -> None:
    """A token key has the same attributes after a restart, verifies what was signed before, and signs on."""
    name = label(b"restart")
    with adapter_under_test.open() as running:
        session = running.session()
        public, private, mechanism = running.a_pair(session, TOKEN, name, (ck.CKA_ID, b"\1\2\3"))
        before = {tuple(map(str, running.get(session, oid, *SEEN))) for oid in (public, private)}
        signature = running.sign(session, mechanism, private, DATA)
        running.forget()
    with adapter_under_test.open() as running:
        session = running.session()
        found = running.find(session, name)
        running.adopt(*found)
        assert {tuple(map(str, running.get(session, oid, *SEEN))) for oid in found} == before
        (private,) = running.find(session, name, (ck.CKA_SIGN, TRUE))
        (public,) = running.find(session, name, (ck.CKA_VERIFY, TRUE))
        running.verify(session, mechanism, public, DATA, signature)
        running.verify(session, mechanism, public, DATA, running.sign(session, mechanism, private, DATA))


def test_identities_survive_a_restart(adapter_under_test: Subject) -> None:
    """An object has the same identity in every process, for the life of the token."""
    name = label(b"identity")
    with adapter_under_test.open() as running:
        session = running.session()
        public, private, _ = running.a_pair(session, TOKEN, name)
        classes = {oid: running.get(session, oid, ck.CKA_CLASS) for oid in (public, private)}
        running.forget()
    with adapter_under_test.open() as running:
        session = running.session()
        found = running.find(session, name)
        running.adopt(*found)
        assert {oid: running.get(session, oid, ck.CKA_CLASS) for oid in found} == classes


def test_the_generation_moves(running: Running) -> None:
    """Making, changing and destroying an object each move it; nothing else does."""
    session = running.session()
    seen = [running.store.generation()]
    public, private, _ = running.a_pair(session, TOKEN, label(b"generation"))
    seen.append(running.store.generation())
    if running.refused(running.core.set_attributes(session, private, [label(b"changed")])) is None:
        seen.append(running.store.generation())
    running.destroy(session, public)
    if private != public:
        running.destroy(session, private)
    seen.append(running.store.generation())
    assert len(set(seen)) == len(seen), f"a change did not move the generation: {seen}"
    running.find(session, label(b"nothing"))
    assert running.store.generation() == seen[-1], "reading moves the generation"


def test_a_destroyed_object_is_gone(running: Running) -> None:
    """It is neither found nor read any more, and destroying it again is refused."""
    session = running.session()
    name = label(b"destroyed")
    public, private, _ = running.a_pair(session, TOKEN, name)
    for oid in dict.fromkeys((public, private)):
        running.destroy(session, oid)
    assert running.find(session, name) == []
    with pytest.raises(ObjectHandleInvalid):
        running.get(session, private, ck.CKA_LABEL)
    with pytest.raises(ObjectHandleInvalid):
        running.run(running.store.read(private))


def test_identities_are_never_used_again(running: Running) -> None:
    """What is made after something was destroyed has an identity of its own."""
    session, seen = running.session(), set()
    for _ in range(3):
        public, private, _ = running.a_pair(session, TOKEN, label(b"identity"))
        for oid in dict.fromkeys((public, private)):
            assert oid not in seen, f"identity {oid} is used again"
            seen.add(oid)
            assert 0 < oid < 2**63
            running.destroy(session, oid)


def test_a_label_can_be_changed(running: Running) -> None:
    """A new label is what the object is found by, and the old one no more; or the change is refused."""
    session = running.session()
    old, new = label(b"old"), label(b"new")
    _, private, _ = running.a_pair(session, TOKEN, old)
    error = running.refused(running.core.set_attributes(session, private, [new]))
    assert (private in running.find(session, new)) == (error is None)
    assert (private in running.find(session, old)) == (error is not None)


def test_searching_gives_pages_in_order(running: Running) -> None:
    """`search` gives identities above `after`, ascending, no more than it was asked for."""
    session = running.session()
    for _ in range(2):
        running.a_pair(session, TOKEN, label(b"page"))
    everything = running.run(running.store.search([], 0, 10_000))
    assert everything == sorted(set(everything)) and len(everything) >= 2
    pages, after = [], 0
    while page := running.run(running.store.search([], after, 1)):
        assert len(page) == 1
        pages += page
        after = page[-1]
    assert pages == everything
    private = running.run(running.store.search([object_class(ck.CKO_PUBLIC_KEY)], 0, 10_000))
    assert set(private) <= set(everything)
