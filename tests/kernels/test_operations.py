"""What only the kernels do, and what they promise as `adapters.Operation`; see tests/mechanisms for the rest.

Results are held against `cryptography`, in both directions, whole and in parts of every size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils, x448, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from ferrohsm_adapters.software import _kernels

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm.adapters import Key, Operation
from ferrohsm.parameters import Ctr, Ecdh1, Gcm, RsaOaep, RsaPss

OIDS = {
    "secp256r1": "06082a8648ce3d030107",
    "secp384r1": "06052b81040022",
    "secp521r1": "06052b81040023",
    "secp256k1": "06052b8104000a",
    "brainpoolP384r1": "06092b240303020801010b",
}
EDWARDS = {ed25519: "06032b6570", ed448: "06032b6571"}
MONTGOMERY = {x25519: "06032b656e", x448: "06032b656f"}
IV = bytes(range(16))


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def key(class_: int, kind: int, attributes: dict[int, Any]) -> Key:
    return Key(1, {ck.CKA_CLASS: number(class_), ck.CKA_KEY_TYPE: number(kind), **attributes})


def secret(value: bytes, kind: int = ck.CKK_AES) -> Key:
    return key(ck.CKO_SECRET_KEY, kind, {ck.CKA_VALUE: bytearray(value)})


def pair(mechanism: int, kind: int, template: dict[int, bytes]) -> tuple[Key, Key]:
    public, private = _kernels.generate_key_pair(mechanism, template)
    return key(ck.CKO_PUBLIC_KEY, kind, public), key(ck.CKO_PRIVATE_KEY, kind, private)


def curve_pair(mechanism: int, kind: int, oid: str) -> tuple[Key, Key]:
    return pair(mechanism, kind, {ck.CKA_EC_PARAMS: bytes.fromhex(oid)})


@pytest.fixture(scope="module")
def rsa_pair() -> tuple[Key, Key]:
    return pair(ck.CKM_RSA_PKCS_KEY_PAIR_GEN, ck.CKK_RSA, {ck.CKA_MODULUS_BITS: number(2048)})


def rsa_public(public: Key) -> rsa.RSAPublicKey:
    modulus, exponent = (
        int.from_bytes(public.attributes[each], "big") for each in (ck.CKA_MODULUS, ck.CKA_PUBLIC_EXPONENT)
    )
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def begin(function: int, mechanism: int, parameter: Any, with_key: Key | None) -> Operation:
    operation = _kernels.begin(function, mechanism, parameter, with_key)
    assert operation is not None
    return operation


def whole(function: int, mechanism: int, parameter: Any, with_key: Key | None, data: bytes) -> bytes:
    operation = begin(function, mechanism, parameter, with_key)
    bound = operation.once_length(len(data))
    out = operation.once_now(memoryview(data))
    assert len(out) <= bound
    if function != ck.CKF_DECRYPT:
        assert len(out) == bound
        assert type(out) is bytes
    else:
        assert type(out) is bytearray
    return bytes(out)


def parts(
    function: int, mechanism: int, parameter: Any, with_key: Key | None, data: bytes, size: int
) -> bytes:
    operation = begin(function, mechanism, parameter, with_key)
    assert operation.multi_part
    out = b""
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        expected = operation.update_length(len(piece))
        made = operation.update_now(memoryview(piece))
        assert len(made) == expected
        out += made
    bound = operation.finish_length()
    last = operation.finish_now()
    assert len(last) <= bound and (function == ck.CKF_DECRYPT or len(last) == bound)
    return out + bytes(last)


def aes_cbc_pad(value: bytes, data: bytes) -> bytes:
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(value), modes.CBC(IV)).encryptor()
    return encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()


def aes_ctr(value: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(value), modes.CTR(IV)).encryptor().update(data)


def aes_gcm(value: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(value), modes.GCM(IV[:12])).encryptor()
    encryptor.authenticate_additional_data(b"aad")
    return encryptor.update(data) + encryptor.finalize() + encryptor.tag


CIPHERS: dict[int, tuple[Any, Callable[[bytes, bytes], bytes]]] = {
    ck.CKM_AES_CBC_PAD: (IV, aes_cbc_pad),
    ck.CKM_AES_CTR: (Ctr(128, IV), aes_ctr),
    ck.CKM_AES_GCM: (Gcm(IV[:12], 96, b"aad", 128), aes_gcm),
}


@pytest.mark.parametrize("mechanism", CIPHERS)
@pytest.mark.parametrize("key_length", [16, 24, 32])
def test_ciphers_at_every_length_and_cut(mechanism: int, key_length: int) -> None:
    parameter, theirs = CIPHERS[mechanism]
    value = _kernels.random(key_length)
    ours = secret(value)
    for length in [*range(50), 1000, 5000]:
        data = _kernels.random(length)
        right = theirs(value, data)
        assert whole(ck.CKF_ENCRYPT, mechanism, parameter, ours, data) == right
        assert whole(ck.CKF_DECRYPT, mechanism, parameter, ours, right) == data
        for size in (1, 7, 16, 33) if length < 50 else (999, 4096):
            assert parts(ck.CKF_ENCRYPT, mechanism, parameter, ours, data, size) == right
            assert parts(ck.CKF_DECRYPT, mechanism, parameter, ours, right, size) == data


def test_gcm_gives_nothing_before_the_tag_was_verified() -> None:
    ours = secret(bytes(32))
    parameter = Gcm(IV[:12], 96, b"", 128)
    sealed = whole(ck.CKF_ENCRYPT, ck.CKM_AES_GCM, parameter, ours, b"x" * 100)
    forged = sealed[:50] + bytes((sealed[50] ^ 1,)) + sealed[51:]
    operation = begin(ck.CKF_DECRYPT, ck.CKM_AES_GCM, parameter, ours)
    assert operation.update_now(forged) == b""
    with pytest.raises(errors.EncryptedDataInvalid):
        operation.finish_now()
    with pytest.raises(errors.OperationNotInitialized):
        operation.finish_now()
    with pytest.raises(errors.EncryptedDataInvalid):
        whole(ck.CKF_DECRYPT, ck.CKM_AES_GCM, parameter, ours, forged)


@pytest.mark.parametrize(
    ("bits", "block", "blocks"),
    [
        (2, bytes(15) + b"\1", 3),
        (8, bytes(15) + b"\xf0", 16),
        (32, b"\xff" * 16, 1),
        (64, bytes(8) + b"\xff" * 7 + b"\xfe", 2),
        (72, bytes(7) + b"\xff" * 9, 1),
    ],
)
def test_a_counter_does_not_overflow(bits: int, block: bytes, blocks: int) -> None:
    ours, data = secret(bytes(16)), bytes(16 * blocks)
    assert len(whole(ck.CKF_ENCRYPT, ck.CKM_AES_CTR, Ctr(bits, block), ours, data)) == len(data)
    with pytest.raises(errors.DataLenRange):
        whole(ck.CKF_ENCRYPT, ck.CKM_AES_CTR, Ctr(bits, block), ours, data + b"x")
    operation = begin(ck.CKF_ENCRYPT, ck.CKM_AES_CTR, Ctr(bits, block), ours)
    operation.update_now(data)
    with pytest.raises(errors.DataLenRange):
        operation.update_now(b"x")


def test_lengths_are_refused_before_anything_is_computed() -> None:
    ours = secret(bytes(16))
    for mechanism, parameter in ((ck.CKM_AES_ECB, None), (ck.CKM_AES_CBC, IV)):
        for function, error in (
            (ck.CKF_ENCRYPT, errors.DataLenRange),
            (ck.CKF_DECRYPT, errors.EncryptedDataLenRange),
        ):
            operation = begin(function, mechanism, parameter, ours)
            with pytest.raises(error):
                operation.once_length(17)
            # A question consumed nothing.
            assert len(operation.once_now(bytes(32))) == 32
            operation = begin(function, mechanism, parameter, ours)
            operation.update_now(bytes(17))
            with pytest.raises(error):
                operation.finish_now()


def test_macs() -> None:
    value, data = _kernels.random(40), _kernels.random(3000)
    theirs = hmac.HMAC(value, hashes.SHA384())
    theirs.update(data)
    right = theirs.finalize()
    ours = secret(value, ck.CKK_GENERIC_SECRET)
    assert whole(ck.CKF_SIGN, ck.CKM_SHA384_HMAC, None, ours, data) == right
    assert parts(ck.CKF_SIGN, ck.CKM_SHA384_HMAC, None, ours, data, 999) == right
    assert whole(ck.CKF_SIGN, ck.CKM_SHA384_HMAC_GENERAL, 7, ours, data) == right[:7]
    begin(ck.CKF_VERIFY, ck.CKM_SHA384_HMAC, None, ours).verify_now(data, right)
    with pytest.raises(errors.SignatureInvalid):
        begin(ck.CKF_VERIFY, ck.CKM_SHA384_HMAC, None, ours).verify_now(data + b"x", right)
    with pytest.raises(errors.SignatureLenRange):
        begin(ck.CKF_VERIFY, ck.CKM_SHA384_HMAC, None, ours).verify_now(data, right[:-1])


def test_a_remembered_key_and_its_contexts_give_the_same_again() -> None:
    """Operations that are over are used again; what one did never shows in the next."""
    value = _kernels.random(32)
    ours = secret(value)
    for turn in range(50):
        data = _kernels.random(turn)
        half_done = begin(ck.CKF_SIGN, ck.CKM_AES_CMAC, None, ours)
        half_done.update_now(b"dropped")
        half_done.close()
        half_done.close()
        gcm = Gcm(_kernels.random(8 + turn), 0, b"", 96)
        sealed = whole(ck.CKF_ENCRYPT, ck.CKM_AES_GCM, gcm, ours, data)
        fresh = secret(value)
        assert sealed == whole(ck.CKF_ENCRYPT, ck.CKM_AES_GCM, gcm, fresh, data)
        assert whole(ck.CKF_SIGN, ck.CKM_AES_CMAC, None, ours, data) == whole(
            ck.CKF_SIGN, ck.CKM_AES_CMAC, None, fresh, data
        )


@pytest.mark.parametrize("name", OIDS)
def test_ecdsa_both_ways(name: str) -> None:
    public, private = curve_pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC, OIDS[name])
    curve = getattr(ec, name.upper() if name.startswith("secp") else "BrainpoolP384R1")()
    point = public.attributes[ck.CKA_EC_POINT]
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(
        curve, point[-(2 * ((curve.key_size + 7) // 8) + 1) :]
    )
    half, data = (curve.key_size + 7) // 8, b"some message"
    for _ in range(20):
        signature = whole(ck.CKF_SIGN, ck.CKM_ECDSA_SHA256, None, private, data)
        r, s = (int.from_bytes(each, "big") for each in (signature[:half], signature[half:]))
        theirs.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        begin(ck.CKF_VERIFY, ck.CKM_ECDSA_SHA256, None, public).verify_now(data, signature)
    scalar = ec.derive_private_key(int.from_bytes(private.attributes[ck.CKA_VALUE], "big"), curve)
    r, s = utils.decode_dss_signature(scalar.sign(data, ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(half, "big") + s.to_bytes(half, "big")
    begin(ck.CKF_VERIFY, ck.CKM_ECDSA_SHA256, None, public).verify_now(data, raw)
    with pytest.raises(errors.SignatureInvalid):
        begin(ck.CKF_VERIFY, ck.CKM_ECDSA_SHA256, None, public).verify_now(data + b"x", raw)


@pytest.mark.parametrize("module", EDWARDS)
def test_eddsa_both_ways(module: Any) -> None:
    public, private = curve_pair(ck.CKM_EC_EDWARDS_KEY_PAIR_GEN, ck.CKK_EC_EDWARDS, EDWARDS[module])
    name = module.__name__.rsplit(".", 1)[-1].capitalize()
    theirs = getattr(module, name + "PrivateKey").from_private_bytes(bytes(private.attributes[ck.CKA_VALUE]))
    assert theirs.public_key().public_bytes_raw() == public.attributes[ck.CKA_EC_POINT]
    for data in (b"", b"x", _kernels.random(3000)):
        right = theirs.sign(data)
        assert whole(ck.CKF_SIGN, ck.CKM_EDDSA, None, private, data) == right
        assert parts(ck.CKF_SIGN, ck.CKM_EDDSA, None, private, data, 777) == right
        begin(ck.CKF_VERIFY, ck.CKM_EDDSA, None, public).verify_now(data, right)


def agreed(private: Key, kdf: int, point: bytes, shared: bytes, length: int) -> bytes:
    return bytes(_kernels.derive(ck.CKM_ECDH1_DERIVE, Ecdh1(kdf, shared, point), private, length))


@pytest.mark.parametrize("module", MONTGOMERY)
def test_montgomery_agreement(module: Any) -> None:
    public, private = curve_pair(ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN, ck.CKK_EC_MONTGOMERY, MONTGOMERY[module])
    name = module.__name__.rsplit(".", 1)[-1].capitalize()
    ours = getattr(module, name + "PublicKey").from_public_bytes(public.attributes[ck.CKA_EC_POINT])
    for _ in range(4):  # the context of one agreement is the next one's, also after one that failed
        theirs = getattr(module, name + "PrivateKey").generate()
        point = theirs.public_key().public_bytes_raw()
        for _ in range(2):
            assert agreed(private, ck.CKD_NULL, point, b"", 0) == theirs.exchange(ours)
        with pytest.raises(errors.MechanismParamInvalid):
            agreed(private, ck.CKD_NULL, bytes(len(point)), b"", 0)


def test_ec_agreement_and_its_derivation() -> None:
    from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

    _, private = curve_pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC, OIDS["secp256r1"])
    theirs = ec.generate_private_key(ec.SECP256R1())
    point = theirs.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    scalar = ec.derive_private_key(int.from_bytes(private.attributes[ck.CKA_VALUE], "big"), ec.SECP256R1())
    right = theirs.exchange(ec.ECDH(), scalar.public_key())
    assert agreed(private, ck.CKD_NULL, point, b"", 0) == right
    assert agreed(private, ck.CKD_NULL, b"\x04\x41" + point, b"", 0) == right
    derived = X963KDF(hashes.SHA256(), 50, b"info").derive(right)
    assert agreed(private, ck.CKD_SHA256_KDF, point, b"info", 50) == derived
    with pytest.raises(errors.MechanismParamInvalid):
        agreed(private, ck.CKD_NULL, point[:-1] + bytes((point[-1] ^ 1,)), b"", 0)


@pytest.mark.parametrize("name", OIDS)
def test_ec_agreement_with_one_after_the_other(name: str) -> None:
    """A key's agreements share a context: none sees the point of the one before, or takes a wrong one."""
    curve = getattr(ec, name.upper() if name.startswith("secp") else "BrainpoolP384R1")()
    _, private = curve_pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC, OIDS[name])
    scalar = ec.derive_private_key(int.from_bytes(private.attributes[ck.CKA_VALUE], "big"), curve)
    forms = serialization.PublicFormat.UncompressedPoint, serialization.PublicFormat.CompressedPoint
    for turn in range(6):
        theirs = ec.generate_private_key(curve)
        point = theirs.public_key().public_bytes(serialization.Encoding.X962, forms[turn % 2])
        right = theirs.exchange(ec.ECDH(), scalar.public_key())
        assert agreed(private, ck.CKD_NULL, point, b"", 0) == right
        if turn % 2 == 0:
            half = len(point) // 2
            off_curve = point[:-1] + bytes((point[-1] ^ 1,))
            too_large = point[:1] + b"\xff" * half + point[1 + half :]
            for wrong in (
                off_curve,
                too_large,
                bytes((4,)) + bytes(2 * half),
                b"\0",
                b"\0" * len(point),
                b"\4",
            ):
                with pytest.raises(errors.MechanismParamInvalid):
                    agreed(private, ck.CKD_NULL, wrong, b"", 0)


