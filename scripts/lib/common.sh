# shellcheck shell=bash
# What every script here needs: messages, polling, ports, private Python environments, and running a command so that Ctrl-C ends it
# before the servers. Keeps to bash 3.2, which is what macOS ships.

# A variable that is set but empty is not set, neither for the scripts nor for what they start: cargo, for one, refuses an empty
# CARGO_TARGET_DIR, and a test would start a program of no name.
for name in $(compgen -e); do
    [ -n "${!name:-}" ] || unset "$name"
done
unset name

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Everything the scripts make lives here, unreadable for others: instance folders hold passwords.
RUN="$ROOT/.run"

BOLD='' RED='' GREEN='' DIM='' OFF=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    BOLD=$'\033[1m' RED=$'\033[31m' GREEN=$'\033[32m' DIM=$'\033[2m' OFF=$'\033[0m'
fi

say() { printf '%s==>%s %s\n' "$BOLD$GREEN" "$OFF" "$*" >&2; }
warn() { printf '%s==>%s %s\n' "$BOLD$RED" "$OFF" "$*" >&2; }
detail() { printf '    %s%s%s\n' "$DIM" "$*" "$OFF" >&2; }
die() { warn "$@"; exit 1; }

# poll SECONDS COMMAND…: tries until the command succeeds; fails when the time is up.
poll() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -le "$deadline" ] || return 1
        sleep 0.05
    done
}

