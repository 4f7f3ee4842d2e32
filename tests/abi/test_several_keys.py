"""Keys that SP 800-108 derives together: each of segments of its own, all of them or none."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mechanism_parameters as parameters
import pytest
from bench import Bench
from cryptoki import Cryptoki, mechanism, template

from ferrohsm import constants as ck

ONE_TOKEN = True
BASE = bytes(range(32))
UNTOUCHED = 0x1234567
OPEN = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
COUNTER, FEEDBACK, PIPELINE = (
    ck.CKM_SP800_108_COUNTER_KDF,
    ck.CKM_SP800_108_FEEDBACK_KDF,
    ck.CKM_SP800_108_DOUBLE_PIPELINE_KDF,
)
IV = bytes(range(7))


class DerivedKey(ctypes.Structure):
    """CK_DERIVED_KEY."""

    _fields_ = [
        ("pTemplate", ctypes.c_void_p),
        ("ulAttributeCount", ctypes.c_ulong),
        ("phKey", ctypes.c_void_p),
    ]


class Several:
    """A derivation of a key and of further ones."""

    def __init__(self, p11: Cryptoki, session: int, base: int, first: Any, *further: Any) -> None:
        self.p11 = p11
        self.session = session
        self.base = base
        self.first = first
        self.place = ctypes.c_ulong(UNTOUCHED)
        self.places = [ctypes.c_ulong(UNTOUCHED) for _ in further]
        self.templates = [template(*one) for one in further]
        self.keys = (DerivedKey * len(further))()
        for key, array, place in zip(self.keys, self.templates, self.places, strict=True):
            key.pTemplate = ctypes.addressof(array)
            key.ulAttributeCount = len(array)
            key.phKey = ctypes.addressof(place)

    def parameter(self, type: int, *pieces: Any, count: int | None = None, keys: bool = True) -> Any:
        """Return the mechanism's parameter, which names the further keys."""
        further = (len(self.keys) if count is None else count, self.keys if keys else None)
        head: tuple[Any, ...] = (ck.CKM_SHA256_HMAC, len(pieces), list(pieces))
        if type == FEEDBACK:
            head += (len(IV), IV)
        return parameters.structure(*head, *further)

    def rv(self, type: int, parameter: Any) -> str:
        array = template(*self.first)
        how = mechanism(type, parameter)
        return self.p11.rv("C_DeriveKey", self.session, how, self.base, array, len(array), self.place)

    def handles(self) -> list[int]:
        return [place.value for place in (self.place, *self.places)]

    def values(self) -> list[bytes]:
        return [self.p11.get(self.session, handle, ck.CKA_VALUE) for handle in self.handles()]


def pieces_of(type: int, method: int = ck.CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS) -> list[Any]:
    variable = parameters.counter() if type == COUNTER else None
    return [
        parameters.piece(ck.CK_SP800_108_ITERATION_VARIABLE, variable),
        parameters.piece(ck.CK_SP800_108_BYTE_ARRAY, b"label\0context"),
        parameters.piece(ck.CK_SP800_108_DKM_LENGTH, parameters.dkm_length(32, method)),
    ]


def prf(data: bytes) -> bytes:
    return hmac.new(BASE, data, hashlib.sha256).digest()


def stream(type: int, segments: int, bits: int) -> bytes:
    """NIST SP 800-108, sections 4.1 to 4.3, written down once more."""
    fixed = b"label\0context" + bits.to_bytes(4, "big")
    made, previous, chained = b"", IV, fixed
    for i in range(1, segments + 1):
        chained = prf(chained)
        iteration = {COUNTER: i.to_bytes(4, "big"), FEEDBACK: previous, PIPELINE: chained}[type]
        previous = prf(iteration + fixed)
        made += previous
    return made


@pytest.fixture
def base(p11: Cryptoki, session: int) -> int:
    return p11.generic_secret(session, BASE, (ck.CKA_DERIVE, True), *OPEN)


def length(count: int) -> tuple[int, int]:
    return ck.CKA_VALUE_LEN, count


AES = (ck.CKA_KEY_TYPE, ck.CKK_AES)


@pytest.mark.parametrize("type", [COUNTER, FEEDBACK, PIPELINE])
def test_every_key_has_segments_of_its_own(p11: Cryptoki, session: int, base: int, type: int) -> None:
    """The specification's example, 48 bytes and then 16 of a segment of their own, and a third key."""
    several = Several(p11, session, base, [length(48)], [AES, length(16)], [length(33)])
    for method, bits in (
        (ck.CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS, 8 * (48 + 16 + 33)),
        (ck.CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS, 8 * 5 * 32),
    ):
        assert several.rv(type, several.parameter(type, *pieces_of(type, method))) == "CKR_OK"
        made = stream(type, 5, bits)
        assert several.values() == [made[:48], made[64:80], made[96:129]]
        assert p11.get(session, several.handles()[1], ck.CKA_KEY_TYPE) == ck.CKK_AES.to_bytes(8, "little")
        assert p11.get(session, several.handles()[1], ck.CKA_LOCAL) == b"\0"


