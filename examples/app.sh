#!/bin/sh
# The demo's main process: counts, and keeps the count in the environment's directory.
set -eu
dir="${SPRITE_WRITE_DIR:-/tmp}/fs"
mkdir -p "$dir"
count=$(cat "$dir/count" 2>/dev/null || echo 0)
echo "the demo counts on from $count in $dir/count"
trap 'echo "the demo stops at $count"; exit 0' TERM INT
while :; do
    count=$((count + 1))
    echo "$count" >"$dir/count.new"
    mv "$dir/count.new" "$dir/count"
    sleep 1 &
    wait $! || :
done
