#!/usr/bin/env bash
# The consistency checker (make consistency): finds the binaries of Postgres and Redis, of which the checker starts servers of its
# own, because it kills them. Arguments go to cargo and, after --, to the checker: scripts/consistency.sh --release -- --seconds 300
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools

find_server_binaries
# With --serve it waits for Ctrl-C and then takes its servers away.
END_SIGNAL=INT
run_to_end cargo test --locked --test consistency "$@"
