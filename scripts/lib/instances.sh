# shellcheck shell=bash
# Instances of the built program beside a script's own work. Sourced by browser.sh and client.sh, after services.sh; the script names the
# program in `aside`.

# start_instance NAME PUBLIC MANAGEMENT LOGS: returns when it is ready; it ends with the script.
start_instance() {
    # shellcheck disable=SC2154 # set by who sources this
    INSTANCE_NAME=$1 BIND_ADDR=$2 MANAGEMENT_ADDR=$3 "$aside" serve >"$4/$1.log" 2>&1 &
    BACKGROUND="$BACKGROUND $!"
    BIND_ADDR=$2 poll 30 "$aside" healthcheck 2>/dev/null || { show_log "The instance didn't become ready" "$4/$1.log"; exit 1; }
}