def test_as_one_long_key(p11: Cryptoki, session: int, base: int) -> None:
    """Without the length among the data, whole segments are the parts of one key as long as all of them."""
    pieces = pieces_of(COUNTER)[:2]
    one = Several(p11, session, base, [length(128)])
    assert one.rv(COUNTER, one.parameter(COUNTER, *pieces, keys=False)) == "CKR_OK"
    several = Several(p11, session, base, [length(32)], [length(64)], [length(32)])
    assert several.rv(COUNTER, several.parameter(COUNTER, *pieces)) == "CKR_OK"
    assert b"".join(several.values()) == one.values()[0]


def test_they_are_used(p11: Cryptoki, session: int, base: int) -> None:
    uses = ((ck.CKA_ENCRYPT, True), (ck.CKA_DECRYPT, True))
    several = Several(p11, session, base, [AES, length(16), *uses], [AES, length(32), *uses])
    assert several.rv(COUNTER, several.parameter(COUNTER, *pieces_of(COUNTER))) == "CKR_OK"
    how = mechanism(ck.CKM_AES_ECB)
    for handle in several.handles():
        sent = p11.transform("Encrypt", session, how, handle, BASE)
        assert p11.transform("Decrypt", session, how, handle, sent) == BASE


WRONG = {
    "no length": ([], "CKR_TEMPLATE_INCOMPLETE"),
    "no such length": ([AES, length(17)], "CKR_ATTRIBUTE_VALUE_INVALID"),
    "a value": ([(ck.CKA_VALUE, bytes(16))], "CKR_TEMPLATE_INCONSISTENT"),
    "another class": ([(ck.CKA_CLASS, ck.CKO_DATA), length(16)], "CKR_TEMPLATE_INCONSISTENT"),
    "no attribute": ([(0x7FFF, b"x"), length(16)], "CKR_ATTRIBUTE_TYPE_INVALID"),
    "a wrong check value": ([length(16), (ck.CKA_CHECK_VALUE, b"abc")], "CKR_ATTRIBUTE_VALUE_INVALID"),
    "not for a template": ([length(16), (ck.CKA_LOCAL, True)], "CKR_ATTRIBUTE_READ_ONLY"),
    "no memory": ([length(16), (ck.CKA_LABEL, None)], "CKR_ATTRIBUTE_VALUE_INVALID"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_all_or_none(p11: Cryptoki, session: int, base: int, wrong: str, at: int) -> None:
    """What is wrong with one keeps all from being made, and the place of its handle says whose it was."""
    pairs, expected = WRONG[wrong]
    mark = (ck.CKA_LABEL, b"derived together")
    further: list[Any] = [[mark, length(16)] for _ in range(3)]
    further[at] = pairs
    several = Several(p11, session, base, [mark, length(16)], *further)
    for place in several.templates[at] if wrong == "no memory" else ():
        place.ulValueLen = place.ulValueLen or 5
    answer = several.rv(COUNTER, several.parameter(COUNTER, *pieces_of(COUNTER)))
    if wrong == "a value":
        assert answer in ("CKR_TEMPLATE_INCONSISTENT", "CKR_ATTRIBUTE_READ_ONLY")
    else:
        assert answer == expected
    marks = [UNTOUCHED] * 4
    marks[at + 1] = 0
    assert several.handles() == marks
    assert p11.find(session, mark) == []


def test_none_when_it_is_not_a_templates_fault(p11: Cryptoki, session: int, base: int) -> None:
    mark = (ck.CKA_LABEL, b"derived together")
    several = Several(p11, session, base, [mark, length(16)], [mark, length(16)])
    pieces = pieces_of(COUNTER)
    for parameter, expected in (
        (several.parameter(COUNTER, *pieces[1:]), "CKR_MECHANISM_PARAM_INVALID"),
        (several.parameter(COUNTER, *pieces, keys=False), "CKR_MECHANISM_PARAM_INVALID"),
        (several.parameter(COUNTER, *pieces, count=1 << 62), "CKR_MECHANISM_PARAM_INVALID"),
        (several.parameter(COUNTER, *pieces, count=1001), "CKR_MECHANISM_PARAM_INVALID"),
    ):
        assert several.rv(COUNTER, parameter) == expected
    # 254 segments fit a counter of eight bits, 256 do not.
    short = parameters.piece(ck.CK_SP800_108_ITERATION_VARIABLE, parameters.counter(8))
    long = Several(p11, session, base, [mark, length(32 * 254)], [mark, length(33)])
    assert long.rv(COUNTER, long.parameter(COUNTER, short)) == "CKR_KEY_SIZE_RANGE"
    # The call's own template is wrong: no place among the further ones says so.
    first = Several(p11, session, base, [mark], [mark, length(16)])
    assert first.rv(COUNTER, first.parameter(COUNTER, *pieces)) == "CKR_TEMPLATE_INCOMPLETE"
    mute = Several(p11, session, p11.generic_secret(session, BASE), [mark, length(16)], [length(16)])
    assert mute.rv(COUNTER, mute.parameter(COUNTER, *pieces)) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    for tried in (several, long, first, mute):
        assert tried.handles() == [UNTOUCHED] * 2
    assert p11.find(session, mark) == []


def test_pointers_and_lengths_that_cannot_be(p11: Cryptoki, session: int, base: int) -> None:
    several = Several(p11, session, base, [length(16)], [length(16)], [length(16)])
    parameter = several.parameter(COUNTER, *pieces_of(COUNTER))
    key = several.keys[1]
    for field, value in (
        ("phKey", None),
        ("pTemplate", None),
        ("ulAttributeCount", 4097),
        ("ulAttributeCount", 2**64 - 1),
    ):
        right = getattr(key, field)
        setattr(key, field, value)
        assert several.rv(COUNTER, parameter) == "CKR_MECHANISM_PARAM_INVALID", field
        setattr(key, field, right)
    assert several.handles() == [UNTOUCHED] * 3
    many = [(ck.CKA_LABEL, b"x")] * 2100  # what bounds one template bounds all of them together
    both = Several(p11, session, base, [length(16)], many, many)
    assert both.rv(COUNTER, both.parameter(COUNTER, *pieces_of(COUNTER))) == "CKR_ARGUMENTS_BAD"
    assert both.handles() == [UNTOUCHED, UNTOUCHED, 0]
    assert several.rv(COUNTER, parameter) == "CKR_OK"
    assert len(set(several.handles())) == 3


def test_keys_on_the_token_and_the_base_keys_template(p11: Cryptoki, session: int) -> None:
    """Each may stay on the token; what the base key lays down is laid down for each."""
    inner = [(ck.CKA_LABEL, b"laid down"), (ck.CKA_EXTRACTABLE, False)]
    base = p11.generic_secret(session, BASE, (ck.CKA_DERIVE, True), (ck.CKA_DERIVE_TEMPLATE, inner))
    stays = (ck.CKA_TOKEN, True)
    several = Several(p11, session, base, [length(16)], [stays, length(16)], [length(16)])
    assert several.rv(COUNTER, several.parameter(COUNTER, *pieces_of(COUNTER))) == "CKR_OK"
    for handle in several.handles():
        assert p11.get(session, handle, ck.CKA_LABEL) == b"laid down"
        assert p11.get(session, handle, ck.CKA_EXTRACTABLE) == b"\0"
    assert p11.get(session, several.handles()[1], ck.CKA_TOKEN) == b"\1"
    p11("C_DestroyObject", session, several.handles()[1])
    free = Several(p11, session, base, [stays, length(16)], [length(16), (ck.CKA_EXTRACTABLE, True)])
    answer = free.rv(COUNTER, free.parameter(COUNTER, *pieces_of(COUNTER)))
    assert (answer, free.handles()) == ("CKR_TEMPLATE_INCONSISTENT", [UNTOUCHED, 0])
    assert p11.find(session, (ck.CKA_LABEL, b"laid down"), stays) == []


KILLED = """\
import ctypes, sys
from cryptoki import PIN, Cryptoki
from ferrohsm import constants as ck
from test_several_keys import BASE, COUNTER, MARK, OPEN, Several, length, pieces_of

p11 = Cryptoki(sys.argv[1])
p11("C_Initialize", None)
session = p11.open(int(sys.argv[2]))
p11.login(session)
base = p11.generic_secret(session, BASE, (ck.CKA_DERIVE, True), *OPEN)
several = Several(p11, session, base, *[[MARK, (ck.CKA_TOKEN, True), length(16)]] * 16)
while True:
    assert several.rv(COUNTER, several.parameter(COUNTER, *pieces_of(COUNTER))) == "CKR_OK"
    print("made", flush=True)
"""
MARK = (ck.CKA_LABEL, b"sixteen at once")


def test_a_process_that_is_killed_leaves_all_of_a_call_or_none(bench: Bench, module_path: Path) -> None:
    p11, session, here = bench.p11, bench.user(), Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    command = [sys.executable, "-c", KILLED, str(module_path), str(bench.slot)]
    for pause in (0.0, 0.004, 0.011):
        program = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=here)
        assert program.stdout is not None and program.stdout.readline() == "made\n"
        time.sleep(pause)
        program.kill()
        made = 1 + program.communicate()[0].count("made")
        found = p11.find(session, MARK)
        assert len(found) in (16 * made, 16 * made + 16)
        for handle in found:
            p11("C_DestroyObject", session, handle)
