"""Keys whose material is always the same, as templates: a pair of them, or one for a secret key.

They were made for these tests and protect nothing.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ferrohsm import constants as ck

Pairs = list[tuple[int, Any]]


def number(text: str) -> int:
    return int(text, 16)


def octets(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


RSA_P = number(
    "f8a2563dc8569a13cc9b4327bb0aaff8c263b48bb850a9dfe6a7b3902835af8fe28716eebadbc732842593cbe63e3615"
    "43e3347becd91c041c85a1c616c4775433d68418d6e7c1224625f97f936db9bae0b06a7f7256f63cfdd8755b34eb25aa"
    "f39d8a981c012865fa78b7a338348cca5d1d320e315f6fec261015b96df69fcf"
)
RSA_Q = number(
    "ecad78aad0fed91b0aa876d96003587be262f56842e4b7ae0322aaf2552c922d02fafc1c53d87da51ab787c816808ead"
    "e203aaa0dd4b37a4dcd1eddf5fecd42e46201a6c041cb155ad524a469833580a082db49b5801c192129edf274d124435"
    "d936de53e9c63a64c19a2bc4d867b98ef3819811502940d427d6f4f6afca3191"
)
DSA_P = number(
    "c80d26a26c027ecf58dd05c092e8e9e54926a9b58864f750178848e011b98aa42ab0022e6589831528186a4ec5891e93"
    "cf236626db79dd44513ea26ae188fca94481b7b51447ea222a25182b32fc44dbbd31ff494858436a06368187399983e7"
    "3b5fb92562f98118eee5feae2c7dff4fd04bbe28ae3ba1284d7101cc49aec329"
)
DSA_Q = number("9bee496cb4c8311ac79e395389d0d38f6df1499f")
DSA_G = number(
    "bf69490ff3e1f1b866cb45f8e8ea3871010ba15057b19351b21f964d6f7cd58d76980c1f99b234e20af350a09691fc49"
    "aaf158544d69dc960e8faf42ab5dd1ce89196a1789ecb428aab42b8cba101941380c879cbbd2dce59079983ac2e6501a"
    "f15ee15520694b480592a10439b9006e9b3b86bdf2cf36224f08ee294a41fdca"
)
# The 2048-bit group of RFC 3526.
DH_P = number(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd"
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f"
    "83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b"
    "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510"
    "15728e5a8aacaa68ffffffffffffffff"
)
SCALAR = 0x1F2E3D4C5B6A798897A6B5C4D3E2F1000112233445566778899AABBCCDDEEFF0
SEED = bytes(range(32))

COMMON: Pairs = [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True), (ck.CKA_LABEL, b"known")]


def _public(key_type: int, *material: tuple[int, Any], crypt: bool = False, verify: bool = True) -> Pairs:
    head: Pairs = [(ck.CKA_CLASS, ck.CKO_PUBLIC_KEY), (ck.CKA_KEY_TYPE, key_type), (ck.CKA_PRIVATE, False)]
    uses: Pairs = [(ck.CKA_VERIFY, verify), (ck.CKA_ENCRYPT, crypt), (ck.CKA_WRAP, crypt)]
    return [*head, *uses, (ck.CKA_LABEL, b"known"), *material]


def _private(
    key_type: int, *material: tuple[int, Any], crypt: bool = False, sign: bool = True, derive: bool = False
) -> Pairs:
    head: Pairs = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), (ck.CKA_KEY_TYPE, key_type), *COMMON]
    uses: Pairs = [
        (ck.CKA_SIGN, sign),
        (ck.CKA_DECRYPT, crypt),
        (ck.CKA_UNWRAP, crypt),
        (ck.CKA_DERIVE, derive),
    ]
    return [*head, *uses, *material]


def _secret(key_type: int, value: bytes) -> Pairs:
    names = ("ENCRYPT", "DECRYPT", "SIGN", "VERIFY", "WRAP", "UNWRAP", "DERIVE")
    uses: Pairs = [(getattr(ck, f"CKA_{name}"), True) for name in names]
    return [
        (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
        (ck.CKA_KEY_TYPE, key_type),
        *COMMON,
        *uses,
        (ck.CKA_VALUE, value),
    ]


def _rsa() -> tuple[Pairs, Pairs]:
    e, n = 65537, RSA_P * RSA_Q
    d = pow(e, -1, (RSA_P - 1) * (RSA_Q - 1))
    both = [(ck.CKA_MODULUS, octets(n)), (ck.CKA_PUBLIC_EXPONENT, octets(e))]
    secret = [
        (ck.CKA_PRIVATE_EXPONENT, octets(d)),
        (ck.CKA_PRIME_1, octets(RSA_P)),
        (ck.CKA_PRIME_2, octets(RSA_Q)),
        (ck.CKA_EXPONENT_1, octets(d % (RSA_P - 1))),
        (ck.CKA_EXPONENT_2, octets(d % (RSA_Q - 1))),
        (ck.CKA_COEFFICIENT, octets(pow(RSA_Q, -1, RSA_P))),
    ]
    return _public(ck.CKK_RSA, *both, crypt=True), _private(ck.CKK_RSA, *both, *secret, crypt=True)


def _ec() -> tuple[Pairs, Pairs]:
    curve = (ck.CKA_EC_PARAMS, bytes.fromhex("06082a8648ce3d030107"))
    public = ec.derive_private_key(SCALAR, ec.SECP256R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    wrapped = (ck.CKA_EC_POINT, bytes((4, len(point))) + point)
    return (
        _public(ck.CKK_EC, curve, wrapped),
        _private(ck.CKK_EC, curve, (ck.CKA_VALUE, octets(SCALAR)), derive=True),
    )


def _ed25519() -> tuple[Pairs, Pairs]:
    curve = (ck.CKA_EC_PARAMS, bytes.fromhex("06032b6570"))
    point = ed25519.Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    wrapped = (ck.CKA_EC_POINT, bytes((4, len(point))) + point)
    return (
        _public(ck.CKK_EC_EDWARDS, curve, wrapped),
        _private(ck.CKK_EC_EDWARDS, curve, (ck.CKA_VALUE, SEED)),
    )


def _x25519() -> tuple[Pairs, Pairs]:
    curve = (ck.CKA_EC_PARAMS, bytes.fromhex("06032b656e"))
    point = x25519.X25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    wrapped = (ck.CKA_EC_POINT, bytes((4, len(point))) + point)
    return (
        _public(ck.CKK_EC_MONTGOMERY, curve, wrapped, verify=False),
        _private(ck.CKK_EC_MONTGOMERY, curve, (ck.CKA_VALUE, SEED), sign=False, derive=True),
    )


def _dsa() -> tuple[Pairs, Pairs]:
    x = SCALAR % DSA_Q
    domain = [
        (ck.CKA_PRIME, octets(DSA_P)),
        (ck.CKA_SUBPRIME, octets(DSA_Q)),
        (ck.CKA_BASE, octets(DSA_G)),
    ]
    return (
        _public(ck.CKK_DSA, *domain, (ck.CKA_VALUE, octets(pow(DSA_G, x, DSA_P)))),
        _private(ck.CKK_DSA, *domain, (ck.CKA_VALUE, octets(x))),
    )


def _dh() -> tuple[Pairs, Pairs]:
    domain = [(ck.CKA_PRIME, octets(DH_P)), (ck.CKA_BASE, b"\2")]
    return (
        _public(ck.CKK_DH, *domain, (ck.CKA_VALUE, octets(pow(2, SCALAR, DH_P))), verify=False),
        _private(ck.CKK_DH, *domain, (ck.CKA_VALUE, octets(SCALAR)), sign=False, derive=True),
    )


KEYS: dict[int, Any] = {
    ck.CKK_RSA: _rsa(),
    ck.CKK_EC: _ec(),
    ck.CKK_EC_EDWARDS: _ed25519(),
    ck.CKK_EC_MONTGOMERY: _x25519(),
    ck.CKK_DSA: _dsa(),
    ck.CKK_DH: _dh(),
    ck.CKK_AES: _secret(ck.CKK_AES, bytes(range(32))),
    ck.CKK_GENERIC_SECRET: _secret(ck.CKK_GENERIC_SECRET, bytes(range(64))),
    ck.CKK_DES: _secret(ck.CKK_DES, bytes.fromhex("0123456789abcdef")),
    ck.CKK_DES2: _secret(ck.CKK_DES2, bytes.fromhex("0123456789abcdeffedcba9876543210")),
    ck.CKK_DES3: _secret(ck.CKK_DES3, bytes.fromhex("0123456789abcdeffedcba987654321089abcdef01234567")),
}