def test_agreements_of_one_key_at_the_same_time() -> None:
    _, private = curve_pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC, OIDS["secp256r1"])
    scalar = ec.derive_private_key(int.from_bytes(private.attributes[ck.CKA_VALUE], "big"), ec.SECP256R1())

    def agree_often(theirs: ec.EllipticCurvePrivateKey) -> bool:
        point = theirs.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        right = theirs.exchange(ec.ECDH(), scalar.public_key())
        return all(agreed(private, ck.CKD_NULL, point, b"", 0) == right for _ in range(50))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(agree_often, [ec.generate_private_key(ec.SECP256R1()) for _ in range(8)]))


def test_raw_rsa_private_operations(rsa_pair: tuple[Key, Key]) -> None:
    public, private = rsa_pair
    numbers = rsa_public(public).public_numbers()
    for data in (b"", b"\1", b"x" * 255, bytes(256)):
        signature = whole(ck.CKF_SIGN, ck.CKM_RSA_X_509, None, private, data)
        assert pow(int.from_bytes(signature, "big"), numbers.e, numbers.n) == int.from_bytes(data, "big")
        begin(ck.CKF_VERIFY, ck.CKM_RSA_X_509, None, public).verify_now(data, signature)
        opened = whole(ck.CKF_VERIFY_RECOVER, ck.CKM_RSA_X_509, None, public, signature)
        assert opened == data.rjust(256, b"\0")
        sealed = whole(ck.CKF_ENCRYPT, ck.CKM_RSA_X_509, None, public, data)
        assert whole(ck.CKF_DECRYPT, ck.CKM_RSA_X_509, None, private, sealed) == data.rjust(256, b"\0")
    with pytest.raises(errors.DataInvalid):
        whole(ck.CKF_SIGN, ck.CKM_RSA_X_509, None, private, b"\xff" * 256)
    with pytest.raises(errors.DataLenRange):
        whole(ck.CKF_SIGN, ck.CKM_RSA_X_509, None, private, bytes(257))


