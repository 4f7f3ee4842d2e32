"""ML-KEM and ML-DSA with kyber-py and dilithium-py: FIPS 203 and 204 written down in Python."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from typing import Any

import mechanism_parameters as parameters
from cryptoki import RefusedError, template
from keys import OPEN, usable
from sides import Side

from ferrohsm import constants as ck
from ferrohsm.mechanisms import HASHES, ROWS, Row

Case = Callable[[Side, Row], None]
DATA = bytes(range(64))
CONTEXT = b"context"
SEED = bytes(range(64))
# The last number of 2.16.840.1.101.3.4.2.x, and the digest that HashML-DSA takes of SHAKE.
_HASH_NUMBERS = {
    "sha256": 1, "sha384": 2, "sha512": 3, "sha224": 4, "sha512_224": 5, "sha512_256": 6,
    "sha3_224": 7, "sha3_256": 8, "sha3_384": 9, "sha3_512": 10, "shake128": 11, "shake256": 12,
}  # fmt: skip
_SHAKES = {"shake128": 32, "shake256": 64}


def _kems() -> dict[int, Any]:
    from kyber_py.ml_kem import ML_KEM_512, ML_KEM_768, ML_KEM_1024

    return {ck.CKP_ML_KEM_512: ML_KEM_512, ck.CKP_ML_KEM_768: ML_KEM_768, ck.CKP_ML_KEM_1024: ML_KEM_1024}


def _signers() -> dict[int, Any]:
    from dilithium_py.ml_dsa import ML_DSA_44, ML_DSA_65, ML_DSA_87

    return {ck.CKP_ML_DSA_44: ML_DSA_44, ck.CKP_ML_DSA_65: ML_DSA_65, ck.CKP_ML_DSA_87: ML_DSA_87}


def _key(side: Side, key_type: int, object_class: int, set_: int, *material: tuple[int, Any]) -> int:
    uses = {
        (ck.CKK_ML_DSA, ck.CKO_PUBLIC_KEY): ck.CKA_VERIFY,
        (ck.CKK_ML_DSA, ck.CKO_PRIVATE_KEY): ck.CKA_SIGN,
        (ck.CKK_ML_KEM, ck.CKO_PUBLIC_KEY): ck.CKA_ENCAPSULATE,
        (ck.CKK_ML_KEM, ck.CKO_PRIVATE_KEY): ck.CKA_DECAPSULATE,
    }
    head = [(ck.CKA_CLASS, object_class), (ck.CKA_KEY_TYPE, key_type), (ck.CKA_PARAMETER_SET, set_)]
    if object_class == ck.CKO_PRIVATE_KEY:
        head += OPEN
    return side.create([*head, (uses[key_type, object_class], True), *material])


def _offered(side: Side, key_type: int, sets: dict[int, Any], length: int) -> list[tuple[int, Any, Any]]:
    """Return the parameter sets that our module has, with theirs and a private key of the known seed."""
    found = []
    for set_, theirs in sets.items():
        try:
            seed = (ck.CKA_SEED, SEED[:length])
            found.append((set_, theirs, _key(side, key_type, ck.CKO_PRIVATE_KEY, set_, seed)))
        except RefusedError as refused:
            if "PARAMETER_SET" not in refused.rv:
                raise
    assert len(found) > 1
    return found


def generates(side: Side, row: Row) -> None:
    """A seed that was generated here gives there the same public key."""
    assert row.produces is not None
    sets, length = (_kems(), 64) if row.produces == ck.CKK_ML_KEM else (_signers(), 32)
    for set_, theirs, _ in _offered(side, row.produces, sets, length):
        public, private = side.generate_pair(row.type, [(ck.CKA_PARAMETER_SET, set_)], OPEN)
        seed = side.p11.get(side.session, private, ck.CKA_SEED)
        expected, _ = theirs.key_derive(seed)
        assert side.p11.get(side.session, public, ck.CKA_VALUE) == expected


def encapsulates(side: Side, row: Row) -> None:
    for set_, theirs, private in _offered(side, ck.CKK_ML_KEM, _kems(), 64):
        encapsulation, decapsulation = theirs.key_derive(SEED)
        public = _key(side, ck.CKK_ML_KEM, ck.CKO_PUBLIC_KEY, set_, (ck.CKA_VALUE, encapsulation))
        pairs = usable(ck.CKK_GENERIC_SECRET)
        sent, handle = (ctypes.c_ubyte * 2048)(), ctypes.c_ulong(0)
        length = ctypes.c_ulong(len(sent))
        arguments = (side.how(row.type), public, template(*pairs), len(pairs), sent, length, handle)
        side.p11("C_EncapsulateKey", side.session, *arguments)
        ciphertext = bytes(sent[: length.value])
        assert theirs.decaps(decapsulation, ciphertext) == side.value(handle.value)
        secret, ciphertext = theirs.encaps(encapsulation)
        arguments = (side.how(row.type), private, template(*pairs), len(pairs), ciphertext, len(ciphertext))
        made = side.p11.made("C_DecapsulateKey", side.session, *arguments)
        assert side.value(made) == secret


def _message(name: str | None, data: bytes) -> bytes:
    """Return what is signed (FIPS 204, algorithms 2 and 4): the context, and the message or its digest."""
    if name is None:
        return b"\0" + bytes((len(CONTEXT),)) + CONTEXT + data
    digest = hashlib.new(name)
    digest.update(data)
    made = digest.digest(_SHAKES[name]) if name in _SHAKES else digest.digest()  # type: ignore[call-arg]
    identifier = bytes.fromhex("06096086480165030402") + bytes((_HASH_NUMBERS[name],))
    return b"\1" + bytes((len(CONTEXT),)) + CONTEXT + identifier + made


def signs(side: Side, row: Row) -> None:
    name, data = row.hash, DATA
    given: Any = parameters.structure(ck.CKH_HEDGE_PREFERRED, CONTEXT, len(CONTEXT))
    if row.parameter == "hash_sign_context":
        name, data = "sha256", hashlib.sha256(DATA).digest()
        hash = HASHES["sha256"].type
        given = parameters.structure(ck.CKH_HEDGE_PREFERRED, CONTEXT, len(CONTEXT), hash)
    for set_, theirs, private in _offered(side, ck.CKK_ML_DSA, _signers(), 32):
        verifying, signing = theirs.key_derive(SEED[:32])
        public = _key(side, ck.CKK_ML_DSA, ck.CKO_PUBLIC_KEY, set_, (ck.CKA_VALUE, verifying))
        ours = side.transform("Sign", side.how(row.type, given), private, data)
        assert theirs._verify_internal(verifying, _message(name, DATA), ours)
        signature = theirs._sign_internal(signing, _message(name, DATA), bytes(32))
        assert side.verify(side.how(row.type, given), public, data, signature) == "CKR_OK"
        wrong = side.verify(side.how(row.type), public, data, signature) if name is None else "none"
        assert wrong != "CKR_OK"


def offered(kem: bool) -> dict[int, dict[str, Case]]:
    """Return the cases of every mechanism that there are some for."""
    made: dict[int, dict[str, Case]] = {}
    for type_, row in ROWS.items():
        key_type = row.produces or (row.key_types or (0,))[0]
        if key_type != (ck.CKK_ML_KEM if kem else ck.CKK_ML_DSA) or row.family == "public":
            continue
        if row.produces is not None:
            made[type_] = {"generate pair": generates}
        else:
            made[type_] = {"encapsulate": encapsulates} if kem else {"sign": signs}
    return made
