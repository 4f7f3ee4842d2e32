"""Build FerroHSM: the C loader (libpkcs11.so), the ABI, the software adapter's kernels, the benchmark driver.

Switches, all environment variables:

FERROHSM_OPENSSL   prefix of the OpenSSL whose static libcrypto the kernels take (default: the system's)
FERROHSM_SANITIZE  "address" or "undefined": a build for debugging with that sanitizer
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
WINDOWS = sys.platform == "win32"
MACOS = sys.platform == "darwin"
LOADER = "pkcs11_abi.libpkcs11"
LOADER_FILE = {"win32": "pkcs11.dll", "darwin": "libpkcs11.dylib"}.get(sys.platform, "libpkcs11.so")
KERNELS = "ferrohsm_adapters.software._kernels"
DRIVER = "ferrohsm_bench.driver_program"
SANITIZE = os.environ.get("FERROHSM_SANITIZE", "")


def paths(pattern: str) -> list[str]:
    """Return the project's files that match, relative and sorted."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def build_id() -> str:
    """Return the identity of this build: a digest of every source that ends up in it."""
    digest = hashlib.sha256()
    patterns = (
        "pkcs11_abi/**/*.[chp]*",
        "ferrohsm/**/*.py",
        "ferrohsm/**/*.c",
        "adapters/**/*.[chp]*",
        "include/*.h",
        "setup.py",
    )
    for name in sorted({name for pattern in patterns for name in paths(pattern)}):
        path = ROOT / name
        if path.is_dir() or "__pycache__" in name or name == "ferrohsm/_build.py" or name in CYTHON_OUTPUT:
            continue
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


CYTHON_OUTPUT = {
    str(Path(name).with_suffix(".c")) for name in paths("pkcs11_abi/*.pyx") + paths("adapters/**/*.pyx")
}


def write_if_changed(path: Path, text: str) -> None:
    """Write a generated file, leaving its time alone when nothing changed."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def compile_flags() -> list[str]:
    """Return the flags that every C file of ours gets."""
    if WINDOWS:
        return ["/O2", "/utf-8", "/std:c17", "/experimental:c11atomics"]
    flags = ["-O2", "-g1", "-fvisibility=hidden", "-fno-strict-aliasing", "-fstack-protector-strong"]
    if SANITIZE:
        flags += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-O1"]
    return flags


def link_flags() -> list[str]:
    """Return the flags that every library of ours is linked with."""
    flags = [f"-fsanitize={SANITIZE}"] if SANITIZE and not WINDOWS else []
    if not WINDOWS and not MACOS:
        flags += ["-Wl,-z,relro,-z,now,-z,noexecstack"]
    return flags


def loader() -> Extension:
    """Return libpkcs11: plain C, no link to libpython, only the specification's functions exported."""
    other = "platform_posix.c" if WINDOWS else "platform_win32.c"
    link = link_flags()
    libraries = []
    if WINDOWS:
        link.append("/DEF:" + str(ROOT / "pkcs11_abi/loader/exports.def"))
    elif MACOS:
        link.append("-Wl,-exported_symbols_list," + str(ROOT / "pkcs11_abi/loader/exports.txt"))
        link.append("-Wl,-install_name,@rpath/" + LOADER_FILE)
    else:
        link.append("-Wl,--version-script=" + str(ROOT / "pkcs11_abi/loader/export.map"))
        # Our references are bound to our own symbols; the library stays when its host closes it, because the
        # interpreter and its threads do. A sanitizer needs symbols of the executable, thus no -z defs.
        link += ["-Wl,-Bsymbolic", "-Wl,-z,nodelete", f"-Wl,-soname,{LOADER_FILE}"]
        link += [] if SANITIZE else ["-Wl,-z,defs"]
        libraries += ["dl", "pthread"]
    macros = [
        ("FERRO_PYTHON_LIBDIR", c_string(sysconfig.get_config_var("LIBDIR") or "")),
        ("FERRO_PYTHON_LIBRARY", c_string(python_library())),
        ("FERRO_PYTHON_MULTIARCH", c_string(sysconfig.get_config_var("MULTIARCH") or "")),
    ]
    return Extension(
        LOADER,
        sources=[name for name in paths("pkcs11_abi/loader/*.c") if not name.endswith(other)],
        include_dirs=["include", "pkcs11_abi/loader"],
        define_macros=macros,
        libraries=libraries,
        extra_compile_args=compile_flags()
        + ([] if WINDOWS else ["-Wall", "-Wextra", "-Wno-unused-parameter"]),
        extra_link_args=link,
        depends=paths("pkcs11_abi/loader/*.h") + paths("include/*.h") + paths("pkcs11_abi/loader/export*"),
    )


