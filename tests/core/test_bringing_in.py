"""Objects that come from outside: certificates, keys made elsewhere, data, trust, domain parameters."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from house import FALSE, P256, TRUE, House

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Value
from ferrohsm.attribute_kinds import ulong
from ferrohsm.core import INVALID, SENSITIVE
from ferrohsm.errors import AttributeReadOnly, AttributeValueInvalid, TemplateIncomplete
from ferrohsm.parameters import Mechanism
from ferrohsm.runtime import step
from ferrohsm.sessions import Session

Pairs = list[tuple[int, Value]]


def big(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def info(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ferro")])
    now = datetime.datetime(2026, 11, 24)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, SHA256())
    )


def certificate_template(certificate: x509.Certificate) -> Pairs:
    return [
        (ck.CKA_CLASS, ulong(ck.CKO_CERTIFICATE)),
        (ck.CKA_CERTIFICATE_TYPE, ulong(ck.CKC_X_509)),
        (ck.CKA_SUBJECT, certificate.subject.public_bytes()),
        (ck.CKA_VALUE, certificate.public_bytes(Encoding.DER)),
    ]


def test_certificate(house: House, session: Session, certificate: x509.Certificate) -> None:
    template = certificate_template(certificate)
    value = certificate.public_bytes(Encoding.DER)
    oid = house.create(session, *template, (ck.CKA_TOKEN, TRUE), (ck.CKA_ID, b"\x01"))
    public_key = certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert house.get(
        session,
        oid,
        ck.CKA_VALUE,
        ck.CKA_CHECK_VALUE,
        ck.CKA_PUBLIC_KEY_INFO,
        ck.CKA_PRIVATE,
        ck.CKA_TRUSTED,
        ck.CKA_CERTIFICATE_CATEGORY,
        ck.CKA_URL,
        ck.CKA_ISSUER,
    ) == [
        value,
        hashlib.sha1(value).digest()[:3],
        info(public_key),
        FALSE,
        FALSE,
        ulong(0),
        b"",
        b"",
    ]
    assert house.find(session, [(ck.CKA_VALUE, value)]) == [oid]
    assert house.find(session, [(ck.CKA_VALUE, bytearray(value))]) == [oid]
    issuer = certificate.issuer.public_bytes()
    step(house.core.set_attributes(session, oid, [(ck.CKA_ISSUER, issuer), (ck.CKA_ID, b"\x02")]))
    assert house.find(session, [(ck.CKA_ISSUER, issuer), (ck.CKA_ID, b"\x02")]) == [oid]
    with pytest.raises(AttributeReadOnly):
        step(house.core.set_attributes(session, oid, [(ck.CKA_SUBJECT, issuer)]))
    house.logout()
    assert house.find(house.open(read_write=False), template) == [oid]


def test_certificate_elsewhere(house: House, session: Session, certificate: x509.Certificate) -> None:
    template = certificate_template(certificate)
    with pytest.raises(TemplateIncomplete):
        house.create(session, *template[:3])
    with pytest.raises(TemplateIncomplete):
        house.create(session, *template[:3], (ck.CKA_VALUE, b""))
    url = (ck.CKA_URL, b"https://example.org/ca.cer")
    with pytest.raises(TemplateIncomplete):
        house.create(session, *template[:3], url)
    hashes = [(ck.CKA_HASH_OF_SUBJECT_PUBLIC_KEY, bytes(20)), (ck.CKA_HASH_OF_ISSUER_PUBLIC_KEY, bytes(20))]
    oid = house.create(session, *template[:3], url, *hashes)
    assert house.get(session, oid, ck.CKA_VALUE, ck.CKA_CHECK_VALUE) == [b"", INVALID]
    with pytest.raises(AttributeValueInvalid):
        house.create(session, *template, (ck.CKA_CHECK_VALUE, b"\x00\x01\x02"))


def private_template(key: ec.EllipticCurvePrivateKey) -> Pairs:
    return [
        (ck.CKA_CLASS, ulong(ck.CKO_PRIVATE_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_EC)),
        (ck.CKA_EC_PARAMS, P256),
        (ck.CKA_VALUE, bytearray(key.private_numbers().private_value.to_bytes(32, "big"))),
    ]


def test_ec_private_key(house: House, session: Session, key: ec.EllipticCurvePrivateKey) -> None:
    own = info(key.public_key())
    oid = house.create(session, *private_template(key), (ck.CKA_PUBLIC_KEY_INFO, own))
    assert house.get(session, oid, ck.CKA_PUBLIC_KEY_INFO, ck.CKA_VALUE, ck.CKA_PRIVATE, ck.CKA_LOCAL) == [
        own,
        SENSITIVE,
        TRUE,
        FALSE,
    ]
    mechanism = Mechanism(ck.CKM_ECDSA_SHA256)
    signature = bytes(
        step(step(house.core.begin(session, Function.SIGN, mechanism, oid)).once(memoryview(b"d")))
    )
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key.public_key().verify(encode_dss_signature(r, s), b"d", ec.ECDSA(SHA256()))
    other = info(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(AttributeValueInvalid):
        house.create(session, *private_template(key), (ck.CKA_PUBLIC_KEY_INFO, other))
    for missing in (ck.CKA_EC_PARAMS, ck.CKA_VALUE):
        with pytest.raises(TemplateIncomplete):
            house.create(session, *[pair for pair in private_template(key) if pair[0] != missing])


def test_rsa_private_key(house: House, session: Session) -> None:
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    public = numbers.public_numbers
    template: Pairs = [
        (ck.CKA_CLASS, ulong(ck.CKO_PRIVATE_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_RSA)),
        (ck.CKA_MODULUS, b"\x00" + big(public.n)),
        (ck.CKA_PUBLIC_EXPONENT, big(public.e)),
        (ck.CKA_PRIVATE_EXPONENT, bytearray(big(numbers.d))),
        (ck.CKA_TOKEN, TRUE),
    ]
    oid = house.create(session, *template)
    assert house.get(session, oid, ck.CKA_MODULUS, ck.CKA_PUBLIC_KEY_INFO, ck.CKA_PRIVATE_EXPONENT) == [
        big(public.n),
        info(key.public_key()),
        SENSITIVE,
    ]
    assert house.find(session, [(ck.CKA_MODULUS, b"\x00" + big(public.n))]) == [oid]
    signed = step(house.core.begin(session, Function.SIGN, Mechanism(ck.CKM_SHA256_RSA_PKCS), oid))
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    key.public_key().verify(bytes(step(signed.once(memoryview(b"d")))), b"d", PKCS1v15(), SHA256())


def test_data_and_trust(house: House, session: Session) -> None:
    data = house.create(session, (ck.CKA_CLASS, ulong(ck.CKO_DATA)), (ck.CKA_VALUE, bytearray(b"anything")))
    assert house.get(session, data, ck.CKA_VALUE, ck.CKA_APPLICATION, ck.CKA_OBJECT_ID) == [
        b"anything",
        b"",
        b"",
    ]
    assert house.find(session, [(ck.CKA_VALUE, b"anything")]) == [data]
    trust = house.create(
        session,
        (ck.CKA_CLASS, ulong(ck.CKO_TRUST)),
        (ck.CKA_ISSUER, b"issuer"),
        (ck.CKA_SERIAL_NUMBER, b"\x02\x01\x01"),
        (ck.CKA_TRUST_SERVER_AUTH, ulong(ck.CKT_TRUST_ANCHOR)),
        (ck.CKA_HASH_OF_CERTIFICATE, bytes(20)),
    )
    step(house.core.set_attributes(session, trust, [(ck.CKA_TRUST_SERVER_AUTH, ulong(ck.CKT_NOT_TRUSTED))]))
    assert house.get(session, trust, ck.CKA_TRUST_SERVER_AUTH, ck.CKA_TRUST_CLIENT_AUTH) == [
        ulong(ck.CKT_NOT_TRUSTED),
        ulong(ck.CKT_TRUST_UNKNOWN),
    ]


def test_domain_parameters(house: House, session: Session) -> None:
    oid = house.create(
        session,
        (ck.CKA_CLASS, ulong(ck.CKO_DOMAIN_PARAMETERS)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_DH)),
        (ck.CKA_PRIME, big(2**127 - 1)),
        (ck.CKA_BASE, b"\x02"),
    )
    assert house.get(session, oid, ck.CKA_PRIME, ck.CKA_LOCAL) == [big(2**127 - 1), FALSE]


def test_material_that_is_wrong(house: House, session: Session, key: ec.EllipticCurvePrivateKey) -> None:
    secret: Pairs = [(ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES))]
    for template in (
        [*secret, (ck.CKA_VALUE, bytearray(15))],
        [*private_template(key)[:3], (ck.CKA_VALUE, bytearray(32))],
    ):
        with pytest.raises(AttributeValueInvalid):
            house.create(session, *template)
    assert house.find(session, [secret[0]]) == []
