"""A token of our own with very many objects, made through the store's Python interface in one commit.

Through the C interface each object is a commit of its own that waits for the disk: a million of them take
an hour and say nothing that ``token-object`` has not said. These are the same objects, byte for byte but
for their random parts, as the driver's ``grow`` makes (benchmarks/driver/searching.c).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from ferrohsm import config
from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes
from ferrohsm.attribute_kinds import CREATE, TRUE, ulong
from ferrohsm.core import Core
from ferrohsm.keys import settle
from ferrohsm.runtime import step
from ferrohsm.sessions import Session
from ferrohsm.shapes import compose_alike

_TOLD = 10_000  # objects between two words about the progress


def fill(
    environment: Mapping[str, str],
    label: str,
    pin: str,
    numbers: range,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """Make the objects with these numbers in the token with this label."""
    core = Core(config.load(dict(environment)))
    step(core.start())
    try:
        for view in step(core.slots()):
            if view.initialized and step(core.token_info(view.id)).label == label:
                session = core.open_session(view.id, 1, True)
                step(core.login(session, ck.CKU_USER, bytearray(pin.encode())))
                step(session.token.store.create_many(_objects(session, numbers, tell)))  # type: ignore[attr-defined]
                return
        raise LookupError(f"no token labelled {label}")
    finally:
        step(core.stop())


def _objects(session: Session, numbers: range, tell: Callable[[int], None]) -> Iterator[Attributes]:
    for number in numbers:
        attributes = compose_alike(CREATE, _template(number), {})
        step(settle(session, attributes, None))
        attributes[ck.CKA_UNIQUE_ID] = os.urandom(16).hex().encode()
        yield attributes
        if number % _TOLD == 0:
            tell(number)


def _template(number: int) -> list[tuple[int, bytes | bytearray]]:
    value = bytearray(32)
    value[:8] = ulong(number)
    return [
        (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)),
        (ck.CKA_TOKEN, TRUE),
        (ck.CKA_PRIVATE, TRUE),
        (ck.CKA_LABEL, b"ferrohsm-bench-%08d" % number),
        (ck.CKA_ID, ulong(number)),
        (ck.CKA_ENCRYPT, TRUE),
        (ck.CKA_VALUE, value),
    ]
