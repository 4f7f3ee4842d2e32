"""Do everything that a token's mechanism list offers, through one module, and print what came out as JSON.

    every_mechanism.py MODULE LABEL PIN [EARLIER]

Keys are brought in, so that two modules with the same backend must answer alike. What chance decides is left
out of the comparison, but the signatures and ciphertexts of an `EARLIER` run are verified and decrypted here.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "abi"), str(HERE.parent), str(HERE)]

import mechanism_parameters as parameters  # noqa: E402
from cryptoki import Cryptoki, InitializeArguments, RefusedError, TokenInfo, mechanism, template  # noqa: E402
from ferrohsm_adapters.pkcs11_bridge.cryptoki import FunctionList  # noqa: E402
from known_keys import KEYS  # noqa: E402

from ferrohsm import constants as ck  # noqa: E402
from ferrohsm.mechanism_row import HASHES  # noqa: E402
from ferrohsm.mechanisms import row_of  # noqa: E402

DATA = bytes(range(64))
VALUES = (
    *(ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_TOKEN, ck.CKA_PRIVATE, ck.CKA_LOCAL, ck.CKA_SENSITIVE),
    *(ck.CKA_EXTRACTABLE, ck.CKA_ALWAYS_SENSITIVE, ck.CKA_NEVER_EXTRACTABLE, ck.CKA_KEY_GEN_MECHANISM),
    *(ck.CKA_VALUE_LEN, ck.CKA_MODULUS_BITS, ck.CKA_PUBLIC_EXPONENT, ck.CKA_EC_PARAMS, ck.CKA_PRIME_BITS),
    *(ck.CKA_LABEL, ck.CKA_ID, ck.CKA_ENCRYPT, ck.CKA_DECRYPT, ck.CKA_SIGN, ck.CKA_VERIFY, ck.CKA_WRAP),
    *(ck.CKA_UNWRAP, ck.CKA_DERIVE, ck.CKA_MODIFIABLE, ck.CKA_COPYABLE, ck.CKA_DESTROYABLE),
)
USED_FOR = ("ENCRYPT", "DECRYPT", "SIGN", "VERIFY", "WRAP", "UNWRAP")
USES = [(getattr(ck, f"CKA_{use}"), True) for use in USED_FOR]
OPEN = [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True), (ck.CKA_PRIVATE, False)]


class Info(ctypes.Structure):
    """CK_MECHANISM_INFO."""

    _fields_ = [("min", ctypes.c_ulong), ("max", ctypes.c_ulong), ("flags", ctypes.c_ulong)]


class Listed(Cryptoki):
    """A module that exports its function list only, as NSS does."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        table = ctypes.c_void_p()
        self.library.C_GetFunctionList(ctypes.byref(table))
        assert table.value is not None
        self.functions = FunctionList(table.value)

    def rv(self, function: str, *arguments: Any) -> str:
        call = ctypes.CFUNCTYPE(ctypes.c_ulong)(self.functions.addresses[function.removeprefix("C_")])
        return ck.name("CKR", call(*(self._argument(argument) for argument in arguments)))


