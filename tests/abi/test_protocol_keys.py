"""The keys of TLS 1.2 and of IKE, through the C functions, against independent computations."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import mechanism_parameters as parameters
import pytest
from cryptoki import Cryptoki, RefusedError, mechanism, template

from ferrohsm import constants as ck

ONE_TOKEN = True
OPEN = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))
GENERIC = (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET)
CLIENT, SERVER = bytes(range(32)), bytes(range(100, 132))
PRE_MASTER = b"\3\3" + bytes(range(46))


def prf(secret: bytes, label: bytes, seed: bytes, length: int, name: str = "sha256") -> bytes:
    """RFC 5246, section 5, written out once more on another HMAC."""
    out, chained = b"", label + seed
    while len(out) < length:
        chained = hmac.digest(secret, chained, name)
        out += hmac.digest(secret, chained + label + seed, name)
    return out[:length]


def test_the_function_itself() -> None:
    """The vector that the authors of TLS 1.2 published for SHA-256."""
    secret, seed = "9bbe436ba940f017b17652849a71db35", "a0ba9f936cda311827a6f796ffd5198c"
    expected = (
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
        "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66"
    )
    assert prf(bytes.fromhex(secret), b"test label", bytes.fromhex(seed), 100).hex() == expected


class Bed:
    """A session to derive in."""

    def __init__(self, p11: Cryptoki, session: int) -> None:
        self.p11 = p11
        self.session = session

    def secret(self, value: bytes, *pairs: tuple[int, Any]) -> int:
        return self.p11.generic_secret(self.session, value, *(pairs or OPEN), (ck.CKA_DERIVE, True))

    def derive(self, type: int, base: int, parameter: Any, *pairs: tuple[int, Any]) -> int:
        array = template(*pairs)
        return self.p11.made("C_DeriveKey", self.session, mechanism(type, parameter), base, array, len(pairs))

    def value(self, type: int, base: int, parameter: Any, *pairs: tuple[int, Any]) -> bytes:
        return self.read(self.derive(type, base, parameter, *OPEN, *pairs))

    def read(self, handle: int, attribute: int = ck.CKA_VALUE) -> bytes:
        return self.p11.get(self.session, handle, attribute)

    def refusal(self, type: int, base: int, parameter: Any, *pairs: tuple[int, Any]) -> str:
        with pytest.raises(RefusedError) as refused:
            self.derive(type, base, parameter, *pairs)
        return refused.value.rv

    def material(self, type: int, base: int, parameter: Any, *pairs: tuple[int, Any]) -> str:
        array = template(*pairs) if pairs else None
        return self.p11.rv(
            "C_DeriveKey", self.session, mechanism(type, parameter), base, array, len(pairs), None
        )


@pytest.fixture
def bed(p11: Cryptoki, session: int) -> Bed:
    return Bed(p11, session)


@pytest.mark.parametrize(("hash", "name"), [(ck.CKM_SHA256, "sha256"), (ck.CKM_SHA384, "sha384")])
def test_master_secrets(bed: Bed, hash: int, name: str) -> None:
    base = bed.secret(PRE_MASTER)
    version = ctypes.create_string_buffer(2)
    with_version = parameters.tls_master(CLIENT, SERVER, version, hash)
    master = prf(PRE_MASTER, b"master secret", CLIENT + SERVER, 48, name)
    assert bed.value(ck.CKM_TLS12_MASTER_KEY_DERIVE, base, with_version) == master
    assert version.raw == b"\3\3"
    without = parameters.tls_master(CLIENT, SERVER, None, hash)
    assert bed.value(ck.CKM_TLS12_MASTER_KEY_DERIVE_DH, base, without) == master
    extended = parameters.structure(hash, CLIENT, 32, None)
    expected = prf(PRE_MASTER, b"extended master secret", CLIENT, 48, name)
    for type in (ck.CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE, ck.CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH):
        made = bed.derive(type, base, extended, *OPEN)
        assert bed.read(made) == expected
        allowed = bed.read(made, ck.CKA_ALLOWED_MECHANISMS)
        assert ck.CKM_TLS12_KEY_AND_MAC_DERIVE.to_bytes(8, "little") in allowed and len(allowed) == 48
    secret = bed.secret(b"of Diffie and Hellman, of another length")
    assert len(bed.value(ck.CKM_TLS12_MASTER_KEY_DERIVE_DH, secret, without)) == 48


def test_master_secrets_refused(bed: Bed) -> None:
    base, short = bed.secret(PRE_MASTER), bed.secret(b"x" * 47)
    type, dh = ck.CKM_TLS12_MASTER_KEY_DERIVE, ck.CKM_TLS12_MASTER_KEY_DERIVE_DH
    good = parameters.tls_master(CLIENT, SERVER)
    assert bed.refusal(type, short, good) == "CKR_KEY_SIZE_RANGE"
    assert bed.refusal(type, base, good, (ck.CKA_VALUE_LEN, 32)) == "CKR_TEMPLATE_INCONSISTENT"
    assert bed.refusal(type, base, good, (ck.CKA_KEY_TYPE, ck.CKK_AES)) == "CKR_TEMPLATE_INCONSISTENT"
    version = ctypes.create_string_buffer(2)
    invalid = "CKR_MECHANISM_PARAM_INVALID"
    assert bed.refusal(dh, base, parameters.tls_master(CLIENT, SERVER, version)) == invalid
    for hash in (ck.CKM_MD5, ck.CKM_TLS_PRF, ck.CKM_AES_CBC):
        assert bed.refusal(type, base, parameters.tls_master(CLIENT, SERVER, None, hash)) == invalid
    assert bed.refusal(type, base, b"short") == invalid
    assert version.raw == b"\0\0"


def test_the_keys_of_a_connection(bed: Bed) -> None:
    master = bytes(range(48))
    base = bed.secret(master)
    made, out, ivs = parameters.key_material((160, 128, 96), CLIENT, SERVER)
    aes = (ck.CKA_KEY_TYPE, ck.CKK_AES)
    assert bed.material(ck.CKM_TLS12_KEY_AND_MAC_DERIVE, base, made, aes) == "CKR_OK"
    block = prf(master, b"key expansion", SERVER + CLIENT, 2 * (20 + 16 + 12))
    handles = (out.client_mac, out.server_mac, out.client_key, out.server_key)
    assert b"".join(bed.read(handle) for handle in handles) == block[:72]
    assert ivs[0].raw[:13] == block[72:84] + b"\0" and ivs[1].raw[:13] == block[84:] + b"\0"
    types = [int.from_bytes(bed.read(handle, ck.CKA_KEY_TYPE), "little") for handle in handles]
    assert types == [ck.CKK_GENERIC_SECRET, ck.CKK_GENERIC_SECRET, ck.CKK_AES, ck.CKK_AES]
    assert bed.read(handles[0], ck.CKA_SIGN) == bed.read(handles[2], ck.CKA_ENCRYPT) == b"\1"
    made, out, ivs = parameters.key_material((0, 256, 32), CLIENT, SERVER)
    assert bed.material(ck.CKM_TLS12_KEY_SAFE_DERIVE, base, made, aes) == "CKR_OK"
    assert (out.client_mac, out.server_mac) == (0, 0) and not any(ivs[0].raw + ivs[1].raw)
    assert bed.read(out.client_key) + bed.read(out.server_key) == prf(
        master, b"key expansion", SERVER + CLIENT, 64
    )


def test_the_keys_of_a_connection_are_as_protected_as_the_master_secret(bed: Bed) -> None:
    type = ck.CKM_TLS12_KEY_AND_MAC_DERIVE
    base = bed.secret(bytes(48), (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    made, out, _ = parameters.key_material((256, 128, 0), CLIENT, SERVER)
    assert bed.material(type, base, made, (ck.CKA_SENSITIVE, False)) == "CKR_TEMPLATE_INCONSISTENT"
    assert bed.material(type, base, made, (ck.CKA_EXTRACTABLE, True)) == "CKR_TEMPLATE_INCONSISTENT"
    assert (out.client_mac, out.client_key) == (0, 0)
    assert bed.material(type, base, made, (ck.CKA_SENSITIVE, True)) == "CKR_OK"
    for handle in (out.client_mac, out.server_key):
        assert bed.read(handle, ck.CKA_SENSITIVE) == b"\1"
        assert bed.read(handle, ck.CKA_EXTRACTABLE) == b"\0"
        assert bed.p11.rv("C_GetAttributeValue", bed.session, handle, template((ck.CKA_VALUE, None)), 1) == (
            "CKR_ATTRIBUTE_SENSITIVE"
        )


def test_key_material_refused(bed: Bed) -> None:
    base, type = bed.secret(bytes(48)), ck.CKM_TLS12_KEY_AND_MAC_DERIVE
    invalid = "CKR_MECHANISM_PARAM_INVALID"
    for bits in ((7, 128, 0), (0, 0, 96), (1 << 20, 128, 0), (160, 128, 1 << 12), (1 << 63, 1 << 63, 0)):
        assert bed.material(type, base, parameters.key_material(bits, CLIENT, SERVER)[0]) == invalid
    made, out, _ = parameters.key_material((160, 128, 96), CLIENT, SERVER)
    out.client_iv = None
    assert bed.material(type, base, made) == invalid
    made.out = None
    assert bed.material(type, base, made) == invalid
    made, _, _ = parameters.key_material((160, 128, 96), CLIENT, SERVER)
    made.export = 1
    assert bed.material(type, base, made) == invalid
    good, out, _ = parameters.key_material((160, 128, 96), CLIENT, SERVER)
    assert bed.material(type, bed.secret(bytes(47)), good) == "CKR_KEY_SIZE_RANGE"
    # AES has no key of five bytes: none of the four is left behind.
    few, out, _ = parameters.key_material((160, 40, 0), CLIENT, SERVER)
    count = len(bed.p11.find(bed.session))
    assert bed.material(type, base, few, (ck.CKA_KEY_TYPE, ck.CKK_AES)) != "CKR_OK"
    assert len(bed.p11.find(bed.session)) == count
    assert (out.client_mac, out.client_key) == (0, 0)


def test_exporters(bed: Bed) -> None:
    master = bytes(range(48))
    base, label, length = bed.secret(master), b"EXPORTER-test", (ck.CKA_VALUE_LEN, 40)
    seed = CLIENT + SERVER
    for context, more in ((None, b""), (b"abc", b"\0\3abc"), (b"", b"\0\0")):
        parameter = parameters.tls_kdf(label, CLIENT, SERVER, context)
        for type in (ck.CKM_TLS_KDF, ck.CKM_TLS12_KDF):
            assert bed.value(type, base, parameter, length) == prf(master, label, seed + more, 40)
    hidden = bed.secret(master, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    made = bed.derive(ck.CKM_TLS_KDF, hidden, parameters.tls_kdf(label, CLIENT, SERVER), *OPEN, length)
    assert bed.read(made, ck.CKA_SENSITIVE) == b"\1" and bed.read(made, ck.CKA_EXTRACTABLE) == b"\0"
    assert (
        bed.refusal(ck.CKM_TLS_KDF, base, parameters.tls_kdf(label, CLIENT, SERVER))
        == "CKR_TEMPLATE_INCOMPLETE"
    )


@pytest.mark.parametrize(("role", "label"), [(1, b"server finished"), (2, b"client finished")])
@pytest.mark.parametrize("type", [ck.CKM_TLS_MAC, ck.CKM_TLS12_MAC])
def test_finished_messages(bed: Bed, type: int, role: int, label: bytes) -> None:
    master, data = bytes(range(48)), hashlib.sha256(b"handshake").digest()
    key = bed.p11.generic_secret(bed.session, master, (ck.CKA_SIGN, True), (ck.CKA_VERIFY, True))
    how = mechanism(type, parameters.structure(ck.CKM_SHA256, 12, role))
    signature = bed.p11.transform("Sign", bed.session, how, key, data)
    assert signature == prf(master, label, data, 12)
    bed.p11("C_VerifyInit", bed.session, how, key)
    bed.p11("C_Verify", bed.session, data, len(data), signature, 12)
    bed.p11("C_VerifyInit", bed.session, how, key)
    assert bed.p11.rv("C_Verify", bed.session, data, 31, signature, 12) == "CKR_SIGNATURE_INVALID"
    for length, who in ((11, 1), (12, 0), (12, 3), (256, 1)):
        wrong = mechanism(type, parameters.structure(ck.CKM_SHA256, length, who))
        assert bed.p11.rv("C_SignInit", bed.session, wrong, key) == "CKR_MECHANISM_PARAM_INVALID"


def sha256(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


NI, NR, BASE, SHARED = b"initiator's nonce", b"responder's nonce", b"b" * 32, b"g^xy" * 16


def test_initial_keys_of_ike(bed: Bed) -> None:
    type, base, shared = ck.CKM_IKE_PRF_DERIVE, bed.secret(BASE), bed.secret(SHARED)
    assert bed.value(type, shared, parameters.ike_prf(NI, NR, data_as_key=True)) == sha256(NI + NR, SHARED)
    assert bed.value(type, base, parameters.ike_prf(NI, NR)) == sha256(BASE, NI, NR)
    rekeying = parameters.ike_prf(NI, NR, new_key=shared)
    assert bed.value(type, base, rekeying, (ck.CKA_VALUE_LEN, 32)) == sha256(BASE, SHARED, NI, NR)
    made = bed.derive(type, base, parameters.ike_prf(NI, NR))
    assert int.from_bytes(bed.read(made, ck.CKA_KEY_TYPE), "little") == ck.CKK_SHA256_HMAC
    assert bed.refusal(type, base, rekeying, (ck.CKA_VALUE_LEN, 31)) == "CKR_KEY_SIZE_RANGE"
    both = parameters.ike_prf(NI, NR, data_as_key=True, new_key=shared)
    assert bed.refusal(type, base, both) == "CKR_ARGUMENTS_BAD"
    unknown = parameters.ike_prf(NI, NR, prf=ck.CKM_SHA256)
    assert bed.refusal(type, base, unknown) == "CKR_MECHANISM_PARAM_INVALID"
    assert bed.refusal(type, base, parameters.ike_prf(NI, NR, new_key=99999)) == "CKR_KEY_HANDLE_INVALID"


def test_further_keys_of_ike(bed: Bed) -> None:
    type, base, shared = ck.CKM_IKE1_PRF_DERIVE, bed.secret(BASE), bed.secret(SHARED)
    cookies = (b"cookie-i", b"cookie-r")
    first = bed.derive(
        type, base, parameters.ike1_prf(shared, None, cookies, 0), *OPEN, GENERIC, (ck.CKA_DERIVE, True)
    )
    expected = sha256(BASE, SHARED, *cookies, b"\0")
    assert bed.read(first) == expected
    second = bed.value(
        type, base, parameters.ike1_prf(shared, first, cookies, 1), GENERIC, (ck.CKA_VALUE_LEN, 20)
    )
    assert second == sha256(BASE, expected, SHARED, *cookies, b"\1")[:20]
    parameter = parameters.ike1_prf(shared, None, cookies, 0)
    assert bed.refusal(type, base, parameter) == "CKR_TEMPLATE_INCOMPLETE"
    assert bed.refusal(type, base, parameter, GENERIC, (ck.CKA_VALUE_LEN, 33)) == "CKR_KEY_SIZE_RANGE"


def extended(first: Callable[..., bytes], shared: bytes, length: int) -> bytes:
    out = block = first(b"")
    while len(out) < length:
        block = sha256(BASE, block, shared)
        out += block
    return out[:length]


def test_longer_keys_of_ike(bed: Bed) -> None:
    base, shared = bed.secret(BASE), bed.secret(SHARED)
    type, plus = ck.CKM_IKE1_EXTENDED_DERIVE, ck.CKM_IKE2_PRF_PLUS_DERIVE
    length = (ck.CKA_VALUE_LEN, 100)
    seeded = extended(lambda _: sha256(BASE, SHARED, b"data"), SHARED + b"data", 100)
    assert bed.value(type, base, parameters.ike_expansion(shared, b"data"), length) == seeded
    alone = extended(lambda _: sha256(BASE, b"\0"), b"", 100)
    assert bed.value(type, base, parameters.ike_expansion(None, b""), length) == alone
    short = bed.value(type, base, parameters.ike_expansion(None, b""), (ck.CKA_VALUE_LEN, 24))
    assert short == BASE[:24]
    block, out = b"", b""
    for step in range(1, 5):
        block = sha256(BASE, block, SHARED, NI, bytes((step,)))
        out += block
    assert bed.value(plus, base, parameters.ike_expansion(shared, NI), length) == out[:100]
    for mechanism_type in (type, plus):
        parameter = parameters.ike_expansion(None, NI)
        assert bed.refusal(mechanism_type, base, parameter) == "CKR_TEMPLATE_INCOMPLETE"
        too_long = (ck.CKA_VALUE_LEN, 255 * 32 + 1)
        assert bed.refusal(mechanism_type, base, parameter, too_long) == "CKR_KEY_SIZE_RANGE"


def test_the_base_key_cut_off_is_as_protected_as_the_whole(bed: Bed) -> None:
    type, length = ck.CKM_IKE1_EXTENDED_DERIVE, (ck.CKA_VALUE_LEN, len(BASE))
    base = bed.secret(BASE, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    cut = parameters.ike_expansion(None, b"")
    made = bed.derive(type, base, cut, *OPEN, length)
    assert bed.read(made, ck.CKA_SENSITIVE) == b"\1" and bed.read(made, ck.CKA_EXTRACTABLE) == b"\0"
    with pytest.raises(RefusedError) as refused:
        bed.read(made)
    assert refused.value.rv == "CKR_ATTRIBUTE_SENSITIVE"
    assert bed.refusal(type, base, cut, (ck.CKA_VALUE_LEN, 13)) == "CKR_KEY_SIZE_RANGE"
    mixed = bed.value(type, base, parameters.ike_expansion(bed.secret(SHARED), b""), length)
    assert mixed == sha256(BASE, SHARED)[: len(BASE)]


def ssh(k: bytes, h: bytes, letter: bytes, session: bytes, length: int, name: str = "sha256") -> bytes:
    """RFC 4253, section 7.2."""
    out = hashlib.new(name, k + h + letter + session).digest()
    while len(out) < length:
        out += hashlib.new(name, k + h + out).digest()
    return out[:length]


H, SESSION = bytes(range(32)), bytes(range(50, 82))
SSH = ck.CKM_KRYOPTIC_SSHKDF_DERIVE
AS_DATA = ((ck.CKA_CLASS, ck.CKO_DATA),)


def test_keys_of_ssh(bed: Bed) -> None:
    """A and B are data objects, C to F secret keys, of any type that has such a length."""
    base = bed.secret(BASE)
    for letter in (b"A", b"B", b"C", b"D", b"E", b"F"):
        parameter = parameters.ssh_kdf(ck.CKM_SHA256, letter, H, SESSION)
        for length in (1, 16, 32, 33, 200):
            expected = ssh(BASE, H, letter, SESSION, length)
            template = (*AS_DATA, (ck.CKA_VALUE_LEN, length))
            if letter in b"AB":
                made = bed.derive(SSH, base, parameter, *template)
                assert bed.read(made) == expected
                assert int.from_bytes(bed.read(made, ck.CKA_CLASS), "little") == ck.CKO_DATA
                key = (ck.CKA_CLASS, ck.CKO_SECRET_KEY), GENERIC, (ck.CKA_VALUE_LEN, length)
                assert bed.refusal(SSH, base, parameter, *key) == "CKR_TEMPLATE_INCONSISTENT"
            else:
                assert bed.value(SSH, base, parameter, (ck.CKA_VALUE_LEN, length)) == expected
                assert bed.refusal(SSH, base, parameter, *template) == "CKR_TEMPLATE_INCONSISTENT"
    parameter = parameters.ssh_kdf(ck.CKM_SHA256, b"C", H, SESSION)
    aes = (ck.CKA_KEY_TYPE, ck.CKK_AES), (ck.CKA_VALUE_LEN, 32)
    assert bed.value(SSH, base, parameter, *aes) == ssh(BASE, H, b"C", SESSION, 32)
    chacha = (ck.CKA_KEY_TYPE, ck.CKK_CHACHA20)
    assert bed.value(SSH, base, parameter, chacha) == ssh(BASE, H, b"C", SESSION, 32)


def test_what_ssh_cannot_derive(bed: Bed) -> None:
    base, length = bed.secret(BASE), (ck.CKA_VALUE_LEN, 16)
    invalid = "CKR_MECHANISM_PARAM_INVALID"
    for hash, letter, h, session in (
        (ck.CKM_SHA256, b"@", H, SESSION),
        (ck.CKM_SHA256, b"G", H, SESSION),
        (ck.CKM_SHA256, b"c", H, SESSION),
        (ck.CKM_SHA256, b"\0", H, SESSION),
        (ck.CKM_SHA256_HMAC, b"C", H, SESSION),
        (ck.CKM_MD5, b"C", H[:16], SESSION),
        (0, b"C", H, SESSION),
        (ck.CKM_SHA256, b"C", H, b""),
        (ck.CKM_SHA256, b"C", b"", SESSION),
        (ck.CKM_SHA512, b"C", H, SESSION),
        # A vector with this parameter would be the value of another key.
        (ck.CKM_SHA256, b"A", H[:31], b"C" + SESSION),
        (ck.CKM_SHA256, b"A", H + b"C", SESSION),
    ):
        template = (*AS_DATA, length) if letter == b"A" else (length,)
        parameter = parameters.ssh_kdf(hash, letter, h, session)
        assert bed.refusal(SSH, base, parameter, *template) == invalid, (hash, letter, h, session)
    vector, key = (parameters.ssh_kdf(ck.CKM_SHA256, letter, H, SESSION) for letter in (b"A", b"C"))
    assert bed.refusal(SSH, base, key) == "CKR_TEMPLATE_INCOMPLETE"
    assert bed.refusal(SSH, base, vector, *AS_DATA) == "CKR_TEMPLATE_INCOMPLETE"
    for wrong in (0, (1 << 16) + 1, (1 << 64) - 1):
        size = (ck.CKA_VALUE_LEN, wrong)
        assert bed.refusal(SSH, base, key, size) == "CKR_ATTRIBUTE_VALUE_INVALID"
        assert bed.refusal(SSH, base, vector, *AS_DATA, size) == "CKR_ATTRIBUTE_VALUE_INVALID"
    assert (
        bed.refusal(SSH, base, vector, *AS_DATA, length, (ck.CKA_VALUE, b"x")) == "CKR_TEMPLATE_INCONSISTENT"
    )
    aes = bed.p11.aes(bed.session, (ck.CKA_DERIVE, True))
    assert bed.refusal(SSH, aes, key, length) == "CKR_KEY_TYPE_INCONSISTENT"
    unfit = bed.p11.generic_secret(bed.session, BASE, *OPEN, (ck.CKA_DERIVE, False))
    assert bed.refusal(SSH, unfit, key, length) == "CKR_KEY_FUNCTION_NOT_PERMITTED"


def test_keys_of_ssh_are_what_the_template_says(bed: Bed) -> None:
    base = bed.secret(BASE, (ck.CKA_SENSITIVE, True), (ck.CKA_EXTRACTABLE, False))
    key = parameters.ssh_kdf(ck.CKM_SHA256, b"E", H, SESSION)
    made = bed.derive(SSH, base, key, (ck.CKA_VALUE_LEN, 32), (ck.CKA_SENSITIVE, True))
    with pytest.raises(RefusedError) as refused:
        bed.read(made)
    assert refused.value.rv == "CKR_ATTRIBUTE_SENSITIVE"
    # The base key was brought in: it has not always been secret.
    assert [bed.read(made, of) for of in (ck.CKA_ALWAYS_SENSITIVE, ck.CKA_LOCAL)] == [b"\0", b"\0"]
    opened = bed.derive(SSH, base, key, *OPEN, (ck.CKA_VALUE_LEN, 32))
    assert bed.read(opened) == ssh(BASE, H, b"E", SESSION, 32)
    vector = parameters.ssh_kdf(ck.CKM_SHA256, b"B", H, SESSION)
    assert bed.read(bed.derive(SSH, base, vector, *AS_DATA, (ck.CKA_VALUE_LEN, 16))) == ssh(
        BASE, H, b"B", SESSION, 16
    )
