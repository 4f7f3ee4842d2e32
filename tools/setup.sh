# Set-up shared by tools/demo and tools/test; to be sourced by them, from any directory.
#
# FERROHSM_PYTHON  the Python to use (default: the first of python3, python3.13, python3.12, python3.11 that is >= 3.11)
# FERROHSM_VENV    the environment to make (default: .venv in the project)

set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${FERROHSM_VENV:-$root/.venv}

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Print the first Python that is new enough; fail when there is none.
find_python() {
    for candidate in ${FERROHSM_PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}

# Print the Debian packages that this machine lacks to build the module.
missing_build_packages() {
    if python=$(find_python); then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        "$python" -c 'import venv, ensurepip' 2>/dev/null || printf 'python%s-venv ' "$version"
        "$python" - <<'END' || printf 'python%s-dev ' "$version"
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
END
        # Processes that run no Python start the interpreter from its shared library.
        "$python" - <<'END' || printf 'libpython%s ' "$version"
import ctypes, os, sys, sysconfig
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
try:
    ctypes.CDLL(os.path.join(sysconfig.get_config_var("LIBDIR") or "", name))
except OSError:
    try:
        ctypes.CDLL(name)
    except OSError:
        sys.exit(1)
END
    else
        printf 'python3 python3-venv python3-dev libpython3-dev '
    fi
    command -v "${CC:-cc}" >/dev/null 2>&1 || printf 'gcc libc6-dev '
    if [ -z "${FERROHSM_OPENSSL:-}" ]; then
        static=$("${CC:-cc}" -print-file-name=libcrypto.a 2>/dev/null || true)
        case $static in
            /*)
                # A libcrypto that compresses needs the compressors (Debian 13's does).
                facts=${static%/*}/pkgconfig/libcrypto.pc
                for pair in z:zlib1g-dev zstd:libzstd-dev; do
                    grep -q "^Libs.private:.* -l${pair%%:*}\( \|\$\)" "$facts" 2>/dev/null || continue
                    found=$("${CC:-cc}" -print-file-name="lib${pair%%:*}.so")
                    [ "$found" != "lib${pair%%:*}.so" ] || printf '%s ' "${pair#*:}"
                done
                ;;
            *) printf 'libssl-dev ' ;;
        esac
    fi
    command -v openssl >/dev/null 2>&1 || printf 'openssl '
    command -v pkcs11-tool >/dev/null 2>&1 || printf 'opensc '
}

# Install the packages that are named; without the right to, say what to type and stop.
install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        die "please install what Debian calls: $*"
    [ "$(id -u)" = 0 ] ||
        die "some packages of the system are missing; please run
    sudo apt-get install --no-install-recommends $*
and then this command again"
    say "Installing packages of the system: $*"
    apt-get update -qq </dev/null || say "warning: apt-get update failed; trying with the lists that are here"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null ||
        die "apt-get could not install $*"
}

# Install what the build lacks; once more, for what only the first packages tell.
install_build_packages() {
    for _ in 1 2; do
        # shellcheck disable=SC2046 # one word a package is what is wanted
        install_packages $(missing_build_packages)
    done
}

# Make the environment and install this tree into it, with the extras named by the argument ("" or "[test]").
# Nothing is built again while no source is newer than the last installation.
install_project() {
    python=$(find_python) || die "Python 3.11 or newer is needed; set FERROHSM_PYTHON to one"
    stamp=$venv/.ferrohsm$1
    if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        die "$venv is not an environment of this project (no pip); remove it or set FERROHSM_VENV"
    fi
    if [ -e "$stamp" ] && [ -z "$(find "$root/pkcs11_abi" "$root/ferrohsm" "$root/adapters" "$root/include" "$root/benchmarks" \
        "$root/setup.py" "$root/pyproject.toml" -type f -newer "$stamp" \
        ! -name '*.pyc' ! -path '*/pkcs11_abi/module.c' ! -path '*/kernels/_kernels.c' -print 2>/dev/null | head -n 1)" ]; then
        return 0
    fi
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    say "Building and installing FerroHSM into $venv"
    rm -rf "$root"/build/lib* "$root"/build/bdist*
    log=$venv/install.log
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$root$1" >"$log" 2>&1; then
        cat "$log" >&2
        die "the installation failed"
    fi
    : >"$stamp"
}