def python_library() -> str:
    """Return the file name of the shared libpython of the Python that builds (also when it has none)."""
    version = sysconfig.get_python_version()
    if WINDOWS:
        return f"python{version.replace('.', '')}.dll"
    if MACOS:
        return f"libpython{version}.dylib"
    return f"libpython{version}.so.1.0"


def c_string(text: str) -> str:
    """Return a macro's value that is a C string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'\\"{escaped}\\"' if WINDOWS else f'"{escaped}"'


def abi() -> Extension | None:
    """Return the ABI: one Cython module and its C state."""
    if not (ROOT / "pkcs11_abi/module.pyx").exists():
        return None
    depends = [name for suffix in ("pxi", "pxd", "h") for name in paths(f"pkcs11_abi/**/*.{suffix}")]
    return Extension(
        "pkcs11_abi.module",
        sources=["pkcs11_abi/module.pyx", *paths("pkcs11_abi/state/*.c")],
        include_dirs=["include", "pkcs11_abi/loader", "pkcs11_abi/state"],
        libraries=[] if WINDOWS else ["pthread"],
        extra_compile_args=compile_flags(),
        extra_link_args=link_flags() + ([] if WINDOWS or MACOS else ["-Wl,-Bsymbolic"]),
        depends=depends + paths("include/*.h"),
    )


def kernels() -> Extension | None:
    """Return the software adapter's kernels, with a private libcrypto inside."""
    sources = paths("adapters/software/kernels/*.pyx")
    if not sources:
        return None
    generated = {str(Path(name).with_suffix(".c")) for name in sources}
    generated.add("adapters/software/kernels/" + ("platform_posix.c" if WINDOWS else "platform_win32.c"))
    sources += [name for name in paths("adapters/software/kernels/*.c") if name not in generated]
    include, library = openssl()
    link = link_flags()
    libraries = ["ws2_32", "crypt32", "advapi32", "user32"] if WINDOWS else ["pthread"]
    objects, others = needed_by(library)
    libraries += others
    if not WINDOWS and not MACOS:
        # No symbol of libcrypto leaves the library, none of the process's libcrypto gets in.
        link += ["-Wl,--exclude-libs,ALL", "-Wl,-Bsymbolic"]
        libraries.append("dl")
    return Extension(
        KERNELS,
        sources=sources,
        include_dirs=["include", "adapters/software/kernels", *include],
        extra_objects=[library, *objects],
        libraries=libraries,
        extra_compile_args=compile_flags(),
        extra_link_args=link,
        depends=paths("adapters/software/kernels/*.h")
        + paths("adapters/software/kernels/*.px[di]")
        + paths("include/*.h"),
    )


def driver() -> list[Extension]:
    """Return the benchmarks' driver: a program, because modules are measured in a process without Python."""
    if not sys.platform.startswith("linux"):  # it reads /proc and wants pthread_barrier_t
        return []
    return [
        Extension(
            DRIVER,
            sources=paths("benchmarks/driver/*.c"),
            include_dirs=["include", "benchmarks/driver", *openssl()[0]],
            define_macros=[("_GNU_SOURCE", "1")],
            libraries=["pthread", "dl"],
            extra_compile_args=[*compile_flags(), "-Wall", "-Wextra"],
            extra_link_args=link_flags(),
            depends=paths("benchmarks/driver/*.h") + paths("include/*.h"),
        )
    ]


def isolation() -> list[Extension]:
    """Return what starts the processes of isolated adapters, where there is such a thing."""
    if not sys.platform.startswith("linux"):
        return []
    return [
        Extension(
            "ferrohsm.isolation._start",
            sources=["ferrohsm/isolation/start.c"],
            extra_compile_args=[*compile_flags(), "-Wall", "-Wextra"],
            extra_link_args=link_flags(),
            libraries=["dl"],
        )
    ]


def openssl() -> tuple[list[str], str]:
    """Return the include folders and the static libcrypto that the kernels are built with."""
    prefix = os.environ.get("FERROHSM_OPENSSL")
    name = "libcrypto_static.lib" if WINDOWS else "libcrypto.a"
    if prefix:
        for folder in ("lib64", "lib"):
            library = Path(prefix) / folder / name
            if library.exists():
                return [str(Path(prefix) / "include")], str(library)
        sys.exit(f"FERROHSM_OPENSSL={prefix}: there is no {name} below it")
    found = found_by_compiler(name)
    if found is None:
        sys.exit(
            f"There is no static {name}: install libssl-dev, or set FERROHSM_OPENSSL=prefix of an OpenSSL"
        )
    return [], found


