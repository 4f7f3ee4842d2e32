"""The interpreter's own SHA-256, which needs nothing of the process's OpenSSL.

`hashlib` computes with the libcrypto of the process. Its exit handler may have run when a program calls
``C_Finalize`` in an exit handler of its own, and then it crashes; and the host's configuration may have taken
algorithms away. The hash that the interpreter brings along has neither trouble.
"""

from __future__ import annotations

import sys

from ferrohsm.typed import Any

try:
    if sys.version_info >= (3, 12):
        from _sha2 import sha256 as _sha256
    else:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256 as _sha256

sha256: Any = _sha256
