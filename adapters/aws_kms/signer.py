"""What KMS computes: signatures, OAEP decryption, MACs, symmetric encryption, random bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Function, Key, Operation
from ferrohsm.attribute_kinds import FALSE, TRUE, is_true, number, ulong
from ferrohsm.errors import (
    ActionProhibited,
    CurveNotSupported,
    DataInvalid,
    DataLenRange,
    EncryptedDataLenRange,
    KeyFunctionNotPermitted,
    KeySizeRange,
    MechanismParamInvalid,
    ParameterSetNotSupported,
    TemplateInconsistent,
)
from ferrohsm.mechanisms import HASHES, ROWS, hash_of_digest, hash_of_mgf, register
from ferrohsm.parameters import EdDsa, Mechanism, RsaOaep, RsaPss, SignContext
from ferrohsm_adapters.aws_kms import specs
from ferrohsm_adapters.aws_kms.keys import PENDING, STATE, uses
from ferrohsm_adapters.kit.operations import Gathered, Hashed, Whole
from ferrohsm_adapters.kit.padding import digest_info
from ferrohsm_adapters.kit.signer import Capabilities, DeviceEngine, private_attributes, public_attributes

if TYPE_CHECKING:
    from ferrohsm_adapters.aws_kms.client import Kms
    from ferrohsm_adapters.kit.workers import Workers

SHORTEST_WINDOW = 7  # days until a key is gone that was made for a session

_SIGNATURE_BYTES = {ck.CKP_ML_DSA_44: 2420, ck.CKP_ML_DSA_65: 3309, ck.CKP_ML_DSA_87: 4627}


class KmsSigner(DeviceEngine):
    """The engine of a KMS slot; a key's reference is its id in KMS."""

    def __init__(
        self, kms: Kms, workers: Workers, *, create: bool, window: int | None, private: bool
    ) -> None:
        super().__init__()
        register(specs.SYMMETRIC)
        self._kms = kms
        self._workers = workers
        self._create = create
        self._window = window
        self._offered = specs.capabilities(create=create)
        # Without a PIN there is no login that could hide a key.
        self._protected: Attributes = {
            ck.CKA_SENSITIVE: TRUE,
            ck.CKA_EXTRACTABLE: FALSE,
            ck.CKA_PRIVATE: TRUE if private else FALSE,
        }

    def device_mechanisms(self) -> Capabilities:
        """Return what KMS does."""
        return self._offered

    async def random(self, length: int) -> bytes:
        """Return bytes of KMS's generator."""
        return await self._workers.run(self._kms.random, length)

    # Keys

    async def generate_key_pair(
        self, mechanism: Mechanism, public: Attributes, private: Attributes
    ) -> tuple[Attributes, Attributes]:
        """Make a pair; it is pending until the store keeps it."""
        spec = _spec(mechanism, public)
        decrypts = is_true(private.get(ck.CKA_DECRYPT)) and not is_true(private.get(ck.CKA_SIGN))
        if decrypts and spec.key_type != ck.CKK_RSA:
            raise TemplateInconsistent("of KMS's pairs only RSA decrypts")
        key_id = await self._made(spec, specs.ENCRYPT if decrypts else specs.SIGN, private)
        try:
            info = await self._workers.run(self._kms.public_key, key_id)
        except BaseException:
            await self._forget(key_id)
            raise
        added = public_attributes(info, public)
        reference = private_attributes(public, added, key_id.encode())
        return {**added, **uses(ck.CKO_PUBLIC_KEY, not decrypts)}, {
            **reference,
            **uses(ck.CKO_PRIVATE_KEY, not decrypts),
            **self._protected,
        }

    async def generate_key(self, mechanism: Mechanism, attributes: Attributes) -> Attributes:
        """Make a secret key."""
        made_by = {type: key_type for key_type, type in specs.GENERATION.items()}
        spec = next(spec for spec in specs.SPECS.values() if spec.key_type == made_by[mechanism.type])
        length = attributes.get(ck.CKA_VALUE_LEN)
        if length is not None and number(length) != spec.size:
            raise KeySizeRange(f"KMS makes such keys of {spec.size} bytes")
        signs = spec.key_type != ck.CKK_AES
        key_id = await self._made(spec, specs.MAC if signs else specs.ENCRYPT, attributes)
        return {
            CKA_REFERENCE: key_id.encode(),
            ck.CKA_VALUE_LEN: ulong(spec.size),
            **uses(ck.CKO_SECRET_KEY, signs),
            **self._protected,
        }

    async def _made(self, spec: specs.Spec, usage: str, attributes: Attributes) -> str:
        if not self._create:
            raise ActionProhibited("the slot says create = false")
        if not is_true(attributes.get(ck.CKA_TOKEN)) and self._window is None:
            raise TemplateInconsistent("a key for one session could not be deleted: say delete_window = DAYS")
        return await self._workers.run(
            self._kms.create, spec.name, usage, {STATE: PENDING}, undo=self._schedule
        )

    async def release(self, reference: bytes) -> None:
        """Have a key deleted that no object kept, after the shortest time that KMS allows."""
        await self._forget(reference.decode())

    async def _forget(self, key_id: str) -> None:
        await self._workers.run(self._schedule, key_id)

    def _schedule(self, key_id: str) -> None:
        """Have a key deleted that is still pending: what an object kept, its store deletes."""
        if self._kms.tags(key_id).get(STATE) == PENDING:
            self._kms.schedule_deletion(key_id, SHORTEST_WINDOW)

    # Operations

    async def begin_on_device(
        self, function: int, mechanism: Mechanism, key: Key, reference: bytes
    ) -> Operation:
        """Start an operation."""
        key_id, key_type = reference.decode(), number(key.attributes[ck.CKA_KEY_TYPE])
        if mechanism.type == specs.CKM_KMS_ENCRYPT:
            return self._symmetric(function, key_id)
        if key_type == ck.CKK_RSA:
            if function == Function.DECRYPT:
                return self._oaep(mechanism.parameter, key, key_id)
            return self._rsa_signature(mechanism, key, key_id)
        if key_type == ck.CKK_EC:
            return self._ecdsa(mechanism, key, key_id)
        if key_type == ck.CKK_EC_EDWARDS:
            if isinstance(mechanism.parameter, EdDsa) and mechanism.parameter != EdDsa(False, b""):
                raise MechanismParamInvalid("KMS signs with Ed25519 itself, without a context")
            return self._message(key_id, "ED25519_SHA_512", 64)
        if key_type == ck.CKK_ML_DSA:
            context = mechanism.parameter
            if isinstance(context, SignContext) and context.context:
                raise MechanismParamInvalid("KMS signs with an empty context")
            length = _SIGNATURE_BYTES[number(key.attributes[ck.CKA_PARAMETER_SET])]
            return self._message(key_id, "ML_DSA_SHAKE_256", length)
        return self._mac(mechanism, key_type, key_id)

    def _message(self, key_id: str, algorithm: str, length: int) -> Operation:
        """Return a signature over a message that KMS sees whole."""

        async def sign(data: bytes | bytearray) -> bytes:
            return await self._workers.run(self._kms.sign, key_id, algorithm, bytes(data), "RAW")

        return Gathered(sign, length, specs.MESSAGE_LIMIT)

    def _mac(self, mechanism: Mechanism, key_type: int, key_id: str) -> Operation:
        spec = next(spec for spec in specs.SPECS.values() if spec.key_type == key_type)
        if ROWS[mechanism.type].hash != spec.hash:
            raise KeyFunctionNotPermitted("the key is for another hash")
        algorithm = "HMAC_" + spec.hash.upper().replace("SHA", "SHA_")

        async def mac(data: bytes | bytearray) -> bytes:
            return await self._workers.run(self._kms.mac, key_id, algorithm, bytes(data))

        return Gathered(mac, HASHES[spec.hash].length, specs.MESSAGE_LIMIT)

    def _ecdsa(self, mechanism: Mechanism, key: Key, key_id: str) -> Operation:
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        curve = bytes(cast("bytes", key.attributes[ck.CKA_EC_PARAMS]))
        spec = next(spec for spec in specs.SPECS.values() if spec.curve == curve)
        order, size = (spec.size + 7) // 8, HASHES[spec.hash].length
        algorithm = "ECDSA_" + spec.hash.upper().replace("SHA", "SHA_")

        async def sign(digest: bytes | bytearray) -> bytes:
            # An integer is what is signed: its first bits if there are too many, else any zeros before it.
            fitted = bytes(digest[:order])[:size].rjust(size, b"\0")
            made = await self._workers.run(self._kms.sign, key_id, algorithm, fitted, "DIGEST")
            r, s = decode_dss_signature(made)
            return r.to_bytes(order, "big") + s.to_bytes(order, "big")

        def length(given: int) -> int:
            if not 1 <= given <= (64 if order > 64 else 128):
                raise DataLenRange
            return 2 * order

        row = ROWS[mechanism.type]
        return Whole(sign, length) if row.hash is None else Hashed(sign, row.hash, 2 * order)

    def _rsa_signature(self, mechanism: Mechanism, key: Key, key_id: str) -> Operation:
        row, pss = ROWS[mechanism.type], mechanism.parameter
        size = len(cast("bytes", key.attributes[ck.CKA_MODULUS]))
        scheme, known = "RSASSA_PKCS1_V1_5_", row.hash
        if isinstance(pss, RsaPss):
            known, scheme = hash_of_digest(pss.hash), "RSASSA_PSS_"
            fits = known in specs.RSA_HASHES and hash_of_mgf(pss.mgf) == known
            if not fits or pss.salt_length != HASHES[known or ""].length or row.hash not in (None, known):
                raise MechanismParamInvalid("KMS has one SHA-2 hash in PSS, and a salt of its length")

        async def sign(data: bytes | bytearray) -> bytes:
            name, digest = (known, bytes(data)) if known is not None else _inside(bytes(data))
            algorithm = scheme + specs.RSA_HASHES[name]
            return await self._workers.run(self._kms.sign, key_id, algorithm, digest, "DIGEST")

        def length(given: int) -> int:
            if known is not None and given != HASHES[known].length:
                raise DataLenRange
            if given > size - 11:
                raise DataLenRange
            return size

        return Whole(sign, length) if row.hash is None else Hashed(sign, row.hash, size)

    def _oaep(self, parameter: RsaOaep, key: Key, key_id: str) -> Operation:
        name = hash_of_digest(parameter.hash)
        if name not in specs.OAEP_HASHES or hash_of_mgf(parameter.mgf) != name or parameter.source_data:
            raise MechanismParamInvalid("KMS has OAEP with SHA-1 or SHA-256 throughout, without a label")
        size = len(cast("bytes", key.attributes[ck.CKA_MODULUS]))
        algorithm = specs.OAEP_HASHES[name]

        async def decrypt(data: bytes | bytearray) -> bytearray:
            return await self._workers.run(self._kms.decrypt, key_id, bytes(data), algorithm)

        def length(given: int) -> int:
            if given != size:
                raise EncryptedDataLenRange
            return size - 2 * HASHES[name].length - 2

        return Whole(decrypt, length)

    def _symmetric(self, function: int, key_id: str) -> Operation:
        async def encrypt(data: bytes | bytearray) -> bytes:
            return await self._workers.run(self._kms.encrypt, key_id, bytes(data))

        async def decrypt(data: bytes | bytearray) -> bytearray:
            return await self._workers.run(self._kms.decrypt, key_id, bytes(data), "SYMMETRIC_DEFAULT")

        def encrypted_length(given: int) -> int:
            if not 1 <= given <= specs.MESSAGE_LIMIT:
                raise DataLenRange
            return given + specs.BLOB_OVERHEAD

        def text_length(given: int) -> int:
            if not 1 <= given <= specs.MESSAGE_LIMIT + specs.BLOB_OVERHEAD:
                raise EncryptedDataLenRange
            return given

        if function == Function.ENCRYPT:
            return Whole(encrypt, encrypted_length)
        return Whole(decrypt, text_length)


