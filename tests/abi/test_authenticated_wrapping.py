"""C_WrapKeyAuthenticated, C_UnwrapKeyAuthenticated, and C_WrapKey with the structures of version 3.2."""

from __future__ import annotations

import ctypes
from ctypes import c_ulong
from typing import Any

import mechanism_parameters as parameters
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptoki import Cryptoki, RefusedError, mechanism, template

from ferrohsm import constants as ck

ONE_TOKEN = True
AAD = b"associated data"
VALUE = bytes(range(100, 132))
KEY = bytes(range(32))
ENGINES: dict[str, Any] = {"gcm": AESGCM, "ccm": AESCCM}
TYPES = {"gcm": ck.CKM_AES_GCM, "ccm": ck.CKM_AES_CCM}
INVALID = "CKR_MECHANISM_PARAM_INVALID"


class Parameter:
    """CK_GCM_MESSAGE_PARAMS or CK_CCM_MESSAGE_PARAMS, or a …_WRAP_PARAMS with `associated`."""

    def __init__(
        self,
        kind: str,
        vector: bytes = b"v" * 12,
        tag: bytes = bytes(16),
        generator: int = ck.CKG_NO_GENERATE,
        fixed: int = 0,
        associated: bytes | None = None,
        bits: int | None = None,
    ) -> None:
        self.iv = ctypes.create_string_buffer(vector, len(vector)) if vector else None
        self.mac = ctypes.create_string_buffer(tag, len(tag))
        head: tuple[Any, ...] = (self.iv, len(vector), fixed, generator)
        size = 8 * len(tag) if bits is None else bits
        if associated is not None:
            rest: tuple[Any, ...] = (associated, len(associated), size if kind == "gcm" else len(tag))
        else:
            rest = (self.mac, size if kind == "gcm" else len(tag))
        self.structure = parameters.structure(*(() if kind == "gcm" else (0,)), *head, *rest)
        self.mechanism = mechanism(TYPES[kind], self.structure)

    @property
    def vector(self) -> bytes:
        assert self.iv is not None
        return self.iv.raw

    @property
    def tag(self) -> bytes:
        return self.mac.raw


def wrapping_key(p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> int:
    head = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES), (ck.CKA_VALUE, KEY))
    return p11.create(session, *head, (ck.CKA_WRAP, True), (ck.CKA_UNWRAP, True), *pairs)


