"""The AWS KMS adapter beside what the conformance suite tries: keys of others, rights, refusals, secrets."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from ferrohsm_adapters.aws_kms.pin import record
from ferrohsm_adapters.aws_kms.specs import CKM_KMS_ENCRYPT

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.attribute_kinds import FALSE, TRUE, ulong
from ferrohsm.errors import (
    ActionProhibited,
    AttributeReadOnly,
    DataInvalid,
    DataLenRange,
    DeviceError,
    FunctionNotSupported,
    HsmError,
    KeyFunctionNotPermitted,
    KeyTypeInconsistent,
    MechanismInvalid,
    MechanismParamInvalid,
    PinIncorrect,
    PinLocked,
    TemplateInconsistent,
)
from ferrohsm.parameters import Mechanism, RsaOaep, RsaPss
from ferrohsm.testing.subject import TOKEN, Running, Subject

REGION = "eu-central-1"
PSS = RsaPss(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, 32)


@pytest.fixture
def admin(kms: Any) -> Iterator[Any]:
    """KMS as its administrator has it; its aliases end with the test."""
    import boto3

    client = boto3.client("kms", endpoint_url=kms.endpoint, region_name=REGION)
    yield client
    for alias in client.list_aliases()["Aliases"]:
        if not alias["AliasName"].startswith("alias/aws/"):
            client.delete_alias(AliasName=alias["AliasName"])


def made(admin: Any, alias: str, spec: str, usage: str = "SIGN_VERIFY") -> str:
    key = admin.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
    admin.create_alias(AliasName=f"alias/{alias}", TargetKeyId=key)
    return str(key)


def running(kms: Any, **options: Any) -> Any:
    plain = {name: value for name, value in kms.options.items() if name != "delete_window"}
    return Subject("aws_kms", {**plain, "prefix": "t/", **options}, initialize=False).open()


def named(running: Running, session: Any, label: bytes, object_class: int) -> int:
    (oid,) = running.find(session, (ck.CKA_LABEL, label), (ck.CKA_CLASS, ulong(object_class)))
    return oid


def test_keys_of_others_are_seen_by_their_alias(kms: Any, admin: Any) -> None:
    made(admin, "t/web", "RSA_2048")
    made(admin, "elsewhere", "RSA_2048")
    made(admin, "t/shared", "HMAC_256", "GENERATE_VERIFY_MAC")
    with running(kms) as slot:
        session = slot.session()
        labels = {bytes(slot.get(session, oid, ck.CKA_LABEL)[0]) for oid in slot.find(session, TOKEN)}
        assert labels == {b"web", b"shared"}
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        signature = slot.sign(session, Mechanism(ck.CKM_SHA256_RSA_PKCS_PSS, PSS), private, b"data" * 5000)
        info, modulus = slot.get(session, private, ck.CKA_PUBLIC_KEY_INFO, ck.CKA_MODULUS)
        key = load_der_public_key(bytes(info))
        assert isinstance(key, rsa.RSAPublicKey)
        assert bytes(modulus) == key.public_numbers().n.to_bytes(256, "big")
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        key.verify(signature, b"data" * 5000, scheme, hashes.SHA256())
        secret = named(slot, session, b"shared", ck.CKO_SECRET_KEY)
        mac = slot.sign(session, Mechanism(ck.CKM_SHA256_HMAC), secret, b"data")
        assert len(mac) == 32
        slot.verify(session, Mechanism(ck.CKM_SHA256_HMAC), secret, b"data", mac)
        with pytest.raises(KeyTypeInconsistent):
            slot.sign(session, Mechanism(ck.CKM_SHA512_HMAC), secret, b"data")


def test_a_key_that_may_not_be_seen_hides_no_other() -> None:
    from ferrohsm_adapters.aws_kms.keys import Keys

    class Account:
        endpoint, region = "https://kms", REGION

        def aliases(self) -> list[tuple[str, str]]:
            return []

        def keys(self) -> list[str]:
            return ["foreign", "ours"]

        def describe(self, key_id: str) -> dict[str, str]:
            if key_id == "foreign":
                raise ActionProhibited("AWS does not allow it")
            return {
                "KeySpec": "HMAC_256",
                "KeyState": "Enabled",
                "KeyManager": "CUSTOMER",
                "KeyUsage": "GENERATE_VERIFY_MAC",
            }

        def tags(self, key_id: str) -> dict[str, str]:
            return {}

    account: Any = Account()
    assert [key.id for key, _ in Keys(account, "", 30.0, False).objects().values()] == ["ours"]


def test_a_key_that_decrypts(kms: Any, admin: Any) -> None:
    made(admin, "t/mail", "RSA_2048", "ENCRYPT_DECRYPT")
    oaep = Mechanism(
        ck.CKM_RSA_PKCS_OAEP, RsaOaep(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, ck.CKZ_DATA_SPECIFIED, b"")
    )
    with running(kms) as slot:
        session = slot.session()
        private = named(slot, session, b"mail", ck.CKO_PRIVATE_KEY)
        assert slot.get(session, private, ck.CKA_SIGN, ck.CKA_DECRYPT) == [FALSE, TRUE]
        key = load_der_public_key(bytes(slot.get(session, private, ck.CKA_PUBLIC_KEY_INFO)[0]))
        assert isinstance(key, rsa.RSAPublicKey)
        scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        operation = slot.operation(session, Function.DECRYPT, oaep, private)
        assert bytes(slot.run(operation.once(memoryview(key.encrypt(b"a letter", scheme))))) == b"a letter"
        with pytest.raises(KeyFunctionNotPermitted):
            slot.sign(session, Mechanism(ck.CKM_SHA256_RSA_PKCS), private, b"data")
        labelled = Mechanism(
            ck.CKM_RSA_PKCS_OAEP, RsaOaep(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, ck.CKZ_DATA_SPECIFIED, b"label")
        )
        with pytest.raises(MechanismParamInvalid):
            slot.operation(session, Function.DECRYPT, labelled, private)


def test_a_symmetric_key(kms: Any, admin: Any) -> None:
    key_id = made(admin, "t/vault", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
    how = Mechanism(CKM_KMS_ENCRYPT)
    with running(kms) as slot:
        session = slot.session()
        key = named(slot, session, b"vault", ck.CKO_SECRET_KEY)
        operation = slot.operation(session, Function.ENCRYPT, how, key)
        blob = bytes(slot.run(operation.once(memoryview(b"a text"))))
        # It is KMS's own form: KMS opens it for others too.
        assert admin.decrypt(CiphertextBlob=blob, KeyId=key_id)["Plaintext"] == b"a text"
        operation = slot.operation(session, Function.DECRYPT, how, key)
        assert bytes(slot.run(operation.once(memoryview(blob)))) == b"a text"
        operation = slot.operation(session, Function.DECRYPT, how, key)
        assert isinstance(slot.refused(operation.once(memoryview(blob[:-1] + b"x"))), HsmError)
        operation = slot.operation(session, Function.ENCRYPT, how, key)
        with pytest.raises(DataLenRange):
            operation.once_length(4097)


def test_what_kms_does_not_sign(kms: Any, admin: Any) -> None:
    made(admin, "t/web", "RSA_2048")
    made(admin, "t/ed", "ECC_NIST_EDWARDS25519")
    with running(kms) as slot:
        session = slot.session()
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        with pytest.raises(DataInvalid):
            slot.sign(session, Mechanism(ck.CKM_RSA_PKCS), private, b"no DigestInfo")
        long_salt = Mechanism(ck.CKM_SHA256_RSA_PKCS_PSS, RsaPss(ck.CKM_SHA256, ck.CKG_MGF1_SHA256, 64))
        for mechanism, error in (
            (long_salt, MechanismParamInvalid),
            (Mechanism(ck.CKM_SHA1_RSA_PKCS), MechanismInvalid),
        ):
            with pytest.raises(error):
                slot.sign(session, mechanism, private, b"data")
        edwards = named(slot, session, b"ed", ck.CKO_PRIVATE_KEY)
        assert len(slot.sign(session, Mechanism(ck.CKM_EDDSA), edwards, bytes(4096))) == 64
        with pytest.raises(DataLenRange):
            slot.sign(session, Mechanism(ck.CKM_EDDSA), edwards, bytes(4097))


def test_keys_are_deleted_only_where_the_slot_says_so(kms: Any, admin: Any) -> None:
    key_id = made(admin, "t/web", "ECC_NIST_P256")
    with running(kms) as slot:
        session = slot.session()
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        with pytest.raises(ActionProhibited):
            slot.destroy(session, private)
        with pytest.raises(TemplateInconsistent):  # a session's key could never be deleted either
            slot.generate(session, ck.CKM_EC_KEY_PAIR_GEN)
        assert slot.find(session, (ck.CKA_LABEL, b"web"), (ck.CKA_SIGN, TRUE)) == [private]
    with running(kms, delete_window=9) as slot:
        session = slot.session()
        slot.destroy(session, named(slot, session, b"web", ck.CKO_PRIVATE_KEY))
        assert slot.find(session, (ck.CKA_LABEL, b"web")) == []
    state = admin.describe_key(KeyId=key_id)["KeyMetadata"]
    assert state["KeyState"] == "PendingDeletion"
    assert 8 < (state["DeletionDate"].timestamp() - time.time()) / 86400 < 10


def test_a_sessions_key_goes_with_it(kms: Any, admin: Any) -> None:
    with running(kms, delete_window=30) as slot:
        session = slot.session()
        _, private = slot.generate(session, ck.CKM_EC_KEY_PAIR_GEN, 256)
        assert len(slot.sign(session, Mechanism(ck.CKM_ECDSA_SHA256), private, b"data")) == 64
        before = {key["KeyId"] for key in admin.list_keys()["Keys"]}
        slot.run(slot.core.close_session(session))
        after = {key["KeyId"] for key in admin.list_keys()["Keys"]}
        (gone,) = before - after
        assert admin.describe_key(KeyId=gone)["KeyMetadata"]["KeyState"] == "PendingDeletion"


def test_what_only_looks(kms: Any, admin: Any) -> None:
    made(admin, "t/web", "ECC_NIST_P256")
    with running(kms, create=False) as slot:
        session = slot.session()
        assert ck.CKM_EC_KEY_PAIR_GEN not in slot.mechanisms()
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        for pairs, error in (
            ([(ck.CKA_SIGN, FALSE)], AttributeReadOnly),
            ([(ck.CKA_LABEL, b"a name / with \xc3\xa9 and spaces")], None),
        ):
            raised = slot.refused(slot.core.set_attributes(session, private, pairs))
            assert type(raised) is error or (error is None and raised is None)
        assert slot.find(session, (ck.CKA_LABEL, b"a name / with \xc3\xa9 and spaces"), (ck.CKA_SIGN, TRUE))
        with pytest.raises(TemplateInconsistent):
            data = [(ck.CKA_CLASS, ulong(ck.CKO_DATA)), TOKEN, (ck.CKA_VALUE, b"x")]
            slot.run(slot.core.create_object(session, data))
        with pytest.raises(FunctionNotSupported):
            slot.run(slot.core.init_token(slot.slot_id, bytearray(b"12345678"), "anew"))


def test_a_disabled_key_is_refused_and_then_not_listed(kms: Any, admin: Any) -> None:
    key_id = made(admin, "t/web", "ECC_NIST_P256")
    with running(kms, refresh=0) as slot:
        session = slot.session()
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        admin.disable_key(KeyId=key_id)
        assert slot.find(session, (ck.CKA_LABEL, b"web")) == []
        assert isinstance(
            slot.refused(slot.core.begin(session, Function.SIGN, Mechanism(ck.CKM_ECDSA), private)), HsmError
        )


def test_a_pin_on_this_side(kms: Any, admin: Any, tmp_path: Path) -> None:
    made(admin, "t/web", "ECC_NIST_P256")
    file = tmp_path / "pin"
    file.write_text(record(b"4711") + "\n")
    subject = Subject(
        "aws_kms", {**kms.options, "prefix": "t/", "pin_file": str(file)}, user_pin="4711", initialize=False
    )
    with subject.open() as slot:
        assert slot.needs_login
        session = slot.session(login=False)
        assert slot.find(session, (ck.CKA_LABEL, b"web"), (ck.CKA_SIGN, TRUE)) == []
        assert isinstance(
            slot.refused(slot.core.login(session, ck.CKU_USER, bytearray(b"0000"))), PinIncorrect
        )
        slot.login(session)
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        assert slot.sign(session, Mechanism(ck.CKM_ECDSA_SHA256), private, b"data")
        slot.run(slot.core.logout(slot.slot_id))
        for _ in range(9):
            slot.refused(slot.core.login(session, ck.CKU_USER, bytearray(b"0000")))
        for pin in (b"0000", b"4711"):
            error = slot.refused(slot.core.login(session, ck.CKU_USER, bytearray(pin)))
            assert isinstance(error, PinLocked)
    file.write_text("4711\n")
    with pytest.raises(AssertionError, match="does not open"):
        subject.start()


def test_rights_that_aws_does_not_give(kms: Any, admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS refuses has the return value that says so, and none of AWS's words."""
    from botocore.exceptions import ClientError
    from ferrohsm_adapters.aws_kms.client import refusal

    secret = "arn:aws:iam::123456789012:user/somebody"
    for name, kind in (
        ("AccessDeniedException", ActionProhibited),
        ("DisabledException", KeyFunctionNotPermitted),
        ("ThrottlingException", DeviceError),
        ("SomethingNew", HsmError),
    ):
        error = refusal(ClientError({"Error": {"Code": name, "Message": secret}}, "Sign"))
        assert isinstance(error, kind) and secret not in str(error)


