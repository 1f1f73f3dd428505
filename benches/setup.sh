#!/bin/sh
# Installs the peers that benchmarks measure beside us. Can be run twice; needs root. A
# benchmark says which peer it misses.
set -eu
missing=""
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need nginx nginx-light
need socat socat
if [ -n "$missing" ] && [ "$(id -u)" -ne 0 ]; then
    echo "setup: not root, so these packages were not installed:$missing" >&2
elif [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends $missing
fi
