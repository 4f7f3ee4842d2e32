"""What the core decided is remembered, and no decision outlives its reasons."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from typing import Any

import pytest
import test_lengths
from bench import Bench
from cryptoki import PIN, CkMechanism, Cryptoki, GcmParameters, RefusedError, buffer, mechanism, template

from ferrohsm import constants as ck

DATA = b"The quick brown fox jumps over.."
HMAC = mechanism(ck.CKM_SHA256_HMAC)
FAMILIES = frozenset(f"C_{name}Init" for name in ("Digest", "Encrypt", "Decrypt", "Sign", "Verify"))


def quick() -> int:
    """Return how many calls in sessions needed no Python so far."""
    from pkcs11_abi import module

    return int(module.calls_without_python())


class Counted:
    """How many calls within the block needed no Python."""

    def __enter__(self) -> Counted:
        self.before = quick()
        return self

    def __exit__(self, *_: object) -> None:
        self.calls = quick() - self.before


def gcm() -> CkMechanism:
    iv = buffer(bytes(12))
    how = mechanism(ck.CKM_AES_GCM, GcmParameters(ctypes.addressof(iv), 12, 96, None, 0, 128))
    how.iv = iv  # type: ignore[attr-defined]
    return how


def secret(p11: Cryptoki, session: int, *pairs: tuple[int, Any], private: bool = True) -> int:
    use = ((ck.CKA_SIGN, True), (ck.CKA_VERIFY, True), (ck.CKA_PRIVATE, private))
    return p11.generic_secret(session, bytes(32), *use, *pairs)


def sign(p11: Cryptoki, session: int, key: int) -> bytes:
    return p11.transform("Sign", session, HMAC, key, DATA)


def warm(p11: Cryptoki, session: int, key: int) -> bytes:
    """Use a key until its use is remembered, and see that it is."""
    first = sign(p11, session, key)
    with Counted() as counted:
        assert sign(p11, session, key) == first
    assert counted.calls == 2
    return first


def refusal(p11: Cryptoki, session: int, key: int) -> str:
    """Return what C_SignInit says."""
    return p11.rv("C_SignInit", session, HMAC, key)


def unfinished(p11: Cryptoki, session: int) -> str:
    """Return what the C_Sign of an operation that was begun says."""
    return p11.rv("C_Sign", session, DATA, len(DATA), (c_ubyte * 64)(), c_ulong(64))


# The length rule and all the rest hold for operations that were begun from memory, as for the others.


class Warm(Cryptoki):
    """Every operation is begun, ended and begun again: the second time from memory."""

    def rv(self, function: str, *arguments: Any) -> str:
        answer = super().rv(function, *arguments)
        if answer == "CKR_OK" and function in FAMILIES and arguments[1] is not None:
            assert super().rv(function, arguments[0], None, *arguments[2:]) == "CKR_OK"
            answer = super().rv(function, *arguments)
        return answer


@pytest.fixture
def p11(request: pytest.FixtureRequest, bench: Bench, module_path: Path) -> Cryptoki:
    name = request.function.__name__
    return Warm(str(module_path)) if hasattr(test_lengths, name) else bench.p11


globals().update({name: test for name, test in vars(test_lengths).items() if name.startswith("test_")})


# Remembered.


def test_a_digest_needs_no_python(p11: Cryptoki, session: int) -> None:
    how = mechanism(ck.CKM_SHA256)

    def digest() -> bytes:
        p11("C_DigestInit", session, how)
        return p11.whole("C_Digest", session, DATA, len(DATA))

    first = digest()
    with Counted() as counted:
        assert digest() == first
    assert counted.calls == 2
    other = p11.open(_slot(p11, session))
    with Counted() as counted:  # another session knows it too
        p11("C_DigestInit", other, how)
        p11("C_DigestUpdate", other, DATA, len(DATA))
        assert p11.whole("C_DigestFinal", other) == first
    assert counted.calls == 3


def _slot(p11: Cryptoki, session: int) -> int:
    from cryptoki import SessionInfo

    info = SessionInfo()
    p11("C_GetSessionInfo", session, info)
    return int(info.slotID)


def test_random_needs_no_python(p11: Cryptoki, session: int) -> None:
    seen = set()
    with Counted() as counted:
        for size in (1, 32, 4096, 100_000):
            memory = (c_ubyte * size)()
            p11("C_GenerateRandom", session, memory, size)
            seen.add(bytes(memory))
    assert counted.calls == 4
    assert len(seen) == 4 and not any(s.endswith(bytes(16)) for s in seen)


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_signatures_need_no_python(p11: Cryptoki, session: int, on_token: bool) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, on_token))
    mac = warm(p11, session, key)
    p11("C_VerifyInit", session, HMAC, key)
    p11("C_Verify", session, DATA, len(DATA), mac, len(mac))
    with Counted() as counted:
        p11("C_VerifyInit", session, HMAC, key)
        p11("C_Verify", session, DATA, len(DATA), mac, len(mac))
        p11("C_VerifyInit", session, HMAC, key)
        assert p11.rv("C_Verify", session, DATA, 3, mac, len(mac)) == "CKR_SIGNATURE_INVALID"
    assert counted.calls == 4


@pytest.mark.parametrize("how", [gcm(), mechanism(ck.CKM_AES_CBC_PAD, bytes(16))], ids=["GCM", "CBC_PAD"])
def test_ciphers_need_no_python(p11: Cryptoki, session: int, how: CkMechanism) -> None:
    key = p11.aes(session)
    first = p11.transform("Encrypt", session, how, key, DATA)
    assert p11.transform("Decrypt", session, how, key, first) == DATA
    with Counted() as counted:
        assert p11.transform("Encrypt", session, how, key, DATA) == first
        assert p11.transform("Decrypt", session, how, key, first) == DATA
    assert counted.calls == 4
    # Of CBC this changes the last byte of the padding, and nothing by chance.
    broken = first[:-17] + bytes([first[-17] ^ 0x80]) + first[-16:]
    p11("C_DecryptInit", session, how, key)
    refused = p11.rv("C_Decrypt", session, broken, len(broken), (c_ubyte * 64)(), c_ulong(64))
    assert refused == "CKR_ENCRYPTED_DATA_INVALID"


def test_another_parameter_is_judged_anew(p11: Cryptoki, session: int) -> None:
    key, good = p11.aes(session), mechanism(ck.CKM_AES_CBC, bytes(16))
    for _ in range(2):
        p11.transform("Encrypt", session, good, key, bytes(16))
    assert (
        p11.rv("C_EncryptInit", session, mechanism(ck.CKM_AES_CBC, bytes(15)), key)
        == "CKR_MECHANISM_PARAM_INVALID"
    )
    assert p11.rv("C_EncryptInit", session, mechanism(ck.CKM_AES_CBC), key) == "CKR_MECHANISM_PARAM_INVALID"
    hostile = CkMechanism(ck.CKM_AES_CBC, None, 16)
    assert p11.rv("C_EncryptInit", session, hostile, key) == "CKR_MECHANISM_PARAM_INVALID"
    other = p11.transform("Encrypt", session, mechanism(ck.CKM_AES_CBC, b"\1" * 16), key, bytes(16))
    assert other != p11.transform("Encrypt", session, good, key, bytes(16))


def test_another_function_and_mechanism_are_asked_for(p11: Cryptoki, session: int) -> None:
    key = p11.generic_secret(session, bytes(32), (ck.CKA_SIGN, True), (ck.CKA_VERIFY, False))
    warm(p11, session, key)
    assert p11.rv("C_VerifyInit", session, HMAC, key) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    assert p11.rv("C_SignInit", session, mechanism(ck.CKM_AES_CMAC), key) == "CKR_KEY_TYPE_INCONSISTENT"


def test_a_key_that_wants_the_pin_each_time_is_never_remembered(p11: Cryptoki, session: int) -> None:
    _, key = p11.ec(session, (ck.CKA_ALWAYS_AUTHENTICATE, True), (ck.CKA_PRIVATE, True))
    for _ in range(3):
        with Counted() as counted:
            p11("C_SignInit", session, mechanism(ck.CKM_ECDSA), key)
        assert counted.calls == 0
        assert unfinished(p11, session) == "CKR_USER_NOT_LOGGED_IN"
        p11("C_SignInit", session, None, key)


# Refused, one call later.


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_after_a_logout(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, on_token))
    waiting = p11.open(bench.slot)
    warm(p11, session, key)
    p11("C_SignInit", waiting, HMAC, key)
    p11("C_Logout", session)
    assert refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"
    assert unfinished(p11, waiting) == "CKR_OPERATION_NOT_INITIALIZED"
    p11.login(session)
    assert (
        refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"
    )  # a private object's handle is dead for good


def test_a_public_key_outlives_the_logout(p11: Cryptoki, session: int) -> None:
    key = secret(p11, session, private=False)
    mac = warm(p11, session, key)
    p11("C_SignInit", session, HMAC, key)
    p11("C_Logout", session)
    assert p11.whole("C_Sign", session, DATA, len(DATA)) == mac
    with Counted() as counted:
        assert sign(p11, session, key) == mac
    assert counted.calls == 0  # it was asked for anew


def test_after_the_last_session_of_a_login(bench: Bench, p11: Cryptoki, session: int) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, True))
    warm(p11, session, key)
    p11("C_CloseAllSessions", bench.slot)
    session = p11.open(bench.slot)
    assert refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_after_a_change_of_an_attribute(bench: Bench, p11: Cryptoki, session: int, on_token: bool) -> None:
    key, other = secret(p11, session, (ck.CKA_TOKEN, on_token)), p11.open(bench.slot)
    warm(p11, session, key)
    warm(p11, other, key)
    change = template((ck.CKA_SIGN, False))
    p11("C_SetAttributeValue", session, key, change, 1)
    assert refusal(p11, session, key) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    assert refusal(p11, other, key) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    change = template((ck.CKA_SIGN, True))
    p11("C_SetAttributeValue", session, key, change, 1)
    warm(p11, other, key)


@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
@pytest.mark.parametrize("here", [True, False], ids=["this session", "another session"])
def test_after_the_end_of_the_object(
    bench: Bench, p11: Cryptoki, session: int, here: bool, on_token: bool
) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, on_token))
    user = p11.open(bench.slot)
    warm(p11, user, key)
    p11("C_SignInit", user, HMAC, key)
    warm(p11, session, key)
    p11("C_DestroyObject", user if here else session, key)
    assert unfinished(p11, user) == "CKR_OPERATION_NOT_INITIALIZED"
    assert refusal(p11, user, key) == "CKR_KEY_HANDLE_INVALID"
    assert refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"


def test_after_the_end_of_the_session_that_made_it(bench: Bench, p11: Cryptoki, session: int) -> None:
    owner = p11.open(bench.slot)
    key = secret(p11, owner)
    warm(p11, session, key)
    p11("C_SignInit", session, HMAC, key)
    p11("C_CloseSession", owner)
    assert unfinished(p11, session) == "CKR_OPERATION_NOT_INITIALIZED"
    assert refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"


def test_after_a_change_of_the_pin(p11: Cryptoki, session: int) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, True))
    warm(p11, session, key)
    p11("C_SetPIN", session, PIN, len(PIN), b"another-pin", 11)
    with Counted() as counted:
        p11("C_SignInit", session, HMAC, key)
    assert counted.calls == 0  # asked, and allowed: the user is still logged in
    p11("C_SignInit", session, None, key)
    p11("C_Logout", session)
    assert refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"
    assert p11.rv("C_Login", session, ck.CKU_USER, PIN, len(PIN)) == "CKR_PIN_INCORRECT"


def test_after_a_pin_that_was_locked_by_a_use(p11: Cryptoki, session: int) -> None:
    key = secret(p11, session)
    warm(p11, session, key)
    _, careful = p11.ec(session, (ck.CKA_ALWAYS_AUTHENTICATE, True), (ck.CKA_PRIVATE, True))
    p11("C_SignInit", session, mechanism(ck.CKM_ECDSA), careful)
    answer = ""
    for _ in range(20):
        answer = p11.rv("C_Login", session, ck.CKU_CONTEXT_SPECIFIC, b"wrong-pin", 9)
        if answer != "CKR_PIN_INCORRECT":
            break
    assert answer == "CKR_PIN_LOCKED"
    p11("C_SignInit", session, None, 0)
    assert refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"
    assert p11.state(session) == ck.CKS_RW_PUBLIC_SESSION


def test_after_the_end_of_the_library(bench: Bench, p11: Cryptoki, session: int) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, True))
    warm(p11, session, key)
    p11("C_SignInit", session, HMAC, key)
    p11("C_Finalize", None)
    try:
        assert unfinished(p11, session) == "CKR_CRYPTOKI_NOT_INITIALIZED"
        assert refusal(p11, session, key) == "CKR_CRYPTOKI_NOT_INITIALIZED"
    finally:
        p11("C_Initialize", None)
    assert refusal(p11, session, key) == "CKR_SESSION_HANDLE_INVALID"
    assert refusal(p11, bench.user(), key) == "CKR_KEY_HANDLE_INVALID"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_the_child_of_a_fork(bench: Bench, p11: Cryptoki, session: int) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, True))
    mac = warm(p11, session, key)
    p11("C_SignInit", session, HMAC, key)
    child = os.fork()
    if child == 0:
        said = [unfinished(p11, session), refusal(p11, session, key)]
        p11("C_Initialize", None)
        said += [refusal(p11, session, key), refusal(p11, bench.user(), key)]
        p11("C_Finalize", None)
        wanted = ["CKR_CRYPTOKI_NOT_INITIALIZED"] * 2
        os._exit(0 if said == [*wanted, "CKR_SESSION_HANDLE_INVALID", "CKR_KEY_HANDLE_INVALID"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert p11.whole("C_Sign", session, DATA, len(DATA)) == mac
    warm(p11, session, key)


# Another process.

PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from cryptoki import Cryptoki, PIN, template
from ferrohsm import constants as ck
p11 = Cryptoki({library!r})
p11("C_Initialize", None)
session = p11.open({slot})
p11.login(session)
found = p11.find(session, (ck.CKA_LABEL, b"shared"))
assert len(found) == 1, found
{body}
p11("C_Finalize", None)
"""


