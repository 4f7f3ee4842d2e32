"""A valid call of every function that works in a session: what stands before it, and its arguments."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_ubyte, c_ulong
from typing import Any

import mechanism_parameters as parameters
from cryptoki import PIN, SO_PIN, Cryptoki, buffer, mechanism, template

from ferrohsm import constants as ck

D16 = bytes(16)
EVERY = 0x7FFFFFFF
USES = tuple(
    (attribute, True)
    for attribute in (
        *(ck.CKA_ENCRYPT, ck.CKA_DECRYPT, ck.CKA_SIGN, ck.CKA_VERIFY, ck.CKA_WRAP, ck.CKA_UNWRAP),
        *(ck.CKA_DERIVE, ck.CKA_EXTRACTABLE),
    )
)
CBC = mechanism(ck.CKM_AES_CBC, D16)
PKCS = mechanism(ck.CKM_RSA_PKCS)
HMAC = mechanism(ck.CKM_SHA256_HMAC)
SHA = mechanism(ck.CKM_SHA256)
KEM = mechanism(ck.CKM_ML_KEM)
NEW_SECRET = (
    (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
    (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET),
    (ck.CKA_TOKEN, False),
)
FAMILIES = {
    "Encrypt": (CBC, "aes"),
    "Decrypt": (CBC, "aes"),
    "Sign": (HMAC, "hmac"),
    "Verify": (HMAC, "hmac"),
    "SignRecover": (PKCS, "private"),
    "VerifyRecover": (PKCS, "public"),
    "VerifySignature": (HMAC, "hmac"),
}


class Stage:
    """A session, keys of every kind, and memory for results that stays."""

    def __init__(self, p11: Cryptoki, slot: int, *, on_token: bool = False) -> None:
        self.p11, self.slot, self.session = p11, slot, p11.open(slot)
        p11.rv("C_Login", self.session, ck.CKU_USER, PIN, len(PIN))  # another session may have done it
        s, token = self.session, (ck.CKA_TOKEN, on_token)
        value = (ck.CKA_VALUE, bytes(range(32)))
        secret = (ck.CKA_CLASS, ck.CKO_SECRET_KEY)
        self.aes = p11.create(s, secret, (ck.CKA_KEY_TYPE, ck.CKK_AES), value, token, *USES)
        self.hmac = p11.create(s, secret, (ck.CKA_KEY_TYPE, ck.CKK_GENERIC_SECRET), value, token, *USES)
        both = [(ck.CKA_MODULUS_BITS, 1024), token]
        uses = [(ck.CKA_SIGN_RECOVER, True), (ck.CKA_SIGN, True), token]
        both.append((ck.CKA_VERIFY_RECOVER, True))
        self.public, self.private = p11.key_pair(s, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, both, uses)
        kind = [(ck.CKA_PARAMETER_SET, ck.CKP_ML_KEM_768), (ck.CKA_ENCAPSULATE, True), token]
        opens = [(ck.CKA_DECAPSULATE, True), token]
        self.kem, self.opener = p11.key_pair(s, ck.CKM_ML_KEM_KEY_PAIR_GEN, kind, opens)
        self.data = p11.data_object(s, (ck.CKA_VALUE, b"data"), (ck.CKA_LABEL, b"data"), token)
        self.kept: list[Any] = []
        self.recoverable = p11.transform("SignRecover", s, PKCS, self.private, b"message")
        self.tag = p11.transform("Sign", s, HMAC, self.hmac, D16)

    def out(self, room: int = 4096) -> tuple[Any, c_ulong]:
        """Return memory for a result, and a place for its length."""
        self.kept.append((c_ubyte * room)())
        return self.kept[-1], c_ulong(room)

    def begin(self, family: str) -> None:
        """Call the family's Init function."""
        how, key = FAMILIES[family]
        more = (self.tag, len(self.tag)) if family == "VerifySignature" else ()
        self.p11(f"C_{family}Init", self.session, how, getattr(self, key), *more)

    def mute(self, key: int) -> int:
        """Return a key of the same kind that may not be used for anything."""
        kind = {self.aes: ck.CKK_AES, self.hmac: ck.CKK_GENERIC_SECRET}.get(key)
        if kind is not None:
            head = ((ck.CKA_CLASS, ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, kind))
            uses = tuple((use, False) for use, _ in USES)
            return self.p11.create(self.session, *head, (ck.CKA_VALUE, bytes(32)), *uses)
        public = [(ck.CKA_MODULUS_BITS, 1024), (ck.CKA_VERIFY_RECOVER, False)]
        private = [(ck.CKA_SIGN_RECOVER, False)]
        pair = self.p11.key_pair(self.session, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, public, private)
        return pair[key == self.private]

    def end(self) -> None:
        """End whatever goes on in the session."""
        self.p11("C_SessionCancel", self.session, EVERY)

    def gcm(self, *, structure: bool = False) -> Any:
        """Return the parameter of a message, with memory of its own, or the mechanism that holds it."""
        vector, tag = buffer(bytes(12)), buffer(bytes(16))
        self.kept += [vector, tag]
        made = parameters.structure(vector, 12, 0, ck.CKG_NO_GENERATE, tag, 128)
        return made if structure else mechanism(ck.CKM_AES_GCM, made)

    def messages(self, family: str) -> None:
        """Begin a process of messages."""
        if family in ("Encrypt", "Decrypt"):
            self.p11(f"C_Message{family}Init", self.session, mechanism(ck.CKM_AES_GCM), self.aes)
        else:
            self.p11(f"C_Message{family}Init", self.session, HMAC, self.hmac)


