#!/usr/bin/env bash
# The whole test suite with all its set-up (make test). Arguments go to `cargo test`: scripts/test.sh some_name -- --nocapture
#
# The tests read DATABASE_URL (a server on which they may create databases: each test makes its own), REDIS_URL (each test takes
# its own namespace), REDIS_SERVER_BIN (started by the tests that stop, freeze and restart a Redis), POSTGRES_BIN_DIR (the same for a
# Postgres with a replica), MEMCACHED_BIN (with it the cache's contract is tested over Memcached too) and PGBOUNCER_BIN (with it the
# service is tested behind a pooler). A test that skips a part
# notes this in the file of SKIPPED_LOG. At its end the run reports how many tests did so, and why.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/memcached.sh
. "$ROOT/scripts/lib/memcached.sh"
# shellcheck source-path=SCRIPTDIR source=lib/pgbouncer.sh
. "$ROOT/scripts/lib/pgbouncer.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools

# Five hundred clients at once, both ends of each in one process, are more open files than many systems allow at first.
need_open_files 4096

# What is durable doesn't matter for databases that live for one test.
SERVICES_FAST=yes
services_start
find_server_binaries
if find_memcached; then say "$("$MEMCACHED_BIN" --version): $MEMCACHED_BIN"; fi
if find_pgbouncer; then say "$("$PGBOUNCER_BIN" --version | head -n 1): $PGBOUNCER_BIN"; fi
# Rust says of these that they are ignored.
while IFS=$'\t' read -r test reason; do
    detail "Not part of this: $test ($reason)"
done < <(find tests crates tools -name '*.rs' -exec awk -F'"' '/#\[ignore = "/ { reason = $2 } reason && /^ *(async )?fn / { sub(/\(.*/, ""); sub(/.*fn /, ""); print $0 "\t" reason; reason = "" }' {} +)

export SKIPPED_LOG="$RUN/skipped.$$.log"
# Cargo compiles tests in documentation only when it runs them.
case " $* " in *' --doc '*) ;; *) build debug cargo test --locked --workspace --no-run "$@" ;; esac
status=0
run_to_end cargo test --locked --workspace "$@" || status=$?
if [ -s "$SKIPPED_LOG" ]; then
    sort -u "$SKIPPED_LOG" | cut -f2 | sort | uniq -c | while read -r count reason; do
        warn "SKIPPED in $count tests: a part of them ($reason)"
        case $reason in *memcached*) advise_memcached ;; *pgbouncer*) advise_pgbouncer ;; esac
    done
fi
rm -f "$SKIPPED_LOG"
if [ "$status" -ne 0 ]; then
    warn "Not all is green. Each test that failed says why above, under \`failures:\`."
    detail "One test alone, with what it prints: make test ARGS=\"ITS_NAME -- --nocapture\""
fi
exit "$status"
