"""The calls of `engine_support.Driver` through the C functions of the installed module.

Known answers that are written for an engine are so run through the whole of it: parameters become C
structures, keys become objects, return values the errors they stand for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mechanism_parameters as parameters
from cryptoki import RefusedError, template
from sides import Side

from ferrohsm import constants as ck
from ferrohsm import errors
from ferrohsm import parameters as plain
from ferrohsm.adapters import Function
from ferrohsm.mechanisms import ROWS

_USES = {
    ck.CKO_PUBLIC_KEY: ("ENCRYPT", "VERIFY", "VERIFY_RECOVER", "WRAP"),
    ck.CKO_PRIVATE_KEY: ("DECRYPT", "SIGN", "SIGN_RECOVER", "UNWRAP", "DERIVE"),
    ck.CKO_SECRET_KEY: ("ENCRYPT", "DECRYPT", "SIGN", "VERIFY", "WRAP", "UNWRAP", "DERIVE"),
}
_FAMILIES = {
    Function.ENCRYPT: "Encrypt",
    Function.DECRYPT: "Decrypt",
    Function.SIGN: "Sign",
    Function.VERIFY: "Verify",
    Function.SIGN_RECOVER: "SignRecover",
    Function.VERIFY_RECOVER: "VerifyRecover",
    Function.DIGEST: "Digest",
}
_KEM = {ck.CKO_PUBLIC_KEY: ck.CKA_ENCAPSULATE, ck.CKO_PRIVATE_KEY: ck.CKA_DECAPSULATE}
ROOM = 1 << 17


def raising(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call; raise the error that a refusal stands for."""
    try:
        return call(*arguments)
    except RefusedError as refused:
        raise errors.from_rv(getattr(ck, refused.rv)) from None


