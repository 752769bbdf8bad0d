#!/usr/bin/env bash
# The TypeScript client (make client): types are generated from openapi/openapi.json, compiled strictly, and the client is run against two
# instances on a throw-away Postgres. Only one of them has a Redis: without its hints the other one learns of a change late enough to show
# whether the client carries its tokens along.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/node.sh
. "$(dirname "$0")/lib/node.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools
SERVICES_FAST=yes SERVICES_OWN=yes
clean_up_at_the_end
node_and_npm
packages=$(node_packages clients/typescript) || die "The client's packages couldn't be installed from npm"

new_folder folder "$RUN"
client=$NEW_FOLDER
# Where Node and the compiler look for them.
ln -s "$packages" "$client/node_modules"
cp -R clients/typescript/src clients/typescript/tsconfig.json clients/typescript/package.json "$client"
run_to_end run_node "$packages/openapi-typescript/bin/cli.js" openapi/openapi.json --output "$client/src/schema.d.ts" >&2
run_to_end run_node "$packages/typescript/bin/tsc" --project "$client"
say "Generated and compiled with --strict"

services_start
build_for_debugging aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" migrate
start_instance one "$client"
export ONE="http://$PUBLIC"
REDIS_URL='' start_instance other "$client"
export OTHER="http://$PUBLIC"
run_to_end run_node "$client/out/tour.js"
