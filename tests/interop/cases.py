"""What two modules exchange for each mechanism: parameters, data and the ways of every function.

A mechanism of a known kind of parameter needs no line here. One of a new kind needs its line in `PARAMETERS`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import mechanism_parameters as parameters
from cryptoki import RefusedError
from keys import LENGTHS, NAMES, OPEN, PAIRS, Pairs, usable
from sides import Side

from ferrohsm import constants as ck
from ferrohsm.mechanisms import HASHES, Row

DATA = bytes(range(64))
RANDOM = bytes(range(100, 132))
Make = Callable[[Side, int], Any]

_ITERATION = ck.CK_SP800_108_ITERATION_VARIABLE


def _hash(row: Row) -> Any:
    return HASHES[row.hash or "sha256"]


def _pss(row: Row) -> list[Make]:
    hash = _hash(row)
    lengths = (hash.length, 0)
    return [
        lambda side, size, length=length: parameters.structure(hash.type, hash.mgf, length)
        for length in lengths
    ]


def _gcm(row: Row) -> list[Make]:
    made: list[Make] = [lambda side, size: parameters.gcm(bytes(range(12)), b"header")]
    made.append(lambda side, size: parameters.gcm(bytes(range(12)), b"", 96 if side else 0))
    if row.type == ck.CKM_AES_GMAC:
        return made[:1]
    return made


def _sp800_108(row: Row) -> list[Make]:
    format = parameters.counter() if row.type == ck.CKM_SP800_108_COUNTER_KDF else None
    pieces = [parameters.piece(_ITERATION, format)]
    if format is None:
        pieces.append(parameters.piece(ck.CK_SP800_108_COUNTER, parameters.counter()))
    pieces.append(parameters.piece(ck.CK_SP800_108_BYTE_ARRAY, b"label\0context"))
    pieces.append(parameters.piece(ck.CK_SP800_108_DKM_LENGTH, parameters.dkm_length()))
    if row.parameter == "sp800_108":
        prfs = (ck.CKM_SHA256_HMAC, ck.CKM_SHA_1_HMAC)
        return [lambda side, size, prf=prf: parameters.sp800_108(prf, *pieces) for prf in prfs]
    ivs = (b"", DATA[:32])
    return [
        lambda side, size, iv=iv: parameters.sp800_108_feedback(ck.CKM_SHA256_HMAC, iv, *pieces) for iv in ivs
    ]


def _ulong(row: Row) -> list[Make]:
    if row.type == ck.CKM_EXTRACT_KEY_FROM_KEY:
        numbers: tuple[int, ...] = (0, 3, 21, 64)
    elif row.family == "hmac":
        numbers = (_hash(row).length, _hash(row).length // 2, 4)
    elif row.family in ("cmac", "cbc_mac"):
        numbers = (8, 4)
    else:
        numbers = (256,)
    return [lambda side, size, number=number: parameters.structure(number) for number in numbers]


def _hkdf(row: Row) -> list[Make]:
    return [
        lambda side, size, hash=hash, salt=salt: parameters.hkdf(hash, salt=salt, info=b"info")
        for hash in (ck.CKM_SHA256, ck.CKM_SHA384)
        for salt in (b"salt", None)
    ]


def _pbkd2(row: Row) -> list[Make]:
    def make(side: Side, size: int, prf: int) -> Any:
        if side.name != "NSS":
            return parameters.pbkd2(b"password", b"salt", 20, prf)
        length = ctypes.c_ulong(8)  # NSS 3.87 has the structure of before 2.40, with a pointer to a length
        salt = (ck.CKZ_SALT_SPECIFIED, b"salt", 4)
        return parameters.structure(*salt, 20, prf, None, 0, b"password", length)

    prfs = (ck.CKP_PKCS5_PBKD2_HMAC_SHA256, ck.CKP_PKCS5_PBKD2_HMAC_SHA1, ck.CKP_PKCS5_PBKD2_HMAC_SHA512)
    return [lambda side, size, prf=prf: make(side, size, prf) for prf in prfs]


def _secret(side: Side) -> int:
    return side.secret(ck.CKK_GENERIC_SECRET, RANDOM)


def _plain(*made: Any) -> Callable[[Row], list[Make]]:
    return lambda row: [lambda side, size, one=one: one() if callable(one) else one for one in made]


def _nonce(side: Side) -> int:
    """Return how 12 bytes of nonce are counted: in bits as the specification says, in bytes at NSS."""
    return 12 if side.name == "NSS" else 96


PARAMETERS: dict[str, Callable[[Row], list[Make]]] = {
    "none": _plain(None),
    "eddsa": _plain(None),
    "sign_context": _plain(None),
    "iv4": _plain(None),
    "iv8": _plain(None),
    "iv16": _plain(bytes(range(16))),
    "iv64": _plain(bytes(range(8))),
    "ctr": _plain((128).to_bytes(8, "little") + bytes(12) + b"\xff\xff\xff\xff"),
    "ulong": _ulong,
    "gcm": _gcm,
    "ccm": lambda row: [lambda side, size: parameters.ccm(size, bytes(range(12)), b"header")],
    "rsa_pss": _pss,
    "rsa_oaep": lambda row: [
        lambda side, size: parameters.oaep(ck.CKM_SHA_1, ck.CKG_MGF1_SHA1),
        lambda side, size: parameters.oaep(*_oaep_of(side)),
    ],
    "rsa_aes_key_wrap": _plain(lambda: parameters.structure(256, parameters.oaep())),
    "string": _plain(lambda: parameters.string(DATA[16:48])),
    "cbc_encrypt_data": _plain(lambda: parameters.cbc_data(bytes(range(16)), DATA[:32])),
    "des_cbc_encrypt_data": _plain(lambda: parameters.cbc_data(bytes(range(8)), DATA[:32])),
    "chacha20": lambda row: [lambda side, size: parameters.structure(bytes(4), 32, bytes(range(12)), 96)],
    "chacha20_poly1305": lambda row: [
        lambda side, size: parameters.structure(bytes(range(12)), _nonce(side), b"header", 6)
    ],
    "hkdf": _hkdf,
    "sp800_108": _sp800_108,
    "sp800_108_feedback": _sp800_108,
    "pbkd2": _pbkd2,
    "key": lambda row: [lambda side, size: parameters.structure(_secret(side))],
    "bytes": lambda row: [lambda side, size: PAIRS["DH"][ck.CKA_VALUE]],
    "tls12_master": lambda row: [
        lambda side, size, hash=hash: parameters.tls_master(DATA[:32], DATA[32:], _version(row), hash)
        for hash in (ck.CKM_SHA256, ck.CKM_SHA384)
    ],
    "tls12_extended_master": lambda row: [
        lambda side, size: parameters.structure(ck.CKM_SHA256, DATA[:32], 32, _version(row))
    ],
    "tls_mac": lambda row: [
        lambda side, size, role=role: parameters.structure(ck.CKM_SHA256, 12, role) for role in (1, 2)
    ],
    "ike_prf": lambda row: [
        lambda side, size: parameters.ike_prf(DATA[:16], DATA[16:32]),
        lambda side, size: parameters.ike_prf(DATA[:16], DATA[16:32], data_as_key=True),
        lambda side, size: parameters.ike_prf(DATA[:16], DATA[16:32], new_key=_secret(side)),
    ],
    "ike1_prf": lambda row: [
        lambda side, size, number=number: parameters.ike1_prf(
            _secret(side), _secret(side) if number else None, (DATA[:8], DATA[8:16]), number
        )
        for number in (0, 1)
    ],
    "ssh_kdf": _plain(lambda: parameters.ssh_kdf(ck.CKM_SHA256, b"D", DATA[:32], DATA[32:])),
    "ike1_extended": lambda row: [lambda side, size: parameters.ike_expansion(_secret(side), DATA)],
    "ike2_prf_plus": lambda row: [
        lambda side, size: parameters.ike_expansion(None, DATA),
        lambda side, size: parameters.ike_expansion(_secret(side), DATA),
    ],
}


def _oaep_of(side: Side) -> tuple[int, int]:
    """Return hash and mask; SoftHSM 2.6.1 knows SHA-1 only."""
    if "SoftHSM2" in EXCHANGING:
        return ck.CKM_SHA_1, ck.CKG_MGF1_SHA1
    return ck.CKM_SHA256, ck.CKG_MGF1_SHA256


# What NSS 3.87 lists as able to verify, and only computes: it is compared.
ONLY_SIGNS = {
    ("NSS", type_)
    for type_ in (
        *(ck.CKM_AES_CMAC, ck.CKM_AES_CMAC_GENERAL, ck.CKM_AES_XCBC_MAC, ck.CKM_AES_XCBC_MAC_96),
        *(ck.CKM_TLS_MAC,),
    )
}
EXCHANGING: set[str] = set()
"""The names of the two sides."""


_VERSION = ctypes.create_string_buffer(2)


def _version(row: Row) -> Any:
    """Return memory for the version that a pre-master secret begins with, where there is one."""
    if "_DH" in _mechanism(row):
        return None
    return _VERSION


def _mechanism(row: Row) -> str:
    return ck.name("CKM", row.type)


def _long_enough(row: Row, key_type: int) -> bool:
    """Tell whether known keys of that type are long enough for what is derived from them, or a PRF's."""
    if row.family in ("ike", "sp800_108"):
        return key_type in (ck.CKK_GENERIC_SECRET, ck.CKK_HKDF)
    return row.family != "rearrange" or key_type not in (ck.CKK_DES, ck.CKK_DES2)


