#!/usr/bin/env bash
# The steps of a newcomer, for scripts/bare.sh. `run` is `make run` until it answers, then Ctrl-C, then a search for processes and folders
# that are left. `test` is `make test`.
# Prints how long each took.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
cd "$ROOT"

PRODUCT=1082185

answers() { ANSWER=$(curl -sf -m 5 "http://127.0.0.1:3000/products/$PRODUCT"); }
answers_or_over() { answers || gone "$RUNNING"; }
# Processes besides this script. In a bare root it is the first process, so all others are its own. Elsewhere nothing is listed.
others() {
    local process
    [ $$ -eq 1 ] || return 0
    for process in /proc/[0-9]*; do
        process=${process#/proc/}
        case $(command_line "$process") in '' | *bare/steps.sh*) ;; *) echo "$process: $(command_line "$process")" ;; esac
    done
}
alone() { [ -z "$(others)" ]; }
folders() { find .run /tmp -maxdepth 1 \( -name 'started.*' -o -name 'aside-*' \) 2>/dev/null | sort || true; }

# run WHEN: the command, an answer, Ctrl-C.
run() {
    local begun=$SECONDS before took left
    say "make run, $1"
    before=$(folders)
    # A process group of its own, as on a terminal: Ctrl-C goes to all of it. A script that runs in the background ignores Ctrl-C,
    # and a shell can't undo that.
    set -m
    python3 -c 'import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp("make", ["make", "run"])' </dev/null &
    RUNNING=$!
    set +m
    ANSWER=''
    poll 3000 answers_or_over
    took=$((SECONDS - begun))
    [ -n "$ANSWER" ] || die "make run ended before it answered"
    case $ANSWER in *"\"id\":$PRODUCT"*) ;; *) die "This is no product: $ANSWER" ;; esac
    kill -INT -- "-$RUNNING"
    poll 60 gone "$RUNNING" || die "make run is still there a minute after Ctrl-C"
    wait "$RUNNING" || true
    poll 30 alone || { others >&2; die "These still run after Ctrl-C"; }
    if port_open 127.0.0.1 3000; then die "Port 3000 is still taken after Ctrl-C"; fi
    left=$(comm -13 <(echo "$before") <(folders))
    [ -z "$left" ] || die "Left behind after Ctrl-C: $left"
    TOLD="$TOLD make run, $1: answered after $took s."
}

TOLD='' step=''
trap '[ $? -eq 0 ] || warn "FAILED: make $step, as $(id -un)"' EXIT
for step in "$@"; do
    case $step in
    run)
        run "the first time"
        run "again"
        ;;
    test)
        say "make test"
        begun=$SECONDS
        make test </dev/null
        TOLD="$TOLD make test: green after $((SECONDS - begun)) s."
        ;;
    esac
done
say "As $(id -un):$TOLD"
