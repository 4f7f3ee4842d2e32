"""Whether an object there and one here are the same, by what both can show without giving a key away."""

from __future__ import annotations

import hmac
import os
from typing import NamedTuple

from ferrohsm import constants as ck
from ferrohsm.attributes import normal
from ferrohsm.ec_encoding import normal_point, raw_point
from ferrohsm.errors import HsmError
from ferrohsm.migration.source import Source, SourceObject
from ferrohsm.migration.target import Target

_SECRETS = (ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY)
_KEYS = (ck.CKO_PUBLIC_KEY, ck.CKO_PRIVATE_KEY, *_SECRETS)
_BLOCKS = {
    ck.CKK_AES: (ck.CKM_AES_ECB, 16),
    ck.CKK_DES3: (ck.CKM_DES3_ECB, 8),
    ck.CKK_DES: (ck.CKM_DES_ECB, 8),
}
_MACS = {
    ck.CKK_GENERIC_SECRET: ck.CKM_SHA256_HMAC,
    ck.CKK_SHA_1_HMAC: ck.CKM_SHA_1_HMAC,
    ck.CKK_SHA224_HMAC: ck.CKM_SHA224_HMAC,
    ck.CKK_SHA256_HMAC: ck.CKM_SHA256_HMAC,
    ck.CKK_SHA384_HMAC: ck.CKM_SHA384_HMAC,
    ck.CKK_SHA512_HMAC: ck.CKM_SHA512_HMAC,
    ck.CKK_AES: ck.CKM_AES_CMAC,
}
_MATERIAL = (
    ck.CKA_MODULUS,
    ck.CKA_PUBLIC_EXPONENT,
    ck.CKA_EC_PARAMS,
    ck.CKA_EC_POINT,
    ck.CKA_PRIME,
    ck.CKA_SUBPRIME,
    ck.CKA_BASE,
    ck.CKA_VALUE,
    ck.CKA_SUBJECT,
    ck.CKA_ISSUER,
    ck.CKA_SERIAL_NUMBER,
    ck.CKA_APPLICATION,
    ck.CKA_OBJECT_ID,
)


class Proof(NamedTuple):
    """`same`: True, False, or None when nothing can be said; `how`: by what."""

    same: bool | None
    how: str


