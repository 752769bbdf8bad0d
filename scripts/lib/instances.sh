# shellcheck shell=bash
# Instances of the built program beside a script's own work; the script names the program in `aside`. Needs services.sh.

# start_instance NAME LOGS [PUBLIC]: on free ports, or the public one that is named; returns when it is ready, with its addresses in PUBLIC
# and MANAGEMENT and its process in PROCESS. It ends with the script. Settings of its own stand before the call:
# CACHE_WARM_TOP=0 start_instance first "$logs"
start_instance() {
    local try log="$2/$1.log"
    for try in 1 2 3 4 5; do
        PUBLIC=${3:-127.0.0.1:$(free_port)} MANAGEMENT=127.0.0.1:$(free_port)
        # shellcheck disable=SC2154 # set by the script
        INSTANCE_NAME=$1 BIND_ADDR=$PUBLIC MANAGEMENT_ADDR=$MANAGEMENT "$aside" serve >"$log" 2>&1 &
        in_background "$aside serve"
        if poll 60 instance_decided && alive "$PROCESS"; then return; fi
        grep -qi 'address already in use' "$log" || break
        detail "a port of $1 was taken in between (try $try)"
    done
    show_log "Instance $1 didn't become ready" "$log"
    exit 1
}
instance_decided() { gone "$PROCESS" || BIND_ADDR=$PUBLIC "$aside" healthcheck 2>/dev/null; }
