"""The bridge in this very process, SoftHSM behind it: logins, objects, life times, and what goes wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bridge_support import PIN, SO_PIN, Backend
from cryptoki import Cryptoki, RefusedError, TokenInfo, mechanism, template

from ferrohsm import constants as ck

SECRET = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET))
SHA256 = bytes.fromhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


class Both:
    """Our module with SoftHSM behind it, and SoftHSM itself, which is the same in one process."""

    def __init__(self, backend: Backend, module: Path) -> None:
        self.backend = backend
        self.ours = Cryptoki(str(module))
        self.softhsm2 = Cryptoki(backend.module)

    @property
    def slot(self) -> int:
        return slot_of(self.ours, "alpha")

    def user(self) -> int:
        session = self.ours.open(self.slot)
        self.ours.login(session, pin=PIN.encode())
        return session

    def behind(self) -> int:
        """Return a session of SoftHSM's own beside ours."""
        return self.softhsm2.open(slot_of(self.softhsm2, "alpha"))


def slot_of(p11: Cryptoki, label: str) -> int:
    for slot in p11.slots():
        if token_info(p11, slot)[0] == label:
            return slot
    raise AssertionError(f"no token {label}")


def token_info(p11: Cryptoki, slot: int) -> tuple[str, int]:
    info = TokenInfo()
    if p11.rv("C_GetTokenInfo", slot, info) != "CKR_OK":
        return "", 0
    return bytes(info.label).decode().rstrip(), int(info.flags)


