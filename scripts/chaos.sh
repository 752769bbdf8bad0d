#!/usr/bin/env bash
# The service under load while its servers break or its instances are restarted (make chaos, resilience, soak, failover, rolling and
# regions): finds the binaries of Postgres and Redis, of which the run starts servers of its own, because it freezes and kills them.
# Arguments go to the program: scripts/chaos.sh soak --seconds 60; --debug before them takes a debug build, for what is not about time.
# scripts/chaos.sh refusals compares the service with the programs of benches/peers; ASIDE_PROGRAM=FILE names another build of the service,
# and PEERS_FOLDER=FOLDER programs that are built already.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools
need_open_files 4096

# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
make_run_folder

built=release
if [ "${1:-}" = --debug ]; then built=debug && shift; fi

case " $* " in
*" refusals "* | *" all "*)
    if [ -z "${PEERS_FOLDER:-}" ]; then
        run_to_end cargo build --locked --profile "${built/debug/dev}" --manifest-path benches/peers/Cargo.toml --target-dir target/peers \
            --package plain --package load
        export PEERS_FOLDER="$ROOT/target/peers/$built"
    fi
    ;;
esac

find_server_binaries
if [ "$built" = debug ]; then
    build_for_debugging aside lab
else
    build release cargo build --locked --profile bench --package aside --bin aside
    build release cargo build --locked --profile bench --package lab
fi
run_to_end "${CARGO_TARGET_DIR:-$ROOT/target}/$built/lab" "$@"
