"""Session objects made in a known way need no Python, and are like all others when looked at."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from typing import Any

import pytest
from bench import PIN, Bench
from cryptoki import CkMechanism, Cryptoki, RefusedError, buffer, mechanism, template
from engine_support import POSTQUANTUM
from test_remembered import Counted

from ferrohsm import constants as ck

Make = Callable[[Cryptoki, int], list[int]]
AES = ((ck.CKA_ENCRYPT, True), (ck.CKA_DECRYPT, True), (ck.CKA_LABEL, b"a key"))
SIGNER = ((ck.CKA_SIGN, True), (ck.CKA_PRIVATE, True), (ck.CKA_LABEL, b"signer"))
OPEN = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
# What differs from one object to the next.
OWN = {ck.CKA_UNIQUE_ID, ck.CKA_VALUE, ck.CKA_EC_POINT, ck.CKA_PUBLIC_KEY_INFO, ck.CKA_CHECK_VALUE}
OWN |= {ck.CKA_PUBLIC_CRC64_VALUE}


def aes(p11: Cryptoki, session: int) -> list[int]:
    return [p11.aes(session, *AES, length=32)]


def pair(p11: Cryptoki, session: int) -> list[int]:
    return list(p11.ec(session, *SIGNER))


def edwards(p11: Cryptoki, session: int) -> list[int]:
    curve = [(ck.CKA_EC_PARAMS, bytes.fromhex("06032b6570"))]
    return list(p11.key_pair(session, ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, curve, list(SIGNER)))


def secret(p11: Cryptoki, session: int) -> list[int]:
    return [p11.generic_secret(session, os.urandom(40), (ck.CKA_SIGN, True), (ck.CKA_ID, os.urandom(4)))]


class Agreement:
    """Derives from one base key, with the point of a pair of its own."""

    def __init__(self) -> None:
        self.base = 0

    def __call__(self, p11: Cryptoki, session: int) -> list[int]:
        if not self.base:
            public, self.base = p11.ec(session, (ck.CKA_DERIVE, True), (ck.CKA_PRIVATE, True))
            self.point = p11.get(session, public, ck.CKA_EC_POINT)
        return [self.derive(p11, session, *OPEN)]

    def derive(self, p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> int:
        pairs = ((ck.CKA_VALUE_LEN, 20), *pairs)
        how = agreement(self.point)
        return p11.made("C_DeriveKey", session, how, self.base, template(*pairs), len(pairs))


class Ecdh(ctypes.Structure):
    """CK_ECDH1_DERIVE_PARAMS."""

    _fields_ = [
        ("kdf", c_ulong),
        ("ulSharedDataLen", c_ulong),
        ("pSharedData", ctypes.c_void_p),
        ("ulPublicDataLen", c_ulong),
        ("pPublicData", ctypes.c_void_p),
    ]


def agreement(point: bytes) -> CkMechanism:
    place = buffer(point)
    parameter = Ecdh(ck.CKD_NULL, 0, None, len(point), ctypes.addressof(place))
    made = mechanism(ck.CKM_ECDH1_DERIVE, parameter)
    made.point = place  # type: ignore[attr-defined]
    return made


def signing_pair(p11: Cryptoki, session: int) -> list[int]:
    chosen = [(ck.CKA_PARAMETER_SET, ck.CKP_ML_DSA_44), (ck.CKA_VERIFY, True)]
    return list(p11.key_pair(session, ck.CKM_ML_DSA_KEY_PAIR_GEN, chosen, list(SIGNER)))


def opening_pair(p11: Cryptoki, session: int, token: bool = False) -> tuple[int, int]:
    chosen = [(ck.CKA_PARAMETER_SET, ck.CKP_ML_KEM_768), (ck.CKA_ENCAPSULATE, True), (ck.CKA_TOKEN, token)]
    opener = [(ck.CKA_DECAPSULATE, True), (ck.CKA_PRIVATE, True), (ck.CKA_TOKEN, token)]
    return p11.key_pair(session, ck.CKM_ML_KEM_KEY_PAIR_GEN, chosen, opener)


CIPHERTEXT = 1088  # bytes, of ML-KEM-768


def encapsulated(p11: Cryptoki, session: int, public: int, *pairs: tuple[int, Any]) -> tuple[bytes, int]:
    memory, length, made = (c_ubyte * CIPHERTEXT)(), c_ulong(CIPHERTEXT), c_ulong()
    how = mechanism(ck.CKM_ML_KEM)
    p11("C_EncapsulateKey", session, how, public, template(*pairs), len(pairs), memory, length, made)
    assert length.value == CIPHERTEXT
    return bytes(memory), made.value


def decapsulated(p11: Cryptoki, session: int, private: int, hidden: bytes, *pairs: tuple[int, Any]) -> int:
    arguments = (mechanism(ck.CKM_ML_KEM), private, template(*pairs), len(pairs), hidden, len(hidden))
    return p11.made("C_DecapsulateKey", session, *arguments)


class Encapsulation:
    """Makes keys under one public key."""

    base = 0

    def __call__(self, p11: Cryptoki, session: int) -> list[int]:
        self.base = self.base or opening_pair(p11, session)[0]
        return [encapsulated(p11, session, self.base, (ck.CKA_VALUE_LEN, 20), *OPEN)[1]]


class Decapsulation:
    """Opens one ciphertext."""

    base = 0

    def __call__(self, p11: Cryptoki, session: int) -> list[int]:
        if not self.base:
            public, self.base = opening_pair(p11, session)
            self.hidden = encapsulated(p11, session, public)[0]
        return [decapsulated(p11, session, self.base, self.hidden, (ck.CKA_KEY_TYPE, ck.CKK_AES), *OPEN)]


WAYS: dict[str, Callable[[], Make]] = {
    "aes": lambda: aes,
    "pair": lambda: pair,
    "edwards": lambda: edwards,
    "secret": lambda: secret,
    "agreement": Agreement,
}
# What needs kernels with libcrypto 3.5; with older ones the core makes it, and that is tested elsewhere.
if POSTQUANTUM:
    WAYS |= {
        "signing pair": lambda: signing_pair,
        "opening pair": lambda: lambda p11, session: list(opening_pair(p11, session)),
        "encapsulation": Encapsulation,
        "decapsulation": Decapsulation,
    }
each_way = pytest.mark.parametrize("way", WAYS)


def learned(p11: Cryptoki, session: int, make: Make) -> list[int]:
    """Make objects until that needs no Python; return the first ones."""
    first = make(p11, session)
    make(p11, session)
    with Counted() as counted:
        make(p11, session)
    assert counted.calls == 1
    return first


def shown(p11: Cryptoki, session: int, handle: int) -> dict[int, bytes | str]:
    """Return every attribute, or why there is none."""
    found: dict[int, bytes | str] = {}
    for name, attribute in vars(ck).items():
        if name.startswith("CKA_") and attribute < ck.CKA_VENDOR_DEFINED:
            try:
                found[attribute] = p11.get(session, handle, attribute)
            except RefusedError as refused:
                found[attribute] = refused.rv
    return found


def kind(value: bytes | str) -> int | str:
    """Return a value's length, or why there is none."""
    return len(value) if isinstance(value, bytes) else value