class Run:
    """One module with a user logged in, and what it answered."""

    def __init__(self, path: str, label: str, pin: str, earlier: dict[str, Any]) -> None:
        self.p11 = Listed(path) if "BACKEND_INIT" in os.environ else Cryptoki(path)
        arguments = InitializeArguments(None, None, None, None, ck.CKF_OS_LOCKING_OK, None)
        if "BACKEND_INIT" in os.environ:  # for NSS itself
            self.init = ctypes.c_char_p(os.environ["BACKEND_INIT"].encode())
            arguments.pReserved = ctypes.cast(self.init, ctypes.c_void_p)
        self.p11("C_Initialize", arguments)
        self.slot = next(slot for slot in self.p11.slots() if self.label(slot) == label)
        self.session = self.p11.open(self.slot)
        self.p11.login(self.session, pin=pin.encode())
        self.earlier = earlier
        self.answers: dict[str, Any] = {}
        self.given: dict[str, str] = {}
        self.crossed: dict[str, Any] = {}
        self.keys: dict[tuple[int, bool], int] = {}

    def label(self, slot: int) -> str:
        info = TokenInfo()
        rv = self.p11.rv("C_GetTokenInfo", slot, info)
        return bytes(info.label).decode().rstrip() if rv == "CKR_OK" else ""

    def mechanisms(self) -> dict[int, Info]:
        count = ctypes.c_ulong()
        self.p11("C_GetMechanismList", self.slot, None, count)
        types = (ctypes.c_ulong * count.value)()
        self.p11("C_GetMechanismList", self.slot, types, count)
        infos = {}
        for type_ in types:
            info = Info()
            if self.p11.rv("C_GetMechanismInfo", self.slot, type_, info) == "CKR_OK":
                infos[type_] = info
        return infos

    def answer(self, name: str, work: Any, *, same: bool = True) -> Any:
        """Note what `work` gives: its value, or for what chance decides its length; or the refusal."""
        try:
            value = work()
        except RefusedError as refused:
            self.answers[name] = refused.rv
            # SoftHSM leaves some operations active that it has refused to go on with.
            self.session = self.p11.open(self.slot)
            return None
        shown = value.hex() if isinstance(value, bytes) else value
        self.answers[name] = shown if same or not isinstance(value, bytes) else len(value)
        return value

    def cross(self, name: str, work: Any) -> None:
        """Note whether what the other module made is good here too."""
        try:
            self.crossed[name] = work()
        except RefusedError as refused:
            self.crossed[name] = refused.rv
            self.session = self.p11.open(self.slot)

    def key(self, key_type: int, private: bool) -> int:
        """Return a key whose material is known; secret keys are both halves."""
        halves = KEYS[key_type]
        half = halves[private] if isinstance(halves, tuple) else halves
        place = (key_type, private)
        if place not in self.keys:
            try:
                self.keys[place] = self.p11.create(self.session, *half)
            except RefusedError:
                if key_type not in (ck.CKK_EC_EDWARDS, ck.CKK_EC_MONTGOMERY):
                    raise
                # Newer modules take the bytes of the point alone, older ones an octet string.
                bare = [(type_, value[2:] if type_ == ck.CKA_EC_POINT else value) for type_, value in half]
                self.keys[place] = self.p11.create(self.session, *bare)
        return self.keys[place]

    def attributes(self, handle: int) -> dict[str, str]:
        shown = {}
        for type_ in VALUES:
            try:
                shown[ck.name("CKA", type_)] = self.p11.get(self.session, handle, type_).hex()
            except RefusedError as refused:
                shown[ck.name("CKA", type_)] = refused.rv
        return shown

    def how(self, type_: int, length: int = len(DATA)) -> Any:
        row = row_of(type_)
        assert row is not None
        return mechanism(type_, parameter(type_, row, length))


def parameter(type_: int, row: Any, length: int) -> Any:
    """Return a good parameter."""
    if row.parameter == "rsa_pss":
        hash_ = HASHES[row.hash or "sha256"]
        return parameters.structure(hash_.type, hash_.mgf, hash_.length)
    if row.parameter == "ecdh1":
        point = dict(KEYS[ck.CKK_EC][0])[ck.CKA_EC_POINT][2:]  # raw: SoftHSM takes both
        return parameters.structure(ck.CKD_NULL, 0, None, len(point), point)
    made = {
        "none": None,
        "eddsa": None,
        "iv16": bytes(range(16)),
        "iv8": None,
        "iv4": None,
        "iv64": bytes(range(8)),
        "ctr": (128).to_bytes(8, "little") + bytes(16),
        "ulong": parameters.structure(4),
        "bytes": dict(KEYS[ck.CKK_DH][0])[ck.CKA_VALUE],
    }
    if row.parameter in made:
        return made[row.parameter]
    makers = {
        "gcm": lambda: parameters.gcm(bytes(12), b"aad"),
        "ccm": lambda: parameters.ccm(length, bytes(12), b"aad"),
        "rsa_oaep": lambda: parameters.oaep(ck.CKM_SHA_1, ck.CKG_MGF1_SHA1),
        "string": lambda: parameters.string(DATA[:32]),
        "cbc_encrypt_data": lambda: parameters.cbc_data(bytes(16), DATA[:32]),
        "des_cbc_encrypt_data": lambda: parameters.cbc_data(bytes(8), DATA[:32]),
        "hkdf": lambda: parameters.hkdf(ck.CKM_SHA256, salt=b"salt", info=b"info"),
        "pbkd2": lambda: parameters.pbkd2(b"password", b"salt", 2, ck.CKP_PKCS5_PBKD2_HMAC_SHA256),
        "chacha20": lambda: parameters.structure(bytes(4), 32, bytes(12), 96),
        "chacha20_poly1305": lambda: parameters.structure(bytes(12), 12, b"aad", 3),
        "sp800_108": lambda: parameters.sp800_108(ck.CKM_SHA256_HMAC, *_pieces(type_)),
        "sp800_108_feedback": lambda: parameters.sp800_108_feedback(ck.CKM_SHA256_HMAC, b"", *_pieces(type_)),
    }
    maker = makers.get(row.parameter)
    if maker is None:
        raise RefusedError("parameter", "not tried")
    return maker()


