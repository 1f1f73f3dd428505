#!/bin/sh
# A demo component with data of its own, outside the environment's directory.
set -eu
data="${SPRITE_WRITE_DIR:-/tmp}/ledger"
mkdir -p "$data"
echo "opened $(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$data/entries"
echo "ledger ready with $(wc -l <"$data/entries") entries"
exec sleep 2147483647
