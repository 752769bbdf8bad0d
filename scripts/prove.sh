#!/usr/bin/env bash
# Proves that the tests see what they are there for (make prove): removes every guard in turn from a copy of the tree and expects
# the tests named for it to go red. A guard that can go unnoticed ends the run with 1. Argument: quick (the central ones), all
# (the default), or names of guards: scripts/prove.sh floor-check age-check
#
# A guard's removal is a patch in tests/prove/: what it removes, which promise rests on it, which tests convict it, then the diff.
# The tree's copy and what is built of it stay in .run/prove/, so a second run builds only what changed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools
has git || die "The patches are applied with git, which isn't here"

# Longest time in seconds for the tests of one guard, and how much more for each further one when all run together. Their own deadlines
# are shorter; this is for one that hangs.
LIMIT=120 MORE=10

chosen=()
case ${1:-all} in
all) chosen=(tests/prove/*.patch) ;;
quick) while IFS= read -r patch; do chosen+=("$patch"); done < <(grep -l '^# quick$' tests/prove/*.patch) ;;
*) for name in "$@"; do
    [ -e "tests/prove/$name.patch" ] || die "There is no tests/prove/$name.patch"
    chosen+=("tests/prove/$name.patch")
done ;;
esac

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

# restore: all guards in place. What has the same contents keeps its time, so that cargo builds only what a patch changed; what
# has not gets a new one, for its contents are others than a moment ago.
restore() {
    local file
    (cd "$base" && find . -type f) | while IFS= read -r file; do
        cmp -s "$base/$file" "$copy/$file" || { mkdir -p "$copy/$(dirname "$file")" && cp "$base/$file" "$copy/$file"; }
    done
    (cd "$copy" && find . -type f) | while IFS= read -r file; do [ -e "$base/$file" ] || rm -f "$copy/$file"; done
}

# fields PATCH NAME: what its head says.
fields() { sed -n "s/^# $2: //p" "$1"; }

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

say "The tests of ${#chosen[@]} guards, with all guards in place"
restore
all=$(for patch in "${chosen[@]}"; do fields "$patch" test; done)
library=$(echo "$all" | library_tests) suite=$(echo "$all" | suite_tests)
build "$library" "$suite" || { show_log "The tree doesn't build" "$log"; exit 1; }
run_tests "$library" "$suite" $((LIMIT + MORE * (${#chosen[@]} - 1))) || { grep -E '^test .*FAILED|panicked' "$log" >&2 || true; die "These must be green first"; }
for name in $library $suite; do
    grep -q "^test $name \.\.\. ok" "$log" || die "There is no test $name"
done

survived=0
printf '\n| guard that was removed | promise | convicted by | in s |\n|---|---|---|---|\n'
for patch in "${chosen[@]}"; do
    guard=$(fields "$patch" guard) promise=$(fields "$patch" promise) tests=$(fields "$patch" test)
    library=$(echo "$tests" | library_tests) suite=$(echo "$tests" | suite_tests)
    result=''
    # Not as part of the repository around it, whose ignored files git would not touch.
    if ! (cd "$copy" && GIT_CEILING_DIRECTORIES="$RUN/prove" git apply "$ROOT/$patch") >"$log" 2>&1; then
        result="**the patch does not apply**"
    elif ! build "$library" "$suite"; then
        result="**does not build**"
    else
        begun=$SECONDS
        run_tests "$library" "$suite" "$LIMIT" || true
        took=$((SECONDS - begun))
        for name in $library $suite; do
            grep -q "^test $name \.\.\. FAILED" "$log" || result="**not convicted** by $name"
        done
    fi
    if [ -n "$result" ]; then
        survived=$((survived + 1))
        show_log "$patch: $result" "$log"
    fi
    # shellcheck disable=SC2016  # the backquotes are for Markdown
    printf '| %s | %s | %s | %s |\n' "$guard" "$promise" "$(echo "$tests" | sed 's/.*::/`/; s/$/`/' | paste -sd ' ' -)" "${result:-$took}"
    restore
done
echo
[ "$survived" -eq 0 ] || die "$survived of ${#chosen[@]} guards can be removed unnoticed"
say "All ${#chosen[@]} guards are missed when they are gone"