def _pieces(type_: int) -> list[Any]:
    counter = parameters.counter() if type_ == ck.CKM_SP800_108_COUNTER_KDF else None
    iteration = parameters.piece(ck.CK_SP800_108_ITERATION_VARIABLE, counter)
    return [iteration, parameters.piece(ck.CK_SP800_108_BYTE_ARRAY, b"label")]


def message(type_: int) -> bytes:
    row = row_of(type_)
    if type_ == ck.CKM_RSA_X_509:
        return DATA.rjust(256, b"\0")
    if type_ in (ck.CKM_ECDSA, ck.CKM_RSA_PKCS_PSS):
        return DATA[:32]
    if type_ == ck.CKM_DSA:
        return DATA[:20]
    assert row is not None
    return DATA


def _parts(run: Run, family: str, data: bytes, gives: bool) -> bytes:
    p11, session = run.p11, run.session
    out: list[bytes] = []
    for piece in (data[:5], data[5:40], data[40:]):
        if gives:
            out.append(p11.whole(f"C_{family}Update", session, piece, len(piece)))
        else:
            p11(f"C_{family}Update", session, piece, len(piece))
    out.append(p11.whole(f"C_{family}Final", session))
    return b"".join(out)


def digests(run: Run, name: str, type_: int) -> None:
    def whole() -> bytes:
        run.p11("C_DigestInit", run.session, run.how(type_))
        return run.p11.whole("C_Digest", run.session, DATA, len(DATA))

    def parts() -> bytes:
        run.p11("C_DigestInit", run.session, run.how(type_))
        return _parts(run, "Digest", DATA, gives=False)

    run.answer(f"{name} digest", whole)
    run.answer(f"{name} digest in parts", parts)


def signs(run: Run, name: str, type_: int, key_type: int) -> None:
    p11, data = run.p11, message(type_)
    same = not any(word in name for word in ("_PSS", "ECDSA", "CKM_DSA"))
    public, private = run.key(key_type, False), run.key(key_type, True)

    def verify(signature: bytes, over: bytes = data) -> str:
        p11("C_VerifyInit", run.session, run.how(type_), public)
        return p11.rv("C_Verify", run.session, over, len(over), signature, len(signature))

    def sign() -> bytes:
        p11("C_SignInit", run.session, run.how(type_), private)
        # NSS 3.110 takes no more room for an Ed25519 signature than it needs.
        room = 64 if type_ == ck.CKM_EDDSA else 65536
        return p11.whole("C_Sign", run.session, data, len(data), room=room)

    def parts() -> bytes:
        p11("C_SignInit", run.session, run.how(type_), private)
        return _parts(run, "Sign", data, gives=False)

    def verify_parts(signature: bytes) -> str:
        p11("C_VerifyInit", run.session, run.how(type_), public)
        p11("C_VerifyUpdate", run.session, data[:9], 9)
        p11("C_VerifyUpdate", run.session, data[9:], len(data) - 9)
        return p11.rv("C_VerifyFinal", run.session, signature, len(signature))

    signature = run.answer(f"{name} sign", sign, same=same)
    if signature is not None:
        run.given[f"{name} sign"] = signature.hex()
        run.answer(f"{name} verify", lambda: verify(signature))
        run.answer(f"{name} verify another's", lambda: verify(signature, bytes([data[0] ^ 1]) + data[1:]))
        run.answer(f"{name} verify what is short", lambda: verify(signature[:-1]))
    in_parts = run.answer(f"{name} sign in parts", parts, same=same)
    if in_parts is not None:
        run.answer(f"{name} verify in parts", lambda: verify_parts(in_parts))
    earlier = run.earlier.get(f"{name} sign")
    if earlier is not None:
        run.cross(f"{name} sign", lambda: verify(bytes.fromhex(earlier)) == "CKR_OK")


