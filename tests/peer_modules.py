"""Where Debian's packages put the modules of others that the tests drive; the first that is there counts."""

from __future__ import annotations

import sys

LIBRARIES = f"/usr/lib/{getattr(sys.implementation, '_multiarch', 'x86_64-linux-gnu')}"
SOFTHSM2 = ("/usr/lib/softhsm/libsofthsm2.so", f"{LIBRARIES}/softhsm/libsofthsm2.so")
NSS = (f"{LIBRARIES}/libsoftokn3.so", f"{LIBRARIES}/nss/libsoftokn3.so")