has() { command -v "$1" >/dev/null 2>&1; }
# What builds the service can't be had by the way, so it is said before any server is started.
need_build_tools() {
    has cargo || die "Rust isn't here: https://rustup.rs says how to install it (or open a new shell, if it was installed just now)"
    local here needed
    here=$(rustc --version | sed -nE 's/^rustc ([0-9]+)\.([0-9]+).*/\1 \2/p') needed=$(sed -nE 's/^rust-version = "([0-9]+)\.([0-9]+).*/\1 \2/p' "$ROOT/Cargo.toml")
    if [ -n "$here" ] && [ $((${here% *} * 1000 + ${here#* })) -lt $((${needed% *} * 1000 + ${needed#* })) ]; then
        die "Rust ${here/ /.} is here, and ${needed/ /.} or newer is needed: rustup update stable"
    fi
    has cc || die "A C compiler isn't here, which some crates are built with (Debian: apt-get install gcc libc6-dev; macOS: xcode-select --install)"
}
# need_open_files N: many systems allow fewer at first than they would.
need_open_files() {
    if [ "$(ulimit -Sn)" != unlimited ] && [ "$(ulimit -Sn)" -lt "$1" ]; then
        ulimit -Sn "$1" || die "This needs $1 open files at a time, but no more than $(ulimit -Hn) are allowed (ulimit -Hn)"
    fi
}
is_root() { [ "$(id -u)" -eq 0 ]; }
random_hex() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# The arguments a process was started with; nothing once it has ended. Minimal systems have no ps. A zombie (in a container
# nobody may reap it) has no arguments, so `alive` doesn't take it for a running process, as `kill -0` would.
command_line() {
    if [ -d /proc/self ]; then tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline"; else ps -o args= -p "$1"; fi 2>/dev/null
}
alive() { [ -n "$1" ] && [ -n "$(command_line "$1")" ]; }
gone() { ! alive "$1"; }

# port_open HOST PORT: whether something accepts there. `timeout` (not on every system) matters where packets are dropped.
port_open() {
    local limit=()
    if has timeout; then limit=(timeout 5); fi
    # shellcheck disable=SC2016 # expanded by the inner bash
    ${limit[@]+"${limit[@]}"} bash -c 'exec 3<>"/dev/tcp/$1/$2"' probe "$1" "$2" 2>/dev/null
}

# A port below the ranges from which systems pick ports for outgoing connections. Only the server's own bind decides;
# whoever starts one tries another port when this one was taken in between (two checkouts at once).
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        port_open 127.0.0.1 "$port" || break
    done
    echo "$port"
}

make_run_folder() {
    mkdir -p "$RUN" && chmod 700 "$RUN" && [ -w "$RUN" ] ||
        die "$RUN can't be written (made by another user, perhaps by root?). Remove it and try again."
    # Installations that were interrupted, NAME-CHECKSUM.PID of a script that is gone, and their logs, NAME.PID.log.
    local half pid
    for half in "$RUN"/*-[0-9]*.[0-9]* "$RUN"/*.[0-9]*.log; do
        pid=${half%.log} pid=${pid##*.}
        if [ -e "$half" ] && gone "$pid"; then rm -rf "$half"; fi
    done
}

# python_env NAME REQUIREMENTS: prints the folder of a private virtual environment that holds exactly those files.
# The requirements' checksum is part of its name, so a changed file makes a new one; it is built beside its place and
# moved, so that an interrupted or simultaneous run never leaves half of one. On failure the last lines of its log are shown.
python_env() {
    local name=$1 requirements=$2 env build log
    env=$(python_env_folder "$name" "$requirements")
    if [ -d "$env" ]; then echo "$env"; return; fi
    build="$env.$$" log="$RUN/$name.$$.log"
    # shellcheck disable=SC2015 # either half may fail, the clean-up is the same
    if build_python_env "$build" "$requirements" >"$log" 2>&1; then
        [ -d "$env" ] || mv "$build" "$env"
        rm -rf "$build" "$log"
        echo "$env"
    else
        tail -n 3 "$log" | while IFS= read -r line; do detail "$line"; done
        rm -rf "$build" "$log"
        return 1
    fi
}
python_env_folder() { echo "$RUN/$1-$(cksum <"$2" | cut -d' ' -f1)"; }
build_python_env() {
    local pip
    if python3 -m venv "$1"; then
        pip=("$1/bin/python" -m pip)
    else
        # Debian splits pip's bootstrap off into python3-venv; an installed pip can fill the environment from outside.
        rm -rf "$1"
        python3 -m venv --without-pip "$1" || return
        pip=(python3 -m pip --python "$1/bin/python")
    fi
    # Hashes of every file, nothing but ready-made wheels: no code of a package runs during the installation.
    "${pip[@]}" install --disable-pip-version-check --no-input --require-hashes --no-deps --only-binary :all: -r "$2"
}

# run_to_end COMMAND…: runs it in a process group of its own and waits. Ctrl-C then reaches only this script, which
# passes the command one TERM (a second Ctrl-C: KILL), so it ends in good order while its servers are still there.
# END_SIGNAL is sent instead of TERM to a program that knows only Ctrl-C.
CHILD='' INTERRUPTED='' INTERRUPTED_AT='' END_SIGNAL=TERM
run_to_end() {
    local status=0
    trap 'interrupt 130' INT
    trap 'interrupt 143' TERM HUP
    set -m
    "$@" </dev/null &
    CHILD=$!
    set +m
    # Beside servers that were started here it is noted like them, for should this script be killed.
    if [ -e "${LEDGER:-}" ]; then remember process "$CHILD $1"; fi
    wait "$CHILD" || status=$?
    # A trapped signal ends `wait` early with a status of its own; the command's comes when it has really ended.
    if [ -n "$INTERRUPTED" ]; then
        while kill -0 "$CHILD" 2>/dev/null; do wait "$CHILD" || true; done
        status=0
        wait "$CHILD" || status=$?
    fi
    CHILD=''
    trap_exits
    # Whoever pressed Ctrl-C doesn't want the next step.
    if [ -n "$INTERRUPTED" ]; then exit "$status"; fi
    return "$status"
}
interrupt() {
    [ -n "$CHILD" ] || exit "$1"
    # One signal may come twice: to the whole process group, and passed on by make.
    if [ -n "$INTERRUPTED" ] && [ "$SECONDS" -le "$INTERRUPTED_AT" ]; then return; fi
    INTERRUPTED_AT=$((${INTERRUPTED_AT:-$SECONDS} + 1))
    if [ -z "$INTERRUPTED" ]; then kill "-$END_SIGNAL" -- "-$CHILD" 2>/dev/null; else kill -KILL -- "-$CHILD" 2>/dev/null; fi
    INTERRUPTED=$1
}
# Outside run_to_end a signal simply ends the script, and the EXIT trap cleans up.
trap_exits() {
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