Scene = Callable[[Stage], tuple[Any, ...]]


def _after(family: str, *rest: Callable[[Stage], tuple[Any, ...]] | Any) -> Scene:
    def scene(stage: Stage) -> tuple[Any, ...]:
        stage.begin(family)
        arguments: list[Any] = [stage.session]
        for part in rest:
            arguments += part(stage) if callable(part) else [part]
        return tuple(arguments)

    return scene


def _out(stage: Stage) -> tuple[Any, ...]:
    return stage.out()


def _dual(cipher: str, other: str) -> Scene:
    def scene(stage: Stage) -> tuple[Any, ...]:
        stage.begin(cipher)
        if other == "Digest":
            stage.p11("C_DigestInit", stage.session, SHA)
        else:
            stage.begin(other)
        return stage.session, D16, 16, *stage.out()

    return scene


def _message(family: str, step: str) -> Scene:
    """Return the scene of a function about messages: its beginning, a part, all of one."""

    def scene(stage: Stage) -> tuple[Any, ...]:
        stage.messages(family)
        parameter: tuple[Any, ...] = (None, 0)
        associated: tuple[Any, ...] = ()
        if family in ("Encrypt", "Decrypt"):
            structure = stage.gcm(structure=True)
            parameter, associated = (structure, ctypes.sizeof(structure)), (b"aad", 3)
        if step == "Begin":
            return stage.session, *parameter, *associated
        if step == "Next":
            stage.p11(f"C_{family}MessageBegin", stage.session, *parameter, *associated)
            associated = ()
        result = (stage.tag, len(stage.tag)) if family == "Verify" else stage.out()
        flags = (0,) if associated == () and family in ("Encrypt", "Decrypt") else ()
        return stage.session, *parameter, *associated, D16, 16, *result, *flags

    return scene


