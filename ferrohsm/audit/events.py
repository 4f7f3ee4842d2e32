"""What is recorded, and the layout of an entry, which `pkcs11_abi/state/ring.h` shares.

An entry is 256 bytes, little-endian on every machine that we build for. It holds numbers, the names of a
chain and of one or two objects, and a few words; never a secret.
"""

from __future__ import annotations

import struct
import time

from ferrohsm import constants as ck
from ferrohsm.adapters import Function

LOGIN = 1
LOGOUT = 2
LOGIN_FOR_USE = 3
SET_USER_PIN = 4
CHANGE_PIN = 5
INITIALIZE = 6
DELETE_TOKEN = 7
RENAME_TOKEN = 8
CREATE = 16
CHANGE = 17
DESTROY = 18
SIGN = 32
VERIFY = 33
ENCRYPT = 34
DECRYPT = 35
SIGN_RECOVER = 36
VERIFY_RECOVER = 37
WRAP = 38
UNWRAP = 39
DERIVE = 40
ENCAPSULATE = 41
DECAPSULATE = 42
MESSAGE_ENCRYPT = 43
MESSAGE_DECRYPT = 44
DIGEST_KEY = 45
GENERATE = 46
MESSAGE_SIGN = 47
MESSAGE_VERIFY = 48
REFUSED = 64
ADAPTER_ERROR = 65
UNEXPECTED = 66
RESUMED = 80
PRUNED = 81
TORN = 82

NAMES = {
    LOGIN: "login",
    LOGOUT: "logout",
    LOGIN_FOR_USE: "login-for-use",
    SET_USER_PIN: "set-user-pin",
    CHANGE_PIN: "change-pin",
    INITIALIZE: "initialize-token",
    DELETE_TOKEN: "delete-token",
    RENAME_TOKEN: "rename-token",
    CREATE: "create",
    CHANGE: "change",
    DESTROY: "destroy",
    SIGN: "sign",
    VERIFY: "verify",
    ENCRYPT: "encrypt",
    DECRYPT: "decrypt",
    SIGN_RECOVER: "sign-recover",
    VERIFY_RECOVER: "verify-recover",
    WRAP: "wrap",
    UNWRAP: "unwrap",
    DERIVE: "derive",
    ENCAPSULATE: "encapsulate",
    DECAPSULATE: "decapsulate",
    MESSAGE_ENCRYPT: "message-encrypt",
    MESSAGE_DECRYPT: "message-decrypt",
    DIGEST_KEY: "digest-key",
    GENERATE: "generate",
    MESSAGE_SIGN: "message-sign",
    MESSAGE_VERIFY: "message-verify",
    REFUSED: "refused",
    ADAPTER_ERROR: "adapter-error",
    UNEXPECTED: "unexpected-error",
    RESUMED: "audit-resumed",
    PRUNED: "audit-pruned",
    TORN: "audit-torn",
}
"""The names of the events in the log."""

USES = {
    Function.SIGN: SIGN,
    Function.VERIFY: VERIFY,
    Function.ENCRYPT: ENCRYPT,
    Function.DECRYPT: DECRYPT,
    Function.SIGN_RECOVER: SIGN_RECOVER,
    Function.VERIFY_RECOVER: VERIFY_RECOVER,
    Function.WRAP: WRAP,
    Function.UNWRAP: UNWRAP,
    Function.DERIVE: DERIVE,
    Function.ENCAPSULATE: ENCAPSULATE,
    Function.DECAPSULATE: DECAPSULATE,
    Function.MESSAGE_ENCRYPT: MESSAGE_ENCRYPT,
    Function.MESSAGE_DECRYPT: MESSAGE_DECRYPT,
    Function.MESSAGE_SIGN: MESSAGE_SIGN,
    Function.MESSAGE_VERIFY: MESSAGE_VERIFY,
}
"""The event of a key's use, by the function's flag."""

ENTRY = struct.Struct("<QQQQQQQQQIiQ32s40s40s56s")
ENTRY_SIZE = 256
"""commit, count, taken, time, last, session, slot, mechanism, result, event, user, weight, chain, object,
other, detail. Times are nanoseconds since the epoch. `count` is more than that: see below."""
assert ENTRY.size == ENTRY_SIZE

CLOSED = 1 << 63
COUNT = (1 << 24) - 1
SPAN_SHIFT = 24
"""A count word: the count, the milliseconds from the first to the last, the lap, and whether it is closed."""
NONE = (1 << 64) - 1
"""No mechanism, no slot."""
NOBODY = -1
PART, LAST_PART = "first part", "last part"


def text(value: str | bytes, length: int) -> bytes:
    """Return a field of an entry: printable ASCII, cut to its length."""
    raw = value.encode("ascii", "replace") if isinstance(value, str) else bytes(value)
    return raw[:length]


def pack(
    event: int,
    chain: bytes,
    slot: int,
    *,
    session: int = 0,
    user: int = NOBODY,
    mechanism: int = NONE,
    result: int = ck.CKR_OK,
    object: bytes = b"",
    other: bytes = b"",
    detail: str = "",
    weight: int = 1,
) -> bytes:
    """Return an entry for what happened now; `weight` is N where one of N is recorded."""
    now = time.time_ns()
    return ENTRY.pack(
        0,
        CLOSED | 1,
        0,
        now,
        now,
        session,
        slot,
        mechanism,
        result & NONE,
        event,
        user,
        weight,
        chain,
        object[:40],
        other[:40],
        text(detail, 56),
    )
