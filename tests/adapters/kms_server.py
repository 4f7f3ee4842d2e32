"""moto's server on a port of loopback, made to compute what KMS computes where moto does not.

moto hashes a message that is a digest already, salts PSS with the longest salt, and treats every ciphertext
as its own; it has neither Ed25519 nor ML-DSA. AWS documents what is done here instead.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms import models, responses, utils
from moto.kms.exceptions import InvalidCiphertextException, ValidationException

HASHES = {
    "SHA_1": hashes.SHA1(),
    "SHA_256": hashes.SHA256(),
    "SHA_384": hashes.SHA384(),
    "SHA_512": hashes.SHA512(),
}
CURVE_HASHES = {"ECC_NIST_P256": "SHA_256", "ECC_NIST_P384": "SHA_384", "ECC_NIST_P521": "SHA_512"}
MESSAGE_LIMIT = 4096
MORE_SPECS = {
    "ECC_NIST_EDWARDS25519": (ed25519.Ed25519PrivateKey.generate, "ED25519_SHA_512"),
    "ML_DSA_44": (mldsa.MLDSA44PrivateKey.generate, "ML_DSA_SHAKE_256"),
    "ML_DSA_65": (mldsa.MLDSA65PrivateKey.generate, "ML_DSA_SHAKE_256"),
    "ML_DSA_87": (mldsa.MLDSA87PrivateKey.generate, "ML_DSA_SHAKE_256"),
}


class MoreKey:
    """A pair of a kind that moto has not."""

    def __init__(self, spec: str) -> None:
        self.private_key = MORE_SPECS[spec][0]()

    def public_key(self) -> bytes:
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private_key.public_key().public_bytes(serialization.Encoding.DER, kind)


def generate_private_key(spec: str) -> Any:
    return MoreKey(spec) if spec in MORE_SPECS else utils.generate_private_key(spec)


def algorithms(key: Any) -> list[str]:
    if key.key_usage != "SIGN_VERIFY":
        return []
    if key.key_spec in MORE_SPECS:
        return [MORE_SPECS[key.key_spec][1]]
    if key.key_spec in CURVE_HASHES:
        return [f"ECDSA_{CURVE_HASHES[key.key_spec]}"]
    schemes = ("RSASSA_PKCS1_V1_5", "RSASSA_PSS")
    return [f"{scheme}_{name}" for scheme in schemes for name in ("SHA_256", "SHA_384", "SHA_512")]


def signed(key: Any, message: bytes, message_type: str, algorithm: str) -> bytes:
    private = key.private_key.private_key
    if key.key_spec in MORE_SPECS:
        if message_type != "RAW":
            raise ValidationException("MessageType")
        return bytes(private.sign(message))
    name = algorithm[-7:]
    algorithm_hash: Any = HASHES[name]
    if message_type == "DIGEST":
        if len(message) != algorithm_hash.digest_size:
            raise ValidationException("Digest is invalid length for algorithm")
        algorithm_hash = Prehashed(algorithm_hash)
    if algorithm.startswith("ECDSA"):
        return bytes(private.sign(message, ec.ECDSA(algorithm_hash)))
    scheme: Any = padding.PKCS1v15()
    if algorithm.startswith("RSASSA_PSS"):
        scheme = padding.PSS(padding.MGF1(HASHES[name]), padding.PSS.DIGEST_LENGTH)
    return bytes(private.sign(message, scheme, algorithm_hash))


def sign(self: Any) -> str:
    key_id = self._get_param("KeyId")
    self._validate_key_id(key_id)
    key = self.kms_backend.describe_key(key_id)
    algorithm, message = self._get_param("SigningAlgorithm"), self._get_param("Message")
    if algorithm not in algorithms(key) or not 1 <= len(message) <= MESSAGE_LIMIT:
        raise ValidationException("SigningAlgorithm or Message")
    signature = signed(key, message, self._get_param("MessageType") or "RAW", algorithm)
    answer = {
        "KeyId": key.arn,
        "Signature": base64.b64encode(signature).decode(),
        "SigningAlgorithm": algorithm,
    }
    return json.dumps(answer)


moto_decrypt = responses.KmsResponse.decrypt


def decrypt(self: Any) -> str:
    algorithm = self._get_param("EncryptionAlgorithm") or "SYMMETRIC_DEFAULT"
    if algorithm == "SYMMETRIC_DEFAULT":
        return str(moto_decrypt(self))
    key = self.kms_backend.describe_key(self._get_param("KeyId"))
    name = HASHES[algorithm.removeprefix("RSAES_OAEP_")]
    try:
        text = key.private_key.private_key.decrypt(
            self._get_param("CiphertextBlob"), padding.OAEP(padding.MGF1(name), name, None)
        )
    except ValueError:
        raise InvalidCiphertextException() from None
    return json.dumps({"Plaintext": base64.b64encode(text).decode(), "KeyId": key.arn})


moto_list_keys = models.KmsBackend.list_keys


def list_keys(self: Any) -> list[Any]:
    """Leave out what is to be deleted, as when its waiting period is over: no test waits for a week."""
    return [key for key in moto_list_keys(self) if key.key_state != "PendingDeletion"]


def main() -> None:
    specs = utils.KeySpec.key_specs
    utils.KeySpec.key_specs = classmethod(lambda cls: [*specs(), *MORE_SPECS])  # type: ignore[method-assign,assignment]
    models.generate_private_key = generate_private_key
    models.Key.signing_algorithms = property(algorithms)  # type: ignore[assignment,method-assign]
    responses.KmsResponse.sign = sign  # type: ignore[method-assign]
    models.KmsBackend.list_keys = list_keys  # type: ignore[method-assign]
    responses.KmsResponse.decrypt = decrypt  # type: ignore[method-assign]
    from moto.server import main as serve

    serve(["--host", "127.0.0.1", "--port", sys.argv[1]])


if __name__ == "__main__":
    main()
