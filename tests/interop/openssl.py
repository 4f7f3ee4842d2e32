"""Mechanisms computed with the `openssl` command of the operating system, or composed of what it has.

Its ciphers are found by the mechanisms' names, so that a new mode of a known cipher needs no line here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mechanism_parameters as parameters
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)
from keys import CURVES, LENGTHS, NAMES, PAIRS, SECRETS, usable
from sides import Side

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanisms import HASHES, ROWS, Row

DATA = bytes(range(64))
IV = bytes(range(16))
GENERIC = ck.CKK_GENERIC_SECRET
Case = Callable[[Side, Row], None]
_BLOCK = {"DES": 8, "DES3": 8}


class Tool:
    """The command, with the known private keys in files of `directory`."""

    def __init__(self, directory: Path) -> None:
        command = shutil.which("openssl", path="/usr/bin:/bin")
        assert command is not None
        self.command, self.directory = command, directory

    def __call__(self, *arguments: str | Path, data: bytes = b"", check: bool = True) -> bytes:
        command = [self.command, *map(str, arguments)]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if check and done.returncode:
            raise ValueError(f"openssl {arguments[0]}: {done.stderr.decode()[:200]}")
        return done.stdout

    def file(self, name: str, data: bytes) -> Path:
        path = self.directory / f"openssl-{name}"
        path.write_bytes(data)
        return path

    def private(self, name: str) -> Path:
        return self.file("private.pem", _pem(_private(name)))

    def public(self, name: str) -> Path:
        return self.public_of(_private(name).public_key())

    def public_of(self, key: Any) -> Path:
        return self.file("public.pem", key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def cipher(self, name: str, key: bytes, iv: bytes | None, data: bytes, decrypt: bool = False) -> bytes:
        """Encrypt or decrypt without padding."""
        options = ["-provider", "default", "-provider", "legacy"] if name in LEGACY else []
        iv = {"wrap": b"\xa6" * 8, "pad": b"\xa6\x59\x59\xa6"}.get(name.rpartition("-")[2], iv)
        if iv is not None:
            options += ["-iv", iv.hex()]
        # From a file: what cannot be streamed is taken only where the command sees the end at once.
        options += ["-d" if decrypt else "-e", "-in", str(self.file("data", data))]
        return self("enc", f"-{name}", "-K", key.hex(), "-nopad", *options)

    def mac(self, kind: str, data: bytes, *options: str) -> bytes:
        more = [part for option in options for part in ("-macopt", option)]
        return bytes.fromhex(self("mac", *more, "-in", self.file("data", data), kind).decode())


def version(directory: Path) -> tuple[int, ...]:
    """Return the command's version, major and minor."""
    told = Tool(directory)("version").split()[1].decode()
    return tuple(map(int, told.split(".")[:2]))


LEGACY = {f"des-{mode}" for mode in ("ecb", "cbc", "ofb", "cfb", "cfb8")}


_RAW: dict[str, Any] = {
    "Ed25519": Ed25519PrivateKey,
    "Ed448": Ed448PrivateKey,
    "X25519": X25519PrivateKey,
    "X448": X448PrivateKey,
}


def _private(name: str) -> Any:
    private = dict(PAIRS[name].private)
    if name in _RAW:
        return _RAW[name].from_private_bytes(private[ck.CKA_VALUE])
    if name in CURVES:
        return ec.derive_private_key(int.from_bytes(private[ck.CKA_VALUE], "big"), CURVES[name][1])
    number = {type_: int.from_bytes(value, "big") for type_, value in private.items() if type(value) is bytes}
    if name == "DSA":
        public = PAIRS["DSA"][ck.CKA_VALUE]
        domain = dsa.DSAParameterNumbers(number[ck.CKA_PRIME], number[ck.CKA_SUBPRIME], number[ck.CKA_BASE])
        numbers = dsa.DSAPublicNumbers(int.from_bytes(public, "big"), domain)
        return dsa.DSAPrivateNumbers(number[ck.CKA_VALUE], numbers).private_key()
    assert name == "RSA"
    return rsa.RSAPrivateNumbers(
        number[ck.CKA_PRIME_1],
        number[ck.CKA_PRIME_2],
        number[ck.CKA_PRIVATE_EXPONENT],
        number[ck.CKA_EXPONENT_1],
        number[ck.CKA_EXPONENT_2],
        number[ck.CKA_COEFFICIENT],
        rsa.RSAPublicNumbers(number[ck.CKA_PUBLIC_EXPONENT], number[ck.CKA_MODULUS]),
    ).private_key()


