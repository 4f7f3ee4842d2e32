"""ML-DSA, ML-KEM and SLH-DSA of kernels with libcrypto 3.5: known answers, expanded keys, bad input."""

from __future__ import annotations

import ctypes
import hashlib
import json
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptoki import CkMechanism, Cryptoki, mechanism, template
from engine_support import POSTQUANTUM
from mechanism_parameters import structure
from vector_files import records, root

from ferrohsm import constants as ck

if not POSTQUANTUM:
    pytest.skip("the kernels' libcrypto is older than 3.5", allow_module_level=True)

ONE_TOKEN = True
CASES = json.loads((Path(__file__).parents[1] / "vectors" / "slh_dsa.json").read_text())["cases"]
ML_DSA = {44: ck.CKP_ML_DSA_44, 65: ck.CKP_ML_DSA_65, 87: ck.CKP_ML_DSA_87}
ML_KEM = {512: ck.CKP_ML_KEM_512, 768: ck.CKP_ML_KEM_768, 1024: ck.CKP_ML_KEM_1024}
SLH_DSA = {
    f"{hash}-{bits}{speed}": getattr(ck, f"CKP_SLH_DSA_{hash}_{bits}{speed.upper()}")
    for hash in ("SHA2", "SHAKE")
    for bits in (128, 192, 256)
    for speed in "sf"
}
GENERATORS = {
    ck.CKK_ML_DSA: ck.CKM_ML_DSA_KEY_PAIR_GEN,
    ck.CKK_ML_KEM: ck.CKM_ML_KEM_KEY_PAIR_GEN,
    ck.CKK_SLH_DSA: ck.CKM_SLH_DSA_KEY_PAIR_GEN,
}
OPEN = ((ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True))


def private(key_type: int, chosen: int, **values: bytes) -> list[tuple[int, Any]]:
    given = [(getattr(ck, f"CKA_{name}"), value) for name, value in values.items()]
    head = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), (ck.CKA_KEY_TYPE, key_type), (ck.CKA_PARAMETER_SET, chosen)]
    return [*head, *given, *OPEN]


def public(key_type: int, chosen: int, value: bytes) -> list[tuple[int, Any]]:
    return [
        (ck.CKA_CLASS, ck.CKO_PUBLIC_KEY),
        (ck.CKA_KEY_TYPE, key_type),
        (ck.CKA_PARAMETER_SET, chosen),
        (ck.CKA_VALUE, value),
    ]


def refused(p11: Cryptoki, session: int, pairs: list[tuple[int, Any]]) -> str:
    return p11.rv("C_CreateObject", session, template(*pairs), len(pairs), ctypes.c_ulong(0))


def pair(p11: Cryptoki, session: int, key_type: int, chosen: int) -> tuple[int, int]:
    return p11.key_pair(session, GENERATORS[key_type], [(ck.CKA_PARAMETER_SET, chosen)], list(OPEN))


def how(
    type: int, context: bytes = b"", hash: int | None = None, hedge: int = ck.CKH_DETERMINISTIC_REQUIRED
) -> CkMechanism:
    fields = (hedge, context or None, len(context))
    return mechanism(type, structure(*fields) if hash is None else structure(*fields, hash))


def verified(p11: Cryptoki, session: int, way: CkMechanism, key: int, data: bytes, signature: bytes) -> str:
    p11("C_VerifyInit", session, way, key)
    return p11.rv("C_Verify", session, data, len(data), signature, len(signature))


def digest(name: str, message: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes

    hash = hashes.Hash(getattr(hashes, name)())
    hash.update(message)
    return hash.finalize()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['set']}-{case['hash']}")
