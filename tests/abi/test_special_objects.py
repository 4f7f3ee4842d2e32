"""Objects that are neither keys nor data: profiles, validations, trust; and templates that keys carry."""

from __future__ import annotations

import ctypes
import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptoki import Cryptoki, RefusedError, mechanism, template
from vector_files import records, root

from ferrohsm import constants as ck

ONE_TOKEN = True
NO_LENGTH = 2**64 - 1  # CK_UNAVAILABLE_INFORMATION
GROUP = list(records(root() / "asymmetric" / "DH" / "RFC5114.txt", "COUNT"))[2]


def refusal(p11: Cryptoki, session: int, *pairs: tuple[int, Any]) -> str:
    with pytest.raises(RefusedError) as refused:
        p11.create(session, *pairs)
    return refused.value.rv


def test_profiles_say_what_is_true(p11: Cryptoki, session: int) -> None:
    found = p11.find(session, (ck.CKA_CLASS, ck.CKO_PROFILE))
    numbers = {int.from_bytes(p11.get(session, one, ck.CKA_PROFILE_ID), "little") for one in found}
    assert numbers == {
        ck.CKP_BASELINE_PROVIDER,
        ck.CKP_EXTENDED_PROVIDER,
        ck.CKP_AUTHENTICATION_TOKEN,
        ck.CKP_HKDF_TLS_TOKEN,
    }
    assert refusal(p11, session, (ck.CKA_CLASS, ck.CKO_PROFILE), (ck.CKA_PROFILE_ID, 5)) in (
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_TEMPLATE_INCONSISTENT",
    )


def test_nobody_has_validated_the_module(p11: Cryptoki, session: int) -> None:
    assert p11.find(session, (ck.CKA_CLASS, ck.CKO_VALIDATION)) == []
    assert refusal(p11, session, (ck.CKA_CLASS, ck.CKO_VALIDATION)) in (
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_TEMPLATE_INCONSISTENT",
    )
    key = p11.aes(session)
    assert p11.get(session, key, ck.CKA_OBJECT_VALIDATION_FLAGS) == bytes(8)
    flags = template((ck.CKA_OBJECT_VALIDATION_FLAGS, 1))
    assert p11.rv("C_SetAttributeValue", session, key, flags, 1) == "CKR_ATTRIBUTE_READ_ONLY"
    secret = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES), (ck.CKA_VALUE, bytes(16)))
    claimed = refusal(p11, session, *secret, (ck.CKA_OBJECT_VALIDATION_FLAGS, 1))
    assert claimed in ("CKR_ATTRIBUTE_READ_ONLY", "CKR_TEMPLATE_INCONSISTENT")


def test_trust(p11: Cryptoki, session: int) -> None:
    pairs = (
        (ck.CKA_CLASS, ck.CKO_TRUST),
        (ck.CKA_ISSUER, b"issuer"),
        (ck.CKA_SERIAL_NUMBER, b"\x02\x01\x01"),
        (ck.CKA_HASH_OF_CERTIFICATE, bytes(32)),
        (ck.CKA_NAME_HASH_ALGORITHM, ck.CKM_SHA256),
        (ck.CKA_TRUST_SERVER_AUTH, ck.CKT_TRUST_ANCHOR),
    )
    made = p11.create(session, *pairs)
    assert p11.find(session, (ck.CKA_CLASS, ck.CKO_TRUST), (ck.CKA_ISSUER, b"issuer")) == [made]
    for attribute, value in pairs[1:]:
        wanted = value if isinstance(value, bytes) else value.to_bytes(8, "little")
        assert p11.get(session, made, attribute) == wanted
    assert p11.get(session, made, ck.CKA_TRUST_EMAIL_PROTECTION) == bytes(8)  # not known


def test_check_values(p11: Cryptoki, session: int) -> None:
    """Three bytes: of a block of zeros encrypted with AES, of the SHA-1 of a generic secret."""
    value = bytes(range(16))
    pairs = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_VALUE, value))
    key = p11.create(session, *pairs, (ck.CKA_KEY_TYPE, ck.CKK_AES))
    block = Cipher(algorithms.AES(value), modes.ECB()).encryptor().update(bytes(16))
    assert p11.get(session, key, ck.CKA_CHECK_VALUE) == block[:3]
    generic = p11.create(session, *pairs, (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET))
    assert p11.get(session, generic, ck.CKA_CHECK_VALUE) == hashlib.sha1(value).digest()[:3]


