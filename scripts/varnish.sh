#!/usr/bin/env bash
# The service behind a real Varnish (make varnish): a throw-away Postgres and Redis, two instances, one Varnish with ops/varnish/default.vcl,
# and a scenario that checks what docs/l3.md promises and prints figures.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/varnish.sh
. "$ROOT/scripts/lib/varnish.sh"
cd "$ROOT"
need_build_tools
has python3 || die "The scenario needs python3"
make_run_folder
obtain_varnish

SERVICES_FAST=yes SERVICES_OWN=yes
services_start
run_to_end cargo build --locked --bin aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" seed

folder="$RUN/varnish.$$"
mkdir -p "$folder"
trap 'services_stop; rm -rf "$folder"' EXIT
front=$(free_port)
export CDN_TAGS=xkey CDN_PURGE_URL="http://127.0.0.1:$front/" RUST_LOG=warn
# start_instance NAME: on free ports, in PUBLIC and MANAGEMENT, its process in PROCESS.
start_instance() {
    PUBLIC=127.0.0.1:$(free_port) MANAGEMENT=127.0.0.1:$(free_port)
    INSTANCE_NAME=$1 BIND_ADDR=$PUBLIC MANAGEMENT_ADDR=$MANAGEMENT "$aside" serve >"$folder/$1.log" 2>&1 &
    PROCESS=$!
    # It will be killed, which is no news.
    disown "$PROCESS"
    BACKGROUND="$BACKGROUND $PROCESS"
    BIND_ADDR=$PUBLIC poll 30 "$aside" healthcheck 2>/dev/null || { show_log "The instance didn't become ready" "$folder/$1.log"; exit 1; }
}
# The second instance writes, and Varnish asks the first one: so what it fetches may be what another instance made old.
start_instance first
first=$PUBLIC first_process=$PROCESS first_management=$MANAGEMENT
start_instance second
mkdir "$folder/front" "$folder/failing"
varnish_start "$folder/front" "$front" "${first##*:}"
# A second Varnish before something that the scenario makes answer what a healthy service wouldn't.
failing=$(free_port) failing_port=$(free_port)
varnish_start "$folder/failing" "$failing" "$failing_port"
status=0
FRONT="http://127.0.0.1:$front" BACK="http://$first" OTHER="http://$PUBLIC" BACK_PROCESS=$first_process \
    FAILING="http://127.0.0.1:$failing" FAILING_PORT=$failing_port MANAGEMENT="http://$first_management,http://$MANAGEMENT" run_to_end python3 scripts/varnish/scenario.py || status=$?
[ "$status" -eq 0 ] || show_log "Varnish said" "$folder/front/varnish.log"
exit "$status"
