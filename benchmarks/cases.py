"""What is measured: one row a case."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

from ferrohsm import constants as ck

KIB = 1024


_LATTICES = frozenset((ck.CKM_ML_DSA, ck.CKM_ML_KEM, ck.CKM_ML_DSA_KEY_PAIR_GEN, ck.CKM_ML_KEM_KEY_PAIR_GEN))


class Case(NamedTuple):
    """One measurement.

    `operation`, `size`, `parts` and `mechanism` are the driver's; `objects` is how many token objects must be
    there; `unit` is ``us`` (microseconds an operation) or ``B`` (bytes); only ``--full`` runs what is `full`.
    """

    name: str
    operation: str
    size: int = 0
    parts: int = 0
    mechanism: int = 0
    objects: int = 0
    unit: str = "us"
    full: bool = False
    threads: bool = True

    @property
    def is_lattice(self) -> bool:
        """Whether it is about ML-DSA or ML-KEM."""
        return self.mechanism in _LATTICES


def _sizes(
    prefix: str, operation: str, mechanism: int, sizes: Sequence[int], parts: Sequence[int]
) -> list[Case]:
    single = [Case(f"{prefix}-{_size(size)}", operation, size, 0, mechanism) for size in sizes]
    multi = [Case(f"{prefix}-{_size(size)}-parts", operation, size, 1, mechanism) for size in parts]
    return single + multi


def _size(size: int) -> str:
    for unit, bytes_ in (("M", KIB * KIB), ("K", KIB)):
        if size % bytes_ == 0:
            return f"{size // bytes_}{unit}"
    return str(size)


_SIZES = (64, KIB, 16 * KIB, KIB * KIB)

CASES: tuple[Case, ...] = (
    Case("load-initialize", "load", threads=False),
    Case("open-login", "login", threads=False),
    Case("session-info", "session-info"),
    Case("session-open-close", "session-open-close"),
    Case("random-32", "random", 32),
    Case("random-4K", "random", 4 * KIB),
    *_sizes("sha256", "digest", ck.CKM_SHA256, (64, KIB, 16 * KIB), (16 * KIB,)),
    *_sizes("sha512", "digest", ck.CKM_SHA512, (64, 16 * KIB), ()),
    *_sizes("hmac-sha256", "hmac", ck.CKM_SHA256_HMAC, (64, 16 * KIB), ()),
    *_sizes("aes-cbc-pad", "cipher", ck.CKM_AES_CBC_PAD, _SIZES, _SIZES),
    *_sizes("aes-gcm", "cipher", ck.CKM_AES_GCM, _SIZES, _SIZES),
    *_sizes("aes-ctr", "cipher", ck.CKM_AES_CTR, _SIZES, _SIZES),
    Case("rsa-2048-sign", "sign", 64, 0, ck.CKM_SHA256_RSA_PKCS),
    Case("rsa-2048-verify", "verify", 64, 0, ck.CKM_SHA256_RSA_PKCS),
    Case("ecdsa-p256-sign", "sign", 32, 0, ck.CKM_ECDSA),
    Case("ecdsa-p256-verify", "verify", 32, 0, ck.CKM_ECDSA),
    Case("ed25519-sign", "sign", 64, 0, ck.CKM_EDDSA),
    Case("ed25519-verify", "verify", 64, 0, ck.CKM_EDDSA),
    Case("ecdh-p256", "agree", 0, 0, ck.CKM_ECDH1_DERIVE),
    Case("ml-dsa-65-sign", "sign", 64, 0, ck.CKM_ML_DSA),
    Case("ml-dsa-65-verify", "verify", 64, 0, ck.CKM_ML_DSA),
    Case("ml-kem-768-encapsulate", "encapsulate", 0, 0, ck.CKM_ML_KEM),
    Case("ml-kem-768-decapsulate", "decapsulate", 0, 0, ck.CKM_ML_KEM),
    Case("slh-dsa-sha2-128f-sign", "sign", 64, 0, ck.CKM_SLH_DSA),
    Case("slh-dsa-sha2-128f-verify", "verify", 64, 0, ck.CKM_SLH_DSA),
    Case("generate-aes-256", "generate-secret", 0, 0, ck.CKM_AES_KEY_GEN),
    Case("generate-p256", "generate-pair", 0, 0, ck.CKM_EC_KEY_PAIR_GEN),
    Case("generate-ed25519", "generate-pair", 0, 0, ck.CKM_EC_EDWARDS_KEY_PAIR_GEN),
    Case("generate-rsa-2048", "generate-pair", 0, 0, ck.CKM_RSA_PKCS_KEY_PAIR_GEN),
    Case("generate-ml-dsa-65", "generate-pair", 0, 0, ck.CKM_ML_DSA_KEY_PAIR_GEN),
    Case("generate-ml-kem-768", "generate-pair", 0, 0, ck.CKM_ML_KEM_KEY_PAIR_GEN),
    Case("generate-slh-dsa-sha2-128f", "generate-pair", 0, 0, ck.CKM_SLH_DSA_KEY_PAIR_GEN),
    Case("session-object", "session-object"),
    Case("token-object", "token-object"),
    *(Case(f"sessions-{count}", "sessions", count, 0, ck.CKM_SHA256, threads=False)
      for count in (1, 10, 100, 1000, 10_000)),
    Case("memory-process", "memory", unit="B", threads=False),
    Case("memory-session", "memory", 5000, unit="B", threads=False),
    Case("memory-session-object", "memory", 1000, unit="B", threads=False),
    *(
        Case(f"{what}-{label}", what, count, 0, 0, count, full=count > 10_000, threads=False)
        for count, label in ((100, "100"), (10_000, "10K"), (1_000_000, "1M"))
        for what in ("find-label", "find-same-label", "find-id", "read")
    ),
    Case("read-one-object", "read-one", 100, objects=100),
    Case("memory-object-read", "memory", 0, objects=10_000, unit="B", threads=False),
    Case("tls-handshake", "tls", full=True, threads=False),
)  # fmt: skip

# What a quick run leaves out unless it is asked for by name: minutes of preparation.
_SLOW = {f"{what}-10K" for what in ("find-label", "find-same-label", "find-id", "read")} | {
    "sessions-10000",
    "memory-object-read",
}


def choose(patterns: Sequence[str], *, full: bool = False, quick: bool = False) -> list[Case]:
    """Return the cases whose names match one of the patterns; without patterns, the usual ones."""
    if patterns:
        return [case for case in CASES if any(fnmatch.fnmatchcase(case.name, one) for one in patterns)]
    return [case for case in CASES if (full or not case.full) and not (quick and case.name in _SLOW)]
