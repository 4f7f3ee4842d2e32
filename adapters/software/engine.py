"""The software adapter's signer: it finds the family of a mechanism and lets it work.

A family is a module; it is imported at its first use, so that a process which signs with RSA loads
RSA. Native kernels, where there are some, are asked first: what they do not serve with this parameter
or key is computed here.
"""

from __future__ import annotations

import os

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function, Key, Messages, Operation
from ferrohsm.errors import MechanismInvalid, MechanismParamInvalid, RandomSeedNotSupported
from ferrohsm.mechanisms import ROWS, Row
from ferrohsm.parameters import (
    CbcEncryptData,
    Ccm,
    ChaCha20,
    ChaCha20Poly1305,
    Ctr,
    Ecdh1,
    EcdhAesKeyWrap,
    EdDsa,
    Gcm,
    Hkdf,
    Ike1Prf,
    IkeExpansion,
    IkePrf,
    KeyReference,
    Mechanism,
    OneTimePassword,
    ParameterKind,
    Pbe,
    Pbkd2,
    RsaAesKeyWrap,
    RsaOaep,
    RsaPss,
    SignContext,
    Sp800108,
    SshKdf,
    TlsKdf,
    TlsKeyMaterial,
    TlsMac,
    TlsMaster,
)
from ferrohsm.typed import Any, Callable, Mapping, Protocol

Begin = Callable[[int, Row, Mechanism, Any], Operation]

# What only kernels have: raw RSA with the private key needs a constant-time form of it; SLH-DSA is not in the
# library, and in libcrypto from 3.5 on.
_KERNELS_ONLY = {
    ck.CKM_RSA_X_509: Function.SIGN | Function.SIGN_RECOVER | Function.DECRYPT,
    **{row.type: row.functions for row in ROWS.values() if row.key_types == (ck.CKK_SLH_DSA,)},
    ck.CKM_SLH_DSA_KEY_PAIR_GEN: Function.GENERATE_KEY_PAIR,
}
# What families compute with an algorithm that the kernels lend (`lent`, `passwords`), by its name.
_LENT = {
    ck.CKM_AES_CFB1: "AES",
    ck.CKM_CAMELLIA_CTR: "CAMELLIA",
    **{row.type: "ARIA" for row in ROWS.values() if ck.CKK_ARIA in (*row.key_types[:1], row.produces)},
    **{row.type: "PKCS12KDF" for row in ROWS.values() if row.family == "pbe"},
}
# The smallest key of a mechanism where kernels are not what has it: the library has no ML-KEM-512.
_LIBRARY_SMALLEST = {ck.CKM_ML_KEM_KEY_PAIR_GEN: 1184, ck.CKM_ML_KEM: 1184}


class Kernels(Protocol):
    """A native engine for operations."""

    def serves(self, function: int, mechanism: int) -> bool:
        """Tell whether it has `function` (a ``CKF_*``) of `mechanism`."""

    def lends(self, algorithm: str) -> bool:
        """Tell whether families may borrow an algorithm (`lent`)."""

    def begin(self, function: int, mechanism: int, parameter: Any, key: Key | None) -> Operation | None:
        """Start an operation, or return None to leave it to the families."""

    def generate_key(self, mechanism: int, attributes: Attributes) -> dict[int, bytearray] | None:
        """Return a new secret key's value, or None."""

    def generate_key_pair(self, mechanism: int, public: Attributes) -> tuple[Attributes, Attributes] | None:
        """Return the public and the private parts of a new pair, or None."""

    def derive(self, mechanism: int, parameter: Any, key: Key, length: int) -> bytearray | None:
        """Return a shared secret, or `length` bytes derived from it, or None."""

    def encapsulate(self, key: Key) -> tuple[bytearray, bytes] | None:
        """Return a shared secret and its ciphertext under an ML-KEM key, or None."""

    def decapsulate(self, key: Key, ciphertext: memoryview) -> bytearray | None:
        """Return the secret in a ciphertext, or None."""

    def key_capsule(self, key: Key) -> object | None:
        """Return the kernels' form of a key, or None."""

    def capsule(self) -> object:
        """Return the table of ``ferrohsm_kernel.h``."""

    def mac_into(self, key: bytes | bytearray, data: bytes | bytearray, out: bytearray) -> None:
        """Write HMAC-SHA-256 of `data` under `key`; `out` has 32 bytes."""

    def seed(self, data: memoryview) -> None:
        """Mix `data` into the generator."""

    def require_lock(self, required: bool) -> bool:
        """Say whether the memory of secrets is locked; when `required`, use no other from now on."""

    def stop(self) -> None:
        """Wipe what is kept ahead."""


