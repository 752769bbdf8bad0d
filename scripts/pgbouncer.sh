#!/usr/bin/env bash
# The core of the suite behind a PgBouncer in transaction mode (make pgbouncer), which is installed as root where it is missing. Each test
# puts a pooler of two sessions between its instances and Postgres. The instances have the role of the service, which owns nothing. Arguments choose other tests: scripts/pgbouncer.sh api::stale
#
#   scripts/pgbouncer.sh --obtain   only sees that there is one, and says so where it can't be had (make check)
#
# Not part of the core: tests that cut or freeze Postgres, since a pooler answers in its place, and tests of the pool of connections.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/pgbouncer.sh
. "$ROOT/scripts/lib/pgbouncer.sh"
cd "$ROOT"
make_run_folder
if [ "${1:-}" = --obtain ]; then
    obtain_pgbouncer || { advise_pgbouncer && warn "There is no pgbouncer here, so the service is not tested behind a pooler"; }
    exit
fi
need_build_tools
if ! obtain_pgbouncer; then
    advise_pgbouncer
    die "There is no pgbouncer here"
fi
say "$("$PGBOUNCER_BIN" --version | head -n 1): $PGBOUNCER_BIN"

need_open_files 4096
SERVICES_FAST=yes
services_start
find_server_binaries
core=("$@")
if [ ${#core[@]} -eq 0 ]; then
    core=(api::pooler api::roles api::products api::orders api::lists api::conditional api::consistency api::directives api::idempotency
        api::outside_writers api::refused_writes api::rows api::instances api::purging api::moments)
fi
TEST_POOLER=transaction TEST_ROLE=service run_to_end cargo test --locked --workspace --test suite -- "${core[@]}"
