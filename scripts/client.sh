#!/usr/bin/env bash
# The TypeScript client (make client): types are generated from openapi/openapi.json, compiled strictly, and the client is run against two
# instances on a throw-away Postgres and Redis.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/node.sh
. "$(dirname "$0")/lib/node.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
cd "$ROOT"
need_build_tools
make_run_folder
node_and_npm
packages=$(node_packages clients/typescript) || die "The client's packages couldn't be installed from npm"

# Beside its packages, where Node and the compiler look for them.
client="$(dirname "$packages")/client"
rm -rf "$client"
mkdir -p "$client"
cp -R clients/typescript/src clients/typescript/tsconfig.json clients/typescript/package.json "$client"
run_to_end run_node "$packages/openapi-typescript/bin/cli.js" openapi/openapi.json --output "$client/src/schema.d.ts" >&2
run_to_end run_node "$packages/typescript/bin/tsc" --project "$client"
say "Generated and compiled with --strict"

SERVICES_FAST=yes SERVICES_OWN=yes
services_start
run_to_end cargo build --locked --bin aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" migrate
ONE=127.0.0.1:$(free_port) OTHER=127.0.0.1:$(free_port)
start_instance one "$ONE" "127.0.0.1:$(free_port)" "$client"
start_instance other "$OTHER" "127.0.0.1:$(free_port)" "$client"
export ONE="http://$ONE" OTHER="http://$OTHER"
run_to_end run_node "$client/out/tour.js"