def test_a_keys_template_for_what_it_derives(p11: Cryptoki, session: int) -> None:
    inner = [(ck.CKA_EXTRACTABLE, False), (ck.CKA_LABEL, b"derived")]
    base = p11.generic_secret(session, bytes(32), (ck.CKA_DERIVE, True), (ck.CKA_DERIVE_TEMPLATE, inner))
    how = mechanism(ck.CKM_SHA256_KEY_DERIVATION)

    def derive(*pairs: tuple[int, Any]) -> int:
        return p11.made("C_DeriveKey", session, how, base, template(*pairs), len(pairs))

    made = derive()
    assert p11.get(session, made, ck.CKA_LABEL) == b"derived"
    assert p11.get(session, made, ck.CKA_EXTRACTABLE) == b"\0"
    with pytest.raises(RefusedError) as refused:
        derive((ck.CKA_EXTRACTABLE, True))
    assert refused.value.rv == "CKR_TEMPLATE_INCONSISTENT"


def test_a_keys_template_for_what_it_decapsulates(p11: Cryptoki, session: int) -> None:
    public = [(ck.CKA_PARAMETER_SET, ck.CKP_ML_KEM_768), (ck.CKA_ENCAPSULATE, True)]
    inner = [(ck.CKA_EXTRACTABLE, False), (ck.CKA_KEY_TYPE, ck.CKK_AES)]
    private = [(ck.CKA_DECAPSULATE, True), (ck.CKA_DECAPSULATE_TEMPLATE, inner)]
    _, key = p11.key_pair(session, ck.CKM_ML_KEM_KEY_PAIR_GEN, public, private)
    how, sent = mechanism(ck.CKM_ML_KEM), bytes(1088)

    def decapsulate(*pairs: tuple[int, Any]) -> int:
        array = template(*pairs)
        return p11.made("C_DecapsulateKey", session, how, key, array, len(pairs), sent, len(sent))

    made = decapsulate((ck.CKA_CLASS, ck.CKO_SECRET_KEY))
    assert p11.get(session, made, ck.CKA_EXTRACTABLE) == b"\0"
    with pytest.raises(RefusedError) as refused:
        decapsulate((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_EXTRACTABLE, True))
    assert refused.value.rv == "CKR_TEMPLATE_INCONSISTENT"


def test_a_keys_template_for_what_it_wraps_and_unwraps(p11: Cryptoki, session: int) -> None:
    outer = [(ck.CKA_LABEL, b"may leave")]
    inner = [(ck.CKA_EXTRACTABLE, False), (ck.CKA_LABEL, b"came back")]
    uses = ((ck.CKA_WRAP, True), (ck.CKA_UNWRAP, True))
    key = p11.aes(session, *uses, (ck.CKA_WRAP_TEMPLATE, outer), (ck.CKA_UNWRAP_TEMPLATE, inner))
    how, free = mechanism(ck.CKM_AES_KEY_WRAP), (ck.CKA_EXTRACTABLE, True)
    other = p11.aes(session, free, (ck.CKA_LABEL, b"stays"))
    place, length = bytes(64), ctypes.c_ulong(64)
    assert p11.rv("C_WrapKey", session, how, key, other, place, length) == "CKR_KEY_HANDLE_INVALID"
    target = p11.aes(session, free, (ck.CKA_LABEL, b"may leave"))
    wrapped = p11.whole("C_WrapKey", session, how, key, target)

    def unwrap(*pairs: tuple[int, Any]) -> int:
        pairs = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES), *pairs)
        return p11.made("C_UnwrapKey", session, how, key, wrapped, len(wrapped), template(*pairs), len(pairs))

    made = unwrap()
    assert p11.get(session, made, ck.CKA_LABEL) == b"came back"
    assert p11.get(session, made, ck.CKA_EXTRACTABLE) == b"\0"
    assert number(p11.get(session, made, ck.CKA_VALUE_LEN)) == 16
    with pytest.raises(RefusedError) as refused:
        unwrap(free)
    assert refused.value.rv == "CKR_TEMPLATE_INCONSISTENT"


def number(value: bytes) -> int:
    return int.from_bytes(value, "little")


DOMAINS = (
    (ck.CKK_DSA, ck.CKM_DSA_KEY_PAIR_GEN, (ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE)),
    (ck.CKK_DH, ck.CKM_DH_PKCS_KEY_PAIR_GEN, (ck.CKA_PRIME, ck.CKA_BASE)),
    (ck.CKK_X9_42_DH, ck.CKM_X9_42_DH_KEY_PAIR_GEN, (ck.CKA_PRIME, ck.CKA_BASE, ck.CKA_SUBPRIME)),
)