@pytest.fixture
def named(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The backend, with both configurations named in this process's environment."""
    for name in ("SOFTHSM2_CONF", "FERROHSM_CONF"):
        monkeypatch.setenv(name, backend.environment[name])
    return backend


@pytest.fixture
def both(named: Backend, module_path: Path) -> Iterator[Both]:
    made = Both(named, module_path)
    made.ours("C_Initialize", None)
    yield made
    made.ours.rv("C_Finalize", None)
    assert made.softhsm2.rv("C_Finalize", None) == "CKR_CRYPTOKI_NOT_INITIALIZED", "it was left initialized"
    written = named.log.read_text() if named.log.exists() else ""
    assert "nobody expected" not in written, written


def key(p11: Cryptoki, session: int, *pairs: tuple[int, object]) -> int:
    sign = (ck.CKA_SIGN, True)
    return p11.create(session, *SECRET, (ck.CKA_VALUE, bytes(32)), sign, *pairs)


def test_the_token_is_the_backends(both: Both) -> None:
    info, behind = TokenInfo(), TokenInfo()
    both.ours("C_GetTokenInfo", both.slot, info)
    both.softhsm2("C_GetTokenInfo", slot_of(both.softhsm2, "alpha"), behind)
    for field in ("label", "manufacturerID", "model", "serialNumber", "ulMinPinLen", "versions"):
        one, other = getattr(info, field), getattr(behind, field)
        assert (one if isinstance(one, int) else bytes(one)) == (
            other if isinstance(other, int) else bytes(other)
        ), field
    asynchronous = ck.CKF_ASYNC_SESSION_SUPPORTED  # the library's, whatever stands behind it
    assert info.flags & ~asynchronous == behind.flags


def test_pins_are_the_backends(both: Both) -> None:
    p11, slot = both.ours, both.slot
    session = p11.open(slot)
    assert p11.rv("C_Login", session, ck.CKU_USER, b"wrong", 5) == "CKR_PIN_INCORRECT"
    assert token_info(p11, slot)[1] & ck.CKF_USER_PIN_COUNT_LOW
    assert p11.rv("C_Login", session, ck.CKU_USER, b"1" * 3, 3) == "CKR_PIN_INCORRECT"
    p11.login(session, pin=PIN.encode())
    assert not token_info(p11, slot)[1] & ck.CKF_USER_PIN_COUNT_LOW
    assert p11.rv("C_SetPIN", session, PIN.encode(), len(PIN), b"abc", 3) == "CKR_PIN_LEN_RANGE"
    p11("C_SetPIN", session, PIN.encode(), len(PIN), b"another", 7)
    p11("C_Logout", session)
    p11("C_Login", session, ck.CKU_SO, SO_PIN.encode(), len(SO_PIN))
    p11("C_InitPIN", session, b"a third", 7)
    p11("C_Logout", session)
    behind = both.behind()
    assert both.softhsm2.rv("C_Login", behind, ck.CKU_USER, b"another", 7) == "CKR_PIN_INCORRECT"
    both.softhsm2("C_Login", behind, ck.CKU_USER, b"a third", 7)
    both.softhsm2("C_Logout", behind)


def test_a_token_is_made_anew(both: Both) -> None:
    p11, slot = both.ours, both.slot
    session = both.user()
    key(p11, session, (ck.CKA_TOKEN, True))
    p11("C_CloseAllSessions", slot)
    label = b"beta".ljust(32)
    assert p11.rv("C_InitToken", slot, b"00000000", 8, label) == "CKR_PIN_INCORRECT"
    p11("C_InitToken", slot, SO_PIN.encode(), len(SO_PIN), label)
    assert token_info(p11, slot)[0] == "beta"
    session = p11.open(slot)
    assert p11.rv("C_Login", session, ck.CKU_USER, PIN.encode(), len(PIN)) == "CKR_USER_PIN_NOT_INITIALIZED"


def test_session_keys_live_in_the_backend_as_long_as_their_session(both: Both) -> None:
    p11, session = both.ours, both.user()
    behind = both.behind()

    def there() -> int:
        return len(both.softhsm2.find(behind, (ck.CKA_TOKEN, False), (ck.CKA_LABEL, b"short")))

    other = p11.open(both.slot)
    key(p11, other, (ck.CKA_LABEL, b"short"))
    stays = key(p11, session, (ck.CKA_LABEL, b"short"))
    destroyed = key(p11, session, (ck.CKA_LABEL, b"short"))
    copied = p11.made("C_CopyObject", session, stays, template((ck.CKA_LABEL, b"short")), 1)
    assert there() == 4
    p11("C_DestroyObject", session, destroyed)
    assert there() == 3
    p11("C_CloseSession", other)  # which does not wait for the backend
    until = time.monotonic() + 5
    while there() != 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert there() == 2
    assert p11.transform("Sign", session, mechanism(ck.CKM_SHA256_HMAC), stays, b"data")
    assert p11.transform("Sign", session, mechanism(ck.CKM_SHA256_HMAC), copied, b"data")
    p11("C_Logout", session)
    assert there() == 0


def test_objects_are_the_backends(both: Both) -> None:
    p11, session = both.ours, both.user()
    on_token = (ck.CKA_TOKEN, True)
    made = key(p11, session, on_token, (ck.CKA_LABEL, b"one"), (ck.CKA_ID, b"\1"))
    data = p11.data_object(session, on_token, (ck.CKA_LABEL, b"note"), (ck.CKA_VALUE, b"text"))
    assert p11.find(session, (ck.CKA_LABEL, b"one")) == [made]
    identity = p11.get(session, made, ck.CKA_UNIQUE_ID)
    assert p11.find(session, (ck.CKA_UNIQUE_ID, identity)) == [made]
    p11("C_SetAttributeValue", session, made, template((ck.CKA_LABEL, b"two")), 1)
    assert p11.get(session, made, ck.CKA_LABEL) == b"two"
    assert p11.get(session, made, ck.CKA_UNIQUE_ID) == identity
    assert p11.get(session, data, ck.CKA_VALUE) == b"text"
    assert p11.rv("C_GetAttributeValue", session, made, template((ck.CKA_VALUE, None)), 1) == (
        "CKR_ATTRIBUTE_SENSITIVE"
    )
    behind = both.behind()
    (there,) = both.softhsm2.find(behind, (ck.CKA_LABEL, b"two"))
    both.softhsm2("C_SetAttributeValue", behind, there, template((ck.CKA_LABEL, b"three")), 1)
    assert p11.find(session, (ck.CKA_LABEL, b"three")) == [made], "another's change is seen"
    both.softhsm2("C_DestroyObject", behind, there)
    how = mechanism(ck.CKM_SHA256_HMAC)
    assert p11.rv("C_SignInit", session, how, made) == "CKR_KEY_HANDLE_INVALID"
    p11("C_DestroyObject", session, data)
    assert both.softhsm2.find(behind, (ck.CKA_LABEL, b"note")) == []


def test_a_template_of_a_key_is_kept_by_the_backend(both: Both) -> None:
    p11, session = both.ours, both.user()
    inner = [(ck.CKA_EXTRACTABLE, True), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET)]
    made = p11.aes(session, (ck.CKA_WRAP, True), (ck.CKA_WRAP_TEMPLATE, inner))
    place = template((ck.CKA_WRAP_TEMPLATE, None))
    p11("C_GetAttributeValue", session, made, place, 1)
    assert place[0].ulValueLen == 2 * 24
    good = key(p11, session, (ck.CKA_EXTRACTABLE, True))
    assert p11.whole("C_WrapKey", session, mechanism(ck.CKM_AES_KEY_WRAP), made, good)
    other = p11.aes(session, (ck.CKA_EXTRACTABLE, True))
    how = mechanism(ck.CKM_AES_KEY_WRAP)
    with pytest.raises(RefusedError, match="CKR_KEY_HANDLE_INVALID"):
        p11.whole("C_WrapKey", session, how, made, other)


