#!/bin/sh
# Proves that a running sprite-env reaps zombies: makes one over the debug endpoints,
# waits until it is reaped, and checks that it is gone. Start sprite-env with -debug.
#
#   export SPRITE_HTTP_API_TOKEN=your-token
#   SPRITE_URL=http://127.0.0.1:7778 ./tests/test_zombie_reaping.sh
set -eu
url="${SPRITE_URL:-http://127.0.0.1:7778}"
: "${SPRITE_HTTP_API_TOKEN:?set it to the token that sprite-env was started with}"
api() { # api METHOD PATH
    curl -sS -X "$1" -H "Authorization: Bearer $SPRITE_HTTP_API_TOKEN" "$url$2"
}
fail() {
    echo "FAILED: $1" >&2
    exit 1
}

echo "1. Making a zombie"
made=$(api POST /debug/create-zombie)
echo "   $made"
[ "$(echo "$made" | jq -r .was_zombie)" = true ] || fail "no zombie was made"
pid=$(echo "$made" | jq -r .pid)

echo "2. It was reaped within $(echo "$made" | jq -r .reap_duration)"
[ "$(echo "$made" | jq -r .was_reaped)" = true ] || fail "process $pid was not reaped"

echo "3. Looking for process $pid"
check=$(api GET "/debug/check-process?pid=$pid")
echo "   $check"
[ "$(echo "$check" | jq -r .exists)" = false ] || fail "process $pid still exists"

echo "4. Passed ($(echo "$made" | jq -r .note))"
