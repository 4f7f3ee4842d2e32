"""Keys, signatures and ciphertexts pass between this module and SoftHSM 2, in both directions.

One process has both modules loaded. Every check is made from either side: what one made, the other takes.
"""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import sys
import textwrap

import pytest
from peer_modules import SOFTHSM2

CONFIGURATION = """\
directories.tokendir = {data}
objectstore.backend = file
log.level = ERROR
"""

PRELUDE = """
import itertools
import os
import PyKCS11
from PyKCS11 import *
from PyKCS11.LowLevel import CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_KWP

class Side:
    def __init__(self, name, path, slot=None):
        self.name, self.library = name, PyKCS11.PyKCS11Lib()
        self.library.load(path)
        if slot is None:
            slot = self.library.getSlotList(tokenPresent=True)[0]
            self.library.initToken(slot, "87654321", "other")
            slot = next(slot for slot in self.library.getSlotList(tokenPresent=True)
                        if self.library.getTokenInfo(slot).label.strip("\\0 ") == "other")
            session = self.library.openSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
            session.login("87654321", CKU_SO)
            session.initPin(PIN)
            session.logout()
            session.closeSession()
        self.session = self.library.openSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
        self.session.login(PIN)

    def __getattr__(self, name):
        return getattr(self.session, name)

    def secret(self, value, key_type=CKK_AES):
        return self.createObject(new(CKO_SECRET_KEY, key_type, (CKA_VALUE, value)))

    def value(self, key):
        return bytes(self.getAttributeValue(key, [CKA_VALUE])[0])

    def public_copy(self, other, key, *attributes):
        \"\"\"Create here the public key that `other` has.\"\"\"
        values = other.getAttributeValue(key, [CKA_CLASS, CKA_KEY_TYPE, *attributes])
        given = [(attribute, bytes(value)) for attribute, value in zip(attributes, values[2:])]
        uses = [(CKA_VERIFY, True)]
        if values[1] == CKK_RSA:
            uses += [(CKA_ENCRYPT, True), (CKA_WRAP, True)]
        return self.createObject(
            [(CKA_CLASS, values[0]), (CKA_KEY_TYPE, values[1]), (CKA_TOKEN, False), *uses, *given])

    def rsa(self):
        return self.generateKeyPair(
            [(CKA_CLASS, CKO_PUBLIC_KEY), (CKA_KEY_TYPE, CKK_RSA), (CKA_TOKEN, False),
             (CKA_MODULUS_BITS, 2048), (CKA_PUBLIC_EXPONENT, (1, 0, 1)), (CKA_VERIFY, True),
             (CKA_ENCRYPT, True), (CKA_WRAP, True)],
            [(CKA_CLASS, CKO_PRIVATE_KEY), (CKA_KEY_TYPE, CKK_RSA), (CKA_TOKEN, False), (CKA_SENSITIVE, True),
             (CKA_EXTRACTABLE, True), (CKA_SIGN, True), (CKA_DECRYPT, True), (CKA_UNWRAP, True)],
            mecha=MechanismRSAGENERATEKEYPAIR)

    def ec(self, parameters):
        return self.generateKeyPair(
            [(CKA_CLASS, CKO_PUBLIC_KEY), (CKA_KEY_TYPE, CKK_EC), (CKA_TOKEN, False), (CKA_VERIFY, True),
             (CKA_EC_PARAMS, parameters)],
            [(CKA_CLASS, CKO_PRIVATE_KEY), (CKA_KEY_TYPE, CKK_EC), (CKA_TOKEN, False), (CKA_SENSITIVE, True),
             (CKA_EXTRACTABLE, True), (CKA_SIGN, True), (CKA_DERIVE, True)],
            mecha=MechanismECGENERATEKEYPAIR)

def new(object_class, key_type, *more):
    template = [(CKA_CLASS, object_class), (CKA_KEY_TYPE, key_type), (CKA_TOKEN, False)]
    if object_class == CKO_SECRET_KEY:
        template += [(CKA_SENSITIVE, False), (CKA_EXTRACTABLE, True)]
        if key_type == CKK_AES:
            template += [(use, True) for use in (CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP)]
        else:
            template += [(CKA_SIGN, True), (CKA_VERIFY, True)]
    else:
        template += [(CKA_SENSITIVE, True), (CKA_EXTRACTABLE, True), (CKA_SIGN, True)]
        template += [(CKA_DECRYPT, True)] if key_type == CKK_RSA else [(CKA_DERIVE, True)]
    return template + list(more)

ours = Side("ferrohsm", LIB, SLOT)
theirs = Side("softhsm2", OTHER)
WAYS = ((ours, theirs), (theirs, ours))
P256 = bytes.fromhex("06082a8648ce3d030107")
P384 = bytes.fromhex("06052b81040022")
RSA_PUBLIC = (CKA_MODULUS, CKA_PUBLIC_EXPONENT)
EC_PUBLIC = (CKA_EC_PARAMS, CKA_EC_POINT)
# What the two call key wrap with padding (RFC 5649).
KWP = {ours: Mechanism(CKM_AES_KEY_WRAP_KWP, None), theirs: Mechanism(CKM_AES_KEY_WRAP_PAD, None)}

def refused(function, *arguments):
    try:
        function(*arguments)
    except PyKCS11Error as error:
        return error.value
    raise AssertionError("not refused")
"""


