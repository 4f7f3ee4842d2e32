"""Message-based encryption and decryption, through the C functions."""

from __future__ import annotations

import ctypes
from ctypes import c_ulong
from typing import Any

import mechanism_parameters as parameters
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptoki import Cryptoki, buffer, mechanism
from vector_files import records, root

from ferrohsm import constants as ck

ONE_TOKEN = True
AAD, TEXT = b"associated", bytes(range(100))
KINDS = ["gcm", "ccm", "chacha20_poly1305"]
MECHANISMS = {
    "gcm": ck.CKM_AES_GCM,
    "ccm": ck.CKM_AES_CCM,
    "chacha20_poly1305": ck.CKM_CHACHA20_POLY1305,
}
ENGINES: dict[str, Any] = {"gcm": AESGCM, "ccm": AESCCM, "chacha20_poly1305": ChaCha20Poly1305}
INVALID = "CKR_MECHANISM_PARAM_INVALID"


class Parameter:
    """The structure that goes with a message; `vector` and `tag` are the memory it points to."""

    def __init__(
        self,
        kind: str,
        vector: bytes = bytes(12),
        tag: bytes = bytes(16),
        generator: int = ck.CKG_NO_GENERATE,
        fixed: int = 0,
        length: int = len(TEXT),
    ) -> None:
        self._vector, self._tag = ctypes.create_string_buffer(vector), ctypes.create_string_buffer(tag)
        self.sizes = len(vector), len(tag)
        if kind == "gcm":
            fields: tuple[Any, ...] = (self._vector, len(vector), fixed, generator, self._tag, 8 * len(tag))
        elif kind == "ccm":
            fields = (length, self._vector, len(vector), fixed, generator, self._tag, len(tag))
        else:
            fields = (self._vector, 8 * len(vector), self._tag)
        self.structure = parameters.structure(*fields)

    @property
    def vector(self) -> bytes:
        return self._vector.raw[: self.sizes[0]]

    @property
    def tag(self) -> bytes:
        return self._tag.raw[: self.sizes[1]]


class Process:
    """A process of one direction."""

    def __init__(self, p11: Cryptoki, session: int, kind: str, key: int, way: str = "Encrypt") -> None:
        self.p11, self.session, self.way, self.kind = p11, session, way, kind
        p11(f"C_Message{way}Init", session, mechanism(MECHANISMS[kind]), key)

    def size(self, parameter: Parameter) -> int:
        return ctypes.sizeof(parameter.structure)

    def whole(self, parameter: Parameter, data: bytes, aad: bytes = AAD, room: int | None = None) -> Any:
        """Return the text, or the refusal's name."""
        memory = (ctypes.c_ubyte * 4096)()
        length = ctypes.c_ulong(len(data) if room is None else room)
        head = (self.session, parameter.structure, self.size(parameter), aad, len(aad), data, len(data))
        rv = self.p11.rv(f"C_{self.way}Message", *head, memory, length)
        self.length = length.value
        return bytes(memory[: length.value]) if rv == "CKR_OK" else rv

    def begin(self, parameter: Parameter, aad: bytes = AAD) -> str:
        size = self.size(parameter)
        return self.p11.rv(
            f"C_{self.way}MessageBegin", self.session, parameter.structure, size, aad, len(aad)
        )

    def next(self, parameter: Parameter, data: bytes, last: bool = False, room: int = 4096) -> Any:
        memory, length = (ctypes.c_ubyte * 4096)(), ctypes.c_ulong(room)
        flags = ck.CKF_END_OF_MESSAGE if last else 0
        head = (self.session, parameter.structure, self.size(parameter), data, len(data))
        rv = self.p11.rv(f"C_{self.way}MessageNext", *head, memory, length, flags)
        self.length = length.value
        return bytes(memory[: length.value]) if rv == "CKR_OK" else rv

    def end(self) -> str:
        return self.p11.rv(f"C_Message{self.way}Final", self.session)


