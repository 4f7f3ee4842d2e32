"""PyKCS11 and python-pkcs11, alone and both in one interpreter, which the module shares with them."""

# Command lines are kept as lines.
# fmt: off
from __future__ import annotations

import sys
import textwrap

import pytest


@pytest.fixture
def python(token):
    """Run a program in a new interpreter of this environment, with the token's names defined."""
    pytest.importorskip("PyKCS11", reason="PyKCS11 is a test dependency")
    pytest.importorskip("pkcs11", reason="python-pkcs11 is a test dependency")

    def run(program, *options):
        names = f"LIB = {str(token.module.path)!r}; PIN = {token.pin!r}; LABEL = {token.label!r}\n"
        names += f"SLOT = {token.slot}\n"
        result = token.run(
            sys.executable, "-X", "faulthandler", *options, "-c", names + textwrap.dedent(program),
        )
        return result.stdout.decode()

    return run


PYKCS11 = """
import PyKCS11
from PyKCS11 import CKM_RSA_PKCS_KEY_PAIR_GEN, LowLevel
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

lib = PyKCS11.PyKCS11Lib()
lib.load(LIB)
assert lib.getSlotList(tokenPresent=True)[0] == SLOT
assert lib.getTokenInfo(SLOT).label.strip() == LABEL
session = lib.openSession(SLOT, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
session.login(PIN)
public, private = session.generateKeyPair(
    [(PyKCS11.CKA_CLASS, PyKCS11.CKO_PUBLIC_KEY), (PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_MODULUS_BITS, 2048),
     (PyKCS11.CKA_PUBLIC_EXPONENT, (1, 0, 1)), (PyKCS11.CKA_VERIFY, True), (PyKCS11.CKA_LABEL, "made"),
     (PyKCS11.CKA_ID, (1,))],
    [(PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY), (PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_SENSITIVE, True),
     (PyKCS11.CKA_SIGN, True), (PyKCS11.CKA_LABEL, "made"), (PyKCS11.CKA_ID, (1,))],
)
signature = bytes(session.sign(private, b"data", PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS, None)))
modulus, exponent = session.getAttributeValue(public, [PyKCS11.CKA_MODULUS, PyKCS11.CKA_PUBLIC_EXPONENT])
exponent, modulus = (int.from_bytes(bytes(number), "big") for number in (exponent, modulus))
key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
key.verify(signature, b"data", padding.PKCS1v15(), hashes.SHA256())
assert session.verify(public, b"data", signature, PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS, None))
assert not session.verify(public, b"date", signature, PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS, None))
try:
    session.getAttributeValue(private, [PyKCS11.CKA_PRIVATE_EXPONENT], allAsBinary=True)
except PyKCS11.PyKCS11Error as error:
    assert error.value == PyKCS11.CKR_ATTRIBUTE_SENSITIVE
else:
    assert session.getAttributeValue(private, [PyKCS11.CKA_PRIVATE_EXPONENT])[0] is None
assert len(session.findObjects([(PyKCS11.CKA_LABEL, "made")])) == 2
"""

PYTHON_PKCS11 = """
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters, encode_ec_public_key, encode_ecdsa_signature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

library = pkcs11.lib(LIB)
token = library.get_token(token_label=LABEL)
with token.open(rw=True, user_pin=PIN) as own:
    parameters = own.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True)
    public, private = parameters.generate_keypair(store=True, label="elliptic")
    import hashlib
    signature = private.sign(hashlib.sha256(b"data").digest(), mechanism=Mechanism.ECDSA)
    key = serialization.load_der_public_key(encode_ec_public_key(public))
    key.verify(encode_ecdsa_signature(signature), b"data", ec.ECDSA(hashes.SHA256()))
    aes = own.generate_key(KeyType.AES, 256, label="aes", store=True)
    iv = own.generate_random(128)
    sealed = aes.encrypt(b"a secret of any length", mechanism_param=iv)
    assert sealed != b"a secret of any length"
    assert aes.decrypt(sealed, mechanism_param=iv) == b"a secret of any length"
    assert {key.label for key in own.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})} == {"aes"}
    assert next(iter(own.get_objects({Attribute.LABEL: "aes"}))).key_length == 256
"""


