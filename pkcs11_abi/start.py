"""What the loader has Python do before it imports the ABI.

In an interpreter that the loader started, sys.path is that of our own environment. In a host program's
interpreter nothing is added to sys.path: a finder serves our own packages from our own site-packages, and
their dependencies only when the host has none.
"""

from __future__ import annotations

import sys

OWN = frozenset({"ferrohsm", "ferrohsm_adapters", "pkcs11_abi"})
DEPENDENCIES = frozenset({"cryptography", "cffi", "_cffi_backend", "pycparser"})
CRYPTOGRAPHY = (50, 0)  # as pyproject.toml asks for it
# What lies in many environments and changes nothing but how distutils is found.
HARMLESS = frozenset({"distutils-precedence.pth", "_virtualenv.pth"})


class _Guard:
    """Stands first on sys.meta_path and lets none of our modules in once the installation was upgraded.

    Most of ours are imported at C_Initialize, some (with `cryptography` behind them) at the first use of
    what they do. Those must come from the build that the rest is from.
    """

    def __init__(self, site: str, build_id: str) -> None:
        import os

        self.file = os.path.join(site, "ferrohsm", "_build.py")
        self.build_id = build_id
        self.state = self._state()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse one of our modules if the file with the build id is another now; find nothing ourselves."""
        if name.partition(".")[0] not in OWN:
            return
        state = self._state()
        if state == self.state:
            return
        try:
            with open(self.file, encoding="utf-8") as file:
                same = f'"{self.build_id}"' in file.read()
        except OSError:
            same = False
        if not same:
            from ferrohsm import log
            from ferrohsm.errors import GeneralError

            said = "the installation was upgraded while this process was running: restart the process"
            log.event("error", said, module=name)
            raise GeneralError(said)
        self.state = state

    def _state(self) -> tuple[int, int, int] | None:
        import os

        try:
            status = os.stat(self.file)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


class _Finder:
    """A finder on sys.meta_path for some top-level names in one site-packages folder."""

    def __init__(self, site: str, names: frozenset[str]) -> None:
        self.site = site
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Return the spec of one of our names, else None."""
        if path is not None or name not in self.names:
            return None
        from importlib.machinery import PathFinder

        return PathFinder.find_spec(name, [self.site])


def needs_site(site: str) -> bool:
    """Say whether Python's `site` module would find anything but what lies in our own site-packages.

    It takes a tenth of C_Initialize, and in a virtual environment of its own the module needs nothing of it.
    It is run at the start or not at all: what ``.pth`` files do is not made for the middle of an import.
    """
    import os

    environment = os.path.dirname(os.path.dirname(os.path.dirname(site)))
    try:
        with open(os.path.join(environment, "pyvenv.cfg"), encoding="utf-8") as file:
            settings = [line.replace(" ", "").strip().lower() for line in file]
        names = os.listdir(site)
    except (OSError, ValueError):
        return True  # the system's Python, which has more than one such folder
    return (
        "include-system-site-packages=false" not in settings
        or sys.platlibdir != "lib"
        or "sitecustomize.py" in names
        or any(name.endswith(".pth") and name not in HARMLESS for name in names)
    )


def prepare(site: str, hosted: int, before_fork: object, after_fork_parent: object) -> str:
    """Make our packages importable and return the build id of the Python part.

    Raises ImportError with a clear text when the interpreter holds something that we cannot work with.
    """
    # Its first import sets a handler for SIGINT, here where the loader restores the handlers afterwards.
    import _signal  # noqa: F401

    _check_origin(site)
    if hosted:
        _join_host(site)
        import os

        if hasattr(os, "register_at_fork"):
            # What is registered last runs first: the calls under way end before the store closes its files.
            import ferrohsm.store.database  # noqa: F401

            os.register_at_fork(before=before_fork, after_in_parent=after_fork_parent)  # type: ignore[arg-type]
    elif "site" not in sys.modules and needs_site(site):
        import site as standard

        standard.main()
    from ferrohsm._build import BUILD_ID

    from ferrohsm import log  # noqa: F401 - what the guard says, it says with these

    sys.meta_path.insert(0, _Guard(site, BUILD_ID))  # type: ignore[arg-type]
    return BUILD_ID


def _check_origin(site: str) -> None:
    """Refuse packages of our names that come from another installation."""
    import os

    for name in OWN & sys.modules.keys():
        for folder in getattr(sys.modules[name], "__path__", ()):
            if not os.path.samefile(os.path.dirname(folder), site):
                raise ImportError(f"this process has already imported another {name}: {folder}")


def _join_host(site: str) -> None:
    """Install the finders, unless the host's own path leads here, and look at the dependencies' versions."""
    import os

    if not any(os.path.isdir(entry) and os.path.samefile(entry, site) for entry in sys.path if entry):
        sys.meta_path.insert(0, _Finder(site, OWN))
        sys.meta_path.append(_Finder(site, DEPENDENCIES))
    import cryptography

    version = tuple(int(part) for part in cryptography.__version__.split(".")[:2])
    if version < CRYPTOGRAPHY:
        raise ImportError(
            f"this process uses cryptography {cryptography.__version__}, but FerroHSM needs "
            f"{'.'.join(map(str, CRYPTOGRAPHY))} or newer: upgrade it in the host's environment"
        )