class Prover:
    """Compares; `partners` are the public keys there, by type and ``CKA_ID``."""

    def __init__(self, source: Source, target: Target, objects: list[SourceObject]) -> None:
        self._source = source
        self._target = target
        self._partners = {
            (each.key_type, each.values[ck.CKA_ID]): each
            for each in objects
            if each.kind == ck.CKO_PUBLIC_KEY and each.values.get(ck.CKA_ID)
        }

    def compare(self, each: SourceObject, oid: int) -> Proof:
        """Compare an object there with one here."""
        seen = self._compare_seen(each, oid)
        if seen.same is False or each.kind not in (ck.CKO_PRIVATE_KEY, *_SECRETS):
            return seen
        try:
            found = self._private(each, oid) if each.kind == ck.CKO_PRIVATE_KEY else self._secret(each, oid)
        except HsmError as error:
            found = Proof(None, f"cannot be tried: {error}")
        return found if found.same is not None else (seen if seen.same else found)

    def _compare_seen(self, each: SourceObject, oid: int) -> Proof:
        """Compare what both show of the material; a secret key shows nothing."""
        rules = each.rules or {}
        types = [
            attribute
            for attribute in _MATERIAL
            if attribute in rules and attribute in each.values and attribute not in each.secret_types
        ]
        values = self._target.values(oid, types)
        compared = False
        for attribute in types:
            try:
                there = normal(rules[attribute], each.values[attribute])
                here = normal(rules[attribute], values.get(attribute, b""))
            except HsmError:
                there, here = each.values[attribute], values.get(attribute, b"")
            if there != here:
                return Proof(False, f"{ck.name('CKA', attribute)} differs")
            compared = compared or attribute not in (ck.CKA_EC_PARAMS, ck.CKA_PRIME, ck.CKA_BASE)
        what = "its public part" if each.kind in _KEYS else "its content"
        return Proof(True if compared else None, f"{what} is the same" if compared else "nothing to compare")

    def _private(self, each: SourceObject, oid: int) -> Proof:
        """Compare a private key by the public key that follows from it here."""
        info = bytes(self._target.values(oid, [ck.CKA_PUBLIC_KEY_INFO]).get(ck.CKA_PUBLIC_KEY_INFO, b""))
        partner = self._partners.get((each.key_type, each.values.get(ck.CKA_ID, b"")))
        if info and partner is not None:
            public = partner.values.get(ck.CKA_MODULUS, partner.values.get(ck.CKA_VALUE, b""))
            if ck.CKA_EC_POINT in partner.values:
                public = raw_point(normal_point(partner.values[ck.CKA_EC_POINT]))
            if public and public.lstrip(b"\0") in info:
                return Proof(True, "its public key is the same")
        if info and each.key_type == ck.CKK_EC and each.flag(ck.CKA_SIGN):
            if each.flag(ck.CKA_ALWAYS_AUTHENTICATE):
                return Proof(None, "it wants its PIN at each use")
            return self._signature(each, info)
        return Proof(None, "there is no public key to compare with")

    def _signature(self, each: SourceObject, info: bytes) -> Proof:
        """Have the other side sign, and verify with the public key that follows from the key here."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        digest = os.urandom(32)
        signature = self._source.sign(each, digest, ck.CKM_ECDSA)
        half = len(signature) // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        public = load_der_public_key(info)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return Proof(False, "it is another kind of key")
        try:
            public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(SHA256())))
        except InvalidSignature:
            return Proof(False, "a signature of the one does not verify with the other")
        return Proof(True, "a signature of the one verifies with the other")

    def _secret(self, each: SourceObject, oid: int) -> Proof:
        """Compare a secret key by what it computes, or by its value where that may be seen."""
        computed = self._computed(each, oid)
        if computed.same is not None:
            return computed
        theirs = ours = None
        try:
            if each.flag(ck.CKA_EXTRACTABLE) and not each.flag(ck.CKA_SENSITIVE):
                theirs = self._source.secret(each, ck.CKA_VALUE)
            ours = self._target.values(oid, [ck.CKA_VALUE]).get(ck.CKA_VALUE)
            if theirs is not None and ours is not None:
                return Proof(hmac.compare_digest(theirs, ours), "its value is the same")
        finally:
            for value in (theirs, ours):
                if isinstance(value, bytearray):
                    value[:] = bytes(len(value))
        return self._check_value(each, oid)

    def _computed(self, each: SourceObject, oid: int) -> Proof:
        key_type = each.key_type or 0
        block = _BLOCKS.get(key_type)
        try:
            if block is not None and each.flag(ck.CKA_ENCRYPT):
                mechanism, length = block
                text = os.urandom(length)
                pair = self._source.encrypt(each, text, mechanism), self._target.encrypt(oid, text, mechanism)
                return Proof(pair[0] == pair[1], "both encrypt alike")
            if key_type in _MACS and each.flag(ck.CKA_SIGN):
                text = os.urandom(32)
                pair = (
                    self._source.sign(each, text, _MACS[key_type]),
                    self._target.sign(oid, text, _MACS[key_type]),
                )
                return Proof(pair[0] == pair[1], "both make the same MAC")
        except HsmError as error:
            return Proof(None, f"cannot be tried: {error}")
        return Proof(None, "it can do nothing that could be compared")

    def _check_value(self, each: SourceObject, oid: int) -> Proof:
        theirs = each.values.get(ck.CKA_CHECK_VALUE)
        ours = self._target.values(oid, [ck.CKA_CHECK_VALUE]).get(ck.CKA_CHECK_VALUE)
        if not theirs or not ours:
            return Proof(None, "there is no check value to compare")
        if theirs == bytes(ours):
            return Proof(True, "its check value is the same")
        # Of other keys modules compute it in ways of their own.
        return Proof(False if each.key_type in _BLOCKS else None, "its check value differs")
