"""Signatures given at the beginning, and two operations at once, from remembered decisions."""

from __future__ import annotations

from ctypes import addressof, c_ubyte, c_ulong

import pytest
from cryptoki import Cryptoki, RefusedError, mechanism
from test_remembered import HMAC, Counted, secret, sign

from ferrohsm import constants as ck

DATA = bytes(range(64))
SHA256 = mechanism(ck.CKM_SHA256)
CBC = mechanism(ck.CKM_AES_CBC, bytes(16))


def given(p11: Cryptoki, session: int, key: int, signature: bytes) -> str:
    p11("C_VerifySignatureInit", session, HMAC, key, signature, len(signature))
    return p11.rv("C_VerifySignature", session, DATA, len(DATA))


def hmac(p11: Cryptoki, session: int, key: int) -> bytes:
    return p11.transform("Sign", session, HMAC, key, DATA)


def test_a_signature_given_at_the_beginning(p11: Cryptoki, session: int) -> None:
    key = secret(p11, session)
    good = hmac(p11, session, key)
    assert given(p11, session, key, good) == "CKR_OK"
    with Counted() as counted:
        assert given(p11, session, key, good) == "CKR_OK"
        assert given(p11, session, key, good[:-1] + bytes([good[-1] ^ 1])) == "CKR_SIGNATURE_INVALID"
        assert given(p11, session, key, good[:-1]) == "CKR_SIGNATURE_LEN_RANGE"
        p11("C_VerifySignatureInit", session, HMAC, key, good, len(good))
        for part in (DATA[:10], DATA[10:]):
            p11("C_VerifySignatureUpdate", session, part, len(part))
        p11("C_VerifySignatureFinal", session)
    assert counted.calls == 10
    assert p11.rv("C_VerifySignatureFinal", session) == "CKR_OPERATION_NOT_INITIALIZED"


def test_the_two_families_do_not_mix(p11: Cryptoki, session: int) -> None:
    key = secret(p11, session)
    good = hmac(p11, session, key)
    given(p11, session, key, good)
    for _ in range(2):
        p11("C_VerifySignatureInit", session, HMAC, key, good, len(good))
        refused = "CKR_OPERATION_NOT_INITIALIZED"
        assert p11.rv("C_Verify", session, DATA, len(DATA), good, len(good)) == refused
        assert p11.rv("C_VerifyUpdate", session, DATA, len(DATA)) == refused
        assert p11.rv("C_VerifyFinal", session, good, len(good)) == refused
        p11("C_VerifySignature", session, DATA, len(DATA))
        p11("C_VerifyInit", session, HMAC, key)
        assert p11.rv("C_VerifySignature", session, DATA, len(DATA)) == refused
        assert p11.rv("C_VerifySignatureUpdate", session, DATA, len(DATA)) == refused
        assert p11.rv("C_VerifySignatureFinal", session) == refused
        p11("C_Verify", session, DATA, len(DATA), good, len(good))
    assert p11.rv("C_VerifySignatureInit", session, HMAC, key, None, 32) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_VerifySignatureInit", session, HMAC, key, good, 2**63) == "CKR_ARGUMENTS_BAD"


def test_the_callers_signature_may_go_away(p11: Cryptoki, session: int) -> None:
    key = secret(p11, session)
    good = hmac(p11, session, key)
    given(p11, session, key, good)
    memory = (c_ubyte * len(good)).from_buffer_copy(good)
    p11("C_VerifySignatureInit", session, HMAC, key, memory, len(good))
    memory[0] ^= 0xFF
    p11("C_VerifySignature", session, DATA, len(DATA))