def test_rsa_padding_both_ways(rsa_pair: tuple[Key, Key]) -> None:
    public, private = rsa_pair
    theirs, data = rsa_public(public), b"message"
    signature = whole(ck.CKF_SIGN, ck.CKM_SHA256_RSA_PKCS, None, private, data)
    theirs.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    pss = RsaPss(ck.CKM_SHA384, ck.CKG_MGF1_SHA384, 20)
    signature = whole(ck.CKF_SIGN, ck.CKM_SHA384_RSA_PKCS_PSS, pss, private, data)
    theirs.verify(signature, data, padding.PSS(padding.MGF1(hashes.SHA384()), 20), hashes.SHA384())
    for label in (b"", b"label"):
        oaep = RsaOaep(ck.CKM_SHA256, ck.CKG_MGF1_SHA1, ck.CKZ_DATA_SPECIFIED, label)
        scheme = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA256(), label)  # noqa: S303
        sealed = theirs.encrypt(data, scheme)
        assert whole(ck.CKF_DECRYPT, ck.CKM_RSA_PKCS_OAEP, oaep, private, sealed) == data
        with pytest.raises(errors.EncryptedDataInvalid):
            whole(ck.CKF_DECRYPT, ck.CKM_RSA_PKCS_OAEP, oaep, private, bytes(256))


