#!/usr/bin/env bash
# Mutation testing (make prove): makes every mutant in a copy of the tree and expects its tests to catch it. A mutant that is missed
# ends the run with 1. Argument: quick (the central ones), all (the default), check (only whether each mutant can still be made of
# the tree, in a second), or names of mutants: scripts/prove.sh floor-check age-check
#
# A mutant is a file in tests/mutants/: the rule that it breaks, the promise that rests on the rule, the tests that catch it, and the edits.
# The tree's copy and what is built of it stay in .run/prove/, so a second run builds only what changed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools
has git || die "The tree is copied with git, which isn't here"

# Longest time in seconds for the tests of one mutant, and how much more for each further one when all run together. Their own deadlines
# are shorter; this is for one that hangs.
LIMIT=120 MORE=10

make_run_folder
mkdir -p "$RUN/prove"
mutants="$RUN/prove/mutants"
rustc --edition 2024 -o "$mutants" tests/mutants/tool/main.rs

chosen=()
case ${1:-all} in
all | check) names=$("$mutants" list) ;;
quick) names=$("$mutants" list quick) ;;
*) names=$(printf '%s\n' "$@") ;;
esac
while IFS= read -r name; do chosen+=("$name"); done <<<"$names"
"$mutants" check "${chosen[@]}" || die "These mutants can't be made: adapt their files in tests/mutants to the tree"
if [ "${1:-}" = check ]; then
    say "All ${#chosen[@]} mutants can be made"
    exit
fi

SERVICES_FAST=yes
services_start
find_server_binaries

copy="$RUN/prove/tree"
export CARGO_TARGET_DIR="$RUN/prove/target" SQLX_OFFLINE=true RUST_BACKTRACE=0 CARGO_TERM_COLOR=never
mkdir -p "$copy"
# Dependencies that are built already need not be built again.
if [ ! -d "$CARGO_TARGET_DIR/debug" ] && [ -d target/debug/deps ]; then
    say "Copying the built dependencies into .run/prove (once)"
    mkdir -p "$CARGO_TARGET_DIR/debug.new"
    cp -a target/debug/.fingerprint target/debug/build target/debug/deps "$CARGO_TARGET_DIR/debug.new"
    find "$CARGO_TARGET_DIR/debug.new" -maxdepth 2 \( -name 'aside*' -o -name 'libaside*' -o -name 'suite-*' -o -name 'contract-*' \) -exec rm -rf {} +
    mv "$CARGO_TARGET_DIR/debug.new" "$CARGO_TARGET_DIR/debug"
fi

# The tree as it is now: who goes on working in it doesn't disturb the run.
base="$RUN/prove/base"
rm -rf "$base" && mkdir -p "$base"
git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
    if [ -e "$file" ]; then mkdir -p "$base/$(dirname "$file")" && cp -P "$file" "$base/$file"; fi
done

# restore: the copy becomes the tree without a mutant. A file with the same contents keeps its time, so that cargo builds only what a mutant
# changed. A file with other contents gets a new time.
restore() {
    local file
    (cd "$base" && find . -type f -o -type l) | while IFS= read -r file; do
        cmp -s "$base/$file" "$copy/$file" || { mkdir -p "$copy/$(dirname "$file")" && cp -P "$base/$file" "$copy/$file"; }
    done
    (cd "$copy" && find . -type f -o -type l) | while IFS= read -r file; do [ -e "$base/$file" ] || rm -f "$copy/$file"; done
}

# get FIELD MUTANT: what its file says.
get() { (cd "$base" && "$mutants" get "$1" "$2"); }

log="$RUN/prove/log"
# Tests are lines of `caught_by`: a package, a target (lib or the name of a test binary), and a test's name. All packages are always built
# together, so that those they share always have the same features.
targets() { echo "$1" | cut -d' ' -f2 | sort -u; }
names() { echo "$1" | cut -d' ' -f3 | sort -u; }
# option TARGET: of cargo test.
option() { if [ "$1" = lib ]; then echo --lib; else echo "--test=$1"; fi; }
# build TESTS: what these need; the log has what came of it.
build() {
    local target options=()
    for target in $(targets "$1"); do options+=("$(option "$target")"); done
    (cd "$copy" && run_to_end cargo test --locked --workspace --no-run "${options[@]}") >"$log" 2>&1
}
# run_tests TESTS SECONDS
run_tests() {
    local status=0 limit=() target
    if has timeout; then limit=(timeout "$2"); fi
    : >"$log"
    for target in $(targets "$1"); do
        # shellcheck disable=SC2046 # a list of words
        (cd "$copy" && run_to_end ${limit[@]+"${limit[@]}"} cargo test --locked --workspace "$(option "$target")" -- \
            --exact $(names "$(echo "$1" | grep "^[^ ]* $target ")")) >>"$log" 2>&1 || status=1
    done
    return "$status"
}

say "The tests of ${#chosen[@]} mutants, without a mutant"
restore
all=$(for name in "${chosen[@]}"; do get caught_by "$name"; done)
build "$all" || { show_log "The tree doesn't build" "$log"; exit 1; }
run_tests "$all" $((LIMIT + MORE * (${#chosen[@]} - 1))) || { grep -E '^test .*FAILED|panicked' "$log" >&2 || true; die "These must be green first"; }
for name in $(names "$all"); do
    grep -q "^test $name \.\.\. ok" "$log" || die "There is no test $name"
done

failed=0
printf '\n| mutant | rule that it breaks | promise | caught by | in s |\n|---|---|---|---|---|\n'
for mutant in "${chosen[@]}"; do
    rule=$(get rule "$mutant") promise=$(get promise "$mutant") tests=$(get caught_by "$mutant")
    result=''
    if ! (cd "$base" && "$mutants" apply "$mutant" "$copy") >"$log" 2>&1; then
        result="**can't be made**"
    elif ! build "$tests"; then
        result="**does not build**"
    else
        begun=$SECONDS
        run_tests "$tests" "$LIMIT" || true
        took=$((SECONDS - begun))
        for name in $(names "$tests"); do
            grep -q "^test $name \.\.\. FAILED" "$log" || result="**missed** by $name"
        done
    fi
    if [ -n "$result" ]; then
        failed=$((failed + 1))
        show_log "$mutant: $result" "$log"
    fi
    # shellcheck disable=SC2016  # the backquotes are for Markdown
    printf '| `%s` | %s | %s | %s | %s |\n' "$mutant" "$rule" "$promise" "$(echo "$tests" | sed 's/.*::/`/; s/$/`/' | paste -sd ' ' -)" "${result:-$took}"
    restore
done
echo
[ "$failed" -eq 0 ] || die "$failed of ${#chosen[@]} mutants are not caught"
say "All ${#chosen[@]} mutants are caught"
