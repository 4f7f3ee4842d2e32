"""Keys that are encapsulated and decapsulated in a known way, beside what test_drafts.py says of all ways."""

from __future__ import annotations

from typing import Any

import pytest
from bench import Bench
from cryptoki import Cryptoki, RefusedError, mechanism, template
from engine_support import POSTQUANTUM
from test_drafts import OPEN, Decapsulation, Encapsulation, decapsulated, encapsulated, learned, opening_pair
from test_encapsulation import LENGTH, Sent
from test_remembered import Counted

from ferrohsm import constants as ck

pytestmark = pytest.mark.skipif(not POSTQUANTUM, reason="the kernels have an older libcrypto")


def ready(p11: Cryptoki, session: int, *, token: bool = False) -> tuple[Encapsulation, Decapsulation]:
    """Return both directions of one pair, learned."""
    out, back = Encapsulation(), Decapsulation()
    out.base, back.base = opening_pair(p11, session, token)
    back.hidden = encapsulated(p11, session, out.base)[0]
    learned(p11, session, out)
    learned(p11, session, back)
    return out, back


def test_both_sides_have_the_same_key(p11: Cryptoki, session: int) -> None:
    out, back = ready(p11, session)
    pairs = ((ck.CKA_VALUE_LEN, 20), *OPEN)
    with Counted() as counted:
        sent = [encapsulated(p11, session, out.base, *pairs) for _ in range(3)]
    assert counted.calls == 3
    for hidden, made in sent:
        value = p11.get(session, made, ck.CKA_VALUE)
        assert len(value) == 20
        with Counted() as counted:
            opened = decapsulated(p11, session, back.base, hidden, (ck.CKA_KEY_TYPE, ck.CKK_AES), *OPEN)
        assert counted.calls == 1
        assert p11.get(session, opened, ck.CKA_VALUE)[:20] == value
        # The same as the core itself makes of it, which another template asks.
        asked = decapsulated(p11, session, back.base, hidden, (ck.CKA_LABEL, b"asked"), *OPEN)
        assert p11.get(session, asked, ck.CKA_VALUE) == p11.get(session, opened, ck.CKA_VALUE)
    assert len({hidden for hidden, _ in sent}) == 3


def test_lengths_are_those_of_the_core(p11: Cryptoki, session: int) -> None:
    out, back = ready(p11, session)
    pairs: tuple[Any, ...] = ((ck.CKA_VALUE_LEN, 20), *OPEN)
    before = len(p11.find(session))
    asked = Sent(p11, session, out.base, *pairs, room=None)
    assert (asked.rv, asked.length.value, asked.handle.value) == ("CKR_OK", LENGTH, 0)
    small = Sent(p11, session, out.base, *pairs, room=LENGTH - 1)
    assert (small.rv, small.length.value, small.handle.value) == ("CKR_BUFFER_TOO_SMALL", LENGTH, 0)
    assert not any(small.ciphertext)
    roomy = Sent(p11, session, out.base, *pairs, room=3 * LENGTH)
    assert (roomy.rv, roomy.length.value) == ("CKR_OK", LENGTH)
    whole = back.hidden
    for back.hidden in (whole[:-1], whole + b"\0", b""):
        with pytest.raises(RefusedError, match="CKR_ENCRYPTED_DATA_LEN_RANGE|CKR_ARGUMENTS_BAD"):
            back(p11, session)
    assert len(p11.find(session)) == before + 1


@pytest.mark.parametrize("end", ["attribute", "destroyed", "another mechanism", "a parameter"])
@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_they_end_with_the_key(p11: Cryptoki, session: int, end: str, on_token: bool) -> None:
    out, back = ready(p11, session, token=on_token)
    if end in ("another mechanism", "a parameter"):
        how = mechanism(ck.CKM_RSA_PKCS) if end == "another mechanism" else mechanism(ck.CKM_ML_KEM, b"x")
        refused = "CKR_MECHANISM_INVALID" if end == "another mechanism" else "CKR_MECHANISM_PARAM_INVALID"
        pairs = template((ck.CKA_KEY_TYPE, ck.CKK_AES), *OPEN)
        arguments = (how, back.base, pairs, 3, back.hidden, len(back.hidden))
        with pytest.raises(RefusedError, match=refused):
            p11.made("C_DecapsulateKey", session, *arguments)
        return
    for make, allowed in ((out, ck.CKA_ENCAPSULATE), (back, ck.CKA_DECAPSULATE)):
        if end == "attribute":
            p11("C_SetAttributeValue", session, make.base, template((allowed, False)), 1)
        else:
            p11("C_DestroyObject", session, make.base)
        with pytest.raises(RefusedError) as told:
            make(p11, session)
        if end == "attribute":
            assert told.value.rv == "CKR_KEY_FUNCTION_NOT_PERMITTED"
        else:
            assert told.value.rv in ("CKR_KEY_HANDLE_INVALID", "CKR_UNWRAPPING_KEY_HANDLE_INVALID")


def test_an_asynchronous_session_is_asked_about(bench: Bench, p11: Cryptoki, session: int) -> None:
    out, _ = ready(p11, session)
    flags = ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION | ck.CKF_ASYNC_SESSION
    other = p11.made("C_OpenSession", bench.slot, flags, None, None)
    with Counted() as counted:
        sent = Sent(p11, other, out.base, (ck.CKA_VALUE_LEN, 20), *OPEN)
    assert sent.rv in ("CKR_OK", "CKR_PENDING") and counted.calls == 0