def key_of(p11: Cryptoki, session: int, kind: str, *pairs: tuple[int, Any], value: bytes = bytes(32)) -> int:
    uses = ((ck.CKA_ENCRYPT, True), (ck.CKA_DECRYPT, True), (ck.CKA_CLASS, ck.CKO_SECRET_KEY))
    key_type = ck.CKK_CHACHA20 if kind.startswith("chacha") else ck.CKK_AES
    return p11.create(session, *uses, (ck.CKA_KEY_TYPE, key_type), (ck.CKA_VALUE, value), *pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_as_the_library_makes_them(p11: Cryptoki, session: int, kind: str) -> None:
    key = key_of(p11, session, kind)
    sealing = Process(p11, session, kind, key)
    sent = []
    for number in range(4):
        vector, text = bytes((number,)) * 12, TEXT[: 25 * number]
        parameter = Parameter(kind, vector, length=len(text))
        sealed = sealing.whole(parameter, text, AAD[:number])
        assert sealed + parameter.tag == ENGINES[kind](bytes(32)).encrypt(vector, text, AAD[:number])
        sent.append((vector, sealed, parameter.tag, text, AAD[:number]))
    assert sealing.end() == "CKR_OK"
    assert sealing.end() == "CKR_OPERATION_NOT_INITIALIZED"
    opening = Process(p11, session, kind, key, "Decrypt")
    for vector, sealed, tag, text, aad in sent:
        parameter = Parameter(kind, vector, tag, length=len(text))
        assert opening.whole(parameter, sealed, aad) == text
        wrong = Parameter(kind, vector, bytes((tag[0] ^ 1,)) + tag[1:], length=len(text))
        assert opening.whole(wrong, sealed, aad) == "CKR_AEAD_DECRYPT_FAILED"
        assert opening.whole(parameter, sealed, aad + b"x") == "CKR_AEAD_DECRYPT_FAILED"
    assert opening.end() == "CKR_OK"


@pytest.mark.parametrize("kind", KINDS)
def test_messages_in_parts(p11: Cryptoki, session: int, kind: str) -> None:
    key, parts = key_of(p11, session, kind), [TEXT[:7], b"", TEXT[7:60], TEXT[60:]]
    sealing = Process(p11, session, kind, key)
    for number in range(2):
        parameter = Parameter(kind, bytes((number,)) * 12)
        assert sealing.begin(parameter) == "CKR_OK"
        pieces = [sealing.next(parameter, part) for part in parts[:3]]
        sealed = b"".join([*pieces, sealing.next(parameter, parts[3], last=True)])
        expected = ENGINES[kind](bytes(32)).encrypt(parameter.vector, TEXT, AAD)
        assert sealed + parameter.tag == expected
    opening = Process(p11, session, kind, key, "Decrypt")  # beside the other process
    assert opening.begin(parameter) == "CKR_OK"
    assert opening.next(parameter, sealed[:33]) == b""  # nothing before the tag is checked
    assert opening.next(parameter, sealed[33:], last=True) == TEXT
    assert opening.begin(parameter) == "CKR_OK"
    opening.next(parameter, sealed[:33])
    false = Parameter(kind, parameter.vector, bytes(16))
    assert opening.next(false, sealed[33:], last=True) == "CKR_AEAD_DECRYPT_FAILED"
    # That message is over, the process is not.
    assert opening.next(parameter, b"", last=True) == "CKR_OPERATION_NOT_INITIALIZED"
    assert opening.whole(parameter, sealed) == TEXT


def test_gcm_known_answers(p11: Cryptoki, session: int) -> None:
    """NIST CAVP, GCMVS, 256-bit keys."""
    count = 0
    for record in records(root() / "ciphers" / "AES" / "GCM" / "gcmEncryptExtIV256.rsp", "Count"):
        vector, tag = bytes.fromhex(record["IV"]), bytes.fromhex(record["Tag"])
        if len(vector) != 12 or count == 60 or not record["PT"]:
            continue
        key = key_of(p11, session, "gcm", value=bytes.fromhex(record["Key"]))
        process, parameter = Process(p11, session, "gcm", key), Parameter("gcm", vector, bytes(len(tag)))
        sealed = process.whole(parameter, bytes.fromhex(record["PT"]), bytes.fromhex(record["AAD"]))
        assert (sealed.hex(), parameter.tag) == (record["CT"], tag)
        assert process.end() == "CKR_OK"
        p11("C_DestroyObject", session, key)
        count += 1
    assert count == 60


@pytest.mark.parametrize("kind", ["gcm", "ccm"])
def test_generated_vectors(p11: Cryptoki, session: int, kind: str) -> None:
    key = key_of(p11, session, kind)
    base = bytes(range(1, 13))

    def vectors(generator: int, fixed: int, given: bytes = base) -> list[bytes]:
        process, found = Process(p11, session, kind, key), []
        for _ in range(3):
            parameter = Parameter(kind, given, generator=generator, fixed=fixed)
            sealed = process.whole(parameter, TEXT)
            expected = ENGINES[kind](bytes(32)).encrypt(parameter.vector, TEXT, AAD)
            assert sealed + parameter.tag == expected
            found.append(parameter.vector)
        assert process.end() == "CKR_OK"
        return found

    counted = vectors(ck.CKG_GENERATE_COUNTER, 32)
    assert counted == [base[:4] + number.to_bytes(8, "big") for number in range(3)]
    odd = vectors(ck.CKG_GENERATE_COUNTER, 3, b"\xff" * 12)
    assert odd == [(0xE0 << 88 | number).to_bytes(12, "big") for number in range(3)]
    mixed = vectors(ck.CKG_GENERATE_COUNTER_XOR, 32)
    assert mixed == [base[:-1] + bytes((base[-1] ^ number,)) for number in range(3)]
    for generator in (ck.CKG_GENERATE, ck.CKG_GENERATE_RANDOM):
        made = vectors(generator, 32)
        assert {vector[:4] for vector in made} == {base[:4]}
        assert len({vector[4:] for vector in made}) == 3
        assert len(set(vectors(generator, 0))) == 3


def test_vectors_that_are_refused(p11: Cryptoki, session: int) -> None:
    key = key_of(p11, session, "gcm")
    process = Process(p11, session, "gcm", key)
    assert len(process.whole(Parameter("gcm"), TEXT)) == len(TEXT)
    assert process.whole(Parameter("gcm"), TEXT) == INVALID  # used before
    assert process.begin(Parameter("gcm")) == INVALID
    for generator, fixed in (
        (ck.CKG_GENERATE, 96),
        (ck.CKG_GENERATE, 97),
        (ck.CKG_GENERATE_RANDOM, 33),
        (ck.CKG_GENERATE_COUNTER, 65),
        (99, 0),
    ):
        assert process.whole(Parameter("gcm", generator=generator, fixed=fixed), TEXT) == INVALID
    first, other = b"a" * 12, b"b" * 12
    for given, expected in ((first, True), (first, True), (other, False)):
        parameter = Parameter("gcm", given, generator=ck.CKG_GENERATE_COUNTER_XOR, fixed=0)
        assert (process.whole(parameter, TEXT) != INVALID) == expected
    assert process.whole(Parameter("gcm", b"c" * 7), TEXT) == INVALID
    assert process.whole(Parameter("gcm", b"c" * 12, bytes(3)), TEXT) == INVALID
    assert len(process.whole(Parameter("gcm", b"c" * 12), TEXT)) == len(TEXT)


def test_the_order_of_calls(p11: Cryptoki, session: int) -> None:
    key, parameter = key_of(p11, session, "gcm"), Parameter("gcm", b"1" * 12)
    how = mechanism(ck.CKM_AES_GCM, parameter.structure)
    assert p11.rv("C_MessageEncryptInit", session, None, key) == "CKR_ARGUMENTS_BAD"
    p11("C_MessageEncryptInit", session, how, key)  # the parameter may stand there already
    assert p11.rv("C_MessageEncryptInit", session, how, key) == "CKR_OPERATION_ACTIVE"
    p11("C_MessageEncryptInit", session, None, 0)
    process = Process(p11, session, "gcm", key)
    assert process.next(parameter, TEXT) == "CKR_OPERATION_NOT_INITIALIZED"
    assert process.begin(parameter) == "CKR_OK"
    assert process.begin(parameter) == "CKR_OPERATION_ACTIVE"
    assert process.whole(parameter, TEXT) == "CKR_OPERATION_ACTIVE"
    assert process.end() == "CKR_OPERATION_ACTIVE"
    p11("C_SessionCancel", session, ck.CKF_MESSAGE_ENCRYPT)
    assert process.end() == "CKR_OPERATION_NOT_INITIALIZED"
    # An ordinary operation goes on beside it.
    process = Process(p11, session, "gcm", key)
    p11.transform("Encrypt", session, mechanism(ck.CKM_AES_GCM, parameters.gcm(bytes(12))), key, TEXT)
    assert process.begin(parameter) == "CKR_OK"
    p11("C_MessageEncryptInit", session, None, 0)  # ends message and process
    assert process.end() == "CKR_OPERATION_NOT_INITIALIZED"


def test_lengths(p11: Cryptoki, session: int) -> None:
    process = Process(p11, session, "gcm", key_of(p11, session, "gcm"))
    parameter = Parameter("gcm", b"1" * 12, generator=ck.CKG_GENERATE_COUNTER)
    length = ctypes.c_ulong(5)
    head = (session, parameter.structure, process.size(parameter), AAD, len(AAD), TEXT, len(TEXT))
    p11("C_EncryptMessage", *head, None, length)
    assert length.value == len(TEXT)
    assert process.whole(parameter, TEXT, room=99) == "CKR_BUFFER_TOO_SMALL"
    assert process.length == len(TEXT)
    assert parameter.vector == b"1" * 12  # no vector was spent
    assert len(process.whole(parameter, TEXT)) == 100
    assert parameter.vector == bytes(12)  # the counter's first
    assert process.begin(parameter) == "CKR_OK"
    assert process.next(parameter, TEXT, room=99) == "CKR_BUFFER_TOO_SMALL"
    assert len(process.next(parameter, TEXT, last=True)) == 100
    ccm = Process(p11, session, "ccm", key_of(p11, session, "ccm"), "Decrypt")
    short = Parameter("ccm", length=10)
    assert ccm.whole(short, TEXT) == "CKR_ENCRYPTED_DATA_LEN_RANGE"
    assert ccm.begin(short) == "CKR_OK"
    assert ccm.next(short, TEXT[:11]) == "CKR_ENCRYPTED_DATA_LEN_RANGE"


def test_arguments(p11: Cryptoki, session: int) -> None:
    key = key_of(p11, session, "gcm")
    process, parameter = Process(p11, session, "gcm", key), Parameter("gcm", b"1" * 12)
    size, room = process.size(parameter), ctypes.c_ulong(4096)
    memory = (ctypes.c_ubyte * 4096)()
    good = [session, parameter.structure, size, AAD, len(AAD), TEXT, len(TEXT), memory, room]
    for place, value, expected in (
        (1, None, INVALID),
        (2, 0, INVALID),
        (2, size - 1, INVALID),
        (3, None, "CKR_ARGUMENTS_BAD"),
        (5, None, "CKR_ARGUMENTS_BAD"),
        (6, 1 << 60, "CKR_ARGUMENTS_BAD"),
        (8, None, "CKR_ARGUMENTS_BAD"),
    ):
        assert p11.rv("C_EncryptMessage", *good[:place], value, *good[place + 1 :]) == expected
    for structure in (
        parameters.structure(None, 12, 0, 0, bytes(16), 128),
        parameters.structure(bytes(12), 12, 0, 0, None, 128),
        parameters.structure(bytes(12), 1 << 60, 0, 0, bytes(16), 128),
        parameters.structure(bytes(12), 12, 1 << 60, ck.CKG_GENERATE, bytes(16), 128),
        parameters.structure(bytes(12), 12, 0, 0, bytes(16), 127),
        parameters.structure(bytes(12), 12, 0, 0, bytes(16), 1 << 60),
    ):
        assert p11.rv("C_EncryptMessage", session, structure, size, *good[3:]) == INVALID
    assert p11.rv("C_EncryptMessage", *good) == "CKR_OK"  # the process has survived all that
    assert process.begin(Parameter("gcm", b"2" * 12)) == "CKR_OK"
    flags = (memory, room, 7)
    answer = p11.rv("C_EncryptMessageNext", session, parameter.structure, size, TEXT, len(TEXT), *flags)
    assert answer == "CKR_ARGUMENTS_BAD"
    assert process.end() == "CKR_OK"


def test_rights(p11: Cryptoki, session: int) -> None:
    key = key_of(p11, session, "gcm")
    assert p11.rv("C_MessageEncryptInit", session, mechanism(ck.CKM_AES_CBC), key) == "CKR_MECHANISM_INVALID"
    assert p11.rv("C_MessageEncryptInit", session, mechanism(0x4321), key) == "CKR_MECHANISM_INVALID"
    wrong = mechanism(ck.CKM_AES_GCM, bytes(7))
    assert p11.rv("C_MessageEncryptInit", session, wrong, key) == INVALID
    how = mechanism(ck.CKM_AES_GCM)
    assert p11.rv("C_MessageEncryptInit", session, how, 4711) == "CKR_KEY_HANDLE_INVALID"
    chacha = key_of(p11, session, "chacha20_poly1305")
    assert p11.rv("C_MessageEncryptInit", session, how, chacha) == "CKR_KEY_TYPE_INCONSISTENT"
    mute = p11.aes(session, (ck.CKA_ENCRYPT, False), (ck.CKA_DECRYPT, True))
    assert p11.rv("C_MessageEncryptInit", session, how, mute) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    # A destroyed key ends the process.
    process = Process(p11, session, "gcm", key)
    p11("C_DestroyObject", session, key)
    assert process.whole(Parameter("gcm"), TEXT) == "CKR_OPERATION_NOT_INITIALIZED"


def test_a_logout_ends_a_process_with_a_private_key(p11: Cryptoki, session: int) -> None:
    process = Process(p11, session, "gcm", key_of(p11, session, "gcm", (ck.CKA_PRIVATE, True)))
    assert process.begin(Parameter("gcm")) == "CKR_OK"
    p11("C_Logout", session)
    assert process.next(Parameter("gcm"), TEXT) == "CKR_OPERATION_NOT_INITIALIZED"
    p11.login(session)


def test_the_last_part_has_the_tag_that_was_begun(p11: Cryptoki, session: int) -> None:
    """Another length of the tag at the end is refused: nothing is left that looks like a message."""
    how, key = mechanism(ck.CKM_AES_GCM), key_of(p11, session, "gcm")
    vector, tag, room = buffer(bytes(12)), buffer(bytes(16)), buffer(bytes(32))
    for family in ("Encrypt", "Decrypt"):
        begun, ended = (
            parameters.structure(vector, 12, 0, ck.CKG_NO_GENERATE, tag, bits) for bits in (128, 96)
        )
        size = ctypes.sizeof(begun)
        p11(f"C_Message{family}Init", session, how, key)
        p11(f"C_{family}MessageBegin", session, begun, size, None, 0)
        rest = (b"text", 4, room, c_ulong(32), ck.CKF_END_OF_MESSAGE)
        assert p11.rv(f"C_{family}MessageNext", session, ended, size, *rest) == INVALID
        assert not any(bytes(tag) + bytes(room))
        answer = p11.rv(f"C_{family}MessageNext", session, begun, size, *rest)
        assert answer == "CKR_OPERATION_NOT_INITIALIZED"
        p11(f"C_Message{family}Final", session)