@each_way
def test_an_object_is_as_if_the_core_had_made_it(p11: Cryptoki, session: int, way: str) -> None:
    make = WAYS[way]()
    first = learned(p11, session, make)
    drafts = make(p11, session)
    for one, other in zip(first, drafts, strict=True):
        expected, found = shown(p11, session, one), shown(p11, session, other)
        expected[ck.CKA_ID] = found[ck.CKA_ID] if way == "secret" else expected[ck.CKA_ID]
        assert {a: v for a, v in expected.items() if a not in OWN} == {
            a: v for a, v in found.items() if a not in OWN
        }
        assert [kind(expected[a]) for a in OWN] == [kind(found[a]) for a in OWN]
        assert found[ck.CKA_UNIQUE_ID] != expected[ck.CKA_UNIQUE_ID]


def test_pairs_belong_together(p11: Cryptoki, session: int) -> None:
    learned(p11, session, pair)
    digest = os.urandom(32)
    pairs = [pair(p11, session) for _ in range(3)]
    signatures = [p11.transform("Sign", session, mechanism(ck.CKM_ECDSA), key, digest) for _, key in pairs]
    for public, _ in pairs:
        answers = []
        for signature in signatures:
            p11("C_VerifyInit", session, mechanism(ck.CKM_ECDSA), public)
            answers.append(p11.rv("C_Verify", session, digest, 32, signature, len(signature)))
        assert sorted(answers) == ["CKR_OK", "CKR_SIGNATURE_INVALID", "CKR_SIGNATURE_INVALID"]


