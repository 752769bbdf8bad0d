# shellcheck shell=bash
# Builds with progress that a person can read. On a terminal it is cargo's own. Elsewhere it is a line
# every quarter of a minute. After a failure the last lines say how to go on. Needs common.sh and the
# folder of make_run_folder.

# How often a line is printed, in seconds.
PROGRESS_EVERY=15

# build FOLDER COMMAND…: runs a command of cargo that compiles. FOLDER is the folder of its output in the
# target folder (debug, release).
build() {
    local folder="${CARGO_TARGET_DIR:-$ROOT/target}/$1" log="$RUN/build.$$.log" status=0
    shift
    if [ -d "$folder/deps" ]; then say "Building what has changed"; else say "Building; the first time takes some minutes"; fi
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

# build_for_debugging BINARY…: programs of the workspace in the profile `dev`. With --workspace the packages that they share with the tests have
# the same features as there, so nothing is compiled twice.
build_for_debugging() {
    local binary binaries=()
    for binary in "$@"; do binaries+=(--bin "$binary"); done
    build debug cargo build --locked --workspace "${binaries[@]}"
}

# build_service: the program to try things out with, in $aside. Another profile than dev, for speed: PROFILE=release
build_service() {
    local profile=${PROFILE:-dev}
    if [ "$profile" = dev ]; then
        build_for_debugging aside
        aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
    else
        build "$profile" cargo build --locked --profile "$profile" --package aside --bin aside
        # shellcheck disable=SC2034 # the caller's
        aside="${CARGO_TARGET_DIR:-$ROOT/target}/$profile/aside"
    fi
}

# build_messages LOG: prints the output of cargo without its progress.
build_messages() {
    tr '\r' '\n' <"$1" | sed $'s/\033\\[K//g' |
        grep -vE '^ *(Compiling|Checking|Building|Executable|Downloading|Downloaded|Updating|Blocking|Fresh|Locking|Adding) |^ *$' || true
}

# tell_progress LOG: prints progress until the log is removed or the script ends.
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

# build_advice [LOG]: prints how to go on after a failure.
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