def target_key(p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> int:
    return p11.generic_secret(session, VALUE, (ck.CKA_EXTRACTABLE, True), *pairs)


NEW = [
    (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
    (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET),
    (ck.CKA_EXTRACTABLE, True),
    (ck.CKA_SENSITIVE, False),
]


def unwrap(
    p11: Cryptoki,
    session: int,
    how: Any,
    key: int,
    wrapped: bytes,
    aad: bytes = AAD,
    pairs: list[tuple[int, Any]] = NEW,
) -> int | str:
    array = template(*pairs)
    arguments = (session, how, key, wrapped, len(wrapped), array, len(pairs), aad, len(aad))
    try:
        return p11.made("C_UnwrapKeyAuthenticated", *arguments)
    except RefusedError as refused:
        return refused.rv


def wrap(p11: Cryptoki, session: int, how: Any, key: int, target: int, aad: bytes = AAD) -> bytes | str:
    try:
        return p11.whole("C_WrapKeyAuthenticated", session, how, key, target, aad, len(aad), room=1 << 17)
    except RefusedError as refused:
        return refused.rv


@pytest.mark.parametrize("kind", TYPES)
def test_secret_keys(p11: Cryptoki, session: int, kind: str) -> None:
    key, target = wrapping_key(p11, session), target_key(p11, session)
    for aad in (AAD, b""):
        parameter = Parameter(kind)
        wrapped = wrap(p11, session, parameter.mechanism, key, target, aad)
        assert wrapped + parameter.tag == ENGINES[kind](KEY).encrypt(b"v" * 12, VALUE, aad)
        made = unwrap(p11, session, parameter.mechanism, key, wrapped, aad)
        assert p11.get(session, made, ck.CKA_VALUE) == VALUE
        for attribute in (ck.CKA_LOCAL, ck.CKA_ALWAYS_SENSITIVE, ck.CKA_NEVER_EXTRACTABLE):
            assert p11.get(session, made, attribute) == b"\0"


@pytest.mark.parametrize("kind", TYPES)
def test_private_keys(p11: Cryptoki, session: int, kind: str) -> None:
    key = wrapping_key(p11, session)
    public, private = p11.ec(session, (ck.CKA_EXTRACTABLE, True))
    parameter = Parameter(kind, generator=ck.CKG_GENERATE)
    wrapped = wrap(p11, session, parameter.mechanism, key, private)
    pairs = [
        (ck.CKA_CLASS, ck.CKO_PRIVATE_KEY),
        (ck.CKA_KEY_TYPE, ck.CKK_EC),
        (ck.CKA_SIGN, True),
    ]
    made = unwrap(p11, session, parameter.mechanism, key, wrapped, AAD, pairs)
    signature = p11.transform("Sign", session, mechanism(ck.CKM_ECDSA_SHA256), made, b"data")
    p11("C_VerifyInit", session, mechanism(ck.CKM_ECDSA_SHA256), public)
    p11("C_Verify", session, b"data", 4, signature, len(signature))
    wrong = unwrap(p11, session, parameter.mechanism, key, wrapped, AAD)  # a secret key, by the template
    assert isinstance(wrong, int) or wrong == "CKR_WRAPPED_KEY_LEN_RANGE"


@pytest.mark.parametrize("kind", TYPES)
def test_generated_vectors(p11: Cryptoki, session: int, kind: str) -> None:
    key, target = wrapping_key(p11, session), target_key(p11, session)
    seen = set()
    for generator in (ck.CKG_GENERATE, ck.CKG_GENERATE_RANDOM):
        for fixed in (0, 32):
            parameter = Parameter(kind, generator=generator, fixed=fixed)
            wrapped = wrap(p11, session, parameter.mechanism, key, target)
            assert parameter.vector[: fixed // 8] == b"v" * (fixed // 8)
            sealed = ENGINES[kind](KEY).encrypt(parameter.vector, VALUE, AAD)
            assert wrapped + parameter.tag == sealed
            assert isinstance(unwrap(p11, session, parameter.mechanism, key, wrapped), int)
            seen.add(parameter.vector)
    assert len(seen) == 4
    for generator in (ck.CKG_GENERATE_COUNTER, ck.CKG_GENERATE_COUNTER_XOR, 99):
        # Each call is alone: a counter would give the same vector every time.
        how = Parameter(kind, generator=generator).mechanism
        assert wrap(p11, session, how, key, target) == INVALID


@pytest.mark.parametrize("kind", TYPES)
def test_every_byte_counts(p11: Cryptoki, session: int, kind: str) -> None:
    key, target = wrapping_key(p11, session), target_key(p11, session)
    parameter = Parameter(kind)
    wrapped = wrap(p11, session, parameter.mechanism, key, target)
    assert isinstance(wrapped, bytes)
    good = parameter.tag
    for place in range(len(wrapped)):
        wrong = wrapped[:place] + bytes((wrapped[place] ^ 1,)) + wrapped[place + 1 :]
        how = Parameter(kind, tag=good).mechanism
        assert unwrap(p11, session, how, key, wrong) == "CKR_WRAPPED_KEY_INVALID"
    for place in range(len(good)):
        tag = good[:place] + bytes((good[place] ^ 1,)) + good[place + 1 :]
        how = Parameter(kind, tag=tag).mechanism
        assert unwrap(p11, session, how, key, wrapped) == "CKR_WRAPPED_KEY_INVALID"
    how = Parameter(kind, tag=good).mechanism
    assert unwrap(p11, session, how, key, wrapped, AAD + b"x") == "CKR_WRAPPED_KEY_INVALID"
    assert unwrap(p11, session, how, key, wrapped[:-1]) == "CKR_WRAPPED_KEY_INVALID"
    assert isinstance(unwrap(p11, session, how, key, wrapped), int)


def test_lengths(p11: Cryptoki, session: int) -> None:
    key, target = wrapping_key(p11, session), target_key(p11, session)
    parameter, length = Parameter("gcm", generator=ck.CKG_GENERATE), c_ulong(0)
    head = (session, parameter.mechanism, key, target, AAD, len(AAD))
    p11("C_WrapKeyAuthenticated", *head, None, length)
    assert length.value == 32
    length.value = 31
    assert p11.rv("C_WrapKeyAuthenticated", *head, bytes(32), length) == "CKR_BUFFER_TOO_SMALL"
    assert (length.value, parameter.vector, parameter.tag) == (32, b"v" * 12, bytes(16))
    wrapped = wrap(p11, session, parameter.mechanism, key, target)
    how = parameter.mechanism
    short = [*NEW, (ck.CKA_VALUE_LEN, 16)]
    assert unwrap(p11, session, how, key, wrapped, AAD, short) == "CKR_WRAPPED_KEY_LEN_RANGE"
    long = p11.generic_secret(session, bytes(60000), (ck.CKA_EXTRACTABLE, True))
    narrow = Parameter("ccm", vector=b"v" * 13).mechanism  # room for 65,535 bytes
    assert len(wrap(p11, session, narrow, key, long)) == 60000
    longer = p11.generic_secret(session, bytes(65536), (ck.CKA_EXTRACTABLE, True))
    assert wrap(p11, session, narrow, key, longer) == INVALID


def test_parameters_that_are_refused(p11: Cryptoki, session: int) -> None:
    key, target = wrapping_key(p11, session), target_key(p11, session)
    for how in (
        mechanism(ck.CKM_AES_GCM),
        mechanism(ck.CKM_AES_GCM, parameters.gcm(bytes(12))),  # not that of a message
        mechanism(ck.CKM_AES_GCM, bytes(7)),
        Parameter("gcm", bits=127).mechanism,
        Parameter("gcm", tag=bytes(3)).mechanism,
        Parameter("gcm", vector=b"").mechanism,
        Parameter("ccm", vector=bytes(6)).mechanism,
        Parameter("ccm", tag=bytes(5)).mechanism,
        mechanism(ck.CKM_AES_GCM, parameters.structure(bytes(12), 12, 0, 0, None, 128)),
        mechanism(ck.CKM_AES_GCM, parameters.structure(None, 12, 0, 0, bytes(16), 128)),
        mechanism(ck.CKM_AES_GCM, parameters.structure(bytes(12), 1 << 60, 0, 0, bytes(16), 128)),
        mechanism(ck.CKM_AES_GCM, parameters.structure(bytes(12), 12, 0, 0, bytes(16), 1 << 60)),
    ):
        assert wrap(p11, session, how, key, target) == INVALID
        assert unwrap(p11, session, how, key, VALUE) == INVALID
    fixed = Parameter("gcm", generator=ck.CKG_GENERATE, fixed=97).mechanism
    assert wrap(p11, session, fixed, key, target) == INVALID
    assert unwrap(p11, session, fixed, key, VALUE) == "CKR_WRAPPED_KEY_INVALID"  # ignored there
    for type_ in (ck.CKM_AES_CBC_PAD, ck.CKM_AES_KEY_WRAP, 0x4321):
        assert wrap(p11, session, mechanism(type_), key, target) == "CKR_MECHANISM_INVALID"
        assert unwrap(p11, session, mechanism(type_), key, VALUE) == "CKR_MECHANISM_INVALID"
    chacha = mechanism(ck.CKM_CHACHA20_POLY1305, parameters.structure(bytes(12), 96, bytes(16)))
    assert wrap(p11, session, chacha, key, target) == "CKR_MECHANISM_INVALID"


def test_rights_and_templates(p11: Cryptoki, session: int) -> None:
    how, wrong = Parameter("gcm").mechanism, 4711
    key, target = wrapping_key(p11, session), target_key(p11, session)
    assert wrap(p11, session, how, wrong, target) == "CKR_WRAPPING_KEY_HANDLE_INVALID"
    assert wrap(p11, session, how, key, wrong) == "CKR_KEY_HANDLE_INVALID"
    assert unwrap(p11, session, how, wrong, VALUE) == "CKR_UNWRAPPING_KEY_HANDLE_INVALID"
    assert wrap(p11, session, how, target, target) == "CKR_WRAPPING_KEY_TYPE_INCONSISTENT"
    assert unwrap(p11, session, how, target, VALUE) == "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT"
    mute = p11.aes(session, (ck.CKA_WRAP, False), (ck.CKA_UNWRAP, False))
    assert wrap(p11, session, how, mute, target) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    assert unwrap(p11, session, how, mute, VALUE) == "CKR_KEY_FUNCTION_NOT_PERMITTED"
    kept = p11.generic_secret(session, VALUE, (ck.CKA_EXTRACTABLE, False))
    assert wrap(p11, session, how, key, kept) == "CKR_KEY_UNEXTRACTABLE"
    public, _ = p11.ec(session)
    assert wrap(p11, session, how, key, public) == "CKR_KEY_NOT_WRAPPABLE"
    trusting = target_key(p11, session, (ck.CKA_WRAP_WITH_TRUSTED, True))
    assert wrap(p11, session, how, key, trusting) == "CKR_KEY_NOT_WRAPPABLE"
    only = wrapping_key(
        p11,
        session,
        (ck.CKA_WRAP_TEMPLATE, [(ck.CKA_LABEL, b"wrap me")]),
        (ck.CKA_UNWRAP_TEMPLATE, [(ck.CKA_LABEL, b"unwrapped"), (ck.CKA_ENCRYPT, True)]),
    )
    assert wrap(p11, session, how, only, target) == "CKR_KEY_HANDLE_INVALID"
    parameter = Parameter("gcm")
    labelled = target_key(p11, session, (ck.CKA_LABEL, b"wrap me"))
    wrapped = wrap(p11, session, parameter.mechanism, only, labelled)
    made = unwrap(p11, session, parameter.mechanism, only, wrapped)
    assert p11.get(session, made, ck.CKA_LABEL) == b"unwrapped"
    assert p11.get(session, made, ck.CKA_ENCRYPT) == b"\1"
    other = [*NEW, (ck.CKA_LABEL, b"another")]
    answer = unwrap(p11, session, parameter.mechanism, only, wrapped, AAD, other)
    assert answer == "CKR_TEMPLATE_INCONSISTENT"
    public = [(ck.CKA_CLASS, ck.CKO_PUBLIC_KEY), (ck.CKA_KEY_TYPE, ck.CKK_EC)]
    answer = unwrap(p11, session, parameter.mechanism, key, wrapped, AAD, public)
    assert answer == "CKR_TEMPLATE_INCONSISTENT"


@pytest.mark.parametrize("kind", TYPES)
def test_the_structures_of_wrap_key(p11: Cryptoki, session: int, kind: str) -> None:
    """CK_GCM_WRAP_PARAMS and CK_CCM_WRAP_PARAMS: the tag stands behind the wrapped key."""
    key, target = wrapping_key(p11, session), target_key(p11, session)
    for generator in (ck.CKG_NO_GENERATE, ck.CKG_GENERATE):
        parameter = Parameter(kind, generator=generator, associated=AAD)
        how, length = parameter.mechanism, c_ulong(0)
        p11("C_WrapKey", session, how, key, target, None, length)
        assert length.value == 48
        length.value = 47
        assert p11.rv("C_WrapKey", session, how, key, target, bytes(48), length) == "CKR_BUFFER_TOO_SMALL"
        wrapped = p11.whole("C_WrapKey", session, how, key, target)
        assert (parameter.vector == b"v" * 12) == (generator == ck.CKG_NO_GENERATE)
        assert wrapped == ENGINES[kind](KEY).encrypt(parameter.vector, VALUE, AAD)
        arguments = (session, how, key, wrapped, len(wrapped), template(*NEW), len(NEW))
        assert p11.get(session, p11.made("C_UnwrapKey", *arguments), ck.CKA_VALUE) == VALUE
        wrong = wrapped[:-1] + bytes((wrapped[-1] ^ 1,))
        arguments = (session, how, key, wrong, len(wrong), template(*NEW), len(NEW), c_ulong(0))
        assert p11.rv("C_UnwrapKey", *arguments) == "CKR_WRAPPED_KEY_INVALID"
        arguments = (session, how, key, wrong, 15, template(*NEW), len(NEW), c_ulong(0))
        assert p11.rv("C_UnwrapKey", *arguments) == "CKR_WRAPPED_KEY_LEN_RANGE"
    # What one function wraps the other one unwraps.
    apart = Parameter(kind, vector=parameter.vector, tag=wrapped[-16:])
    assert isinstance(unwrap(p11, session, apart.mechanism, key, wrapped[:-16]), int)
