#!/bin/sh
# Installs the peers that benchmarks measure beside us. Can be run twice; needs root. A
# benchmark says which peer it misses.
set -eu
. "$(dirname "$0")/../tests/packages.sh"
need nginx nginx-light
need socat socat
need cc gcc
need tini tini
need dumb-init dumb-init
need catatonit catatonit
need s6-svscan s6
need runsvdir runit
need supervisord supervisor
need restic restic
need borg borgbackup
need mkfs.ext4 e2fsprogs
need mkfs.btrfs btrfs-progs
need mkfs.xfs xfsprogs
install_missing