def test_slh_dsa(p11: Cryptoki, session: int, case: dict[str, Any]) -> None:
    """NIST's ACVP vectors for FIPS 205, sigGen, deterministic, external interface."""
    value, context, message = (bytes.fromhex(case[name]) for name in ("key", "context", "message"))
    chosen, hash = SLH_DSA[case["set"]], case["hash"]
    key = p11.create(session, *private(ck.CKK_SLH_DSA, chosen, VALUE=value))
    other = p11.create(session, *public(ck.CKK_SLH_DSA, chosen, value[len(value) // 2 :]))
    assert p11.get(session, key, ck.CKA_PUBLIC_KEY_INFO) == p11.get(session, other, ck.CKA_PUBLIC_KEY_INFO)
    data, way = message, how(getattr(ck, case["mechanism"]), context)
    if hash is not None and hash.startswith("SHA512_"):  # which has no mechanism of its own
        data = digest(hash, message)
        way = how(getattr(ck, case["mechanism"]), context, getattr(ck, f"CKM_{hash}"))
    signature = p11.transform("Sign", session, way, key, data)
    assert hashlib.sha256(signature).hexdigest() == case["signature_sha256"]
    assert verified(p11, session, way, other, data, signature) == "CKR_OK"
    broken = bytearray(signature)
    broken[len(broken) // 3] ^= 4
    assert verified(p11, session, way, other, data, bytes(broken)) == "CKR_SIGNATURE_INVALID"
    assert verified(p11, session, way, other, data, signature[:-1]) == "CKR_SIGNATURE_LEN_RANGE"
    assert verified(p11, session, way, other, data, signature + b"\0") == "CKR_SIGNATURE_LEN_RANGE"


@pytest.mark.parametrize("name", ["SHA224", "SHA256", "SHA384", "SHA512", "SHA3_256", "SHA3_512"])
@pytest.mark.parametrize("scheme", ["SLH_DSA", "ML_DSA"])
def test_a_hash_that_is_given_is_the_same(p11: Cryptoki, session: int, scheme: str, name: str) -> None:
    key_type = getattr(ck, f"CKK_{scheme}")
    chosen = ck.CKP_SLH_DSA_SHA2_128F if scheme == "SLH_DSA" else ck.CKP_ML_DSA_44
    key = pair(p11, session, key_type, chosen)[1]
    whole = how(getattr(ck, f"CKM_HASH_{scheme}_{name}"), b"context")
    given = how(getattr(ck, f"CKM_HASH_{scheme}"), b"context", getattr(ck, f"CKM_{name}"))
    p11("C_SignInit", session, whole, key)
    p11("C_SignUpdate", session, b"in ", 3)
    p11("C_SignUpdate", session, b"parts", 5)
    signature = p11.whole("C_SignFinal", session)
    assert signature == p11.transform("Sign", session, whole, key, b"in parts")
    assert signature == p11.transform("Sign", session, given, key, digest(name, b"in parts"))
    p11("C_SignInit", session, given, key)
    assert p11.rv("C_Sign", session, b"short", 5, (ctypes.c_ubyte * 65536)(), ctypes.c_ulong(65536)) == (
        "CKR_DATA_LEN_RANGE"
    )
    p11("C_SignInit", session, given, key)
    assert p11.rv("C_SignUpdate", session, b"in parts", 8) == "CKR_FUNCTION_NOT_SUPPORTED"


@pytest.mark.parametrize("size", ML_DSA)
def test_ml_dsa(p11: Cryptoki, session: int, size: int) -> None:
    """The deterministic known answers of post-quantum-cryptography/KAT, by expanded keys and by seeds."""
    file = root() / "asymmetric" / "MLDSA" / f"kat_MLDSA_{size}_det_pure.rsp"
    for record in islice(records(file, "count"), 8):
        seed, value, raw, message, context, signed = (
            bytes.fromhex(record[name]) for name in ("xi", "sk", "pk", "msg", "ctx", "sm")
        )
        expected, way = signed[: -len(message)], how(ck.CKM_ML_DSA, context)
        other = p11.create(session, *public(ck.CKK_ML_DSA, ML_DSA[size], raw))
        assert verified(p11, session, way, other, message, expected) == "CKR_OK"
        for given in ({"VALUE": value}, {"SEED": seed}, {"SEED": seed, "VALUE": value}):
            key = p11.create(session, *private(ck.CKK_ML_DSA, ML_DSA[size], **given))
            assert p11.transform("Sign", session, way, key, message) == expected
            info = p11.get(session, key, ck.CKA_PUBLIC_KEY_INFO)
            assert info == p11.get(session, other, ck.CKA_PUBLIC_KEY_INFO)


def decapsulated(p11: Cryptoki, session: int, key: int, ciphertext: bytes) -> bytes:
    pairs = [(ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), *OPEN]
    arguments = (template(*pairs), len(pairs), ciphertext, len(ciphertext))
    made = p11.made("C_DecapsulateKey", session, mechanism(ck.CKM_ML_KEM), key, *arguments)
    return p11.get(session, made, ck.CKA_VALUE)


@pytest.mark.parametrize("size", ML_KEM)
def test_ml_kem(p11: Cryptoki, session: int, size: int) -> None:
    """The known answers of post-quantum-cryptography/KAT: shared secrets, and implicit rejection."""
    file = root() / "asymmetric" / "MLKEM" / f"kat_MLKEM_{size}.rsp"
    for record in islice(records(file, "count"), 8):
        seed, value = bytes.fromhex(record["d"] + record["z"]), bytes.fromhex(record["sk"])
        for given in ({"VALUE": value}, {"SEED": seed}, {"SEED": seed, "VALUE": value}):
            key = p11.create(session, *private(ck.CKK_ML_KEM, ML_KEM[size], **given))
            assert decapsulated(p11, session, key, bytes.fromhex(record["ct"])).hex() == record["ss"]
            assert decapsulated(p11, session, key, bytes.fromhex(record["ct_n"])).hex() == record["ss_n"]
        ciphertext = bytearray.fromhex(record["ct"])
        ciphertext[-1] ^= 1
        assert decapsulated(p11, session, key, bytes(ciphertext)).hex() != record["ss"]
        for length in (0, len(ciphertext) - 1):
            place = ctypes.c_ulong(0)
            arguments = (template(), 0, bytes(ciphertext), length, place)
            answer = p11.rv("C_DecapsulateKey", session, mechanism(ck.CKM_ML_KEM), key, *arguments)
            assert answer == "CKR_ENCRYPTED_DATA_LEN_RANGE"
        raw = bytes.fromhex(record["pk"])
        other = p11.create(session, *public(ck.CKK_ML_KEM, ML_KEM[size], raw))
        info = p11.get(session, key, ck.CKA_PUBLIC_KEY_INFO)
        assert info == p11.get(session, other, ck.CKA_PUBLIC_KEY_INFO)


@pytest.mark.parametrize(
    ("key_type", "chosen"),
    [
        *((ck.CKK_ML_DSA, chosen) for chosen in ML_DSA.values()),
        *((ck.CKK_ML_KEM, chosen) for chosen in ML_KEM.values()),
        *((ck.CKK_SLH_DSA, chosen) for chosen in SLH_DSA.values()),
    ],
)
def test_pairs(p11: Cryptoki, session: int, key_type: int, chosen: int) -> None:
    """What is generated is whole, comes back by its values, and from under another key."""
    other, key = pair(p11, session, key_type, chosen)
    value = p11.get(session, key, ck.CKA_VALUE)
    assert p11.get(session, key, ck.CKA_PARAMETER_SET) == chosen.to_bytes(8, "little")
    given = {"VALUE": value}
    if key_type != ck.CKK_SLH_DSA:
        given["SEED"] = p11.get(session, key, ck.CKA_SEED)
    info = p11.get(session, other, ck.CKA_PUBLIC_KEY_INFO)
    again = p11.create(session, *private(key_type, chosen, **given))
    expanded = p11.create(session, *private(key_type, chosen, VALUE=value))
    wrapping = p11.aes(session, length=32)
    wrap = mechanism(ck.CKM_AES_KEY_WRAP_KWP)
    head = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), (ck.CKA_KEY_TYPE, key_type), *OPEN]
    for source in (again, expanded):
        wrapped = p11.whole("C_WrapKey", session, wrap, wrapping, source)
        arguments = (wrapped, len(wrapped), template(*head), len(head))
        back = p11.made("C_UnwrapKey", session, wrap, wrapping, *arguments)
        assert p11.get(session, back, ck.CKA_PUBLIC_KEY_INFO) == info
        assert p11.get(session, back, ck.CKA_PARAMETER_SET) == chosen.to_bytes(8, "little")
        wrong = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), (ck.CKA_KEY_TYPE, ck.CKK_EC), *OPEN]
        for pairs in (wrong, [*wrong[:1], (ck.CKA_KEY_TYPE, _another(key_type)), *OPEN]):
            place = ctypes.c_ulong(0)
            arguments = (wrapped, len(wrapped), template(*pairs), len(pairs), place)
            assert p11.rv("C_UnwrapKey", session, wrap, wrapping, *arguments) == "CKR_WRAPPED_KEY_INVALID"
    assert p11.get(session, back, ck.CKA_VALUE) == value
    derive = mechanism(ck.CKM_PUB_KEY_FROM_PRIV_KEY)
    half = p11.made("C_DeriveKey", session, derive, expanded, template(), 0)
    assert p11.get(session, half, ck.CKA_VALUE) == p11.get(session, other, ck.CKA_VALUE)


