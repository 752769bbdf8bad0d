#!/usr/bin/env bash
# The cache's tests over a real Memcached too (make memcached), which is installed as root where it is missing. Arguments go to the
# tests: scripts/memcached.sh --nocapture
#
#   scripts/memcached.sh --obtain   only sees that there is one, and says so where it can't be had: scripts/test.sh takes what it finds,
#                                   and `make check` must pass without root
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/memcached.sh
. "$ROOT/scripts/lib/memcached.sh"
cd "$ROOT"
make_run_folder

if [ "${1:-}" = --obtain ]; then
    obtain_memcached || memcached_missing warn
    exit
fi
need_build_tools
obtain_memcached || memcached_missing die
say "$("$MEMCACHED_BIN" --version): $MEMCACHED_BIN"

SERVICES_FAST=yes
services_start
find_server_binaries
run_to_end cargo test --locked --workspace --test contract -- "$@"