class Attributes(Mapping[int, Any]):
    """The attributes of an object, read when they are asked for."""

    def __init__(self, side: Side, handle: int) -> None:
        self.side, self.handle = side, handle

    def __getitem__(self, type_: int) -> Any:
        try:
            value = self.side.p11.get(self.side.session, self.handle, type_)
        except RefusedError:
            raise KeyError(type_) from None
        if type_ == ck.CKA_VALUE_LEN and value == b"\xff" * 8:
            raise KeyError(type_)
        secret = type_ in (ck.CKA_VALUE, ck.CKA_SEED)
        return bytearray(value) if secret else value

    def __iter__(self) -> Iterator[int]:
        """Yield the parameters of a group, which are what a test copies."""
        return (type_ for type_ in (ck.CKA_PRIME, ck.CKA_SUBPRIME, ck.CKA_BASE) if type_ in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class AbiKey:
    """A key object."""

    def __init__(self, side: Side, handle: int) -> None:
        self.handle = handle
        self.attributes = Attributes(side, handle)


class AbiDriver:
    """A session of the installed module; `answered` are the mechanisms that worked since it was emptied."""

    native = True
    stride = 7
    """Of long files every seventh record: the first call with a key costs more here."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.engine = _Engine(self)
        self.answered: set[int] = set()

    # Keys.

    def key(self, attributes: Mapping[int, Any]) -> AbiKey:
        return self.bring_in(attributes)

    def bring_in(self, attributes: Mapping[int, Any]) -> AbiKey:
        pairs = self._template(attributes)
        return AbiKey(self.side, raising(self.side.p11.create, self.side.session, *pairs))

    def _template(self, attributes: Mapping[int, Any]) -> list[tuple[int, Any]]:
        made = {type_: bytes(value) for type_, value in attributes.items()}
        object_class = int.from_bytes(made[ck.CKA_CLASS], "little")
        if object_class == ck.CKO_DATA:
            return [*made.items(), (ck.CKA_PRIVATE, False)]
        key_type = int.from_bytes(made[ck.CKA_KEY_TYPE], "little")
        pairs: list[tuple[int, Any]] = [
            *((getattr(ck, f"CKA_{use}"), True) for use in _USES[object_class]),
            (ck.CKA_PRIVATE, False),
        ]
        if key_type == ck.CKK_ML_KEM:
            pairs.append((_KEM[object_class], True))
        if object_class != ck.CKO_PUBLIC_KEY:
            pairs += [(ck.CKA_SENSITIVE, False), (ck.CKA_EXTRACTABLE, True)]
        return [*made.items(), *pairs]

    def secret(self, value: bytes, key_type: int = ck.CKK_GENERIC_SECRET) -> AbiKey:
        head = {ck.CKA_CLASS: _ulong(ck.CKO_SECRET_KEY), ck.CKA_KEY_TYPE: _ulong(key_type)}
        return self.bring_in({**head, ck.CKA_VALUE: value})

    def aes(self, value: bytes) -> AbiKey:
        return self.secret(value, ck.CKK_AES)

    def pair(self, mechanism: int, key_type: int, **public: Any) -> tuple[AbiKey, AbiKey]:
        attributes = {int(getattr(ck, "CKA_" + name)): value for name, value in public.items()}
        return self._pair(plain.Mechanism(mechanism), key_type, attributes)

    def _pair(self, mechanism: Any, key_type: int, given: Mapping[int, Any]) -> tuple[AbiKey, AbiKey]:
        base = {ck.CKA_KEY_TYPE: _ulong(key_type)}
        public = self._template({ck.CKA_CLASS: _ulong(ck.CKO_PUBLIC_KEY), **base, **given})
        private = self._template({ck.CKA_CLASS: _ulong(ck.CKO_PRIVATE_KEY), **base})
        one, other = raising(self.side.generate_pair, mechanism.type, public, private)
        return AbiKey(self.side, one), AbiKey(self.side, other)

    def rsa_pair(self, bits: int = 2048) -> tuple[AbiKey, AbiKey]:
        return self.pair(ck.CKM_RSA_PKCS_KEY_PAIR_GEN, ck.CKK_RSA, MODULUS_BITS=_ulong(bits))

    def ec_pair(self, curve: bytes) -> tuple[AbiKey, AbiKey]:
        return self.pair(ck.CKM_EC_KEY_PAIR_GEN, ck.CKK_EC, EC_PARAMS=curve)

    # Operations.

    def begin(self, function: int, mechanism: int, key: AbiKey | None, parameter: Any = None) -> AbiOperation:
        return AbiOperation(self, function, mechanism, key, parameter)

    def once(
        self, function: int, mechanism: int, key: AbiKey | None, data: bytes, parameter: Any = None
    ) -> bytes:
        return self.begin(function, mechanism, key, parameter).whole(data)

    def parts(
        self, function: int, mechanism: int, key: AbiKey | None, parts: list[bytes], parameter: Any = None
    ) -> bytes:
        operation = self.begin(function, mechanism, key, parameter)
        return b"".join([*(operation.part(part) for part in parts), operation.last()])

    def sign(self, mechanism: int, key: AbiKey, data: bytes, parameter: Any = None) -> bytes:
        return self.once(Function.SIGN, mechanism, key, data, parameter)

    def verify(
        self, mechanism: int, key: AbiKey, data: bytes, signature: bytes, parameter: Any = None
    ) -> None:
        self.begin(Function.VERIFY, mechanism, key, parameter).check(data, signature)

    def verify_parts(
        self, mechanism: int, key: AbiKey, parts: list[bytes], signature: bytes, parameter: Any = None
    ) -> None:
        operation = self.begin(Function.VERIFY, mechanism, key, parameter)
        for part in parts:
            operation.part(part)
        operation.check_last(signature)

    def encrypt(self, mechanism: int, key: AbiKey, data: bytes, parameter: Any = None) -> bytes:
        return self.once(Function.ENCRYPT, mechanism, key, data, parameter)

    def decrypt(self, mechanism: int, key: AbiKey, data: bytes, parameter: Any = None) -> bytes:
        return self.once(Function.DECRYPT, mechanism, key, data, parameter)

    def wrap(self, mechanism: int, wrapping: AbiKey, target: AbiKey, parameter: Any = None) -> bytes:
        made: bytes = raising(self.side.wrap, how(mechanism, parameter), wrapping.handle, target.handle)
        self.answered.add(mechanism)
        return made

    def unwrap(
        self, mechanism: int, key: AbiKey, wrapped: bytes, given: Mapping[int, Any], parameter: Any = None
    ) -> Attributes:
        pairs = self._template(given)
        made = raising(self.side.unwrap, how(mechanism, parameter), key.handle, bytes(wrapped), pairs)
        self.answered.add(mechanism)
        return Attributes(self.side, made)

    def derive(self, mechanism: int, base: AbiKey, given: Mapping[int, Any], parameter: Any) -> Attributes:
        made = raising(self.side.derive, how(mechanism, parameter), base.handle, self._template(given))
        self.answered.add(mechanism)
        return Attributes(self.side, made)


class AbiOperation:
    """An active operation, with the coroutines of an engine's and the plain calls they are."""

    def __init__(
        self, driver: AbiDriver, function: int, mechanism: int, key: AbiKey | None, parameter: Any
    ) -> None:
        self.driver, self.side, self.mechanism = driver, driver.side, mechanism
        self.family = _FAMILIES[function]
        self.gives = function in (Function.ENCRYPT, Function.DECRYPT)
        self.multi_part = not ROWS[mechanism].single_part
        keys = () if key is None else (key.handle,)
        try:
            self._call("Init", how(mechanism, parameter), *keys)
        except errors.OperationActive:  # one that a test has left behind
            self.side.p11("C_SessionCancel", self.side.session, ctypes.c_ulong(-1).value)
            self._call("Init", how(mechanism, parameter), *keys)

    def _call(self, suffix: str, *arguments: Any) -> None:
        raising(self.side.p11, f"C_{self.family}{suffix}", self.side.session, *arguments)

    def _out(self, suffix: str, *arguments: Any) -> bytes:
        def call() -> bytes:
            function = f"C_{self.family}{suffix}"
            return self.side.p11.whole(function, self.side.session, *arguments, room=ROOM)

        made: bytes = raising(call)
        return made

    def whole(self, data: Any) -> bytes:
        out = self._out("", bytes(data), len(data))
        self.driver.answered.add(self.mechanism)
        return out

    def part(self, data: Any) -> bytes:
        if self.gives:
            return self._out("Update", bytes(data), len(data))
        self._call("Update", bytes(data), len(data))
        return b""

    def last(self) -> bytes:
        out = self._out("Final")
        self.driver.answered.add(self.mechanism)
        return out

    def check(self, data: Any, signature: Any) -> None:
        self._call("", bytes(data), len(data), bytes(signature), len(signature))
        self.driver.answered.add(self.mechanism)

    def check_last(self, signature: Any) -> None:
        self._call("Final", bytes(signature), len(signature))
        self.driver.answered.add(self.mechanism)

    async def once(self, data: Any) -> bytes:
        return self.whole(data)

    async def update(self, data: Any) -> bytes:
        return self.part(data)

    async def finish(self) -> bytes:
        return self.last()

    async def verify(self, data: Any, signature: Any) -> None:
        self.check(data, signature)


class _Engine:
    """What tests ask an engine for directly."""

    def __init__(self, driver: AbiDriver) -> None:
        self.driver = driver

    async def begin(self, function: int, mechanism: Any, key: AbiKey | None) -> AbiOperation:
        return self.driver.begin(function, mechanism.type, key, mechanism.parameter)

    async def generate_key(self, mechanism: Any, given: Mapping[int, Any]) -> Attributes:
        side = self.driver.side
        pairs = list(given.items())
        if ck.CKA_CLASS in given:
            pairs = self.driver._template(given)
        made = raising(side.generate, how(mechanism.type, mechanism.parameter), pairs)
        if isinstance(mechanism.parameter, plain.Pbkd2):
            mechanism.parameter.password[:] = bytes(len(mechanism.parameter.password))
        self.driver.answered.add(mechanism.type)
        return Attributes(side, made)

    async def encapsulate(
        self, mechanism: Any, key: AbiKey, given: Mapping[int, Any]
    ) -> tuple[bytes, Attributes]:
        side, pairs = self.driver.side, self.driver._template(given)
        sent, handle = (ctypes.c_ubyte * 8192)(), ctypes.c_ulong(0)
        length = ctypes.c_ulong(len(sent))
        arguments = (how(mechanism.type), key.handle, template(*pairs), len(pairs), sent, length, handle)
        raising(side.p11, "C_EncapsulateKey", side.session, *arguments)
        return bytes(sent[: length.value]), Attributes(side, handle.value)

    def encapsulated_length(self, mechanism: Any, key: AbiKey) -> int:
        side, length = self.driver.side, ctypes.c_ulong(0)
        pairs = self.driver._template(
            {ck.CKA_CLASS: _ulong(ck.CKO_SECRET_KEY), ck.CKA_KEY_TYPE: _ulong(ck.CKK_GENERIC_SECRET)}
        )
        arguments = (how(mechanism.type), key.handle, template(*pairs), len(pairs), None, length)
        raising(side.p11, "C_EncapsulateKey", side.session, *arguments, ctypes.c_ulong(0))
        return length.value

    async def decapsulate(
        self, mechanism: Any, key: AbiKey, sent: Any, given: Mapping[int, Any]
    ) -> Attributes:
        side, pairs = self.driver.side, self.driver._template(given)
        arguments = (how(mechanism.type), key.handle, template(*pairs), len(pairs), bytes(sent), len(sent))
        made = raising(side.p11.made, "C_DecapsulateKey", side.session, *arguments)
        self.driver.answered.add(mechanism.type)
        return Attributes(side, made)


def _ulong(value: int) -> bytes:
    return value.to_bytes(8, "little")


def how(type_: int, parameter: Any = None) -> Any:
    """Return the CK_MECHANISM of a mechanism with a parameter as the core has it."""
    from cryptoki import mechanism

    return mechanism(type_, encoded(type_, parameter))


def encoded(type_: int, parameter: Any) -> Any:
    """Return the C structure of a parameter, or its bytes."""
    if isinstance(parameter, (bytes, bytearray)) and ROWS[type_].parameter == "string":
        return parameters.string(bytes(parameter))
    if parameter is None or isinstance(parameter, bytes):
        return parameter
    if isinstance(parameter, bytearray):
        return bytes(parameter)
    if isinstance(parameter, int):
        return parameters.structure(parameter)
    if isinstance(parameter, plain.TlsMaster):
        return _tls_master(type_, parameter)
    if isinstance(parameter, plain.Sp800108):
        return _sp800_108(type_, parameter)
    return _ENCODERS[type(parameter)](parameter)


def _string(data: bytes) -> tuple[Any, int]:
    return bytes(data) or None, len(data)


def _prf_data(piece: plain.PrfData) -> Any:
    value = piece.value
    if isinstance(value, plain.IntegerFormat):
        value = parameters.counter(value.bits, value.little_endian)
    elif isinstance(value, plain.DkmLength):
        value = parameters.structure(value.method, value.little_endian, value.bits)
    elif isinstance(value, plain.KeyReference):
        value = value.key.handle
    return parameters.piece(piece.type, value)


def _sp800_108(type_: int, p: plain.Sp800108) -> Any:
    # No string is none at the ABI; an engine may be given an empty one.
    pieces = [_prf_data(piece) for piece in p.data if piece.value != b""]
    if ROWS[type_].parameter == "sp800_108_feedback":
        return parameters.sp800_108_feedback(p.prf, p.iv, *pieces)
    return parameters.sp800_108(p.prf, *pieces)


def _handle(key: plain.KeyReference | None) -> int | None:
    return None if key is None else key.key.handle


def _tls_master(type_: int, p: plain.TlsMaster) -> Any:
    if ROWS[type_].parameter == "tls12_extended_master":
        return parameters.structure(p.hash, p.seed, len(p.seed), None)
    return parameters.tls_master(p.seed[:32], p.seed[32:], None, p.hash)


def _hkdf(p: plain.Hkdf) -> Any:
    salt = p.salt.key.handle if isinstance(p.salt, plain.KeyReference) else p.salt
    return parameters.hkdf(p.hash, extract=p.extract, expand=p.expand, salt=salt, info=p.info)


def _sign_context(p: plain.SignContext) -> Any:
    tail = () if p.hash is None else (p.hash,)
    return parameters.structure(p.hedge, *_string(p.context), *tail)


def _chacha20(p: plain.ChaCha20) -> Any:
    return parameters.structure(p.counter, 8 * len(p.counter), p.nonce, 8 * len(p.nonce))


def _ecdh1(p: plain.Ecdh1) -> Any:
    shared = _string(p.shared_data)
    return parameters.structure(p.kdf, shared[1], shared[0], len(p.public_data), bytes(p.public_data) or None)


def _oaep(p: plain.RsaOaep) -> Any:
    return parameters.structure(p.hash, p.mgf, p.source, *_string(p.source_data))


_ENCODERS: dict[type, Callable[[Any], Any]] = {
    plain.Ctr: lambda p: _ulong(p.counter_bits) + p.block,
    plain.Gcm: lambda p: parameters.gcm(p.iv, p.aad, p.tag_bits),
    plain.Ccm: lambda p: parameters.ccm(p.data_length, p.nonce, p.aad, p.mac_length),
    plain.RsaPss: lambda p: parameters.structure(p.hash, p.mgf, p.salt_length),
    plain.RsaOaep: _oaep,
    plain.Ecdh1: _ecdh1,
    plain.EdDsa: lambda p: parameters.structure(p.prehash, len(p.context), bytes(p.context) or None),
    plain.CbcEncryptData: lambda p: parameters.cbc_data(p.iv, p.data),
    plain.KeyReference: lambda p: parameters.structure(p.key.handle),
    plain.ChaCha20: _chacha20,
    plain.ChaCha20Poly1305: lambda p: parameters.structure(p.nonce, 8 * len(p.nonce), *_string(p.aad)),
    plain.Hkdf: _hkdf,
    plain.Pbkd2: lambda p: parameters.pbkd2(bytes(p.password), p.salt, p.iterations, p.prf),
    plain.Pbe: lambda p: parameters.pbe(bytes(p.password), p.salt, p.iterations),
    plain.IkePrf: lambda p: parameters.ike_prf(
        p.nonces[:8], p.nonces[8:], data_as_key=p.data_as_key, new_key=_handle(p.new_key), prf=p.prf
    ),
    plain.Ike1Prf: lambda p: parameters.ike1_prf(
        p.shared.key.handle, _handle(p.previous), (p.data[:8], p.data[8:-1]), p.data[-1], p.prf
    ),
    plain.IkeExpansion: lambda p: parameters.ike_expansion(_handle(p.key), p.data, p.prf),
    plain.TlsMac: lambda p: parameters.structure(p.hash, p.length, p.role),
    plain.TlsKdf: lambda p: parameters.tls_kdf(p.label, p.seed, b""),
    plain.SignContext: _sign_context,
    plain.SshKdf: lambda p: parameters.ssh_kdf(p.hash, bytes((p.purpose,)), p.exchange_hash, p.session_id),
    plain.RsaAesKeyWrap: lambda p: parameters.structure(p.aes_key_bits, _oaep(p.oaep)),
}
