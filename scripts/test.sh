#!/usr/bin/env bash
# The whole test suite with all its set-up (make test). Arguments go to `cargo test`: scripts/test.sh some_name -- --nocapture
#
# The tests read DATABASE_URL (a server on which they may create databases: each test makes its own), REDIS_URL (each test takes
# its own namespace), REDIS_SERVER_BIN (started by the tests that stop, freeze and restart a Redis), POSTGRES_BIN_DIR (the same for a
# Postgres with a replica) and MEMCACHED_BIN (with it the cache's contract is held over Memcached too).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/memcached.sh
. "$ROOT/scripts/lib/memcached.sh"
cd "$ROOT"
need_build_tools

# Five hundred clients at once, both ends of each in one process, are more open files than many systems allow at first.
need_open_files 4096

# What is durable doesn't matter for databases that live for one test.
SERVICES_FAST=yes
services_start
find_server_binaries
if find_memcached; then
    say "$("$MEMCACHED_BIN" --version): $MEMCACHED_BIN"
    # What is of a Memcached alone. First, so that the run ends with the summary of all the others.
    if [ $# -eq 0 ]; then run_to_end cargo test --locked --test suite cache::memcached:: -- --ignored; fi
elif [ $# -eq 0 ]; then
    memcached_missing warn
fi
run_to_end cargo test --locked "$@"
