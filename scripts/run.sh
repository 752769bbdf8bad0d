#!/usr/bin/env bash
# A seeded service in the foreground (make run): servers, build, migrations, data, service; then what to open. Ctrl-C ends the
# service in good order and then the servers. Every setting of the service may be given in the environment.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools

export BIND_ADDR=${BIND_ADDR:-127.0.0.1:${PORT:-3000}}
export MANAGEMENT_ADDR=${MANAGEMENT_ADDR:-127.0.0.1:3001}
case $BIND_ADDR in *:0) BIND_ADDR=${BIND_ADDR%:*}:$(free_port) ;; esac
case $MANAGEMENT_ADDR in *:0) MANAGEMENT_ADDR=${MANAGEMENT_ADDR%:*}:$(free_port) ;; esac
unset PORT # BIND_ADDR says it all from here on

# as_seen_from_here ADDRESS: one to connect to.
as_seen_from_here() { case $1 in 0.0.0.0:* | \[::\]:*) echo "127.0.0.1:${1##*:}" ;; *) echo "$1" ;; esac; }
public=$(as_seen_from_here "$BIND_ADDR") management=$(as_seen_from_here "$MANAGEMENT_ADDR")
# A run that was killed may still have the ports.
make_run_folder
sweep
for address in "$public" "$management"; do
    if port_open "${address%:*}" "${address##*:}"; then
        warn "$address is taken by another program."
        detail "End it, or choose free ports: make run BIND_ADDR=127.0.0.1:PORT MANAGEMENT_ADDR=127.0.0.1:PORT"
        exit 1
    fi
done

services_start
build_service
say "Schema and data (some seconds)"
run_to_end "$aside" seed || {
    warn "The database could not be filled; the message is above."
    detail "A database that DATABASE_URL names must be empty or Aside's own, and its user must own it. Without DATABASE_URL a throw-away one is used."
    exit 1
}

ready_or_over() { "$aside" healthcheck >/dev/null 2>&1 || ! alive $$; }
announce() {
    poll 60 ready_or_over || warn "The service is not ready after a minute; its log above says why. It goes on trying, and Ctrl-C ends it."
    alive $$ || return 0
    until ready_or_over; do sleep 1; done
    alive $$ || return 0
    say "Ready. Open ${BOLD}http://$public/docs$OFF, or try"
    cat >&2 <<TEXT

    curl -i http://$public/products/1082185        # bananas; again, and Cache-Status says which tier answered
    curl -i 'http://$public/orders?customer_id=749'
    curl -iX PATCH http://$public/products/1082185 -H 'Content-Type: application/merge-patch+json' -d '{"price_cents": 79}'
    curl http://$management/metrics                # and /cache/stats, /cache/policies; the live page is http://$management

    The servers, for psql, redis-cli and a second instance (BIND_ADDR=127.0.0.1:PORT MANAGEMENT_ADDR=127.0.0.1:PORT $aside serve):
    export DATABASE_URL='$DATABASE_URL' REDIS_URL='${REDIS_URL:-}' CACHE_KEYS='${CACHE_KEYS:-}'

    Ctrl-C ends it.

TEXT
}
announce &
run_to_end "$aside" serve
