"""What the loader has Python do before it imports the ABI.

In an interpreter that the loader started, sys.path is that of our own environment. In a host program's
interpreter nothing is added to sys.path: a finder serves our own packages from our own site-packages, and
their dependencies only when the host has none.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OWN = frozenset({"ferrohsm", "ferrohsm_adapters", "pkcs11_abi"})
DEPENDENCIES = frozenset({"cryptography", "cffi", "_cffi_backend", "pycparser"})
CRYPTOGRAPHY = (50, 0)  # as pyproject.toml asks for it


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


class _Late:
    """Stands last on sys.meta_path of our own interpreter: what nobody has found may be where `site` looks.

    `site` (``.pth`` files, a parent environment's packages) takes a tenth of C_Initialize, and what the
    module itself needs lies beside it. It is run when something is missing, or when packages are listed.
    """

    def __init__(self) -> None:
        from _thread import RLock

        self.lock = RLock()
        self.run = False
        self.added: list[str] = []
        self.finders: list[Any] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Look for a package again, where `site` has added to the path, and by the finders that it has added.

        The caller may have asked all others before `site` was run, here or by another thread.
        """
        if path is not None:
            return None
        self._run_site()
        from importlib.machinery import PathFinder

        for finder in self.finders:
            spec = finder.find_spec(name, None, target)
            if spec is not None:
                return spec
        return PathFinder.find_spec(name, self.added) if self.added else None

    def find_distributions(self, context: Any) -> Any:
        """Return what is installed where `site` has added to the path (see `importlib.metadata`)."""
        if "path" in vars(context):
            return []
        self._run_site()
        from importlib.metadata import DistributionFinder, MetadataPathFinder

        return MetadataPathFinder.find_distributions(
            DistributionFinder.Context(name=context.name, path=self.added)
        )

    def _run_site(self) -> None:
        """Run `site` unless it was run, and note what it adds."""
        with self.lock:
            if self.run:
                return
            self.run = True
            import site

            before, finders = set(sys.path), list(sys.meta_path)
            site.main()
            self.added = [entry for entry in sys.path if entry not in before]
            self.finders = [finder for finder in sys.meta_path if finder not in finders]


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
    elif "site" not in sys.modules:
        sys.meta_path.append(_Late())  # type: ignore[arg-type]
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