def test_no_server_is_a_slot_without_a_token(kms: Any) -> None:
    subject = Subject("aws_kms", {**kms.options, "endpoint": "http://127.0.0.1:9", "timeout": 1})
    with pytest.raises(AssertionError):
        subject.start()


def test_no_credentials_are_told(kms: Any, admin: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not by our objects and errors, and not by boto3's logging at the level that programs turn on."""
    made(admin, "t/web", "ECC_NIST_P256")
    with caplog.at_level(logging.INFO), running(kms) as slot:
        session = slot.session()
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        slot.sign(session, Mechanism(ck.CKM_ECDSA_SHA256), private, b"data")
        said = (
            caplog.text + repr(slot.adapter) + repr(vars(slot.adapter)) + repr(slot.signer) + repr(slot.store)
        )
    for secret in kms.environment.values():
        if secret != "true":
            assert secret not in said


@pytest.mark.parametrize(
    "options",
    [{"regoin": "x"}, {"delete_window": 3}, {"create": "yes"}, {"refresh": "often"}, {"endpoint": 1}],
)
def test_wrong_options_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(HsmError):
        Subject("aws_kms", options).make()


def test_in_a_process_of_its_own(kms: Any, admin: Any) -> None:
    made(admin, "t/web", "ECC_NIST_P256")
    options = {**kms.options, "prefix": "t/"}
    with Subject("aws_kms", options, initialize=False, isolation="process").open() as slot:
        session = slot.session()
        assert not slot.needs_login
        private = named(slot, session, b"web", ck.CKO_PRIVATE_KEY)
        assert len(slot.sign(session, Mechanism(ck.CKM_ECDSA_SHA256), private, b"data")) == 64
