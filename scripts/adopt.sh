#!/usr/bin/env bash
# Copies the cache, its tests and a service that uses it into a new crate (make adopt DIR=…): scripts/adopt.sh [--test] FOLDER. The crate
# uses nothing of this checkout. With --test it is also built and tested here, in this checkout's target folder, so that what both need
# is compiled once; `make check` does that, in a folder under .run/.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"

test=''
if [ "${1:-}" = --test ]; then test=yes; shift; fi
if [ $# -ne 1 ] || [ -z "$1" ]; then die "Say where: make adopt DIR=../invoices"; fi
need_build_tools
if [ -e "$1" ] && { [ ! -d "$1" ] || [ -n "$(ls -A "$1")" ]; }; then die "$1 is there already, and isn't an empty folder"; fi
# Without .. and links, or nobody could tell what is inside of this checkout.
if [ -d "$1" ]; then
    there=yes folder=$(cd "$1" && pwd -P)
else
    there='' name=$(basename "$1")
    mkdir -p "$(dirname "$1")"
    folder=$(cd "$(dirname "$1")" && pwd -P)
    folder=${folder%/}/$name
fi
root=$(cd "$ROOT" && pwd -P)
case $folder in "$root"/.run/*) ;; "$root" | "$root"/*) die "$folder is inside of this checkout" ;; esac
begun=$SECONDS

# Half a crate is of no use to anybody.
take_back() {
    rm -rf "$folder"
    if [ -n "$there" ]; then mkdir "$folder"; fi
    warn "$folder is as it was"
}
trap take_back EXIT
trap_exits
mkdir -p "$folder"
cd "$ROOT"
cp -R adopt/. "$folder"
cp -R src/cache "$folder/src/"
cp migrations/0001_cache.sql migrations/0007_tenants.sql "$folder/migrations/"
cp src/domain/run_to_completion.rs "$folder/src/domain/"
cp -R tests/cache "$folder/tests/"
# What of the template knows nothing of this service.
for part in environment eventually gate memcached_server process proxy redis_server together triggers; do cp "tests/support/$part.rs" "$folder/tests/support/"; done
cp -R .cargo rustfmt.toml clippy.toml LICENSE-MIT LICENSE-APACHE "$folder"
printf '/target\n' >"$folder/.gitignore"
# The same versions as here: Cargo takes what this lock file names and drops the rest.
cp Cargo.lock "$folder/Cargo.lock"
run_to_end cargo metadata --quiet --format-version 1 --manifest-path "$folder/Cargo.toml" >/dev/null
packages() { awk '/^name = / { name = $3 } /^version = / { print name, $3 }' "$1" | sort; }
new=$(comm -13 <(packages Cargo.lock) <(packages "$folder/Cargo.lock") | grep -v '^"invoices"' || true)
[ -z "$new" ] || die "Packages that aren't in Cargo.lock here: $new"
trap - EXIT
say "$folder: $(find "$folder" -name '*.rs' | wc -l) files of Rust, $(packages "$folder/Cargo.lock" | wc -l) packages, all of them in Cargo.lock here too"

if [ -n "$test" ]; then
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ROOT/target}"
    need_open_files 4096
    SERVICES_FAST=yes
    services_start
    find_server_binaries
    cd "$folder"
    run_to_end cargo fmt --check
    run_to_end cargo test --locked --quiet
    run_to_end cargo run --locked --quiet
    say "From nothing to green in $((SECONDS - begun)) s"
else
    say "To build and test it against throw-away servers:"
    printf 'cd %q && %q --fast cargo test --locked\n' "$folder" "$ROOT/scripts/services.sh"
fi