class Both:
    """A cipher and a second operation, fed together."""

    def __init__(self, p11: Cryptoki, session: int, how: str) -> None:
        self.p11, self.session = p11, session
        self.cipher, self.reader = {
            "DigestEncrypt": ("Encrypt", "Digest"),
            "DecryptDigest": ("Decrypt", "Digest"),
            "SignEncrypt": ("Encrypt", "Sign"),
            "DecryptVerify": ("Decrypt", "Verify"),
        }[how]
        self.function = f"C_{how}Update"
        self.aes = p11.aes(session, (ck.CKA_ENCRYPT, True), (ck.CKA_DECRYPT, True))
        self.mac = secret(p11, session)
        self.plain = DATA
        self.other = p11.transform("Encrypt", session, CBC, self.aes, DATA)

    @property
    def data(self) -> bytes:
        return self.plain if self.cipher == "Encrypt" else self.other

    @property
    def expected(self) -> bytes:
        return self.other if self.cipher == "Encrypt" else self.plain

    def begin(self) -> None:
        self.p11(f"C_{self.cipher}Init", self.session, CBC, self.aes)
        if self.reader == "Digest":
            self.p11("C_DigestInit", self.session, SHA256)
        else:
            self.p11(f"C_{self.reader}Init", self.session, HMAC, self.mac)

    def update(self, part: bytes) -> bytes:
        return self.p11.whole(self.function, self.session, part, len(part))

    def end(self) -> bytes:
        rest = self.p11.whole(f"C_{self.cipher}Final", self.session)
        if self.reader == "Verify":
            tag = hmac_of(self.p11, self.session, self.mac)
            self.p11("C_VerifyFinal", self.session, tag, len(tag))
        else:
            tag = self.p11.whole(f"C_{self.reader}Final", self.session)
        assert tag == self.tag()
        return rest

    def tag(self) -> bytes:
        if self.reader == "Digest":
            self.p11("C_DigestInit", self.session, SHA256)
            return self.p11.whole("C_Digest", self.session, self.plain, len(self.plain))
        return hmac_of(self.p11, self.session, self.mac)


def hmac_of(p11: Cryptoki, session: int, key: int) -> bytes:
    return p11.transform("Sign", session, HMAC, key, DATA)


WAYS = pytest.mark.parametrize("how", ["DigestEncrypt", "DecryptDigest", "SignEncrypt", "DecryptVerify"])


@WAYS
def test_two_at_once_need_no_python(p11: Cryptoki, session: int, how: str) -> None:
    both = Both(p11, session, how)
    for _ in range(2):
        both.begin()
        made = both.update(both.data[:20]) + both.update(both.data[20:])
        assert made + both.end() == both.expected
    both.begin()
    with Counted() as counted:
        made = both.update(both.data[:7]) + both.update(both.data[7:40]) + both.update(both.data[40:])
    assert counted.calls == 3
    assert made + both.end() == both.expected


@WAYS
def test_the_length_rule_for_two(p11: Cryptoki, session: int, how: str) -> None:
    both = Both(p11, session, how)
    both.begin()
    both.update(both.data)
    both.end()
    both.begin()
    length, memory = c_ulong(0), (c_ubyte * 64)()
    with Counted() as counted:
        p11(both.function, session, both.data, 48, None, length)
        assert length.value >= 32
        wanted, length = length.value, c_ulong(3)
        assert p11.rv(both.function, session, both.data, 48, memory, length) == "CKR_BUFFER_TOO_SMALL"
        assert length.value == wanted
    assert counted.calls == 2
    made = both.update(both.data[:48]) + both.update(both.data[48:])
    assert made + both.end() == both.expected


@WAYS
def test_two_at_once_in_place(p11: Cryptoki, session: int, how: str) -> None:
    both = Both(p11, session, how)
    for _ in range(3):
        both.begin()
        memory, length = (c_ubyte * 80)(*both.data), c_ulong(80)
        p11(both.function, session, memory, len(both.data), memory, length)
        assert bytes(memory[: length.value]) + both.end() == both.expected
    assert addressof(memory)


@WAYS
def test_one_of_two_is_not_there(p11: Cryptoki, session: int, how: str) -> None:
    both = Both(p11, session, how)
    both.begin()
    both.update(both.data)
    both.end()
    refused = "CKR_OPERATION_NOT_INITIALIZED"
    length, memory = c_ulong(80), (c_ubyte * 80)()
    assert p11.rv(both.function, session, both.data, 16, memory, length) == refused
    p11(f"C_{both.cipher}Init", session, CBC, both.aes)
    assert p11.rv(both.function, session, both.data, 16, memory, length) == refused
    with pytest.raises(RefusedError, match="ACTIVE"):
        p11(f"C_{both.cipher}Init", session, CBC, both.aes)
    if both.reader == "Verify":
        tag = sign(p11, session, both.mac)
        p11("C_VerifySignatureInit", session, HMAC, both.mac, tag, len(tag))
        assert p11.rv(both.function, session, both.data, 16, memory, length) == refused
