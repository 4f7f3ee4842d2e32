#!/usr/bin/env bash
# Build a static libcrypto for the wheels: tools/build_openssl.sh PREFIX
#
# The kernels link it with hidden symbols. It reads no configuration file, loads no engine or module, and
# leaves no exit handler in the host's process.
set -euo pipefail

version=3.5.9
sha256=603f5602e2eef00d77fbd429d34dcd5822bb301757a1bc9cdb24c670f1eb859a
prefix=${1:?usage: tools/build_openssl.sh PREFIX}

for folder in lib lib64; do
    if [ -e "$prefix/$folder/libcrypto.a" ] || [ -e "$prefix/$folder/libcrypto_static.lib" ]; then
        echo "$prefix has a libcrypto already"
        exit 0
    fi
done

# OpenSSL's own configuration needs these modules of Perl, which manylinux and musllinux images lack.
if command -v dnf >/dev/null; then
    dnf -y install perl-core perl-IPC-Cmd
elif command -v yum >/dev/null; then
    yum -y install perl-core perl-IPC-Cmd
elif command -v apk >/dev/null; then
    apk add --no-cache perl linux-headers
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
archive=openssl-$version.tar.gz
curl --fail --location --silent --show-error --output "$archive" \
    "https://github.com/openssl/openssl/releases/download/openssl-$version/$archive"
if command -v sha256sum >/dev/null; then
    echo "$sha256  $archive" | sha256sum --check -
else
    echo "$sha256  $archive" | shasum -a 256 --check -
fi
tar -xzf "$archive"
cd "openssl-$version"

options=(no-shared no-module no-dynamic-engine no-engine no-autoload-config no-atexit no-apps no-docs no-tests
    no-comp no-ssl3 "--prefix=$prefix" "--openssldir=$prefix/none")
case "$(uname -s)" in
    MINGW* | MSYS* | CYGWIN*)
        perl Configure VC-WIN64A "${options[@]}"
        nmake
        nmake install_dev
        ;;
    *)
        ./config "${options[@]}" -fPIC
        make -j"$(getconf _NPROCESSORS_ONLN)"
        make install_dev
        ;;
esac