def _another(key_type: int) -> int:
    return ck.CKK_ML_KEM if key_type == ck.CKK_SLH_DSA else ck.CKK_SLH_DSA


@pytest.mark.parametrize("key_type", GENERATORS)
def test_keys_that_are_none(p11: Cryptoki, session: int, key_type: int) -> None:
    """Lengths, other sets, and a changed byte wherever another part of the key tells."""
    chosen = {ck.CKK_ML_DSA: 1, ck.CKK_ML_KEM: 1, ck.CKK_SLH_DSA: ck.CKP_SLH_DSA_SHA2_128F}[key_type]
    other, key = pair(p11, session, key_type, chosen)
    value, raw = (p11.get(session, handle, ck.CKA_VALUE) for handle in (key, other))
    invalid = "CKR_ATTRIBUTE_VALUE_INVALID"
    for wrong in (value[:-1], value + b"\0", value[:1]):
        assert refused(p11, session, private(key_type, chosen, VALUE=wrong)) == invalid
    for wrong in (raw[:-1], raw + b"\0"):
        assert refused(p11, session, public(key_type, chosen, wrong)) == invalid
    # In the sets that follow all keys are longer, but for one of SLH-DSA: there the root tells.
    assert refused(p11, session, private(key_type, chosen + 1, VALUE=value)) == invalid
    assert refused(p11, session, private(key_type, 77, VALUE=value)) == "CKR_PARAMETER_SET_NOT_SUPPORTED"
    assert refused(p11, session, public(key_type, 77, raw)) == "CKR_PARAMETER_SET_NOT_SUPPORTED"
    assert refused(p11, session, private(key_type, chosen)) == "CKR_TEMPLATE_INCOMPLETE"
    # Nothing follows from K of ML-DSA, z of ML-KEM and the seed of SLH-DSA's pseudorandom function.
    free = {
        ck.CKK_ML_DSA: range(32, 64),
        ck.CKK_ML_KEM: range(len(value) - 32, len(value)),
        ck.CKK_SLH_DSA: range(16, 32),
    }[key_type]
    step = 1 if key_type == ck.CKK_SLH_DSA else 61
    for place in range(0, len(value), step):
        changed = bytearray(value)
        changed[place] ^= 1
        answer = refused(p11, session, private(key_type, chosen, VALUE=bytes(changed)))
        assert answer == ("CKR_OK" if place in free else invalid), place
    if key_type == ck.CKK_SLH_DSA:
        return
    seed = p11.get(session, key, ck.CKA_SEED)
    for wrong in (seed[:-1], seed + b"\0"):
        assert refused(p11, session, private(key_type, chosen, SEED=wrong)) == invalid
    changed = bytearray(value)
    changed[free.start] ^= 1
    for both in ({"SEED": seed, "VALUE": bytes(changed)}, {"SEED": bytes(len(seed)), "VALUE": value}):
        assert refused(p11, session, private(key_type, chosen, **both)) == invalid


