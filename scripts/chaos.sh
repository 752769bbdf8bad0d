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

profile=bench
if [ "${1:-}" = --debug ]; then
    profile=dev
    shift
fi

case " $* " in
*" refusals "* | *" all "*)
    if [ -z "${PEERS_FOLDER:-}" ]; then
        built=release
        if [ "$profile" = dev ]; then built=debug; fi
        run_to_end cargo build --locked --profile "${built/debug/dev}" --manifest-path benches/peers/Cargo.toml --target-dir target/peers \
            --package plain --package load
        export PEERS_FOLDER="$ROOT/target/peers/$built"
    fi
    ;;
esac

find_server_binaries
# Nothing else may be busy while it measures.
run_to_end cargo bench --locked --profile "$profile" --bench chaos --no-run
run_to_end cargo bench --locked --profile "$profile" --bench chaos -- "$@"