def _pem(key: Any) -> bytes:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made


# Ciphers.


def cipher_name(stem: str, mode: str, key: bytes) -> str:
    """Return the command's name of a cipher: `stem` and `mode` as in the mechanism's name."""
    mode = {"CBC_PAD": "cbc", "OFB64": "ofb", "CFB64": "cfb", "CFB128": "cfb"}.get(mode, mode.lower())
    if stem == "DES3":
        return f"des-ede3-{mode}" if len(key) == 24 else f"des-ede-{mode}"
    return f"des-{mode}" if stem == "DES" else f"{stem.lower()}-{8 * len(key)}-{mode}"


def padded(data: bytes, block: int) -> bytes:
    """Return data with PKCS#7 padding."""
    count = block - len(data) % block
    return data + bytes((count,)) * count


def block_cipher(tool: Tool, key: bytes, row: Row, data: bytes, decrypt: bool) -> bytes:
    """Do what a mechanism named after cipher and mode does."""
    found = re.fullmatch(r"CKM_([A-Z0-9]+)_(\w+)", ck.name("CKM", row.type))
    assert found
    stem, mode = found.groups()
    block = _BLOCK.get(stem, 16)
    if mode == "CBC_PAD" and not decrypt:
        data = padded(data, block)
    iv = None if mode == "ECB" else IV[:block]
    name = cipher_name(stem, mode, key)
    if name == "des-ede-ecb":
        name = "des-ede"
    out = tool.cipher(name, key, iv, data, decrypt)
    return out[: -out[-1]] if mode == "CBC_PAD" and decrypt else out


def chacha20(tool: Tool, key: bytes, row: Row, data: bytes, decrypt: bool) -> bytes:
    return tool.cipher("chacha20", key, bytes(4) + IV[:12], data, decrypt)


def key_wrap(tool: Tool, key: bytes, row: Row, data: bytes, decrypt: bool) -> bytes:
    """RFC 3394 and RFC 5649."""
    name = ck.name("CKM", row.type)
    if name.endswith("_PKCS7"):
        if decrypt:
            out = tool.cipher(f"id-aes{8 * len(key)}-wrap", key, None, data, True)
            return out[: -out[-1]]
        return tool.cipher(f"id-aes{8 * len(key)}-wrap", key, None, padded(data, 8))
    suffix = "wrap" if name.endswith("_KEY_WRAP") else "wrap-pad"
    return tool.cipher(f"id-aes{8 * len(key)}-{suffix}", key, None, data, decrypt)


def ccm(tool: Tool, key: bytes, row: Row, data: bytes, decrypt: bool) -> bytes:
    """RFC 3610 of CBC and counter mode: a nonce of 12 bytes, a tag of 16, the header "header"."""
    name, nonce = f"aes-{8 * len(key)}", IV[:12]
    counter = bytes((2,)) + nonce + bytes(3)
    body = data[:-16] if decrypt else data
    streamed = tool.cipher(f"{name}-ctr", key, counter, bytes(16) + body)
    plain = streamed[16:] if decrypt else data
    header = (6).to_bytes(2, "big") + b"header"
    blocks = bytes((0x40 | 7 << 3 | 2,)) + nonce + len(plain).to_bytes(3, "big")
    for part in (header, plain):
        blocks += part + bytes(-len(part) % 16)
    tag = tool.cipher(f"{name}-cbc", key, bytes(16), blocks)[-16:]
    tag = bytes(a ^ b for a, b in zip(tag, streamed[:16], strict=True))
    if not decrypt:
        return streamed[16:] + tag
    if tag != data[-16:]:
        raise ValueError("another tag")
    return plain