# What a parameter of a kind is, and for byte strings which lengths it may have.
_PARAMETERS: dict[str, tuple[tuple[type, ...], tuple[int, ...] | None]] = {
    ParameterKind.NONE: ((type(None),), None),
    ParameterKind.IV16: ((bytes,), (16,)),
    ParameterKind.IV8: ((bytes, type(None)), (0, 8)),
    ParameterKind.IV4: ((bytes, type(None)), (0, 4)),
    ParameterKind.ULONG: ((int,), None),
    ParameterKind.CTR: ((Ctr,), None),
    ParameterKind.GCM: ((Gcm,), None),
    ParameterKind.CCM: ((Ccm,), None),
    ParameterKind.RSA_PSS: ((RsaPss,), None),
    ParameterKind.RSA_OAEP: ((RsaOaep,), None),
    ParameterKind.ECDH1: ((Ecdh1,), None),
    ParameterKind.EDDSA: ((EdDsa, type(None)), None),
    ParameterKind.STRING: ((bytes,), None),
    ParameterKind.CBC_ENCRYPT_DATA: ((CbcEncryptData,), None),
    ParameterKind.RSA_AES_KEY_WRAP: ((RsaAesKeyWrap,), None),
    ParameterKind.IV64: ((bytes,), (8,)),
    ParameterKind.KEY: ((KeyReference,), None),
    ParameterKind.CHACHA20: ((ChaCha20,), None),
    ParameterKind.CHACHA20_POLY1305: ((ChaCha20Poly1305,), None),
    ParameterKind.DES_CBC_ENCRYPT_DATA: ((CbcEncryptData,), None),
    ParameterKind.HKDF: ((Hkdf,), None),
    ParameterKind.SP800_108: ((Sp800108,), None),
    ParameterKind.SP800_108_FEEDBACK: ((Sp800108,), None),
    ParameterKind.PBKD2: ((Pbkd2,), None),
    ParameterKind.PBE: ((Pbe,), None),
    ParameterKind.ECDH_AES_KEY_WRAP: ((EcdhAesKeyWrap,), None),
    ParameterKind.SIGN_CONTEXT: ((SignContext, type(None)), None),
    ParameterKind.HASH_SIGN_CONTEXT: ((SignContext,), None),
    ParameterKind.BYTES: ((bytes,), None),
    ParameterKind.X9_42_DH: ((Ecdh1,), None),
    ParameterKind.TLS12_MASTER: ((TlsMaster,), None),
    ParameterKind.TLS12_EXTENDED_MASTER: ((TlsMaster,), None),
    ParameterKind.TLS12_KEY_MATERIAL: ((TlsKeyMaterial,), None),
    ParameterKind.TLS_KDF: ((TlsKdf,), None),
    ParameterKind.TLS_MAC: ((TlsMac,), None),
    ParameterKind.IKE_PRF: ((IkePrf,), None),
    ParameterKind.IKE1_PRF: ((Ike1Prf,), None),
    ParameterKind.IKE1_EXTENDED: ((IkeExpansion,), None),
    ParameterKind.IKE2_PRF_PLUS: ((IkeExpansion,), None),
    ParameterKind.SSH_KDF: ((SshKdf,), None),
    ParameterKind.OTP: ((OneTimePassword,), None),
}


def _rsa() -> Begin:
    from ferrohsm_adapters.software import rsa

    return rsa.begin


def _ec() -> Begin:
    from ferrohsm_adapters.software import ec

    return ec.begin


def _eddsa() -> Begin:
    from ferrohsm_adapters.software import eddsa

    return eddsa.begin


def _aes() -> Begin:
    from ferrohsm_adapters.software import aes

    return aes.begin


def _aes_key_wrap() -> Begin:
    from ferrohsm_adapters.software import key_wrap

    return key_wrap.begin


def _modes() -> Begin:
    from ferrohsm_adapters.software import modes

    return modes.begin


def _ml_dsa() -> Begin:
    from ferrohsm_adapters.software import ml_dsa

    return ml_dsa.begin


def _mac(family: str) -> Callable[[], Begin]:
    def load() -> Begin:
        from ferrohsm_adapters.software import mac

        begin: Begin = getattr(mac, "begin_" + family)
        return begin

    return load


def _digest() -> Begin:
    from ferrohsm_adapters.software import digest

    return digest.begin