@pytest.fixture
def exchange(token, need):
    """Run a program in a new interpreter that has both modules loaded as `ours` and `theirs`."""
    pytest.importorskip("PyKCS11", reason="PyKCS11 is a test dependency")
    if not token.module.ours:
        pytest.skip("the other side of the exchange is SoftHSM 2 already")
    other = need(SOFTHSM2[0], package="softhsm2", places=SOFTHSM2)
    configuration = token.directory / "other.conf"
    data = token.directory / "other"
    data.mkdir()
    configuration.write_text(CONFIGURATION.format(data=data))

    def run(program):
        names = f"LIB = {str(token.module.path)!r}; OTHER = {other!r}; PIN = {token.pin!r}\n"
        names += f"SLOT = {token.slot}\n"
        token.run(
            sys.executable, "-X", "faulthandler", "-c", names + PRELUDE + textwrap.dedent(program),
            environment={"SOFTHSM2_CONF": str(configuration)},
        )

    return run


def test_secret_keys_wrapped_with_aes(exchange):
    exchange(
        """
        for (one, other), size in itertools.product(WAYS, (16, 24, 32)):
            shared = os.urandom(size)
            for length in (16, 32):
                value = os.urandom(length)
                for mechanisms in ({side: Mechanism(CKM_AES_KEY_WRAP, None) for side in (ours, theirs)}, KWP):
                    wrapped = bytes(one.wrapKey(one.secret(shared), one.secret(value), mechanisms[one]))
                    key = other.unwrapKey(
                        other.secret(shared), wrapped, new(CKO_SECRET_KEY, CKK_AES), mechanisms[other])
                    assert other.value(key) == value, (one.name, size, length)
                    broken = wrapped[:-1] + bytes((wrapped[-1] ^ 1,))
                    refused(other.unwrapKey, other.secret(shared), broken, new(CKO_SECRET_KEY, CKK_AES),
                            mechanisms[other])
            # Of a length that is no multiple of eight. SoftHSM wraps it with zeros behind it, as part of it.
            value = os.urandom(21)
            wrapped = bytes(one.wrapKey(one.secret(shared), one.secret(value, CKK_GENERIC_SECRET), KWP[one]))
            key = other.unwrapKey(
                other.secret(shared), wrapped, new(CKO_SECRET_KEY, CKK_GENERIC_SECRET), KWP[other])
            assert other.value(key) == value + (b"" if one is ours else bytes(3))
        """
    )


def test_secret_keys_wrapped_with_cbc(exchange):
    """SoftHSM 2.6.1 wraps nothing with CBC: it encrypts and decrypts what is a wrapped key here."""
    exchange(
        """
        for size, length in itertools.product((16, 32), (16, 32)):
            shared, value, iv = os.urandom(size), os.urandom(length), os.urandom(16)
            cbc = Mechanism(CKM_AES_CBC_PAD, iv)
            wrapped = bytes(ours.wrapKey(ours.secret(shared), ours.secret(value), cbc))
            assert bytes(theirs.decrypt(theirs.secret(shared), wrapped, cbc)) == value
            wrapped = bytes(theirs.encrypt(theirs.secret(shared), value, cbc))
            key = ours.unwrapKey(ours.secret(shared), wrapped, new(CKO_SECRET_KEY, CKK_AES), cbc)
            assert ours.value(key) == value
        """
    )


def test_secret_keys_wrapped_with_rsa(exchange):
    exchange(
        """
        oaep = RSAOAEPMechanism(CKM_SHA_1, CKG_MGF1_SHA1)
        for one, other in WAYS:
            public, private = other.rsa()
            copy = one.public_copy(other, public, *RSA_PUBLIC)
            for mechanism in (Mechanism(CKM_RSA_PKCS, None), oaep):
                value = os.urandom(32)
                wrapped = bytes(one.wrapKey(copy, one.secret(value), mechanism))
                key = other.unwrapKey(private, wrapped, new(CKO_SECRET_KEY, CKK_AES), mechanism)
                assert other.value(key) == value
        """
    )


