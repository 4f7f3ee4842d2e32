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


def pbe(password: bytes, salt: bytes, iterations: int, iv: Any = None) -> Any:
    """CK_PBE_PARAMS; `iv` is memory for 8 bytes."""
    return structure(iv, password, len(password), salt, len(salt), iterations)


def otp_parameters(*given: tuple[int, Any]) -> Any:
    """CK_OTP_PARAMS; None is a NULL pointer, a number a CK_ULONG."""
    return structure([piece(*pair) for pair in given] or None, len(given))


def oaep(hash: int = ck.CKM_SHA256, mgf: int = ck.CKG_MGF1_SHA256) -> Any:
    """CK_RSA_PKCS_OAEP_PARAMS."""
    return structure(hash, mgf, ck.CKZ_DATA_SPECIFIED, None, 0)


class CkRandoms(ctypes.Structure):
    """CK_SSL3_RANDOM_DATA inside another structure."""

    _fields_ = [
        ("client", ctypes.c_void_p), ("client_length", ctypes.c_ulong),
        ("server", ctypes.c_void_p), ("server_length", ctypes.c_ulong),
    ]  # fmt: skip


class CkTlsMaster(ctypes.Structure):
    """CK_TLS12_MASTER_KEY_DERIVE_PARAMS."""

    _fields_ = [("randoms", CkRandoms), ("version", ctypes.c_void_p), ("hash", ctypes.c_ulong)]


class CkKeyMaterialOut(ctypes.Structure):
    """CK_SSL3_KEY_MAT_OUT."""

    _fields_ = [
        *((name, ctypes.c_ulong) for name in ("client_mac", "server_mac", "client_key", "server_key")),
        ("client_iv", ctypes.c_void_p), ("server_iv", ctypes.c_void_p),
    ]  # fmt: skip


class CkKeyMaterial(ctypes.Structure):
    """CK_TLS12_KEY_MAT_PARAMS."""

    _fields_ = [
        *((name, ctypes.c_ulong) for name in ("mac_bits", "key_bits", "iv_bits")),
        ("export", ctypes.c_ubyte), ("randoms", CkRandoms),
        ("out", ctypes.c_void_p), ("hash", ctypes.c_ulong),
    ]  # fmt: skip


class CkTlsKdf(ctypes.Structure):
    """CK_TLS_KDF_PARAMS."""

    _fields_ = [
        ("prf", ctypes.c_ulong), ("label", ctypes.c_void_p), ("label_length", ctypes.c_ulong),
        ("randoms", CkRandoms), ("context", ctypes.c_void_p), ("context_length", ctypes.c_ulong),
    ]  # fmt: skip


def _randoms(client: bytes, server: bytes) -> CkRandoms:
    return CkRandoms(_kept_at(client), len(client), _kept_at(server), len(server))


def _kept_at(data: bytes) -> int:
    memory = buffer(data)
    _kept.append(memory)
    return ctypes.addressof(memory)


def tls_master(client: bytes, server: bytes, version: Any = None, hash: int = ck.CKM_SHA256) -> CkTlsMaster:
    """CK_TLS12_MASTER_KEY_DERIVE_PARAMS; `version` is two bytes of memory."""
    return CkTlsMaster(_randoms(client, server), version and ctypes.addressof(version), hash)


def key_material(
    bits: tuple[int, int, int], client: bytes, server: bytes, hash: int = ck.CKM_SHA256
) -> tuple[CkKeyMaterial, CkKeyMaterialOut, tuple[Any, Any]]:
    """CK_TLS12_KEY_MAT_PARAMS, what it returns, and the memory of the IVs."""
    ivs = (ctypes.create_string_buffer(64), ctypes.create_string_buffer(64))
    out = CkKeyMaterialOut(0, 0, 0, 0, ctypes.addressof(ivs[0]), ctypes.addressof(ivs[1]))
    made = CkKeyMaterial(*bits, 0, _randoms(client, server), ctypes.addressof(out), hash)
    made.kept = out, ivs
    return made, out, ivs


def tls_kdf(label: bytes, client: bytes, server: bytes, context: bytes | None = None) -> CkTlsKdf:
    """CK_TLS_KDF_PARAMS with SHA-256."""
    place, length = (None, 0) if context is None else (_kept_at(context), len(context))
    randoms = _randoms(client, server)
    return CkTlsKdf(ck.CKM_SHA256, _kept_at(label), len(label), randoms, place, length)


class CkSshKdf(ctypes.Structure):
    """CK_KRYOPTIC_SSHKDF_PARAMS."""

    _fields_ = [
        ("hash", ctypes.c_ulong), ("purpose", ctypes.c_ubyte),
        ("exchange_hash", ctypes.c_void_p), ("exchange_hash_length", ctypes.c_ulong),
        ("session_id", ctypes.c_void_p), ("session_id_length", ctypes.c_ulong),
    ]  # fmt: skip


def ssh_kdf(hash: int, purpose: bytes, exchange_hash: bytes, session_id: bytes) -> CkSshKdf:
    """CK_KRYOPTIC_SSHKDF_PARAMS; `purpose` is one letter."""
    strings = (part for data in (exchange_hash, session_id) for part in (_kept_at(data), len(data)))
    return CkSshKdf(hash, purpose[0], *strings)


def ike_prf(
    ni: bytes,
    nr: bytes,
    *,
    data_as_key: bool = False,
    new_key: int | None = None,
    prf: int = ck.CKM_SHA256_HMAC,
) -> Any:
    """CK_IKE_PRF_DERIVE_PARAMS."""
    rekey = new_key is not None
    return structure(prf, data_as_key, rekey, ni, len(ni), nr, len(nr), new_key or 0)


def ike1_prf(
    shared: int,
    previous: int | None,
    cookies: tuple[bytes, bytes],
    number: int,
    prf: int = ck.CKM_SHA256_HMAC,
) -> bytes:
    """CK_IKE1_PRF_DERIVE_PARAMS."""
    ci, cr = cookies
    head = structure(
        prf, previous is not None, shared, previous or 0,
        _kept_at(ci), len(ci), _kept_at(cr), len(cr),
    )  # fmt: skip
    return bytes(head) + bytes((number,)) + bytes(7)


def ike_expansion(key: int | None, data: bytes, prf: int = ck.CKM_SHA256_HMAC) -> Any:
    """CK_IKE1_EXTENDED_DERIVE_PARAMS and CK_IKE2_PRF_PLUS_DERIVE_PARAMS."""
    return structure(prf, key is not None, key or 0, data or None, len(data))