@pytest.mark.parametrize(("key_type", "generation", "parts"), DOMAINS)
def test_domain_parameters(
    p11: Cryptoki, session: int, key_type: int, generation: int, parts: tuple[int, ...]
) -> None:
    """They are put on the token, found, read, and given to the generation of keys (RFC 5114, section 2.3)."""
    head = ((ck.CKA_CLASS, ck.CKO_DOMAIN_PARAMETERS), (ck.CKA_KEY_TYPE, key_type))
    numbers = {ck.CKA_PRIME: GROUP["P"], ck.CKA_SUBPRIME: GROUP["Q"], ck.CKA_BASE: GROUP["G"]}
    pairs = [(part, bytes.fromhex(numbers[part])) for part in parts]
    made = p11.create(session, *head, *pairs)
    assert p11.find(session, *head) == [made]
    assert p11.get(session, made, ck.CKA_LOCAL) == b"\0"
    assert number(p11.get(session, made, ck.CKA_PRIME_BITS)) == 2048
    if key_type == ck.CKK_X9_42_DH:
        assert number(p11.get(session, made, ck.CKA_SUBPRIME_BITS)) == 256
    read = [(part, p11.get(session, made, part)) for part in parts]
    assert read == pairs
    public, private = p11.key_pair(session, generation, read, [])
    for key in (public, private):
        info = p11.get(session, key, ck.CKA_PUBLIC_KEY_INFO)
        assert number(p11.get(session, key, ck.CKA_KEY_TYPE)) == key_type
        assert [(part, p11.get(session, key, part)) for part in parts] == pairs
    numbers_of_key = load_der_public_key(info).public_numbers()  # type: ignore[union-attr]
    assert numbers_of_key.y == int.from_bytes(p11.get(session, public, ck.CKA_VALUE), "big")
    assert refusal(p11, session, *head, *pairs[1:]) == "CKR_TEMPLATE_INCOMPLETE"
    copy = p11.made("C_CopyObject", session, made, None, 0)
    assert p11.get(session, copy, ck.CKA_PRIME) == pairs[0][1]


PAIRS: tuple[tuple[int, tuple[int, Any]], ...] = (
    (ck.CKM_RSA_PKCS_KEY_PAIR_GEN, (ck.CKA_MODULUS_BITS, 2048)),
    (ck.CKM_EC_KEY_PAIR_GEN, (ck.CKA_EC_PARAMS, bytes.fromhex("06082a8648ce3d030107"))),
    (ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, (ck.CKA_EC_PARAMS, bytes.fromhex("06032b6570"))),
    (ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN, (ck.CKA_EC_PARAMS, bytes.fromhex("06032b656e"))),
    (ck.CKM_ML_DSA_KEY_PAIR_GEN, (ck.CKA_PARAMETER_SET, ck.CKP_ML_DSA_65)),
    (ck.CKM_ML_KEM_KEY_PAIR_GEN, (ck.CKA_PARAMETER_SET, ck.CKP_ML_KEM_768)),
)


def test_public_key_info_of_both_keys(p11: Cryptoki, session: int) -> None:
    """It is the SubjectPublicKeyInfo that others read, also of private keys, and cannot be another."""
    for generation, what in PAIRS:
        public, private = p11.key_pair(session, generation, [what], [])
        info = p11.get(session, public, ck.CKA_PUBLIC_KEY_INFO)
        assert p11.get(session, private, ck.CKA_PUBLIC_KEY_INFO) == info
        key = load_der_public_key(info)
        assert key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == info
        wrong = template((ck.CKA_PUBLIC_KEY_INFO, info[:-1] + bytes([info[-1] ^ 1])))
        answer = p11.rv("C_SetAttributeValue", session, private, wrong, 1)
        assert answer in ("CKR_ATTRIBUTE_VALUE_INVALID", "CKR_ATTRIBUTE_READ_ONLY"), generation


def certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "special")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(day).not_valid_after(day + datetime.timedelta(days=1))
    return made.sign(key, hashes.SHA256())