def needed_by(library: str) -> tuple[list[str], list[str]]:
    """Return what a static libcrypto needs beside the C library: static libraries, and names of shared ones.

    Distributions build theirs with compression (zlib, zstd); the file for pkg-config beside it says so.
    """
    facts = Path(library).parent / "pkgconfig" / "libcrypto.pc"
    private = ""
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("Libs.private:"):
                private = line.partition(":")[2]
    names = [word[2:] for word in private.split() if word.startswith("-l")]
    objects, others = [], []
    for name in dict.fromkeys(names):
        if name in ("dl", "pthread", "crypto"):
            continue
        found = found_by_compiler(f"lib{name}.a")
        if found is None:
            others.append(name)
        else:
            objects.append(found)
    return objects, others


def found_by_compiler(name: str) -> str | None:
    """Return the path of a file of the system's libraries, None when there is none."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    try:
        found = subprocess.run(
            [*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found if os.path.isabs(found) else None


class BuildPython(build_py):
    """Add the build's identity and the headers to the Python packages."""

    def run(self) -> None:
        """Copy the packages, then write what is generated."""
        super().run()
        package = ROOT / "ferrohsm" if self.editable_mode else Path(self.build_lib) / "ferrohsm"
        text = f'"""The identity of this build (generated by setup.py)."""\n\nBUILD_ID = "{build_id()}"\n'
        write_if_changed(package / "_build.py", text)
        target = ROOT / "pkcs11_abi" if self.editable_mode else Path(self.build_lib) / "pkcs11_abi"
        for header in paths("include/*.h"):
            write_if_changed(target / header, (ROOT / header).read_text())


class BuildExtensions(build_ext):
    """Build the loader under its own name, and everything with the build's identity."""

    def finalize_options(self) -> None:
        """Compile the extensions side by side."""
        super().finalize_options()
        if not self.parallel:
            self.parallel = min(len(self.extensions or [1]), os.cpu_count() or 1)

    def run(self) -> None:
        """Give the loader and the ABI a small file with the identity: only that one is compiled anew."""
        source = Path(self.build_temp) / "build_id.c"
        write_if_changed(source, f'#include "boot.h"\n\nconst char ferro_build_id[] = "{build_id()}";\n')
        for extension in self.extensions:
            if extension.name.startswith("pkcs11_abi."):
                extension.sources.append(str(source))
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Link the driver as a program; everything else is a library."""
        if ext.name != DRIVER:
            super().build_extension(ext)
            return
        target = Path(self.get_ext_fullpath(ext.name))
        newest = max((ROOT / name).stat().st_mtime for name in [*ext.sources, *ext.depends])
        if not self.force and target.exists() and target.stat().st_mtime > newest:
            return
        objects = self.compiler.compile(
            ext.sources,
            output_dir=self.build_temp,
            macros=ext.define_macros,
            include_dirs=ext.include_dirs,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        self.compiler.link_executable(
            objects,
            target.name,
            output_dir=str(target.parent),
            libraries=ext.libraries,
            extra_postargs=ext.extra_link_args,
        )

    def get_ext_filename(self, fullname: str) -> str:
        """Return libpkcs11.so's and the driver's own names; everything else is a Python module."""
        if fullname == DRIVER or fullname == DRIVER.rpartition(".")[2]:
            return os.path.join(*fullname.split("."))
        if fullname == LOADER or fullname == LOADER.rpartition(".")[2]:
            return os.path.join(*fullname.split(".")[:-1], LOADER_FILE)
        return str(super().get_ext_filename(fullname))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """Return nothing for the loader, which is no Python module."""
        return [] if ext.name == LOADER else super().get_export_symbols(ext)

    def get_libraries(self, ext: Extension) -> list[str]:
        """Keep libpython away from the loader."""
        return list(ext.libraries) if ext.name == LOADER else super().get_libraries(ext)


def extensions() -> list[Extension]:
    """Return what is to be compiled; the Cython sources are translated first."""
    from Cython.Build import cythonize

    modules = [module for module in (abi(), kernels()) if module is not None]
    directives = {"language_level": 3, "embedsignature": False}
    translated = cythonize(modules, include_path=["include", "pkcs11_abi"], compiler_directives=directives)
    return [loader(), *driver(), *isolation(), *translated]


def packages() -> list[str]:
    """Return the packages under the names they are installed with."""
    ours = find_packages(str(ROOT), include=["ferrohsm", "ferrohsm.*", "pkcs11_abi"])
    adapters = find_packages(str(ROOT / "adapters"))
    return [*ours, "ferrohsm_bench", "ferrohsm_adapters", *(f"ferrohsm_adapters.{name}" for name in adapters)]


setup(
    packages=packages(),
    package_dir={"ferrohsm_adapters": "adapters", "ferrohsm_bench": "benchmarks"},
    package_data={"ferrohsm": ["py.typed"], "ferrohsm.cli": ["adapter_template/**/*.template"]},
    include_package_data=False,
    ext_modules=extensions(),
    cmdclass={"build_py": BuildPython, "build_ext": BuildExtensions},
)
