"""Mechanisms computed with Python's own hashlib, hmac and integers, which share no code with the engines."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import mechanism_parameters as parameters
from keys import PAIRS, SECRETS, Pair, usable
from known_keys import DH_P, SCALAR, octets
from sides import Side

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import HMAC_TYPES
from ferrohsm.mechanisms import HASHES, ROWS, Row

DATA = bytes(range(64))
SECRET = SECRETS[ck.CKK_GENERIC_SECRET]
GENERIC = ck.CKK_GENERIC_SECRET


def digest(name: str, data: bytes) -> bytes:
    """Return a digest by our name of the hash."""
    if name.startswith("blake2b_"):
        return hashlib.blake2b(data, digest_size=int(name[8:]) // 8).digest()
    return hashlib.new(name, data).digest()


def mac(name: str, key: bytes, *data: bytes) -> bytes:
    """Return the HMAC of the joined data."""
    if name.startswith("blake2b_"):
        maker: Any = lambda d=b"": hashlib.blake2b(d, digest_size=int(name[8:]) // 8)  # noqa: E731
        return hmac.new(key, b"".join(data), maker).digest()
    return hmac.new(key, b"".join(data), name).digest()


def prf(secret: bytes, seed: bytes, length: int, name: str = "sha256") -> bytes:
    """Return P_hash of TLS 1.2 (RFC 5246, section 5); the label stands before the seed."""
    out, a = b"", seed
    while len(out) < length:
        a = mac(name, secret, a)
        out += mac(name, secret, a, seed)
    return out[:length]


def hkdf(name: str, key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Return what RFC 5869 makes."""
    size = HASHES[name].length
    extracted, out, block = mac(name, salt or bytes(size), key), b"", b""
    for number in range(1, 256):
        block = mac(name, extracted, block, info, bytes((number,)))
        out += block
        if len(out) >= length:
            break
    return out[:length]


def derived(side: Side, type_: int, parameter: Any, base: bytes = SECRET, length: int | None = 16) -> bytes:
    """Return what our module derives from a generic secret."""
    pairs = usable(GENERIC) if length is None else [*usable(GENERIC), (ck.CKA_VALUE_LEN, length)]
    return side.value(side.derive(side.how(type_, parameter), side.secret(GENERIC, base), pairs))


def digests(side: Side, row: Row) -> None:
    name, parameter = row.hash, None
    if row.type == ck.CKM_SHA512_T:
        name, parameter = "sha512_224", parameters.structure(224)
    assert name is not None
    for data in (b"", DATA, bytes(1000)):
        assert side.digest(side.how(row.type, parameter), data) == digest(name, data)


