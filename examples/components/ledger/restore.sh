#!/bin/sh
# Brings the ledger back as it was.
set -eu
cp "$CHECKPOINT_DIR/entries" "${SPRITE_WRITE_DIR:-/tmp}/ledger/entries"
