# shellcheck shell=bash
# shellcheck disable=SC2034 # how long builds take is read in scripts
# Building, with progress that a person can read: on a terminal it is cargo's own, elsewhere a line every quarter of a minute, without
# the names of all crates. When it fails, the last lines say what to do. Needs common.sh and the folder of make_run_folder.

# How long a build from nothing takes, for people to know.
FIRST_QUICK_BUILD="some minutes" FIRST_DEBUG_BUILD="some minutes"
# How often a line is printed, in seconds.
PROGRESS_EVERY=15

# build FOLDER HOW_LONG COMMAND…: a command of cargo that compiles. FOLDER: where in the target folder its output is (release, debug);
# HOW_LONG: what it takes when nothing is there yet.
build() {
    local folder="${CARGO_TARGET_DIR:-$ROOT/target}/$1" how_long=$2 log="$RUN/build.$$.log" status=0
    shift 2
    if [ -d "$folder/deps" ]; then say "Building what has changed"; else say "Building; the first time takes $how_long"; fi
    if [ -t 2 ]; then
        run_to_end "$@" || { status=$?; build_advice; return "$status"; }
        return
    fi
    : >"$log"
    tell_progress "$log" &
    CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=100 run_to_end "$@" 2>"$log" || status=$?
    build_messages "$log" >&2
    if [ "$status" -ne 0 ]; then build_advice "$log"; fi
    rm -f "$log"
    return "$status"
}

# What cargo wrote, without its progress.
build_messages() {
    tr '\r' '\n' <"$1" | sed $'s/\033\\[K//g' |
        grep -vE '^ *(Compiling|Checking|Building|Executable|Downloading|Downloaded|Updating|Blocking|Fresh|Locking|Adding) |^ *$' || true
}

# tell_progress LOG: until the log is gone, or the script.
tell_progress() {
    local begun=$SECONDS told=$SECONDS state
    while [ -e "$1" ] && alive $$; do
        sleep 1
        [ $((SECONDS - told)) -ge "$PROGRESS_EVERY" ] || continue
        told=$SECONDS
        # Progress that cargo draws ends with `12/399: names`.
        state=$(tail -c 2000 "$1" 2>/dev/null | tr '\r' '\n' | sed -nE \
            -e 's/^.*Building .* ([0-9]+)\/([0-9]+): ([^,]*).*$/\1 of \2 compiled, now \3/p' \
            -e 's/^ *Blocking (.*)$/\1/p' -e 's/^ *Downloading .*$/fetching crates/p' -e 's/^ *Updating .*$/looking for crates/p' | tail -n 1 | sed "s/ *$//")
        [ ! -e "$1" ] || detail "$((SECONDS - begun)) s: ${state:-cargo begins}"
    done
}

# build_advice [LOG]: what to do when it failed.
build_advice() {
    local log=${1:-}
    said() { [ -n "$log" ] && grep -qiE "$1" "$log"; }
    warn "The build failed; the message is above."
    if said 'failed to download|failed to get|could not resolve|network error|timed out|SSL'; then
        detail "The registry of crates can't be reached. Check the network and, if there is one, the proxy (HTTPS_PROXY); then run the same again."
    elif said 'no space left'; then
        detail "The disk is full: about 4 GB are needed in ${CARGO_TARGET_DIR:-$ROOT/target}. Make room, then run the same again."
    elif said 'signal: 9'; then
        detail "The compiler was killed, most likely for lack of memory. Run the same with CARGO_BUILD_JOBS=1 in the environment."
    elif said 'linker .* not found|failed to run custom build command'; then
        detail "The C compiler is missing or incomplete (Debian: apt-get install gcc libc6-dev; macOS: xcode-select --install)."
    else
        detail "Mend what it says, then run the same again: what was compiled stays. On a fresh clone this is a fault of the project: please report it with"
        detail "the message and the output of: cargo --version --verbose"
    fi
}