def test_padded_decryption_is_left_to_libraries_that_hide_bad_padding(rsa_pair: tuple[Key, Key]) -> None:
    """Before 3.2 libcrypto answers a bad PKCS #1 v1.5 padding in a way that an attacker can use."""
    public, private = rsa_pair
    sealed = rsa_public(public).encrypt(b"message", padding.PKCS1v15())
    operation = _kernels.begin(ck.CKF_DECRYPT, ck.CKM_RSA_PKCS, None, private)
    version = tuple(int(part) for part in _kernels.name().split()[2].split(".")[:2])
    if version < (3, 2):
        assert operation is None
        assert not _kernels.serves(ck.CKF_DECRYPT, ck.CKM_RSA_PKCS)
    else:
        assert operation.once_now(sealed) == b"message"
        # No refusal for a bad padding: other bytes come out, always the same ones.
        bad = bytes((sealed[0] >> 1,)) + sealed[1:]
        first = whole(ck.CKF_DECRYPT, ck.CKM_RSA_PKCS, None, private, bad)
        assert first == whole(ck.CKF_DECRYPT, ck.CKM_RSA_PKCS, None, private, bad) != b"message"


def test_what_is_not_served_is_none() -> None:
    explicit = bytes.fromhex("3081") + bytes(20)
    unknown = key(ck.CKO_PUBLIC_KEY, ck.CKK_EC, {ck.CKA_EC_PARAMS: explicit, ck.CKA_EC_POINT: bytes(65)})
    assert _kernels.begin(ck.CKF_VERIFY, ck.CKM_ECDSA, None, unknown) is None
    assert _kernels.begin(ck.CKF_ENCRYPT, ck.CKM_DES3_CBC, bytes(8), secret(bytes(24), ck.CKK_DES3)) is None
    assert _kernels.generate_key(ck.CKM_DES3_KEY_GEN, {}) is None
    assert _kernels.generate_key_pair(ck.CKM_EC_KEY_PAIR_GEN, {ck.CKA_EC_PARAMS: explicit}) is None
    no_exponent = key(
        ck.CKO_PRIVATE_KEY, ck.CKK_RSA, {ck.CKA_MODULUS: b"\xff" * 256, ck.CKA_PRIVATE_EXPONENT: b"\1"}
    )
    assert _kernels.begin(ck.CKF_SIGN, ck.CKM_RSA_PKCS, None, no_exponent) is None