def encrypts(run: Run, name: str, type_: int, key_type: int) -> None:
    p11, data = run.p11, message(type_)
    same = key_type != ck.CKK_RSA or type_ == ck.CKM_RSA_X_509
    public, private = run.key(key_type, False), run.key(key_type, True)

    def decrypt(encrypted: bytes) -> bytes:
        return p11.transform("Decrypt", run.session, run.how(type_), private, encrypted)

    def parts(family: str, key: int, given: bytes) -> bytes:
        p11(f"C_{family}Init", run.session, run.how(type_), key)
        return _parts(run, family, given, gives=True)

    encrypted = run.answer(
        f"{name} encrypt",
        lambda: p11.transform("Encrypt", run.session, run.how(type_), public, data),
        same=same,
    )
    if encrypted is None:
        return
    run.given[f"{name} encrypt"] = encrypted.hex()
    run.answer(f"{name} decrypt", lambda: decrypt(encrypted))
    run.answer(f"{name} decrypt what is short", lambda: decrypt(encrypted[:-1]))
    in_parts = run.answer(f"{name} encrypt in parts", lambda: parts("Encrypt", public, data), same=same)
    if in_parts is not None:
        run.answer(f"{name} decrypt in parts", lambda: parts("Decrypt", private, in_parts))
    earlier = run.earlier.get(f"{name} encrypt")
    if earlier is not None:
        run.cross(f"{name} encrypt", lambda: decrypt(bytes.fromhex(earlier)) == data)


def wraps(run: Run, name: str, type_: int, key_type: int, flags: int) -> None:
    p11 = run.p11
    same = key_type != ck.CKK_RSA
    generic = [(ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET)]
    target = p11.create(run.session, *generic, *OPEN, (ck.CKA_VALUE, DATA[:32]))

    def wrap() -> bytes:
        place = ctypes.c_ulong()
        p11("C_WrapKey", run.session, run.how(type_), run.key(key_type, False), target, None, place)
        return p11.whole("C_WrapKey", run.session, run.how(type_), run.key(key_type, False), target)

    def unwrap(wrapped: bytes) -> dict[str, str]:
        array = template(*generic, *OPEN, *USES)
        made = p11.made(
            "C_UnwrapKey", run.session, run.how(type_), run.key(key_type, True), wrapped, len(wrapped), array,
            len(array),
        )  # fmt: skip
        return {**run.attributes(made), "value": p11.get(run.session, made, ck.CKA_VALUE).hex()}

    wrapped = run.answer(f"{name} wrap", wrap, same=same)
    if wrapped is not None and flags & ck.CKF_UNWRAP:
        run.given[f"{name} wrap"] = wrapped.hex()
        run.answer(f"{name} unwrap", lambda: unwrap(wrapped))
        run.answer(f"{name} unwrap what is short", lambda: unwrap(wrapped[:-1]))
    earlier = run.earlier.get(f"{name} wrap")
    if earlier is not None and type_ != ck.CKM_RSA_X_509:  # which gives the whole modulus's length back
        run.cross(f"{name} wrap", lambda: unwrap(bytes.fromhex(earlier))["value"] == DATA[:32].hex())
    p11("C_DestroyObject", run.session, target)


def derives(run: Run, name: str, type_: int, key_type: int) -> None:
    p11 = run.p11
    pairs = [(ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), *OPEN, *USES]
    pairs.append((ck.CKA_VALUE_LEN, 32))

    def derive() -> dict[str, str]:
        array = template(*pairs)
        base = run.key(key_type, True)
        made = p11.made("C_DeriveKey", run.session, run.how(type_), base, array, len(array))
        return {**run.attributes(made), "value": p11.get(run.session, made, ck.CKA_VALUE).hex()}

    run.answer(f"{name} derive", derive)


