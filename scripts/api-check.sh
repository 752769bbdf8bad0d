#!/usr/bin/env bash
# Asks a seeded service, with its cache on and callers verified, whatever its own document allows and what it doesn't (make api-check):
# Schemathesis with all checks, in all phases, for two minutes; ends with 1 on findings, and prints the request of each.
#
# Some of what JSON Schema allows the service refuses, with a 400 or 422 that the document names: whole numbers written as 777.0, control
# characters in texts, rules between fields. So these statuses count as right answers to what is well formed
# (scripts/api-check/schemathesis.toml); nothing else is left out.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools
has python3 || die "Schemathesis needs python3"
make_run_folder
requirements=scripts/requirements-api-check.txt
[ -d "$(python_env_folder api-check $requirements)" ] || say "Installing Schemathesis into .run/ (once)"
tools=$(python_env api-check $requirements) || die "Schemathesis couldn't be installed (python3 3.11 or newer with venv or pip is needed)"

SERVICES_FAST=yes SERVICES_OWN=yes
services_start
run_to_end cargo build --locked --bin aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" seed
log="$RUN/api-check.log"
BIND_ADDR=127.0.0.1:$(free_port) MANAGEMENT_ADDR=127.0.0.1:$(free_port) JWT_SECRET=$(random_hex)
export BIND_ADDR MANAGEMENT_ADDR JWT_SECRET HYPOTHESIS_STORAGE_DIRECTORY="$RUN/hypothesis"
"$aside" serve >"$log" 2>&1 &
BACKGROUND="$BACKGROUND $!"
poll 30 "$aside" healthcheck 2>/dev/null || { show_log "The service didn't become ready" "$log"; exit 1; }
token=$("$aside" token)
run_to_end "$tools/bin/python" -m schemathesis.cli --config-file scripts/api-check/schemathesis.toml run --checks all \
    --phases examples,coverage,fuzzing,stateful --header "Authorization: Bearer $token" "http://$BIND_ADDR/openapi.json" ||
    die "The service and its document differ, or a request failed; its log: $log"
