#!/usr/bin/env bash
# The cache's tests over a real Memcached too (make memcached). There is no wheel of it: the installed one is used, or as root the system's
# package is installed. Arguments go to the tests: scripts/memcached.sh --nocapture
#
#   scripts/memcached.sh --if-possible   where it can't be had, say so and go on: `make check` must pass without root
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools
make_run_folder

if [ -z "${MEMCACHED_BIN:-}" ]; then
    has memcached || install_packages memcached memcached memcached || true
    MEMCACHED_BIN=$(command -v memcached || true)
fi
if [ -z "$MEMCACHED_BIN" ]; then
    advice="Debian: apt-get install memcached; macOS: brew install memcached; or name one in MEMCACHED_BIN"
    [ "${1:-}" = --if-possible ] || die "There is no memcached here. $advice"
    warn "NOT TESTED: the cache over Memcached, because there is no memcached here. $advice"
    exit
fi
[ "${1:-}" != --if-possible ] || shift
export MEMCACHED_BIN
say "$("$MEMCACHED_BIN" --version): $MEMCACHED_BIN"

SERVICES_FAST=yes
services_start
find_server_binaries
run_to_end cargo test --locked --test suite cache:: -- --include-ignored "$@"