@pytest.mark.parametrize("scheme", ["SLH_DSA", "ML_DSA"])
def test_parameters(p11: Cryptoki, session: int, scheme: str) -> None:
    key_type = getattr(ck, f"CKK_{scheme}")
    chosen = ck.CKP_SLH_DSA_SHA2_128F if scheme == "SLH_DSA" else ck.CKP_ML_DSA_44
    other, key = pair(p11, session, key_type, chosen)
    pure, given = getattr(ck, f"CKM_{scheme}"), getattr(ck, f"CKM_HASH_{scheme}")
    sha256 = ck.CKM_SHA256
    # Twice: the second time the decision is remembered, and the kernels look at the parameter first.
    for _ in range(2):
        for wrong in (
            how(pure, bytes(256)),
            how(pure, hedge=3),
            how(given, bytes(256), sha256),
            how(given, b"", sha256, hedge=3),
            how(given, b"", ck.CKM_SHA_1),
            how(given, b"", ck.CKM_AES_ECB),
            how(given, b"", ck.CK_UNAVAILABLE_INFORMATION),
            how(given, b""),
            how(pure, b"", sha256),
            mechanism(given),
        ):
            assert p11.rv("C_SignInit", session, wrong, key) == "CKR_MECHANISM_PARAM_INVALID"
        for hedge in (ck.CKH_HEDGE_PREFERRED, ck.CKH_HEDGE_REQUIRED):
            way = how(pure, bytes(255), hedge=hedge)
            made = [p11.transform("Sign", session, way, key, b"") for _ in range(2)]
            assert made[0] != made[1]
            for signature in made:
                assert verified(p11, session, way, other, b"", signature) == "CKR_OK"
                assert verified(p11, session, how(pure, bytes(254)), other, b"", signature) == (
                    "CKR_SIGNATURE_INVALID"
                )
                assert verified(p11, session, mechanism(pure), other, b"", signature) == (
                    "CKR_SIGNATURE_INVALID"
                )
        made = [p11.transform("Sign", session, how(pure), key, b"data") for _ in range(2)]
        assert made[0] == made[1]
        assert verified(p11, session, mechanism(pure), other, b"data", made[0]) == "CKR_OK"
        # Who verifies need not know how it was made.
        assert verified(p11, session, how(pure, hedge=99), other, b"data", made[0]) == "CKR_OK"
    wrong_key = pair(p11, session, _another(key_type), 3)[1]
    assert p11.rv("C_SignInit", session, how(pure), wrong_key) == "CKR_KEY_TYPE_INCONSISTENT"
    assert p11.rv("C_SignInit", session, how(pure), other) == "CKR_KEY_TYPE_INCONSISTENT"
    p11("C_SignInit", session, how(pure), key)
    length = ctypes.c_ulong(0)
    p11("C_Sign", session, b"data", 4, None, length)
    room = (ctypes.c_ubyte * length.value)()
    short = ctypes.c_ulong(length.value - 1)
    assert p11.rv("C_Sign", session, b"data", 4, room, short) == "CKR_BUFFER_TOO_SMALL"
    assert short.value == length.value == len(made[0])
    p11("C_Sign", session, b"data", 4, room, length)
    assert bytes(room) == made[0]