def _scenes() -> dict[str, Scene]:
    scenes: dict[str, Scene] = {
        "C_DigestInit": lambda t: (t.session, SHA),
        "C_VerifySignatureInit": lambda t: (t.session, HMAC, t.hmac, t.tag, len(t.tag)),
        "C_VerifySignature": _after("VerifySignature", D16, 16),
        "C_VerifySignatureUpdate": _after("VerifySignature", D16, 16),
        "C_VerifySignatureFinal": _after("VerifySignature"),
        "C_SignRecover": _after("SignRecover", b"message", 7, _out),
        "C_VerifyRecover": _after("VerifyRecover", lambda t: (t.recoverable, len(t.recoverable)), _out),
        "C_Verify": _after("Verify", D16, 16, lambda t: (t.tag, len(t.tag))),
        "C_VerifyUpdate": _after("Verify", D16, 16),
        "C_VerifyFinal": _after("Verify", lambda t: (t.tag, len(t.tag))),
        "C_SignUpdate": _after("Sign", D16, 16),
        "C_SignFinal": _after("Sign", _out),
        "C_DigestEncryptUpdate": _dual("Encrypt", "Digest"),
        "C_DecryptDigestUpdate": _dual("Decrypt", "Digest"),
        "C_SignEncryptUpdate": _dual("Encrypt", "Sign"),
        "C_DecryptVerifyUpdate": _dual("Decrypt", "Verify"),
        "C_CreateObject": lambda t: (t.session, template(*NEW_SECRET, (ck.CKA_VALUE, D16)), 4, c_ulong(0)),
        "C_CopyObject": lambda t: (t.session, t.data, None, 0, c_ulong(0)),
        "C_DestroyObject": lambda t: (t.session, t.data),
        "C_GetObjectSize": lambda t: (t.session, t.data, c_ulong(0)),
        "C_GetAttributeValue": lambda t: (t.session, t.data, template((ck.CKA_LABEL, None)), 1),
        "C_SetAttributeValue": lambda t: (t.session, t.data, template((ck.CKA_LABEL, b"new")), 1),
        "C_FindObjectsInit": lambda t: (t.session, None, 0),
        "C_GenerateKey": lambda t: (
            *(t.session, mechanism(ck.CKM_AES_KEY_GEN), template((ck.CKA_VALUE_LEN, 16)), 1),
            c_ulong(0),
        ),
        "C_GenerateKeyPair": lambda t: (
            *(t.session, mechanism(ck.CKM_RSA_PKCS_KEY_PAIR_GEN)),
            *(template((ck.CKA_MODULUS_BITS, 1024)), 1, None, 0, c_ulong(0), c_ulong(0)),
        ),
        "C_WrapKey": lambda t: (t.session, mechanism(ck.CKM_AES_KEY_WRAP), t.aes, t.hmac, *t.out()),
        "C_UnwrapKey": lambda t: (*(t.session, CBC, t.aes, D16, 16, template(*NEW_SECRET), 3, c_ulong(0)),),
        "C_DeriveKey": lambda t: (
            *(t.session, mechanism(ck.CKM_SHA256_KEY_DERIVATION), t.hmac, template(*NEW_SECRET), 3),
            c_ulong(0),
        ),
        "C_EncapsulateKey": lambda t: (
            *(t.session, KEM, t.kem, template(*NEW_SECRET), 3, *t.out(), c_ulong(0)),
        ),
        "C_DecapsulateKey": lambda t: (
            *(t.session, KEM, t.opener, template(*NEW_SECRET), 3, bytes(1088), 1088, c_ulong(0)),
        ),
        "C_WrapKeyAuthenticated": lambda t: (t.session, t.gcm(), t.aes, t.hmac, b"aad", 3, *t.out()),
        "C_UnwrapKeyAuthenticated": lambda t: (
            *(t.session, t.gcm(), t.aes, bytes(32), 32, template(*NEW_SECRET), 3, b"aad", 3, c_ulong(0)),
        ),
        "C_GenerateRandom": lambda t: (t.session, buffer(D16), 16),
        "C_SeedRandom": lambda t: (t.session, D16, 16),
        "C_SetPIN": lambda t: (t.session, PIN, len(PIN), PIN, len(PIN)),
        "C_MessageEncryptInit": lambda t: (t.session, mechanism(ck.CKM_AES_GCM), t.aes),
        "C_MessageDecryptInit": lambda t: (t.session, mechanism(ck.CKM_AES_GCM), t.aes),
        "C_MessageSignInit": lambda t: (t.session, HMAC, t.hmac),
        "C_MessageVerifyInit": lambda t: (t.session, HMAC, t.hmac),
    }
    for family in ("Encrypt", "Decrypt", "Sign", "SignRecover", "Verify", "VerifyRecover"):
        how, key = FAMILIES[family]
        scenes[f"C_{family}Init"] = lambda t, how=how, key=key: (t.session, how, getattr(t, key))
    for family in ("Encrypt", "Decrypt"):
        scenes[f"C_{family}Update"] = _after(family, D16, 16, _out)
        scenes[f"C_{family}Final"] = _after(family, _out)
    for family in ("Encrypt", "Decrypt", "Sign"):
        scenes[f"C_{family}"] = _after(family, D16, 16, _out)
    for name, rest in (
        ("C_Digest", lambda t: (D16, 16, *t.out())),
        ("C_DigestUpdate", lambda t: (D16, 16)),
        ("C_DigestKey", lambda t: (t.hmac,)),
        ("C_DigestFinal", lambda t: t.out()),
    ):

        def digest(t: Stage, rest: Any = rest) -> tuple[Any, ...]:
            t.p11("C_DigestInit", t.session, SHA)
            return t.session, *rest(t)

        scenes[name] = digest
    for family in ("Encrypt", "Decrypt", "Sign", "Verify"):
        scenes[f"C_{family}Message"] = _message(family, "")
        scenes[f"C_{family}MessageBegin"] = _message(family, "Begin")
        scenes[f"C_{family}MessageNext"] = _message(family, "Next")
    return scenes


SCENES = _scenes()

LOGINS: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "C_Login": lambda session: (session, ck.CKU_USER, PIN, len(PIN)),
    "C_LoginUser": lambda session: (session, ck.CKU_USER, PIN, len(PIN), b"name", 4),
}
__all__ = ["LOGINS", "SCENES", "SO_PIN", "Stage"]
