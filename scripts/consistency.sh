#!/usr/bin/env bash
# The consistency checker (make consistency): finds the binaries of Postgres and Redis, of which the checker starts servers of its
# own, because it kills them. Arguments go to the checker; --release before them takes a release build:
# scripts/consistency.sh --release --seconds 300
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools
make_run_folder

folder=debug
if [ "${1:-}" = --release ]; then folder=release && shift; fi
if [ "$folder" = debug ]; then
    build_for_debugging aside checker
else
    build release cargo build --locked --release --package aside --bin aside
    build release cargo build --locked --release --package checker
fi

find_server_binaries
# With --serve it waits for Ctrl-C and then takes its servers away.
END_SIGNAL=INT
run_to_end "${CARGO_TARGET_DIR:-$ROOT/target}/$folder/checker" "$@"
