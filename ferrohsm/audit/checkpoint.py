"""Checkpoints: what a chain was at one moment, signed, to be kept where the log is not.

Whoever can write the token's directory can put back the whole of it, log and head, as they were yesterday.
Only something that was kept elsewhere tells.
"""

from __future__ import annotations

import json
import time

from ferrohsm.audit.record import stamp
from ferrohsm.errors import DataInvalid
from ferrohsm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ferrohsm.audit.chain import Place

_KIND = "FerroHSM audit checkpoint 1"


class Checkpoint(NamedTuple):
    """A chain's name, its last record at a time, and the key that says so (raw Ed25519)."""

    chain: str
    sequence: int
    digest: str
    time: str
    key: str

    def said(self) -> bytes:
        """Return what is signed."""
        facts = (_KIND, self.chain, str(self.sequence), self.digest, self.time, self.key)
        return "\n".join(facts).encode()


def _signer(place: Place) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(place.signing_seed)


def public_key(place: Place) -> str:
    """Return the key that a chain's checkpoints are signed with, in hexadecimal."""
    return _signer(place).public_key().public_bytes_raw().hex()


def make(place: Place, sequence: int, digest: str) -> str:
    """Return a checkpoint as JSON."""
    made = Checkpoint(place.name, sequence, digest, stamp(time.time_ns()), public_key(place))
    signature = _signer(place).sign(made.said()).hex()
    return json.dumps({"kind": _KIND, **made._asdict(), "signature": signature}, indent=2) + "\n"


def read(text: str, place: Place, trusted: str | None = None) -> Checkpoint:
    """Return a checkpoint that was signed with the chain's own key, or with the one that is `trusted`.

    Raises `DataInvalid` when it is not.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        document = json.loads(text)
        found = Checkpoint(
            str(document["chain"]),
            int(document["sequence"]),
            str(document["digest"]),
            str(document["time"]),
            str(document["key"]),
        )
        signature = bytes.fromhex(document["signature"])
        if document["kind"] != _KIND:
            raise KeyError
    except (ValueError, KeyError, TypeError):
        raise DataInvalid("this is no checkpoint") from None
    if found.chain != place.name:
        raise DataInvalid(f"the checkpoint is of another chain, {found.chain}")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted or public_key(place)))
        key.verify(signature, found.said())
    except (InvalidSignature, ValueError):
        raise DataInvalid("the checkpoint's signature is wrong") from None
    return found
