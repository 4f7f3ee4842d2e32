"""The parameter structures of mechanisms as a C program lays them out, without naming each in ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

from cryptoki import buffer

from ferrohsm import constants as ck


def structure(*fields: Any) -> Any:
    """Return a C structure: numbers are CK_ULONGs, bools CK_BBOOLs, the rest pointers to what is given.

    None is a NULL pointer, bytes a pointer to them, a list an array of structures.
    """
    types: list[tuple[str, Any]] = []
    values: list[Any] = []
    kept: list[Any] = []
    for place, field in enumerate(fields):
        if isinstance(field, bool):
            kind, value = ctypes.c_ubyte, int(field)
        elif isinstance(field, int):
            kind, value = ctypes.c_ulong, field
        else:
            kind, value = ctypes.c_void_p, None
            if field is not None:
                memory = _memory(field)
                kept.append(memory)
                value = ctypes.addressof(memory)
        types.append((f"f{place}", kind))
        values.append(value)
    made_type = type("Parameters", (ctypes.Structure,), {"_fields_": types})
    made = made_type(*values)
    made.inner = kept
    return made


def _memory(field: Any) -> Any:
    if isinstance(field, bytes):
        return buffer(field)
    if not isinstance(field, list):
        return field
    size = sum(ctypes.sizeof(part) for part in field)
    memory = (ctypes.c_ubyte * size).from_buffer_copy(b"".join(bytes(part) for part in field))
    memory.inner = field
    return memory


def string(data: bytes) -> Any:
    """CK_KEY_DERIVATION_STRING_DATA."""
    return structure(data, len(data))


def cbc_data(iv: bytes, data: bytes) -> bytes:
    """CK_AES_CBC_ENCRYPT_DATA_PARAMS and its like; `data` must outlive the call."""
    memory = buffer(data)
    packed = iv + ctypes.addressof(memory).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    _kept.append(memory)
    return packed


_kept: list[Any] = []


def gcm(iv: bytes, aad: bytes = b"", tag_bits: int = 128) -> Any:
    """CK_GCM_PARAMS."""
    return structure(iv, len(iv), len(iv) * 8, aad, len(aad), tag_bits)


def ccm(length: int, nonce: bytes, aad: bytes = b"", mac: int = 16) -> Any:
    """CK_CCM_PARAMS."""
    return structure(length, nonce, len(nonce), aad, len(aad), mac)


def hkdf(
    hash: int,
    *,
    extract: bool = True,
    expand: bool = True,
    salt: bytes | int | None = None,
    info: bytes = b"",
) -> Any:
    """CK_HKDF_PARAMS; a number as salt is the handle of a key."""
    kind = ck.CKF_HKDF_SALT_NULL
    data, handle = b"", 0
    if isinstance(salt, bytes):
        kind, data = ck.CKF_HKDF_SALT_DATA, salt
    elif salt is not None:
        kind, handle = ck.CKF_HKDF_SALT_KEY, salt
    return structure(extract, expand, hash, kind, data, len(data), handle, info, len(info))


def counter(bits: int = 32, little_endian: bool = False) -> Any:
    """CK_SP800_108_COUNTER_FORMAT."""
    return structure(little_endian, bits)


def dkm_length(bits: int = 32, method: int = ck.CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS) -> Any:
    """CK_SP800_108_DKM_LENGTH_FORMAT."""
    return structure(method, False, bits)


def piece(type: int, value: Any) -> Any:
    """CK_PRF_DATA_PARAM."""
    if isinstance(value, int):
        value = structure(value)
    size = 0 if value is None else len(value) if isinstance(value, bytes) else ctypes.sizeof(value)
    return structure(type, value, size)


def sp800_108(prf: int, *pieces: Any) -> Any:
    """CK_SP800_108_KDF_PARAMS."""
    return structure(prf, len(pieces), list(pieces), 0, None)


def sp800_108_feedback(prf: int, iv: bytes, *pieces: Any) -> Any:
    """CK_SP800_108_FEEDBACK_KDF_PARAMS."""
    return structure(prf, len(pieces), list(pieces), len(iv), iv or None, 0, None)


def pbkd2(password: bytes, salt: bytes, iterations: int, prf: int) -> Any:
    """CK_PKCS5_PBKD2_PARAMS2."""
    return structure(
        ck.CKZ_SALT_SPECIFIED, salt, len(salt), iterations, prf, None, 0, password, len(password)
    )


def oaep(hash: int = ck.CKM_SHA256, mgf: int = ck.CKG_MGF1_SHA256) -> Any:
    """CK_RSA_PKCS_OAEP_PARAMS."""
    return structure(hash, mgf, ck.CKZ_DATA_SPECIFIED, None, 0)
