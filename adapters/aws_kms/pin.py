"""A PIN for this side of KMS: ``python -m ferrohsm_adapters.aws_kms.pin > FILE`` writes the ``pin_file``.

It keeps users of one process or machine apart; whoever has the AWS credentials does not need it.
"""

from __future__ import annotations

import hashlib
import os
from _thread import allocate_lock
from hmac import compare_digest

from ferrohsm.errors import GeneralError, PinIncorrect, PinLocked

_COST, _BLOCK, _LANES = 2**14, 8, 1
_MOST = 4096  # bytes of the file


class Gate:
    """The PIN and the tries that are left; they are counted in this process."""

    def __init__(self, path: str, tries: int) -> None:
        from ferrohsm.store.files import load

        try:
            text = bytes(load(path, _MOST)).decode("ascii", "replace").strip()
        except OSError as error:
            raise GeneralError(f"{path}: cannot be read: {error.strerror}") from None
        self._salt, self._hash = _parsed(text, path)
        self.tries = tries
        self.left = tries
        self._lock = allocate_lock()

    def check(self, pin: bytearray) -> None:
        """Count a try, then look. Raises `PinIncorrect`, `PinLocked`. Takes some milliseconds."""
        with self._lock:
            if self.left == 0:
                raise PinLocked
            self.left -= 1
            # One after the other: a right PIN must not undo a lock that others have brought about meanwhile.
            if not compare_digest(_hashed(pin, self._salt), self._hash):
                raise PinIncorrect if self.left else PinLocked
            self.left = self.tries


def record(pin: bytes | bytearray) -> str:
    """Return what the file holds for a PIN."""
    salt = os.urandom(16)
    return f"scrypt:{salt.hex()}:{_hashed(pin, salt).hex()}"


def _parsed(text: str, path: str) -> tuple[bytes, bytes]:
    try:
        name, salt, hash = text.split(":")
        parsed = bytes.fromhex(salt), bytes.fromhex(hash)
    except ValueError:
        name, parsed = "", (b"", b"")
    if name != "scrypt" or len(parsed[1]) != 32:
        raise GeneralError(f"{path}: is not what python -m ferrohsm_adapters.aws_kms.pin writes")
    return parsed


def _hashed(pin: bytes | bytearray, salt: bytes) -> bytes:
    return hashlib.scrypt(pin, salt=salt, n=_COST, r=_BLOCK, p=_LANES, dklen=32)


def main() -> None:
    """Ask for a PIN twice and print its record."""
    import getpass
    import sys

    pin = getpass.getpass("PIN: ", sys.stderr)
    if pin != getpass.getpass("Again: ", sys.stderr):
        sys.exit("the two are not the same")
    print(record(pin.encode()))


if __name__ == "__main__":
    main()
