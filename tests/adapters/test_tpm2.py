"""The TPM adapter beside what the conformance suite tries: keys, PINs, a TPM that comes and goes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from devices import Tpm

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Function
from ferrohsm.attribute_kinds import TRUE, ulong
from ferrohsm.errors import (
    CurveNotSupported,
    HsmError,
    KeySizeRange,
    MechanismInvalid,
    PinIncorrect,
    PinLocked,
    TemplateInconsistent,
)
from ferrohsm.parameters import Mechanism, RsaPss
from ferrohsm.settings import PinPolicy
from ferrohsm.testing.subject import TOKEN, Running, Subject, label

HASHES = {
    "SHA1": hashes.SHA1(),
    "SHA224": hashes.SHA224(),
    "SHA512": hashes.SHA512(),
    "SHA3_256": hashes.SHA3_256(),
}


@pytest.fixture
def subject(tpm: Tpm, tmp_path: Path) -> Subject:
    return Subject("tpm2", tpm.options, data_dir=tmp_path / "data")


def public_of(running: Running, session: Any, oid: int) -> Any:
    return load_der_public_key(bytes(running.get(session, oid, ck.CKA_PUBLIC_KEY_INFO)[0]))


def test_rsa_signatures_of_every_hash_and_salt(subject: Subject) -> None:
    with subject.open() as running:
        session = running.session()
        _, private = running.generate(session, ck.CKM_RSA_PKCS_KEY_PAIR_GEN, 2048)
        key = public_of(running, session, private)
        assert isinstance(key, rsa.RSAPublicKey)
        for name, algorithm in HASHES.items():
            plain = Mechanism(getattr(ck, f"CKM_{name}_RSA_PKCS"))
            key.verify(running.sign(session, plain, private, b"data"), b"data", padding.PKCS1v15(), algorithm)
            for salt in (0, 20, 2048 // 8 - algorithm.digest_size - 2):
                parameter = RsaPss(
                    getattr(ck, "CKM_SHA_1" if name == "SHA1" else f"CKM_{name}"),
                    getattr(ck, f"CKG_MGF1_{name}"),
                    salt,
                )
                mechanism = Mechanism(getattr(ck, f"CKM_{name}_RSA_PKCS_PSS"), parameter)
                signature = running.sign(session, mechanism, private, b"data")
                key.verify(signature, b"data", padding.PSS(padding.MGF1(algorithm), salt), algorithm)
        with pytest.raises(HsmError):
            running.sign(
                session,
                Mechanism(ck.CKM_SHA1_RSA_PKCS_PSS, RsaPss(ck.CKM_SHA_1, ck.CKG_MGF1_SHA1, 236)),
                private,
                b"",
            )


def test_digests_of_any_length_under_every_curve(subject: Subject) -> None:
    with subject.open() as running:
        session = running.session()
        for bits, order in ((256, 32), (384, 48), (521, 66)):
            _, private = running.generate(session, ck.CKM_EC_KEY_PAIR_GEN, bits)
            key = public_of(running, session, private)
            assert isinstance(key, ec.EllipticCurvePublicKey)
            for algorithm in (
                hashes.SHA1(),
                hashes.SHA224(),
                hashes.SHA256(),
                hashes.SHA384(),
                hashes.SHA512(),
            ):
                digest = bytes(range(1, algorithm.digest_size + 1))
                made = running.sign(session, Mechanism(ck.CKM_ECDSA), private, digest)
                r, s = (int.from_bytes(part, "big") for part in (made[:order], made[order:]))
                key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(algorithm)))


def test_what_the_tpm_does_not_make(subject: Subject) -> None:
    with subject.open() as running:
        session = running.session()
        exponent = [(ck.CKA_MODULUS_BITS, ulong(2048)), (ck.CKA_PUBLIC_EXPONENT, b"\3")]
        cases: list[tuple[int, list[Any], type[HsmError]]] = [
            (ck.CKM_RSA_PKCS_KEY_PAIR_GEN, exponent, TemplateInconsistent),
            (ck.CKM_RSA_PKCS_KEY_PAIR_GEN, [(ck.CKA_MODULUS_BITS, ulong(2047))], KeySizeRange),
            (
                ck.CKM_EC_KEY_PAIR_GEN,
                [(ck.CKA_EC_PARAMS, bytes.fromhex("06052b8104000a"))],
                CurveNotSupported,
            ),
        ]
        for type, public, error in cases:
            with pytest.raises(error):
                running.run(running.core.generate_key_pair(session, Mechanism(type), public, []))
        with pytest.raises(MechanismInvalid):
            running.run(
                running.core.generate_key(
                    session, Mechanism(ck.CKM_AES_KEY_GEN), [(ck.CKA_VALUE_LEN, ulong(16))]
                )
            )
        template = [
            (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)), (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)), (ck.CKA_VALUE,
            bytes(16)),
        ]  # fmt: skip
        with pytest.raises(TemplateInconsistent):  # nothing is taken in
            running.run(running.core.create_object(session, template))


def test_keys_survive_the_tpms_restart(tpm: Tpm, subject: Subject) -> None:
    with subject.open() as running:
        session = running.session()
        public, private, mechanism = running.a_pair(session, TOKEN, label(b"restart"))
        running.sign(session, mechanism, private, b"before")
        running.forget()
    tpm.stop()
    tpm.start()
    with subject.open() as running:
        session = running.session()
        signature = running.sign(session, mechanism, private, b"after")
        running.verify(session, mechanism, public, b"after", signature)


def test_a_tpm_that_comes_back_is_used_again(tpm: Tpm, subject: Subject) -> None:
    with subject.open() as running:
        session = running.session()
        _, private, mechanism = running.a_pair(session, TOKEN, label(b"back"))
        tpm.stop()
        error = running.refused(running.core.begin(session, Function.SIGN, mechanism, private))
        if error is None:
            operation = running.operation(session, Function.SIGN, mechanism, private)
            error = running.refused(operation.once(memoryview(b"data")))
        assert isinstance(error, HsmError)
        tpm.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                session = running.session()
                assert running.sign(session, mechanism, private, b"data")
                return
            except HsmError:
                assert time.monotonic() < deadline
                time.sleep(0.2)


def test_another_tpm_has_no_use_of_the_files(
    subject: Subject, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, need: Callable[..., str]
) -> None:
    with subject.open() as running:
        session = running.session()
        running.a_pair(session, TOKEN, label(b"stolen"))
        running.forget()
    thief = Tpm(tmp_path_factory.mktemp("thief"), need("swtpm", package="swtpm"))
    thief.start()
    try:
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
        with Subject("tpm2", thief.options, data_dir=tmp_path / "copy", initialize=False).open() as running:
            with pytest.raises(HsmError) as raised:
                running.session()
            assert not isinstance(raised.value, PinIncorrect)
    finally:
        thief.stop()


def test_pins_change_and_lock(tpm: Tpm, subject: Subject) -> None:
    with subject.open() as running:
        session = running.session()
        _, private, mechanism = running.a_pair(session, TOKEN, label(b"pins"))
        old, new = bytearray(b"123456"), bytearray(b"another pin")
        assert isinstance(
            running.refused(running.core.set_pin(session, bytearray(b"wrong!"), new)), PinIncorrect
        )
        running.run(running.core.set_pin(session, old, new))
        running.run(running.core.logout(running.slot_id))
        assert isinstance(
            running.refused(running.core.login(session, ck.CKU_USER, bytearray(b"123456"))), PinIncorrect
        )
        running.run(running.core.login(session, ck.CKU_USER, bytearray(b"another pin")))
        assert running.sign(session, mechanism, private, b"data")
        running.run(running.core.logout(running.slot_id))
        errors = [
            running.refused(running.core.login(session, ck.CKU_USER, bytearray(b"wrong!"))) for _ in range(11)
        ]
        assert isinstance(errors[0], PinIncorrect) and isinstance(errors[-1], PinLocked)
        assert isinstance(
            running.refused(running.core.login(session, ck.CKU_USER, bytearray(new))), PinLocked
        )
        # The security officer gives another PIN, and the keys are there as before.
        running.run(running.core.login(session, ck.CKU_SO, bytearray(b"12345678")))
        running.run(running.core.init_pin(session, bytearray(b"123456")))
        running.run(running.core.logout(running.slot_id))
        running.login(session)
        assert running.sign(session, mechanism, private, b"data")


def test_wrong_pins_count_in_the_tpm(tpm: Tpm, subject: Subject) -> None:
    """Whoever removes the store's own count still runs into the TPM's lockout."""
    import tpm2_pytss as tss

    with tss.ESAPI(tpm.tcti) as esapi:
        esapi.dictionary_attack_parameters(3, 1000, 0)
        esapi.dictionary_attack_lock_reset(tss.ESYS_TR.LOCKOUT)
    try:
        with subject.open() as running:
            store = running.adapter._slots.slots()[0].store  # type: ignore[attr-defined]
            for _ in range(3):
                error = running.refused(
                    store._workers.run(store._device.unseal, store._blob(ck.CKU_USER), bytes(32))
                )
                assert isinstance(error, PinIncorrect)
            assert isinstance(running.refused(store.login(ck.CKU_USER, bytearray(b"123456"))), PinLocked)
    finally:
        with tss.ESAPI(tpm.tcti) as esapi:
            esapi.dictionary_attack_lock_reset(tss.ESYS_TR.LOCKOUT)
            esapi.dictionary_attack_parameters(100, 1000, 1000)


def test_a_token_that_is_made_anew(subject: Subject) -> None:
    with subject.open() as running:
        session = running.session()
        running.a_pair(session, TOKEN, label(b"anew"))
        running.run(running.core.logout(running.slot_id))
        running.run(running.core.close_session(session))
        wrong = running.core.init_token(running.slot_id, bytearray(b"not the SO"), "anew")
        assert isinstance(running.refused(wrong), PinIncorrect)
        running.run(running.core.init_token(running.slot_id, bytearray(b"12345678"), "anew"))
        status = running.run(running.store.status())
        assert status.label == "anew" and not status.user_pin_set
        running.prepare()
        assert running.find(running.session(), (ck.CKA_SIGN, TRUE)) == []


def test_no_private_key_is_in_the_files(subject: Subject, tmp_path: Path) -> None:
    """An object holds a blob and public parts; nothing there is the key."""
    with subject.open() as running:
        session = running.session()
        _, private = running.generate(session, ck.CKM_EC_KEY_PAIR_GEN, 256, TOKEN, label(b"files"))
        attributes = running.run(running.store.read(private))
        assert ck.CKA_VALUE not in attributes
        reference = bytes(attributes[CKA_REFERENCE])  # type: ignore[arg-type]
        files = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
        assert reference not in files and reference[:32] not in files


def test_no_tpm_is_a_slot_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="does not open"):
        Subject("tpm2", {"tcti": "swtpm:host=127.0.0.1,port=9"}, data_dir=tmp_path).start()


def test_in_a_process_of_its_own(tpm: Tpm, tmp_path: Path) -> None:
    apart = Subject("tpm2", tpm.options, data_dir=tmp_path / "data", isolation="process")
    with apart.open() as running:
        session = running.session()
        public, private, mechanism = running.a_pair(session, TOKEN, label(b"apart"))
        running.verify(session, mechanism, public, b"x", running.sign(session, mechanism, private, b"x"))


def test_a_wrong_pins_delay_holds_up_nobody_else(
    tpm: Tpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After wrong PINs the next try waits, and another caller signs meanwhile."""
    with Subject("tpm2", tpm.options, data_dir=tmp_path / "data").open() as running:
        session = running.session()
        _, private, mechanism = running.a_pair(session, label(b"delay"))
        monkeypatch.setattr(PinPolicy, "delay_after", lambda policy, failures: 1.0 if failures else 0.0)
        calls = [running.submit(running.core.check_pin(session, bytearray(b"wrong!"))) for _ in range(2)]
        start = time.monotonic()
        assert running.sign(session, mechanism, private, b"data")
        assert time.monotonic() - start < 0.9
        assert [type(refusal_of(call)) for call in calls] == [PinIncorrect, PinIncorrect]
        assert time.monotonic() - start >= 0.9


def refusal_of(call: Any) -> BaseException | None:
    try:
        call.result()
    except HsmError as error:
        return error
    return None