@pytest.fixture
def elsewhere(bench: Bench, module_path: Path) -> Callable[[str], None]:
    """Run some lines in another process that has logged in and found the object."""

    def run(body: str) -> None:
        text = PROGRAM.format(
            paths=[str(Path(__file__).parent)], library=str(module_path), slot=bench.slot, body=body
        )
        subprocess.run([sys.executable, "-c", text], check=True, timeout=60, cwd=bench.log.parent)

    return run


@pytest.mark.parametrize("private", [True, False], ids=["private", "public"])
def test_after_another_process_has_changed_it(
    p11: Cryptoki, session: int, elsewhere: Callable[[str], None], private: bool
) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"shared"), private=private)
    warm(p11, session, key)
    elsewhere('p11("C_SetAttributeValue", session, found[0], template((ck.CKA_SIGN, False)), 1)')
    assert refusal(p11, session, key) == "CKR_KEY_FUNCTION_NOT_PERMITTED"


def test_after_another_process_has_destroyed_it(
    p11: Cryptoki, session: int, elsewhere: Callable[[str], None]
) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"shared"))
    warm(p11, session, key)
    elsewhere('p11("C_DestroyObject", session, found[0])')
    assert refusal(p11, session, key) == "CKR_KEY_HANDLE_INVALID"