def test_generation_checks_its_template() -> None:
    assert len(_kernels.generate_key(ck.CKM_AES_KEY_GEN, {ck.CKA_VALUE_LEN: number(24)})[ck.CKA_VALUE]) == 24
    for template, error in (
        ({}, errors.TemplateIncomplete),
        ({ck.CKA_VALUE_LEN: number(17)}, errors.AttributeValueInvalid),
    ):
        with pytest.raises(error):
            _kernels.generate_key(ck.CKM_AES_KEY_GEN, template)
    for template, error in (
        ({}, errors.TemplateIncomplete),
        ({ck.CKA_MODULUS_BITS: number(512)}, errors.KeySizeRange),
        ({ck.CKA_MODULUS_BITS: number(1024), ck.CKA_PUBLIC_EXPONENT: b"\4"}, errors.AttributeValueInvalid),
    ):
        with pytest.raises(error):
            _kernels.generate_key_pair(ck.CKM_RSA_PKCS_KEY_PAIR_GEN, template)


@pytest.mark.parametrize("name", OIDS)
def test_every_new_pair_of_a_curve_is_another_and_fits(name: str) -> None:
    """Pairs are made one after the other in the same structures: each has a value and the point of it."""
    curve = getattr(ec, name.upper() if name.startswith("secp") else "BrainpoolP384R1")()
    length, values = (curve.key_size + 7) // 8, set()
    for _ in range(20):
        public, private = curve_pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC, OIDS[name])
        value = bytes(private.attributes[ck.CKA_VALUE])
        numbers = ec.derive_private_key(int.from_bytes(value, "big"), curve).public_key().public_numbers()
        point = b"\4" + numbers.x.to_bytes(length, "big") + numbers.y.to_bytes(length, "big")
        assert len(value) == length and public.attributes[ck.CKA_EC_POINT].endswith(point)
        values.add(value)
    assert len(values) == 20