def macs(side: Side, row: Row) -> None:
    """HMAC, in whole and cut."""
    assert row.hash is not None
    size = HASHES[row.hash].length
    for key in (SECRET, SECRET[:20], bytes(range(200))):
        lengths = (size,) if row.parameter == "none" else (size, size // 2, 4)
        for length in lengths:
            parameter = None if row.parameter == "none" else parameters.structure(length)
            checked(
                side,
                row.type,
                parameter,
                side.secret(GENERIC, key),
                mac(row.hash, key, DATA)[:length],
                DATA,
            )


def checked(side: Side, type_: int, parameter: Any, key: int, expected: bytes, data: bytes) -> None:
    """Sign and verify with a MAC whose value is known."""
    assert side.transform("Sign", side.how(type_, parameter), key, data) == expected
    assert side.verify(side.how(type_, parameter), key, data, expected) == "CKR_OK"
    wrong = expected[:-1] + bytes((expected[-1] ^ 1,))
    assert side.verify(side.how(type_, parameter), key, data, wrong) == "CKR_SIGNATURE_INVALID"


def hash_keys(side: Side, row: Row) -> None:
    """Keys that are a digest of a key."""
    if row.type == ck.CKM_SHA512_T_KEY_DERIVATION:
        made = derived(side, row.type, parameters.structure(256), length=None)
        assert made == digest("sha512_256", SECRET)
    elif row.hash in ("shake128", "shake256"):
        assert derived(side, row.type, None, length=100) == hashlib.new(row.hash, SECRET).digest(100)
    else:
        assert row.hash is not None
        assert derived(side, row.type, None, length=None) == digest(row.hash, SECRET)


def generated(side: Side, row: Row) -> None:
    """A generated HMAC key: what it authenticates is what hmac does with its value."""
    assert row.produces is not None
    names = {key_type: name for name, key_type in HMAC_TYPES.items()}
    name = names.get(row.produces, "sha256")
    made = side.generate(side.how(row.type), [*usable(row.produces), (ck.CKA_VALUE_LEN, 48)])
    value = side.value(made)
    if row.produces == ck.CKK_HKDF:
        how = side.how(ck.CKM_HKDF_DERIVE, parameters.hkdf(ck.CKM_SHA256, info=b"info"))
        got = side.value(side.derive(how, made, [*usable(GENERIC), (ck.CKA_VALUE_LEN, 50)]))
        assert got == hkdf("sha256", value, b"", b"info", 50)
        return
    stem = "SHA_1" if name == "sha1" else name.upper()
    checked(side, getattr(ck, f"CKM_{stem}_HMAC"), None, made, mac(name, value, DATA), DATA)


def passwords(side: Side, row: Row) -> None:
    for name in ("sha1", "sha224", "sha256", "sha384", "sha512"):
        function = getattr(ck, f"CKP_PKCS5_PBKD2_HMAC_{name.upper()}")
        how = side.how(row.type, parameters.pbkd2(b"password", b"salt", 20, function))
        made = side.generate(how, [*usable(GENERIC), (ck.CKA_VALUE_LEN, 70)])
        assert side.value(made) == hashlib.pbkdf2_hmac(name, b"password", b"salt", 20, 70)


def hkdf_keys(side: Side, row: Row) -> None:
    for hash_name in ("sha1", "sha256", "sha512", "sha3_256"):
        for salt in (b"salt", None):
            parameter = parameters.hkdf(HASHES[hash_name].type, salt=salt, info=b"info")
            pairs = [*usable(GENERIC), (ck.CKA_VALUE_LEN, 70)]
            if row.object_class == ck.CKO_DATA:
                pairs = [(ck.CKA_CLASS, ck.CKO_DATA), (ck.CKA_PRIVATE, False), (ck.CKA_VALUE_LEN, 70)]
            made = side.derive(side.how(row.type, parameter), side.secret(ck.CKK_HKDF, SECRET), pairs)
            assert side.value(made) == hkdf(hash_name, SECRET, salt or b"", b"info", 70)


def sp800_108(side: Side, row: Row) -> None:
    """The three modes of SP 800-108, section 4, with a counter of 32 bits and the length at the end."""
    fixed, length = b"label\0context", 75
    after = fixed + (length * 8).to_bytes(4, "big")
    blocks, chain = [], b""
    for number in range(1, 4):
        counter = number.to_bytes(4, "big")
        if row.type == ck.CKM_SP800_108_DOUBLE_PIPELINE_KDF:
            chain = mac("sha256", SECRET, chain or after)
            blocks.append(mac("sha256", SECRET, chain, counter, after))
        elif row.type == ck.CKM_SP800_108_FEEDBACK_KDF:
            chain = mac("sha256", SECRET, chain or DATA[:32], counter, after)
            blocks.append(chain)
        else:
            blocks.append(mac("sha256", SECRET, counter, after))
    counting = row.type == ck.CKM_SP800_108_COUNTER_KDF
    iteration = parameters.counter() if counting else None
    pieces = [parameters.piece(ck.CK_SP800_108_ITERATION_VARIABLE, iteration)]
    if not counting:
        pieces.append(parameters.piece(ck.CK_SP800_108_COUNTER, parameters.counter()))
    pieces.append(parameters.piece(ck.CK_SP800_108_BYTE_ARRAY, fixed))
    pieces.append(parameters.piece(ck.CK_SP800_108_DKM_LENGTH, parameters.dkm_length()))
    if row.parameter == "sp800_108":
        parameter = parameters.sp800_108(ck.CKM_SHA256_HMAC, *pieces)
    else:
        parameter = parameters.sp800_108_feedback(ck.CKM_SHA256_HMAC, DATA[:32], *pieces)
    assert derived(side, row.type, parameter, length=length) == b"".join(blocks)[:length]


def rearranged(side: Side, row: Row) -> None:
    other = DATA[7:39]
    bits = int.from_bytes(SECRET, "big")
    expected = {
        ck.CKM_CONCATENATE_BASE_AND_KEY: SECRET + other,
        ck.CKM_CONCATENATE_BASE_AND_DATA: SECRET + other,
        ck.CKM_CONCATENATE_DATA_AND_BASE: other + SECRET,
        ck.CKM_XOR_BASE_AND_DATA: bytes(a ^ b for a, b in zip(SECRET, other, strict=False)),
        ck.CKM_EXTRACT_KEY_FROM_KEY: (bits >> (512 - 21 - 128) & ((1 << 128) - 1)).to_bytes(16, "big"),
    }[row.type]
    length = None
    if row.parameter == "key":
        parameter = parameters.structure(side.secret(GENERIC, other))
    elif row.parameter == "ulong":
        parameter, length = parameters.structure(21), 16
    else:
        parameter = parameters.string(other)
    assert derived(side, row.type, parameter, length=length) == expected


def tls_masters(side: Side, row: Row) -> None:
    extended, dh = row.parameter == "tls12_extended_master", "_DH" in ck.name("CKM", row.type)
    for name in ("sha256", "sha384"):
        hash_type = HASHES[name].type
        base = DATA if dh else b"\3\3" + DATA[:46]
        if extended:
            parameter: Any = parameters.structure(hash_type, DATA[:32], 32, None)
            seed = b"extended master secret" + DATA[:32]
        else:
            parameter = parameters.tls_master(DATA[:32], DATA[32:], None, hash_type)
            seed = b"master secret" + DATA
        assert derived(side, row.type, parameter, base, 48) == prf(base, seed, 48, name)


def tls_key_material(side: Side, row: Row) -> None:
    from cryptoki import template

    made, out, ivs = parameters.key_material((256, 128, 128), DATA[:32], DATA[32:])
    master = b"\3\3" + DATA[:46]
    pairs = [*usable(ck.CKK_AES), (ck.CKA_VALUE_LEN, 16)]
    arguments = (side.how(row.type, made), side.secret(GENERIC, master), template(*pairs), len(pairs), None)
    side.p11("C_DeriveKey", side.session, *arguments)
    got = b"".join(map(side.value, (out.client_mac, out.server_mac, out.client_key, out.server_key)))
    block = prf(master, b"key expansion" + DATA[32:] + DATA[:32], 128)
    assert got == block[:96]
    safe = row.type == ck.CKM_TLS12_KEY_SAFE_DERIVE
    assert b"".join(iv.raw[:16] for iv in ivs) == (bytes(32) if safe else block[96:])


def tls_exports(side: Side, row: Row) -> None:
    for context, after in ((b"context", b"\0\7context"), (None, b"")):
        parameter = parameters.tls_kdf(b"EXPORTER", DATA[:32], DATA[32:], context)
        expected = prf(SECRET[:48], b"EXPORTER" + DATA + after, 70)
        assert derived(side, row.type, parameter, SECRET[:48], 70) == expected


def tls_macs(side: Side, row: Row) -> None:
    for role, label in ((1, b"server finished"), (2, b"client finished")):
        parameter = parameters.structure(ck.CKM_SHA256, 12, role)
        expected = prf(SECRET[:48], label + DATA, 12)
        checked(side, row.type, parameter, side.secret(GENERIC, SECRET[:48]), expected, DATA)


def ike(side: Side, row: Row) -> None:
    """RFC 2409 (section 5, appendix B) and RFC 7296 (sections 2.13 and 2.14)."""
    other = side.secret(GENERIC, DATA[3:35])
    if row.type == ck.CKM_IKE_PRF_DERIVE:
        parameter = parameters.ike_prf(DATA[:16], DATA[16:32])
        assert derived(side, row.type, parameter, length=32) == mac("sha256", SECRET, DATA[:32])
        parameter = parameters.ike_prf(DATA[:16], DATA[16:32], data_as_key=True)
        assert derived(side, row.type, parameter, length=32) == mac("sha256", DATA[:32], SECRET)
    elif row.type == ck.CKM_IKE1_PRF_DERIVE:
        parameter = parameters.ike1_prf(other, None, (DATA[:8], DATA[8:16]), 0)
        expected = mac("sha256", SECRET, DATA[3:35], DATA[:16], b"\0")
        assert derived(side, row.type, parameter, length=32) == expected
    elif row.type == ck.CKM_IKE1_EXTENDED_DERIVE:
        first = mac("sha256", SECRET, DATA[3:35], DATA)
        blocks = [first, mac("sha256", SECRET, first, DATA[3:35], DATA)]
        got = derived(side, row.type, parameters.ike_expansion(other, DATA), length=64)
        assert got == b"".join(blocks)
    else:
        block, out = b"", b""
        for number in range(1, 4):
            block = mac("sha256", SECRET, block, DATA, bytes((number,)))
            out += block
        assert derived(side, row.type, parameters.ike_expansion(None, DATA), length=96) == out


def agreement(side: Side, row: Row) -> None:
    """Diffie-Hellman with Python's integers, from both ends."""
    name = "DH" if row.type == ck.CKM_DH_PKCS_DERIVE else "X9.42 DH"
    pair, exponent = PAIRS[name], SCALAR // 3
    public = octets(pow(2, exponent, DH_P))
    shared = pow(int.from_bytes(pair[ck.CKA_VALUE], "big"), exponent, DH_P).to_bytes(256, "big")
    key, pairs = side.known(name, private=True), [*usable(GENERIC), (ck.CKA_VALUE_LEN, 256)]
    parameter = public if name == "DH" else parameters.structure(ck.CKD_NULL, 0, None, len(public), public)
    assert side.value(side.derive(side.how(row.type, parameter), key, pairs)) == shared
    if name != "DH":
        kdf = parameters.structure(ck.CKD_SHA256_KDF, 0, None, len(public), public)
        got = side.value(
            side.derive(side.how(row.type, kdf), key, [*usable(GENERIC), (ck.CKA_VALUE_LEN, 32)])
        )
        assert got == digest("sha256", shared + b"\0\0\0\1")


def agreement_pairs(side: Side, row: Row) -> None:
    name = "DH" if row.produces == ck.CKK_DH else "X9.42 DH"
    pair: Pair = PAIRS[name]
    domain = [p for p in pair.public if p[0] in (ck.CKA_PRIME, ck.CKA_BASE, ck.CKA_SUBPRIME)]
    open_ = [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True), (ck.CKA_DERIVE, True)]
    public, private = side.generate_pair(row.type, domain, open_)
    value = side.p11.get(side.session, public, ck.CKA_VALUE)
    secret = int.from_bytes(side.value(private), "big")
    assert pow(2, secret, DH_P) == int.from_bytes(value, "big")


