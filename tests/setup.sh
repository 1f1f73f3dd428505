#!/bin/sh
# Installs what the tests need. Can be run twice. Debian packages need root; without it
# the tests that need a missing program are skipped, with the reason printed.
set -eu
missing=""
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need python3 python3
need unshare util-linux
need setpriv util-linux
need curl curl
need jq jq
need setfattr attr
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: not root, so these packages were not installed:$missing" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $missing