def test_both_sides_agree(p11: Cryptoki, session: int) -> None:
    one, other = Agreement(), Agreement()
    learned(p11, session, one)
    learned(p11, session, other)
    one.point, other.point = other.point, one.point
    with Counted() as counted:
        keys = one.derive(p11, session, *OPEN), other.derive(p11, session, *OPEN)
    assert counted.calls == 2
    values = [p11.get(session, key, ck.CKA_VALUE) for key in keys]
    assert values[0] == values[1] and len(values[0]) == 20
    # The same as the core itself derives, which another template asks.
    asked = one.derive(p11, session, *OPEN, (ck.CKA_LABEL, b"asked"))
    assert p11.get(session, asked, ck.CKA_VALUE) == values[0]


def test_what_differs_in_creation_is_kept(p11: Cryptoki, session: int) -> None:
    def make(label: bytes, value: bytes) -> int:
        return p11.generic_secret(session, value, (ck.CKA_LABEL, label), (ck.CKA_SIGN, True), *OPEN)

    for number in range(2):
        make(b"label%d" % number, os.urandom(16))
    values = [os.urandom(16) for _ in range(3)]
    with Counted() as counted:
        keys = [make(b"made-%d" % number, value) for number, value in enumerate(values)]
    assert counted.calls == 3
    with Counted() as counted:
        make(b"a longer label", values[0])
        make(b"made-0", values[0] + values[0])
    assert counted.calls == 0
    for number, (key, value) in enumerate(zip(keys, values, strict=True)):
        assert p11.get(session, key, ck.CKA_LABEL) == b"made-%d" % number
        assert p11.get(session, key, ck.CKA_VALUE) == value
    assert keys[2] in p11.find(session, (ck.CKA_LABEL, b"made-2"))
    with pytest.raises(RefusedError, match="CKR_ATTRIBUTE_VALUE_INVALID"):
        make(b"made-\xff", values[0])  # no UTF-8


@each_way
def test_they_are_found_and_used_by_other_sessions(
    bench: Bench, p11: Cryptoki, session: int, way: str
) -> None:
    make = WAYS[way]()
    own = p11.find(session)  # what the token has of itself
    learned(p11, session, make)
    drafts = make(p11, session)
    other = p11.open(bench.slot, read_write=False)
    assert set(drafts) <= set(p11.find(other))
    more = make(p11, session)
    assert all(p11.get(other, handle, ck.CKA_UNIQUE_ID) for handle in more)
    p11("C_DestroyObject", other, more[0])
    assert p11.rv("C_DestroyObject", session, more[0]) == "CKR_OBJECT_HANDLE_INVALID"
    for handle in set(p11.find(session)) - set(own):
        p11("C_DestroyObject", session, handle)
    assert p11.find(session) == own


@each_way
def test_one_that_nobody_looked_at_is_destroyed_without_python(p11: Cryptoki, session: int, way: str) -> None:
    make = WAYS[way]()
    learned(p11, session, make)
    drafts = make(p11, session)
    there = len(p11.find(session)) - len(drafts)
    drafts = make(p11, session)
    with Counted() as counted:
        for handle in drafts:
            p11("C_DestroyObject", session, handle)
    assert counted.calls == len(drafts)
    for handle in drafts:
        assert p11.rv("C_DestroyObject", session, handle) == "CKR_OBJECT_HANDLE_INVALID"
        assert p11.rv("C_GetObjectSize", session, handle, c_ulong()) == "CKR_OBJECT_HANDLE_INVALID"
    assert len(p11.find(session)) == there + len(drafts)


@each_way
def test_they_end_with_their_session(bench: Bench, p11: Cryptoki, session: int, way: str) -> None:
    make = WAYS[way]()
    learned(p11, session, make)
    there = p11.find(session)
    own = p11.open(bench.slot)
    drafts = make(p11, own)
    p11("C_CloseSession", own)
    for handle in drafts:
        assert p11.rv("C_DestroyObject", session, handle) == "CKR_OBJECT_HANDLE_INVALID"
    assert sorted(p11.find(session)) == sorted(there)


