#!/usr/bin/env bash
# Whether aside-cache compiles without a warning with no feature, each feature alone, and all of them (make features), and how many
# packages each build takes: the table of crates/aside-cache/README.md. With --short it tries only none and all, as
# `make check` does. With --table it writes that table and compiles nothing.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"

PACKAGE=aside-cache
FEATURES=$(sed -n '/^\[features\]/,/^$/s/^\([a-z-]*\) = .*/\1/p' "crates/$PACKAGE/Cargo.toml" | grep -vx default)

# Packages of other authors that a build takes, each version once. `cargo tree` repeats some with a star.
packages() {
    cargo tree --locked --package "$PACKAGE" "$@" --edges normal --prefix none | sed 's/ (.*//' | sort -u | grep -vc "^$PACKAGE "
}

if [ "${1:-}" = --table ]; then
    printf '| features | packages |\n|---|--:|\n'
    printf '| none | %s |\n' "$(packages --no-default-features)"
    for feature in $FEATURES; do
        # shellcheck disable=SC2016 # the backquotes are Markdown's
        printf '| `%s` | %s |\n' "$feature" "$(packages --no-default-features --features "$feature")"
    done
    printf '| all | %s |\n' "$(packages --all-features)"
    exit
fi

check() {
    local said
    say "$PACKAGE ${*:-with its default features}"
    # Cargo repeats the warnings of a build that it has made before.
    said=$(cargo check --locked --quiet --package "$PACKAGE" "$@" 2>&1) || die "$said"
    [ -z "$said" ] || die "$said"
}

need_build_tools
check --no-default-features
if [ "${1:-}" != --short ]; then
    for feature in $FEATURES; do check --no-default-features --features "$feature"; done
    check
fi
check --all-features
