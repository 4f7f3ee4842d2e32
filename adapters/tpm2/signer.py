"""What a TPM computes: RSA and elliptic curve signatures, OAEP decryption, ECDH, random bytes.

RSA signatures are padded here and raised to the private exponent there, so that any hash and any salt
length will do. PKCS#1 v1.5 is not decrypted: the TPM tells bad padding from good, which is what such
attacks live on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Operation
from ferrohsm.attribute_kinds import number
from ferrohsm.errors import (
    CurveNotSupported,
    DataLenRange,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    KeySizeRange,
    MechanismInvalid,
    MechanismParamInvalid,
    TemplateInconsistent,
)
from ferrohsm.mechanisms import HASHES, ROWS, hash_of_digest, hash_of_mgf
from ferrohsm.parameters import Ecdh1, Mechanism, RsaOaep, RsaPss
from ferrohsm_adapters.kit import padding
from ferrohsm_adapters.kit.operations import Hashed, Whole
from ferrohsm_adapters.kit.signer import (
    Capabilities,
    DeviceEngine,
    private_attributes,
    public_attributes,
)

if TYPE_CHECKING:
    from ferrohsm_adapters.kit.workers import Workers
    from ferrohsm_adapters.tpm2.device import Device

AUTH_SIZE = 32

_KINDS = {"secp256r1": "ecc256", "secp384r1": "ecc384", "secp521r1": "ecc521"}
# The hash that a signature of a curve's key is given under, and its length: a digest is fitted to it.
_CURVE_HASHES = {"secp256r1": ("sha256", 32), "secp384r1": ("sha384", 48), "secp521r1": ("sha512", 64)}
_OAEP_HASHES = ("sha1", "sha256", "sha384", "sha512")


class TpmSigner(DeviceEngine):
    """The engine of a TPM's slots; a key's reference is its authorization value and its blob."""

    def __init__(
        self, device: Device, workers: Workers, sizes: tuple[int, ...], curves: tuple[str, ...]
    ) -> None:
        super().__init__()
        self._device = device
        self._workers = workers
        self._sizes = sizes
        self._curves = curves
        self._offered = self._capabilities()

    def device_mechanisms(self) -> Capabilities:
        """Return what the TPM said that it can."""
        return self._offered

    def _capabilities(self) -> dict[int, tuple[int, int, int]]:
        offered: dict[int, tuple[int, int, int]] = {}
        if self._sizes:
            sizes = (min(self._sizes), max(self._sizes))
            offered[ck.CKM_RSA_PKCS_KEY_PAIR_GEN] = (*sizes, Function.GENERATE_KEY_PAIR)
            offered[ck.CKM_RSA_PKCS_OAEP] = (*sizes, Function.DECRYPT)
            for type, row in ROWS.items():
                if row.family == "rsa" and row.functions & Function.SIGN and type != ck.CKM_RSA_X_509:
                    offered[type] = (*sizes, Function.SIGN)
        if self._curves:
            bits = [int(curve[4:-2]) for curve in self._curves]
            sizes = (min(bits), max(bits))
            offered[ck.CKM_EC_KEY_PAIR_GEN] = (*sizes, Function.GENERATE_KEY_PAIR)
            offered[ck.CKM_ECDH1_DERIVE] = (*sizes, Function.DERIVE)
            for type, row in ROWS.items():
                if row.family == "ec" and row.functions & Function.SIGN:
                    offered[type] = (*sizes, Function.SIGN)
        return offered

    # Keys

    async def generate_key_pair(
        self, mechanism: Mechanism, public: Attributes, private: Attributes
    ) -> tuple[Attributes, Attributes]:
        """Make a pair in the TPM."""
        kind = self._kind(mechanism, public)
        auth = os.urandom(AUTH_SIZE)
        blob, info = await self._workers.run(self._device.create, kind, auth)
        added = public_attributes(info, public)
        return added, private_attributes(public, added, auth + blob)

    def _kind(self, mechanism: Mechanism, public: Attributes) -> str:
        if mechanism.type == ck.CKM_RSA_PKCS_KEY_PAIR_GEN:
            from ferrohsm_adapters.software import rsa_material

            bits, exponent = rsa_material.wanted(public)
            if bits not in self._sizes:
                raise KeySizeRange(f"this TPM makes RSA keys of {', '.join(map(str, self._sizes))} bits")
            if exponent != b"\1\0\1":
                raise TemplateInconsistent("a TPM's RSA keys have the public exponent 65537")
            return f"rsa{bits}"
        if mechanism.type != ck.CKM_EC_KEY_PAIR_GEN:
            raise MechanismInvalid
        from ferrohsm_adapters.software import ec_material

        curve, _ = ec_material.wanted(ck.CKK_EC, public)
        if curve.engine.lower() not in self._curves:
            raise CurveNotSupported
        return _KINDS[curve.engine.lower()]

    async def random(self, length: int) -> bytes:
        """Return bytes of the TPM's generator."""
        return await self._workers.run(self._device.random, length)

    # Operations

    async def begin_on_device(
        self, function: int, mechanism: Mechanism, key: Key, reference: bytes
    ) -> Operation:
        """Start a signature or a decryption."""
        auth, blob = reference[:AUTH_SIZE], reference[AUTH_SIZE:]
        if number(key.attributes[ck.CKA_KEY_TYPE]) == ck.CKK_EC:
            return self._ecdsa(mechanism, key, auth, blob)
        modulus = cast("bytes", key.attributes[ck.CKA_MODULUS])
        if function == Function.DECRYPT:
            return self._oaep(mechanism.parameter, modulus, auth, blob)
        return self._rsa_signature(mechanism, modulus, auth, blob)

    def _ecdsa(self, mechanism: Mechanism, key: Key, auth: bytes, blob: bytes) -> Operation:
        from ferrohsm_adapters.software import ec_material

        curve = ec_material.key_curve(key)
        hash_name, size = _CURVE_HASHES[curve.engine.lower()]

        async def sign(digest: bytes | bytearray) -> bytes:
            # An integer is what is signed: its first bits if there are too many, else any zeros before it.
            fitted = bytes(digest[: curve.length])[:size].rjust(size, b"\0")
            r, s = await self._workers.run(self._device.sign_ecdsa, blob, auth, fitted, hash_name)
            return r.rjust(curve.length, b"\0") + s.rjust(curve.length, b"\0")

        def length(given: int) -> int:
            # Of more than 64 bytes P-521 would take 521 bits, which no hash that a TPM knows has.
            if not 1 <= given <= (64 if curve.length > 64 else 128):
                raise DataLenRange
            return 2 * curve.length

        row = ROWS[mechanism.type]
        if row.hash is None:
            return Whole(sign, length)
        return Hashed(sign, row.hash, 2 * curve.length)

    def _rsa_signature(self, mechanism: Mechanism, modulus: bytes, auth: bytes, blob: bytes) -> Operation:
        row, bits = ROWS[mechanism.type], int.from_bytes(modulus, "big").bit_length()
        size = (bits + 7) // 8
        pss = mechanism.parameter
        if isinstance(pss, RsaPss):
            hash_name, mgf = hash_of_digest(pss.hash), hash_of_mgf(pss.mgf)
            if hash_name is None or mgf is None or (row.hash is not None and hash_name != row.hash):
                raise MechanismParamInvalid
            padding.check_pss(bits, hash_name, pss.salt_length)
        elif row.parameter == "rsa_pss":
            raise MechanismParamInvalid

        async def sign(data: bytes | bytearray) -> bytes:
            if isinstance(pss, RsaPss):
                block = padding.pss(bytes(data), bits, hash_name or "", mgf or "", pss.salt_length)
            elif row.hash is not None:
                block = padding.pkcs1(padding.digest_info(row.hash, bytes(data)), size)
            else:
                block = padding.pkcs1(bytes(data), size)
            return await self._workers.run(self._device.raw_rsa, blob, auth, block)

        def length(given: int) -> int:
            if isinstance(pss, RsaPss) and given != HASHES[hash_name or ""].length:
                raise DataLenRange
            if given > size - padding.PKCS1_OVERHEAD:
                raise DataLenRange
            return size

        return Whole(sign, length) if row.hash is None else Hashed(sign, row.hash, size)

    def _oaep(self, parameter: RsaOaep, modulus: bytes, auth: bytes, blob: bytes) -> Operation:
        if not isinstance(parameter, RsaOaep):
            raise MechanismParamInvalid
        hash_name = hash_of_digest(parameter.hash)
        if hash_name not in _OAEP_HASHES or hash_of_mgf(parameter.mgf) != hash_name:
            raise MechanismParamInvalid("a TPM's OAEP has one hash, and it is a SHA-1 or SHA-2 one")
        if parameter.source_data:
            raise MechanismParamInvalid("a TPM's OAEP label is not free to choose; give none")
        size = len(modulus)

        async def decrypt(block: bytes | bytearray) -> bytearray:
            if bytes(block) >= modulus:
                raise EncryptedDataInvalid
            return bytearray(
                await self._workers.run(self._device.decrypt_oaep, blob, auth, bytes(block), hash_name)
            )

        def length(given: int) -> int:
            if given != size:
                raise EncryptedDataLenRange
            return size - 2 * HASHES[hash_name].length - 2

        return Whole(decrypt, length)

    async def derive_on_device(
        self, mechanism: Mechanism, base: Key, attributes: Attributes, reference: bytes
    ) -> Attributes:
        """Agree on a secret by ECDH; the shared point's x is the TPM's, the rest is ours."""
        from ferrohsm_adapters.software import ec_material, ecdh

        parameter = mechanism.parameter
        if not isinstance(parameter, Ecdh1):
            raise MechanismParamInvalid
        ecdh.checked_kdf(parameter.kdf, parameter.shared_data)
        curve = ec_material.key_curve(base)
        try:
            peer = ec_material.load_point(curve, parameter.public_data).public_numbers()
        except ValueError:
            raise MechanismParamInvalid("the public data is no good point of the curve") from None
        x, y = (part.to_bytes(curve.length, "big") for part in (peer.x, peer.y))
        auth, blob = reference[:AUTH_SIZE], reference[AUTH_SIZE:]
        secret = await self._workers.run(self._device.agree, blob, auth, x, y)
        try:
            whole = bytearray(curve.length - len(secret)) + secret
        finally:
            secret[:] = bytes(len(secret))
        return ecdh.derived(parameter, whole, attributes)