@each_way
def test_private_ones_end_with_the_login_and_so_does_the_way(p11: Cryptoki, session: int, way: str) -> None:
    make = WAYS[way]()
    learned(p11, session, make)
    drafts = make(p11, session)
    private = [handle for handle in drafts if p11.get(session, handle, ck.CKA_PRIVATE) == b"\x01"]
    assert private
    drafts = make(p11, session)
    kept = [handle for handle, other in zip(drafts, make(p11, session), strict=True)
            if p11.get(session, other, ck.CKA_PRIVATE) == b"\x00"]  # fmt: skip
    p11("C_Logout", session)
    for handle in kept:
        assert p11.get(session, handle, ck.CKA_PRIVATE) == b"\x00"
    with Counted() as counted, pytest.raises(RefusedError) as refused:
        make(p11, session)
    handle_invalid = ("CKR_KEY_HANDLE_INVALID", "CKR_UNWRAPPING_KEY_HANDLE_INVALID")
    assert refused.value.rv in ("CKR_USER_NOT_LOGGED_IN", *handle_invalid) and counted.calls == 0
    p11.login(session)
    for handle in drafts:
        expected = "CKR_OK" if handle in kept else "CKR_OBJECT_HANDLE_INVALID"
        assert p11.rv("C_GetObjectSize", session, handle, c_ulong()) == expected


def test_public_ones_outlive_the_login(p11: Cryptoki, session: int) -> None:
    def make(p11: Cryptoki, session: int) -> list[int]:
        return [p11.aes(session, *AES, (ck.CKA_PRIVATE, False), (ck.CKA_ID, b"public"))]

    learned(p11, session, make)
    draft = make(p11, session)
    p11("C_Logout", session)
    assert draft[0] in p11.find(session, (ck.CKA_ID, b"public"))
    p11.login(session)
    assert p11.get(session, draft[0], ck.CKA_ID) == b"public"


def test_another_template_is_asked_about(p11: Cryptoki, session: int) -> None:
    learned(p11, session, aes)
    with Counted() as counted:
        key = p11.aes(session, *AES[:-1], (ck.CKA_LABEL, b"b key"), length=32)
    assert counted.calls == 0 and p11.get(session, key, ck.CKA_LABEL) == b"b key"
    with Counted() as counted, pytest.raises(RefusedError, match="READ_ONLY"):
        p11.aes(session, *AES, (ck.CKA_LOCAL, True), length=32)
    with pytest.raises(RefusedError, match="CKR_ATTRIBUTE_VALUE_INVALID|CKR_KEY_SIZE_RANGE"):
        p11.aes(session, *AES, length=33)
    assert counted.calls == 0


def test_token_objects_are_asked_about(p11: Cryptoki, session: int) -> None:
    with Counted() as counted:
        keys = [p11.aes(session, *AES, (ck.CKA_TOKEN, True)) for _ in range(4)]
    assert counted.calls == 0
    for key in keys:
        p11("C_DestroyObject", session, key)


def test_one_that_may_not_be_destroyed_stays(p11: Cryptoki, session: int) -> None:
    keys = [p11.aes(session, *AES, (ck.CKA_DESTROYABLE, False)) for _ in range(4)]
    for key in keys:
        assert p11.rv("C_DestroyObject", session, key) == "CKR_ACTION_PROHIBITED"


@pytest.mark.parametrize("end", ["attribute", "destroyed"])
@pytest.mark.parametrize("on_token", [False, True], ids=["session", "token"])
def test_a_derivation_ends_with_its_base_key(p11: Cryptoki, session: int, end: str, on_token: bool) -> None:
    make = Agreement()
    pairs = ((ck.CKA_DERIVE, True), (ck.CKA_PRIVATE, True), (ck.CKA_TOKEN, on_token))
    public, make.base = p11.ec(session, *pairs)
    make.point = p11.get(session, public, ck.CKA_EC_POINT)
    learned(p11, session, make)
    if end == "attribute":
        p11("C_SetAttributeValue", session, make.base, template((ck.CKA_DERIVE, False)), 1)
    else:
        p11("C_DestroyObject", session, make.base)
    with pytest.raises(RefusedError) as refused:
        make(p11, session)
    expected = "CKR_KEY_FUNCTION_NOT_PERMITTED" if end == "attribute" else "CKR_KEY_HANDLE_INVALID"
    assert refused.value.rv == expected