def hotp(key: bytes, counter: int, digits: int) -> bytes:
    """Return what RFC 4226 makes."""
    tag = mac("sha1", key, counter.to_bytes(8, "big"))
    start = tag[19] & 15
    number = int.from_bytes(tag[start : start + 4], "big") & (1 << 31) - 1
    return f"{number % 10**digits:0{digits}}".encode()


def _check_passwords(side: Side, row_type: int, handle: int, key: bytes) -> None:
    """Compare passwords of the key's own counter, which begins at zero, and of one that is given."""
    for number in range(3):
        block = side.transform("Sign", side.how(row_type), handle, b"")
        assert block[-14:] == hotp(key, number, 6) + number.to_bytes(8, "big")
    given = [(ck.CK_OTP_COUNTER, (1 << 40).to_bytes(8, "big")), (ck.CK_OTP_OUTPUT_LENGTH, 8)]
    how = side.how(row_type, parameters.otp_parameters(*given))
    value = hotp(key, 1 << 40, 8)
    assert side.verify(how, handle, b"", value) == "CKR_OK"
    assert side.verify(how, handle, b"", value[::-1]) == "CKR_SIGNATURE_INVALID"


def one_time_passwords(side: Side, row: Row) -> None:
    for key in (SECRET[:20], bytes(range(64))):
        pairs = [(ck.CKA_CLASS, ck.CKO_OTP_KEY), (ck.CKA_KEY_TYPE, ck.CKK_HOTP), (ck.CKA_PRIVATE, False)]
        _check_passwords(side, row.type, side.p11.create(side.session, *pairs, (ck.CKA_VALUE, key)), key)