def test_many_operations_at_once_have_sessions_of_their_own(both: Both) -> None:
    p11, session = both.ours, both.user()
    made = key(p11, session)
    how = mechanism(ck.CKM_SHA256_HMAC)
    expected = p11.transform("Sign", session, how, made, b"abc")
    sessions = [p11.open(both.slot) for _ in range(20)]
    for one in sessions:
        p11("C_SignInit", one, how, made)
    for one in sessions:
        p11("C_SignUpdate", one, b"ab", 2)
    for one in sessions[::2]:
        p11("C_SignInit", one, None, 0)  # given up
    for one in sessions[1::2]:
        p11("C_SignUpdate", one, b"c", 1)
        assert p11.whole("C_SignFinal", one) == expected
    for one in sessions:
        assert p11.transform("Sign", one, how, made, b"abc") == expected


def test_a_key_that_wants_the_pin_each_time(both: Both) -> None:
    p11, session = both.ours, both.user()
    always = [(ck.CKA_ALWAYS_AUTHENTICATE, True), (ck.CKA_PRIVATE, True), (ck.CKA_SIGN, True)]
    public = [(ck.CKA_MODULUS_BITS, 1024), (ck.CKA_PUBLIC_EXPONENT, b"\1\0\1")]
    _, private = p11.key_pair(session, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, public, always)
    how = mechanism(ck.CKM_SHA256_RSA_PKCS)
    p11("C_SignInit", session, how, private)
    with pytest.raises(RefusedError, match="CKR_USER_NOT_LOGGED_IN"):
        p11.whole("C_Sign", session, b"data", 4)
    p11("C_SignInit", session, None, 0)
    p11("C_SignInit", session, how, private)
    assert p11.rv("C_Login", session, ck.CKU_CONTEXT_SPECIFIC, b"wrong", 5) == "CKR_PIN_INCORRECT"
    p11("C_Login", session, ck.CKU_CONTEXT_SPECIFIC, PIN.encode(), len(PIN))
    assert len(p11.whole("C_Sign", session, b"data", 4)) == 128


def test_what_the_backend_lacks_is_done_here(both: Both) -> None:
    p11, session = both.ours, both.user()
    p11("C_DigestInit", session, mechanism(ck.CKM_SHA3_256))  # SoftHSM 2.6 has no SHA-3
    assert len(p11.whole("C_Digest", session, b"abc", 3)) == 32
    public, private = p11.ec(session, (ck.CKA_SIGN, True))
    how = mechanism(ck.CKM_ECDSA_SHA256)  # nor this: hashed here, signed there
    signature = p11.transform("Sign", session, how, private, b"abc")
    p11("C_SignInit", session, how, private)
    p11("C_SignUpdate", session, b"a", 1)
    p11("C_SignUpdate", session, b"bc", 2)
    in_parts = p11.whole("C_SignFinal", session)
    for made in (signature, in_parts):
        p11("C_VerifyInit", session, how, public)
        p11("C_Verify", session, b"abc", 3, made, len(made))
        p11("C_VerifyInit", session, mechanism(ck.CKM_ECDSA), public)  # the backend itself agrees
        p11("C_Verify", session, SHA256, 32, made, len(made))


def test_a_host_that_uses_the_backend_itself_keeps_it(named: Backend, module_path: Path) -> None:
    made = Both(named, module_path)
    made.softhsm2("C_Initialize", None)
    try:
        made.ours("C_Initialize", None)
        session = made.ours.open(made.slot)
        behind = made.behind()
        made.softhsm2("C_Login", behind, ck.CKU_USER, PIN.encode(), len(PIN))
        # A PIN that nobody has checked is no login.
        for pin in (PIN.encode(), b"wrong"):
            refused = made.ours.rv("C_Login", session, ck.CKU_USER, pin, len(pin))
            assert refused == "CKR_USER_ALREADY_LOGGED_IN"
        made.ours("C_Finalize", None)
        assert made.softhsm2.find(behind, (ck.CKA_TOKEN, True)) == [], "its own session is still there"
    finally:
        made.softhsm2.rv("C_Finalize", None)