def generates(run: Run, name: str, type_: int, *, token: bool) -> None:
    row = row_of(type_)
    assert row is not None
    pairs: list[tuple[int, Any]] = [(ck.CKA_TOKEN, token), (ck.CKA_LABEL, b"made"), (ck.CKA_ID, b"\1\2")]
    if row.object_class == ck.CKO_DOMAIN_PARAMETERS:
        pairs = [(ck.CKA_TOKEN, token), (ck.CKA_PRIVATE, False), (ck.CKA_PRIME_BITS, 512)]
    else:
        pairs += [*OPEN, *USES]
    if row.produces in (ck.CKK_AES, ck.CKK_GENERIC_SECRET):
        pairs.append((ck.CKA_VALUE_LEN, 32))

    def generate() -> dict[str, str]:
        array = template(*pairs)
        made = run.p11.made("C_GenerateKey", run.session, mechanism(type_), array, len(array))
        shown = run.attributes(made)
        run.p11("C_DestroyObject", run.session, made)
        return shown

    run.answer(f"{name} generate {'token' if token else 'session'} object", generate)


def generates_pairs(run: Run, name: str, type_: int, *, token: bool) -> None:
    row = row_of(type_)
    assert row is not None and row.produces is not None
    known = dict(KEYS[row.produces][0])
    domain = (ck.CKA_EC_PARAMS, ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE)
    public = [(a, known[a]) for a in domain if a in known]
    if row.produces == ck.CKK_RSA:
        public = [(ck.CKA_MODULUS_BITS, 1024), (ck.CKA_PUBLIC_EXPONENT, b"\1\0\1")]
    common = [(ck.CKA_TOKEN, token), (ck.CKA_LABEL, b"made"), (ck.CKA_ID, b"\1\2")]
    private = [*common, *OPEN, (ck.CKA_SIGN, True), (ck.CKA_DECRYPT, False), (ck.CKA_UNWRAP, False)]
    private += [(ck.CKA_DERIVE, False)]
    public += [*common, (ck.CKA_PRIVATE, False), (ck.CKA_VERIFY, True), (ck.CKA_ENCRYPT, False)]
    public += [(ck.CKA_WRAP, False), (ck.CKA_DERIVE, False)]

    def generate() -> list[dict[str, str]]:
        pair = run.p11.key_pair(run.session, type_, public, private)
        shown = [run.attributes(handle) for handle in pair]
        for handle in pair:
            run.p11("C_DestroyObject", run.session, handle)
        return shown

    run.answer(f"{name} generate {'token' if token else 'session'} pair", generate)


def everything(run: Run, wanted: set[int] | None) -> None:
    for type_, info in sorted(run.mechanisms().items()):
        name = ck.name("CKM", type_)
        row = row_of(type_)
        if row is None or (wanted is not None and type_ not in wanted):
            continue
        run.answers[name] = [info.min, info.max, info.flags]
        key_types = [key_type for key_type in row.key_types if key_type in KEYS]
        if info.flags & ck.CKF_DIGEST:
            digests(run, name, type_)
        for key_type in key_types[:1]:
            if info.flags & ck.CKF_SIGN:
                signs(run, name, type_, key_type)
            if info.flags & ck.CKF_ENCRYPT and info.flags & ck.CKF_DECRYPT:
                encrypts(run, name, type_, key_type)
            if info.flags & ck.CKF_WRAP:
                wraps(run, name, type_, key_type, info.flags)
            if info.flags & ck.CKF_DERIVE:
                derives(run, name, type_, key_type)
        for token in (False, True):
            if info.flags & ck.CKF_GENERATE:
                generates(run, name, type_, token=token)
            if info.flags & ck.CKF_GENERATE_KEY_PAIR:
                generates_pairs(run, name, type_, token=token)


def main() -> None:
    path, label, pin = sys.argv[1:4]
    earlier = json.loads(Path(sys.argv[4]).read_text()) if len(sys.argv) > 4 else {"given": {}}
    wanted = None if "mechanisms" not in earlier else set(earlier["mechanisms"])
    run = Run(path, label, pin, earlier["given"])
    everything(run, wanted)
    brought_in = {
        f"{ck.name('CKK', place[0])} {place[1]}": run.attributes(h) for place, h in run.keys.items()
    }
    run.answers["keys that were brought in"] = brought_in
    run.p11("C_Logout", run.session)
    run.p11("C_Finalize", None)
    names = [name for name in run.answers if name.startswith("CKM_") and " " not in name]
    listed = sorted(getattr(ck, name) for name in names)
    made = {"answers": run.answers, "given": run.given, "mechanisms": listed, "crossed": run.crossed}
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