class Exchange:
    """Does one mechanism with two modules; every method raises where they do not agree."""

    def __init__(self, ours: Side, theirs: Side) -> None:
        self.ours, self.theirs = ours, theirs
        self.ways = ((ours, theirs), (theirs, ours))
        EXCHANGING.clear()
        EXCHANGING.update((ours.name, theirs.name))

    # Which keys, parameters and data.

    def keys(self, row: Row) -> Iterator[tuple[Callable[[Side], int], Callable[[Side], int], str]]:
        """Yield how a side comes by the public and by the private half, and the name of the pair."""
        for key_type in row.key_types:
            for name in NAMES.get(key_type, ()):
                if name in self.shared_pairs(key_type):
                    yield (
                        lambda side, name=name: side.known(name, private=False),
                        lambda side, name=name: side.known(name, private=True),
                        name,
                    )
            if key_type not in NAMES and _long_enough(row, key_type):
                yield from self._secrets(row, key_type)

    def _secrets(self, row: Row, key_type: int) -> Iterator[tuple[Any, Any, str]]:
        if key_type not in self.shared_secrets():
            return
        lengths = LENGTHS.get(key_type, (None,))
        if row.family == "xcbc_mac":
            lengths = (16,)
        elif row.family == "hmac" and self.theirs.name == "SoftHSM2":
            lengths = (64,)  # it takes no key that is shorter than the digest
        for length in lengths:

            def key(side: Side, key_type: int = key_type, length: int | None = length) -> int:
                return side.secret_of(key_type, length)

            yield key, key, ""

    def shared_pairs(self, key_type: int) -> tuple[str, ...]:
        """Return the names of the pairs of a type that the peer takes, too."""
        if key_type == ck.CKK_EC_MONTGOMERY and ck.CKM_EC_MONTGOMERY_KEY_PAIR_GEN not in self.theirs.offered:
            return ()
        return tuple(name for name in NAMES[key_type] if (self.theirs.name, name) not in UNKNOWN_CURVES)

    def shared_secrets(self) -> set[int]:
        """Return the types of secret keys that the peer takes, too."""
        types = {ck.CKK_AES, ck.CKK_GENERIC_SECRET, ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3}
        if self.theirs.name == "NSS":
            types |= {ck.CKK_CAMELLIA, ck.CKK_CHACHA20, ck.CKK_HKDF}
            types.discard(ck.CKK_DES2)  # which it holds as three keys
        return types

    def hows(self, row: Row) -> list[Callable[[Side, int], Any]]:
        """Return makers of the mechanism with each of its parameters."""
        return [
            lambda side, size, make=make: side.how(row.type, make(side, size))
            for make in PARAMETERS[row.parameter](row)
        ]

    def messages(self, row: Row, name: str) -> list[bytes]:
        """Return data that the mechanism takes with that key."""
        if row.type == ck.CKM_RSA_X_509:
            return [DATA.rjust(256, b"\0")]
        if row.type == ck.CKM_DSA:
            return [DATA[:20]]
        if row.type == ck.CKM_ECDSA:
            return [DATA[:32], DATA[:20]]
        if row.type == ck.CKM_RSA_PKCS_PSS:
            return [DATA[:32]]
        whole_blocks = ("_ECB", "_CBC", "AES_KEY_WRAP", "DES_OFB64", "DES_CFB64")
        if _mechanism(row).removeprefix("CKM_").endswith(whole_blocks):
            return [DATA, DATA[:32]]
        return [DATA, DATA[:37]]

    # The functions.

    def encrypts(self, row: Row) -> None:
        for public, private, name in self.keys(row):
            for how in self.hows(row):
                for data in self.messages(row, name):
                    size = len(data)
                    for one, other in self.ways:
                        sealed = one.transform("Encrypt", how(one, size), public(one), data)
                        opened = other.transform("Decrypt", how(other, size), private(other), sealed)
                        assert opened == data, f"{other.name} decrypts to something else"

    def signs(self, row: Row) -> None:
        for public, private, name in self.keys(row):
            for how in self.hows(row):
                for data in self.messages(row, name):
                    for one, other in self.ways:
                        signature = one.transform("Sign", how(one, 0), private(one), data)
                        if (other.name, row.type) in ONLY_SIGNS:
                            again = other.transform("Sign", how(other, 0), private(other), data)
                            assert again == signature, f"{other.name} has another MAC"
                            continue
                        answer = other.verify(how(other, 0), public(other), data, signature)
                        assert answer == "CKR_OK", f"{other.name} verifies: {answer}"
                        wrong = signature[:-1] + bytes((signature[-1] ^ 1,))
                        answer = other.verify(how(other, 0), public(other), data, wrong)
                        # What NSS answers is whatever went wrong before.
                        good = answer == "CKR_SIGNATURE_INVALID" if other is self.ours else answer != "CKR_OK"
                        assert good, f"{other.name} verifies a wrong one: {answer}"

    def recovers(self, row: Row) -> None:
        for public, private, name in self.keys(row):
            for data in self.messages(row, name):
                for one, other in self.ways:
                    signature = one.transform("SignRecover", one.how(row.type), private(one), data)
                    got = other.transform("VerifyRecover", other.how(row.type), public(other), signature)
                    assert got == data, f"{other.name} recovers something else"

    def digests(self, row: Row) -> None:
        for how in self.hows(row):
            for data in (b"", DATA, bytes(1000)):
                digests = [side.digest(how(side, 0), data) for side in (self.ours, self.theirs)]
                assert digests[0] == digests[1], "the digests differ"

    def generates(self, row: Row) -> None:
        if row.object_class == ck.CKO_DOMAIN_PARAMETERS:
            self._generates_parameters(row)
        elif row.family == "pbe":
            self._generates_by_pkcs12(row)
        elif row.produces is None:
            self._generates_from_a_password(row)
        else:
            for one, other in self.ways:
                pairs = usable(row.produces)
                if row.produces not in (ck.CKK_DES, ck.CKK_DES2, ck.CKK_DES3):
                    pairs = [*pairs, (ck.CKA_VALUE_LEN, 32)]
                made = one.generate(one.how(row.type), pairs)
                brought = other.secret(row.produces, one.value(made))
                self._same_secret(row.produces, (one, made), (other, brought))

    def _generates_by_pkcs12(self, row: Row) -> None:
        """The same key and vector on both sides."""
        for iterations in (1, 1000):
            made = []
            for side in (self.ours, self.theirs):
                iv = ctypes.create_string_buffer(8)
                how = side.how(row.type, parameters.pbe(b"\0p\0w\0\0", b"saltsalt", iterations, iv))
                key = side.generate(how, [OPEN[0], OPEN[1], (ck.CKA_PRIVATE, False)])
                made.append((side.value(key), iv.raw if row.produces != ck.CKK_GENERIC_SECRET else b""))
            assert made[0] == made[1]

    def _same_secret(self, key_type: int, first: tuple[Side, int], second: tuple[Side, int]) -> None:
        """Use one key on both sides."""
        uses: dict[int, tuple[str, int, Any]] = {
            ck.CKK_DES: ("Encrypt", ck.CKM_DES_ECB, None),
            ck.CKK_DES2: ("Encrypt", ck.CKM_DES3_ECB, None),
            ck.CKK_DES3: ("Encrypt", ck.CKM_DES3_ECB, None),
            ck.CKK_AES: ("Encrypt", ck.CKM_AES_ECB, None),
            ck.CKK_CAMELLIA: ("Encrypt", ck.CKM_CAMELLIA_ECB, None),
            ck.CKK_CHACHA20: ("Encrypt", ck.CKM_CHACHA20, parameters.structure(bytes(4), 32, bytes(12), 96)),
            ck.CKK_GENERIC_SECRET: ("Sign", ck.CKM_SHA256_HMAC, None),
        }
        if key_type == ck.CKK_HKDF:
            made = [
                side.value(
                    side.derive(
                        side.how(ck.CKM_HKDF_DERIVE, parameters.hkdf(ck.CKM_SHA256)),
                        key,
                        [*usable(ck.CKK_GENERIC_SECRET), (ck.CKA_VALUE_LEN, 32)],
                    )
                )
                for side, key in (first, second)
            ]
        else:
            family, type_, parameter = uses[key_type]
            made = [
                side.transform(family, side.how(type_, parameter), key, DATA) for side, key in (first, second)
            ]
        assert made[0] == made[1], "the key does something else on the other side"

    def _generates_from_a_password(self, row: Row) -> None:
        for how in self.hows(row):
            pairs = [*usable(ck.CKK_GENERIC_SECRET), (ck.CKA_VALUE_LEN, 40)]
            values = [side.value(side.generate(how(side, 0), pairs)) for side in (self.ours, self.theirs)]
            assert values[0] == values[1] and len(values[0]) == 40, "the password gives other keys"

    def _generates_parameters(self, row: Row) -> None:
        dsa = row.produces == ck.CKK_DSA
        names = (ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE) if dsa else (ck.CKA_PRIME, ck.CKA_BASE)
        for one, other in self.ways:
            size = [(ck.CKA_PRIME_BITS, 1024)]
            if dsa and one.name == "NSS":
                size.append((ck.CKA_SUBPRIME_BITS, 160))
            made = one.generate(one.how(row.type), size)
            domain = [(name, one.p11.get(one.session, made, name)) for name in names]
            type_ = ck.CKM_DSA_KEY_PAIR_GEN if dsa else ck.CKM_DH_PKCS_KEY_PAIR_GEN
            use = ck.CKA_SIGN if dsa else ck.CKA_DERIVE
            public, private = other.generate_pair(type_, domain, [*OPEN, (use, True)])
            if dsa:
                signature = other.transform("Sign", other.how(ck.CKM_DSA), private, DATA[:20])
                head = [(ck.CKA_CLASS, ck.CKO_PUBLIC_KEY), (ck.CKA_KEY_TYPE, ck.CKK_DSA), *domain]
                value = other.p11.get(other.session, public, ck.CKA_VALUE)
                copy = one.create([*head, (ck.CKA_VALUE, value), (ck.CKA_VERIFY, True)])
                assert one.verify(one.how(ck.CKM_DSA), copy, DATA[:20], signature) == "CKR_OK"

    def generates_pairs(self, row: Row) -> None:
        assert row.produces is not None
        names = self.shared_pairs(row.produces)
        assert names, "no pair is known to both"
        for one, other in self.ways:
            for name in names:
                self._pair(row, name, one, other)

    def _pair(self, row: Row, name: str, one: Side, other: Side) -> None:
        """Make a pair at one side, bring it in at the other, and use it there."""
        known = dict(PAIRS[name].public)
        domain = [
            (type_, known[type_])
            for type_ in (ck.CKA_EC_PARAMS, ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE)
            if type_ in known
        ]
        if name == "RSA":
            domain = [(ck.CKA_MODULUS_BITS, 2048), (ck.CKA_PUBLIC_EXPONENT, b"\1\0\1")]
        uses = [pair for pair in PAIRS[name].public if pair[1] is True]
        secret_uses = [pair for pair in PAIRS[name].private if pair[1] is True]
        public, private = one.generate_pair(row.type, [*domain, *uses], secret_uses + _sensitive())
        there = [
            other.create([(type_, moved(one, handle, type_, value)) for type_, value in half])
            for handle, half in ((public, PAIRS[name].public), (private, PAIRS[name].private))
        ]
        self._use_pair(name, one, (public, private), other, (there[0], there[1]))

    def _use_pair(
        self, name: str, one: Side, here: tuple[int, int], other: Side, there: tuple[int, int]
    ) -> None:
        signing = {"RSA": ck.CKM_RSA_PKCS, "DSA": ck.CKM_DSA, "Ed25519": ck.CKM_EDDSA, "Ed448": ck.CKM_EDDSA}
        key_type = PAIRS[name].key_type
        if key_type == ck.CKK_EC:
            signing[name] = ck.CKM_ECDSA
        if name in signing:
            how, data = signing[name], DATA[:20]
            for (signer, key), (verifier, public) in (
                ((one, here[1]), (other, there[0])),
                ((other, there[1]), (one, here[0])),
            ):
                signature = signer.transform("Sign", signer.how(how), key, data)
                assert verifier.verify(verifier.how(how), public, data, signature) == "CKR_OK"
            return
        secrets = [
            self._agreed(side, name, key, PAIRS[name]) for side, key in ((one, here[1]), (other, there[1]))
        ]
        assert secrets[0] == secrets[1], "the pair agrees on something else at the other side"

    def _agreed(self, side: Side, name: str, private: int, peer: Any) -> bytes:
        types = {
            "DH": ck.CKM_DH_PKCS_DERIVE,
            "X9.42 DH": ck.CKM_X9_42_DH_DERIVE,
        }
        if name in types:
            how = side.how(types[name], peer[ck.CKA_VALUE])
        else:
            how = side.how(ck.CKM_ECDH1_DERIVE, self._ecdh(side, name, ck.CKD_NULL))
        pairs = [*usable(ck.CKK_GENERIC_SECRET), (ck.CKA_VALUE_LEN, 32)]
        return side.value(side.derive(how, private, pairs))

    @staticmethod
    def _ecdh(side: Side, name: str, kdf: int) -> Any:
        point = PAIRS[name].point()
        shared = b"" if kdf == ck.CKD_NULL else b"shared"
        return parameters.structure(kdf, len(shared), shared or None, len(point), point)

    def derives(self, row: Row) -> None:
        if row.parameter == "tls12_key_material":
            self._derives_key_material(row)
        elif row.parameter in ("ecdh1", "bytes"):
            self._derives_by_agreement(row)
        elif row.parameter in ("tls12_master", "tls12_extended_master"):
            length = 64 if "_DH" in _mechanism(row) else 48
            base = lambda side: side.secret(ck.CKK_GENERIC_SECRET, (b"\3\3" + DATA)[:length])  # noqa: E731
            self._derives_the_same(row, base, (48,))
        else:
            # NSS does not go around the end of a key, as the specification has it.
            lengths = {"ulong": (8,), "ike_prf": (32,), "ike1_prf": (None,), "ike1_extended": (80,)}
            for _, base, _ in self.keys(row):
                self._derives_the_same(row, base, lengths.get(row.parameter, (16,)))

    def _derives_the_same(
        self, row: Row, base: Callable[[Side], int], lengths: tuple[int | None, ...]
    ) -> None:
        for how in self.hows(row):
            for length in lengths:
                values = []
                for side in (self.ours, self.theirs):
                    pairs = usable(ck.CKK_GENERIC_SECRET)
                    if row.object_class == ck.CKO_DATA:
                        pairs = [(ck.CKA_CLASS, ck.CKO_DATA), (ck.CKA_PRIVATE, False)]
                    if length is not None:
                        pairs = [*pairs, (ck.CKA_VALUE_LEN, length)]
                    values.append(side.value(side.derive(how(side, 0), base(side), pairs)))
                assert values[0] == values[1], f"{values[0].hex()} here, {values[1].hex()} there"

    def _derives_by_agreement(self, row: Row) -> None:
        kdfs = (ck.CKD_NULL,) if self.theirs.name == "SoftHSM2" else (ck.CKD_NULL, ck.CKD_SHA256_KDF)
        for key_type in row.key_types:
            for name in self.shared_pairs(key_type):
                for kdf in kdfs if row.parameter == "ecdh1" else (None,):
                    values = []
                    for side in (self.ours, self.theirs):
                        parameter = PAIRS[name][ck.CKA_VALUE] if kdf is None else self._ecdh(side, name, kdf)
                        pairs = [*usable(ck.CKK_GENERIC_SECRET), (ck.CKA_VALUE_LEN, 32)]
                        key = side.known(name, private=True)
                        values.append(side.value(side.derive(side.how(row.type, parameter), key, pairs)))
                    assert values[0] == values[1], f"{name}: the secrets differ"

    def _derives_key_material(self, row: Row) -> None:
        results = []
        for side in (self.ours, self.theirs):
            made, out, ivs = parameters.key_material((256, 128, 128), DATA[:32], DATA[32:])
            master = side.secret(ck.CKK_GENERIC_SECRET, b"\3\3" + DATA[:46])
            pairs = [*usable(ck.CKK_AES), (ck.CKA_VALUE_LEN, 16)]
            from cryptoki import template

            arguments = (side.how(row.type, made), master, template(*pairs), len(pairs), None)
            side.p11("C_DeriveKey", side.session, *arguments)
            keys = (out.client_mac, out.server_mac, out.client_key, out.server_key)
            results.append([*(side.value(key) for key in keys), *(iv.raw[:16] for iv in ivs)])
        assert results[0] == results[1], "the key material differs"

    # Wrapping.

    def wraps(self, row: Row) -> None:
        for public, private, _ in self.keys(row):
            for how in self.hows(row):
                for one, other in self.ways:
                    for value in self._targets(row):
                        self._wraps_secret(row, how, (one, public), (other, private), value)
                    for target in self._private_targets(row):
                        self._wraps_private(row, how, (one, public), (other, private), target)

    def _targets(self, row: Row) -> list[bytes]:
        padded = _mechanism(row).endswith(("_PAD", "_KWP", "_PKCS7"))
        if row.key_types == (ck.CKK_RSA,):
            return [DATA[:32], DATA[:21]]
        # SoftHSM wraps zeros behind a key to fill the last eight bytes, as part of it.
        odd = padded and self.theirs.name != "SoftHSM2"
        return [DATA[:32], DATA[:16], DATA[:21]] if odd else [DATA[:32], DATA[:16]]

    def _private_targets(self, row: Row) -> list[str]:
        name = _mechanism(row)
        if not name.endswith(("_PAD", "_KWP", "_PKCS7", "CKM_RSA_AES_KEY_WRAP")):
            return []
        names = ["RSA", "P-256", "P-384", "P-521", "DSA", "DH"]
        return [name for name in names if (self.theirs.name, name) not in UNWRAPPABLE]

    def _wraps_secret(
        self,
        row: Row,
        how: Callable[[Side, int], Any],
        wrapping: tuple[Side, Callable[[Side], int]],
        unwrapping: tuple[Side, Callable[[Side], int]],
        value: bytes,
    ) -> None:
        (one, public), (other, private) = wrapping, unwrapping
        key_type = ck.CKK_AES if len(value) in (16, 32) else ck.CKK_GENERIC_SECRET
        wrapped = one.wrap(how(one, len(value)), public(one), one.secret(key_type, value))
        pairs = usable(key_type)
        if not _mechanism(row).endswith(("_PAD", "_KWP", "_PKCS7", "_WRAP")) and row.key_types != (
            ck.CKK_RSA,
        ):
            pairs = [*pairs, (ck.CKA_VALUE_LEN, len(value))]
        got = other.unwrap(how(other, len(value)), private(other), wrapped, pairs)
        assert other.value(got) == value, f"{other.name} unwraps something else"

    def _wraps_private(
        self,
        row: Row,
        how: Callable[[Side, int], Any],
        wrapping: tuple[Side, Callable[[Side], int]],
        unwrapping: tuple[Side, Callable[[Side], int]],
        name: str,
    ) -> None:
        (one, public), (other, private) = wrapping, unwrapping
        wrapped = one.wrap(how(one, 0), public(one), one.known(name, private=True))
        known = PAIRS[name].private
        uses = [pair for pair in known if pair[1] is True and pair[0] != ck.CKA_EXTRACTABLE]
        head = [(ck.CKA_CLASS, ck.CKO_PRIVATE_KEY), (ck.CKA_KEY_TYPE, PAIRS[name].key_type), *OPEN]
        if other.name == "NSS" and name != "RSA":
            head.append(PAIRS[name].mark())
        got = other.unwrap(how(other, 0), private(other), wrapped, [*head, *uses])
        here = one.known(name, private=False), one.known(name, private=True)
        self._use_pair(name, one, here, other, (other.known(name, private=False), got))

    # Messages.

    def converses(self, row: Row) -> None:
        for public, private, _ in self.keys(row):
            for one, other in self.ways:
                tag = ctypes.create_string_buffer(16)
                sealed = one.message(
                    "Encrypt", one.how(row.type), public(one), _message(one, row, tag), b"header", DATA
                )
                assert any(tag.raw)
                opened = other.message(
                    "Decrypt",
                    other.how(row.type),
                    private(other),
                    _message(other, row, tag),
                    b"header",
                    sealed,
                )
                assert opened == DATA, f"{other.name} decrypts a message to something else"


# Curves that a peer has no keys of though it has others of their type.
UNKNOWN_CURVES = {("NSS", "Ed448"), ("NSS", "X448")}
# Private keys that a peer does not take when they are wrapped.
UNWRAPPABLE = {("NSS", "DH")}


def _message(side: Side, row: Row, tag: Any) -> Any:
    if row.parameter == "gcm":
        return parameters.structure(bytes(range(12)), 12, 0, ck.CKG_NO_GENERATE, tag, 128)
    if row.parameter == "ccm":
        return parameters.structure(len(DATA), bytes(range(12)), 12, 0, ck.CKG_NO_GENERATE, tag, 16)
    return parameters.structure(bytes(range(12)), _nonce(side), tag)


def _sensitive() -> Pairs:
    return [*OPEN]


def moved(side: Side, handle: int, type_: int, value: Any) -> Any:
    """Return an attribute of a key that was generated, where the known one has material."""
    return side.p11.get(side.session, handle, type_) if isinstance(value, bytes) else value


__all__ = ["Exchange", "RefusedError"]
