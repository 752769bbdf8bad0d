#!/usr/bin/env bash
# The service behind a real Varnish (make varnish): a throw-away Postgres and Redis, two instances, a Varnish with ops/varnish/default.vcl,
# another one before something that fails, and a scenario that checks what docs/l3.md promises and prints figures.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/varnish.sh
. "$ROOT/scripts/lib/varnish.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$ROOT/scripts/lib/instances.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools
has python3 || die "The scenario needs python3"
make_run_folder
obtain_varnish

SERVICES_FAST=yes SERVICES_OWN=yes
services_start
build_for_debugging aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" seed

new_folder folder "$RUN"
folder=$NEW_FOLDER
# Varnish first: from then on its port is its own, and the instances are told it.
first=127.0.0.1:$(free_port)
varnish_start "$folder/front" "${first##*:}"
front=$VARNISH_PORT
export CDN_TAGS=xkey CDN_PURGE_URL="http://127.0.0.1:$front/" RUST_LOG=warn
# The second instance writes, and Varnish asks the first one: so what it fetches may be what another instance made old.
start_instance first "$folder" "$first"
first_process=$PROCESS first_management=$MANAGEMENT
start_instance second "$folder"
# A second Varnish before something that answers what a healthy service wouldn't.
python3 scripts/varnish/failing.py >"$folder/failing.port" 2>"$folder/failing.log" &
in_background failing.py
poll 20 test -s "$folder/failing.port" || { show_log "What fails on purpose didn't start" "$folder/failing.log"; exit 1; }
failing=$(cat "$folder/failing.port")
varnish_start "$folder/failing" "$failing"
status=0
FRONT="http://127.0.0.1:$front" BACK="http://$first" OTHER="http://$PUBLIC" BACK_PROCESS=$first_process \
    FAILING_FRONT="http://127.0.0.1:$VARNISH_PORT" FAILING_BACK="http://127.0.0.1:$failing" \
    MANAGEMENT="http://$first_management,http://$MANAGEMENT" run_to_end python3 scripts/varnish/scenario.py || status=$?
[ "$status" -eq 0 ] || show_log "Varnish said" "$folder/front/varnish.log"
exit "$status"