def test_two_threads_cannot_be_in_one_operation() -> None:
    operation = begin(ck.CKF_DIGEST, ck.CKM_SHA256, None, None)
    data, outcomes = bytes(30_000_000), []

    def update() -> None:
        try:
            operation.update_now(data)
            outcomes.append("done")
        except errors.OperationActive:
            outcomes.append("refused")

    threads = [threading.Thread(target=update) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4 and "done" in outcomes and "refused" in outcomes


def test_nothing_is_left_behind() -> None:
    before = _kernels.living()
    for _ in range(100):
        ours = secret(_kernels.random(16))
        begin(ck.CKF_ENCRYPT, ck.CKM_AES_CTR, Ctr(128, IV), ours).update_now(b"x")
        whole(ck.CKF_ENCRYPT, ck.CKM_AES_CTR, Ctr(128, IV), ours, b"x")
        ours.wipe()
    assert _kernels.living() == before


@pytest.mark.parametrize("name", ["Operation", "SecretBuffer"])
def test_coroutines_and_names(name: str) -> None:
    assert hasattr(_kernels, name)
    operation = begin(ck.CKF_DIGEST, ck.CKM_SHA256, None, None)
    assert isinstance(operation, Operation)
    with pytest.raises(StopIteration) as stop:
        operation.once(memoryview(b"abc")).send(None)
    assert stop.value.value.hex().startswith("ba7816bf")
    assert "kernel" in repr(_kernels.capsule())
