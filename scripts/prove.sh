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
    find "$CARGO_TARGET_DIR/debug.new" -maxdepth 2 \( -name 'aside-*' -o -name 'libaside-*' -o -name 'suite-*' \) -exec rm -rf {} +
    mv "$CARGO_TARGET_DIR/debug.new" "$CARGO_TARGET_DIR/debug"
fi

# The tree as it is now: who goes on working in it doesn't disturb the run.
base="$RUN/prove/base"
rm -rf "$base" && mkdir -p "$base"
git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
    if [ -e "$file" ]; then mkdir -p "$base/$(dirname "$file")" && cp "$file" "$base/$file"; fi
done

# restore: the copy becomes the tree without a mutant. A file with the same contents keeps its time, so that cargo builds only what a mutant
# changed. A file with other contents gets a new time.
restore() {
    local file
    (cd "$base" && find . -type f) | while IFS= read -r file; do
        cmp -s "$base/$file" "$copy/$file" || { mkdir -p "$copy/$(dirname "$file")" && cp "$base/$file" "$copy/$file"; }
    done
    (cd "$copy" && find . -type f) | while IFS= read -r file; do [ -e "$base/$file" ] || rm -f "$copy/$file"; done
}

# get FIELD MUTANT: what its file says.
get() { (cd "$base" && "$mutants" get "$1" "$2"); }

log="$RUN/prove/log"
# build LIBRARY_TESTS SUITE_TESTS: what these need; the log has what came of it.
build() {
    local targets=()
    [ -z "$1" ] || targets+=(--lib)
    [ -z "$2" ] || targets+=(--test suite)
    (cd "$copy" && run_to_end cargo test --locked --no-run "${targets[@]}") >"$log" 2>&1
}
# run_tests LIBRARY_TESTS SUITE_TESTS SECONDS
run_tests() {
    local status=0 limit=()
    if has timeout; then limit=(timeout "$3"); fi
    : >"$log"
    # shellcheck disable=SC2086 # lists of words
    if [ -n "$1" ]; then
        (cd "$copy" && run_to_end ${limit[@]+"${limit[@]}"} cargo test --locked --lib -- --exact $1) >>"$log" 2>&1 || status=1
    fi
    # shellcheck disable=SC2086
    if [ -n "$2" ]; then
        (cd "$copy" && run_to_end ${limit[@]+"${limit[@]}"} cargo test --locked --test suite -- --exact $2) >>"$log" 2>&1 || status=1
    fi
    return "$status"
}
library_tests() { sed 's/^lib //;t;d' | sort -u | tr '\n' ' '; }
suite_tests() { grep -v '^lib ' | sort -u | tr '\n' ' ' || true; }

say "The tests of ${#chosen[@]} mutants, without a mutant"
restore
all=$(for name in "${chosen[@]}"; do get caught_by "$name"; done)
library=$(echo "$all" | library_tests) suite=$(echo "$all" | suite_tests)
build "$library" "$suite" || { show_log "The tree doesn't build" "$log"; exit 1; }
run_tests "$library" "$suite" $((LIMIT + MORE * (${#chosen[@]} - 1))) || { grep -E '^test .*FAILED|panicked' "$log" >&2 || true; die "These must be green first"; }
for name in $library $suite; do
    grep -q "^test $name \.\.\. ok" "$log" || die "There is no test $name"
done

failed=0
printf '\n| mutant | rule that it breaks | promise | caught by | in s |\n|---|---|---|---|---|\n'
for mutant in "${chosen[@]}"; do
    rule=$(get rule "$mutant") promise=$(get promise "$mutant") tests=$(get caught_by "$mutant")
    library=$(echo "$tests" | library_tests) suite=$(echo "$tests" | suite_tests)
    result=''
    if ! (cd "$base" && "$mutants" apply "$mutant" "$copy") >"$log" 2>&1; then
        result="**can't be made**"
    elif ! build "$library" "$suite"; then
        result="**does not build**"
    else
        begun=$SECONDS
        run_tests "$library" "$suite" "$LIMIT" || true
        took=$((SECONDS - begun))
        for name in $library $suite; do
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