@pytest.mark.parametrize("scheme", ["SLH_DSA", "ML_DSA"])
def test_the_second_signature_needs_no_python(p11: Cryptoki, session: int, scheme: str) -> None:
    from pkcs11_abi.module import calls_without_python

    chosen = ck.CKP_SLH_DSA_SHA2_128F if scheme == "SLH_DSA" else ck.CKP_ML_DSA_44
    other, key = pair(p11, session, getattr(ck, f"CKK_{scheme}"), chosen)
    for way in (
        how(getattr(ck, f"CKM_{scheme}"), b"context"),
        how(getattr(ck, f"CKM_HASH_{scheme}_SHA256")),
        how(getattr(ck, f"CKM_HASH_{scheme}"), b"context", ck.CKM_SHA256),
    ):
        first = p11.transform("Sign", session, way, key, bytes(32))
        assert verified(p11, session, way, other, bytes(32), first) == "CKR_OK"
        before = calls_without_python()
        assert p11.transform("Sign", session, way, key, bytes(32)) == first
        assert verified(p11, session, way, other, bytes(32), first) == "CKR_OK"
        assert calls_without_python() == before + 4


def test_one_key_in_many_threads(p11: Cryptoki, session: int) -> None:
    _, key = pair(p11, session, ck.CKK_ML_DSA, ck.CKP_ML_DSA_65)
    slow = pair(p11, session, ck.CKK_SLH_DSA, ck.CKP_SLH_DSA_SHA2_128F)[1]
    ways = {key: how(ck.CKM_ML_DSA, b"c"), slow: how(ck.CKM_SLH_DSA, b"c")}
    expected = {handle: p11.transform("Sign", session, way, handle, b"data") for handle, way in ways.items()}
    slot, wrong = p11.slots()[0], []

    def work() -> None:
        own = p11.open(slot)
        for handle, way in [*ways.items()] * 3:
            if p11.transform("Sign", own, way, handle, b"data") != expected[handle]:
                wrong.append(handle)
        p11("C_CloseSession", own)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