def test_certificate(p11: Cryptoki, session: int) -> None:
    """Its check value is of the SHA-1 of all of it; its dates are for reference, as a key's are."""
    theirs = certificate()
    value = theirs.public_bytes(Encoding.DER)
    pairs = (
        (ck.CKA_CLASS, ck.CKO_CERTIFICATE),
        (ck.CKA_CERTIFICATE_TYPE, ck.CKC_X_509),
        (ck.CKA_SUBJECT, theirs.subject.public_bytes()),
        (ck.CKA_VALUE, value),
    )
    made = p11.create(session, *pairs, (ck.CKA_END_DATE, b"20260102"))
    assert p11.get(session, made, ck.CKA_CHECK_VALUE) == hashlib.sha1(value).digest()[:3]
    info = theirs.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert p11.get(session, made, ck.CKA_PUBLIC_KEY_INFO) == info
    assert p11.get(session, made, ck.CKA_START_DATE) == b""
    assert p11.get(session, made, ck.CKA_END_DATE) == b"20260102"
    wrong = (ck.CKA_CHECK_VALUE, b"abc")
    assert refusal(p11, session, *pairs, wrong) == "CKR_ATTRIBUTE_VALUE_INVALID"
    assert refusal(p11, session, *pairs, (ck.CKA_TRUSTED, True)) == "CKR_ATTRIBUTE_READ_ONLY"


def test_check_value_that_is_given(p11: Cryptoki, session: int) -> None:
    value = bytes(range(16))
    right = hashlib.sha1(value).digest()[:3]
    made = p11.generic_secret(session, value, (ck.CKA_CHECK_VALUE, right))
    assert p11.get(session, made, ck.CKA_CHECK_VALUE) == right
    with pytest.raises(RefusedError) as refused:
        p11.generic_secret(session, value, (ck.CKA_CHECK_VALUE, b"abc"))
    assert refused.value.rv == "CKR_ATTRIBUTE_VALUE_INVALID"
    for key in (made, p11.generic_secret(session, value, (ck.CKA_CHECK_VALUE, b""))):
        p11("C_SetAttributeValue", session, key, template((ck.CKA_CHECK_VALUE, b"")), 1)
        place = template((ck.CKA_CHECK_VALUE, None))
        answer = p11.rv("C_GetAttributeValue", session, key, place, 1)
        assert (answer, place[0].ulValueLen) in (("CKR_ATTRIBUTE_TYPE_INVALID", NO_LENGTH), ("CKR_OK", 0))


def test_dates_are_dates_and_restrict_nothing(p11: Cryptoki, session: int) -> None:
    over = ((ck.CKA_START_DATE, b"19990101"), (ck.CKA_END_DATE, b"19991231"))
    key = p11.aes(session, *over, (ck.CKA_ENCRYPT, True))
    assert p11.get(session, key, ck.CKA_END_DATE) == b"19991231"
    assert len(p11.transform("Encrypt", session, mechanism(ck.CKM_AES_ECB), key, bytes(16))) == 16
    p11("C_SetAttributeValue", session, key, template((ck.CKA_END_DATE, b"")), 1)
    assert p11.get(session, key, ck.CKA_END_DATE) == b""
    p11("C_SetAttributeValue", session, key, template((ck.CKA_END_DATE, b"20000229")), 1)
    for wrong in (b"1999123", b"19991331", b"19990229", b"19000229", b"1999-1-1", b"\0" * 8):
        answer = p11.rv("C_SetAttributeValue", session, key, template((ck.CKA_START_DATE, wrong)), 1)
        assert answer == "CKR_ATTRIBUTE_VALUE_INVALID", wrong


def test_value_len(p11: Cryptoki, session: int) -> None:
    """It follows from the value of a key that is brought in, and cannot be given beside it."""
    pairs = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_AES))
    made = p11.create(session, *pairs, (ck.CKA_VALUE, bytes(24)))
    assert number(p11.get(session, made, ck.CKA_VALUE_LEN)) == 24
    for length in (16, 24):
        both = ((ck.CKA_VALUE, bytes(24)), (ck.CKA_VALUE_LEN, length))
        answer = refusal(p11, session, *pairs, *both)
        assert answer in ("CKR_ATTRIBUTE_READ_ONLY", "CKR_TEMPLATE_INCONSISTENT")
    changed = template((ck.CKA_VALUE_LEN, 16))
    assert p11.rv("C_SetAttributeValue", session, made, changed, 1) == "CKR_ATTRIBUTE_READ_ONLY"
    for length in (0, 17, 33):
        with pytest.raises(RefusedError) as refused:
            p11.aes(session, length=length)
        assert refused.value.rv in ("CKR_ATTRIBUTE_VALUE_INVALID", "CKR_KEY_SIZE_RANGE")
    base = p11.generic_secret(session, bytes(32), (ck.CKA_DERIVE, True))
    asked = template((ck.CKA_VALUE_LEN, 9))
    derived = p11.made("C_DeriveKey", session, mechanism(ck.CKM_SHA256_KEY_DERIVATION), base, asked, 1)
    assert number(p11.get(session, derived, ck.CKA_VALUE_LEN)) == 9