CHANGE = """
import sys
sys.path[:0] = {paths!r}
from cryptoki import Cryptoki, template
from ferrohsm import constants as ck
p11 = Cryptoki({library!r})
p11("C_Initialize", None)
session = p11.open({slot})
p11.login(session)
key, = p11.find(session, (ck.CKA_LABEL, b"base"), (ck.CKA_CLASS, ck.CKO_PRIVATE_KEY))
p11("C_SetAttributeValue", session, key, template((ck.CKA_DERIVE, False)), 1)
p11("C_Finalize", None)
"""


def test_a_derivation_ends_with_another_process_s_change(
    bench: Bench, p11: Cryptoki, session: int, module_path: Path
) -> None:
    make = Agreement()
    pairs = ((ck.CKA_DERIVE, True), (ck.CKA_TOKEN, True), (ck.CKA_LABEL, b"base"))
    public, make.base = p11.ec(session, *pairs)
    make.point = p11.get(session, public, ck.CKA_EC_POINT)
    learned(p11, session, make)
    text = CHANGE.format(paths=[str(Path(__file__).parent)], library=str(module_path), slot=bench.slot)
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60, cwd=bench.log.parent)
    with pytest.raises(RefusedError, match="CKR_KEY_FUNCTION_NOT_PERMITTED"):
        make(p11, session)


def test_a_bad_point_is_refused_as_before(p11: Cryptoki, session: int) -> None:
    make = Agreement()
    learned(p11, session, make)
    for bad in (make.point[:-1], make.point[:-1] + bytes([make.point[-1] ^ 1]), b"", bytes(65)):
        good, make.point = make.point, bad
        with pytest.raises(RefusedError, match="CKR_MECHANISM_PARAM_INVALID"):
            make(p11, session)
        make.point = good


def test_finalize_ends_them(bench: Bench, p11: Cryptoki, session: int) -> None:
    learned(p11, session, pair)
    drafts = pair(p11, session)
    p11("C_Finalize", None)
    p11("C_Initialize", None)
    again = bench.user()
    for handle in drafts:
        assert p11.rv("C_DestroyObject", again, handle) == "CKR_OBJECT_HANDLE_INVALID"
    learned(p11, again, pair)


def test_a_child_starts_without_them(bench: Bench, p11: Cryptoki, session: int) -> None:
    learned(p11, session, pair)
    drafts = pair(p11, session)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            p11("C_Initialize", None)
            own = bench.user()
            assert p11.rv("C_DestroyObject", own, drafts[0]) == "CKR_OBJECT_HANDLE_INVALID"
            learned(p11, own, pair)
            p11("C_Finalize", None)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert p11.get(session, drafts[1], ck.CKA_LABEL) == b"signer"


def test_a_search_does_not_wait_for_what_others_go_on_making(
    bench: Bench, p11: Cryptoki, session: int
) -> None:
    learned(p11, session, aes)
    early = aes(p11, session)
    most, made, going = 40000, [0], threading.Event()
    going.set()

    def maker() -> None:
        own = p11.open(bench.slot)
        while going.is_set() and made[0] < most:
            p11.aes(own, *AES, length=32)
            made[0] += 1
        p11("C_CloseSession", own)

    thread = threading.Thread(target=maker)
    thread.start()
    while made[0] < 100:
        pass
    found = p11.find(session, (ck.CKA_CLASS, ck.CKO_SECRET_KEY))
    at_the_end = made[0]
    going.clear()
    thread.join()
    assert early[0] in found and at_the_end < most


