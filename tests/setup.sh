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
need xmllint libxml2-utils
need ip iproute2
need vim vim
need strace strace
need htop htop
need redis-server redis-server
need mkfs.btrfs btrfs-progs
need mkfs.xfs xfsprogs
need pg_ctlcluster postgresql
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

# And from PyPI.
python=$tools/python/bin/python
pypi="sprites-py==0.7.2 pyte==0.8.2 openapi-spec-validator==0.7.2 moto[server]==5.2.5"
if [ "$(cat "$tools/python/installed" 2>/dev/null)" != "$pypi" ]; then
    python3 -m venv "$tools/python"
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --disable-pip-version-check $pypi
    echo "$pypi" >"$tools/python/installed"
fi