def xts(tool: Tool, key: bytes, row: Row, data: bytes, decrypt: bool) -> bytes:
    """IEEE 1619 of whole blocks, of ECB."""
    half = len(key) // 2
    name = f"aes-{8 * half}-ecb"
    tweak = int.from_bytes(tool.cipher(name, key[half:], None, IV), "little")
    mask = b""
    for _ in range(len(data) // 16):
        mask += tweak.to_bytes(16, "little")
        tweak = tweak << 1 ^ (0x87 if tweak >> 127 else 0)
        tweak &= (1 << 128) - 1
    inner = bytes(a ^ b for a, b in zip(data, mask, strict=True))
    out = tool.cipher(name, key[:half], None, inner, decrypt)
    return bytes(a ^ b for a, b in zip(out, mask, strict=True))


_PARAMETERS: dict[str, Callable[[int], Any]] = {
    "none": lambda size: None,
    "iv4": lambda size: None,
    "iv8": lambda size: None,
    "iv16": lambda size: IV,
    "iv64": lambda size: IV[:8],
    "ctr": lambda size: (128).to_bytes(8, "little") + IV,
    "chacha20": lambda size: parameters.structure(bytes(4), 32, IV[:12], 96),
    "ccm": lambda size: parameters.ccm(size, IV[:12], b"header"),
}
Compute = Callable[[Tool, bytes, Row, bytes, bool], bytes]


def keys_of(row: Row) -> list[tuple[int, bytes]]:
    """Return the known secret keys of a mechanism."""
    return [
        (key_type, SECRETS[key_type][:length])
        for key_type in row.key_types
        for length in LENGTHS.get(key_type, (None,))
    ]


def encrypts(tool: Tool, compute: Compute, side: Side, row: Row) -> None:
    lengths = (
        (64, 32) if row.single_part or re.search(r"ECB|CBC$|XTS|64$", ck.name("CKM", row.type)) else (64, 37)
    )
    for key_type, value in keys_of(row):
        for length in lengths:
            data = DATA[:length]
            how, key = side.how(row.type, _PARAMETERS[row.parameter](length)), side.secret(key_type, value)
            sealed = side.transform("Encrypt", how, key, data)
            assert compute(tool, value, row, sealed, True) == data
            theirs = compute(tool, value, row, data, False)
            assert side.transform("Decrypt", how, key, theirs) == data


def wraps(tool: Tool, compute: Compute, side: Side, row: Row) -> None:
    key_type, value = keys_of(row)[-1]
    key, how = side.secret(key_type, value), side.how(row.type, _PARAMETERS[row.parameter](32))
    wrapped = side.wrap(how, key, side.secret(GENERIC, DATA[:32]))
    assert compute(tool, value, row, wrapped, True)[:32] == DATA[:32]
    theirs = compute(tool, value, row, DATA[:32], False)
    pairs = usable(GENERIC)
    if re.search(r"ECB|CBC$", ck.name("CKM", row.type)):
        pairs = [*pairs, (ck.CKA_VALUE_LEN, 32)]
    assert side.value(side.unwrap(how, key, theirs, pairs)) == DATA[:32]


def derives_by_encryption(tool: Tool, side: Side, row: Row) -> None:
    stem, mode = re.fullmatch(r"CKM_(\w+)_(ECB|CBC)_ENCRYPT_DATA", ck.name("CKM", row.type)).groups()  # type: ignore[union-attr]
    block = _BLOCK.get(stem, 16)
    for key_type, value in keys_of(row):
        name = cipher_name(stem, mode, value)
        if name == "des-ede-ecb":
            name = "des-ede"
        expected = tool.cipher(name, value, None if mode == "ECB" else IV[:block], DATA[:32])
        parameter = (
            parameters.string(DATA[:32]) if mode == "ECB" else parameters.cbc_data(IV[:block], DATA[:32])
        )
        pairs = [*usable(GENERIC), (ck.CKA_VALUE_LEN, 32)]
        got = side.value(side.derive(side.how(row.type, parameter), side.secret(key_type, value), pairs))
        assert got == expected


# MACs.


def checked(side: Side, how: Any, key: int, expected: bytes, data: bytes) -> None:
    assert side.transform("Sign", how, key, data) == expected
    assert side.verify(how, key, data, expected) == "CKR_OK"
    wrong = expected[:-1] + bytes((expected[-1] ^ 1,))
    assert side.verify(how, key, data, wrong) == "CKR_SIGNATURE_INVALID"


def macs(tool: Tool, side: Side, row: Row) -> None:
    """CMAC and CBC-MAC, in whole and cut."""
    stem = ck.name("CKM", row.type).removeprefix("CKM_").partition("_")[0]
    block = _BLOCK.get(stem, 16)
    for key_type, value in keys_of(row):
        for data in (DATA, DATA[:37]):
            if row.family == "cmac":
                name, whole = cipher_name(stem, "CBC", value), block
                if len(value) == 16 and stem == "DES3":
                    name, given = "des-ede3-cbc", value + value[:8]
                else:
                    given = value
                full = tool.mac("CMAC", data, f"cipher:{name}", f"hexkey:{given.hex()}")
            else:
                filled = data + bytes(-len(data) % block)
                full = tool.cipher(cipher_name(stem, "CBC", value), value, bytes(block), filled)[-block:]
                whole = block // 2
            for length in (whole,) if row.parameter == "none" else (block // 2, 4):
                parameter = None if row.parameter == "none" else parameters.structure(length)
                key = side.secret(key_type, value)
                checked(side, side.how(row.type, parameter), key, full[:length], data)


def gmac(tool: Tool, side: Side, row: Row) -> None:
    for key_type, value in keys_of(row):
        options = (f"cipher:aes-{8 * len(value)}-gcm", f"hexkey:{value.hex()}", f"hexiv:{IV[:12].hex()}")
        expected = tool.mac("GMAC", DATA, *options)
        how = side.how(row.type, parameters.gcm(IV[:12]))
        checked(side, how, side.secret(key_type, value), expected, DATA)


def poly1305(tool: Tool, side: Side, row: Row) -> None:
    value = SECRETS[ck.CKK_POLY1305]
    expected = tool.mac("POLY1305", DATA, f"hexkey:{value.hex()}")
    checked(side, side.how(row.type), side.secret(ck.CKK_POLY1305, value), expected, DATA)


# Signatures.


def _raw(der: bytes, size: int) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _der(raw: bytes) -> bytes:
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


_ORDER = {"P-256": 32, "P-384": 48, "P-521": 66, "DSA": 20}


def signs(tool: Tool, side: Side, row: Row) -> None:
    """RSA, ECDSA and DSA over a digest, with `openssl dgst`."""
    assert row.hash is not None
    hash, parameter = HASHES[row.hash], None
    options = [f"-{row.hash.replace('sha3_', 'sha3-').replace('_', '-')}"]
    if row.parameter == "rsa_pss":
        options += ["-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{hash.length}"]
        parameter = parameters.structure(hash.type, hash.mgf, hash.length)
    for name in NAMES[row.key_types[0]]:
        size = _ORDER.get(name, 0)
        theirs = tool("dgst", *options, "-sign", tool.private(name), data=DATA)
        public, private = side.known(name, private=False), side.known(name, private=True)
        signature = _raw(theirs, size) if size else theirs
        how = side.how(row.type, parameter)
        assert side.verify(how, public, DATA, signature) == "CKR_OK"
        assert side.verify(how, public, DATA[1:], signature) == "CKR_SIGNATURE_INVALID"
        ours = side.transform("Sign", how, private, DATA)
        file = tool.file("signature", _der(ours) if size else ours)
        tool("dgst", *options, "-verify", tool.public(name), "-signature", file, data=DATA)


def eddsa(tool: Tool, side: Side, row: Row) -> None:
    data = tool.file("data", DATA)
    for name in NAMES[ck.CKK_EC_EDWARDS]:
        theirs = tool("pkeyutl", "-sign", "-rawin", "-in", data, "-inkey", tool.private(name))
        how, public = side.how(row.type), side.known(name, private=False)
        assert side.verify(how, public, DATA, theirs) == "CKR_OK"
        ours = side.transform("Sign", how, side.known(name, private=True), DATA)
        file, options = tool.file("signature", ours), ("-verify", "-rawin", "-in", data, "-pubin")
        tool("pkeyutl", *options, "-inkey", tool.public(name), "-sigfile", file)


# Agreement.


def shared_secret(tool: Tool, name: str, peer: Any) -> bytes:
    """Return what the known private key and the engine's public key of a peer agree on."""
    key = tool.private(name)
    return tool("pkeyutl", "-derive", "-inkey", key, "-peerkey", tool.public_of(peer))


def agrees(tool: Tool, side: Side, row: Row) -> None:
    """With a pair that the command generated, from both ends."""
    for key_type in row.key_types:
        for name in NAMES[key_type]:
            peer = _generated(tool, name)
            point = _point(peer.public_key())
            expected = shared_secret(tool, name, peer.public_key())
            for kdf, shared in ((ck.CKD_NULL, b""), (ck.CKD_SHA256_KDF, b"shared")):
                parameter = parameters.structure(kdf, len(shared), shared or None, len(point), point)
                length = len(expected) if kdf == ck.CKD_NULL else 32
                pairs = [*usable(GENERIC), (ck.CKA_VALUE_LEN, length)]
                key = side.known(name, private=True)
                got = side.value(side.derive(side.how(row.type, parameter), key, pairs))
                x963 = hashlib.sha256(expected + b"\0\0\0\1" + shared).digest()
                assert got == (expected if kdf == ck.CKD_NULL else x963)


def _generated(tool: Tool, name: str) -> Any:
    options = ["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{name}"] if name in CURVES else []
    return load_pem_private_key(tool("genpkey", *(options or ["-algorithm", name])), None)


def _point(public: Any) -> bytes:
    made: bytes
    if isinstance(public, ec.EllipticCurvePublicKey):
        made = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        made = public.public_bytes_raw()
    return made


def generates_pairs(tool: Tool, side: Side, row: Row) -> None:
    """The command computes the public key of a pair that was generated here; ours is checked against it."""
    assert row.produces is not None
    for name in NAMES[row.produces]:
        parameters_ = (ck.CKA_EC_PARAMS, PAIRS[name][ck.CKA_EC_PARAMS])
        uses = [pair for pair in PAIRS[name].private if pair[1] is True]
        open_ = [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)]
        public, private = side.generate_pair(row.type, [parameters_], [*open_, *uses])
        value = side.value(private)
        if name in CURVES:
            key: Any = ec.derive_private_key(int.from_bytes(value, "big"), CURVES[name][1])
        else:
            key = _RAW[name].from_private_bytes(value)
        computed = tool("pkey", "-in", tool.file("private.pem", _pem(key)), "-pubout", "-outform", "DER")
        assert side.p11.get(side.session, public, ck.CKA_PUBLIC_KEY_INFO) == computed


def public_keys(tool: Tool, side: Side, row: Row) -> None:
    """The public key of a private one."""
    for name in ("RSA", *CURVES, "Ed25519", "Ed448", "X25519", "X448", "DSA"):
        made = side.derive(side.how(row.type), side.known(name, private=True), [])
        computed = tool("pkey", "-in", tool.private(name), "-pubout", "-outform", "DER")
        assert side.p11.get(side.session, made, ck.CKA_PUBLIC_KEY_INFO) == computed, name


def generates(tool: Tool, side: Side, row: Row) -> None:
    """A generated key does the same in the command's hands."""
    assert row.produces is not None
    made = side.generate(side.how(row.type), [*usable(row.produces), *_length(row.produces)])
    value = side.value(made)
    if row.produces == ck.CKK_POLY1305:
        expected = tool.mac("POLY1305", DATA, f"hexkey:{value.hex()}")
        checked(side, side.how(ck.CKM_POLY1305), made, expected, DATA)
        return
    ciphers: dict[int, tuple[int, Compute]] = {
        ck.CKK_AES: (ck.CKM_AES_CBC, block_cipher),
        ck.CKK_AES_XTS: (ck.CKM_AES_XTS, xts),
        ck.CKK_CAMELLIA: (ck.CKM_CAMELLIA_CBC, block_cipher),
        ck.CKK_ARIA: (ck.CKM_ARIA_CBC, block_cipher),
        ck.CKK_CHACHA20: (ck.CKM_CHACHA20, chacha20),
        ck.CKK_DES: (ck.CKM_DES_CBC, block_cipher),
        ck.CKK_DES2: (ck.CKM_DES3_CBC, block_cipher),
        ck.CKK_DES3: (ck.CKM_DES3_CBC, block_cipher),
    }
    type_, compute = ciphers[row.produces]
    use = ROWS[type_]
    sealed = side.transform("Encrypt", side.how(type_, _PARAMETERS[use.parameter](64)), made, DATA)
    assert compute(tool, value, use, sealed, True) == DATA


def _length(key_type: int) -> list[tuple[int, Any]]:
    if key_type in (ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3):
        return []
    return [(ck.CKA_VALUE_LEN, 64 if key_type == ck.CKK_AES_XTS else 32)]


# Wraps of two steps.


def rsa_aes_wrap(tool: Tool, side: Side, row: Row) -> None:
    """OAEP of a fresh AES key, then RFC 5649 of the target."""
    oaep = [
        "-pkeyopt",
        "rsa_padding_mode:oaep",
        "-pkeyopt",
        "rsa_oaep_md:sha256",
        "-pkeyopt",
        "rsa_mgf1_md:sha256",
    ]
    how = side.how(row.type, parameters.structure(256, parameters.oaep()))
    wrapped = side.wrap(how, side.known("RSA", private=False), side.secret(GENERIC, DATA[:21]))
    aes = tool("pkeyutl", "-decrypt", *oaep, "-inkey", tool.private("RSA"), data=wrapped[:256])
    assert tool.cipher("id-aes256-wrap-pad", aes, None, wrapped[256:], True) == DATA[:21]
    sealed = tool("pkeyutl", "-encrypt", *oaep, "-pubin", "-inkey", tool.public("RSA"), data=DATA[32:])
    theirs = sealed + tool.cipher("id-aes256-wrap-pad", DATA[32:], None, DATA[:21])
    got = side.unwrap(how, side.known("RSA", private=True), theirs, usable(GENERIC))
    assert side.value(got) == DATA[:21]


def ecdh_aes_wrap(tool: Tool, side: Side, row: Row) -> None:
    """Agreement with a fresh pair, X9.63's derivation, then RFC 5649 of the target."""
    how = side.how(row.type, parameters.structure(256, ck.CKD_SHA256_KDF, 4, b"info"))
    for key_type in row.key_types:
        for name in NAMES[key_type]:
            wrapped = side.wrap(how, side.known(name, private=False), side.secret(GENERIC, DATA[:21]))
            length = len(PAIRS[name].point())
            aes = _wrapping_key(shared_secret(tool, name, _public(name, wrapped[:length])))
            assert tool.cipher("id-aes256-wrap-pad", aes, None, wrapped[length:], True) == DATA[:21]
            fresh = _generated(tool, name)
            aes = _wrapping_key(shared_secret(tool, name, fresh.public_key()))
            theirs = tool.cipher("id-aes256-wrap-pad", aes, None, DATA[:21])
            theirs = _point(fresh.public_key()) + theirs
            got = side.unwrap(how, side.known(name, private=True), theirs, usable(GENERIC))
            assert side.value(got) == DATA[:21]


def ssh_keys(tool: Tool, side: Side, row: Row) -> None:
    """RFC 4253, section 7.2: the vectors as data, the keys as keys, each shorter and longer than the hash."""
    for name, command in (
        ("sha1", "SHA1"),
        ("sha256", "SHA256"),
        ("sha512", "SHA512"),
        ("sha3_384", "SHA3-384"),
    ):
        hash = HASHES[name]
        k, h, session = SECRETS[GENERIC], (DATA * 2)[3 : 3 + hash.length], DATA[:20]
        for place, length in enumerate((8, 16, 20, 64, 129, 200)):
            letter = "ABCDEF"[place]
            options = (f"digest:{command}", f"hexkey:{k.hex()}", f"hexxcghash:{h.hex()}")
            options += (f"hexsession_id:{session.hex()}", f"type:{letter}")
            arguments = (part for option in options for part in ("-kdfopt", option))
            expected = tool("kdf", "-keylen", str(length), "-binary", *arguments, "SSHKDF")
            how = side.how(row.type, parameters.ssh_kdf(hash.type, letter.encode(), h, session))
            data = [(ck.CKA_CLASS, ck.CKO_DATA), (ck.CKA_PRIVATE, False)]
            pairs = [*(data if letter in "AB" else usable(GENERIC)), (ck.CKA_VALUE_LEN, length)]
            assert side.value(side.derive(how, side.secret(GENERIC, k), pairs)) == expected, (name, letter)


def _wrapping_key(secret: bytes) -> bytes:
    return hashlib.sha256(secret + b"\0\0\0\1" + b"info").digest()


def _public(name: str, point: bytes) -> Any:
    """Return the engine's public key of a point on the curve of a known pair."""
    info = _private(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return load_der_public_key(info[: -len(point)] + point)


def cases(tool: Tool, row: Row) -> dict[str, Case]:
    """Return what is computed of a mechanism, by function."""
    name = ck.name("CKM", row.type)
    found: dict[str, Case] = {}
    compute: Compute | None = None
    if re.fullmatch(r"CKM_(AES|CAMELLIA|ARIA|DES3?)_(ECB|CBC(_PAD)?|CTR|OFB|OFB64|CFB(1|8|64|128))", name):
        compute = block_cipher
    named: dict[str, Compute] = {"CKM_CHACHA20": chacha20, "CKM_AES_CCM": ccm, "CKM_AES_XTS": xts}
    compute = key_wrap if row.family == "aes_key_wrap" else named.get(name, compute)
    if compute is not None:
        found["encrypt"] = partial(encrypts, tool, compute)
        if row.functions & Function.WRAP:
            found["wrap"] = partial(wraps, tool, compute)
    elif name.endswith("_ENCRYPT_DATA"):
        found["derive"] = partial(derives_by_encryption, tool)
    elif row.family in ("cmac", "cbc_mac"):
        found["sign"] = partial(macs, tool)
    elif row.hash and row.family in ("rsa", "ec", "dsa"):
        found["sign"] = partial(signs, tool)
    elif row.parameter == "ecdh1":
        found["derive"] = partial(agrees, tool)
    elif row.functions & Function.GENERATE_KEY_PAIR and row.produces in (
        ck.CKK_EC,
        ck.CKK_EC_EDWARDS,
        ck.CKK_EC_MONTGOMERY,
    ):
        found["generate pair"] = partial(generates_pairs, tool)
    elif row.family == "secret" and row.produces in SECRETS and row.produces in _GENERATED:
        found["generate"] = partial(generates, tool)
    more: dict[str, dict[str, Callable[..., None]]] = {
        "CKM_AES_GMAC": {"sign": gmac},
        "CKM_KRYOPTIC_SSHKDF_DERIVE": {"derive": ssh_keys},
        "CKM_POLY1305": {"sign": poly1305},
        "CKM_EDDSA": {"sign": eddsa},
        "CKM_RSA_AES_KEY_WRAP": {"wrap": rsa_aes_wrap},
        "CKM_PUB_KEY_FROM_PRIV_KEY": {"derive": public_keys},
    }
    if row.family == "ecdh_aes_key_wrap":
        found["wrap"] = partial(ecdh_aes_wrap, tool)
    return found | {function: partial(work, tool) for function, work in more.get(name, {}).items()}


_GENERATED = (
    *(ck.CKK_AES, ck.CKK_AES_XTS, ck.CKK_CAMELLIA, ck.CKK_ARIA, ck.CKK_CHACHA20, ck.CKK_POLY1305),
    *(ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3),
)


def offered(directory: Path) -> dict[int, dict[str, Case]]:
    """Return the cases of every mechanism that there are some for."""
    tool = Tool(directory)
    return {type_: made for type_, row in ROWS.items() if (made := cases(tool, row))}
