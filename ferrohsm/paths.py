"""Where things are: the library that programs load, the headers, the configuration and the tokens."""

from __future__ import annotations

import os
import sys

_LIBRARY = {"win32": "pkcs11.dll", "darwin": "libpkcs11.dylib"}.get(sys.platform, "libpkcs11.so")


def _abi() -> str:
    """Return the installed folder of the ABI, which stands beside this package."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pkcs11_abi")


def module() -> str:
    """Return the absolute path of the PKCS#11 library, for programs that ask for a module or provider."""
    return os.path.join(_abi(), _LIBRARY)


def include() -> str:
    """Return the folder that holds ``pkcs11.h`` and ``ferrohsm_kernel.h``."""
    return os.path.join(_abi(), "include")


def config() -> str | None:
    """Return the configuration file in use, else where one would be looked for first.

    None when there is no place for one (no home directory and no ``FERROHSM_CONF``).
    Raises `ferrohsm.errors.HsmError` when the file is wrong.
    """
    from ferrohsm import config

    loaded = config.load()
    if loaded.path is not None:
        return loaded.path
    places = config.candidates()
    return places[0] if places else None


def data() -> str | None:
    """Return the folder that holds the tokens, or None when there is none (no home directory).

    Raises `ferrohsm.errors.HsmError` when the configuration is wrong.
    """
    from ferrohsm import config

    return config.load().data_dir