def test_a_backend_that_was_finalized_under_us_comes_back(both: Both) -> None:
    p11, session = both.ours, both.user()
    made = key(p11, session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"kept"))
    both.softhsm2("C_Finalize", None)
    how = mechanism(ck.CKM_SHA256_HMAC)
    assert p11.rv("C_SignInit", session, how, made) in ("CKR_DEVICE_REMOVED", "CKR_DEVICE_ERROR")
    p11("C_CloseAllSessions", both.slot)  # both.slot looks at the slots anew
    session = both.user()
    (found,) = p11.find(session, (ck.CKA_LABEL, b"kept"))
    assert len(p11.transform("Sign", session, how, found, b"data")) == 32


def test_the_child_of_a_fork_starts_anew(both: Both) -> None:
    p11, session = both.ours, both.user()
    made = key(p11, session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"shared"))
    how = mechanism(ck.CKM_SHA256_HMAC)
    expected = p11.transform("Sign", session, how, made, b"data")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert p11.rv("C_GetSessionInfo", session, None) == "CKR_CRYPTOKI_NOT_INITIALIZED"
            p11("C_Initialize", None)
            assert p11.rv("C_Login", p11.open(both.slot), ck.CKU_USER, b"wrong", 5) == "CKR_PIN_INCORRECT"
            again = both.user()
            (found,) = p11.find(again, (ck.CKA_LABEL, b"shared"))
            assert p11.transform("Sign", again, how, found, b"data") == expected
            p11("C_Finalize", None)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert p11.transform("Sign", session, how, made, b"data") == expected


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('token_lable = "x"', "token_lable: is not known"),
        ('software = "always"', "software: must be one of"),
        ("sessions = 1", "sessions: must be a whole number"),
        ('slot = "first"', "slot: must be a whole number"),
        ("refresh = -1", "refresh: must be a number of seconds"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(named: Backend, module_path: Path, more: str, said: str) -> None:
    named.configure(more)
    p11 = Cryptoki(str(module_path))
    p11("C_Initialize", None)
    try:
        slots = p11.slots()
        assert len(slots) == 1 and p11.rv("C_GetTokenInfo", slots[0], TokenInfo()) == "CKR_TOKEN_NOT_PRESENT"
    finally:
        p11.rv("C_Finalize", None)
    assert said in named.log.read_text()


def test_a_module_that_is_not_there_costs_only_its_slot(named: Backend, module_path: Path) -> None:
    named.configure('[slots.mine]\nadapter = "software"', module="/nonexistent/module.so")
    p11 = Cryptoki(str(module_path))
    p11("C_Initialize", None)
    try:
        answers = [p11.rv("C_GetTokenInfo", slot, TokenInfo()) for slot in p11.slots()]
        assert sorted(answers) == ["CKR_OK", "CKR_TOKEN_NOT_PRESENT"]
    finally:
        p11.rv("C_Finalize", None)
    assert "cannot be loaded" in named.log.read_text()


def test_slots_are_chosen_by_the_token(named: Backend, module_path: Path) -> None:
    named.token("beta")
    named.configure('token_label = "beta"')
    p11 = Cryptoki(str(module_path))
    ids = set()
    for _ in range(2):
        p11("C_Initialize", None)
        try:
            (slot,) = p11.slots()
            assert token_info(p11, slot)[0] == "beta"
            ids.add(slot)
        finally:
            p11.rv("C_Finalize", None)
    assert len(ids) == 1, "its id is always the same"


GLOBAL = """\
import os, sys
sys.path[:0] = {path!r}
import ctypes
ctypes.CDLL({module!r}, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
from cryptoki import Cryptoki, mechanism
p11 = Cryptoki({module!r})
p11("C_Initialize", None)
session = p11.open(p11.slots()[0])
p11.login(session, pin=b"{pin}")
p11("C_DigestInit", session, mechanism(0x250))
print(p11.whole("C_Digest", session, b"abc", 3).hex())
p11("C_Finalize", None)
"""


def test_our_own_symbols_do_not_get_into_the_backend(backend: Backend, module_path: Path) -> None:
    """A host that loads us globally: SoftHSM's own table must not lead back to us."""

    path = [str(Path(__file__).parent.parent / "abi")]
    script = GLOBAL.format(path=path, module=str(module_path), pin=PIN)
    backend.configure('software = "never"')
    assert backend.run(sys.executable, "-c", script).stdout.strip() == SHA256.hex()
