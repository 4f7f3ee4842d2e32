"""The mechanism table: one row a mechanism (PKCS#11 3.2, "Mechanisms").

The ABI reads the kind of parameter from here, the core what a mechanism may do with which keys, an
engine its family. Adding a mechanism of a known family is adding its row.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm import (
    rows_asymmetric,
    rows_derivation,
    rows_finite_field,
    rows_hash,
    rows_postquantum,
    rows_protocols,
    rows_symmetric,
)
from ferrohsm.mechanism_row import (
    HASHES,
    HMAC_KEY_TYPES,
    RSA_MAX_BITS,
    RSA_MIN_BITS,
    SECRET_MAX_BYTES,
    Hash,
    Row,
)

__all__ = [
    "HASHES",
    "HMAC_KEY_TYPES",
    "ROWS",
    "RSA_MAX_BITS",
    "RSA_MIN_BITS",
    "SECRET_MAX_BYTES",
    "Hash",
    "Row",
    "hash_of_digest",
    "hash_of_kdf",
    "hash_of_mgf",
    "parameter_kind",
    "register",
    "row_of",
]

ROWS: dict[int, Row] = {}

for _part in (
    rows_asymmetric,
    rows_finite_field,
    rows_symmetric,
    rows_hash,
    rows_derivation,
    rows_protocols,
    rows_postquantum,
):
    for _row in _part.rows():
        if _row.type in ROWS:
            raise TypeError(f"two rows for {ck.name('CKM', _row.type)}")
        ROWS[_row.type] = _row

_BY_DIGEST = {hash.type: hash.name for hash in HASHES.values()}
_BY_MGF = {hash.mgf: hash.name for hash in HASHES.values() if hash.mgf}
_BY_KDF = {hash.kdf: hash.name for hash in HASHES.values() if hash.kdf}
_BY_KDF_SP800 = {hash.kdf_sp800: hash.name for hash in HASHES.values() if hash.kdf_sp800}


def register(row: Row) -> None:
    """Add a vendor's mechanism, for an adapter that has one of its own (``CKM_VENDOR_DEFINED`` and above).

    The row's family is ``"vendor"``. The same row may be added again; another one of that type is a
    ValueError.
    """
    if row.type < ck.CKM_VENDOR_DEFINED or row.family != "vendor":
        raise ValueError(f"{row.type:#x} is no vendor's mechanism")
    if ROWS.setdefault(row.type, row) != row:
        raise ValueError(f"two rows for {row.type:#x}")


_bridged: dict[int, Row] = {}


def row_of(type: int) -> Row | None:
    """Return the row of a mechanism, of ours or of one that only a backend computes; None: not known."""
    row = ROWS.get(type)
    if row is not None:
        return row
    if not _bridged:
        from ferrohsm.rows_bridged import rows

        _bridged.update((row.type, row) for row in rows())
    return _bridged.get(type)


def parameter_kind(type: int) -> str | None:
    """Return the `ParameterKind` of a mechanism, None for one that is not in the table."""
    row = row_of(type)
    return None if row is None else row.parameter


def hash_of_digest(type: int) -> str | None:
    """Return the name of the hash whose digest mechanism (``CKM_SHA256`` …) is `type`."""
    return _BY_DIGEST.get(type)


def hash_of_mgf(mgf: int) -> str | None:
    """Return the name of the hash of a mask generation function (``CKG_MGF1_*``)."""
    return _BY_MGF.get(mgf)


def hash_of_kdf(kdf: int) -> tuple[str | None, bool]:
    """Return the hash of a ``CKD_*`` and whether it is the SP 800-56A form (else ANSI X9.63)."""
    if kdf in _BY_KDF:
        return _BY_KDF[kdf], False
    return _BY_KDF_SP800.get(kdf), True