def test_after_another_process_has_changed_the_pin(
    p11: Cryptoki, session: int, elsewhere: Callable[[str], None]
) -> None:
    key = secret(p11, session, (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"shared"))
    warm(p11, session, key)
    elsewhere('p11("C_SetPIN", session, PIN, len(PIN), b"another-pin", 11)')
    with Counted() as counted:
        p11("C_SignInit", session, HMAC, key)
    assert counted.calls == 0


def test_after_an_unfinished_write(bench: Bench, p11: Cryptoki, session: int) -> None:
    """While a commit is under way, or its writer was killed in it, every use asks."""
    key = secret(p11, session, (ck.CKA_TOKEN, True))
    warm(p11, session, key)
    (file,) = (bench.log.parent / "data" / "tokens").glob("*/generation")
    with file.open("r+b") as words:
        content = words.read()
        words.seek(8)
        words.write((int.from_bytes(content[8:16], sys.byteorder) + 1).to_bytes(8, sys.byteorder))
    for _ in range(2):
        with Counted() as counted:
            p11("C_SignInit", session, HMAC, key)
            unfinished(p11, session)
        assert counted.calls == 0
    secret(p11, session, (ck.CKA_TOKEN, True))  # the next writer has passed
    warm(p11, session, key)


def test_many_keys_in_turn(p11: Cryptoki, session: int) -> None:
    """More than the table holds: what falls out is asked for again, and every key stays its own."""
    use = ((ck.CKA_SIGN, True),)
    keys = [p11.generic_secret(session, number.to_bytes(16, "big"), *use) for number in range(1500)]
    macs = [sign(p11, session, key) for key in keys]
    assert len(set(macs)) == len(keys)
    assert [sign(p11, session, key) for key in keys] == macs
    p11("C_DestroyObject", session, keys[0])
    assert refusal(p11, session, keys[0]) == "CKR_KEY_HANDLE_INVALID"
    with pytest.raises(RefusedError):
        sign(p11, session, keys[0])