def _spec(mechanism: Mechanism, public: Attributes) -> specs.Spec:
    """Return the kind of key that a template asks for."""
    if mechanism.type == ck.CKM_RSA_PKCS_KEY_PAIR_GEN:
        from ferrohsm_adapters.software import rsa_material

        bits, exponent = rsa_material.wanted(public)
        if exponent != b"\1\0\1":
            raise TemplateInconsistent("KMS's RSA keys have the public exponent 65537")
        spec = specs.SPECS.get(f"RSA_{bits}")
        if spec is None:
            raise KeySizeRange("KMS makes RSA keys of 2048, 3072 and 4096 bits")
        return spec
    if mechanism.type == ck.CKM_ML_DSA_KEY_PAIR_GEN:
        wanted = number(public[ck.CKA_PARAMETER_SET])
        for spec in specs.SPECS.values():
            if (spec.key_type, spec.size) == (ck.CKK_ML_DSA, wanted):
                return spec
        raise ParameterSetNotSupported
    from ferrohsm_adapters.software import ec_material

    produces = ROWS[mechanism.type].produces or ck.CKK_EC
    curve, _ = ec_material.wanted(produces, public)
    for spec in specs.SPECS.values():
        if spec.curve and spec.curve == ec_material.object_identifier(curve):
            return spec
    raise CurveNotSupported


def _inside(data: bytes) -> tuple[str, bytes]:
    """Return hash and digest of a DigestInfo: KMS signs nothing else with PKCS#1 v1.5."""
    for name in specs.RSA_HASHES:
        digest = data[-HASHES[name].length :]
        if data == digest_info(name, digest):
            return name, digest
    raise DataInvalid("KMS signs a DigestInfo of SHA-256, SHA-384 or SHA-512 only")