# As one derives SSH's keys with Kryoptic: its number and its structure, written out from its documentation.
SSH = """
import ctypes, hashlib
import PyKCS11

class Parameters(ctypes.Structure):
    _fields_ = [("prfHashMechanism", ctypes.c_ulong), ("derivedKeyType", ctypes.c_ubyte),
                ("pExchangeHash", ctypes.c_char_p), ("ulExchangeHashLen", ctypes.c_ulong),
                ("pSessionId", ctypes.c_char_p), ("ulSessionIdLen", ctypes.c_ulong)]

KRM_SSHKDF_DERIVE = PyKCS11.CKM_VENDOR_DEFINED + 485259 + 1
lib = PyKCS11.PyKCS11Lib()
lib.load(LIB)
name = "CKM_VENDOR_DEFINED_0x7678C"  # what PyKCS11 calls it
assert name in lib.getMechanismList(SLOT)
assert lib.getMechanismInfo(SLOT, name).flags == PyKCS11.CKF_DERIVE
session = lib.openSession(SLOT, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
session.login(PIN)
k, h = (32).to_bytes(4, "big") + bytes(range(32)), hashlib.sha256(b"exchange").digest()
base = session.createObject([
    (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY), (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_GENERIC_SECRET),
    (PyKCS11.CKA_VALUE, k), (PyKCS11.CKA_DERIVE, True), (PyKCS11.CKA_SENSITIVE, True)])
for letter, length in zip(b"ABCDEF", (16, 16, 32, 32, 64, 64)):
    data = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_DATA)]
    key = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY), (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_GENERIC_SECRET),
           (PyKCS11.CKA_SENSITIVE, False), (PyKCS11.CKA_EXTRACTABLE, True)]
    how = Parameters(PyKCS11.CKM_SHA256, letter, h, len(h), h, len(h))
    template = [*(data if letter in b"AB" else key), (PyKCS11.CKA_VALUE_LEN, length)]
    made = session.deriveKey(base, template, PyKCS11.Mechanism(KRM_SSHKDF_DERIVE, bytes(how)))
    first = hashlib.sha256(k + h + bytes((letter,)) + h).digest()
    expected = (first + hashlib.sha256(k + h + first).digest())[:length]
    assert bytes(session.getAttributeValue(made, [PyKCS11.CKA_VALUE])[0]) == expected, chr(letter)
"""


def test_pykcs11(python):
    python(PYKCS11)


def test_what_is_written_for_kryoptics_ssh_derivation(python):
    python(SSH)


def test_python_pkcs11(python):
    python(PYTHON_PKCS11)


def test_both_in_one_interpreter(python):
    """PyKCS11 joins the module that python-pkcs11 initialized; the login is shared by the process."""
    python(
        PYTHON_PKCS11
        + """
import PyKCS11
lib = PyKCS11.PyKCS11Lib()
lib.load(LIB)
with token.open(rw=True, user_pin=PIN) as theirs:
    session = lib.openSession(SLOT, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
    try:
        session.login(PIN)
    except PyKCS11.PyKCS11Error as error:
        assert error.value == PyKCS11.CKR_USER_ALREADY_LOGGED_IN
    else:
        raise AssertionError("the login was not shared")
    wanted = [(PyKCS11.CKA_LABEL, "elliptic"), (PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY)]
    mine = session.findObjects(wanted)[0]
    ecdsa = PyKCS11.Mechanism(PyKCS11.CKM_ECDSA, None)
    for _ in range(10):
        signed = bytes(session.sign(mine, hashlib.sha256(b"data").digest(), ecdsa))
        key.verify(encode_ecdsa_signature(signed), b"data", ec.ECDSA(hashes.SHA256()))
        private = theirs.get_key(object_class=ObjectClass.PRIVATE_KEY, label="elliptic")
        signed = private.sign(hashlib.sha256(b"date").digest(), mechanism=Mechanism.ECDSA)
        key.verify(encode_ecdsa_signature(signed), b"date", ec.ECDSA(hashes.SHA256()))
assert session.findObjects(wanted) == [], "private objects are seen after the logout"
"""
    )


def test_threads_of_python(python, token):
    """Threads of the host sign with sessions of their own while the interpreter lock is contended.

    python-pkcs11 initializes without asking for locks, and still lets threads in.
    """
    if not token.module.ours:
        pytest.skip("SoftHSM 2.6 takes no locks then, and crashes")
    python(
        PYTHON_PKCS11
        + """
import threading
failures = []
def work(number):
    try:
        with token.open() as session:
            mine = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label="elliptic")
            for round in range(50):
                digest = hashlib.sha256(f"{number} {round}".encode()).digest()
                signed = encode_ecdsa_signature(mine.sign(digest, mechanism=Mechanism.ECDSA))
                key.verify(signed, f"{number} {round}".encode(), ec.ECDSA(hashes.SHA256()))
    except BaseException as error:
        failures.append(error)
with token.open(user_pin=PIN) as outer:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
assert not failures, failures
"""
    )


def test_the_host_is_not_changed(python, token):
    """A Python host keeps its path, its signal handlers and its locale."""
    python(
        """
import locale, os, signal, sys
def state():
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    current = locale.setlocale(locale.LC_ALL)
    return list(sys.path), handlers, current, dict(os.environ), os.getcwd(), list(sys.argv)
before = state()
import PyKCS11
lib = PyKCS11.PyKCS11Lib()
lib.load(LIB)
lib.getTokenInfo(SLOT)
assert state() == before
"""
    )


def test_fork_of_a_python_host(python, token):
    """``os.fork`` in a process that uses the module: the child initializes again and signs."""
    if not token.module.ours:
        pytest.skip("SoftHSM 2.6 leaves the child initialized")
    python(
        PYKCS11
        + """
import os
child = os.fork()
if child == 0:
    try:
        assert lib.lib.C_Initialize() in (0, None)
        again = lib.openSession(SLOT)
        again.login(PIN)
        wanted = [(PyKCS11.CKA_LABEL, "made"), (PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY)]
        key = again.findObjects(wanted)[0]
        assert len(again.sign(key, b"data", PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS, None))) == 256
        os._exit(0)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(session.sign(private, b"data", PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS, None))) == 256
"""
    )
