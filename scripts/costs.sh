#!/usr/bin/env bash
# What the protocol costs (make costs): starts a Postgres and a Redis of its own and measures. Arguments go to the bench:
# scripts/costs.sh --short shows in half a minute that everything works.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools

# Never a server of somebody's data; and one that waits for the disk, or commits would cost nothing.
SERVICES_OWN=yes
unset SERVICES_FAST
# Nothing else may be busy while it measures.
cargo bench --locked --bench costs --no-run
services_start
run_to_end cargo bench --locked --bench costs -- "$@"
