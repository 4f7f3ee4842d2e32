"""A mechanism of the core as a backend's ``CK_MECHANISM``: the other way round of the ABI's decoders.

One function a kind of `ferrohsm.parameters.ParameterKind`. What a parameter points to is kept beside it, and
overwritten when the call is over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from ctypes import Structure, byref, c_ubyte, c_void_p, cast, sizeof
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Key
from ferrohsm.errors import MechanismInvalid, MechanismParamInvalid
from ferrohsm.mechanisms import parameter_kind
from ferrohsm.parameters import DkmLength, IntegerFormat, KeyReference, Mechanism, ParameterKind
from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, MechanismStructure, buffer_of, wipe
from ferrohsm_adapters.pkcs11_bridge.further import FurtherKeys

Handle = Callable[[Key], int]


class _Flag:
    """A ``CK_BBOOL``."""

    def __init__(self, value: bool) -> None:
        self.value = bytes([value])


class _Inside:
    """Bytes that stand in the structure itself."""

    def __init__(self, value: bytes) -> None:
        self.value = value


class NativeMechanism:
    """A ``CK_MECHANISM`` and all that it points to; `further` are keys that are derived with the first one.

    Raises `MechanismParamInvalid`, `MechanismInvalid`.
    """

    def __init__(self, mechanism: Mechanism, handle: Handle, further: FurtherKeys | None = None) -> None:
        self._kept: list[Any] = []
        self._handle = handle
        self.further = (0, None) if further is None else (further.count, cast(further.array, c_void_p))
        self.structure = MechanismStructure()
        self.structure.type = mechanism.type
        kind = parameter_kind(mechanism.type)
        if kind is None:
            raise MechanismInvalid(mechanism.name)
        try:
            made = KINDS[kind](self, mechanism.parameter)
        except (AttributeError, TypeError, ValueError):
            raise MechanismParamInvalid(mechanism.name) from None
        if made is not None:
            self.structure.parameter = cast(made, c_void_p) if not isinstance(made, Structure) else None
            if isinstance(made, Structure):
                self.structure.parameter = cast(byref(made), c_void_p)
            self.structure.length = sizeof(made)

    @property
    def pointer(self) -> Any:
        """What a function of the backend gets."""
        return byref(self.structure)

    def wipe(self) -> None:
        """Overwrite the parameter: a password may be in it."""
        for kept in self._kept:
            wipe(kept)

    # For the kinds

    def bytes(self, value: bytes | bytearray | None) -> Any:
        """Return bytes as a parameter, or None when there are none."""
        if value is None:
            return None
        buffer = buffer_of(value)
        self._kept.append(buffer)
        return buffer

    def pointer_to(self, value: bytes | bytearray | Structure | None) -> Any:
        """Return a pointer to bytes, or to a structure, that are kept; NULL for none."""
        if isinstance(value, Structure):
            return cast(byref(value), c_void_p)
        return None if not value else cast(self.bytes(value), c_void_p)

    def made(self, *items: Any) -> Structure:
        """Return a structure: numbers, flags, bytes inside, and pointers (already made, or None)."""
        types: list[tuple[str, Any]] = []
        values: list[Any] = []
        for index, item in enumerate(items):
            if isinstance(item, _Flag | _Inside):
                count = len(item.value)
                types.append((f"f{index}", c_ubyte * count))
                values.append((c_ubyte * count)(*item.value))
            elif isinstance(item, int):
                types.append((f"f{index}", ULONG))
                values.append(item)
            else:
                types.append((f"f{index}", c_void_p))
                values.append(item)
        layout = {"_fields_": types, **({"_pack_": 1} if sys.platform == "win32" else {})}
        structure: Structure = type("Parameter", (Structure,), layout)(*values)
        self._kept.append(structure)
        return structure

    def key(self, reference: KeyReference) -> int:
        """Return the backend's handle of a key that the parameter names."""
        return self._handle(reference.key)

    def sized(self, value: bytes | bytearray) -> tuple[Any, int]:
        """Return pointer and length."""
        return self.pointer_to(value), len(value)


def _gcm(native: NativeMechanism, p: Any) -> Structure:
    # The bits say the same as the bytes; old modules read them, and callers often leave them zero.
    return native.made(*native.sized(p.iv), p.iv_bits or len(p.iv) * 8, *native.sized(p.aad), p.tag_bits)


def _oaep(native: NativeMechanism, p: Any) -> Structure:
    return native.made(p.hash, p.mgf, p.source, *native.sized(p.source_data))


def _ecdh(native: NativeMechanism, p: Any) -> Structure:
    shared, public = native.sized(p.shared_data), native.sized(p.public_data)
    return native.made(p.kdf, shared[1], shared[0], public[1], public[0])


def _eddsa(native: NativeMechanism, p: Any) -> Structure | None:
    if p is None:
        return None
    pointer, length = native.sized(p.context)
    return native.made(_Flag(p.prehash), length, pointer)


def _chacha20(native: NativeMechanism, p: Any) -> Structure:
    counter, nonce = native.sized(p.counter), native.sized(p.nonce)
    return native.made(counter[0], counter[1] * 8, nonce[0], nonce[1] * 8)


