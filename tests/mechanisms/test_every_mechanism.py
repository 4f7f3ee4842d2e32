"""Every row of the mechanism table does what its flags say: through the module, function by function."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import mechanism_parameters as parameters
import pytest
from bench import Bench
from cryptoki import CkMechanism, mechanism, template
from engine_support import POSTQUANTUM, POSTQUANTUM_ONLY
from vector_files import records, root

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanisms import HASHES, ROWS, Row

CURVES = {
    ck.CKK_EC: bytes.fromhex("06082a8648ce3d030107"),
    ck.CKK_EC_EDWARDS: bytes.fromhex("06032b6570"),
    ck.CKK_EC_MONTGOMERY: bytes.fromhex("06032b656e"),
}
PARAMETER_SETS = {
    ck.CKK_ML_DSA: ck.CKP_ML_DSA_65,
    ck.CKK_ML_KEM: ck.CKP_ML_KEM_768,
    ck.CKK_SLH_DSA: ck.CKP_SLH_DSA_SHA2_128F,
}
# What this build does not have: what the library cannot, and kernels can with a newer libcrypto.
MISSING = frozenset() if POSTQUANTUM else POSTQUANTUM_ONLY
_GROUP = list(records(root() / "asymmetric" / "DH" / "RFC5114.txt", "COUNT"))[2]
PRIME, SUBPRIME, BASE = (
    (attribute, bytes.fromhex(_GROUP[name]))
    for attribute, name in ((ck.CKA_PRIME, "P"), (ck.CKA_SUBPRIME, "Q"), (ck.CKA_BASE, "G"))
)
GROUPS = {
    ck.CKK_DSA: (PRIME, SUBPRIME, BASE),
    ck.CKK_DH: (PRIME, BASE),
    ck.CKK_X9_42_DH: (PRIME, BASE, SUBPRIME),
}
DATA = bytes(range(64))
KeyPair = tuple[int, int]


class Workshop:
    """A session, with a key of every type, made when it is first asked for."""

    def __init__(self, bench: Bench) -> None:
        self.p11 = bench.p11
        self.session = bench.user()
        self.keys: dict[int, KeyPair] = {}

    def key(self, key_type: int) -> KeyPair:
        """Return the key that does the public and the one that does the private half of things."""
        if key_type not in self.keys:
            self.keys[key_type] = self._made(key_type)
        return self.keys[key_type]

    def _made(self, key_type: int) -> KeyPair:
        public, private = self._templates(key_type)
        row = generator(key_type)
        if row.functions & Function.GENERATE_KEY_PAIR:
            return self.p11.key_pair(self.session, row.type, public, private)
        handle = self.secret(row.type, *private)
        return handle, handle

    def secret(self, type: int, *pairs: tuple[int, Any], parameter: Any = None) -> int:
        return self.p11.made(
            "C_GenerateKey", self.session, mechanism(type, parameter), template(*pairs), len(pairs)
        )

    @staticmethod
    def _templates(key_type: int) -> tuple[list[tuple[int, Any]], list[tuple[int, Any]]]:
        uses_public = [(ck.CKA_ENCRYPT, True), (ck.CKA_VERIFY, True), (ck.CKA_WRAP, True)]
        uses_private = [(ck.CKA_DECRYPT, True), (ck.CKA_SIGN, True), (ck.CKA_UNWRAP, True)]
        open_ = [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)]
        if key_type == ck.CKK_RSA:
            recover = (ck.CKA_VERIFY_RECOVER, True), (ck.CKA_SIGN_RECOVER, True)
            return (
                [(ck.CKA_MODULUS_BITS, 2048), *uses_public, recover[0]],
                [*uses_private, *open_, recover[1]],
            )
        if key_type in PARAMETER_SETS:
            pair = (ck.CKA_VERIFY, True), (ck.CKA_SIGN, True)
            if key_type == ck.CKK_ML_KEM:
                pair = (ck.CKA_ENCAPSULATE, True), (ck.CKA_DECAPSULATE, True)
            return [(ck.CKA_PARAMETER_SET, PARAMETER_SETS[key_type]), pair[0]], [*open_, pair[1]]
        if key_type in GROUPS:
            uses_pair = ((ck.CKA_VERIFY, True),), ((ck.CKA_SIGN, True),)
            if key_type != ck.CKK_DSA:
                uses_pair = (), ((ck.CKA_DERIVE, True),)
            return [*GROUPS[key_type], *uses_pair[0]], [*open_, *uses_pair[1]]
        if key_type in CURVES:
            uses = [(ck.CKA_DERIVE, True), (ck.CKA_UNWRAP, True)]
            return [(ck.CKA_EC_PARAMS, CURVES[key_type]), (ck.CKA_WRAP, True)], [*open_, *uses]
        length = 64 if key_type == ck.CKK_AES_XTS else 32
        sized = [] if key_type in (ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3) else [(ck.CKA_VALUE_LEN, length)]
        if key_type == ck.CKK_AES:
            sized = [(ck.CKA_VALUE_LEN, 16)]  # what AES-XCBC-MAC takes
        return [], [*sized, *uses_public, *uses_private, *open_, (ck.CKA_DERIVE, True)]

    def master(self) -> int:
        """Return a secret of TLS: 48 bytes, the first two a version."""
        uses = [OPEN, (ck.CKA_EXTRACTABLE, True), (ck.CKA_DERIVE, True)]
        return self.p11.generic_secret(self.session, b"\3\3" + DATA[:46], *uses)

    def target(self) -> int:
        """Return a secret key to wrap."""
        return self.p11.generic_secret(self.session, DATA[:32], (ck.CKA_EXTRACTABLE, True), OPEN)

    def value(self, handle: int) -> bytes:
        return self.p11.get(self.session, handle, ck.CKA_VALUE)


OPEN = (ck.CKA_SENSITIVE, False)


def generator(key_type: int) -> Row:
    """Return the row whose mechanism makes keys of this type."""
    return next(
        row
        for row in ROWS.values()
        if row.produces == key_type
        and row.object_class in (None, ck.CKO_OTP_KEY)
        and row.functions & (Function.GENERATE | Function.GENERATE_KEY_PAIR)
    )


@pytest.fixture(scope="module")
def workshop(bench: Bench) -> Workshop:
    return Workshop(bench)


def digest_of(row: Row) -> str:
    return row.hash or "sha256"


def parameter_of(workshop: Workshop, row: Row, length: int) -> Any:
    """Return a good parameter for a mechanism that works on `length` bytes."""
    kind = row.parameter
    if kind == "ulong":
        special = {ck.CKM_EXTRACT_KEY_FROM_KEY: 3, ck.CKM_SHA512_T: 224, ck.CKM_SHA512_T_KEY_DERIVATION: 256}
        return structure_of(special.get(row.type, 4))
    if kind == "rsa_pss":
        hash = HASHES[digest_of(row)]
        return parameters.structure(hash.type, hash.mgf, hash.length)
    if kind == "ecdh1":
        point = workshop.p11.get(workshop.session, workshop.key(row.key_types[0])[0], ck.CKA_EC_POINT)
        return parameters.structure(ck.CKD_NULL, 0, None, len(point), point)
    if kind in ("bytes", "x9_42_dh"):
        peer = workshop.p11.get(workshop.session, workshop.key(row.key_types[0])[0], ck.CKA_VALUE)
        return peer if kind == "bytes" else parameters.structure(ck.CKD_NULL, 0, None, len(peer), peer)
    if kind == "ike1_prf":
        shared = workshop.key(ck.CKK_GENERIC_SECRET)[0]
        return parameters.ike1_prf(shared, None, (DATA[:8], DATA[8:16]), 0)
    if kind == "key":
        return structure_of(workshop.key(ck.CKK_GENERIC_SECRET)[0])
    return PARAMETERS[kind](length)


def structure_of(number: int) -> Any:
    return parameters.structure(number)


ITERATION = ck.CK_SP800_108_ITERATION_VARIABLE
PARAMETERS: dict[str, Callable[[int], Any]] = {
    "none": lambda length: None,
    "iv16": lambda length: bytes(range(16)),
    "iv8": lambda length: None,
    "iv4": lambda length: None,
    "iv64": lambda length: bytes(range(8)),
    "ctr": lambda length: (128).to_bytes(8, "little") + bytes(16),
    "gcm": lambda length: parameters.gcm(bytes(12), b"aad"),
    "ccm": lambda length: parameters.ccm(length, bytes(12), b"aad"),
    "rsa_oaep": lambda length: parameters.oaep(),
    "rsa_aes_key_wrap": lambda length: parameters.structure(256, parameters.oaep()),
    "eddsa": lambda length: None,
    "string": lambda length: parameters.string(DATA),
    "cbc_encrypt_data": lambda length: parameters.cbc_data(bytes(16), DATA),
    "des_cbc_encrypt_data": lambda length: parameters.cbc_data(bytes(8), DATA),
    "chacha20": lambda length: parameters.structure(bytes(4), 32, bytes(12), 96),
    "chacha20_poly1305": lambda length: parameters.structure(bytes(12), 96, b"aad", 3),
    "hkdf": lambda length: parameters.hkdf(ck.CKM_SHA256, salt=b"salt", info=b"info"),
    "sp800_108": lambda length: None,
    "sp800_108_feedback": lambda length: parameters.sp800_108_feedback(
        ck.CKM_SHA256_HMAC, b"", parameters.piece(ITERATION, None)
    ),
    "ecdh_aes_key_wrap": lambda length: parameters.structure(256, ck.CKD_SHA256_KDF, 4, b"info"),
    "sign_context": lambda length: parameters.structure(ck.CKH_HEDGE_REQUIRED, b"context", 7),
    "hash_sign_context": lambda length: parameters.structure(
        ck.CKH_HEDGE_PREFERRED, b"context", 7, ck.CKM_SHA256
    ),
    "tls12_master": lambda length: parameters.tls_master(DATA[:32], DATA[32:]),
    "tls12_extended_master": lambda length: parameters.structure(ck.CKM_SHA256, DATA[:32], 32, None),
    "tls_kdf": lambda length: parameters.tls_kdf(b"EXPORTER", DATA[:32], DATA[32:], b"context"),
    "tls_mac": lambda length: parameters.structure(ck.CKM_SHA256, 12, 1),
    "ike_prf": lambda length: parameters.ike_prf(DATA[:16], DATA[16:32]),
    "ike1_extended": lambda length: parameters.ike_expansion(None, DATA),
    "ike2_prf_plus": lambda length: parameters.ike_expansion(None, DATA),
    "ssh_kdf": lambda length: parameters.ssh_kdf(ck.CKM_SHA256, b"C", DATA[:32], DATA[32:]),
    "otp": lambda length: parameters.otp_parameters((ck.CK_OTP_COUNTER, bytes(8))),
    "pbe": lambda length: parameters.pbe(b"\0p\0w\0\0", b"salt", 2),
    "pbkd2": lambda length: parameters.pbkd2(b"password", b"salt", 2, ck.CKP_PKCS5_PBKD2_HMAC_SHA256),
}


def how(workshop: Workshop, row: Row, length: int = len(DATA)) -> CkMechanism:
    if row.parameter == "sp800_108":
        format = parameters.counter() if row.type == ck.CKM_SP800_108_COUNTER_KDF else None
        made = parameters.sp800_108(ck.CKM_SHA256_HMAC, parameters.piece(ITERATION, format))
        return mechanism(row.type, made)
    return mechanism(row.type, parameter_of(workshop, row, length))


def message(row: Row) -> bytes:
    """Return data that the mechanism takes."""
    if row.type == ck.CKM_RSA_X_509:
        return DATA.rjust(256, b"\0")
    if row.type in (ck.CKM_ECDSA, ck.CKM_DSA, ck.CKM_RSA_PKCS_PSS):
        return DATA[:32]
    if row.type in (ck.CKM_HASH_ML_DSA, ck.CKM_HASH_SLH_DSA):
        return DATA[:32]
    return DATA


def key_for(workshop: Workshop, row: Row) -> KeyPair:
    return workshop.key(row.key_types[0])


def encrypts(workshop: Workshop, row: Row) -> None:
    public, private = key_for(workshop, row)
    p11, session, data = workshop.p11, workshop.session, message(row)
    encrypted = p11.transform("Encrypt", session, how(workshop, row), public, data)
    assert encrypted != data
    length = len(data)
    if row.functions & Function.DECRYPT:
        assert p11.transform("Decrypt", session, how(workshop, row, length), private, encrypted) == data
    if not row.single_part:
        p11("C_EncryptInit", session, how(workshop, row), public)
        parts = [p11.whole("C_EncryptUpdate", session, data[:5], 5)]
        parts.append(p11.whole("C_EncryptUpdate", session, data[5:], length - 5))
        parts.append(p11.whole("C_EncryptFinal", session))
        assert b"".join(parts) == encrypted


def gives_passwords(workshop: Workshop, row: Row) -> None:
    key = key_for(workshop, row)[0]
    p11, session = workshop.p11, workshop.session
    counter = how(workshop, row)
    block = p11.transform("Sign", session, counter, key, b"")
    value = block[-14:-8]  # before the counter
    assert value.isdigit() and block[-8:] == bytes(8)
    p11("C_VerifyInit", session, counter, key)
    p11("C_Verify", session, None, 0, value, len(value))
    p11("C_VerifyInit", session, counter, key)
    wrong = value[1:] + bytes(((value[0] - 47) % 10 + 48,))
    assert p11.rv("C_Verify", session, None, 0, wrong, len(wrong)) == "CKR_SIGNATURE_INVALID"


def signs(workshop: Workshop, row: Row) -> None:
    if row.family == "hotp":
        gives_passwords(workshop, row)
        return
    public, private = key_for(workshop, row)
    p11, session, data = workshop.p11, workshop.session, message(row)
    signature = p11.transform("Sign", session, how(workshop, row), private, data)
    p11("C_VerifyInit", session, how(workshop, row), public)
    p11("C_Verify", session, data, len(data), signature, len(signature))
    wrong = bytes((data[0] ^ 1,)) + data[1:]
    p11("C_VerifyInit", session, how(workshop, row), public)
    answer = p11.rv("C_Verify", session, wrong, len(wrong), signature, len(signature))
    assert answer == "CKR_SIGNATURE_INVALID"
    if not row.single_part:
        p11("C_SignInit", session, how(workshop, row), private)
        p11("C_SignUpdate", session, data[:7], 7)
        p11("C_SignUpdate", session, data[7:], len(data) - 7)
        in_parts = p11.whole("C_SignFinal", session)
        p11("C_VerifyInit", session, how(workshop, row), public)
        p11("C_VerifyUpdate", session, data[:33], 33)
        p11("C_VerifyUpdate", session, data[33:], len(data) - 33)
        p11("C_VerifyFinal", session, in_parts, len(in_parts))


def recovers(workshop: Workshop, row: Row) -> None:
    public, private = key_for(workshop, row)
    p11, session, data = workshop.p11, workshop.session, message(row)
    signature = p11.transform("SignRecover", session, how(workshop, row), private, data)
    recovered = p11.transform("VerifyRecover", session, how(workshop, row), public, signature)
    assert recovered == data


def digests(workshop: Workshop, row: Row) -> None:
    import hashlib

    p11, session = workshop.p11, workshop.session
    p11("C_DigestInit", session, how(workshop, row))
    digest = p11.whole("C_Digest", session, DATA, len(DATA))
    name = "sha512_224" if row.type == ck.CKM_SHA512_T else digest_of(row)
    if name.startswith("blake2b"):
        assert digest == hashlib.blake2b(DATA, digest_size=int(name[8:]) // 8).digest()
    else:
        assert digest == hashlib.new(name, DATA).digest()
    p11("C_DigestInit", session, how(workshop, row))
    p11("C_DigestUpdate", session, DATA[:9], 9)
    p11("C_DigestUpdate", session, DATA[9:], len(DATA) - 9)
    assert p11.whole("C_DigestFinal", session) == digest


def generates(workshop: Workshop, row: Row) -> None:
    if row.object_class == ck.CKO_DOMAIN_PARAMETERS:
        subprime = [(ck.CKA_SUBPRIME_BITS, 160)] if row.produces == ck.CKK_X9_42_DH else []
        made = workshop.secret(row.type, (ck.CKA_PRIME_BITS, 1024), *subprime)
        object_class = workshop.p11.get(workshop.session, made, ck.CKA_CLASS)
        assert int.from_bytes(object_class, "little") == ck.CKO_DOMAIN_PARAMETERS
        assert len(workshop.p11.get(workshop.session, made, ck.CKA_PRIME)) == 128
        assert workshop.p11.get(workshop.session, made, ck.CKA_LOCAL) == b"\1"
        return
    if row.family == "pbe":
        made = [
            workshop.secret(row.type, OPEN, (ck.CKA_EXTRACTABLE, True), parameter=PARAMETERS["pbe"](0))
            for _ in range(2)
        ]
        assert workshop.value(made[0]) == workshop.value(made[1])
        assert len(workshop.value(made[0])) == row.max_key
        return
    if row.produces is None:
        pairs = [(ck.CKA_KEY_TYPE, ck.CKK_AES), (ck.CKA_VALUE_LEN, 32), OPEN, (ck.CKA_EXTRACTABLE, True)]
        one, two = (
            workshop.secret(row.type, *pairs, parameter=parameter_of(workshop, row, 0)) for _ in range(2)
        )
        assert len(workshop.value(one)) == 32
        assert workshop.value(one) == workshop.value(two)  # the password says what the key is
        return
    first, second = (workshop._made(row.produces)[1] for _ in range(2))
    one, two = workshop.value(first), workshop.value(second)
    assert len(one) == len(two) and one != two
    assert workshop.p11.get(workshop.session, first, ck.CKA_LOCAL) == b"\1"
    origin = workshop.p11.get(workshop.session, first, ck.CKA_KEY_GEN_MECHANISM)
    assert int.from_bytes(origin, "little") == row.type
    if row.produces in (ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3):
        assert all(byte.bit_count() % 2 for byte in one)


def generates_pairs(workshop: Workshop, row: Row) -> None:
    assert row.produces is not None
    first, second = (workshop._made(row.produces) for _ in range(2))
    info = [
        workshop.p11.get(workshop.session, handle, ck.CKA_PUBLIC_KEY_INFO) for handle in (*first, *second)
    ]
    assert info[0] == info[1] and info[2] == info[3] and info[0] != info[2]


def wraps(workshop: Workshop, row: Row) -> None:
    public, private = key_for(workshop, row)
    p11, session, target = workshop.p11, workshop.session, workshop.target()
    wrapped = p11.whole("C_WrapKey", session, how(workshop, row, 32), public, target)
    assert DATA[:32] not in wrapped
    pairs = [
        (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
        (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET),
        (ck.CKA_EXTRACTABLE, True),
        OPEN,
    ]
    array = template(*pairs)
    unwrapped = p11.made(
        "C_UnwrapKey", session, how(workshop, row, 32), private, wrapped, len(wrapped), array, len(pairs)
    )
    assert workshop.value(unwrapped) == DATA[:32]


def derives(workshop: Workshop, row: Row) -> None:
    p11, session = workshop.p11, workshop.session
    if row.parameter == "tls12_key_material":
        derives_key_material(workshop, row)
        return
    private, length = key_for(workshop, row)[1], 16
    if row.parameter in ("tls12_master", "tls12_extended_master"):
        private, length = workshop.master(), 48
    elif row.parameter == "ike_prf":
        length = 32
    elif row.parameter == "ike1_extended":
        length = 40  # a shorter one is the base key's beginning

    def derive(*pairs: tuple[int, Any]) -> int:
        return p11.made("C_DeriveKey", session, how(workshop, row), private, template(*pairs), len(pairs))

    if row.object_class == ck.CKO_PUBLIC_KEY:
        made = derive()
        for attribute in (ck.CKA_PUBLIC_KEY_INFO, ck.CKA_MODULUS):
            assert p11.get(session, made, attribute) == p11.get(session, key_for(workshop, row)[0], attribute)
        return
    extra = [] if row.object_class == ck.CKO_DATA else [OPEN, (ck.CKA_EXTRACTABLE, True)]
    if row.parameter == "ike1_prf":
        extra.append((ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET))
    values = [workshop.value(derive(*extra, (ck.CKA_VALUE_LEN, length))) for _ in range(2)]
    assert len(values[0]) == length
    assert values[0] == values[1]
    assert (
        values[0] != workshop.value(private)[:16]
        or row.type == ck.CKM_CONCATENATE_BASE_AND_KEY
        or (row.type == ck.CKM_CONCATENATE_BASE_AND_DATA)
    )


def derives_key_material(workshop: Workshop, row: Row) -> None:
    p11, session = workshop.p11, workshop.session
    made, out, ivs = parameters.key_material((256, 128, 32), DATA[:32], DATA[32:])
    p11("C_DeriveKey", session, mechanism(row.type, made), workshop.master(), None, 0, None)
    keys = (out.client_mac, out.server_mac, out.client_key, out.server_key)
    values = [workshop.value(handle) for handle in keys]
    assert [len(value) for value in values] == [32, 32, 16, 16] and len(set(values)) == 4
    assert any(ivs[0].raw) == any(ivs[1].raw) == (row.type == ck.CKM_TLS12_KEY_AND_MAC_DERIVE)


def encapsulates(workshop: Workshop, row: Row) -> None:
    public, private = key_for(workshop, row)
    p11, session = workshop.p11, workshop.session
    pairs = [(ck.CKA_KEY_TYPE, ck.CKK_AES), OPEN, (ck.CKA_EXTRACTABLE, True)]
    ciphertext, handle = (ctypes.c_ubyte * 8192)(), ctypes.c_ulong(0)
    length = ctypes.c_ulong(len(ciphertext))
    array = template(*pairs)
    arguments = (session, how(workshop, row), public, array, len(pairs), ciphertext, length, handle)
    p11("C_EncapsulateKey", *arguments)
    sent = bytes(ciphertext[: length.value])
    agreed = p11.made(
        "C_DecapsulateKey", session, how(workshop, row), private, array, len(pairs), sent, len(sent)
    )
    assert workshop.value(agreed) == workshop.value(handle.value)
    assert len(workshop.value(agreed)) == 32


def message_parameter(row: Row) -> Any:
    """Return the structure of a message, and the memory of its tag."""
    tag = ctypes.create_string_buffer(16)
    if row.parameter == "gcm":
        return parameters.structure(bytes(12), 12, 0, ck.CKG_NO_GENERATE, tag, 128), tag
    if row.parameter == "ccm":
        return parameters.structure(len(DATA), bytes(12), 12, 0, ck.CKG_NO_GENERATE, tag, 16), tag
    return parameters.structure(bytes(12), 96, tag), tag


def converses(workshop: Workshop, row: Row) -> None:
    public, private = key_for(workshop, row)
    p11, session = workshop.p11, workshop.session
    structure, tag = message_parameter(row)
    head = (structure, ctypes.sizeof(structure), b"aad", 3)
    p11("C_MessageEncryptInit", session, mechanism(row.type), public)
    sent = p11.whole("C_EncryptMessage", session, *head, DATA, len(DATA))
    p11("C_MessageEncryptFinal", session)
    assert sent != DATA and any(tag.raw)
    p11("C_MessageDecryptInit", session, mechanism(row.type), private)
    assert p11.whole("C_DecryptMessage", session, *head, sent, len(sent)) == DATA
    p11("C_MessageDecryptFinal", session)


def signs_messages(workshop: Workshop, row: Row) -> None:
    public, private = key_for(workshop, row)
    p11, session, data = workshop.p11, workshop.session, message(row)
    p11("C_MessageSignInit", session, how(workshop, row), private)
    p11("C_MessageVerifyInit", session, how(workshop, row), public)
    for _ in range(2):
        signature = p11.whole("C_SignMessage", session, None, 0, data, len(data))
        p11("C_VerifyMessage", session, None, 0, data, len(data), signature, len(signature))
    p11("C_MessageSignFinal", session)
    p11("C_MessageVerifyFinal", session)


EXERCISES: dict[int, Callable[[Workshop, Row], None]] = {
    Function.ENCRYPT: encrypts,
    Function.SIGN: signs,
    Function.SIGN_RECOVER: recovers,
    Function.DIGEST: digests,
    Function.GENERATE: generates,
    Function.GENERATE_KEY_PAIR: generates_pairs,
    Function.WRAP: wraps,
    Function.DERIVE: derives,
    Function.ENCAPSULATE: encapsulates,
    Function.MESSAGE_ENCRYPT: converses,
    Function.MESSAGE_SIGN: signs_messages,
}
# These are done together with the one before.
COUNTERPARTS = (
    Function.DECRYPT
    | Function.VERIFY
    | Function.VERIFY_RECOVER
    | Function.UNWRAP
    | Function.DECAPSULATE
    | Function.MESSAGE_DECRYPT
    | Function.MESSAGE_VERIFY
    | ck.CKF_MULTI_MESSAGE
)


@pytest.mark.parametrize(
    "type", sorted(ROWS.keys() - MISSING), ids=lambda type: ck.name("CKM", type).removeprefix("CKM_")
)
def test_the_mechanism_works(workshop: Workshop, bench: Bench, type: int) -> None:
    row = ROWS[type]
    info = (ctypes.c_ulong * 3)()
    bench.p11("C_GetMechanismInfo", bench.slot, type, info)
    smallest = row.min_key
    if row.type in (ck.CKM_ML_KEM_KEY_PAIR_GEN, ck.CKM_ML_KEM) and not POSTQUANTUM:
        smallest = 1184  # no ML-KEM-512
    assert (info[0], info[1]) == (smallest, row.max_key)
    offered = info[2]
    done = 0
    for flag, exercise in EXERCISES.items():
        if offered & flag:
            exercise(workshop, row)
            done |= flag
    assert done or offered & Function.VERIFY
    assert offered & ~row.flags & ~COUNTERPARTS == done


def test_the_list_is_the_table(bench: Bench) -> None:
    count = ctypes.c_ulong(0)
    bench.p11("C_GetMechanismList", bench.slot, None, count)
    types = (ctypes.c_ulong * count.value)()
    bench.p11("C_GetMechanismList", bench.slot, types, count)
    assert set(types) == {type for type, row in ROWS.items() if row.family != "vendor"} - MISSING


def test_what_is_missing_is_refused(workshop: Workshop, bench: Bench) -> None:
    p11, session = bench.p11, workshop.session
    public, private = p11.key_pair(
        session, ck.CKM_ML_DSA_KEY_PAIR_GEN, [(ck.CKA_PARAMETER_SET, ck.CKP_ML_DSA_44)], []
    )
    for type in MISSING:
        assert p11.rv("C_GetMechanismInfo", bench.slot, type, (ctypes.c_ulong * 3)()) == (
            "CKR_MECHANISM_INVALID"
        )
        given = PARAMETERS[ROWS[type].parameter](0)
        for function, key in (("C_SignInit", private), ("C_VerifyInit", public)):
            assert p11.rv(function, session, mechanism(type, given), key) == "CKR_MECHANISM_INVALID"
    if MISSING:
        wanted = template((ck.CKA_PARAMETER_SET, ck.CKP_SLH_DSA_SHA2_128F))
        how, places = mechanism(ck.CKM_SLH_DSA_KEY_PAIR_GEN), (ctypes.c_ulong(0), ctypes.c_ulong(0))
        arguments = (wanted, 1, template(), 0, *places)
        assert p11.rv("C_GenerateKeyPair", session, how, *arguments) == "CKR_MECHANISM_INVALID"


def test_weak_mechanisms_are_off_unless_asked_for() -> None:
    from ferrohsm.settings import MechanismSettings

    weak = {type for type, row in ROWS.items() if row.weak}
    assert {ck.CKM_MD5, ck.CKM_DES_CBC, ck.CKM_DES3_CBC} <= weak
    offered = {type for type in ROWS if MechanismSettings().offers(type)}
    assert offered == set(ROWS) - weak
    assert all(MechanismSettings(weak=True).offers(type) for type in ROWS)
    assert MechanismSettings(allow=frozenset((ck.CKM_DES3_CBC,))).offers(ck.CKM_DES3_CBC)
    assert not MechanismSettings(weak=True, deny=frozenset((ck.CKM_MD5,))).offers(ck.CKM_MD5)