def generated_hotp(side: Side, row: Row) -> None:
    handle = side.generate(side.how(row.type), [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)])
    _check_passwords(side, ck.CKM_HOTP, handle, side.value(handle))


def pkcs12(password: bytes, salt: bytes, purpose: int, iterations: int, length: int) -> bytes:
    """Return what RFC 7292, appendix B.2, makes with SHA-1."""
    block, out = 64, b""
    mixed = b"".join((text * block)[: -(-len(text) // block) * block] for text in (salt, password))
    while len(out) < length:
        made = bytes((purpose,)) * block + mixed
        for _ in range(iterations):
            made = hashlib.sha1(made).digest()  # noqa: S324 - what PKCS#12 has
        out += made
        added = int.from_bytes((made * 4)[:block], "big") + 1
        parts = [int.from_bytes(mixed[at : at + block], "big") for at in range(0, len(mixed), block)]
        mixed = b"".join((part + added & (1 << 8 * block) - 1).to_bytes(block, "big") for part in parts)
    return out[:length]


def pkcs12_keys(side: Side, row: Row) -> None:
    for password, salt, iterations in ((b"\0p\0w\0\0", b"saltsalt", 1), (bytes(range(100)), b"", 30)):
        iv = ctypes.create_string_buffer(8)
        how = side.how(row.type, parameters.pbe(password, salt, iterations, iv))
        value = side.value(side.generate(how, [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)]))
        expected = pkcs12(password, salt, 3 if row.produces == GENERIC else 1, iterations, row.max_key)
        if row.produces == GENERIC:
            assert (value, iv.raw) == (expected, bytes(8))
            continue
        assert [byte >> 1 for byte in value] == [byte >> 1 for byte in expected]  # the last is parity
        assert iv.raw == pkcs12(password, salt, 2, iterations, 8)


def _is_prime(number: int) -> bool:
    """Return the answer of Miller and Rabin, to a few bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        if not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def x9_42_parameters(side: Side, row: Row) -> None:
    """A prime, a subprime of its group and a generator of that, which a pair is made of."""
    pairs = [(ck.CKA_PRIME_BITS, 1024), (ck.CKA_SUBPRIME_BITS, 160), (ck.CKA_PRIVATE, False)]
    made = side.generate(side.how(row.type), pairs)
    types = (ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE)
    p, q, g = (int.from_bytes(side.p11.get(side.session, made, type_), "big") for type_ in types)
    assert (p.bit_length(), q.bit_length()) == (1024, 160)
    assert _is_prime(p) and _is_prime(q) and (p - 1) % q == 0
    assert 1 < g < p - 1 and pow(g, q, p) == 1
    domain = [(type_, octets(number)) for type_, number in zip(types, (p, q, g), strict=True)]
    open_ = [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)]
    public, private = side.generate_pair(ck.CKM_X9_42_DH_KEY_PAIR_GEN, domain, open_)
    value = side.p11.get(side.session, public, ck.CKA_VALUE)
    assert pow(g, int.from_bytes(side.value(private), "big"), p) == int.from_bytes(value, "big")


_FAMILIES: dict[str, dict[str, Callable[[Side, Row], None]]] = {
    "digest": {"digest": digests},
    "hotp": {"sign": one_time_passwords},
    "pbe": {"generate": pkcs12_keys},
    "hmac": {"sign": macs},
    "hash_derive": {"derive": hash_keys},
    "hkdf": {"derive": hkdf_keys},
    "sp800_108": {"derive": sp800_108},
    "pbkdf2": {"generate": passwords},
    "rearrange": {"derive": rearranged},
    "tls_mac": {"sign": tls_macs},
    "ike": {"derive": ike},
}
_TLS = {
    "tls12_master": tls_masters,
    "tls12_extended_master": tls_masters,
    "tls12_key_material": tls_key_material,
    "tls_kdf": tls_exports,
}


def cases(row: Row) -> dict[str, Callable[[Side, Row], None]]:
    """Return what is computed of a mechanism, by function."""
    if row.type == ck.CKM_X9_42_DH_PARAMETER_GEN:
        return {"generate": x9_42_parameters}
    if row.produces == ck.CKK_HOTP:
        return {"generate": generated_hotp}
    if row.family == "tls":
        return {"derive": _TLS[row.parameter]}
    if row.family == "dh" and row.functions & Function.DERIVE:
        return {"derive": agreement}
    if row.family == "dh" and row.functions & Function.GENERATE_KEY_PAIR:
        return {"generate pair": agreement_pairs}
    if row.family == "secret" and row.produces in (GENERIC, ck.CKK_HKDF, *HMAC_TYPES.values()):
        return {"generate": generated}
    return _FAMILIES.get(row.family, {})


def offered() -> dict[int, dict[str, Callable[[Side, Row], None]]]:
    """Return the cases of every mechanism that there are some for."""
    return {type_: made for type_, row in ROWS.items() if (made := cases(row))}