def _hkdf(native: NativeMechanism, p: Any) -> Structure:
    kind, pointer, length, key = ck.CKF_HKDF_SALT_NULL, None, 0, 0
    if isinstance(p.salt, KeyReference):
        kind, key = ck.CKF_HKDF_SALT_KEY, native.key(p.salt)
    elif p.salt is not None:
        kind, (pointer, length) = ck.CKF_HKDF_SALT_DATA, native.sized(p.salt)
    flags = (_Flag(p.extract), _Flag(p.expand))
    return native.made(*flags, p.hash, kind, pointer, length, key, *native.sized(p.info))


def _prf_data(native: NativeMechanism, p: Any) -> tuple[int, Any]:
    """Return the number of data parameters and a pointer to them."""
    items: list[Any] = []
    for part in p.data:
        value = part.value
        inner: Any = None
        if isinstance(value, IntegerFormat):
            inner = native.made(_Flag(value.little_endian), value.bits)
        elif isinstance(value, DkmLength):
            inner = native.made(value.method, _Flag(value.little_endian), value.bits)
        elif isinstance(value, KeyReference):
            inner = native.made(native.key(value))
        elif value is not None:
            items += [part.type, *native.sized(value)]
            continue
        items += [part.type, native.pointer_to(inner), 0 if inner is None else sizeof(inner)]
    return len(p.data), native.pointer_to(native.made(*items)) if items else None


def _sp800_108(native: NativeMechanism, p: Any) -> Structure:
    return native.made(p.prf, *_prf_data(native, p), *native.further)


def _sp800_108_feedback(native: NativeMechanism, p: Any) -> Structure:
    vector, length = native.sized(p.iv)
    return native.made(p.prf, *_prf_data(native, p), length, vector, *native.further)


def _pbkd2(native: NativeMechanism, p: Any) -> Structure:
    salt, password = native.sized(p.salt), native.sized(p.password)
    return native.made(ck.CKZ_SALT_SPECIFIED, *salt, p.iterations, p.prf, None, 0, *password)


def _ecdh_aes_key_wrap(native: NativeMechanism, p: Any) -> Structure:
    pointer, length = native.sized(p.shared_data)
    return native.made(p.aes_key_bits, p.kdf, length, pointer)


def _cbc_encrypt_data(native: NativeMechanism, p: Any) -> Structure:
    return native.made(_Inside(p.iv), *native.sized(p.data))


def _sign_context(native: NativeMechanism, p: Any) -> Structure | None:
    return None if p is None else native.made(p.hedge, *native.sized(p.context))


def _number(native: NativeMechanism, p: Any) -> Structure:
    return native.made(int(p))


def _bytes(native: NativeMechanism, p: Any) -> Any:
    return native.bytes(p)


_KIND = ParameterKind


def _nothing(native: NativeMechanism, parameter: object) -> None:
    if parameter is not None:
        raise MechanismParamInvalid


KINDS: dict[str, Callable[[NativeMechanism, Any], Any]] = {
    _KIND.NONE: _nothing,
    _KIND.IV16: _bytes,
    _KIND.IV8: _bytes,
    _KIND.IV4: _bytes,
    _KIND.IV64: _bytes,
    _KIND.BYTES: _bytes,
    _KIND.ULONG: _number,
    _KIND.CTR: lambda native, p: native.made(p.counter_bits, _Inside(p.block)),
    _KIND.GCM: _gcm,
    _KIND.CCM: lambda native, p: native.made(
        p.data_length, *native.sized(p.nonce), *native.sized(p.aad), p.mac_length
    ),
    _KIND.RSA_PSS: lambda native, p: native.made(p.hash, p.mgf, p.salt_length),
    _KIND.RSA_OAEP: _oaep,
    _KIND.ECDH1: _ecdh,
    _KIND.EDDSA: _eddsa,
    _KIND.STRING: lambda native, p: native.made(*native.sized(p)),
    _KIND.CBC_ENCRYPT_DATA: _cbc_encrypt_data,
    _KIND.DES_CBC_ENCRYPT_DATA: _cbc_encrypt_data,
    _KIND.RSA_AES_KEY_WRAP: lambda native, p: native.made(
        p.aes_key_bits, native.pointer_to(_oaep(native, p.oaep))
    ),
    _KIND.KEY: lambda native, p: native.made(native.key(p)),
    _KIND.CHACHA20: _chacha20,
    _KIND.CHACHA20_POLY1305: lambda native, p: native.made(*native.sized(p.nonce), *native.sized(p.aad)),
    _KIND.HKDF: _hkdf,
    _KIND.SP800_108: _sp800_108,
    _KIND.SP800_108_FEEDBACK: _sp800_108_feedback,
    _KIND.PBKD2: _pbkd2,
    _KIND.ECDH_AES_KEY_WRAP: _ecdh_aes_key_wrap,
    _KIND.SIGN_CONTEXT: _sign_context,
    _KIND.HASH_SIGN_CONTEXT: lambda native, p: native.made(p.hedge, *native.sized(p.context), p.hash),
}
