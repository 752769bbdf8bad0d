#!/usr/bin/env bash
# The service against programs that know nothing of its code (benches/peers/README.md): builds them, starts a Postgres and a Redis of
# its own, and measures each program in turn.
#
#   scripts/peers.sh miss [--rounds N]    misses on a cold catalogue against one plain select; a minute
#   scripts/peers.sh hits                 hits in memory against constant bytes, in Redis against Redis passed through; three minutes
#   scripts/peers.sh writes               changes of a price against one plain update, fsync off; two minutes
#
# ASIDE_PROGRAM=FILE measures that build of the service instead of building one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools

packages=(--package plain --package load --package compare)
if [ "${1:-}" != miss ]; then packages+=(--package textbook --package multi-tier); fi
export PEERS_FOLDER="$ROOT/target/peers/release"
run_to_end cargo build --locked --release --manifest-path benches/peers/Cargo.toml --target-dir target/peers \
    "${packages[@]}"
if [ -z "${ASIDE_PROGRAM:-}" ]; then
    run_to_end cargo build --locked --release --bin aside
    export ASIDE_PROGRAM="${CARGO_TARGET_DIR:-$ROOT/target}/release/aside"
fi

# Postgres, Redis and the clients have one core, and the servers that are compared the other.
if has taskset && [ "$(nproc)" -gt 1 ]; then taskset -pc 1 $$ >/dev/null; fi
# Never a server that the environment names: each run empties Redis.
SERVICES_OWN=yes
# What is compared is the way of a write, not the disk.
# shellcheck disable=SC2034 # read by services_start
if [ "${1:-}" = writes ]; then SERVICES_FAST=yes; fi
services_start
run_to_end "$PEERS_FOLDER/compare" "$@"