def test_private_keys_move(exchange):
    """A private key that was wrapped by one signs in the other."""
    exchange(
        """
        for one, other in WAYS:
            shared = os.urandom(32)
            public, private = one.rsa()
            wrapped = bytes(one.wrapKey(one.secret(shared), private, KWP[one]))
            moved = other.unwrapKey(other.secret(shared), wrapped, new(CKO_PRIVATE_KEY, CKK_RSA), KWP[other])
            signed = bytes(other.sign(moved, b"data", Mechanism(CKM_SHA256_RSA_PKCS, None)))
            assert one.verify(public, b"data", signed, Mechanism(CKM_SHA256_RSA_PKCS, None))
            for curve in (P256, P384):
                public, private = one.ec(curve)
                wrapped = bytes(one.wrapKey(one.secret(shared), private, KWP[one]))
                moved = other.unwrapKey(
                    other.secret(shared), wrapped, new(CKO_PRIVATE_KEY, CKK_EC), KWP[other])
                signed = bytes(other.sign(moved, bytes(range(32)), Mechanism(CKM_ECDSA, None)))
                assert one.verify(public, bytes(range(32)), signed, Mechanism(CKM_ECDSA, None))
        """
    )


def test_signatures(exchange):
    exchange(
        """
        pss = RSA_PSS_Mechanism(CKM_SHA256_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32)
        def both_ways(one, other, private, copy, data, mechanism):
            signed = bytes(one.sign(private, data, mechanism))
            assert other.verify(copy, data, signed, mechanism), one.name
            assert not other.verify(copy, bytes((data[0] ^ 1,)) + data[1:], signed, mechanism)
        for one, other in WAYS:
            public, private = one.rsa()
            copy = other.public_copy(one, public, *RSA_PUBLIC)
            for mechanism in (Mechanism(CKM_RSA_PKCS, None), Mechanism(CKM_SHA1_RSA_PKCS, None),
                              Mechanism(CKM_SHA256_RSA_PKCS, None), Mechanism(CKM_SHA512_RSA_PKCS, None),
                              pss):
                both_ways(one, other, private, copy, b"a message", mechanism)
            for curve, length in ((P256, 32), (P384, 48)):
                public, private = one.ec(curve)
                copy = other.public_copy(one, public, *EC_PUBLIC)
                both_ways(one, other, private, copy, os.urandom(length), Mechanism(CKM_ECDSA, None))
            value = os.urandom(64)
            for type in (CKM_SHA_1_HMAC, CKM_SHA256_HMAC, CKM_SHA384_HMAC, CKM_SHA512_HMAC):
                keys = [side.secret(value, CKK_GENERIC_SECRET) for side in (one, other)]
                both_ways(one, other, *keys, b"a message", Mechanism(type, None))
        """
    )


def test_ciphertexts(exchange):
    exchange(
        """
        for (one, other), size in itertools.product(WAYS, (16, 24, 32)):
            value, iv = os.urandom(size), os.urandom(16)
            mine, yours = one.secret(value), other.secret(value)
            for data, mechanism in (
                (os.urandom(64), Mechanism(CKM_AES_CBC, iv)),
                (os.urandom(61), Mechanism(CKM_AES_CBC_PAD, iv)),
                (os.urandom(64), Mechanism(CKM_AES_CBC_PAD, iv)),
                (os.urandom(61), AES_CTR_Mechanism(128, iv)),
                (os.urandom(61), AES_GCM_Mechanism(iv[:12], b"header", 128)),
            ):
                sealed = bytes(one.encrypt(mine, data, mechanism))
                assert bytes(other.decrypt(yours, sealed, mechanism)) == data, one.name
            broken = bytes((sealed[0] ^ 1,)) + sealed[1:]
            refused(other.decrypt, yours, broken, mechanism)
        for one, other in WAYS:
            public, private = other.rsa()
            copy = one.public_copy(other, public, *RSA_PUBLIC)
            for mechanism in (Mechanism(CKM_RSA_PKCS, None), RSAOAEPMechanism(CKM_SHA_1, CKG_MGF1_SHA1)):
                sealed = bytes(one.encrypt(copy, b"a message", mechanism))
                assert bytes(other.decrypt(private, sealed, mechanism)) == b"a message"
        """
    )


def test_ecdh_agrees(exchange):
    exchange(
        """
        for curve, length in ((P256, 32), (P384, 48)):
            secrets = []
            pairs = {side: side.ec(curve) for side in (ours, theirs)}
            for one, other in WAYS:
                point = bytes(other.getAttributeValue(pairs[other][0], [CKA_EC_POINT])[0])
                # The point itself, without the OCTET STRING around it.
                derived = one.deriveKey(
                    pairs[one][1],
                    new(CKO_SECRET_KEY, CKK_GENERIC_SECRET, (CKA_VALUE_LEN, length)),
                    ECDH1_DERIVE_Mechanism(point[2:], CKD_NULL, None),
                )
                secrets.append(one.value(derived))
            assert secrets[0] == secrets[1] and len(secrets[0]) == length
        """
    )
