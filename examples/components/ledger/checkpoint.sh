#!/bin/sh
# Keeps the ledger with the checkpoint.
set -eu
cp "${SPRITE_WRITE_DIR:-/tmp}/ledger/entries" "$CHECKPOINT_DIR/entries"