class Engine:
    """The signer of the software adapter; one object serves all its slots."""

    def __init__(self, kernels: Kernels | None = None) -> None:
        self.kernels = kernels
        self._begin: dict[str, Begin] = {}
        self._load: dict[str, Callable[[], Begin]] = {
            "rsa": _rsa,
            "ec": _ec,
            "eddsa": _eddsa,
            "dsa": _dsa,
            "aes": _aes,
            "aes_key_wrap": _aes_key_wrap,
            "modes": _modes,
            "ml_dsa": _ml_dsa,
            **{
                family: _mac(family) for family in ("hmac", "cmac", "cbc_mac", "xcbc_mac", "gmac", "poly1305")
            },
            "digest": _digest,
            "tls_mac": _tls_mac,
            "hotp": _hotp,
        }

    def kernel(self) -> object | None:
        """Return the kernels' table (see `ferrohsm.adapters.KernelSigner`)."""
        return None if self.kernels is None else self.kernels.capsule()

    def mechanisms(self) -> Mapping[int, tuple[int, int, int]]:
        """Return type → (smallest key, largest key, flags) of the table, less what nothing here computes."""
        offered = {}
        for row in ROWS.values():
            functions = row.functions & ~self._lacking(row.type)
            if row.family != "vendor" and functions:
                offered[row.type] = self._smallest(row), row.max_key, functions | row.flags
        return offered

    def _smallest(self, row: Row) -> int:
        smallest = _LIBRARY_SMALLEST.get(row.type, row.min_key)
        if smallest == row.min_key or (self.kernels is not None and self._served(row)):
            return row.min_key
        return smallest

    def _served(self, row: Row) -> bool:
        """Tell whether the kernels have every function of a row."""
        assert self.kernels is not None
        flags = (1 << bit for bit in range(row.functions.bit_length()))
        return all(self.kernels.serves(flag, row.type) for flag in flags if row.functions & flag)

    def _lacking(self, mechanism: int) -> int:
        """Return the functions of a mechanism that neither families nor kernels have."""
        if not self._lent(mechanism):
            return ROWS[mechanism].functions
        lacking = 0
        flags = _KERNELS_ONLY.get(mechanism, 0)
        for bit in range(flags.bit_length()):
            flag = flags & 1 << bit
            if flag and (self.kernels is None or not self.kernels.serves(flag, mechanism)):
                lacking |= flag
        return lacking

    def _lent(self, mechanism: int) -> bool:
        """Tell whether the kernels lend what a mechanism needs of them."""
        algorithm = _LENT.get(mechanism)
        return algorithm is None or (self.kernels is not None and self.kernels.lends(algorithm))

    def _row(self, mechanism: Mechanism, function: int) -> Row:
        """Return the row of a mechanism that can be computed, checked with its parameter."""
        row = checked_row(mechanism, function)
        if not self._lent(row.type):
            raise MechanismInvalid
        return row

    async def begin(self, function: int, mechanism: Mechanism, key: Key | None) -> Operation:
        """Start an operation (see `ferrohsm.adapters.HardwareSigner`)."""
        row = self._row(mechanism, function)
        if row.family == "vendor":
            raise MechanismInvalid
        if self.kernels is not None:
            operation = self.kernels.begin(function, mechanism.type, mechanism.parameter, key)
            if operation is not None:
                return operation
        if _KERNELS_ONLY.get(mechanism.type, 0) & function:
            raise MechanismInvalid
        begin = self._begin.get(row.family)
        if begin is None:
            begin = self._begin[row.family] = self._load[row.family]()
        return begin(function, row, mechanism, key)

    async def begin_messages(self, function: int, mechanism: Mechanism, key: Key) -> Messages:
        """Start a process (see `ferrohsm.adapters.MessageSigner`)."""
        from ferrohsm_adapters.software import messages

        row = ROWS.get(mechanism.type)
        if row is None or not row.functions & function:
            raise MechanismInvalid
        return messages.begin(function, row, mechanism, key)

    async def generate_key(self, mechanism: Mechanism, attributes: Attributes) -> Attributes:
        """Return value, length and check value of a new secret key."""
        row = self._row(mechanism, Function.GENERATE)
        if row.object_class == ck.CKO_DOMAIN_PARAMETERS:
            from ferrohsm_adapters.software import ffc_material

            return ffc_material.generate_parameters(row.produces or 0, attributes)
        if row.family == "pbkdf2":
            from ferrohsm_adapters.software import passwords

            return passwords.generate(mechanism, attributes)
        if row.family == "pbe":
            from ferrohsm_adapters.software import passwords

            return passwords.generate_pkcs12(row, mechanism, attributes)
        from ferrohsm_adapters.software import secret

        return secret.generate(row, mechanism, attributes, self.kernels)

    async def generate_key_pair(
        self, mechanism: Mechanism, public: Attributes, private: Attributes
    ) -> tuple[Attributes, Attributes]:
        """Return the attributes to add to the public and to the private key."""
        from ferrohsm_adapters.software import pairs

        return pairs.generate_pair(checked_row(mechanism, Function.GENERATE_KEY_PAIR), public, self.kernels)

    def kernel_request(
        self, function: int, mechanism: Mechanism, attributes: Attributes
    ) -> Attributes | None:
        """Return what the kernels are to be asked for (see `ferrohsm.adapters.KernelMaker`)."""
        from ferrohsm_adapters.software import drafts

        if self.kernels is None or not self.kernels.serves(function, mechanism.type):
            return None
        return drafts.request(function, checked_row(mechanism, function), mechanism, attributes)

    def kernel_base_key(self, base: Key) -> object | None:
        """Return the kernels' form of a base key."""
        return None if self.kernels is None else self.kernels.key_capsule(base)

    def from_kernel(
        self,
        function: int,
        mechanism: Mechanism,
        halves: tuple[Attributes, ...],
        public: Attributes,
        secret: Attributes,
    ) -> tuple[Attributes, ...]:
        """Return what the kernels have made as attributes to add."""
        from ferrohsm_adapters.software import drafts

        return drafts.finished(function, checked_row(mechanism, function), halves, public, secret)

    async def complete(self, attributes: Attributes) -> Attributes:
        """Check the material of an object that is brought in and return the attributes to add."""
        from ferrohsm_adapters.software import material

        return material.complete(attributes)

    async def wrap(self, mechanism: Mechanism, wrapping: Key, target: Key) -> bytes:
        """Return the wrapped form of `target`."""
        from ferrohsm_adapters.software import wrap

        return await wrap.wrap(self.begin, self._row(mechanism, Function.WRAP), mechanism, wrapping, target)

    def wrap_length(self, mechanism: Mechanism, wrapping: Key, target: Key) -> int:
        """Return the exact length of what `wrap` would give."""
        from ferrohsm_adapters.software import wrap

        return wrap.wrap_length(self._row(mechanism, Function.WRAP), mechanism, wrapping, target)

    async def unwrap(
        self, mechanism: Mechanism, unwrapping: Key, wrapped: memoryview, attributes: Attributes
    ) -> Attributes:
        """Return the attributes of the key that `wrapped` holds."""
        from ferrohsm_adapters.software import wrap

        row = self._row(mechanism, Function.UNWRAP)
        return await wrap.unwrap(self.begin, row, mechanism, unwrapping, wrapped, attributes)

    async def authenticated_length(self, mechanism: Mechanism, wrapping: Key, target: Key) -> int:
        """Return the length of a wrapped key without its tag."""
        from ferrohsm_adapters.software import authenticated_wrap

        _authenticated_row(mechanism, Function.WRAP)
        return authenticated_wrap.length(mechanism, target)

    async def wrap_authenticated(
        self, mechanism: Mechanism, wrapping: Key, target: Key, associated: memoryview
    ) -> tuple[bytes, bytes, bytes]:
        """Return initialization vector, wrapped key and tag."""
        from ferrohsm_adapters.software import authenticated_wrap

        row = _authenticated_row(mechanism, Function.WRAP)
        return authenticated_wrap.wrap(row, mechanism, wrapping, target, associated)

    async def unwrap_authenticated(
        self,
        mechanism: Mechanism,
        unwrapping: Key,
        wrapped: memoryview,
        tag: bytes,
        associated: memoryview,
        attributes: Attributes,
    ) -> Attributes:
        """Return the attributes of the key that `wrapped` holds."""
        from ferrohsm_adapters.software import authenticated_wrap

        row = _authenticated_row(mechanism, Function.UNWRAP)
        return authenticated_wrap.unwrap(row, mechanism, unwrapping, (wrapped, tag, associated), attributes)

    async def derive(self, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
        """Return the attributes to add to the derived key."""
        row = self._row(mechanism, Function.DERIVE)
        if row.family == "ecdh":
            from ferrohsm_adapters.software import ecdh

            return ecdh.derive(row, mechanism, base, attributes, self.kernels)
        if row.family == "derive":
            from ferrohsm_adapters.software import derive

            return await derive.derive(self.begin, mechanism, base, attributes)
        return _derived(row, mechanism, base, attributes)

    async def check_derived(self, mechanism: Mechanism, attributes: Attributes) -> None:
        """Check what is asked of one of the keys that `derive_several` is to make."""
        from ferrohsm_adapters.software import sp800_108

        sp800_108.length_of(attributes)

    async def derive_several(
        self, mechanism: Mechanism, base: Key, wanted: tuple[Attributes, ...]
    ) -> tuple[Attributes, ...]:
        """Return the attributes to add to each of the keys, which SP 800-108 derives together."""
        from ferrohsm_adapters.software import sp800_108

        if self._row(mechanism, Function.DERIVE).family != "sp800_108":
            raise MechanismInvalid
        return sp800_108.derive_several(mechanism, base, wanted)

    def encapsulated_length(self, mechanism: Mechanism, public: Key) -> int:
        """Return the exact length of the ciphertext that `encapsulate` would give."""
        from ferrohsm_adapters.software import ml_kem

        checked_row(mechanism, Function.ENCAPSULATE)
        return ml_kem.encapsulated_length(public)

    async def encapsulate(
        self, mechanism: Mechanism, public: Key, attributes: Attributes
    ) -> tuple[bytes, Attributes]:
        """Return the ciphertext and the attributes of the new key."""
        from ferrohsm_adapters.software import ml_kem

        checked_row(mechanism, Function.ENCAPSULATE)
        return ml_kem.encapsulate(public, attributes, self.kernels)

    async def decapsulate(
        self, mechanism: Mechanism, private: Key, ciphertext: memoryview, attributes: Attributes
    ) -> Attributes:
        """Return the attributes of the key that `ciphertext` holds."""
        from ferrohsm_adapters.software import ml_kem

        checked_row(mechanism, Function.DECAPSULATE)
        return ml_kem.decapsulate(private, ciphertext, attributes, self.kernels)

    async def random(self, length: int) -> bytes:
        """Return bytes of the kernel's generator."""
        return os.urandom(length)

    async def seed(self, data: memoryview) -> None:
        """Mix `data` into the kernels' generator, or the system's, which credits it with no entropy."""
        if self.kernels is not None:
            self.kernels.seed(data)
            return
        try:
            device = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(device, data)
            finally:
                os.close(device)
        except OSError:
            raise RandomSeedNotSupported from None


def _dsa() -> Begin:
    from ferrohsm_adapters.software import dsa

    return dsa.begin


def _tls_mac() -> Begin:
    from ferrohsm_adapters.software import tls

    return tls.begin_mac


def _hotp() -> Begin:
    from ferrohsm_adapters.software import hotp

    return hotp.begin


def _derived(row: Row, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
    if row.family == "rearrange":
        from ferrohsm_adapters.software import rearrange

        return rearrange.rearranged(mechanism, base, attributes)
    if row.family == "hash_derive":
        from ferrohsm_adapters.software import rearrange

        return rearrange.digested(row, mechanism, base, attributes)
    if row.family == "hkdf":
        from ferrohsm_adapters.software import hkdf

        return hkdf.derive(mechanism, base, attributes)
    if row.family == "sp800_108":
        from ferrohsm_adapters.software import sp800_108

        return sp800_108.derive(mechanism, base, attributes)
    if row.family == "dh":
        from ferrohsm_adapters.software import dh

        return dh.derive(mechanism, base, attributes)
    if row.family == "tls":
        from ferrohsm_adapters.software import tls

        return tls.derive(row, mechanism, base, attributes)
    if row.family == "ike":
        from ferrohsm_adapters.software import ike

        return ike.derive(mechanism, base, attributes)
    if row.family == "ssh":
        from ferrohsm_adapters.software import ssh

        return ssh.derive(mechanism, base, attributes)
    from ferrohsm_adapters.software import material

    return material.public_half(base)


def checked_row(mechanism: Mechanism, function: int) -> Row:
    """Return the mechanism's row, its function and the shape of its parameter checked."""
    row = ROWS.get(mechanism.type)
    if row is None or not row.functions & function:
        raise MechanismInvalid
    types, lengths = _PARAMETERS[row.parameter]
    parameter = mechanism.parameter
    if not isinstance(parameter, types):
        raise MechanismParamInvalid
    if lengths is not None and len(mechanism.parameter or b"") not in lengths:
        raise MechanismParamInvalid
    return row


def _authenticated_row(mechanism: Mechanism, function: int) -> Row:
    """Return the row of a mechanism that wraps, or unwraps, by authenticated encryption."""
    row = ROWS.get(mechanism.type)
    if row is None or not row.functions & function or not row.functions & Function.MESSAGE_ENCRYPT:
        raise MechanismInvalid
    return row
