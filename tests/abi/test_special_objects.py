"""Objects that are neither keys nor data: profiles, validations, trust; and templates that keys carry."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptoki import Cryptoki, RefusedError, mechanism, template

from ferrohsm import constants as ck

ONE_TOKEN = True


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
    import hashlib

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