def test_threads_make_look_at_and_destroy_them(bench: Bench, p11: Cryptoki, session: int) -> None:
    """Two threads destroy and read the same objects: each answer is one that makes sense."""
    learned(p11, session, aes)
    sense = {"CKR_OK", "CKR_OBJECT_HANDLE_INVALID"}
    there = len(p11.find(p11.open(bench.slot), (ck.CKA_CLASS, ck.CKO_SECRET_KEY)))
    wrong: list[str] = []
    handles: list[int] = []

    def destroyer() -> None:
        own = p11.open(bench.slot)
        for _ in range(150):
            handles.append(p11.aes(own, *AES, length=32))
            if len(handles) % 3:
                wrong.extend({p11.rv("C_DestroyObject", own, handles[-1])} - sense)

    def reader() -> None:
        own = p11.open(bench.slot)
        for _ in range(150):
            if handles:
                wrong.extend({p11.rv("C_GetObjectSize", own, handles[-1], c_ulong())} - sense)
            if len(handles) % 10 == 0:
                p11.find(own)

    threads = [threading.Thread(target=work) for work in (destroyer, reader, reader)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and len(handles) == 150
    p11("C_CloseAllSessions", bench.slot)
    again = p11.open(bench.slot)
    p11("C_Login", again, ck.CKU_USER, PIN, len(PIN))
    assert there > 0 and p11.find(again, (ck.CKA_CLASS, ck.CKO_SECRET_KEY)) == []


def test_a_search_finds_what_every_thread_has_made(bench: Bench, p11: Cryptoki, session: int) -> None:
    """Each thread has a part of the table; a search that was remembered sees what came into any of them."""
    learned(p11, session, aes)
    wanted = ((ck.CKA_LABEL, b"a key"),)
    own = [p11.open(bench.slot) for _ in range(9)]  # more threads than parts
    there = set(p11.find(session, *wanted))
    made: list[int] = []

    def maker(mine: int) -> None:
        made.extend(handle for _ in range(2) for handle in aes(p11, mine))

    for _ in range(3):
        threads = [threading.Thread(target=maker, args=(mine,)) for mine in own]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        there |= set(made)
        assert set(p11.find(session, *wanted)) == there and set(p11.find(own[0], *wanted)) == there
    assert len(set(made)) == len(made) == 54
    for mine in own:
        p11("C_CloseSession", mine)
    assert set(p11.find(session, *wanted)) == there - set(made)


def test_no_thread_goes_on_in_a_way_that_ended(bench: Bench, p11: Cryptoki, session: int) -> None:
    """Each thread remembers how it makes keys; with the login that ends for all of them."""
    learned(p11, session, aes)
    calls: dict[int, str] = {}
    go, gone = [threading.Barrier(4, timeout=60) for _ in range(2)]

    def maker(number: int) -> None:
        own = p11.open(bench.slot)
        place, how = c_ulong(0), mechanism(ck.CKM_AES_KEY_GEN)
        wanted = template((ck.CKA_VALUE_LEN, 32), *AES)
        aes(p11, own)
        go.wait()
        gone.wait()
        calls[number] = p11.rv("C_GenerateKey", own, how, wanted, len(wanted), place)

    threads = [threading.Thread(target=maker, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    go.wait()
    p11("C_Logout", session)
    gone.wait()
    for thread in threads:
        thread.join(60)
    assert calls == dict.fromkeys(range(3), "CKR_USER_NOT_LOGGED_IN")


def test_an_attribute_array_that_cannot_be_is_refused(p11: Cryptoki, session: int) -> None:
    learned(p11, session, aes)
    how, place = mechanism(ck.CKM_AES_KEY_GEN), c_ulong(0)
    array = template((ck.CKA_VALUE_LEN, 32), *AES)
    array[1].pValue = None
    assert p11.rv("C_GenerateKey", session, how, array, 4, place) == "CKR_ATTRIBUTE_VALUE_INVALID"
    array[1].pValue = ctypes.addressof((c_ubyte * 1)(1))
    array[1].ulValueLen = 2**63
    assert p11.rv("C_GenerateKey", session, how, array, 4, place) == "CKR_ATTRIBUTE_VALUE_INVALID"


def test_a_known_search_finds_the_new_ones(p11: Cryptoki, session: int) -> None:
    learned(p11, session, aes)
    wanted = ((ck.CKA_LABEL, b"a key"),)
    before = p11.find(session, *wanted)
    with Counted() as counted:
        assert p11.find(session, *wanted) == before
    assert counted.calls == 3
    draft = aes(p11, session)
    assert sorted(p11.find(session, *wanted)) == sorted(before + draft)
    assert sorted(p11.find(session, *wanted)) == sorted(before + draft)
    p11("C_DestroyObject", session, draft[0])
    assert sorted(p11.find(session, *wanted)) == sorted(before)
