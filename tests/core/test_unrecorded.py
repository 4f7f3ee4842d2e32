"""A key that was made with another one, when the use of that cannot be recorded: it does not stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from house import SLOT, TRUE, House

from ferrohsm import constants as ck
from ferrohsm.attribute_kinds import ulong
from ferrohsm.errors import DeviceError
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

NEW = [
    (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
    (ck.CKA_KEY_TYPE, ulong(ck.CKK_GENERIC_SECRET)),
    (ck.CKA_LABEL, b"new"),
]
SAFE = Mechanism(ck.CKM_AES_KEY_WRAP_PAD)


def derived(house: House, session: Session, key: int) -> Any:
    return house.core.derive_key(session, Mechanism(ck.CKM_SHA256_KEY_DERIVATION), key, NEW)


def unwrapped(house: House, session: Session, key: int) -> Any:
    wrapped = step(house.core.wrap_key(session, SAFE, key, key, None))
    return house.core.unwrap_key(session, SAFE, key, memoryview(wrapped), NEW)


def kem(house: House, session: Session) -> tuple[int, int]:
    public = [(ck.CKA_PARAMETER_SET, ulong(ck.CKP_ML_KEM_768)), (ck.CKA_ENCAPSULATE, TRUE)]
    private = [(ck.CKA_DECAPSULATE, TRUE)]
    how = Mechanism(ck.CKM_ML_KEM_KEY_PAIR_GEN)
    pair: tuple[int, int] = step(house.core.generate_key_pair(session, how, public, private))
    return pair


def encapsulated(house: House, session: Session, key: int) -> Any:
    return house.core.encapsulate_key(session, Mechanism(ck.CKM_ML_KEM), kem(house, session)[0], NEW, 2000)


def decapsulated(house: House, session: Session, key: int) -> Any:
    private, ciphertext = kem(house, session)[1], memoryview(bytes(1088))
    return house.core.decapsulate_key(session, Mechanism(ck.CKM_ML_KEM), private, NEW, ciphertext)


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
@pytest.mark.parametrize("way", [derived, unwrapped, encapsulated, decapsulated])
def test_it_does_not_stay(
    way: Callable[[House, Session, int], Any],
    on_token: bool,
    house: House,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = house.open()
    house.login(session)
    uses = (
        (attribute, TRUE) for attribute in (ck.CKA_WRAP, ck.CKA_UNWRAP, ck.CKA_DERIVE, ck.CKA_EXTRACTABLE)
    )
    key = house.aes(session, *uses)
    template = [*NEW, (ck.CKA_TOKEN, TRUE)] if on_token else NEW
    monkeypatch.setitem(globals(), "NEW", template)
    working = way(house, session, key)
    audit = house.core.token(SLOT).audit

    def fails(*_: Any, **__: Any) -> None:
        raise DeviceError("the disk is full")

    monkeypatch.setattr(type(audit), "used", fails)
    with pytest.raises(DeviceError, match="the disk is full"):
        step(working)
    assert house.find(session, [(ck.CKA_LABEL, b"new")]) == []
    monkeypatch.undo()
    made = step(way(house, session, key))
    assert house.find(session, [(ck.CKA_LABEL, b"new")]) == [made[1] if isinstance(made, tuple) else made]
