#!/usr/bin/env bash
# Asks a seeded service, with its cache on and callers verified, whatever its own document allows and what it doesn't (make api-check):
# Schemathesis with all checks, in all phases, for two minutes; ends with 1 on findings, and prints the request of each.
#
# What is well formed the service may still refuse, with a problem that the document names: by 400 or 422 whole numbers written as 777.0,
# control characters in texts and what breaks rules between fields; by 404 what isn't there; by 409 more than is in stock; by 412 another
# version. So these statuses count as right answers to it, beside 2xx and 3xx (scripts/api-check/schemathesis.toml). With a token of all
# scopes and servers that run, 401, 403, 429, 503 and 504 do not.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools
has python3 || die "Schemathesis needs python3"
make_run_folder
requirements=scripts/requirements-api-check.txt
[ -d "$(python_env_folder api-check $requirements)" ] || say "Installing Schemathesis into .run/ (once)"
tools=$(python_env api-check $requirements) || die "Schemathesis couldn't be installed (python3 3.11 or newer with venv or pip is needed)"

SERVICES_FAST=yes SERVICES_OWN=yes
services_start
build_for_debugging aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" seed
# Schemathesis keeps what it found beside its configuration and where it runs: that is gone with the run.
new_folder folder "$RUN"
cp scripts/api-check/schemathesis.toml "$NEW_FOLDER"
JWT_SECRET=$(random_hex)
export JWT_SECRET HYPOTHESIS_STORAGE_DIRECTORY="$NEW_FOLDER/hypothesis"
start_instance api-check "$NEW_FOLDER"
token=$("$aside" token)
cd "$NEW_FOLDER"
run_to_end "$tools/bin/python" -m schemathesis.cli --config-file schemathesis.toml run --checks all \
    --phases examples,coverage,fuzzing,stateful --header "Authorization: Bearer $token" "http://$PUBLIC/openapi.json" ||
    { show_log "The service and its document differ, or a request failed. The end of the service's log:" api-check.log; exit 1; }
