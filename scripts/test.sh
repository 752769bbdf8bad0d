#!/usr/bin/env bash
# The whole test suite with all its set-up (make test). Arguments go to `cargo test`: scripts/test.sh some_name -- --nocapture
#
# The tests read DATABASE_URL (a server on which they may create databases: each test makes its own), REDIS_URL (each test takes
# its own namespace) and REDIS_SERVER_BIN (started by the tests that stop, freeze and restart a Redis), and
# POSTGRES_BIN_DIR (the same for a Postgres with a replica).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools

# Five hundred clients at once, both ends of each in one process, are more open files than many systems allow at first.
need_open_files 4096

# What is durable doesn't matter for databases that live for one test.
SERVICES_FAST=yes
services_start
find_server_binaries
run_to_end cargo test --locked "$@"
