#!/usr/bin/env bash
# How fast the service is (make bench): starts a Postgres and a Redis of its own and measures, first the whole against other
# servers, then parts by themselves. Arguments go to the first: scripts/bench.sh --short shows in a minute that everything works;
# --full DIR takes the full set of data. How many instructions a hit takes: scripts/instructions.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools

# Never a server of somebody's data: Redis is emptied again and again.
SERVICES_OWN=yes
# Nothing else may be busy while it measures.
cargo bench --locked --bench speed --bench micro --no-run
services_start
run_to_end cargo bench --locked --bench speed -- "$@"
run_to_end cargo bench --locked --bench micro
